"""Losses. One function returns the value and the delta dL/dy, so that the two cannot drift apart.

B samples, O outputs. A loss of the whole batch is L = sum_i weight_i l_i, where l_i is the loss of sample i
and the weights, shape (B,), sum to 1: they are 1/B each unless samples are weighted. In the formulas `w` is
the column of the weights, shape (B, 1).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from xpnet.keywords import Named
from xpnet.layers.activations import logistic
from xpnet.typing import Array
from xpnet.validation import BELOW_ONE, POSITIVE, check_fields


class Loss(Named):
    """A scalar function of the network's output y, the target t and the samples' weights.

    A loss of one's own subclasses this class and overrides `__call__`; `xpnet.check_gradients` says
    whether its delta is the derivative of its value.

    Examples
    --------
    >>> import xpnet
    >>> xpnet.mlp([2, 8, 1], loss=xpnet.Huber(delta=2.0)).loss  # or its name, with what it has by default: "huber"
    Huber(delta=2.0)
    """

    kind: ClassVar[str] = "regression"
    """``"classification"``, ``"binary"`` (independent yes-or-no outputs) or ``"regression"``."""
    takes_logits: ClassVar[bool] = False
    """Whether y is a logit, so that a Softmax or Sigmoid layer before the loss is a mistake."""

    def __call__(self, xp: Any, y: Array, t: Array, weight: Array) -> tuple[Array, Array]:
        """Return the loss (a 0-d array) and the delta dL/dy (B, O)."""
        raise NotImplementedError

    def predict(self, xp: Any, y: Array) -> Array:
        """Return what the output `y` says about the target: probabilities, or the expected value."""
        return y


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


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """Cross-entropy of independent yes-or-no outputs, summed over the outputs. Takes logits.

    Targets t are 0 or 1, or probabilities between.
    """

    kind: ClassVar[str] = "binary"
    takes_logits: ClassVar[bool] = True

    def __call__(self, xp: Any, y: Array, t: Array, weight: Array) -> tuple[Array, Array]:
        """Value and delta; p = 1 / (1 + exp(-y)) is the probability of a yes.

        L = sum(w * (maximum(y, 0) - t * y + log1p(exp(-abs(y)))))          ()         (1)
        p = 1 / (1 + exp(-y))                                               (B, O)     (2)
        dy = w * (p - t)                                                    (B, O)     (3)
        """
        w = weight[:, None]
        e = xp.exp(-xp.abs(y))
        value = xp.sum(w * (xp.maximum(y, 0.0) - t * y + xp.log1p(e)))
        return value, w * (logistic(xp, y, e) - t)

    def predict(self, xp: Any, y: Array) -> Array:
        return logistic(xp, y, xp.exp(-xp.abs(y)))


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Cross-entropy of one class out of O, from logits: softmax and logarithm in one stable step.

    Targets are integer classes of shape (B,), or rows of probabilities (B, O), for instance one-hot rows.

    Parameters
    ----------
    label_smoothing : float in [0, 1)
        The share e of each target that is spread evenly over all classes, so that no class is asked to be certain.

    References
    ----------
    Bridle, "Training stochastic model recognition algorithms as networks can lead to maximum mutual
    information estimation of parameters", NIPS 1989. Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, "Rethinking the
    Inception architecture for computer vision", CVPR 2016, section 7, for the smoothing.

    Examples
    --------
    >>> import numpy as np
    >>> import xpnet
    >>> y, t, w = np.asarray([[2.0, 0.0, 0.0]]), np.asarray([[1.0, 0.0, 0.0]]), np.asarray([1.0])
    >>> value, delta = xpnet.CrossEntropy()(np, y, t, w)
    >>> round(float(value), 4), delta.round(4)
    (0.2395, array([[-0.213 ,  0.1065,  0.1065]]))
    """

    label_smoothing: float = field(default=0.0, metadata={"optional": True})

    kind: ClassVar[str] = "classification"
    takes_logits: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self, label_smoothing=BELOW_ONE)

    def __call__(self, xp: Any, y: Array, t: Array, weight: Array) -> tuple[Array, Array]:
        """Value and delta. Integer classes t become rows with a single 1; a row's largest logit is taken off.

        t = (1 - label_smoothing) * t + label_smoothing / O       (B, O)     (1)
        z = y - max(y, axis=1, keepdims=True)                     (B, O)     (2)
        s = sum(exp(z), axis=1, keepdims=True)                    (B, 1)     (3)
        L = sum(w * t * (log(s) - z))                             ()         (4)
        dy = w * (exp(z) / s * sum(t, axis=1, keepdims=True) - t) (B, O)     (5)
        """
        # Two logits may lie further apart than the largest number: 0 times infinity would be NaN.
        z = xp.maximum(y - xp.max(y, axis=1, keepdims=True), -xp.finfo(y.dtype).max)
        e = xp.exp(z)
        s = xp.sum(e, axis=1, keepdims=True)
        w, classes = weight[:, None], t.ndim == 1
        if classes:
            t = xp.astype(t[:, None] == xp.arange(y.shape[1], dtype=t.dtype, device=y.device)[None, :], y.dtype)
        if self.label_smoothing:
            t = (1.0 - self.label_smoothing) * t + self.label_smoothing / y.shape[1]
        p = e / s if classes else e / s * xp.sum(t, axis=1, keepdims=True)  # a class is a row that sums to 1
        dy = w * (p - t)
        return xp.sum((w * t) * (xp.log(s) - z)), dy

    def predict(self, xp: Any, y: Array) -> Array:
        e = xp.exp(y - xp.max(y, axis=1, keepdims=True))
        return e / xp.sum(e, axis=1, keepdims=True)


LOSSES: dict[str, type[Loss]] = {
    "mean_squared_error": MeanSquaredError,
    "sum_squared_error": SumSquaredError,
    "half_squared_error": HalfSquaredError,
    "mean_absolute_error": MeanAbsoluteError,
    "huber": Huber,
    "poisson": Poisson,
    "poisson_deviance": PoissonDeviance,
    "binary_cross_entropy": BinaryCrossEntropy,
    "cross_entropy": CrossEntropy,
}
"""Every loss by the name that a string may use."""
