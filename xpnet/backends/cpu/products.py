"""Matrix products in tiles: which part of a result is one call of OpenBLAS is known by the shape alone.

OpenBLAS adds up in an order that depends on the size of the result and on its number of threads. Therefore everyone
cuts a product in the same way, into products of which each is done by one thread: whichever thread that is, and however
many there are, the numbers are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from xpnet.backends.cpu.openblas import single
from xpnet.backends.cpu.threads import helpers

LEAST = 1 << 20
"""Multiplications of a tile at least: a smaller product is done before another thread has heard of it."""
TILES = 4
EDGE = 32
"""Tiles begin at multiples of this, which is one of the sizes of blocks in every OpenBLAS."""
SHARED = 1 << 25
"""Multiplications from which tiles are shared out to threads by Python, which takes some 30 microseconds."""
ALONE = 1 << 13
"""Multiplications up to which OpenBLAS takes one thread in any case."""

Tile = tuple[Any, Any, Any]


def edges(size: int, count: int, multiple: int = 1) -> list[slice]:
    """Cut so many places into at most `count` parts that begin at multiples of a number; the last is the longest."""
    step = max(size // count // multiple, 1) * multiple
    starts = range(0, max(size - step, 0) + 1, step)[:count]
    return [slice(start, stop) for start, stop in zip(starts, (*starts[1:], size), strict=True)]


def cut(a: Any, b: Any) -> bool:
    """Say whether a product is one in tiles: that of two matrices of one data type."""
    return bool(a.ndim == b.ndim == 2 and a.dtype == b.dtype)


def tiles(a: Any, b: Any, out: Any) -> list[Tile]:
    """Return the products that together are the product of two matrices: parts of them, and of the result."""
    (rows, columns), inner = out.shape, a.shape[1]
    count = max(1, min(TILES, rows * inner * columns // LEAST))
    if rows >= columns:
        return [(a[part], b, out[part]) for part in edges(rows, count, EDGE)]
    return [(a, b[:, part], out[:, part]) for part in edges(columns, count, EDGE)]


def work(a: Any, b: Any) -> int:
    """Return how many multiplications a product of matrices takes; of anything else it may be fewer."""
    return int(a.size) * int(b.shape[-1]) if b.ndim else 0


def product(a: Any, b: Any, out: Any, threads: int = 1) -> Callable[[], None]:
    """Return a call that writes the product of two matrices to `out`; it is made where OpenBLAS has one thread."""
    parts = [partial(np.matmul, x, y, out=z) for x, y, z in tiles(a, b, out)]
    if len(parts) == 1:
        return parts[0]
    if threads > 1 and work(a, b) >= SHARED:
        return partial(helpers.share, parts, min(threads, len(parts)) - 1)

    def in_turn() -> None:
        for part in parts:
            part()

    return in_turn


def matmul(a: Any, b: Any, threads: int = 1) -> Any:
    """Return the matrix product; that of half precision by way of float32, as on a GPU, which is much faster, too."""
    if a.dtype == b.dtype == np.float16:
        return matmul(a.astype(np.float32), b.astype(np.float32), threads).astype(np.float16)
    if work(a, b) < ALONE:
        return np.matmul(a, b)
    with single():
        if not cut(a, b) or a.shape[1] != b.shape[0]:
            return np.matmul(a, b)
        out = np.empty((a.shape[0], b.shape[1]), a.dtype)
        product(a, b, out, threads)()
        return out
