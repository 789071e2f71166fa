"""The floor: the matrix products of a step and nothing else, with NumPy, into arrays that exist already."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from networks import Array, Layer, Weights, after
from workloads import Workload

from systems.base import NotMeasured, System

AT_ONCE = 2**18
"""So many numbers of a convolution's windows, one MiB, are multiplied at a time, again and again: a cache has them."""


class Floor(System):
    """Forward products, dW products, and dx products except the first layer's. It learns nothing."""

    def versions(self) -> dict[str, str]:
        return {"numpy": np.__version__}

    def load(self, workload: Workload, x: Array, t: Array, weights: Weights, seed: int) -> None:
        self.workload = workload
        rng = np.random.default_rng(seed)
        self._products: list[tuple[int, tuple[Array, ...]]] = []  # how often; x, W, y, dW, dy, dx
        y, dy = np.empty((0, 0), np.float32), np.empty((0, 0), np.float32)
        for rows, inputs, outputs in products(workload.network, workload.shape, workload.batch):
            times = -(-rows * inputs // AT_ONCE) if workload.shape else 1
            rows //= times
            # What one product writes the next one reads, where it is that: the cache has it then.
            x, dx = (
                last if last.shape == (rows, inputs) else rng.standard_normal((rows, inputs), dtype=np.float32)
                for last in (y, dy)
            )
            y, dy = (rng.standard_normal((rows, outputs), dtype=np.float32) for _ in range(2))
            W = rng.standard_normal((inputs, outputs), dtype=np.float32)
            self._products.append((times, (x, W, y, np.empty_like(W), dy, dx)))

    def set_weights(self, weights: Weights) -> None:
        raise NotMeasured("the floor does not learn")

    def set_rate(self, rate: float) -> None:
        raise NotMeasured("the floor does not learn")

    def reset(self, weights: Weights) -> None:
        raise NotMeasured("the floor does not learn")

    def run(self, steps: int) -> None:
        for _ in range(steps):
            for times, (x, W, y, *_) in self._products:
                for _ in range(times):
                    np.matmul(x, W, out=y)
            for k, (times, (x, W, _, dW, dy, dx)) in reversed([*enumerate(self._products)]):
                for _ in range(times):
                    np.matmul(x.T, dy, out=dW)
                    if k > 0:
                        np.matmul(dy, W.T, out=dx)

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
        if self._products[0][1][0].shape[0] != chunk:
            self._products, y = [], np.empty((0, 0), np.float32)
            for n, i, o in products(self.workload.network, self.workload.shape, chunk):
                rows = y if y.shape == (n, i) else np.empty((n, i), np.float32)
                y = np.empty((n, o), np.float32)
                self._products.append((1, (rows, np.empty((i, o), np.float32), y)))
        for _ in range(0, len(x), chunk):
            for _, (rows, W, y, *_) in self._products:
                np.matmul(rows, W, out=y)
        return []


def products(layers: list[Layer], shape: tuple[int, ...], samples: int) -> list[tuple[int, int, int]]:
    """The rows, inputs and outputs of each layer's product; a convolution's rows are the windows of all samples."""
    found = []
    for layer in layers:
        if layer[0] == "residual":
            found += [*products(layer[1], shape, samples), *products(layer[2], shape, samples)]
        elif layer[0] == "conv":
            windows = prod(after(layer, shape)[:-1])
            found.append((samples * windows, layer[3] ** (len(shape) - 1) * layer[1], layer[2]))
        elif layer[0] == "linear":
            found.append((samples, layer[1], layer[2]))
        shape = after(layer, shape) if shape else shape
    return found
