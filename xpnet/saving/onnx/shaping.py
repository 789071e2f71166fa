"""The same numbers in other shapes and orders, by the fewest nodes: what is undone again is never written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from xpnet.saving.onnx.graph import Dims, Graph, Value

END = np.iinfo(np.int64).max


def cast(g: Graph, x: Value, dtype: Any) -> Value:
    """Return numbers as another data type."""
    dtype = np.dtype(dtype)
    if x.dtype == dtype:
        return x
    if x.name in g.constants:
        return g.constant(g.constants[x.name].astype(dtype))
    return g.node("Cast", [x], x.shape, dtype, to=dtype.name)


def reshape(g: Graph, x: Value, shape: Dims) -> Value:
    """Return the same numbers in another shape."""
    if x.shape == shape:
        return x
    if x.name in g.constants:
        return g.constant(g.constants[x.name].reshape(shape))
    if before := g.maker(x, "Reshape"):
        return reshape(g, g.values[before.inputs[0]], shape)
    total = g.maker(x, "ReduceSum")
    if total and dict(total.attributes)["keepdims"]:
        source, axes = (g.values[name] for name in total.inputs)
        rest = tuple(n for k, n in enumerate(x.shape) if k not in g.constants[axes.name])
        if rest == shape:
            return g.node("ReduceSum", [source, axes], rest, x.dtype, keepdims=0)
    if selection := g.maker(x, "Gather"):
        table, rows = (g.values[name] for name in selection.inputs)
        if table.name in g.constants and shape[: len(rows.shape)] == rows.shape and selection.attributes[0][1] == 0:
            own = g.constants[table.name].reshape(table.shape[0], *shape[len(rows.shape) :])
            return g.node("Gather", [g.constant(own), rows], shape, x.dtype, axis=0)
    return g.node("Reshape", [x, g.integers(-1 if isinstance(n, str) else n for n in shape)], shape, x.dtype)


def transpose(g: Graph, x: Value, order: Sequence[int]) -> Value:
    """Return the axes in another order."""
    shape = tuple(x.shape[k] for k in order)
    if x.name in g.constants:
        return g.constant(g.constants[x.name].transpose(order))
    long = [k for k in order if x.shape[k] != 1]
    if long == sorted(long):
        return reshape(g, x, shape)
    if before := g.maker(x, "Transpose"):
        first = dict(before.attributes)["perm"]
        return transpose(g, g.values[before.inputs[0]], [first[k] for k in order])
    return g.node("Transpose", [x], shape, x.dtype, perm=tuple(order))


def expand(g: Graph, x: Value, shape: Dims) -> Value:
    """Return numbers repeated along axes; those that stay as long as they are need not be known."""
    if x.shape == shape:
        return x
    lead = len(shape) - len(x.shape)
    own = (1,) * lead + x.shape
    wanted = [1 if n == m else m for n, m in zip(own, shape, strict=True)]
    return g.node("Expand", [x, g.integers(wanted)], shape, x.dtype)


def part(g: Graph, x: Value, slices: Sequence[slice]) -> Value:
    """Return a part; a slice along each axis, with numbers from 0 on, except that a backward one may end at None."""
    cut = [k for k, s in enumerate(slices) if (s.start, s.stop, s.step) != (0, x.shape[k], 1)]
    if not cut:
        return x
    if x.name in g.constants:
        return g.constant(g.constants[x.name][tuple(slices)])
    shape = tuple(len(range(*s.indices(n))) for s, n in zip(slices, x.shape, strict=True))
    axis, one = cut[0], slices[cut[0]]
    if len(cut) == 1 and one.step == 1:
        if expanded := g.maker(x, "Expand"):
            source = g.values[expanded.inputs[0]]
            if source.shape[axis - len(x.shape) :][:1] in ((), (1,)):
                return expand(g, source, shape)
        if g.maker(x, "Concat") and len(pieces := _pieces(g, x, axis)) > 1:
            return concat(g, [*_within(g, pieces, axis, one)], axis)
        if selection := g.maker(x, "Gather"):
            table, rows = (g.values[name] for name in selection.inputs)
            if table.name in g.constants and len(rows.shape) == 1 and axis > 0 and selection.attributes[0][1] == 0:
                own = g.constants[table.name][(slice(None),) * axis + (one,)]
                return g.node("Gather", [g.constant(own), rows], shape, x.dtype, axis=0)
        source, start = _source(g, x, axis)
        if source is not x:
            whole = [slice(0, n, 1) for n in source.shape]
            whole[axis] = slice(start + one.start, start + one.stop, 1)
            return part(g, source, whole)
    numbers = [(s.start, -END if s.stop is None else s.stop, k, s.step) for k, s in enumerate(slices) if k in cut]
    return g.node("Slice", [x, *map(g.integers, zip(*numbers, strict=True))], shape, x.dtype)


def concat(g: Graph, values: Sequence[Value], axis: int) -> Value:
    """Return arrays one after another; parts of one array that follow each other are one part of it."""
    pieces: list[Value] = []
    for value in (piece for whole in values for piece in _pieces(g, whole, axis)):
        if not value.shape[axis]:
            continue
        before = _source(g, pieces[-1], axis) if pieces else (None, 0)
        source, start = _source(g, value, axis)
        if pieces and source == before[0] and before[1] + pieces[-1].shape[axis] == start and source is not value:
            whole = [slice(0, n, 1) for n in source.shape]
            whole[axis] = slice(before[1], start + value.shape[axis], 1)
            pieces[-1] = part(g, source, whole)
        else:
            pieces.append(value)
    if len(pieces) == 1:
        return pieces[0]
    shape = list(pieces[0].shape)
    shape[axis] = sum(piece.shape[axis] for piece in pieces)
    return g.node("Concat", pieces, tuple(shape), pieces[0].dtype, axis=axis)


def _pieces(g: Graph, x: Value, axis: int) -> list[Value]:
    """Return the arrays that are put one after another to `x`, or `x` itself."""
    node = g.maker(x, "Concat")
    return [g.values[name] for name in node.inputs] if node and dict(node.attributes)["axis"] == axis else [x]


def _within(g: Graph, pieces: Sequence[Value], axis: int, s: slice) -> Iterator[Value]:
    """Yield what a part of arrays that stand one after another sees of each."""
    begin = 0
    for piece in pieces:
        end = begin + piece.shape[axis]
        if s.start < end and s.stop > begin:
            slices = [slice(0, n, 1) for n in piece.shape]
            slices[axis] = slice(max(s.start - begin, 0), min(s.stop, end) - begin, 1)
            yield part(g, piece, slices)
        begin = end


def _source(g: Graph, x: Value, axis: int) -> tuple[Value, int]:
    """Return of what `x` is a part along this axis alone, and where that begins."""
    node = g.maker(x, "Slice")
    if node:
        start, _, axes, steps = (g.constants[name].tolist() for name in node.inputs[1:])
        if axes == [axis] and steps == [1]:
            return g.values[node.inputs[0]], start[0]
    return x, 0


def padded(g: Graph, x: Value, shape: Dims, slices: Sequence[slice], fill: Any) -> Value:
    """Return an array of `shape` that is `x` where the slices are, and one number elsewhere."""
    for axis, (s, length) in enumerate(zip(slices, shape, strict=True)):
        count, step = x.shape[axis], abs(s.step)
        if s.step < 0:
            backward = [slice(0, m, 1) for m in x.shape]
            backward[axis] = slice(count - 1, None, -1)
            x = part(g, x, backward)
        first = s.start if s.step > 0 else s.start + (count - 1) * s.step
        if step > 1 and count > 1:  # numbers between the numbers
            ahead, behind = x.shape[:axis], x.shape[axis + 1 :]
            x = _pad(g, reshape(g, x, (*ahead, count, 1, *behind)), axis + 1, 0, step - 1, fill)
            x = reshape(g, x, (*ahead, count * step, *behind))
            whole = [slice(0, m, 1) for m in x.shape]
            whole[axis] = slice(0, (count - 1) * step + 1, 1)
            x = part(g, x, whole)
        x = _pad(g, x, axis, first, length - first - x.shape[axis], fill)
    return x


def _pad(g: Graph, x: Value, axis: int, before: int, after: int, fill: Any) -> Value:
    if not before and not after:
        return x
    node = g.maker(x, "Pad")
    amounts = [0] * (2 * len(x.shape))
    amounts[axis], amounts[axis + len(x.shape)] = before, after
    shape = tuple(n + (before + after) * (k == axis) for k, n in enumerate(x.shape))
    number = g.constant(np.asarray(fill, x.dtype))
    if node and node.inputs[2] == number.name:  # along another axis, and by the same number
        amounts = (np.asarray(amounts) + g.constants[node.inputs[1]]).tolist()
        x = g.values[node.inputs[0]]
    return g.node("Pad", [x, g.integers(amounts), number], shape, x.dtype)
