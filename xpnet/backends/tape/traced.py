"""What is on a tape: operations, the memory that they work on, and arrays that stand in while a step is recorded."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

import numpy as np

from xpnet.backends.tape.hollow import NOWHERE, Hollow, small, strides_like
from xpnet.backends.tape.operators import CannotRecord, NotRepeated, Operators, View
from xpnet.typing import HostArray, Shape

EMPTY = object()
UNREAD = 1 << 26
"""Bytes of zeros that are asked for at a time: of so large a piece there are only those pages that are used."""


@dataclass(eq=False, repr=False)
class Buffer:
    """A piece of memory: an array of the caller or of a layer ("given"), a constant, or an intermediate result.

    A result's `array` is hollow: it says how the result will lie in memory. `number` counts the buffers of a tape;
    `single` says that it is one of NumPy's numbers, which are no arrays. `fill` is what a constant consists of, if it
    was made of one number; EMPTY if it was left to chance.
    """

    array: HostArray
    kind: str = "result"
    number: int = 0
    single: bool = False
    fill: Any = None


class Traced(Operators):
    """Stands in for an array while a step is recorded: a buffer, and the view of it that is meant."""

    __slots__ = ("array", "buffer", "path", "tape")
    tape: Tape
    buffer: Buffer

    def __init__(self, tape: Tape, buffer: Buffer, path: tuple[View, ...], array: HostArray) -> None:
        self.tape, self.buffer, self.path, self.array = tape, buffer, path, array


@dataclass(eq=False, repr=False)
class Operation:
    """One recorded call. `kind` says how the replay calls it; `target` is where the result goes."""

    kind: str  # "elementwise", "matmul", "reduce", "take", "copy", "where", "other"
    function: Any
    operands: list[Any]  # Traced arrays and Python numbers
    target: Traced
    options: tuple[Any, ...] = ()

    @functools.cached_property
    def reads(self) -> list[Traced]:
        """The arrays that are read; of one that is changed in place, too."""
        return [o for o in self.operands if type(o) is Traced]

    def touched(self) -> list[Traced]:
        """Return the arrays that are read, and the one that is written."""
        return [*self.reads, self.target]

    def facts(self) -> Any:
        """Return what has to be the same in another recording: calls, numbers, places, and constants by value."""
        function = repr(self.function) if self.kind == "other" else self.function
        return self.kind, function, self.options, [*map(_facts, (*self.operands, self.target))]


def _facts(a: Any) -> Any:
    if type(a) is not Traced:
        return repr(a)
    x, buffer = a.array, a.buffer
    content = x.tobytes() if buffer.kind in ("constant", "changed") and buffer.fill is None else repr(buffer.fill)
    place = x.ctypes.data - buffer.array.ctypes.data if a.path else 0
    return buffer.number, x.dtype, x.shape, x.strides, place, content


class Tape:
    """The operations of one step, in order.

    Parameters
    ----------
    array_type : type, of what is stood in for
    before : Tape, optional
        Another recording of the same step, which this one has to repeat.

    Attributes
    ----------
    operations : list of Operation
    given : dict of Traced, the caller's arrays by name
    refused : CannotRecord, optional
        Why the step cannot be recorded, even if it has caught the exception itself.
    """

    def __init__(self, array_type: type = np.ndarray, before: Tape | None = None) -> None:
        self.operations: list[Operation] = []
        self.given: dict[str, Traced] = {}
        self.refused: CannotRecord | None = None
        self.on_host, self.array_type, self.array_types = array_type is np.ndarray, array_type, (np.ndarray, array_type)
        self._before = before
        self._owned: dict[Any, tuple[Traced, bytes]] = {}
        self._buffers = self._size = 0
        self._unread: HostArray = np.zeros(0, np.uint8)

    def refuse(self, reason: str, kind: type[CannotRecord] = CannotRecord) -> NoReturn:
        """Give up for good: a step may catch what is raised here, but it is remembered."""
        error = kind(reason)
        self.refused = self.refused or error
        raise error

    def stand_in(self, array: Any) -> Traced:
        """Return a stand-in for an array of the caller."""
        if not self.on_host:
            if not array.flags.c_contiguous:
                self.refuse("an array of the step is not contiguous")
            array = self._hollow(array.shape, array.dtype)
        return self._new(array, "given")

    def _new(self, array: HostArray, kind: str, single: bool = False, fill: Any = None) -> Traced:
        self._buffers += 1
        return Traced(self, Buffer(array, kind, self._buffers, single, fill), (), array)

    def constant(self, array: Any, fill: Any = None) -> Traced:
        """Return a stand-in for an array that never changes."""
        return self._new(np.asarray(array), "constant", isinstance(array, np.generic), fill)

    def zeros(self, shape: Shape, like: Any) -> HostArray:
        """Return zeros of `shape`, of the data type and layout of `like`, in memory that is taken when it is read."""
        size = prod(shape) * like.itemsize
        if self._unread.size < size:
            try:
                self._unread = np.zeros(max(size, UNREAD), np.uint8)
            except MemoryError:  # the process may not have so many addresses
                self._unread = np.zeros(size, np.uint8)
        strides = strides_like(like, shape) if like.ndim else None
        array: HostArray = np.ndarray(shape, like.dtype, self._unread.data, 0, strides)
        self._unread = self._unread[(size // 64 + 1) * 64 :]
        return array

    def owned(self, array: Any) -> Traced:
        """Return a stand-in for an array that a layer has of its own, which each step is going to read anew."""
        if type(array) is Traced:
            return array
        if not self.on_host or type(array) is not np.ndarray or array.dtype.kind not in "biuf":
            self.refuse(f"a {type(array).__name__} of the layer's own is among the arrays")
        key = array.ctypes.data, array.shape, array.strides, array.dtype
        if key not in self._owned:
            content = hashlib.blake2b(array.tobytes()).digest()
            if self._before is not None:
                _, earlier = self._before._owned.get(key) or (None, None)
                if earlier is None:
                    self.refuse("an array is made by NumPy itself, not by xp, and may differ each time", NotRepeated)
                if earlier != content:
                    self.not_repeated()
            self._owned[key] = self._new(array, "given"), content
        return self._owned[key][0]

    def operand(self, o: Any) -> Any:
        """Return what the tape has for something that the step computes with."""
        if type(o) is Traced:
            return o
        if isinstance(o, np.generic):
            return self.constant(o)
        if isinstance(o, self.array_types):
            return self.owned(o)
        if not isinstance(o, int | float):
            self.refuse(f"a {type(o).__name__} is combined with arrays")
        return o

    def result(self, shape: Shape, like: Any) -> Traced:
        """Return a stand-in for a result of `shape`, of the data type and layout of `like`, a smaller one."""
        single, like = isinstance(like, np.generic), np.asarray(like)
        return self._new(self._hollow(shape, like.dtype, strides_like(like, shape)), "result", single)

    def _hollow(self, shape: Shape, dtype: np.dtype[Any], strides: Shape | None = None) -> HostArray:
        array = Hollow(shape, dtype, NOWHERE, self._size, strides)
        self._size += (array.nbytes // 64 + 1) * 64
        return array

    def record(
        self, kind: str, function: Any, operands: list[Any], evaluate: Callable[..., Any], shape: Shape,
        options: tuple[Any, ...] = (),
    ) -> Traced:  # fmt: skip
        """Note an operation, and return a stand-in for its outcome: a constant if it is one of constants.

        `evaluate` does the operation; it is asked on small arrays what the outcome looks like.
        """
        if all(type(o) is not Traced or o.buffer.kind == "constant" for o in operands):
            return self.constant(evaluate(*[o.array if type(o) is Traced else o for o in operands]))
        like = evaluate(*[small(o.array) if type(o) is Traced else o for o in operands])
        target = self.result(shape, like)
        self._add(Operation(kind, function, operands, target, options))
        return target

    def write(self, kind: str, function: Any, operands: list[Any], target: Traced) -> None:
        """Note an operation that changes `target` in place."""
        if not target.array.flags.writeable:
            self.refuse("an array that is read-only is changed in place")
        for o in operands:
            shape: Shape = o.array.shape if isinstance(o, Traced) else ()
            while len(shape) > target.array.ndim and shape[0] == 1:  # NumPy leaves these axes out
                shape = shape[1:]
            if np.broadcast_shapes(shape, target.array.shape) != target.array.shape:
                self.refuse("an array is too large for the place where it is written")
        if target.buffer.kind == "constant":
            target.buffer.kind = "changed"
        self._add(Operation(kind, function, operands, target))

    def _add(self, operation: Operation) -> None:
        for a in operation.touched():
            if a.tape is not self:
                self.refuse("an array of an earlier recording is used", NotRepeated)
        if self._before is not None:
            k, before = len(self.operations), self._before.operations
            if k >= len(before) or operation.facts() != before[k].facts():
                self.not_repeated()
        self.operations.append(operation)

    def not_repeated(self) -> NoReturn:
        """Give up since the step is not the same each time."""
        self.refuse(
            "recorded twice it was not the same, since it takes numbers or decisions from the host, such as random "
            "numbers, a clock or a counter (for random numbers see how Dropout makes them from its context)",
            NotRepeated,
        )

    def elementwise(self, ufunc: np.ufunc, *operands: Any) -> Traced:
        """Record a function of each number alone. Python numbers take the data type of the array beside them."""
        own = [self.operand(o) for o in operands]
        shapes = {o.array.shape for o in own if type(o) is Traced}
        shape = shapes.pop() if len(shapes) == 1 else np.broadcast_shapes(*shapes)
        return self.record("elementwise", ufunc, own, ufunc, shape)

    def product(self, a: Any, b: Any, *options: str) -> Traced:
        """Record NumPy's matrix product, or, with the option "tiles", the backend's, which is one of parts."""
        operands = self.operand(a), self.operand(b)
        first, second = (o.array.shape for o in operands)
        if first[-1] != second[-2 if len(second) > 1 else 0]:
            raise ValueError(f"matmul: arrays of shapes {first} and {second} do not fit together")
        shape = np.broadcast_shapes(first[:-2], second[:-2]) + first[-2:-1] + second[max(1, len(second) - 1) :]

        def product(a: HostArray, b: HostArray) -> Any:  # of bfloat16 NumPy makes float32
            made = np.matmul(a, b)
            return made if a.dtype.kind != "V" else made.astype(np.result_type(a, b))

        return self.record("matmul", np.matmul, [*operands], product, shape, options)

    def copy(self, x: Traced, dtype: Any, order: Any = "K", single: bool = False) -> Traced:
        """Record a copy, perhaps of another data type."""
        copy = self.record("copy", np.copyto, [x], lambda a: a.astype(dtype, order), x.array.shape)
        copy.buffer.single = single or x.is_number
        return copy
