"""Layers for images of any size, as plain as can be, for what is tested around layers."""

from dataclasses import dataclass
from math import prod

import numpy as np

import xpnet
from xpnet.errors import ShapeError


@dataclass(frozen=True)
class Mixed(xpnet.Layer):
    """Weighted sums of the channels of each place: (B, H, W, C) becomes (B, H, W, O)."""

    inputs: int
    outputs: int

    decayed = ("W",)

    def output_shape(self, shape):
        if len(shape) != 3 or shape[-1] != self.inputs:
            raise ShapeError(f"Mixed({self.inputs}, {self.outputs}) takes samples (H, W, {self.inputs}), got {shape}")
        return (*shape[:-1], self.outputs)

    def parameter_shapes(self):
        return {"W": (self.inputs, self.outputs)}

    def init(self, rng):
        return {"W": rng.normal(size=(self.inputs, self.outputs))}

    def forward(self, xp, params, x, context=None):
        return xp.matmul(x, params["W"]), x

    def backward(self, xp, params, cache, dy, context=None, need_dx=True):
        rows, deltas = xp.reshape(cache, (-1, self.inputs)), xp.reshape(dy, (-1, self.outputs))
        dx = xp.matmul(dy, params["W"].T) if need_dx else None
        return dx, {"W": xp.matmul(rows.T, deltas)}


@dataclass(frozen=True)
class Flat(xpnet.Layer):
    """The numbers of a sample in a row."""

    def output_shape(self, shape):
        return (prod(shape),)

    def forward(self, xp, params, x, context=None):
        return xp.reshape(x, (x.shape[0], -1)), x.shape

    def backward(self, xp, params, cache, dy, context=None, need_dx=True):
        return xp.reshape(dy, cache), {}


def network(backend="numpy", **options):
    """Return a network that takes images of 4 x 3 places and 2 channels."""
    block = xpnet.Residual([Mixed(2, 5), xpnet.Tanh()], shortcut=[Mixed(2, 5)])
    layers = [xpnet.ReLU(), block, Flat(), xpnet.Linear(60, 3)]
    return xpnet.Network(layers, "cross_entropy", backend, input_shape=(4, 3, 2), **options)


def data(rows=30):
    """Return images and classes."""
    rng = np.random.default_rng(6)
    return rng.normal(size=(rows, 4, 3, 2)).astype(np.float32), rng.integers(0, 3, rows)
