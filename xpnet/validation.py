"""Checks of hyper-parameters. Each says which argument, what came and what is accepted."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

from xpnet.errors import ConfigError, closest

T = TypeVar("T")


def named(kind: str, value: Any, registry: Mapping[str, Any], base: type[T], also: str = "") -> T:
    """Return `value` if it is a `base`, or else what it names; the name of a class stands for its default instance.

    `kind` says in the message what was looked for, and `also` what is accepted besides the names of the `registry`.
    """
    if isinstance(value, base):
        return value
    if isinstance(value, str) and value in registry:
        found: T = registry[value]() if isinstance(registry[value], type) else registry[value]
        return found
    hint = f" (write xpnet.{value.__name__}(), with parentheses)" if isinstance(value, type) else ""
    raise ConfigError(
        f"unknown {kind} {value!r}{hint}; names are {', '.join(registry)}{also}.{closest(str(value), registry)}"
    )


def check_size(name: str, value: Any, minimum: int = 1, maximum: int | None = None) -> int:
    """Return `value` as an int if it is an integer (a bool is not one) from `minimum` to `maximum`, if there is one."""
    good = isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= minimum
    if not good or (maximum is not None and int(value) > maximum):
        accepted = f">= {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        raise ConfigError(f"{name} must be an integer {accepted}, got {value!r}")
    return int(value)


def check_flag(name: str, value: Any) -> bool:
    """Return `value` if it is True or False."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be True or False, got {value!r}")
    return value


def check_items(name: str, value: Any, accepted: str) -> list[Any]:
    """Return the items of a sequence of what is `accepted`."""
    if isinstance(value, str) or not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0:
        raise ConfigError(f"{name} must be {accepted}, got {value!r}")
    return [*value]


def check_path(path: Any) -> str:
    """Return a path as a string."""
    if not isinstance(path, str | bytes | os.PathLike):
        raise ConfigError(f"path must be a str or a path, such as 'net.safetensors', got {path!r}")
    return os.fsdecode(path)


def check_number(
    name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, low_open: bool = False,
    high_open: bool = False,
) -> float:  # fmt: skip
    """Return `value` as a float if it is a finite real number between `low` and `high`.

    `low_open` and `high_open` exclude the bound itself.
    """
    good = isinstance(value, numbers.Real) and not isinstance(value, bool)
    try:
        good = good and math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floating point
        good = False
    if good:
        good = (low < value if low_open else low <= value) and (value < high if high_open else value <= high)
    if not good:
        left, right = "(" if low_open or low == -math.inf else "[", ")" if high_open or high == math.inf else "]"
        is_share = (low, high) == (0.0, 1.0) and isinstance(value, int | float) and 1 < value <= 100
        hint = f"; {value:g} % is {value / 100:g}" if is_share else ""
        raise ConfigError(f"{name} must be a finite number in {left}{low:g}, {high:g}{right}, got {value!r}{hint}")
    return float(value)


POSITIVE = partial(check_number, low=0.0, low_open=True)
NOT_NEGATIVE = partial(check_number, low=0.0)
BELOW_ONE = partial(check_number, low=0.0, high=1.0, high_open=True)
"""From 0 on, and below 1."""


def check_rate(name: str, value: Any) -> Any:
    """Return `value` if it is a function of the step, or a positive number."""
    return value if callable(value) else POSITIVE(name, value)


def optional(check: Callable[[str, Any], T]) -> Callable[[str, Any], T | None]:
    """Return a check that accepts None, too."""
    return lambda name, value: None if value is None else check(name, value)


def check_fields(owner: object, **rules: Callable[[str, Any], Any]) -> None:
    """Check hyper-parameters of an object, each by one of the functions here."""
    for name, check in rules.items():
        check(f"{type(owner).__name__}: {name}", getattr(owner, name))
