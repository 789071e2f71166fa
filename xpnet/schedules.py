"""Learning-rate schedules: functions of the number of steps done before (0, 1, 2, ...).

Any function of the step serves; these are ready-made, as frozen dataclasses so that a file can describe them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import cos, pi
from typing import TYPE_CHECKING

from xpnet.keywords import Named, public
from xpnet.validation import NOT_NEGATIVE, POSITIVE, check_fields, check_number, check_rate, check_size


@dataclass(frozen=True)
class Schedule(Named):
    """A learning rate that changes with the step."""

    def __call__(self, step: int) -> float:
        """Return the learning rate of step `step`, counted from 0."""
        raise NotImplementedError


@dataclass(frozen=True)
class StepDecay(Schedule):
    """rate(k) = initial * factor ** (k // every).

    Examples
    --------
    >>> import xpnet
    >>> rate = xpnet.schedules.StepDecay(0.1, every=50)
    >>> [round(float(rate(step)), 4) for step in (0, 50, 100)]
    [0.1, 0.01, 0.001]
    """

    initial: float
    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self, initial=POSITIVE, every=check_size, factor=POSITIVE)

    def __call__(self, step: int) -> float:
        return self.initial * self.factor ** (step // self.every)


@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """rate(k) = initial * factor ** (k / steps).

    Examples
    --------
    >>> import xpnet
    >>> rate = xpnet.schedules.ExponentialDecay(0.1, steps=100)
    >>> [round(float(rate(step)), 4) for step in (0, 50, 100)]
    [0.1, 0.0316, 0.01]
    """

    initial: float
    steps: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self, initial=POSITIVE, steps=check_size, factor=POSITIVE)

    def __call__(self, step: int) -> float:
        return self.initial * float(self.factor ** (step / self.steps))


@dataclass(frozen=True)
class PolynomialDecay(Schedule):
    """rate(k) = final + (initial - final) * (1 - min(k, steps) / steps) ** power.

    Examples
    --------
    >>> import xpnet
    >>> rate = xpnet.schedules.PolynomialDecay(0.1, steps=100)
    >>> [round(float(rate(step)), 4) for step in (0, 50, 100)]
    [0.1, 0.05, 0.0]
    """

    initial: float
    steps: int
    final: float = 0.0
    power: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self, initial=POSITIVE, steps=check_size, final=NOT_NEGATIVE, power=POSITIVE)

    def __call__(self, step: int) -> float:
        left = 1.0 - min(step, self.steps) / self.steps
        return self.final + (self.initial - self.final) * float(left**self.power)


@dataclass(frozen=True)
class CosineDecay(Schedule):
    """rate(k) = final + (initial - final) * (1 + cos(pi * min(k, steps) / steps)) / 2.

    References
    ----------
    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017, equation 5.

    Examples
    --------
    >>> import xpnet
    >>> rate = xpnet.schedules.CosineDecay(0.1, steps=100)
    >>> [round(float(rate(step)), 4) for step in (0, 50, 100)]
    [0.1, 0.05, 0.0]
    """

    initial: float
    steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, initial=POSITIVE, steps=check_size, final=NOT_NEGATIVE)

    def __call__(self, step: int) -> float:
        return self.final + (self.initial - self.final) * 0.5 * (1.0 + cos(pi * min(step, self.steps) / self.steps))


@dataclass(frozen=True)
class WarmUp(Schedule):
    """A linear rise over the first `steps` steps, then another schedule, which counts from there.

    rate(k) = after(0) * (k + 1) / steps for k < steps, else after(k - steps).

    Examples
    --------
    >>> import xpnet
    >>> rate = xpnet.schedules.WarmUp(50, 0.1)
    >>> [round(float(rate(step)), 4) for step in (0, 50, 100)]
    [0.002, 0.1, 0.1]
    """

    steps: int
    after: Schedule | float

    def __post_init__(self) -> None:
        check_fields(self, steps=check_size, after=check_rate)

    def _after(self, step: int) -> float:
        return self.after(step) if callable(self.after) else self.after

    def __call__(self, step: int) -> float:
        if step < self.steps:
            return self._after(0) * (step + 1) / self.steps
        return self._after(step - self.steps)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up and down again: a cosine from peak / divide to peak, then one from peak to peak / final_divide.

    Parameters
    ----------
    peak : float
        The largest learning rate.
    steps : int
        Length of the whole cycle; afterwards the last value stays.
    rise : float in (0, 1)
        The part of the cycle that rises.
    divide, final_divide : float
        What the peak is divided by at the start and at the end.

    References
    ----------
    Smith and Topin, "Super-convergence", 2018; with cosines in place of straight lines.

    Examples
    --------
    >>> import xpnet
    >>> rate = xpnet.schedules.OneCycle(0.1, steps=101)
    >>> [round(float(rate(step)), 4) for step in (0, 50, 100)]
    [0.004, 0.0812, 0.0]
    """

    peak: float
    steps: int
    rise: float = 0.3
    divide: float = 25.0
    final_divide: float = 1e5

    def __post_init__(self) -> None:
        within, from_one = partial(POSITIVE, high=1.0, high_open=True), partial(check_number, low=1.0)
        check_fields(self, peak=POSITIVE, rise=within, divide=from_one, final_divide=from_one)
        check_size("OneCycle: steps", self.steps, 2)

    def __call__(self, step: int) -> float:
        top = self.rise * (self.steps - 1)
        k = float(min(step, self.steps - 1))
        low = self.peak / (self.divide if k < top else self.final_divide)
        phase = k / top if k < top else (self.steps - 1 - k) / (self.steps - 1 - top)
        return low + (self.peak - low) * 0.5 * (1.0 - cos(pi * phase))


SCHEDULES: dict[str, type[Schedule]] = {
    cls.__name__: cls for cls in (StepDecay, ExponentialDecay, PolynomialDecay, CosineDecay, WarmUp, OneCycle)
}
"""Every schedule that a saved run may name."""

if not TYPE_CHECKING:  # to whom every name would then be right
    __getattr__, __dir__ = public(
        __name__, ["Schedule", "StepDecay", "ExponentialDecay", "PolynomialDecay", "CosineDecay", "WarmUp", "OneCycle"]
    )
