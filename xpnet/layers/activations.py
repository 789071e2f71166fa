"""Activations: functions applied to each number alone. Each derivative stands right under its function.

In every backward pass dy = dL/dy is the upstream delta and dx = dy f'(x) the layer's result. Derivatives
multiply by a mask of zeros and ones rather than select, which is many times faster on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xpnet.errors import ConfigError
from xpnet.layers.base import INFERENCE, Context, Layer
from xpnet.typing import Array, Params
from xpnet.validation import check_number

Result = tuple[Array, Any]
Gradient = tuple[Array | None, dict[str, Array]]


@dataclass(frozen=True)
class Identity(Layer):
    """y = x: no activation."""

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


@dataclass(frozen=True)
class ReLU(Layer):
    """Rectified linear unit, y = max(x, 0), with f'(0) = 0.

    References
    ----------
    Glorot, Bordes and Bengio, "Deep sparse rectifier neural networks", AISTATS 2011.
    """

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """Negative numbers become zero.

        y = maximum(x, 0)          (B, N)     (1)
        """
        y = xp.maximum(x, 0.0)
        return y, y

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """f'(x) = 1 where x > 0, which is where y > 0, else 0.

        dx = dy * (y > 0)          (B, N)     (2)
        """
        y = cache
        return dy * xp.astype(y > 0, dy.dtype), {}


@dataclass(frozen=True)
class LeakyReLU(Layer):
    """Rectifier that lets a little of the negative side through: y = x if x > 0 else slope x.

    f'(0) = slope.

    Parameters
    ----------
    slope : float in [0, 1)
        Derivative on the negative side.

    References
    ----------
    Maas, Hannun and Ng, "Rectifier nonlinearities improve neural network acoustic models", 2013.
    """

    slope: float = 0.01

    def __post_init__(self) -> None:
        check_number("LeakyReLU: slope", self.slope, 0.0, 1.0, high_open=True)

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """The larger of x and slope x.

        y = maximum(x, slope * x)          (B, N)     (1)
        """
        return xp.maximum(x, self.slope * x), x

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """f'(x) = 1 where x > 0, else slope.

        dx = dy * maximum(x > 0, slope)          (B, N)     (2)
        """
        x = cache
        return dy * xp.maximum(xp.astype(x > 0, dy.dtype), self.slope), {}


@dataclass(frozen=True)
class ELU(Layer):
    """Exponential linear unit: y = x if x > 0 else alpha (exp(x) - 1); f'(0) = alpha.

    Parameters
    ----------
    alpha : float > 0
        Minus the limit of y at minus infinity.

    References
    ----------
    Clevert, Unterthiner and Hochreiter, "Fast and accurate deep network learning by exponential
    linear units", ICLR 2016, equation 15.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        check_number("ELU: alpha", self.alpha, 0.0, low_open=True)

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """x on the positive side, a decaying exponential on the negative.

        y = maximum(x, 0) + alpha * expm1(minimum(x, 0))          (B, N)     (1)
        """
        return xp.maximum(x, 0.0) + self.alpha * xp.expm1(xp.minimum(x, 0.0)), x

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """f'(x) = 1 where x > 0, else alpha exp(x).

        dx = dy * ((x > 0) + (x <= 0) * alpha * exp(minimum(x, 0)))          (B, N)     (2)
        """
        x = cache
        positive, negative = xp.astype(x > 0, dy.dtype), xp.astype(x <= 0, dy.dtype)
        return dy * (positive + negative * (self.alpha * xp.exp(xp.minimum(x, 0.0)))), {}


def logistic(xp: Any, x: Array, e: Array) -> Array:
    """Return 1 / (1 + exp(-x)) given e = exp(-|x|), which cannot overflow.

    The numerator is 1 for x >= 0 and e for x < 0: the larger of the mask and e.
    """
    return xp.maximum(xp.astype(x >= 0, x.dtype), e) / (1.0 + e)


@dataclass(frozen=True)
class Sigmoid(Layer):
    """Logistic function y = 1 / (1 + exp(-x)), between 0 and 1; no input overflows."""

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
    """Hyperbolic tangent, between -1 and 1."""

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
class Softplus(Layer):
    """Smooth rectifier y = log(1 + exp(x)).

    References
    ----------
    Dugas et al., "Incorporating second-order functional knowledge for better option pricing", 2001.
    """

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """log(1 + exp(x)), written so that nothing overflows.

        y = maximum(x, 0) + log1p(exp(-abs(x)))          (B, N)     (1)
        """
        e = xp.exp(-xp.abs(x))
        return xp.maximum(x, 0.0) + xp.log1p(e), (x, e)

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """f'(x) is the logistic function.

        dx = dy / (1 + exp(-x))          (B, N)     (2)
        """
        x, e = cache
        return dy * logistic(xp, x, e), {}


@dataclass(frozen=True)
class SiLU(Layer):
    """Sigmoid-weighted linear unit, y = x / (1 + exp(-x)), also called swish.

    References
    ----------
    Elfwing, Uchibe and Doya, "Sigmoid-weighted linear units for neural network function approximation
    in reinforcement learning", Neural Networks 107 (2018), equations 3 and 4.
    """

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """x times the logistic function s of x.

        s = 1 / (1 + exp(-x))          (B, N)     (1)
        y = x * s                      (B, N)     (2)
        """
        e = xp.exp(-xp.abs(x))
        s = logistic(xp, x, e)
        return x * s, (x, s, e)

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """f'(x) = s + x s (1 - s); s (1 - s) = e / (1 + e)^2 as in `Sigmoid`.

        s = 1 / (1 + exp(-x))                       (B, N)     (3)
        e = exp(-abs(x))                            (B, N)     (4)
        dx = dy * (s + x * e / (1 + e) ** 2)        (B, N)     (5)
        """
        x, s, e = cache
        q = 1.0 / (1.0 + e)
        return dy * (s + x * (e * q * q)), {}


@dataclass(frozen=True)
class Softmax(Layer):
    """Probabilities proportional to exp(x), row by row, with its own honest derivative.

    For classification prefer `xpnet.CrossEntropy` on logits without this layer: one function there
    computes the logarithm and the derivative together, exactly.
    """

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
