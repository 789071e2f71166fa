"""The Gaussian error linear unit."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt
from typing import Any

from xpnet.errors import ConfigError
from xpnet.layers.base import INFERENCE, Context, Layer
from xpnet.special import normal_cdf
from xpnet.typing import Array, Params


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
    """

    approximate: str = "none"

    def __post_init__(self) -> None:
        if self.approximate not in ("none", "tanh"):
            raise ConfigError(f"GELU: approximate must be 'none' or 'tanh', got {self.approximate!r}")

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> tuple[Array, Any]:
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
    ) -> tuple[Array | None, dict[str, Array]]:
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
