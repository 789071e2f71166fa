"""Losses of expected values: squares, absolute errors, counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xpnet.losses.base import Loss
from xpnet.typing import Array
from xpnet.validation import POSITIVE, check_fields


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """Squared error, averaged over the outputs: l_i = (1/O) sum_o (y_io - t_io)^2.

    Examples
    --------
    >>> import numpy as np
    >>> import xpnet
    >>> y, t, w = np.asarray([[2.0, 0.5]]), np.asarray([[1.0, 1.0]]), np.asarray([1.0])
    >>> value, delta = xpnet.MeanSquaredError()(np, y, t, w)
    >>> float(value), delta
    (0.625, array([[ 1. , -0.5]]))
    """

    def __call__(self, xp: Any, y: Array, t: Array, weight: Array) -> tuple[Array, Array]:
        """Value and delta.

        L = sum(w * (y - t) ** 2) / O          ()         (1)
        dy = 2 * w * (y - t) / O               (B, O)     (2)
        """
        difference = y - t
        weighted = difference * (weight[:, None] * (1.0 / y.shape[1]))
        return xp.sum(weighted * difference), 2.0 * weighted


@dataclass(frozen=True)
class SumSquaredError(Loss):
    """Squared error, summed over the outputs: l_i = sum_o (y_io - t_io)^2, without a factor 1/2."""

    def __call__(self, xp: Any, y: Array, t: Array, weight: Array) -> tuple[Array, Array]:
        """Value and delta.

        L = sum(w * (y - t) ** 2)          ()         (1)
        dy = 2 * w * (y - t)               (B, O)     (2)
        """
        difference = y - t
        weighted = difference * weight[:, None]
        return xp.sum(weighted * difference), 2.0 * weighted


@dataclass(frozen=True)
class HalfSquaredError(Loss):
    """Half the squared error, averaged over the outputs: l_i = 1 / (2 O) sum_o (y_io - t_io)^2."""

    def __call__(self, xp: Any, y: Array, t: Array, weight: Array) -> tuple[Array, Array]:
        """Value and delta.

        L = sum(w * (y - t) ** 2) / (2 * O)          ()         (1)
        dy = w * (y - t) / O                         (B, O)     (2)
        """
        difference = y - t
        weighted = difference * (weight[:, None] * (1.0 / y.shape[1]))
        return 0.5 * xp.sum(weighted * difference), weighted


@dataclass(frozen=True)
class MeanAbsoluteError(Loss):
    """Absolute error, averaged over the outputs; its derivative at 0 is taken as 0."""

    def __call__(self, xp: Any, y: Array, t: Array, weight: Array) -> tuple[Array, Array]:
        """Value and delta.

        L = sum(w * abs(y - t)) / O                         ()         (1)
        dy = w * ((y - t > 0) - 1.0 * (y - t < 0)) / O      (B, O)     (2)
        """
        difference = y - t
        w = weight[:, None] * (1.0 / y.shape[1])
        sign = xp.astype(difference > 0, y.dtype) - xp.astype(difference < 0, y.dtype)
        return xp.sum(w * xp.abs(difference)), w * sign


@dataclass(frozen=True)
class Huber(Loss):
    """Squared error near zero, absolute error further away, averaged over the outputs.

    Parameters
    ----------
    delta : float > 0
        The error at which the one becomes the other.

    References
    ----------
    Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35 (1964).
    """

    delta: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self, delta=POSITIVE)

    def __call__(self, xp: Any, y: Array, t: Array, weight: Array) -> tuple[Array, Array]:
        """Value and delta; c is the error cut off at plus and minus delta.

        c = minimum(maximum(y - t, -delta), delta)          (B, O)     (1)
        L = sum(w * c * ((y - t) - c / 2)) / O              ()         (2)
        dy = w * c / O                                      (B, O)     (3)
        """
        difference = y - t
        c = xp.minimum(xp.maximum(difference, -self.delta), self.delta)
        weighted = c * (weight[:, None] * (1.0 / y.shape[1]))
        return xp.sum(weighted * (difference - 0.5 * c)), weighted


@dataclass(frozen=True)
class Poisson(Loss):
    """Negative log-likelihood of counts t under a Poisson law with rate exp(y), without its constant log(t!).

    The network's output is the logarithm of the rate; `predict` gives the rate. Averaged over the outputs.
    """

    def __call__(self, xp: Any, y: Array, t: Array, weight: Array) -> tuple[Array, Array]:
        """Value and delta.

        L = sum(w * (exp(y) - t * y)) / O          ()         (1)
        dy = w * (exp(y) - t) / O                  (B, O)     (2)
        """
        rate = xp.exp(y)
        w = weight[:, None] * (1.0 / y.shape[1])
        # Beyond 1e4 the rate is infinite in any data type, and so is the loss: not infinity minus infinity.
        return xp.sum(w * (rate - t * xp.minimum(y, 1e4))), w * (rate - t)

    def predict(self, xp: Any, y: Array) -> Array:
        return xp.exp(y)


@dataclass(frozen=True)
class PoissonDeviance(Loss):
    """Half the Poisson deviance, summed over the outputs; the network's output y is the logarithm of the rate."""

    def __call__(self, xp: Any, y: Array, t: Array, weight: Array) -> tuple[Array, Array]:
        """Value and delta; t log(t) is 0 at t = 0.

        L = sum(w * (t * log(maximum(t, 1e-30)) - t - t * y + exp(y)))          ()         (1)
        dy = w * (exp(y) - t)                                                   (B, O)     (2)
        """
        rate = xp.exp(y)
        w = weight[:, None]
        constant = t * xp.log(xp.maximum(t, 1e-30)) - t
        return xp.sum(w * (constant - t * y + rate)), w * (rate - t)

    def predict(self, xp: Any, y: Array) -> Array:
        return xp.exp(y)
