"""Augmentation: in training each image (H, W, C) is shifted, mirrored or covered a little, outside of training not.

What happens to an image is a hash of (seed, step, layer, place in the batch), as `Dropout`'s mask is: the same on every
backend, and in a run that is resumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from xpnet.errors import ConfigError, ShapeError
from xpnet.layers.base import INFERENCE, Context, Gradient, Layer, Result
from xpnet.layers.dropout import random_bits
from xpnet.typing import Array, Params, Shape
from xpnet.validation import check_fields, check_size


class Augmentation:
    """What the layers here have in common."""

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 3:
            raise ShapeError(
                f"{self} takes images of shape (H, W, C), got samples of shape {shape}: put Reshape((H, W, C)) before "
                "it, with the numbers of the images"
            )
        return shape

    def bits(self, xp: Any, x: Array, context: Context) -> tuple[Array, Array]:
        """Return two arrays (B, 1) of 32 random bits for each image."""
        if context.step is None:
            raise ConfigError(f"{self} in training needs context.step, a uint32 array of shape (1,)")
        begin, count = 2 * context.first, 2 * x.shape[0]
        counter = xp.arange(begin, begin + count, dtype=context.step.dtype, device=x.device)
        bits = xp.reshape(random_bits(xp, counter, context.key, context.step), (x.shape[0], 2))
        return bits[:, :1], bits[:, 1:]


def below(bits: Array, n: int) -> Array:
    """Return 32 random bits as a whole number from 0 to n - 1, for n up to 65536."""
    return ((bits >> 16) * n) >> 16


def places(xp: Any, x: Array, axis: int) -> Array:
    """Return 0, 1, ... along the rows (axis 1) or columns (axis 2) of images, as (1, H) or (1, W)."""
    return xp.arange(x.shape[axis], dtype=xp.int64, device=x.device)[None, :]


@dataclass(frozen=True)
class RandomFlip(Augmentation, Layer):
    """In training each image is mirrored, left for right, with probability 1/2.

    Examples
    --------
    >>> import xpnet
    >>> layers = [xpnet.RandomFlip(), xpnet.Flatten(), xpnet.Linear(784, 10)]
    >>> net = xpnet.Network(layers, loss="cross_entropy", input_shape=(28, 28, 1))
    >>> net.output_shape
    (10,)
    """

    def flips(self, xp: Any, x: Array, context: Context) -> Array:
        """Return 1 for each image that is mirrored and 0 for the others, as (B, 1, 1, 1)."""
        bits, _ = self.bits(xp, x, context)
        return xp.astype(bits >> 31, x.dtype)[:, :, None, None]

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """The mirrored image where f is 1, the image where it is 0.

        y = f * x[:, :, ::-1, :] + (1 - f) * x          (B, H, W, C)     (1)
        """
        if not context.training:
            return x, None
        f = self.flips(xp, x, context)
        return f * xp.flip(x, axis=2) + (1.0 - f) * x, f

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """What was mirrored is mirrored back.

        dx = f * dy[:, :, ::-1, :] + (1 - f) * dy          (B, H, W, C)     (2)
        """
        f = cache
        return (dy if f is None else f * xp.flip(dy, axis=2) + (1.0 - f) * dy), {}


def shifted(xp: Any, x: Array, i: Array, j: Array) -> Array:
    """Return images moved down by i and right by j, (B, 1) each; zeros come in.

    A row of C numbers is taken from its place in the list of all places, and from place 0 if it comes from outside of
    the image: there the mask is 0.
    """
    B, H, W, C = x.shape
    h, w = places(xp, x, 1) - i, places(xp, x, 2) - j
    inside = ((h >= 0) & (h < H))[:, :, None] & ((w >= 0) & (w < W))[:, None, :]
    first = xp.arange(B, dtype=xp.int64, device=x.device)[:, None, None] * (H * W)
    source = (first + h[:, :, None] * W + w[:, None, :]) * xp.astype(inside, xp.int64)
    rows = xp.take(xp.reshape(x, (B * H * W, C)), xp.reshape(source, (B * H * W,)), axis=0)
    return xp.reshape(rows, x.shape) * xp.astype(inside, x.dtype)[:, :, :, None]


@dataclass(frozen=True)
class RandomShift(Augmentation, Layer):
    """In training each image is moved by up to `pixels` places, up or down and left or right; zeros come in.

    Parameters
    ----------
    pixels : int
        The farthest shift, at most 32767; all from ``-pixels`` to ``pixels`` are equally likely.

    Examples
    --------
    >>> import xpnet
    >>> layers = [xpnet.RandomShift(2), xpnet.Flatten(), xpnet.Linear(784, 10)]
    >>> net = xpnet.Network(layers, loss="cross_entropy", input_shape=(28, 28, 1))
    >>> net.output_shape
    (10,)
    """

    pixels: int

    def __post_init__(self) -> None:
        check_fields(self, pixels=partial(check_size, maximum=32767))

    def shifts(self, xp: Any, x: Array, context: Context) -> tuple[Array, Array]:
        """Return how far each image is moved down and to the right, as (B, 1) each."""
        down, right = (below(b, 2 * self.pixels + 1) for b in self.bits(xp, x, context))
        return xp.astype(down, xp.int64) - self.pixels, xp.astype(right, xp.int64) - self.pixels

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """shifted(x, i, j) at sample b, row h and column w is x at b, h - i[b], w - j[b], and 0 where there is no x.

        y = shifted(x, i, j)          (B, H, W, C)     (1)
        """
        if not context.training:
            return x, None
        i, j = self.shifts(xp, x, context)
        return shifted(xp, x, i, j), (i, j)

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """The delta is moved back; what was moved out of the image gets none.

        dx = shifted(dy, -i, -j)          (B, H, W, C)     (2)
        """
        if cache is None:
            return dy, {}
        i, j = cache
        return shifted(xp, dy, -i, -j), {}


@dataclass(frozen=True)
class RandomCutout(Augmentation, Layer):
    """In training a square of each image becomes 0.

    Every pixel is equally likely to be its middle, so that it may lie partly outside of the image. What is left is not
    scaled up.

    Parameters
    ----------
    size : int
        The side of the square; its middle is pixel ``size // 2``, counted from 0.

    References
    ----------
    DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout", arXiv:1708.04552 (2017).

    Examples
    --------
    >>> import xpnet
    >>> layers = [xpnet.RandomCutout(8), xpnet.Flatten(), xpnet.Linear(784, 10)]
    >>> net = xpnet.Network(layers, loss="cross_entropy", input_shape=(28, 28, 1))
    >>> net.output_shape
    (10,)
    """

    size: int

    def __post_init__(self) -> None:
        check_fields(self, size=check_size)

    def mask(self, xp: Any, x: Array, context: Context) -> Array:
        """Return 0 in the square of each image and else 1, as (B, H, W, 1)."""
        covered = []
        for axis, bits in zip((1, 2), self.bits(xp, x, context), strict=True):
            first = xp.astype(below(bits, x.shape[axis]), xp.int64) - self.size // 2
            place = places(xp, x, axis) - first
            covered.append((place >= 0) & (place < self.size))
        rows, columns = covered
        return 1.0 - xp.astype(rows[:, :, None, None] & columns[:, None, :, None], x.dtype)

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """Multiplication by the mask m in training, nothing otherwise.

        y = x * m          (B, H, W, C)     (1)
        """
        if not context.training:
            return x, None
        m = self.mask(xp, x, context)
        return x * m, m

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """The same mask on the way back.

        dx = dy * m          (B, H, W, C)     (2)
        """
        m = cache
        return (dy if m is None else dy * m), {}
