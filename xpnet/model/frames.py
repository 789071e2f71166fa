"""Tables with named columns, of pandas, polars and Arrow, as arrays; by what they can do, none of them is imported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnet.errors import DTypeError
from xpnet.typing import HostArray


def columns_of(a: Any) -> list[tuple[str, Any]]:
    """Return the name and the values of each column; nothing for what is no table."""
    if hasattr(a, "iloc") and hasattr(a, "columns"):  # pandas, where names may occur twice
        return [(str(name), a.iloc[:, k]) for k, name in enumerate(a.columns)]
    if hasattr(a, "get_columns"):  # polars
        return [(str(column.name), column) for column in a.get_columns()]
    if hasattr(a, "column_names") and hasattr(a, "column"):  # Arrow
        return [(str(name), a.column(k)) for k, name in enumerate(a.column_names)]
    return []


def as_numbers(name: str, a: Any, array: HostArray) -> HostArray:
    """Return what NumPy made of a table or of one column, or numbers where that is an array of objects without need.

    Booleans beside numbers, and whole numbers that may be missing, become numbers; missing ones NaN.

    Raises
    ------
    DTypeError
        A column has something else, such as text or categories; the message names it.
    """
    columns = columns_of(a)
    if array.dtype.kind in "biufc" and not any(_is_time(column) for _, column in columns):
        return array
    if not columns:
        return _numbers(a, array)
    values = [_numbers(column, np.asarray(column)) for _, column in columns]
    bad = [k for k, value in enumerate(values) if value.dtype.kind not in "biuf" or value.ndim != 1]
    if bad:
        label, column = columns[bad[0]]
        dtype = getattr(column, "dtype", None) or column.type
        more = f" (and {len(bad) - 1} more such columns)" if len(bad) > 1 else ""
        pandas, polars = f"pandas.get_dummies({name}, columns=[{label!r}])", f"{name}.to_dummies([{label!r}])"
        way = polars if hasattr(a, "to_dummies") else pandas
        raise DTypeError(
            f"{name}: column {label!r} has dtype {dtype}{more}; expected booleans, integers or real numbers. "
            f"Make numbers of it, e.g. {way} for classes, or drop it"
        )
    return np.stack(values, axis=1)


def _is_time(column: Any) -> bool:
    """Say whether a column holds times or dates, which polars makes numbers of without being asked."""
    return np.asarray(column[:0]).dtype.kind in "mM"


def _numbers(column: Any, array: HostArray) -> HostArray:
    """Return a column as numbers, if the table says that it consists of some."""
    if array.dtype.kind != "O":
        return array
    if hasattr(column, "to_numpy") and getattr(getattr(column, "dtype", None), "kind", "O") in ("b", "i", "u", "f"):
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))  # pandas's types with missing values
    if array.ndim != 1 or isinstance(column, np.ndarray | Sequence):
        return array
    if all(value is None or isinstance(value, bool) for value in array):  # booleans with gaps, of polars and Arrow
        return np.asarray(array, dtype=np.float64)
    return array


def place(index: Sequence[int], columns: Sequence[str]) -> str:
    """Return where an entry is: its row and the name of its column, if it has one.

    >>> place([1, 0], ["age", "city"])
    "[1, 'age']"
    """
    if len(columns) and len(index) == 2:
        return f"[{index[0]}, {columns[index[1]]!r}]"
    return str(list(index))
