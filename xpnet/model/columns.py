"""Columns of Arrow tables and of Parquet files, as rows of numbers; pyarrow is asked for when they come."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np

from xpnet.errors import ConfigError, DataError, DTypeError
from xpnet.keywords import Named
from xpnet.model.rows import Rows
from xpnet.typing import HostArray, Shape


def _layout(name: str, kind: Any) -> tuple[Shape, np.dtype[Any]]:
    """Return the shape of one entry of an Arrow type, and the data type of its numbers."""
    shape: list[int] = []
    while getattr(kind, "list_size", -1) >= 0:
        shape.append(kind.list_size)
        kind = kind.value_type
    try:
        dtype = np.dtype(kind.to_pandas_dtype())
    except (NotImplementedError, TypeError):
        dtype = np.dtype(object)
    if dtype.kind not in "biuf":
        raise DTypeError(f"column {name!r} is of type {kind}; expected numbers, or lists of numbers of a fixed size")
    return tuple(shape), dtype


def _values(name: str, column: Any, shape: Shape, dtype: np.dtype[Any]) -> HostArray:
    """Return the numbers of a column, an array for each entry."""
    parts = []
    for chunk in getattr(column, "chunks", [column]):
        if chunk.null_count:
            raise DataError(f"column {name!r} has {chunk.null_count} nulls; fill or remove them first")
        for _ in shape:
            chunk = chunk.flatten()  # but not what is beyond the slice
        if chunk.null_count:
            raise DataError(f"column {name!r} has {chunk.null_count} nulls within lists; fill or remove them first")
        parts.append(chunk.to_numpy(zero_copy_only=False))
    whole = np.concatenate(parts) if parts else np.zeros(0, dtype)
    return whole.reshape(whole.size // prod(shape), *shape)


class ArrowRows(Rows):
    """An array, a column, a table or a batch of records of pyarrow.

    Columns of numbers become those of a matrix; a single column of lists of a fixed size becomes an array of them.
    """

    def __init__(self, data: Any) -> None:
        if hasattr(data, "columns"):
            self._take(len(data), data.schema, data.schema.names, False)
        else:
            self._take(len(data), SimpleNamespace(field=lambda name: data), ["values"], True)
        self.data = data

    def _take(self, rows: int, schema: Any, names: Sequence[str], single: bool) -> None:
        """Keep which columns there are and what they make together."""
        if not names:
            raise DataError("the table has no columns")
        self.names, self.layouts = names, [_layout(name, schema.field(name).type) for name in names]
        shapes = {shape for shape, _ in self.layouts}
        self.stacked = not single and (len(names) > 1 or shapes == {()})
        if len(names) > 1 and shapes != {()}:
            raise DTypeError(f"the columns {', '.join(names)} have entries of different kinds; give one of them a turn")
        tail = (len(names),) if self.stacked else self.layouts[0][0]
        self.shape, self.dtype, self.unit = (rows, *tail), np.result_type(*(dtype for _, dtype in self.layouts)), 1

    def read(self, start: int, stop: int) -> HostArray:
        return self._numbers(self.data.slice(start, stop - start), stop - start)

    def _numbers(self, data: Any, rows: int) -> HostArray:
        columns = data.columns if hasattr(data, "columns") else [data]
        arrays = [_values(n, c, *w) for n, c, w in zip(self.names, columns, self.layouts, strict=True)]
        whole = np.stack(arrays, axis=1) if self.stacked else arrays[0]
        if len(whole) != rows:
            raise EOFError(f"{rows} rows were asked for, {len(whole)} came")
        return whole.astype(self.dtype, copy=False)


class Parquet(Named, ArrowRows):
    """Columns of a Parquet file, read a few groups of rows at a time; needs the package pyarrow.

    Takes the place of an array in `Network.fit`, `predict` and `evaluate`, which never have the file in memory as a
    whole. The groups of rows should be small against the memory that there is.

    Parameters
    ----------
    path : path
    columns : str or sequence of str
        A name stands for the column itself, of numbers (N,) or of lists of a fixed size (N, L). Several names stand for
        a matrix (N, number of names).

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype

    Raises
    ------
    ConfigError
        pyarrow is not installed, or there is no such column.
    DTypeError
        A column does not hold numbers.
    """

    def __init__(self, path: str | os.PathLike[str], columns: str | Sequence[str]) -> None:
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise ConfigError("xpnet.Parquet needs pyarrow, which is not installed: pip install pyarrow") from error
        single = isinstance(columns, str)
        names = [columns] if isinstance(columns, str) else [*columns]
        self.data: Any = parquet.ParquetFile(path)
        known = self.data.schema_arrow.names
        if unknown := [name for name in names if name not in known]:
            raise ConfigError(f"{os.fspath(path)!r} has no columns {unknown}; there are {', '.join(known)}")
        metadata = self.data.metadata
        self._take(metadata.num_rows, self.data.schema_arrow, names, single)
        sizes = [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)]
        self._ends = np.cumsum([0, *sizes])
        self.unit = max([1, *sizes[:1]])

    def read(self, start: int, stop: int) -> HostArray:
        if stop <= start:
            return np.zeros((0, *self.shape[1:]), self.dtype)
        first, last = (int(np.searchsorted(self._ends, row, "right")) - 1 for row in (start, stop - 1))
        table = self.data.read_row_groups([*range(first, last + 1)], columns=self.names, use_threads=False)
        part = table.select(self.names).slice(start - int(self._ends[first]), stop - start)
        return self._numbers(part, stop - start)
