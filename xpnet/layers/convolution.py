"""Convolutions: the same weighted sum for every window of an image or a signal."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt, prod
from typing import Any, ClassVar

import numpy as np

from xpnet.errors import ShapeError
from xpnet.initializers import Initializer, initialize, resolve
from xpnet.layers.base import INFERENCE, Context, Gradient, Layer, Result
from xpnet.layers.patches import Patches, rows_first
from xpnet.layers.windows import Padding, Windows, check_padding, check_sizes, per_axis
from xpnet.typing import Array, HostArray, Params, Shape
from xpnet.validation import check_fields, check_flag, check_size


@dataclass(frozen=True)
class _Convolution(Layer):
    """What convolutions over any number of axes share, which is nearly all."""

    inputs: int
    outputs: int
    size: int | tuple[int, ...] = 3
    stride: int | tuple[int, ...] = 1
    padding: Padding = "same"
    bias: bool = True
    weight_init: Initializer = "glorot_uniform"
    bias_init: Initializer = "zeros"

    axes: ClassVar[str]
    decayed: ClassVar[tuple[str, ...]] = ("W",)

    def __post_init__(self) -> None:
        name, axes = type(self).__name__, len(self.axes)
        check_fields(self, inputs=check_size, outputs=check_size, bias=check_flag)
        check_sizes(f"{name}: size", self.size, axes)
        check_sizes(f"{name}: stride", self.stride, axes)
        check_padding(f"{name}: padding", self.padding, axes)
        resolve(self.weight_init)
        resolve(self.bias_init)

    def patches(self, shape: Shape) -> Patches:
        """Return how samples of `shape` are cut to patches."""
        return Patches.of(self.windows(shape), self.inputs)

    def windows(self, shape: Shape) -> Windows:
        """Return where the windows lie in samples of `shape`, or say why it does not fit."""
        name = f"{type(self).__name__}({self.inputs}, {self.outputs})"
        if len(shape) != len(self.axes) + 1 or shape[-1] != self.inputs:
            wanted = f"({', '.join(self.axes)}, {self.inputs})"
            raise ShapeError(f"{name} takes samples of shape {wanted}, got {shape}{self._advice(shape)}")
        axes = len(self.axes)
        return Windows.of(name, shape, per_axis(self.size, axes), per_axis(self.stride, axes), self.padding)

    def _advice(self, shape: Shape) -> str:
        """Return what to put before this layer so that samples fit that are flat, or without an axis of one channel."""
        if len(shape) == len(self.axes) > 1 == self.inputs:
            return f": put Reshape({(*shape, 1)}) before it"
        places, rest = divmod(shape[0], self.inputs) if len(shape) == 1 else (0, 1)
        side = isqrt(places) if len(self.axes) == 2 else places
        fits = not rest and side ** len(self.axes) == places
        return f": put Reshape({(*(side,) * len(self.axes), self.inputs)}) before it" if fits else ""

    def output_shape(self, shape: Shape) -> Shape:
        return (*self.windows(shape).shape, self.outputs)

    def parameter_shapes(self) -> dict[str, Shape]:
        W = (*per_axis(self.size, len(self.axes)), self.inputs, self.outputs)
        return {"W": W} | ({"b": (self.outputs,)} if self.bias else {})

    def init(self, rng: np.random.Generator) -> dict[str, HostArray]:
        shapes = self.parameter_shapes()
        seen = prod(shapes["W"][:-2])
        params = {"W": initialize(self.weight_init, rng, shapes["W"], seen * self.inputs, seen * self.outputs)}
        if self.bias:
            params["b"] = initialize(self.bias_init, rng, shapes["b"], 1, self.outputs)
        return params

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """Weighted sums of the numbers that a window sees, the same for every window: a product with its patches.

        P = patches(x)         (B, M, K)                               (1)
        y = P @ W + b          (B, M, O) = (B, M, K) @ (K, O) + (O,)   (2)
        """
        patches = self.patches(x.shape[1:])
        W = patches.matrices(xp, params["W"])
        y = xp.empty((x.shape[0], *patches.windows, self.outputs), dtype=x.dtype, device=x.device)
        for block, images in patches.blocks(xp, x, W, context.at_once):
            P, n = patches.cut(xp, images), images.shape[0]
            Y = xp.matmul(P[patches.part(0, n), :], W[0, ...])
            for i in range(1, W.shape[0]):
                Y += xp.matmul(P[patches.part(i, n), :], W[i, ...])
            images = patches.images(xp, Y, n)
            y[block, ...] = images + params["b"] if self.bias else images
        return xp.reshape(y, (x.shape[0], *self.output_shape(x.shape[1:]))), x

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """Vector-Jacobian product of `forward`: what patches have of x in common, their deltas add up.

        dW = sum(P.mT @ dy, axis=0)      (K, O)                               (3)
        db = sum(dy, axis=(0, 1))        (O,)                                 (4)
        dP = dy @ W.T                    (B, M, K) = (B, M, O) @ (O, K)       (5)
        dx = add_patches(dP)             (B, I)                               (6)
        """
        x, patches = cache, self.patches(cache.shape[1:])
        W = patches.matrices(xp, params["W"])
        W_T = patches.transposed(xp, W) if need_dx else W
        dW, images_of = xp.zeros_like(W), (x.shape[0], patches.down.inputs, patches.across.inputs, self.inputs)
        dx = xp.empty(images_of, dtype=x.dtype, device=x.device) if need_dx else None
        dy = xp.reshape(dy, (x.shape[0], *patches.windows, self.outputs))
        for block, images in patches.blocks(xp, x, W, context.at_once):
            P, n = patches.cut(xp, images), images.shape[0]
            dY = xp.reshape(rows_first(xp, dy[block, ...]), (-1, self.outputs))
            for i in range(W.shape[0]):
                dW[i, ...] += xp.matmul(P[patches.part(i, n), :].T, dY)
            if dx is not None:
                dP = xp.zeros(P.shape, dtype=x.dtype, device=x.device)
                for i in range(W.shape[0]):
                    dP[patches.part(i, n), :] += xp.matmul(dY, W_T[i, ...])
                dx[block, ...] = patches.add(xp, dP, n)
        grads = {"W": xp.reshape(dW, params["W"].shape)}
        if self.bias:
            # A row of ones times dy adds up the rows, faster than a sum over the first axis.
            dY = xp.reshape(dy, (-1, self.outputs))
            grads["b"] = xp.reshape(xp.matmul(xp.ones_like(dY[:, :1]).T, dY), (-1,))
        return None if dx is None else xp.reshape(dx, x.shape), grads


@dataclass(frozen=True)
class Conv2D(_Convolution):
    """Convolution of images (B, H, W, C): y = x * W + b, the same weighted sum of every window's numbers.

    As in every framework it is a cross-correlation, so the weights are not turned round:

        y[n, p, q, o] = b[o] + sum over i, j, c of x[n, p s + i - before, q s + j - before, c] W[i, j, c, o]

    with the stride s, and x = 0 outside of the image.

    Parameters
    ----------
    inputs, outputs : int
        Numbers C and O of channels.
    size : int or (int, int)
        Rows and columns K of a window.
    stride : int or (int, int)
        How far on the next window is. What does not fill a last window is left out.
    padding : "same", "valid", int or (int, int)
        Zeros around the image. For H rows, K rows of a window and the stride s (and so for columns) there are

        - "same": ceil(H / s) rows of windows, by max((H' - 1) s + K - H, 0) rows of zeros, of which half, rounded down,
          stand before the image and the others after it, as in TensorFlow and Keras (for an even K and s = 1 the
          one more is at the end);
        - "valid", no zeros: floor((H - K) / s) + 1;
        - a number p, at each side: floor((H + 2 p - K) / s) + 1.
    bias : bool
        Whether there is a bias b for each output channel.
    weight_init, bias_init : str or callable
        The law of the initial values; see `xpnet.initializers`. The fans of W are K K C and K K O.

    Notes
    -----
    Parameters are ``W`` of shape (K, K, C, O) and ``b`` of shape (O,). In the formulas M is the number of windows in a
    sample, K the count of numbers that a window sees, here size x size x C, and W the matrix (K, O) of all weights;
    ``patches`` has a row for each window. They are never all there: a few samples at a time are cut to patches, and
    only along their rows, which makes the product a sum of K products; see ``xpnet.layers.patches``.

    Raises
    ------
    ShapeError
        Samples of another shape, or smaller than a window.

    References
    ----------
    LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", Proceedings of the
    IEEE 86 (1998), section II. Patches as a product: Chellapilla, Puri and Simard, "High performance convolutional
    neural networks for document processing", IWFHR 2006.

    Examples
    --------
    >>> import xpnet
    >>> xpnet.Conv2D(1, 8, 3).output_shape((28, 28, 1))
    (28, 28, 8)
    """

    axes: ClassVar[str] = "HW"


@dataclass(frozen=True)
class Conv1D(_Convolution):
    """Convolution of signals (B, L, C): `Conv2D` along one axis, with ``W`` of shape (K, C, O).

    Parameters
    ----------
    inputs, outputs : int
        Numbers C and O of channels.
    size, stride : int
        Length K of a window, and how far on the next one is.
    padding : "same", "valid" or int
        Zeros before and after the signal; see `Conv2D`.
    bias : bool
        Whether there is a bias b for each output channel.
    weight_init, bias_init : str or callable
        The law of the initial values; see `xpnet.initializers`. The fans of W are K C and K O.

    Raises
    ------
    ShapeError
        Samples of another shape, or shorter than a window.

    Examples
    --------
    >>> import xpnet
    >>> xpnet.Conv1D(1, 8, 3).output_shape((100, 1))
    (100, 8)
    """

    axes: ClassVar[str] = "L"
