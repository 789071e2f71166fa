"""Where the windows of a convolution or a pool lie, and which numbers the k-th place of each window sees."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

from xpnet.errors import ConfigError, ShapeError
from xpnet.typing import Shape
from xpnet.validation import check_size

Slices = tuple[slice, ...]
Padding = str | int | tuple[int, ...]


def per_axis(value: int | tuple[int, ...], axes: int) -> tuple[int, ...]:
    """Return a hyper-parameter as one integer an axis; a single one serves for all."""
    return value if isinstance(value, tuple) else (value,) * axes


def check_sizes(name: str, value: Any, axes: int, minimum: int = 1) -> None:
    """Raise unless `value` is an integer or one an axis, none below `minimum`."""
    values = per_axis(value, axes)
    if len(values) != axes:
        raise ConfigError(f"{name} must be one integer or {axes}, one an axis, got {value!r}")
    for v in values:
        check_size(name, v, minimum)


def check_padding(name: str, value: Any, axes: int) -> None:
    """Raise unless `value` is "same", "valid" or numbers of zeros."""
    if isinstance(value, str):
        if value not in ("same", "valid"):
            raise ConfigError(f'{name} must be "same", "valid" or a number of zeros at each border, got {value!r}')
    else:
        check_sizes(name, value, axes, 0)


class Axis(NamedTuple):
    """The windows along one axis of an image."""

    inputs: int
    size: int
    stride: int
    before: int  # zeros in front of the image
    windows: int

    @classmethod
    def of(cls, inputs: int, size: int, stride: int, padding: str | int) -> Axis:
        """Place windows along `inputs` numbers; what does not fill a window is left out.

        With "same" there are ceil(inputs / stride) windows, and of an odd number of zeros the greater half is at the
        end, as in TensorFlow and Keras; else there are floor((inputs + 2 padding - size) / stride) + 1.
        """
        if padding == "same":
            windows = -(-inputs // stride)
            return cls(inputs, size, stride, max((windows - 1) * stride + size - inputs, 0) // 2, windows)
        before = 0 if isinstance(padding, str) else padding
        return cls(inputs, size, stride, before, (inputs + 2 * before - size) // stride + 1)

    def seen(self) -> Iterator[tuple[int, slice, slice]]:
        """Yield the places of a window that see the image, each with the windows in which it does, and what it sees."""
        for k in range(self.size):
            shift = k - self.before
            first = max(-(shift // self.stride), 0)
            last = min((self.inputs - 1 - shift) // self.stride, self.windows - 1)
            if first <= last:
                inputs = slice(first * self.stride + shift, last * self.stride + shift + 1, self.stride)
                yield k, slice(first, last + 1), inputs


class Windows(NamedTuple):
    """The windows of an image or a signal, axis by axis."""

    axes: tuple[Axis, ...]

    @classmethod
    def of(cls, owner: str, shape: Shape, size: Shape, stride: Shape, padding: Padding = "valid") -> Windows:
        """Place windows in samples of `shape`, whose last axis has the channels, or say that there is no room."""
        paddings = padding if isinstance(padding, tuple) else (padding,) * len(size)
        axes = tuple(map(Axis.of, shape[:-1], size, stride, paddings))
        if min(axis.windows for axis in axes) < 1:
            raise ShapeError(
                f"{owner}: a window of size {size} is larger than the samples, of shape {shape}"
                f"{'' if padding == 'valid' else f', with padding {padding!r}'}; make it smaller"
            )
        return cls(axes)

    @property
    def shape(self) -> Shape:
        """How many windows there are along each axis."""
        return tuple(axis.windows for axis in self.axes)

    @property
    def size(self) -> int:
        """The number of places in a window."""
        return prod(axis.size for axis in self.axes)

    def places(self) -> Iterator[Slices]:
        """Yield for each place of a window, row by row, what it sees of images in all windows."""
        for place in itertools.product(*(axis.seen() for axis in self.axes)):
            yield slice(None), *(inputs for _, _, inputs in place), slice(None)
