"""Losses of decisions and classes, from logits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from xpnet.layers.activations import logistic
from xpnet.losses.base import Loss
from xpnet.typing import Array
from xpnet.validation import BELOW_ONE, check_fields


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
