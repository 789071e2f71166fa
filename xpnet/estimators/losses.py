"""The losses of scikit-learn's multi-layer perceptrons that differ from xpnet's own by a factor or a constant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xpnet.losses import Loss
from xpnet.typing import Array


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
