"""What stands for samples: arrays in memory, or what is read as slices of rows."""

from __future__ import annotations

import os
import sys
from typing import Any

import array_api_compat
import numpy as np

from xpnet.model.columns import ArrowRows
from xpnet.model.rows import MappedRows, Rows


def rows_of(data: Any) -> Rows | None:
    """Return `data` as rows to be read, or None if it lies in memory, on the host or a device, or is none of these."""
    if isinstance(data, Rows):
        return data
    if isinstance(data, np.memmap) and data.ndim:
        named = data.filename is not None and os.path.exists(data.filename)
        return MappedRows(data) if named and not data.dtype.hasobject else None
    arrow = sys.modules.get("pyarrow")
    if arrow is not None and isinstance(data, arrow.Table | arrow.RecordBatch | arrow.ChunkedArray | arrow.Array):
        return ArrowRows(data)
    if isinstance(data, np.ndarray | np.generic) or array_api_compat.is_array_api_obj(data):
        return None
    if hasattr(data, "toarray") or hasattr(data, "iloc"):  # sparse matrices are refused, data frames are arrays
        return None
    if not all(hasattr(data, name) for name in ("shape", "dtype", "__getitem__")):
        return None
    try:
        return Rows(data) if len(data.shape) else None
    except TypeError:  # the data type is not one of NumPy's: it may become an array all the same
        return None


def in_memory(data: Any) -> Any:
    """Return rows that lie elsewhere as an array on the host, and everything else as it is."""
    rows = rows_of(data)
    return data if rows is None else rows.all()
