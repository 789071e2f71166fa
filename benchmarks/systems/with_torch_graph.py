"""PyTorch with the whole step in one CUDA graph: the choice of the batch, both passes, the optimizer and the sum."""

from __future__ import annotations

import torch
from workloads import Array, Weights, Workload

from systems.with_torch import Torch


class TorchGraph(Torch):
    """A counter on the device picks the batch, so that Python starts one graph a step and nothing else."""

    def __init__(self, threads: int, tf32: bool) -> None:
        super().__init__(threads, tf32, compiled=False, device="cuda")

    def load(self, workload: Workload, x: Array, t: Array, weights: Weights, seed: int) -> None:
        self._graph: torch.cuda.CUDAGraph | None = None
        super().load(workload, x, t, weights, seed)

    def reset(self, weights: Weights) -> None:
        super().reset(weights)
        rows, batch, device = self.workload.rows, self.workload.batch, self.device
        if self.workload.optimizer == "adam":
            rate = self.workload.learning_rate
            self._optimizer = torch.optim.Adam(self._net.parameters(), rate, eps=1e-8, fused=True, capturable=True)
        self._graph = None
        self._order = torch.arange(rows, device=device)
        self._places = torch.arange(batch, device=device)
        self._cursor = torch.zeros(1, dtype=torch.int64, device=device)
        self._total = torch.zeros((), device=device)

    def set_rate(self, rate: float) -> None:
        super().set_rate(rate)
        self._graph = None  # the rate is a number of the graph's own

    def _step(self) -> None:
        picked = torch.index_select(self._order, 0, self._cursor + self._places)
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss_of(torch.index_select(self._x, 0, picked), torch.index_select(self._t, 0, picked))
        loss.backward()
        self._optimizer.step()
        self._total += loss.detach()
        self._cursor += self.workload.batch

    def _capture(self) -> torch.cuda.CUDAGraph:
        """Capture a step; those that warm up leave everything as it was."""
        changed = [*self._net.parameters(), self._total, self._cursor]
        slots = [(p, name) for p, state in self._optimizer.state.items() for name in state]
        with torch.no_grad():
            saved = [a.detach().clone() for a in changed]
            kept = {key: torch.as_tensor(self._optimizer.state[key[0]][key[1]]).clone() for key in slots}
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._cursor.zero_()
                self._step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        self._optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            self._step()
        with torch.no_grad():
            for array, value in zip(changed, saved, strict=True):
                array.copy_(value)
            for p, state in self._optimizer.state.items():
                for name, value in state.items():
                    if isinstance(value, torch.Tensor):
                        value.copy_(kept[p, name]) if (p, name) in kept else value.zero_()
        return graph

    def run(self, steps: int) -> None:
        if self._graph is None:
            self._graph = self._capture()
        self._total.zero_()
        for _ in range(steps):
            if self._at + self.workload.batch > self.workload.rows:
                self._order.copy_(torch.randperm(self.workload.rows, device=self.device))
                self._cursor.zero_()
                self._at = 0
            self._at += self.workload.batch
            self._graph.replay()
        self._steps = steps
        self.sync()
