"""Views of a recorded array as operators: a part, its axes in another order, another shape, repeated along axes.

A view on a tape is a function of arrays. What it does is seen by what it does to an array without numbers, whose rows
lie one after another: from how far apart the numbers of the view are follows which of the axes each of its axes is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from xpnet.backends.tape.hollow import NOWHERE, Hollow
from xpnet.backends.tape.operators import View
from xpnet.saving.onnx import shaping
from xpnet.saving.onnx.graph import Graph, Value
from xpnet.typing import Shape

BYTE = np.dtype(np.uint8)


@dataclass(frozen=True)
class Sight:
    """What a view does: first a part, then its axes in another order, then their lengths.

    Attributes
    ----------
    before : tuple of int
        The shape of the array.
    slices : tuple of slice
        Which part of it.
    order : tuple of int
        Where each axis of the part comes from, but for repeated ones.
    plain : tuple of int
        The shape then, with axes of one number where numbers are repeated.
    after : tuple of int
        The shape of the view.
    """

    before: Shape
    slices: tuple[slice, ...]
    order: tuple[int, ...]
    plain: Shape
    after: Shape


def sight(view: View, before: Shape) -> Sight:
    """Return what a view of arrays of shape `before` does."""
    whole = Hollow(before, BYTE, NOWHERE)
    seen = view(whole)
    after, everything = seen.shape, tuple(slice(0, n, 1) for n in before)
    if seen.flags.c_contiguous and seen.size == prod(before):
        return Sight(before, everything, tuple(range(len(before))), after, after)
    far = [prod(before[k + 1 :]) for k in range(len(before))]
    offset = seen.ctypes.data - whole.ctypes.data
    starts = [offset // f % n for f, n in zip(far, before, strict=True)]
    slices = [slice(start, start + 1, 1) for start in starts]
    order: list[int] = []
    for n, stride in zip(after, seen.strides, strict=True):
        if n > 1 and stride:
            axis = next(k for k, f in enumerate(far) if before[k] > 1 and f <= abs(stride))
            step = stride // far[axis]
            stop = starts[axis] + (n - 1) * step + (1 if step > 0 else -1)
            slices[axis] = slice(starts[axis], None if stop < 0 else stop, step)
            order.append(axis)
    order += [axis for axis in range(len(before)) if axis not in order]
    plain = tuple(n if stride or n == 0 else 1 for n, stride in zip(after, seen.strides, strict=True))
    return Sight(before, tuple(slices), tuple(order), plain, after)


def look(g: Graph, x: Value, s: Sight) -> Value:
    """Return the view of `x`, which may have axes of one number where it is meant to be repeated."""
    if not (s.slices == whole(s.before) and s.order == tuple(range(len(s.before)))):
        x = shaping.part(g, x, [r if n > 1 else slice(0, n, 1) for r, n in zip(s.slices, x.shape, strict=True)])
        x = shaping.transpose(g, x, s.order)
    repeated = _repeated(x.shape, [_length(s.slices[k], s.before[k]) for k in s.order], s.plain)
    if repeated is None:
        x = shaping.expand(g, x, tuple(_length(s.slices[k], s.before[k]) for k in s.order))
    return shaping.reshape(g, x, s.plain if repeated is None else repeated)


def put(g: Graph, old: Value, new: Value, s: Sight) -> Value:
    """Return an array that is `new` where the view looks, and else the `old` one. Both are whole."""
    lengths = tuple(_length(r, n) for r, n in zip(s.slices, s.before, strict=True))
    ordered = shaping.reshape(g, new, tuple(lengths[k] for k in s.order))
    inner = shaping.transpose(g, ordered, np.argsort(s.order).tolist())
    cut = [k for k, (r, w) in enumerate(zip(s.slices, whole(s.before), strict=True)) if r != w]
    if not cut:
        return inner
    fill = g.number(old)
    if len(cut) == 1 and s.slices[cut[0]].step == 1:
        (axis,) = cut
        ends = [(0, s.slices[axis].start), (s.slices[axis].stop, s.before[axis])]
        ahead, behind = ([_piece(g, old, s.before, axis, *end)] if end[0] < end[1] else [] for end in ends)
        return shaping.concat(g, [*ahead, inner, *behind], axis)
    if fill is not None:
        return shaping.padded(g, inner, s.before, s.slices, fill)
    mask = np.zeros([n if k in cut else 1 for k, n in enumerate(s.before)], bool)
    mask[tuple(r if k in cut else slice(None) for k, r in enumerate(s.slices))] = True
    there = shaping.padded(g, inner, s.before, s.slices, 0)
    return g.node("Where", [g.constant(mask), there, old], s.before, old.dtype)


def _piece(g: Graph, old: Value, shape: Shape, axis: int, start: int, stop: int) -> Value:
    """Return a part along one axis of an array of `shape`, which may be one number."""
    if g.number(old) is not None:
        return shaping.expand(g, old, (*shape[:axis], stop - start, *shape[axis + 1 :]))
    slices = list(whole(shape))
    slices[axis] = slice(start, stop, 1)
    return shaping.part(g, old, slices)


def whole(shape: Shape) -> tuple[slice, ...]:
    """Return the slices that leave nothing out."""
    return tuple(slice(0, n, 1) for n in shape)


def _length(s: slice, n: int) -> int:
    return len(range(*s.indices(n)))


def _repeated(shape: Sequence[int], before: Sequence[int], after: Shape) -> Shape | None:
    """Return the shape of repeated numbers, which stand for `before`, where these are seen as `after`.

    None if they have to be whole for it: it is known where only axes of one number come or go.
    """
    if tuple(shape) == tuple(before):
        return after
    if all(n == 1 for n in shape):
        return (1,) * len(after)
    long = [n for n, m in zip(shape, before, strict=True) if m != 1]
    if [m for m in before if m != 1] != [m for m in after if m != 1]:
        return None
    rest = iter(long)
    return tuple(next(rest) if m != 1 else 1 for m in after)
