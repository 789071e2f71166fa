"""Runs of NumPy's elementwise functions, shared out to threads, which do all of them for a part of the numbers each.

An optimizer's update of a million parameters is a dozen functions, one after another over the same numbers. What
becomes of a number depends on no other, so the parts have the bits of the whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from xpnet.backends.cpu.parts import TOGETHER
from xpnet.backends.cpu.products import edges
from xpnet.backends.cpu.threads import helpers
from xpnet.backends.tape.loop import merged
from xpnet.backends.tape.space import steps_over
from xpnet.typing import HostArray

PART = 1 << 17
"""Numbers of a part at least. With fewer, one of Python's threads would be done before another has got its turn."""
CACHED = 1 << 15
"""The same for one thread alone: of so many numbers a cache still has what the function before has written."""

Function = Callable[..., Any]


def shared(steps: Sequence[tuple[Function, list[Any], HostArray]], threads: int) -> Callable[[], None] | None:
    """Return a call of functions of numbers, each with its operands and result, part by part.

    None where that is not worth it, or where the arrays do not lie in memory in one order.
    """
    size = steps[0][2].size
    if len(steps) == 1 or size < 2 * PART:
        return None
    made = [(function, _lines(operands, out)) for function, operands, out in steps]
    views = [view for _, own in made for view in own if isinstance(view, np.ndarray)]
    if any(view.shape != (size,) for view in views):
        return None
    if any(np.may_share_memory(a, b) and not _same(a, b) for a, b in itertools.combinations(views, 2)):
        return None
    count = size // (PART if threads > 1 else CACHED)
    every = [partial(_part, made, rows) for rows in edges(size, count, TOGETHER)]
    return partial(helpers.share, every, threads - 1)


def _lines(operands: list[Any], out: HostArray) -> list[Any]:
    """Return the operands, repeated over the result, and the result, as vectors if their axes can be one."""
    arrays = [a for a in (*operands, out) if isinstance(a, np.ndarray)]
    shape, steps = merged(out.shape, [steps_over(a, out.shape) for a in arrays])
    views = iter([np.lib.stride_tricks.as_strided(a, shape, own) for a, own in zip(arrays, steps, strict=True)])
    return [next(views) if isinstance(a, np.ndarray) else a for a in (*operands, out)]


def _same(a: HostArray, b: HostArray) -> bool:
    return a.ctypes.data == b.ctypes.data and a.strides == b.strides and a.itemsize == b.itemsize


def _part(steps: list[tuple[Function, list[Any]]], rows: slice) -> None:
    for function, views in steps:
        *operands, out = [a[rows] if isinstance(a, np.ndarray) else a for a in views]
        function(*operands, out=out)
