"""PyTorch: `nn.Sequential`, a fused optimizer, eager or through `torch.compile`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from networks import Array, Weights
from torch import nn
from torch.nn import functional
from workloads import Workload

from systems.base import NotMeasured, System
from systems.torch_layers import build


class WithLoss(nn.Module):
    """The network and its loss as one module: what is compiled."""

    def __init__(self, net: nn.Module, loss: str) -> None:
        super().__init__()
        self.net = net
        self.loss = functional.cross_entropy if loss == "cross_entropy" else functional.mse_loss

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.loss(self.net(x), t)


class Torch(System):
    """The data is on the device; a batch is `index_select` by a slice of `torch.randperm`."""

    # On a CPU its BatchNorm of images whose channels are last adds up in plain float32: of 128 x 24 x 24 places a mean
    # is off by a thousandth (PyTorch 2.13). The other memory format is exact, and up to one and a half times as slow.
    rounding_of_images = 10.0

    def __init__(self, threads: int, tf32: bool, compiled: bool, device: str) -> None:
        super().__init__(threads, tf32)
        if device == "cuda" and not torch.cuda.is_available():
            raise NotMeasured("this PyTorch sees no CUDA device")
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        self.compiled, self.device = compiled, torch.device(device)

    def versions(self) -> dict[str, str]:
        cuda = {"cuda of torch": str(torch.version.cuda)} if self.device.type == "cuda" else {}
        return {"torch": torch.__version__, **cuda}

    def load(self, workload: Workload, x: Array, t: Array, weights: Weights, seed: int) -> None:
        self.workload = workload
        torch.manual_seed(seed)
        self._x, self._t = torch.from_numpy(x).to(self.device), torch.from_numpy(t).to(self.device)
        self._net, self._slots = build(workload.network, len(workload.shape) - 1)
        self._net.to(self.device)
        if len(workload.shape) == 3:
            self._net.to(memory_format=torch.channels_last)
        self._start = [buffer.clone() for buffer in self._net.buffers()]  # running statistics
        self._forward: Callable[[torch.Tensor], torch.Tensor] = self._net
        self._loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = WithLoss(self._net, workload.loss)
        if self.compiled:
            torch._dynamo.reset()
            # On a GPU the step is captured as CUDA graphs. Each chunk size of `predict` has its own compilation.
            mode = "reduce-overhead" if self.device.type == "cuda" else "default"
            self._loss_of = torch.compile(self._loss_of, mode=mode)
            self._forward = torch.compile(self._net, mode=mode, dynamic=False)
        self.reset(weights)

    def set_weights(self, weights: Weights) -> None:
        with torch.no_grad():
            for slots, arrays in zip(self._slots, weights, strict=True):
                for (parameter, order), array in zip(slots, arrays, strict=True):
                    parameter.copy_(torch.from_numpy(array.transpose(order)))

    def reset(self, weights: Weights) -> None:
        self.set_weights(weights)
        for buffer, value in zip(self._net.buffers(), self._start, strict=True):
            buffer.copy_(value)
        parameters, rate = list(self._net.parameters()), self.workload.learning_rate
        self._optimizer: torch.optim.Optimizer
        if self.workload.optimizer == "adam":
            self._optimizer = torch.optim.Adam(parameters, rate, eps=1e-8, fused=True)
        else:
            momentum = 0.9 if self.workload.optimizer == "momentum" else 0.0
            self._optimizer = torch.optim.SGD(parameters, rate, momentum=momentum, fused=True)
        self._at = self.workload.rows

    def set_rate(self, rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def run(self, steps: int) -> None:
        self._net.train()
        x, t, B, rows, optimizer = self._x, self._t, self.workload.batch, self.workload.rows, self._optimizer
        total = torch.zeros((), device=self.device)
        graphs = self.compiled and self.device.type == "cuda"
        for _ in range(steps):
            if self._at + B > rows:
                self._order, self._at = torch.randperm(rows, device=self.device), 0
            picked = self._order[self._at : self._at + B]
            self._at += B
            optimizer.zero_grad(set_to_none=True)
            if graphs:
                torch.compiler.cudagraph_mark_step_begin()
            loss = self._loss_of(channels_second(torch.index_select(x, 0, picked)), torch.index_select(t, 0, picked))
            loss.backward()
            optimizer.step()
            total += loss.detach()
        self._total, self._steps = total, steps
        self.sync()

    def loss(self) -> float:
        return float(self._total) / self._steps

    def weights(self) -> Weights:
        return [tuple(_host(p).transpose(np.argsort(order)).copy() for p, order in own) for own in self._slots]

    def put(self, x: Array) -> torch.Tensor:
        return torch.from_numpy(x).to(self.device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self._net.eval()
        with torch.inference_mode():
            y = self._forward(channels_second(x))
            return y.clone() if self.compiled and self.device.type == "cuda" else y  # a graph's output is overwritten

    def sync(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def outputs(self, x: Array) -> Array:
        return np.asarray(self.forward(self.put(x)).cpu())

    def accuracy(self, x: torch.Tensor, t: Array) -> float:
        return float(np.mean(self.forward(x).argmax(dim=1).cpu().numpy() == t))


def channels_second(x: torch.Tensor) -> torch.Tensor:
    """Images (B, H, W, C) as PyTorch wants them: a view, whose channels stay last in memory."""
    return x if x.ndim == 2 else x.movedim(-1, 1)


def _host(p: torch.Tensor) -> Array:
    return np.array(p.detach().cpu())
