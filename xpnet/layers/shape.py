"""Layers that give the numbers of a sample another shape, and do nothing to them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from xpnet.errors import ConfigError, ShapeError
from xpnet.layers.base import INFERENCE, Context, Gradient, Layer, Result
from xpnet.typing import Array, Params, Shape
from xpnet.validation import check_size


@dataclass(frozen=True)
class Reshape(Layer):
    """The numbers of each sample, in their order, in another shape.

    Parameters
    ----------
    shape : tuple of int
        The shape of one output sample, such as (28, 28, 1): rows, columns, channels.

    Examples
    --------
    >>> import xpnet
    >>> xpnet.Reshape((28, 28, 1)).output_shape((784,))
    (28, 28, 1)
    """

    shape: Shape

    def __post_init__(self) -> None:
        if not isinstance(self.shape, tuple) or not self.shape:
            raise ConfigError(f"Reshape: shape must be a tuple of integers such as (28, 28, 1), got {self.shape!r}")
        for n in self.shape:
            check_size("Reshape: shape", n)

    @property
    def usual_shape(self) -> Shape:
        return (prod(self.shape),)

    def output_shape(self, shape: Shape) -> Shape:
        if prod(shape) != prod(self.shape):
            raise ShapeError(f"Reshape({self.shape}) takes samples of {prod(self.shape)} numbers, got shape {shape}")
        return self.shape

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """The same numbers; in these formulas those of a sample are a row.

        y = x          (B, N)     (1)
        """
        return xp.reshape(x, (x.shape[0], *self.output_shape(x.shape[1:]))), x.shape

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """Their deltas, in the shape of x.

        dx = dy          (B, N)     (2)
        """
        return xp.reshape(dy, cache), {}


@dataclass(frozen=True)
class Flatten(Layer):
    """The numbers of each sample, in their order, in one row.

    Examples
    --------
    >>> import xpnet
    >>> xpnet.Flatten().output_shape((7, 7, 64))
    (3136,)
    """

    def output_shape(self, shape: Shape) -> Shape:
        return (prod(shape),)

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """The same numbers; in these formulas those of a sample are a row.

        y = x          (B, N)     (1)
        """
        return xp.reshape(x, (x.shape[0], prod(x.shape[1:]))), x.shape

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """Their deltas, in the shape of x.

        dx = dy          (B, N)     (2)
        """
        return xp.reshape(dy, cache), {}
