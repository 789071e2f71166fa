"""A network's outputs: for many batches of one size a recording of the forward pass computes them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from math import prod
from typing import Any, Protocol

import numpy as np

from xpnet.backends.base import Backend, Program
from xpnet.layers import Activation, Layer
from xpnet.layers.base import ALL_AT_ONCE
from xpnet.layers.shapes import every_layer
from xpnet.typing import Array, Shape

FIRST = 8
"""Batches of one size before the next is recorded, which takes about as long as these."""
LEAST = 1 << 20
"""Numbers of the widest layer's outputs for a batch, from which it is recorded; networks of images have more."""
NEAR = 1 << 16
"""Numbers of the widest layer's outputs for the samples that go through the network together: near to a processor."""
TOGETHER = 256
"""The most samples for which that pays: where parameters are many, products of all samples are faster."""
PARTS = range(4, 65)
"""Parts of a batch, if it is cut: enough for several threads, and not too many to record."""


class Asked(Protocol):
    """What is needed of a model."""

    backend: Backend
    layers: tuple[Layer, ...]
    input_shape: Shape
    output_shape: Shape
    dtype: str
    theta: Array
    state: dict[str, Array]

    def answer(self, xp: Any, theta: Array, state: Mapping[str, Array], x: Array, at_once: int | None = None) -> Array:
        """Return the outputs as a function of all that they depend on."""


class Outputs:
    """Outputs for inputs on the device, as `Model.answer` gives them.

    Of a large batch a few samples at a time go through all layers, so that what one layer writes is at hand when the
    next one reads it. A backend that replays recordings, and may compile them, does so with batches of one size: the
    same bits. It keeps the memory that these take. Layers of a user's own may do more than compute, and are called once
    for each batch.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # two threads must not use the same memory: one of them does without
        self._times: dict[int, int] = {}
        self._arrays: dict[str, Array] = {}
        self._program: Program | None = None
        self._width: tuple[int, bool] | None = None

    def __call__(self, net: Asked, x: Array) -> Array:
        large = net.backend.replays and x.shape[0] * self.width(net)[0] >= LEAST and self.width(net)[1]
        if not large:
            return net.answer(net.backend.xp, net.theta, net.state, x)
        if not self._lock.acquire(blocking=False):
            return self._once(net, x)
        try:
            return self._again(net, x)
        finally:
            self._lock.release()

    def width(self, net: Asked) -> tuple[int, bool]:
        """Return how many numbers the widest layer gives for a sample, and whether all layers are of this library."""
        if self._width is None:
            found = [*every_layer(net.layers, net.input_shape)]
            known = all(type(item.layer).__module__.startswith("xpnet.") for item in found)
            known = known and not any(isinstance(item.layer, Activation) for item in found)
            self._width = max(prod(item.after) for item in found), known
        return self._width

    def _once(self, net: Asked, x: Array) -> Array:
        y = net.backend.xp.empty((x.shape[0], *net.output_shape), dtype=x.dtype)
        self._write(net, net.backend.xp, net.theta, net.state, x, y)
        return y

    def _write(self, net: Asked, xp: Any, theta: Array, state: Mapping[str, Array], x: Array, y: Array) -> None:
        """Write the outputs to `y`, of as many samples at a time as the widest layer gives numbers for parameters."""
        rows, at_once = max(max(int(theta.size), NEAR) // self.width(net)[0], 1), ALL_AT_ONCE
        if rows > TOGETHER or -(-x.shape[0] // rows) not in PARTS:
            rows, at_once = x.shape[0], net.backend.at_once
        for start in range(0, x.shape[0], rows):
            few = slice(start, min(start + rows, x.shape[0]))
            y[few, ...] = net.answer(xp, theta, state, x[few, ...], at_once)

    def _again(self, net: Asked, x: Array) -> Array:
        size = int(x.shape[0])
        self._times[size] = self._times.get(size, 0) + 1
        given = {"theta": net.theta} | {f"state.{name}": value for name, value in net.state.items()}
        kept = self._program is not None and all(self._arrays.get(name) is array for name, array in given.items())
        if not kept or self._arrays["x"].shape[0] != size:
            if self._times[size] <= max(FIRST, max(self._times.values()) // 2):
                return self._once(net, x)
            self._record(net, given, x)
        assert self._program is not None
        self._arrays["x"][...] = x
        self._program(1)
        return net.backend.xp.asarray(self._arrays["y"], copy=True)

    def _record(self, net: Asked, given: dict[str, Array], x: Array) -> None:
        shapes = {"x": x.shape, "y": (x.shape[0], *net.output_shape)}
        own = {name: net.backend.asarray(np.zeros(shape, net.dtype)) for name, shape in shapes.items()}

        def step(xp: Any, a: Mapping[str, Array]) -> None:
            state = {name: a[f"state.{name}"] for name in net.state}
            self._write(net, xp, a["theta"], state, a["x"], a["y"])

        self._program = None  # whose memory is given back first
        self._arrays = given | own
        self._program = net.backend.capture(step, self._arrays, [own["y"]])
