"""Pools: one number for each window and channel, its largest or its mean."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from xpnet.errors import ShapeError
from xpnet.layers.base import INFERENCE, Context, Gradient, Layer, Result
from xpnet.layers.windows import Windows, check_sizes, per_axis
from xpnet.typing import Array, Params, Shape


@dataclass(frozen=True)
class _Pool(Layer):
    """What pools over windows along any number of axes share."""

    size: int | tuple[int, ...] = 2
    stride: int | tuple[int, ...] | None = None

    axes: ClassVar[str]

    def __post_init__(self) -> None:
        name, axes = type(self).__name__, len(self.axes)
        check_sizes(f"{name}: size", self.size, axes)
        if self.stride is not None:
            check_sizes(f"{name}: stride", self.stride, axes)

    def windows(self, shape: Shape) -> Windows:
        """Return where the windows lie in samples of `shape`, or say why it does not fit."""
        check_shape(self, self.axes, shape)
        stride = self.size if self.stride is None else self.stride
        axes = len(self.axes)
        return Windows.of(type(self).__name__, shape, per_axis(self.size, axes), per_axis(stride, axes))

    def output_shape(self, shape: Shape) -> Shape:
        return (*self.windows(shape).shape, shape[-1])


def check_shape(layer: Layer, axes: str, shape: Shape) -> None:
    """Raise unless samples have the axes that are named and one of channels."""
    if len(shape) != len(axes) + 1:
        advice = f": put Reshape({(*shape, 1)}) before it" if len(shape) == len(axes) else ""
        raise ShapeError(f"{type(layer).__name__} takes samples of shape ({', '.join(axes)}, C), got {shape}{advice}")


class _MaxPool(_Pool):
    """The largest number of each window."""

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """The largest number of each window, channel by channel.

        P = windows(x)         (B, M, K, C)     (1)
        y = max(P, axis=2)     (B, M, C)        (2)
        """
        _, *others = seen = list(self.windows(x.shape[1:]).places())
        y = x[seen[0]]
        for inputs in others:
            y = xp.maximum(y, x[inputs])
        return y, (x, y)

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """The delta goes to the place of the largest number, of equal ones to the first.

        m = one_hot(argmax(P, axis=2))     (B, M, K, C)     (3)
        dP = m * dy[:, :, None]            (B, M, K, C)     (4)
        dx = add_windows(dP)               (B, I)           (5)
        """
        x, y = cache
        dx, left = xp.zeros_like(x), dy  # what no place has taken yet
        for inputs in self.windows(x.shape[1:]).places():
            taken = left * xp.astype(x[inputs] == y, dy.dtype)
            dx[inputs] += taken
            left = left - taken
        return dx, {}


class _AveragePool(_Pool):
    """The mean of each window."""

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """The mean of each window, channel by channel.

        P = windows(x)          (B, M, K, C)     (1)
        y = mean(P, axis=2)     (B, M, C)        (2)
        """
        windows = self.windows(x.shape[1:])
        first, *others = [x[inputs] for inputs in windows.places()]
        return sum(others, first) * (1.0 / windows.size), x.shape

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """Each of a window's K numbers gets an equal share of its delta.

        dP = ones_like(P) * dy[:, :, None] / P.shape[2]     (B, M, K, C)     (3)
        dx = add_windows(dP)                                (B, I)           (4)
        """
        windows = self.windows(cache[1:])
        dx, share = xp.zeros(cache, dtype=dy.dtype, device=dy.device), dy * (1.0 / windows.size)
        for inputs in windows.places():
            dx[inputs] += share
        return dx, {}


class _GlobalAveragePool(Layer):
    """The mean over all places."""

    axes: ClassVar[str]

    def output_shape(self, shape: Shape) -> Shape:
        check_shape(self, self.axes, shape)
        return shape[-1:]

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """The mean over all places of a sample, channel by channel; here its M places are one axis.

        y = mean(x, axis=1)          (B, C)     (1)
        """
        self.output_shape(x.shape[1:])
        return xp.mean(x, axis=tuple(range(1, x.ndim - 1))), x.shape

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """Each place gets an equal share of the delta.

        dx = ones_like(x) * dy[:, None] / x.shape[1]          (B, M, C)     (2)
        """
        B, *places, C = cache
        share = xp.reshape(dy * (1.0 / prod(places)), (B, *(1 for _ in places), C))
        return xp.ones(cache, dtype=dy.dtype, device=dy.device) * share, {}


@dataclass(frozen=True)
class MaxPool2D(_MaxPool):
    """The largest number of each window of an image (B, H, W, C), channel by channel.

    Parameters
    ----------
    size : int or (int, int)
        Rows and columns K of a window.
    stride : int or (int, int), optional
        How far on the next window is, by default `size`, so that the windows lie side by side. Smaller ones overlap.

    Notes
    -----
    There are floor((H - K) / stride) + 1 rows of windows, and so for columns; what does not fill a window is left out.
    Where several numbers of a window are the largest, the first of them, row by row, gets the delta, as in PyTorch and
    TensorFlow. In the formulas M is the number of windows in a sample, K the number of places in a window.

    Raises
    ------
    ShapeError
        Samples without the three axes, or smaller than a window.

    Examples
    --------
    >>> import xpnet
    >>> xpnet.MaxPool2D(2).output_shape((28, 28, 8))
    (14, 14, 8)
    """

    axes: ClassVar[str] = "HW"


@dataclass(frozen=True)
class MaxPool1D(_MaxPool):
    """The largest number of each window of a signal (B, L, C), channel by channel: `MaxPool2D` along one axis.

    Parameters
    ----------
    size : int
        Length K of a window.
    stride : int, optional
        How far on the next window is, by default `size`.

    Raises
    ------
    ShapeError
        Samples without the two axes, or shorter than a window.

    Examples
    --------
    >>> import xpnet
    >>> xpnet.MaxPool1D(2).output_shape((100, 8))
    (50, 8)
    """

    axes: ClassVar[str] = "L"


@dataclass(frozen=True)
class AveragePool2D(_AveragePool):
    """The mean of each window of an image (B, H, W, C), channel by channel.

    Parameters
    ----------
    size : int or (int, int)
        Rows and columns of a window.
    stride : int or (int, int), optional
        How far on the next window is, by default `size`, so that the windows lie side by side. Smaller ones overlap.

    Notes
    -----
    Where the windows lie, and the names in the formulas: see `MaxPool2D`.

    Raises
    ------
    ShapeError
        Samples without the three axes, or smaller than a window.

    Examples
    --------
    >>> import xpnet
    >>> xpnet.AveragePool2D(2).output_shape((28, 28, 8))
    (14, 14, 8)
    """

    axes: ClassVar[str] = "HW"


@dataclass(frozen=True)
class AveragePool1D(_AveragePool):
    """The mean of each window of a signal (B, L, C), channel by channel: `AveragePool2D` along one axis.

    Parameters
    ----------
    size : int
        Length of a window.
    stride : int, optional
        How far on the next window is, by default `size`.

    Raises
    ------
    ShapeError
        Samples without the two axes, or shorter than a window.

    Examples
    --------
    >>> import xpnet
    >>> xpnet.AveragePool1D(2).output_shape((100, 8))
    (50, 8)
    """

    axes: ClassVar[str] = "L"


@dataclass(frozen=True)
class GlobalAveragePool2D(_GlobalAveragePool):
    """The mean of an image (B, H, W, C), channel by channel: (B, C).

    References
    ----------
    Lin, Chen and Yan, "Network in network", ICLR 2014, section 3.2.

    Examples
    --------
    >>> import xpnet
    >>> xpnet.GlobalAveragePool2D().output_shape((7, 7, 64))
    (64,)
    """

    axes: ClassVar[str] = "HW"


@dataclass(frozen=True)
class GlobalAveragePool1D(_GlobalAveragePool):
    """The mean of a signal (B, L, C), channel by channel: (B, C).

    Examples
    --------
    >>> import xpnet
    >>> xpnet.GlobalAveragePool1D().output_shape((25, 64))
    (64,)
    """

    axes: ClassVar[str] = "L"
