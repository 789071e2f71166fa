"""Losses that teach a network how far off it may be: several quantiles of the target, or its mean and variance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from xpnet.errors import ConfigError
from xpnet.losses.base import Loss
from xpnet.typing import Array
from xpnet.validation import check_number


@dataclass(frozen=True)
class Quantile(Loss):
    """Pinball loss of one or more quantiles of each target, averaged over the outputs.

    Its smallest expected value is at the quantiles: a share q of the targets lies below the output for level q. For T
    targets the network has O = T len(levels) outputs: the first T are those of the first level. The derivative at an
    error of 0 is taken as 0.

    Parameters
    ----------
    levels : sequence of float in (0, 1)
        In increasing order. The levels 0.05 and 0.95 enclose an interval of 90 %.

    References
    ----------
    Koenker and Bassett, "Regression quantiles", Econometrica 46 (1978), equation 3.1. Chernozhukov, Fernández-Val and
    Galichon, "Quantile and probability curves without crossing", Econometrica 78 (2010), for what `quantiles` does.

    Examples
    --------
    >>> import numpy as np
    >>> import xpnet
    >>> y, t, w = np.asarray([[1.0, 2.0]]), np.asarray([[3.0]]), np.asarray([1.0])
    >>> value, delta = xpnet.Quantile([0.25, 0.75])(np, y, t, w)  # 1/2 (0.25 * 2 + 0.75 * 1)
    >>> float(value), delta
    (0.625, array([[-0.125, -0.375]]))
    """

    levels: tuple[float, ...] = (0.05, 0.5, 0.95)

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", _checked(self.levels))

    @property
    def per_target(self) -> int:
        return len(self.levels)

    def __call__(self, xp: Any, y: Array, t: Array, weight: Array) -> tuple[Array, Array]:
        """Value and delta; q has each level T times, e is the error as often as there are levels.

        q = repeat(levels, T)                                                 (O,)       (1)
        e = tile(t, len(levels)) - y                                          (B, O)     (2)
        L = sum(w * (q * maximum(e, 0) + (1 - q) * maximum(-e, 0))) / O       ()         (3)
        dy = w * ((1 - q) * (e < 0) - q * (e > 0)) / O                        (B, O)     (4)
        """
        each = [level for level in self.levels for _ in range(t.shape[1])]
        q = xp.asarray(each, dtype=y.dtype, device=y.device)
        e = xp.reshape(t[:, None, :] - xp.reshape(y, (y.shape[0], len(self.levels), t.shape[1])), y.shape)
        w = weight[:, None] * (1.0 / y.shape[1])
        above, below = xp.astype(e > 0, y.dtype), xp.astype(e < 0, y.dtype)
        value = xp.sum(w * (q * xp.maximum(e, 0.0) + (1.0 - q) * xp.maximum(-e, 0.0)))
        return value, w * ((1.0 - q) * below - q * above)

    def predict(self, xp: Any, y: Array) -> Array:
        """Return the median (B, T), or the quantile whose level is the next to 0.5."""
        middle = min(range(len(self.levels)), key=lambda k: abs(self.levels[k] - 0.5))
        return self._sorted(xp, y)[middle]

    def quantiles(self, xp: Any, y: Array) -> Array:
        """Return the quantiles (B, T, levels) of a network's output `y`, in increasing order.

        Outputs are learnt apart and may cross. Sorted, each sample's are as near to the true ones, or nearer.
        """
        return xp.stack(self._sorted(xp, y), axis=2)

    def _sorted(self, xp: Any, y: Array) -> list[Array]:
        """Return each level's columns, after exchanges of neighbours: every library has maximum and minimum."""
        targets = y.shape[1] // len(self.levels)
        parts = [y[:, k * targets : (k + 1) * targets] for k in range(len(self.levels))]
        for last in range(len(parts) - 1, 0, -1):
            for k in range(last):
                parts[k], parts[k + 1] = xp.minimum(parts[k], parts[k + 1]), xp.maximum(parts[k], parts[k + 1])
        return parts


def _checked(levels: Any) -> tuple[float, ...]:
    """Return levels as a tuple, or raise."""
    if not isinstance(levels, Iterable) or isinstance(levels, str):
        raise ConfigError(
            f"Quantile: levels must be numbers between 0 and 1, such as [0.05, 0.5, 0.95], got {levels!r}"
        )
    found = tuple(
        check_number(f"Quantile: levels[{k}]", level, 0.0, 1.0, low_open=True, high_open=True)
        for k, level in enumerate(levels)
    )
    if not found or any(low >= high for low, high in pairwise(found)):
        raise ConfigError(f"Quantile: levels must be one or more numbers in increasing order, got {list(found)}")
    return found


@dataclass(frozen=True)
class Gaussian(Loss):
    """Negative log-likelihood of a normal law whose mean and variance the network gives, averaged over the targets.

    For T targets the network has O = 2 T outputs: first the means m, then the logarithms s of the variances, so that
    every output is a variance. Of -log p(t) = 1/2 (s + (t - m)^2 exp(-s) + log(2 pi)) the constant is left out. The
    loss has no lower bound where targets are met exactly: scale them to about 1, and stop early.

    References
    ----------
    Nix and Weigend, "Estimating the mean and variance of the target probability distribution", ICNN 1994, equation 2.
    Kendall and Gal, "What uncertainties do we need in Bayesian deep learning for computer vision?", NIPS 2017,
    equation 8, for the logarithm.

    Examples
    --------
    >>> import numpy as np
    >>> import xpnet
    >>> y, t, w = np.asarray([[1.0, 0.0]]), np.asarray([[3.0]]), np.asarray([1.0])
    >>> value, delta = xpnet.Gaussian()(np, y, t, w)  # two standard deviations off: 1/2 2^2
    >>> float(value), delta
    (2.0, array([[-2. , -1.5]]))
    """

    @property
    def per_target(self) -> int:
        return 2

    def __call__(self, xp: Any, y: Array, t: Array, weight: Array) -> tuple[Array, Array]:
        """Value and delta; z is the error in standard deviations.

        m = y[:, :T]                                                               (B, T)     (1)
        s = y[:, T:]                                                               (B, T)     (2)
        z = (m - t) * exp(-s / 2)                                                  (B, T)     (3)
        L = sum(w * (s + z * z)) / (2 * T)                                         ()         (4)
        dy = concat([w * z * exp(-s / 2), w * (1 - z * z) / 2], axis=1) / T        (B, O)     (5)
        """
        targets = t.shape[1]
        m, s = y[:, :targets], y[:, targets:]
        # A precision beyond the largest number is that number: an error of 0 times infinity would be NaN.
        root = xp.minimum(xp.exp(-0.5 * s), xp.finfo(y.dtype).max)
        z = (m - t) * root
        w = weight[:, None] * (1.0 / targets)
        value = 0.5 * xp.sum(w * (s + z * z))
        return value, xp.concat([w * z * root, 0.5 * w * (1.0 - z * z)], axis=1)

    def predict(self, xp: Any, y: Array) -> Array:
        """Return the mean (B, T)."""
        return y[:, : y.shape[1] // 2]

    def deviation(self, xp: Any, y: Array) -> Array:
        """Return the standard deviation (B, T) of a network's output `y`."""
        return xp.exp(0.5 * y[:, y.shape[1] // 2 :])
