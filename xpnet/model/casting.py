"""Numbers in the network's data type: which of them are not finite, and which become others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xpnet.errors import DataError, PrecisionWarning, warn_user
from xpnet.model.frames import place
from xpnet.typing import HostArray


def first_bad(array: HostArray, first: int = 0) -> tuple[str, tuple[int, ...]] | None:
    """Return ("NaN" or "inf", (17, 3)) for the first non-finite entry, or None; rows are counted from `first`."""
    with np.errstate(all="ignore"):
        if array.dtype.kind != "f" or np.isfinite(array.sum()):  # one NaN or infinity poisons the sum
            return None
    for start in range(0, len(array), 1024):
        bad = ~np.isfinite(array[start : start + 1024])
        if bad.any():
            index = tuple(int(i) for i in np.argwhere(bad)[0])
            index = (index[0] + start, *index[1:])
            return ("NaN" if np.isnan(array[index]) else "inf"), (index[0] + first, *index[1:])
    return None  # the sum overflowed though every entry is finite


def check_finite(
    name: str, result: HostArray, given: HostArray, first: int = 0, columns: Sequence[str] = ()
) -> None:  # fmt: skip
    """Raise where `result`, which was made of `given`, is not finite; row `first` of the data is its first."""
    bad = first_bad(result, first)
    if bad is None:
        return
    kind, index = first_bad(given, first) or (None, bad[1])
    where, dtype = f"{name}{place(index, columns)}", result.dtype.name
    if kind is None:
        raise DataError(
            f"{where} is larger than {np.finfo(dtype).max:g}, the largest {dtype}; scale the data or use "
            "dtype='float64'"
        )
    raise DataError(f"{name} contains {kind}: {where} is not finite; remove or replace such values first")


def cast(
    name: str, array: HostArray, dtype: str, allow_nonfinite: bool, columns: Sequence[str] = (), first: int = 0
) -> HostArray:
    """Return `array` in the network's data type, C-contiguous, saying so if that changes numbers for good.

    Row `first` of the data is its first.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        result = np.ascontiguousarray(array, dtype=dtype)
    if not allow_nonfinite:
        check_finite(name, result, array, first, columns)
    if not np.can_cast(array.dtype, dtype) and result.size:
        _say_what_changed(name, array, result, columns, first)
    return result


def _say_what_changed(
    name: str, array: HostArray, result: HostArray, columns: Sequence[str], first: int
) -> None:  # fmt: skip
    """Warn where a number became another one: of rounding in the last of its digits, nothing is said.

    That is what the network's data type asks for, and every table of real numbers would come with a warning. But whole
    numbers from 2 ** 24 on, such as times and identities, lose the digits that tell them apart, and tiny ones become 0.
    """
    changed = (result == 0) & (array != 0)
    if max(result.max(), -result.min()) >= 2.0 / np.finfo(result.dtype).eps:
        with np.errstate(invalid="ignore"):
            lost = np.abs(result.astype(np.float64) - array) >= 0.5
        # From 2 ** 53 on float64 has no units either.
        changed |= lost & (np.abs(array) < 2.0**53) if array.dtype.kind == "f" else lost
    if changed.any():
        index = tuple(int(i) for i in np.argwhere(changed)[0])
        where = place((index[0] + first, *index[1:]), columns)
        warn_user(
            f"{name}{where} = {array[index]} becomes {result[index]:.10g} in the network's "
            f"{result.dtype}; scale or shift such numbers first, or build the network with dtype='float64'",
            PrecisionWarning,
        )
