"""The layers of a network and those inside of them: which shapes go in and come out, and where each layer is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import NamedTuple

from xpnet.errors import ShapeError
from xpnet.layers.base import Layer
from xpnet.typing import Shape


class Inner(NamedTuple):
    """A layer and where it is.

    Attributes
    ----------
    place : str
        Such as "3", or "3.0" for the first layer inside of layer 3.
    layer : Layer
    before, after : tuple of int
        The shapes of one sample of its input and of its output.
    need_dx : bool
        Whether training asks it for dL/dx, since parameters lie below it.
    depth : int
        In how many layers it is.
    """

    place: str
    layer: Layer
    before: Shape
    after: Shape
    need_dx: bool
    depth: int

    @property
    def reached(self) -> bool:
        """Whether training computes its delta."""
        return self.need_dx or bool(self.layer.parameter_shapes())


def every_layer(
    layers: Sequence[Layer], shape: Shape, prefix: str = "", need_dx: bool = False, depth: int = 0
) -> Iterator[Inner]:
    """Yield every layer for samples of `shape`, a composite layer before those inside of it."""
    for k, layer in enumerate(layers):
        inner = Inner(f"{prefix}{k}", layer, shape, layer.output_shape(shape), need_dx, depth)
        yield inner
        for name, chain in layer.chains.items():
            yield from every_layer(chain, shape, f"{inner.place}.{name}", need_dx, depth + 1)
        shape, need_dx = inner.after, inner.reached


def first_shape(layers: Sequence[Layer]) -> Shape | None:
    """Return the shape of one sample that the first layer takes that says so, inner layers included."""
    shapes = (layer.usual_shape for layer in layers)
    return next((shape for shape in shapes if shape is not None), None)


def shape_after(layers: Sequence[Layer], shape: Shape, name: str = "layers") -> Shape:
    """Return the shape of one output sample of a chain of layers, or say which layer does not fit where it is."""
    for k, layer in enumerate(layers):
        needed = None if layer.chains else layer.input_shape
        if needed is not None and needed != shape:
            source = f"{name}[{k - 1}] {layers[k - 1]} before it gives" if k else "a sample has"
            raise ShapeError(f"{name}[{k}] {layer} {_misfit(needed, shape, source)}")
        try:
            shape = layer.output_shape(shape)
        except ShapeError as error:
            if str(error).startswith(("layers[", "shortcut[")):  # it comes from inside
                raise ShapeError(f"{name}[{k}].{error}") from None
            before = f"; before it comes {name}[{k - 1}] {layers[k - 1]}" if k else ""
            raise ShapeError(f"{name}[{k}] {error}{before}") from None
    return shape


def _misfit(needed: Shape, shape: Shape, source: str) -> str:
    if len(needed) > 1:
        return f"takes samples of shape {needed}, but {source} {shape}"
    if len(shape) == 1:
        return f"takes {needed[0]} inputs, but {source} {shape[0]}"
    size = "" if prod(shape) == needed[0] else f", which gives {prod(shape)}"
    return f"takes {needed[0]} inputs, but {source} {shape}: put Flatten() before it{size}"
