"""The floor: the matrix products of a step and nothing else, with NumPy, into arrays that exist already."""

from __future__ import annotations

from typing import Any

import numpy as np
from workloads import Array, Weights, Workload

from systems.base import NotMeasured, System


class Floor(System):
    """Forward products, dW products, and dx products except the first layer's. It learns nothing."""

    def versions(self) -> dict[str, str]:
        return {"numpy": np.__version__}

    def load(self, workload: Workload, x: Array, t: Array, weights: Weights, seed: int) -> None:
        self.workload = workload
        rng = np.random.default_rng(seed)
        B = workload.batch
        self._W = [W.copy() for W, _ in weights]
        self._y = [rng.standard_normal((B, size)).astype(np.float32) for size in workload.sizes]
        self._dW = [np.empty_like(W) for W in self._W]
        self._dy = [rng.standard_normal((B, size)).astype(np.float32) for size in workload.sizes]

    def set_weights(self, weights: Weights) -> None:
        raise NotMeasured("the floor does not learn")

    def set_rate(self, rate: float) -> None:
        raise NotMeasured("the floor does not learn")

    def reset(self, weights: Weights) -> None:
        raise NotMeasured("the floor does not learn")

    def run(self, steps: int) -> None:
        W, y, dW, dy = self._W, self._y, self._dW, self._dy
        for _ in range(steps):
            for i in range(len(W)):
                np.matmul(y[i], W[i], out=y[i + 1])
            for i in reversed(range(len(W))):
                np.matmul(y[i].T, dy[i + 1], out=dW[i])
                if i > 0:
                    np.matmul(dy[i + 1], W[i].T, out=dy[i])

    def loss(self) -> float:
        raise NotMeasured("the floor does not learn")

    def weights(self) -> Weights:
        raise NotMeasured("the floor does not learn")

    def put(self, x: Array) -> Array:
        return x

    def forward(self, x: Array) -> Array:
        raise NotMeasured("the floor does not learn")

    def predict(self, x: Array, chunk: int) -> list[Any]:
        """The forward products alone, into arrays that exist already."""
        if self._y[0].shape[0] != chunk:
            self._y = [np.empty((chunk, size), np.float32) for size in self.workload.sizes]
        for i in range(0, len(x), chunk):
            y = x[i : i + chunk]
            for W, out in zip(self._W, self._y[1:], strict=True):
                y = np.matmul(y, W, out=out)
        return []
