"""PyTorch: `nn.Sequential` of `nn.Linear`, a fused optimizer, eager or through `torch.compile`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from workloads import Array, Weights, Workload

from systems.base import NotMeasured, System

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
    "sigmoid": nn.Sigmoid,
    "identity": nn.Identity,
}


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
        layers: list[nn.Module] = []
        last = len(weights) - 1
        for i, (W, _) in enumerate(weights):
            layers += [nn.Linear(*W.shape), ACTIVATIONS[workload.output if i == last else workload.activation]()]
        self._net = nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.Identity))).to(self.device)
        self._linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
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
            for layer, (W, b) in zip(self._linear, weights, strict=True):
                layer.weight.copy_(torch.from_numpy(W.T))
                layer.bias.copy_(torch.from_numpy(b))

    def reset(self, weights: Weights) -> None:
        self.set_weights(weights)
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
            loss = self._loss_of(torch.index_select(x, 0, picked), torch.index_select(t, 0, picked))
            loss.backward()
            optimizer.step()
            total += loss.detach()
        self._total, self._steps = total, steps
        self.sync()

    def loss(self) -> float:
        return float(self._total) / self._steps

    def weights(self) -> Weights:
        return [(_host(layer.weight).T.copy(), _host(layer.bias)) for layer in self._linear]

    def put(self, x: Array) -> torch.Tensor:
        return torch.from_numpy(x).to(self.device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            y = self._forward(x)
            return y.clone() if self.compiled and self.device.type == "cuda" else y  # a graph's output is overwritten

    def sync(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def outputs(self, x: Array) -> Array:
        return np.asarray(self.forward(self.put(x)).cpu())

    def accuracy(self, x: torch.Tensor, t: Array) -> float:
        return float(np.mean(self.forward(x).argmax(dim=1).cpu().numpy() == t))


def _host(p: torch.Tensor) -> Array:
    return np.array(p.detach().cpu())
