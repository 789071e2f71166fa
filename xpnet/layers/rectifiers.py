"""Rectifiers: activations that are near x on the right and near 0 on the left. See `xpnet.layers.activations`."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt
from typing import Any

from xpnet.errors import ConfigError
from xpnet.layers.activations import logistic
from xpnet.layers.base import INFERENCE, Context, Gradient, Layer, Result
from xpnet.special import normal_cdf
from xpnet.typing import Array, Params
from xpnet.validation import BELOW_ONE, POSITIVE, check_fields


@dataclass(frozen=True)
class ReLU(Layer):
    """Rectified linear unit, y = max(x, 0), with f'(0) = 0.

    References
    ----------
    Glorot, Bordes and Bengio, "Deep sparse rectifier neural networks", AISTATS 2011.

    Examples
    --------
    >>> import numpy as np
    >>> import xpnet
    >>> y, cache = xpnet.ReLU().forward(np, {}, np.asarray([[-1.0, 0.0, 2.0]]))
    >>> y.round(3)
    array([[0., 0., 2.]])
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

    Examples
    --------
    >>> import numpy as np
    >>> import xpnet
    >>> y, cache = xpnet.LeakyReLU().forward(np, {}, np.asarray([[-1.0, 0.0, 2.0]]))
    >>> y.round(3)
    array([[-0.01,  0.  ,  2.  ]])
    """

    slope: float = 0.01

    def __post_init__(self) -> None:
        check_fields(self, slope=BELOW_ONE)

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

    Examples
    --------
    >>> import numpy as np
    >>> import xpnet
    >>> y, cache = xpnet.ELU().forward(np, {}, np.asarray([[-1.0, 0.0, 2.0]]))
    >>> y.round(3)
    array([[-0.632,  0.   ,  2.   ]])
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self, alpha=POSITIVE)

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


@dataclass(frozen=True)
class Softplus(Layer):
    """Smooth rectifier y = log(1 + exp(x)).

    References
    ----------
    Dugas et al., "Incorporating second-order functional knowledge for better option pricing", 2001.

    Examples
    --------
    >>> import numpy as np
    >>> import xpnet
    >>> y, cache = xpnet.Softplus().forward(np, {}, np.asarray([[-1.0, 0.0, 2.0]]))
    >>> y.round(3)
    array([[0.313, 0.693, 2.127]])
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

    Examples
    --------
    >>> import numpy as np
    >>> import xpnet
    >>> y, cache = xpnet.SiLU().forward(np, {}, np.asarray([[-1.0, 0.0, 2.0]]))
    >>> y.round(3)
    array([[-0.269,  0.   ,  1.762]])
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
class GELU(Layer):
    """Gaussian error linear unit, y = x P(Z <= x) for a standard normal Z.

    Parameters
    ----------
    approximate : "none" or "tanh"
        ``"none"`` is the definition; ``"tanh"`` the authors' approximation, forwards and backwards.

    References
    ----------
    Hendrycks and Gimpel, "Gaussian error linear units (GELUs)", arXiv:1606.08415, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> import xpnet
    >>> y, cache = xpnet.GELU().forward(np, {}, np.asarray([[-1.0, 0.0, 2.0]]))
    >>> y.round(3)
    array([[-0.159,  0.   ,  1.954]])
    """

    approximate: str = "none"

    def __post_init__(self) -> None:
        if not isinstance(self.approximate, str) or self.approximate not in ("none", "tanh"):
            raise ConfigError(f"GELU: approximate must be 'none' or 'tanh', got {self.approximate!r}")

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """x times the normal distribution function; the tanh form approximates it.

        y = x * normal_cdf(x)                                             (B, N)     (1)
        y = x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3))) / 2    (B, N)     (1')
        """
        if self.approximate == "tanh":
            h = xp.tanh(sqrt(2 / pi) * (x + 0.044715 * (x * x * x)))
            return x * (0.5 + 0.5 * h), (x, h)
        probability, gauss = normal_cdf(xp, x)
        return x * probability, (x, probability, gauss)

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """f'(x) = P(Z <= x) + x p(x) with the normal density p; for the tanh form, its own derivative.

        dx = dy * (normal_cdf(x) + x * exp(-x ** 2 / 2) / sqrt(2 * pi))                     (B, N)     (2)
        h = tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3))                                    (B, N)     (2')
        dh = (1 - h ** 2) * sqrt(2 / pi) * (1 + 3 * 0.044715 * x ** 2)                      (B, N)     (3')
        dx = dy * (1 + h + x * dh) / 2                                                      (B, N)     (4')
        """
        if self.approximate == "tanh":
            x, h = cache
            dh = (1.0 - h * h) * (sqrt(2 / pi) + (3 * 0.044715 * sqrt(2 / pi)) * (x * x))
            return dy * (0.5 + 0.5 * h + 0.5 * (x * dh)), {}
        x, probability, gauss = cache
        return dy * (probability + x * (gauss * (1 / sqrt(2 * pi)))), {}


RECTIFIERS = (ReLU, LeakyReLU, ELU, GELU, SiLU, Softplus)
"""The family, for which He's law is the usual one of the weights before."""
