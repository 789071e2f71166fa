"""How an array lies in memory, in the terms of the libraries of matrix products."""

from __future__ import annotations

from xpnet.typing import Array


def layout(x: Array) -> tuple[int, int] | None:
    """Return (transposed, leading dimension) of a 2-D row-major array or a transposed view of one, else None."""
    size, (rows, columns), (down, across) = x.itemsize, x.shape, x.strides
    if (across == size or columns == 1) and (down >= columns * size and down % size == 0):
        return 0, down // size
    if (down == size or rows == 1) and (across >= rows * size and across % size == 0):
        return 1, across // size
    if rows == 1 and across == size:
        return 0, columns
    if columns == 1 and down == size:
        return 1, rows
    return None
