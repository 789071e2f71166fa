"""The layers of the yardstick, in float64 NumPy, as plainly as possible: each one's output, and its way back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from networks import Array, Layer

Back = Callable[[Array], tuple[Array, list[Array]]]  # dL/dy -> dL/dx and the gradients of the weights, in their order
EPS, MOMENTUM = 1e-5, 0.1

# (the function, its derivative)
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "relu": (lambda z: np.maximum(z, 0.0), lambda z: (z > 0.0).astype(z.dtype)),
    "leaky_relu": (lambda z: np.where(z > 0.0, z, 0.01 * z), lambda z: np.where(z > 0.0, 1.0, 0.01)),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2),
}


def convolution(x: Array, W: Array, b: list[Array], stride: int, padding: int) -> tuple[Array, Back]:
    """Each window (B, ..., C, K, ...) times W (K, ..., C, O)."""
    rank = x.ndim - 2
    axes, pads = tuple(range(1, rank + 1)), [(0, 0), *[(padding, padding)] * rank, (0, 0)]
    padded = np.pad(x, pads)
    windows = np.lib.stride_tricks.sliding_window_view(padded, W.shape[:rank], axes)
    windows = windows[:, *(slice(None, None, stride),) * rank]
    sums = [*range(rank + 2, 2 * rank + 2), rank + 1]
    y = np.tensordot(windows, W, (sums, list(range(rank + 1)))) + sum(b)

    def back(dy: Array) -> tuple[Array, list[Array]]:
        over = list(range(rank + 1))
        dW = np.moveaxis(np.tensordot(windows, dy, (over, over)), 0, rank)
        dx = np.zeros_like(padded)
        for at in itertools.product(*map(range, W.shape[:rank])):
            seen = tuple(slice(i, i + stride * n, stride) for i, n in zip(at, dy.shape[1:-1], strict=True))
            part = dx[:, *seen]
            part += (dy @ W[at].T)[:, *(slice(n) for n in part.shape[1:-1])]
        inner = tuple(slice(padding, n - padding) for n in dx.shape[1:-1])
        return dx[:, *inner], [dW, *[dy.sum(axis=tuple(over))] * len(b)]

    return y, back


def normalization(x: Array, gamma: Array, beta: Array, running: list[Array], training: bool) -> tuple[Array, Back]:
    """By the mean and variance of the batch, which move the `running` ones; outside of training by these."""
    over, n = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    mean, variance = (x.mean(axis=over), x.var(axis=over)) if training else running
    if training:
        pairs = zip(running, (mean, variance * n / (n - 1)), strict=True)
        running[:] = [(1 - MOMENTUM) * old + MOMENTUM * new for old, new in pairs]
    root = np.sqrt(variance + EPS)
    normal = (x - mean) / root

    def back(dy: Array) -> tuple[Array, list[Array]]:
        dgamma, dbeta = (dy * normal).sum(axis=over), dy.sum(axis=over)
        return gamma / root * (dy - dbeta / n - normal * dgamma / n), [dgamma, dbeta]

    return gamma * normal + beta, back


def pooling(x: Array, size: int) -> tuple[Array, Back]:
    """The largest of each window; of equal ones the first gets the delta."""
    rank = x.ndim - 2
    many = tuple(n // size for n in x.shape[1:-1])
    cut = x[:, *(slice(n * size) for n in many)]
    split = cut.reshape(len(x), *(k for n in many for k in (n, size)), x.shape[-1])
    order = (0, *range(1, 2 * rank, 2), 2 * rank + 1, *range(2, 2 * rank + 1, 2))
    windows = split.transpose(order).reshape(len(x), *many, x.shape[-1], size**rank)
    first = np.eye(size**rank)[windows.argmax(axis=-1)]

    def back(dy: Array) -> tuple[Array, list[Array]]:
        spread = (first * dy[..., None]).reshape([split.shape[k] for k in order])
        dx = np.zeros_like(x)
        dx[:, *(slice(n * size) for n in many)] = spread.transpose(np.argsort(order)).reshape(cut.shape)
        return dx, []

    return windows.max(axis=-1), back


@dataclass
class Pass:
    """One way through a network: its weights layer by layer, and each normalisation's running mean and variance."""

    weights: Iterator[tuple[Array, ...]]
    running: Iterator[list[Array]]
    training: bool

    def forward(self, layers: list[Layer], x: Array) -> tuple[Array, Back]:
        """Return the outputs of layers for x, and the way back."""
        ways = []
        for layer in layers:
            x, way = self.layer(layer, x)
            ways.append(way)

        def back(dy: Array) -> tuple[Array, list[Array]]:
            found: list[Array] = []
            for way in reversed(ways):
                dy, own = way(dy)
                found = [*own, *found]
            return dy, found

        return x, back

    def layer(self, layer: Layer, x: Array) -> tuple[Array, Back]:
        """Return the output of one layer, and its way back."""
        kind, shape = layer[0], x.shape
        if kind == "conv":
            W, *b = next(self.weights)
            return convolution(x, W, b, layer[4], layer[5])
        if kind == "norm":
            return normalization(x, *next(self.weights), next(self.running), self.training)
        if kind == "pool":
            return pooling(x, layer[1])
        if kind == "linear":
            W, c = next(self.weights)
            return x @ W + c, lambda dy: (dy @ W.T, [x.T @ dy, dy.sum(axis=0)])
        if kind in ACTIVATIONS:
            f, df = ACTIVATIONS[kind]
            return f(x), lambda dy: (dy * df(x), [])
        if kind == "flatten":
            return x.reshape(len(x), -1), lambda dy: (dy.reshape(shape), [])
        if kind == "mean":
            places, inner = x.size // (len(x) * shape[-1]), (len(x), *(1,) * (x.ndim - 2), shape[-1])
            return x.mean(axis=tuple(range(1, x.ndim - 1))), lambda dy: (
                np.broadcast_to(dy.reshape(inner) / places, shape),
                [],
            )
        return self.residual(layer, x)

    def residual(self, layer: Layer, x: Array) -> tuple[Array, Back]:
        """Return the sum of a branch and its shortcut."""
        (f, back_f), (s, back_s) = self.forward(layer[1], x), self.forward(layer[2], x)

        def back(dy: Array) -> tuple[Array, list[Array]]:
            (df, own), (ds, more) = back_f(dy), back_s(dy)
            return df + ds, [*own, *more]

        return f + s, back
