"""Matrix products in tiles: what is one call of OpenBLAS is known by how large the factors are and how they lie.

OpenBLAS adds up in an order that depends on the size of the result and on its number of threads. Therefore everyone
cuts a product in the same way, into tiles of which each is done by one thread, as one product or as a sum of several:
whichever thread that is, and however many there are, the numbers are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from xpnet.backends.cpu.openblas import single
from xpnet.backends.cpu.threads import helpers

LEAST = 1 << 20
"""Multiplications of a tile of many columns at least: less is done before another thread has heard of it."""
TILES = 4
"""Such tiles at most."""
EDGE = 32
"""Tiles begin at multiples of this, which is one of the sizes of blocks in every OpenBLAS."""
SHARED = 1 << 25
"""Multiplications from which tiles are shared out to threads by Python, which takes some 30 microseconds."""
ALONE = 1 << 13
"""Multiplications up to which OpenBLAS takes one thread in any case."""

SMALL = 10**6
"""Multiplications up to which OpenBLAS's kernels for AVX-512 read factors where they lie, and need not copy them."""
WORTH = 64
"""Rows, or numbers to sum up, from which a small product is as fast as a large one where kernels copy factors."""
NARROW = 8
"""Rows and columns of a result from which it is cut into small products."""
HIGH, BROAD = 96, 128
"""The most rows of a tile, and the most columns of a result, that are the sum of several products."""
LONG = 128
"""Numbers that are summed up before they are added to what is there, in every OpenBLAS."""

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
    """Return the products that together are the product of two matrices: parts of them, and of the result.

    A tile may be a sum of several products, see `runs`.
    """
    (rows, columns), inner = out.shape, a.shape[1]
    step = _high(a, b)
    if step:
        starts = range(0, max(rows - 1, 1), step)  # one row more is no tile of its own, but belongs to the last
        return [(a[k:end], b, out[k:end]) for k, end in zip(starts, (*starts[1:], rows), strict=True)]
    count = max(1, min(TILES, rows * inner * columns // LEAST))
    if rows >= columns:
        return [(a[part], b, out[part]) for part in edges(rows, count, EDGE)]
    return [(a, b[:, part], out[:, part]) for part in edges(columns, count, EDGE)]


def _high(a: Any, b: Any) -> int:
    """Return how many rows of a product of few columns make a small one; 0 if it is not cut into such."""
    inner, columns = b.shape
    if not _is_large(a, b):
        return 0
    if _is_sum(a, b):
        return HIGH
    step = SMALL // (inner * columns) // EDGE * EDGE
    return step if step >= WORTH and columns <= 2 * inner else 0


def _is_large(a: Any, b: Any) -> bool:
    """Say whether a product is larger than a small one, of enough rows and columns, and of a matrix in one piece."""
    (rows, inner), columns = a.shape, b.shape[1]
    return bool(rows * inner * columns > SMALL and min(rows, columns) >= NARROW and b.flags.c_contiguous)


def _is_sum(a: Any, b: Any) -> bool:
    """Say whether a product is like that of a layer's inputs, transposed, and few deltas: a sum over many places."""
    return bool(a.strides[0] == a.itemsize and a.shape[1] > LONG and b.shape[1] <= BROAD)


def runs(a: Any, b: Any) -> list[tuple[Any, Any]]:
    """Return the factors of products that, added up in this order, are the product of two matrices.

    They are several where a gradient of few weights is the sum over many places. Of factors that lie in other ways the
    parts would lie far apart, and small products of them are slower.
    """
    (rows, inner), columns = a.shape, b.shape[1]
    step = min(SMALL // max(rows * columns, 1) // EDGE * EDGE, LONG)
    if step < WORTH or not (_is_large(a, b) and _is_sum(a, b)):
        return [(a, b)]
    starts = [*range(0, inner, step)]
    starts[-1] -= EDGE // 2 if inner - starts[-1] == 1 else 0  # a product of one column and one row is added otherwise
    return [(a[:, k:end], b[k:end]) for k, end in zip(starts, (*starts[1:], inner), strict=True)]


def work(a: Any, b: Any) -> int:
    """Return how many multiplications a product of matrices takes; of anything else it may be fewer."""
    return int(a.size) * int(b.shape[-1]) if b.ndim else 0


def product(a: Any, b: Any, out: Any, threads: int = 1) -> Callable[[], None]:
    """Return a call that writes the product of two matrices to `out`; it is made where OpenBLAS has one thread."""
    parts = [_tile(*tile) for tile in tiles(a, b, out)]
    if len(parts) == 1:
        return parts[0]
    if threads > 1 and work(a, b) >= SHARED:
        return partial(helpers.share, parts, min(threads, len(parts)) - 1)

    def in_turn() -> None:
        for part in parts:
            part()

    return in_turn


def _tile(a: Any, b: Any, out: Any) -> Callable[[], None]:
    """Return a call that writes the product of two matrices to `out` as the sum of its runs."""
    first, *others = runs(a, b)
    if not others:
        return partial(np.matmul, a, b, out=out)

    def summed() -> None:
        np.matmul(*first, out=out)
        for factors in others:
            np.add(out, np.matmul(*factors), out=out)

    return summed


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
