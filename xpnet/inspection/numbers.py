"""The size of an array in six numbers, computed where the array is."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from xpnet.typing import Array


class Statistics(NamedTuple):
    """What one looks at first.

    Attributes
    ----------
    mean, spread : float
        Mean and standard deviation of the finite entries.
    rms : float
        Root of the mean square: the typical size of an entry.
    largest : float
        Largest absolute value of a finite entry.
    zeros, nonfinite : float
        Shares of entries that are exactly 0, and that are NaN or infinite.
    """

    mean: float
    spread: float
    rms: float
    largest: float
    zeros: float
    nonfinite: float


def measure(xp: Any, a: Array) -> Array:
    """Return the statistics of `a`, in their order, as a float64 array (6,) on the device of `a`.

    NaN and infinities are counted and otherwise left out, so that a single one does not hide all the rest.
    """
    finite = xp.isfinite(a)
    weight = xp.astype(finite, xp.float64)
    values = xp.where(finite, xp.astype(a, xp.float64), xp.zeros_like(weight))
    count = xp.sum(weight)
    divisor = xp.maximum(count, 1.0)
    mean = xp.sum(values) / divisor
    deviation = (values - mean) * weight
    size = prod(a.shape)
    left_out = size - count
    zeros = xp.sum(xp.astype(values == 0.0, xp.float64)) - left_out  # those count as zeros, too
    spread, rms = (xp.sqrt(xp.sum(d * d) / divisor) for d in (deviation, values))
    return xp.stack([mean, spread, rms, xp.max(xp.abs(values)), zeros / size, left_out / size])
