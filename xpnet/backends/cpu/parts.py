"""Operations cut into parts that may be done at the same time, by any thread, with the bits of the whole.

Products are cut as they are everywhere. Of other operations no sum is cut, so that the number of parts may depend on
that of the threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backends.cpu.products import cut, edges, tiles
from xpnet.backends.tape.loop import merged
from xpnet.backends.tape.space import steps_over
from xpnet.typing import HostArray

Part = tuple[list[Any], HostArray]

LEAST = 1 << 14
"""Numbers of a part at least: fewer are done before another thread has begun."""
SEVERAL = 4
"""Parts for each thread, so that one that is held up takes fewer."""
TOGETHER = 1024
"""A run of numbers is cut at multiples of this: the instructions of processors take several, counted from its start."""


def count(numbers: int, threads: int) -> int:
    """Return into how many parts so many numbers are best cut."""
    return max(1, min(SEVERAL * threads, numbers // LEAST)) if threads > 1 else 1


def parts(kind: str, options: Any, operands: list[Any], out: HostArray, threads: int) -> list[Part]:
    """Return the operands and results of the parts of an operation."""
    if kind in ("matmul", "adding"):
        a, b, *_ = operands
        if "tiles" not in options or not cut(a, b):
            return [(operands, out)]
        return [([x, y, z] if kind == "adding" else [x, y], z) for x, y, z in tiles(a, b, out)]
    several = count(max(operands[0].size if kind == "reduce" else 0, out.size), threads)
    if several == 1:
        return [(operands, out)]
    if kind == "elementwise":
        return _of_runs(operands, out, several)
    if kind == "reduce":
        return _of_sums(operands[0], options[0], out, several)
    if kind == "take" and options[0] == 0 and out.ndim:
        return [([operands[0], operands[1][rows]], out[rows]) for rows in edges(len(out), several)]
    return [(operands, out)]


def _of_runs(operands: list[Any], out: HostArray, several: int) -> list[Part]:
    shape, steps = merged(out.shape, [steps_over(a, out.shape) for a in (*operands, out)])
    views = [np.lib.stride_tricks.as_strided(a, shape, s) for a, s in zip((*operands, out), steps, strict=True)]
    cuts = edges(shape[0], several, TOGETHER if len(shape) == 1 else 1)
    return [([a[rows] for a in views[:-1]], views[-1][rows]) for rows in cuts]


def _of_sums(a: HostArray, axis: Any, out: HostArray, several: int) -> list[Part]:
    along = {k % a.ndim for k in (range(a.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,))}
    whole = out if out.ndim == a.ndim else np.expand_dims(out, tuple(along))
    kept = [k for k in range(a.ndim) if k not in along and a.shape[k] > 1]
    if not kept:
        return [([a], out)]
    outermost = max(kept, key=lambda k: abs(a.strides[k]))
    places = [(slice(None),) * outermost + (rows,) for rows in edges(a.shape[outermost], several)]
    return [([a[place]], whole[place]) for place in places]
