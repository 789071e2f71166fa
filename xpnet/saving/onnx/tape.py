"""A recorded step as a graph: what changes arrays in place on the tape makes new values here."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backends.tape.functions import PLACE, Call, axes_of
from xpnet.backends.tape.fusion import loop_dtype
from xpnet.backends.tape.plan import without_dead
from xpnet.backends.tape.record import Buffer, Operation, Tape, Traced
from xpnet.saving.onnx import functions, shaping, views
from xpnet.saving.onnx.functions import NoOperator
from xpnet.saving.onnx.graph import Graph, Value
from xpnet.typing import Shape


class Translator:
    """Writes a tape to a graph.

    Parameters
    ----------
    g : Graph
    given : dict of Value
        What the arrays of the caller are at the beginning, by their names.
    tape : Tape
    """

    def __init__(self, g: Graph, tape: Tape, given: dict[str, Value]) -> None:
        self._g = g
        self._now = {id(tape.given[name].buffer): value for name, value in given.items()}
        self._tape = tape
        for op in without_dead(tape.operations):
            try:
                self._write(op)
            except NoOperator as error:
                error.operation = op
                raise

    def __getitem__(self, name: str) -> Value:
        """Return what an array of the caller is at the end, whole."""
        buffer = self._tape.given[name].buffer
        return self._whole(self._buffer(buffer), buffer.array.shape)

    def _buffer(self, buffer: Buffer) -> Value:
        """Return what is in a buffer now, perhaps with axes of one number where it is repeated."""
        if id(buffer) not in self._now:
            if buffer.kind == "result":  # made of nothing: what is in it does not matter
                self._now[id(buffer)] = self._g.constant(np.zeros((1,) * buffer.array.ndim, buffer.array.dtype))
            else:  # a constant, or an array that a layer has of its own
                self._now[id(buffer)] = self._constant(buffer.array)
        return self._now[id(buffer)]

    def _constant(self, array: Any) -> Value:
        array = np.asarray(array)
        if array.size and array.tobytes() == array.flat[0].tobytes() * array.size:
            array = array.flat[0].reshape((1,) * array.ndim)
        return self._g.constant(array)

    def _whole(self, x: Value, shape: Shape) -> Value:
        return shaping.expand(self._g, x, shape)

    def _read(self, a: Any) -> Any:
        """Return the value that a stand-in means now; Python's numbers are left as they are."""
        if type(a) is not Traced:
            return a
        if a.buffer.kind == "constant":
            return self._constant(a.array)
        value, shape = self._buffer(a.buffer), a.buffer.array.shape
        for view in a.path:
            done = views.sight(view, shape)
            value, shape = views.look(self._g, value, done), done.after
        return value

    def _full(self, a: Any) -> Value:
        """Return it with all its numbers."""
        return self._whole(self._read(a), a.array.shape)

    def _store(self, target: Traced, new: Value) -> None:
        """Let a buffer be new where the target looks at it."""
        new = shaping.cast(self._g, new, target.dtype)
        if not target.path:
            new = shaping.reshape(self._g, new, (1,) * (target.array.ndim - len(new.shape)) + new.shape)
            self._now[id(target.buffer)] = new
            return
        shape, done = target.buffer.array.shape, []
        for view in target.path:
            done.append(views.sight(view, shape))
            shape = done[-1].after
        new = self._whole(new, shape)
        before = [self._buffer(target.buffer)]
        for s in done[:-1]:
            before.append(views.look(self._g, before[-1], s))
        for old, s in zip(reversed(before), reversed(done), strict=True):
            covered = self._g.number(old) is not None
            new = views.put(self._g, old if covered else self._whole(old, s.before), new, s)
        self._now[id(target.buffer)] = new

    def _write(self, op: Operation) -> None:
        self._store(op.target, getattr(self, f"_{op.kind}")(op))

    def _elementwise(self, op: Operation) -> Value:
        operands, dtype = [self._read(o) for o in op.operands], loop_dtype(op)
        if dtype.kind not in "f" and op.target.dtype.kind == "f":
            dtype = op.target.dtype
        if op.function is np.add:
            for a, b in (operands, operands[::-1]):
                if isinstance(a, Value) and isinstance(b, Value) and a.dtype == b.dtype == dtype:
                    summed = functions.added(self._g, a, b, dtype)
                    if summed is not None:
                        return summed
        return functions.elementwise(self._g, op.function.__name__, operands, dtype)

    def _copy(self, op: Operation) -> Value:
        (x,) = op.operands
        return self._read(x) if type(x) is Traced else self._g.constant(np.asarray(x).astype(op.target.dtype))

    def _matmul(self, op: Operation) -> Value:
        a, b = op.operands
        if a.shape[:-1] == (1,) and b.array.ndim == 2 and self._g.number(self._read(a)) == 1:  # a row of ones adds up
            return functions.reduced(self._g, "add", self._full(b), (0,), True, b.dtype)
        return functions.product(self._g, *map(self._full, op.operands))

    def _reduce(self, op: Operation) -> Value:
        axis, dtype, keepdims = op.options
        (x,) = op.operands
        return functions.reduced(self._g, op.function.__name__, self._full(x), axes_of(x, axis), keepdims, dtype)

    def _take(self, op: Operation) -> Value:
        arrays = [*map(self._full, op.operands)]
        return functions.called(self._g, "take", arrays, {"axis": op.options[0]}, op.target.shape, op.target.dtype)

    def _where(self, op: Operation) -> Value:
        condition, *others = (self._read(o) for o in op.operands)
        dtype = op.target.dtype
        values = [
            shaping.cast(self._g, o, dtype) if isinstance(o, Value) else self._g.constant(np.asarray(o).astype(dtype))
            for o in others
        ]
        shape = np.broadcast_shapes(condition.shape, *(v.shape for v in values))
        return self._g.node("Where", [condition, *values], shape, dtype)

    def _other(self, op: Operation) -> Value:
        arrays = [self._full(o) if type(o) is Traced else self._g.constant(np.asarray(o)) for o in op.operands]
        function, arguments, options = op.function, (PLACE,) * len(arrays), {}
        if isinstance(function, Call):
            arguments, options = function.arguments, function.options
        rest = iter(arrays)
        given = [next(rest) if a is PLACE else a for a in arguments]
        return functions.called(self._g, function.__name__, given, options, op.target.shape, op.target.dtype)
