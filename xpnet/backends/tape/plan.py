"""From a recorded step to a list of calls: where each intermediate result lives, and what can be one kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from xpnet.backends.tape.record import Buffer, Operation, Tape, Traced
from xpnet.typing import HostArray

Unit = list[Operation]  # operations done by one kernel; most units hold one operation


def inputs(op: Operation) -> list[Traced]:
    """Return the arrays that an operation reads; one that changes its target in place lists it too."""
    return [o for o in op.operands if isinstance(o, Traced)]


def is_result(a: Traced) -> bool:
    """Say whether `a` is (a view of) an intermediate result, which the plan may place."""
    return a.buffer.kind == "result"


def without_dead(operations: list[Operation]) -> list[Operation]:
    """Drop operations whose results nobody reads."""
    kept: list[Operation] = []
    read: set[int] = set()
    for op in reversed(operations):
        if is_result(op.target) and id(op.target.buffer) not in read:
            continue
        read.update(id(a.buffer) for a in inputs(op))
        kept.append(op)
    return kept[::-1]


def _whole(a: Traced) -> bool:
    """Say whether `a` is all of its buffer, in order, perhaps in another shape."""
    return a.array.size == a.buffer.array.size and a.array.flags.c_contiguous and a.buffer.array.flags.c_contiguous


def write_in_place(operations: list[Operation]) -> tuple[list[Operation], dict[int, Traced]]:
    """Let an operation write straight to where its result is copied next.

    ``view[...] = matmul(a, b)`` needs no copy if nothing touches the view in between. Returns the operations
    that are left, and for the buffers of such results the place they share.
    """
    readers: dict[int, list[int]] = {}
    makers: dict[int, int] = {}
    for i, op in enumerate(operations):
        for a in inputs(op):
            readers.setdefault(id(a.buffer), []).append(i)
        makers.setdefault(id(op.target.buffer), i)
    places: dict[int, Traced] = {}
    dropped: set[int] = set()
    for i, op in enumerate(operations):
        if op.kind != "copy" or is_result(op.target) or not inputs(op):
            continue
        source, target = inputs(op)[0], op.target
        if not is_result(source) or readers[id(source.buffer)] != [i] or not _whole(source):
            continue
        if source.dtype != target.dtype or source.shape != target.shape or not target.array.flags.c_contiguous:
            continue
        maker = makers[id(source.buffer)]
        touched = [a for between in operations[maker + 1 : i] for a in (*inputs(between), between.target)]
        if operations[maker].kind != "elementwise":
            touched += inputs(operations[maker])
        else:
            touched += [a for a in inputs(operations[maker]) if a.shape != target.shape]
        if any(a.buffer is source.buffer or np.may_share_memory(a.array, target.array) for a in touched):
            continue
        places[id(source.buffer)] = target
        dropped.add(i)
    return [op for i, op in enumerate(operations) if i not in dropped], places


class Memory:
    """Gives buffers their arrays, and takes the memory of those that are no longer read."""

    def __init__(self) -> None:
        self._free: dict[int, list[HostArray]] = {}
        self._owner: dict[int, HostArray] = {}
        self.arrays: dict[int, HostArray] = {}
        self.own: set[int] = set()  # buffers placed here, not in an array of the caller

    def place(self, buffer: Buffer) -> None:
        """Give `buffer` memory: what another has left, or new."""
        like = buffer.array
        size = max(like.nbytes, 1)
        free = self._free.get(size)
        raw = free.pop() if free else np.zeros(size, dtype=np.uint8)
        self._owner[id(buffer)] = raw
        self.own.add(id(buffer))
        # The axes lie in memory as they did when the step was recorded: sums depend on that order.
        order = sorted(range(like.ndim), key=lambda axis: -abs(like.strides[axis]))
        flat = raw[: like.nbytes].view(like.dtype).reshape([like.shape[axis] for axis in order])
        self.arrays[id(buffer)] = flat.transpose(np.argsort(order)) if order else flat

    def release(self, buffer: Buffer) -> None:
        """Let others have the memory of `buffer`."""
        raw = self._owner.pop(id(buffer), None)
        if raw is not None:
            self._free.setdefault(raw.nbytes, []).append(raw)

    def resolve(self, a: Any) -> Any:
        """Return the array that a stand-in means in the replay."""
        if not isinstance(a, Traced):
            return a
        array = self.arrays.get(id(a.buffer), a.buffer.array)
        for view in a.path:
            array = view(array)
        return array


def assign(
    units: list[Unit], places: dict[int, Traced], inner: set[int], memory: Memory | None = None
) -> Memory:  # fmt: skip
    """Place every intermediate result, except those that live within one kernel (`inner`)."""
    memory = Memory() if memory is None else memory
    last: dict[int, int] = {}
    for i, unit in enumerate(units):
        for op in unit:
            for a in (*inputs(op), op.target):
                last[id(a.buffer)] = i
    for i, unit in enumerate(units):
        reads = {id(a.buffer): a.buffer for op in unit for a in inputs(op) if is_result(a)}
        ending = {key: b for key, b in reads.items() if last[key] == i and key in memory._owner}
        targets = {id(op.target.buffer): op.target.buffer for op in unit if is_result(op.target)}
        early = ending if _number_by_number(unit, ending) else {}
        for buffer in early.values():
            memory.release(buffer)
        for key, buffer in targets.items():
            if key in inner or key in memory.arrays:
                continue
            if key in places:
                memory.arrays[key] = memory.resolve(places[key]).reshape(buffer.array.shape)
            else:
                memory.place(buffer)
        for buffer in (*ending.values(), *targets.values()):
            if last[id(buffer)] == i and id(buffer) not in early:
                memory.release(buffer)
    return memory


def _number_by_number(unit: Unit, ending: dict[int, Buffer]) -> bool:
    """Say whether a unit may write over the inputs in `ending`: it reads each number before it writes there."""
    if len(unit) == 1 and unit[0].kind != "elementwise":
        return False
    read = [a for op in unit for a in inputs(op) if id(a.buffer) in ending]
    return not any(a.path for a in read) and len({a.shape for a in (*read, *(op.target for op in unit))}) == 1


def scalar(value: Any, op: Operation) -> Any:
    """Return a Python number as a 0-d array of the data type that NumPy would give it beside the arrays."""
    arrays = inputs(op)
    if isinstance(value, bool | int | float) and arrays and type(value) is not bool:
        dtype = np.result_type(*(a.dtype for a in arrays), value)
        return np.asarray(value, dtype=dtype)
    return value


SMALL = 1024
"""Entries of a factor below which the call of a product takes longer than its arithmetic."""


def resolved(op: Operation, memory: Memory) -> tuple[list[Any], HostArray]:
    """Return an operation's operands and target as they lie in the replay."""
    operands = [memory.resolve(o) if isinstance(o, Traced) else scalar(o, op) for o in op.operands]
    return operands, memory.resolve(op.target)


def call(op: Operation, memory: Memory) -> Callable[[], Any]:
    """Return a call without arguments that does one operation."""
    operands, out = resolved(op, memory)
    if op.kind == "matmul" and out.flags.c_contiguous and all(a.ndim == 2 and a.size < SMALL for a in operands):
        return partial(np.dot, *operands, out)  # the same product, called in half the time
    if op.kind in ("elementwise", "matmul"):
        return partial(op.function, *operands, out=out)
    if op.kind == "reduce":
        axis, dtype, keepdims = op.options
        return partial(op.function.reduce, operands[0], axis, dtype, out, keepdims)
    if op.kind == "take":
        return partial(operands[0].take, operands[1], op.options[0], out, "wrap")
    if op.kind == "copy":
        return partial(np.copyto, out, operands[0], "unsafe")
    if op.kind == "where":
        return partial(_store, np.where, operands, out)
    return partial(_store, op.function, operands, out)


def _store(function: Any, operands: list[Any], out: HostArray) -> None:
    out[...] = function(*operands)


def plan(tape: Tape, native: bool = False) -> list[Callable[[], Any]]:
    """Return the calls that replay the tape: one of NumPy's for each operation, or kernels where they serve."""
    operations, places = write_in_place(without_dead(tape.operations))
    if not native:
        memory = assign([[op] for op in operations], places, set())
        return [call(op, memory) for op in operations]
    from xpnet.backends.cpu.borrowed import pieces
    from xpnet.backends.cpu.chain import Chain, Piece
    from xpnet.backends.cpu.llvm import kernel
    from xpnet.backends.tape.fusion import alone, group

    units = group(operations, places)
    inner = _inner(units, places)
    memory = assign(units, places, inner)
    calls: list[Callable[[], Any]] = []
    run: list[Piece] = []
    for unit in units:
        made = [kernel(unit, memory, inner)] if len(unit) > 1 or alone(unit[0], places) else pieces(unit[0], memory)
        if made is not None:
            run += made
            continue
        if run:
            calls.append(Chain(run))
            run = []
        calls.append(call(unit[0], memory))
    return [*calls, Chain(run)] if run else calls


def _inner(units: Iterable[Unit], places: dict[int, Traced]) -> set[int]:
    """Return the buffers that only one kernel writes and reads: they stay in its registers."""
    where: dict[int, set[int]] = {}
    for i, unit in enumerate(units):
        for op in unit:
            for a in (*inputs(op), op.target):
                if is_result(a):
                    where.setdefault(id(a.buffer), set()).add(i if len(unit) > 1 else -1 - i)
    return {key for key, found in where.items() if len(found) == 1 and min(found) >= 0 and key not in places}
