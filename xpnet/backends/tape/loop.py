"""One loop over any number of axes: what a unit of operations is, before it is written in any language."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.backends.tape.fusion import loop_dtype, repeated
from xpnet.backends.tape.plan import Unit, inputs, is_result
from xpnet.backends.tape.record import Operation, Traced
from xpnet.backends.tape.space import Access, Axes, Lies, Space, accesses

COMPARISONS = {"greater": ">", "less": "<", "greater_equal": ">=", "less_equal": "<=", "equal": "==", "not_equal": "!="}
DECISIONS = (*COMPARISONS, "logical_and", "logical_or", "logical_not", "isnan")
"""Operations with an answer of yes or no, in the data type of what they are asked about."""

DType = np.dtype[Any]


@dataclass(frozen=True)
class Number:
    """A number that is known beforehand, by its bits: a zero has a sign."""

    bits: bytes
    dtype: DType

    @property
    def value(self) -> Any:
        """The number itself."""
        return np.frombuffer(self.bits, self.dtype)[0]


@dataclass(frozen=True)
class Place:
    """Where one number for each turn of a loop lies: the argument, and for each axis the bytes to the next number."""

    argument: int
    steps: tuple[int, ...]
    dtype: DType


@dataclass(frozen=True)
class Step:
    """One operation. Its operands are values by their number, or numbers; all are of one data type but a condition.

    `dtype` is the result's. The function "cast" is a conversion to it; "reduce add" and the like go along the loop's
    innermost axes. "take" reads a number of `places`, which the index is multiplied into; `along` are the number of
    entries to choose from and the bytes between them. "product" is a sum of products of numbers of two places; `along`
    are the number of terms and the bytes from one to the next in each.
    """

    function: str
    operands: tuple[int | Number, ...]
    dtype: DType
    places: tuple[Place, ...] = ()
    along: tuple[int, ...] = ()


@dataclass(frozen=True)
class Loop:
    """What is done for each place of an array. The values are counted: first what is loaded, then the results.

    Attributes
    ----------
    axes : tuple of int
        How many turns, the outermost axis first.
    loads : tuple of Place
    operations : tuple of Step
    stores : tuple of (int or Number, Place)
        All are written after everything is read.
    reduced : int
        The number of innermost axes along which sums and the like are taken.
    chunk : int
        How many turns of these go into each sum, if there are more of them: the outermost axis counts the sums.
    """

    axes: tuple[int, ...]
    loads: tuple[Place, ...]
    operations: tuple[Step, ...]
    stores: tuple[tuple[int | Number, Place], ...]
    reduced: int = 0
    chunk: int = 0

    @property
    def places(self) -> tuple[Place, ...]:
        """Everything that is read or written, at places of the loop's."""
        return (*self.loads, *(place for _, place in self.stores))

    def dtype(self, value: int | Number) -> DType:
        """Return the data type of a value."""
        if isinstance(value, Number):
            return value.dtype
        known: tuple[Place | Step, ...] = (*self.loads, *self.operations)
        return known[value].dtype


def merged(
    shape: Sequence[int], steps: Sequence[Sequence[int]], in_order: bool = False
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:  # fmt: skip
    """Return the fewest axes that go through the same numbers, the longest steps outermost, and the steps along them.

    `steps` are, for each array, the bytes from one number to the next along each axis of `shape`. If the numbers are to
    be gone through in their order, the axes stay in theirs.
    """
    made: list[list[int]] = []  # for each axis its turns and the steps along it
    axes = list(zip(shape, *steps, strict=True))
    for n, *along in axes if in_order else sorted(axes, key=lambda axis: -sum(map(abs, axis[1:]))):
        if made and made[-1][1:] == [n * s for s in along]:
            made[-1] = [n * made[-1][0], *along]
        elif n != 1:
            made.append([n, *along])
    return tuple(axis[0] for axis in made), tuple(tuple(axis[k] for axis in made) for k in range(1, len(steps) + 1))


def uniform(a: Traced) -> bool:
    """Say whether an array is a constant, and the same number everywhere, as the weights of an unweighted mean are."""
    return a.buffer.kind == "constant" and a.size > 0 and a.array.tobytes() == a.array.flat[0].tobytes() * a.size


def summed_in(dtype: DType) -> DType:
    """Return the data type in which sums of numbers are added up: that of the numbers, or float32 for halves."""
    return np.dtype(np.float32) if dtype.itemsize == 2 and dtype.kind not in "iu" else dtype


class Maker:
    """Makes the loop of one unit.

    `lies` says where an array lies, `places` and `inner` are the plan's: results that are written to an array of the
    caller, and results that are not kept. `space` is what the unit goes over, if not just the shape of its results, and
    `axes` are the axes of each operation's target in it.

    Attributes
    ----------
    loop : Loop
    arguments : list of Traced
        For each argument of the loop an array that begins there.
    """

    def __init__(
        self, unit: Unit, places: dict[int, Traced], inner: set[int], lies: Lies, space: Space | None = None,
        axes: Sequence[Axes] | None = None,
    ) -> None:  # fmt: skip
        self._placed, self._lies = places, lies
        self._space = space = Space(repeated(unit[0].target.shape)) if space is None else space
        axes = [space.axes(op.target.shape) or () for op in unit] if axes is None else axes
        touched = [accesses(op, space, own, lies) for op, own in zip(unit, axes, strict=True)]
        loads: dict[Any, Access] = {}
        written: dict[Any, Access] = {}
        far: list[Access] = []  # where numbers of other turns are read
        for *read, target in touched:
            at_own = [access for access in read if access.steps is not None and not uniform(access.array)]
            loads |= {self._key(a): a for a in at_own if self._key(a) not in written}
            written[self._key(target)] = target
        for op, own, (*read, _) in zip(unit, axes, touched, strict=True):
            far += [Access(a.array, self._far(op, own, k)) for k, a in enumerate(read) if a.steps is None]
        stores = {key: a for key, a in written.items() if id(a.array.buffer) not in inner}
        every = [*loads.values(), *far, *stores.values()]
        arrays = [lies(a.array) for a in every]
        arguments = {array.ctypes.data: a.array for a, array in zip(every, arrays, strict=True)}
        numbers = {address: k for k, address in enumerate(arguments)}
        self.arguments = [*arguments.values()]
        sizes, moves = self._merged([a.steps or () for a in every])
        there = [Place(numbers[a.ctypes.data], s, a.dtype) for a, s in zip(arrays, moves, strict=True)]
        self._far_places = iter(there[len(loads) : len(loads) + len(far)])
        self._steps: list[Step] = []
        self._dtypes = [a.array.dtype for a in loads.values()]
        self._values: dict[Any, int | Number] = {key: k for k, key in enumerate(loads)}
        for op, accessed in zip(unit, touched, strict=True):
            self._operation(op, accessed)
        stored = zip((self._values[key] for key in stores), there[len(loads) + len(far) :], strict=True)
        self.loop = Loop(
            sizes, tuple(there[: len(loads)]), tuple(self._steps), tuple(stored), self._reduced, space.chunk
        )

    def _merged(self, steps: list[tuple[int, ...]]) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
        """Return as few axes as it takes, those of reductions innermost, and the steps along them."""
        shape, reduced = self._space.shape, self._space.reduced
        sizes: tuple[int, ...] = ()
        moves: list[tuple[int, ...]] = [()] * len(steps)
        chunks = [len(shape) - 1] if self._space.chunk else []
        for part in (chunks, [k for k in range(len(shape)) if k not in (*reduced, *chunks)], reduced):
            own, along = merged([shape[k] for k in part], [[s[k] for k in part] for s in steps], part is reduced)
            sizes, moves = sizes + own, [a + b for a, b in zip(moves, along or [()] * len(steps), strict=True)]
            self._reduced = len(own)
        return sizes, moves

    def _far(self, op: Operation, axes: Axes, operand: int) -> tuple[int, ...]:
        """Return the steps through an operand of which an operation reads more than the number at its own place."""
        array = self._lies(inputs(op)[operand])
        missing = op.options[0] if op.kind == "take" else 1 - operand
        found = {axis: s for k, (axis, s) in enumerate(zip(axes, array.strides, strict=True)) if k != missing}
        return tuple(found.get(k, 0) if n > 1 else 0 for k, n in enumerate(self._space.shape))

    def _key(self, access: Access) -> Any:
        """Return what tells one view of one buffer from another."""
        # Results are told apart by their buffer, since the memory of one may be given to the next.
        a = access.array
        own = id(a.buffer) if is_result(a) and id(a.buffer) not in self._placed else None
        return own, self._lies(a).ctypes.data, access.steps, a.dtype.str

    def _result(
        self, function: str, operands: Sequence[int | Number], dtype: DType, *where: Any
    ) -> int:  # fmt: skip
        self._steps.append(Step(function, tuple(operands), dtype, *where))
        self._dtypes.append(dtype)
        return len(self._dtypes) - 1

    def _cast(self, value: int | Number, dtype: DType) -> int | Number:
        source = value.dtype if isinstance(value, Number) else self._dtypes[value]
        return value if source == dtype else self._result("cast", [value], dtype)

    def _operand(self, a: Any, access: Iterator[Access], dtype: DType) -> int | Number:
        own = next(access) if isinstance(a, Traced) else None
        if own is not None and not uniform(own.array):
            return self._cast(self._values[self._key(own)], dtype)
        number = own.array.array.flat[0] if own is not None else a
        return Number(np.asarray(number).astype(dtype).tobytes(), dtype)

    def _operation(self, op: Operation, accessed: list[Access]) -> None:
        target, boolean = accessed[-1], np.dtype(bool)
        dtype = op.target.dtype if op.kind == "take" else loop_dtype(op)
        if op.kind == "take":
            index = self._operand(op.operands[1], iter(accessed[1:]), op.operands[1].dtype)
            source, axis = self._lies(op.operands[0]), op.options[0]
            along = source.shape[axis], source.strides[axis]
            result: int | Number = self._result("take", [index], dtype, (next(self._far_places),), along)
        elif op.kind == "matmul":
            a, b = map(self._lies, inputs(op))
            factors = next(self._far_places), next(self._far_places)
            result = self._result("product", [], summed_in(dtype), factors, (a.shape[1], a.strides[1], b.strides[0]))
        else:
            wide = summed_in(dtype) if op.kind == "reduce" else dtype
            kinds = [boolean if op.kind == "where" and k == 0 else wide for k in range(len(op.operands))]
            reads = iter(accessed)
            operands = [self._operand(o, reads, kind) for o, kind in zip(op.operands, kinds, strict=True)]
            result = operands[0]
            if op.kind == "reduce":
                result = self._result(f"reduce {op.function.__name__}", operands, wide)
            elif op.kind != "copy":
                name = "where" if op.kind == "where" else op.function.__name__
                result = self._result(name, operands, boolean if name in DECISIONS else dtype)
        self._values[self._key(target)] = self._cast(result, op.target.dtype)
