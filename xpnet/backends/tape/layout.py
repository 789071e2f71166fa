"""How an array lies in memory, in the terms of the libraries of matrix products."""

from __future__ import annotations

import numpy as np

from xpnet.typing import Array, HostArray


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


def example(rng: np.random.Generator, char: str, shape: tuple[int, ...], strides: tuple[int, ...]) -> HostArray:
    """Return an array of random numbers that lie in memory in this way."""
    moves = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
    below, above = -sum(m for m in moves if m < 0), sum(m for m in moves if m > 0)
    memory = np.zeros(below + above + np.dtype(char).itemsize, np.uint8)
    made: HostArray = np.ndarray(shape, char, memory.data, below, strides)
    made[...] = rng.normal(size=shape)
    return made
