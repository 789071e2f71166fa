"""Where each intermediate result of a recorded step lives, and what need not be computed or copied at all."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Set
from types import MappingProxyType
from typing import Any

import numpy as np

from xpnet.backends.tape.record import Buffer, Operation, Traced
from xpnet.typing import HostArray

Unit = list[Operation]  # operations done at once, by one loop; most units hold one operation


def inputs(op: Operation) -> list[Traced]:
    """Return the arrays that an operation reads; one that changes its target in place lists it too."""
    return op.reads


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


class Uses:
    """Which operations read and write a buffer, so that one need not look at all of them."""

    def __init__(self, operations: list[Operation]) -> None:
        self.makers: dict[int, int] = {}
        self.readers: dict[int, list[int]] = {}
        self._of: dict[int, list[tuple[int, Traced]]] = {}
        for i, op in enumerate(operations):
            self.makers.setdefault(id(op.target.buffer), i)
            for a in inputs(op):
                self.readers.setdefault(id(a.buffer), []).append(i)
            for a in (*inputs(op), op.target):
                self._of.setdefault(id(a.buffer), []).append((i, a))
        buffers = (uses[0][1].buffer for uses in self._of.values())
        self._given = [buffer for buffer in buffers if buffer.kind == "given"]

    def touched(self, a: Traced, first: int, last: int) -> bool:
        """Say whether an operation after `first` and before `last` reads or writes what `a` shows."""
        near = [a.buffer] if is_result(a) else [b for b in self._given if np.may_share_memory(b.array, a.array)]
        uses = (use for buffer in near for use in self._of[id(buffer)])
        return any(first < i < last and np.may_share_memory(other.array, a.array) for i, other in uses)


def write_in_place(operations: list[Operation]) -> tuple[list[Operation], dict[int, Traced]]:
    """Let an operation write straight to where its result is copied next.

    ``view[...] = matmul(a, b)`` needs no copy if nothing touches the view in between. Returns the operations
    that are left, and for the buffers of such results the place they share.
    """
    uses = Uses(operations)
    places: dict[int, Traced] = {}
    dropped: set[int] = set()
    for i, op in enumerate(operations):
        if op.kind != "copy" or is_result(op.target) or not inputs(op):
            continue
        source, target = inputs(op)[0], op.target
        if not is_result(source) or uses.readers[id(source.buffer)] != [i] or not _whole(source):
            continue
        if source.dtype != target.dtype or source.shape != target.shape or not target.array.flags.c_contiguous:
            continue
        maker = uses.makers[id(source.buffer)]
        read = inputs(operations[maker])
        if operations[maker].kind == "elementwise":
            read = [a for a in read if a.shape != target.shape]
        if any(np.may_share_memory(a.array, target.array) for a in read):
            continue
        if uses.touched(target, maker, i) or uses.touched(source, maker, i):
            continue
        places[id(source.buffer)] = target
        dropped.add(i)
    return [op for i, op in enumerate(operations) if i not in dropped], places


def outermost_first(a: HostArray) -> list[int]:
    """Return the axes of an array in the order in which they lie in memory."""
    return sorted(range(a.ndim), key=lambda axis: -abs(a.strides[axis]))


class Memory:
    """Gives buffers their arrays, and takes the memory of those that are no longer read.

    Results that are a thread's `own` get memory that no others get. The plan `before`, of the same step, which this one
    is going to replace, leaves its memory to it.
    """

    def __init__(self, own: Set[int] = frozenset(), before: Memory | None = None) -> None:
        self.own = own
        self._left = [] if before is None else sorted(before._taken, key=len)
        self._taken: list[HostArray] = []
        self._free: dict[tuple[bool, int], list[HostArray]] = {}
        self._owner: dict[int, HostArray] = {}
        self._of_thread: dict[int, HostArray] = {}
        self.arrays: dict[int, HostArray] = {}

    def place(self, buffer: Buffer) -> None:
        """Give `buffer` memory: what another has left, or new."""
        like = buffer.array
        size = max(like.nbytes, 1)
        free = self._free.get((id(buffer) in self.own, size))
        raw = free.pop() if free else self._take(size)
        self._owner[id(buffer)] = raw
        if id(buffer) in self.own:
            self._of_thread[id(buffer)] = raw
        # The axes lie in memory as they did when the step was recorded: sums depend on that order.
        order = outermost_first(like)
        flat = raw[: like.nbytes].view(like.dtype).reshape([like.shape[axis] for axis in order])
        self.arrays[id(buffer)] = flat.transpose(np.argsort(order)) if order else flat

    def _take(self, size: int) -> HostArray:
        """Return memory that is left from the plan before, or new."""
        found = bisect_left(self._left, size, key=len)
        self._taken.append(self._left.pop(found)[:size] if found < len(self._left) else np.zeros(size, dtype=np.uint8))
        return self._taken[-1]

    def release(self, buffer: Buffer) -> None:
        """Let others have the memory of `buffer`."""
        raw = self._owner.pop(id(buffer), None)
        if raw is not None:
            self._free.setdefault((id(buffer) in self.own, raw.nbytes), []).append(raw)

    def of_another_thread(self) -> Memory:
        """Return where all lies for another thread: the same, but for what is its own."""
        made, twins = Memory(self.own), dict[int, HostArray]()
        made.arrays = dict(self.arrays)
        for key, raw in self._of_thread.items():
            twin, a = twins.setdefault(id(raw), np.zeros_like(raw)), self.arrays[key]
            made.arrays[key] = np.ndarray(a.shape, a.dtype, twin.data, 0, a.strides)
        return made

    def resolve(self, a: Any) -> Any:
        """Return the array that a stand-in means in the replay."""
        if not isinstance(a, Traced):
            return a
        array = self.arrays.get(id(a.buffer), a.buffer.array)
        for view in a.path:
            array = view(array)
        return array


def assign(
    units: list[Unit], places: dict[int, Traced], inner: set[int], memory: Memory | None = None,
    in_place: Callable[[int], bool] = lambda unit: True, until: Mapping[int, int] = MappingProxyType({}),
) -> Memory:  # fmt: skip
    """Place every intermediate result, except those that live within one kernel (`inner`).

    `in_place` says of a unit, by its number, whether it may write over what it reads for the last time. A unit that is
    done beside others may not be done before the unit of the number `until` says; what is a thread's own is, for it.
    """
    memory = Memory() if memory is None else memory
    last: dict[int, int] = {}
    for i, unit in enumerate(units):
        for op in unit:
            for a in (*inputs(op), op.target):
                end = i if id(a.buffer) in memory.own else until.get(i, i)
                last[id(a.buffer)] = max(last.get(id(a.buffer), 0), end)
    later: dict[int, dict[int, Buffer]] = {}  # what units beside others read, by the unit that waits for them
    for i, unit in enumerate(units):
        reads = {id(a.buffer): a.buffer for op in unit for a in inputs(op) if is_result(a)}
        if i in until:
            later.setdefault(until[i], {}).update(reads)
        reads |= later.get(i, {})
        ending = {key: b for key, b in reads.items() if last[key] == i and key in memory._owner}
        targets = {id(op.target.buffer): op.target.buffer for op in unit if is_result(op.target)}
        early = ending if in_place(i) and _number_by_number(unit, ending) else {}
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
    memory._left = []  # of the plan before, what this one does not need
    return memory


def _number_by_number(unit: Unit, ending: dict[int, Buffer]) -> bool:
    """Say whether a unit may write over the inputs in `ending`: it reads each number before it writes there."""
    if len(unit) == 1 and unit[0].kind != "elementwise":
        return False
    read = [a for op in unit for a in inputs(op) if id(a.buffer) in ending]
    written = [op.target for op in unit]
    lie = {(a.shape, *outermost_first(a.array)) for a in (*read, *written)}
    return len(lie) == 1 and not any(a.path for a in (*read, *filter(is_result, written)))
