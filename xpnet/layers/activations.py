"""Activations between two bounds, any of one's own, and none: functions applied to each number alone.

In every backward pass dy = dL/dy is the upstream delta and dx = dy f'(x) the layer's result. Derivatives multiply by a
mask of zeros and ones rather than select, which is many times faster on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xpnet.errors import ConfigError, ShapeError
from xpnet.layers.base import INFERENCE, Context, Gradient, Layer, Result
from xpnet.typing import Array, Params, Shape


@dataclass(frozen=True)
class Identity(Layer):
    """y = x: no activation.

    Examples
    --------
    >>> import numpy as np
    >>> import xpnet
    >>> y, cache = xpnet.Identity().forward(np, {}, np.asarray([[-1.0, 0.0, 2.0]]))
    >>> y.round(3)
    array([[-1.,  0.,  2.]])
    """

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """Nothing happens.

        y = x          (B, N)     (1)
        """
        return x, None

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """f'(x) = 1.

        dx = dy          (B, N)     (2)
        """
        return dy, {}


def logistic(xp: Any, x: Array, e: Array) -> Array:
    """Return 1 / (1 + exp(-x)) given e = exp(-|x|), which cannot overflow.

    The numerator is 1 for x >= 0 and e for x < 0: the larger of the mask and e.
    """
    return xp.maximum(xp.astype(x >= 0, x.dtype), e) / (1.0 + e)


@dataclass(frozen=True)
class Sigmoid(Layer):
    """Logistic function y = 1 / (1 + exp(-x)), between 0 and 1; no input overflows.

    Examples
    --------
    >>> import numpy as np
    >>> import xpnet
    >>> y, cache = xpnet.Sigmoid().forward(np, {}, np.asarray([[-1.0, 0.0, 2.0]]))
    >>> y.round(3)
    array([[0.269, 0.5  , 0.881]])
    """

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """The logistic function.

        y = 1 / (1 + exp(-x))          (B, N)     (1)
        """
        e = xp.exp(-xp.abs(x))
        return logistic(xp, x, e), e

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """f'(x) = y (1 - y), written with e = exp(-|x|) because 1 - y would round to 0 for large x.

        e = exp(-abs(x))                 (B, N)     (2)
        dx = dy * e / (1 + e) ** 2       (B, N)     (3)
        """
        e = cache
        q = 1.0 / (1.0 + e)
        return dy * (e * q * q), {}


@dataclass(frozen=True)
class Tanh(Layer):
    """Hyperbolic tangent, between -1 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> import xpnet
    >>> y, cache = xpnet.Tanh().forward(np, {}, np.asarray([[-1.0, 0.0, 2.0]]))
    >>> y.round(3)
    array([[-0.762,  0.   ,  0.964]])
    """

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """The hyperbolic tangent.

        y = tanh(x)          (B, N)     (1)
        """
        return xp.tanh(x), x

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """f'(x) = 1 - y ** 2, written with e = exp(-2|x|) because 1 - y ** 2 would round to 0 for large |x|.

        e = exp(-2 * abs(x))                 (B, N)     (2)
        dx = dy * 4 * e / (1 + e) ** 2       (B, N)     (3)
        """
        x = cache
        e = xp.exp(-2.0 * xp.abs(x))
        q = 2.0 / (1.0 + e)
        return dy * (e * q * q), {}


@dataclass(frozen=True)
class Softmax(Layer):
    """Probabilities proportional to exp(x), row by row, with its own honest derivative.

    For classification prefer `xpnet.CrossEntropy` on logits without this layer: one function there
    computes the logarithm and the derivative together, exactly.

    Examples
    --------
    >>> import numpy as np
    >>> import xpnet
    >>> y, cache = xpnet.Softmax().forward(np, {}, np.asarray([[-1.0, 0.0, 2.0]]))
    >>> y.round(3)
    array([[0.042, 0.114, 0.844]])
    """

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise ShapeError(f"Softmax() takes samples that are a row of numbers, got {shape}: put Flatten() before it")
        return shape

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """Each row's largest entry is taken off first, which changes nothing but prevents overflow.

        e = exp(x - max(x, axis=1, keepdims=True))     (B, N)     (1)
        y = e / sum(e, axis=1, keepdims=True)          (B, N)     (2)
        """
        e = xp.exp(x - xp.max(x, axis=1, keepdims=True))
        y = e / xp.sum(e, axis=1, keepdims=True)
        return y, y

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """Each output depends on every input of its row: dy_j/dx_i = y_j ((i == j) - y_i).

        dx = y * (dy - sum(dy * y, axis=1, keepdims=True))          (B, N)     (3)
        """
        y = cache
        return y * (dy - xp.sum(dy * y, axis=1, keepdims=True)), {}


@dataclass(frozen=True)
class Activation(Layer):
    """An activation of one's own, from a function and its derivative.

    Parameters
    ----------
    f, df : callable ``(xp, x) -> array``
        The function and its derivative, elementwise, written with the array namespace `xp`.
    name : str
        What it is called in summaries.

    Examples
    --------
    >>> import xpnet
    >>> sine = xpnet.Activation(lambda xp, x: xp.sin(x), lambda xp, x: xp.cos(x), name="sine")
    """

    f: Callable[[Any, Array], Array]
    df: Callable[[Any, Array], Array]
    name: str = "activation"

    def __post_init__(self) -> None:
        for label, function in (("f", self.f), ("df", self.df)):
            if not callable(function):
                raise ConfigError(f"Activation: {label} must be a function (xp, x) -> array, got {function!r}")

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """The user's function.

        y = f(xp, x)          (B, N)     (1)
        """
        return self.f(xp, x), x

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """The user's derivative.

        dx = dy * df(xp, x)          (B, N)     (2)
        """
        x = cache
        return dy * self.df(xp, x), {}
