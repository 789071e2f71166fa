"""One loop over any number of axes: what a unit of elementwise operations is, before it is written in any language."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.backends.tape.fusion import loop_dtype, repeated
from xpnet.backends.tape.plan import Unit, inputs, is_result
from xpnet.backends.tape.record import Operation, Traced
from xpnet.typing import HostArray

COMPARISONS = {"greater": ">", "less": "<", "greater_equal": ">=", "less_equal": "<=", "equal": "==", "not_equal": "!="}
DECISIONS = (*COMPARISONS, "logical_and", "logical_or", "logical_not", "isnan")
"""Operations with an answer of yes or no, in the data type of what they are asked about."""

DType = np.dtype[Any]
Lies = Callable[[Traced], HostArray]


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

    `dtype` is the result's; the function "cast" is a conversion to it.
    """

    function: str
    operands: tuple[int | Number, ...]
    dtype: DType


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
    """

    axes: tuple[int, ...]
    loads: tuple[Place, ...]
    operations: tuple[Step, ...]
    stores: tuple[tuple[int | Number, Place], ...]

    @property
    def places(self) -> tuple[Place, ...]:
        """Everything that is read or written."""
        return (*self.loads, *(place for _, place in self.stores))

    def dtype(self, value: int | Number) -> DType:
        """Return the data type of a value."""
        if isinstance(value, Number):
            return value.dtype
        known: tuple[Place | Step, ...] = (*self.loads, *self.operations)
        return known[value].dtype


def merged(
    shape: Sequence[int], steps: Sequence[Sequence[int]]
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:  # fmt: skip
    """Return the fewest axes that go through the same numbers, the longest steps outermost, and the steps along them.

    `steps` are, for each array, the bytes from one number to the next along each axis of `shape`.
    """
    made: list[list[int]] = []  # for each axis its turns and the steps along it
    for n, *along in sorted(zip(shape, *steps, strict=True), key=lambda axis: -sum(map(abs, axis[1:]))):
        if made and made[-1][1:] == [n * s for s in along]:
            made[-1] = [n * made[-1][0], *along]
        elif n != 1:
            made.append([n, *along])
    return tuple(axis[0] for axis in made), tuple(tuple(axis[k] for axis in made) for k in range(1, len(steps) + 1))


def steps_over(a: HostArray, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return an array's bytes from number to number along the axes of `shape`, over which it is repeated."""
    own = tuple(s if n > 1 else 0 for s, n in zip(a.strides, a.shape, strict=True))[-len(shape) :]
    return (0,) * (len(shape) - len(own)) + own if shape else ()


def uniform(a: Traced) -> bool:
    """Say whether an array is a constant, and the same number everywhere, as the weights of an unweighted mean are."""
    return a.buffer.kind == "constant" and a.size > 0 and a.array.tobytes() == a.array.flat[0].tobytes() * a.size


class Maker:
    """Makes the loop of one unit.

    `lies` says where an array lies, `places` and `inner` are the plan's: results that are written to an array of the
    caller, and results that are not kept.

    Attributes
    ----------
    loop : Loop
    arguments : list of Traced
        For each argument of the loop an array that begins there.
    """

    def __init__(self, unit: Unit, places: dict[int, Traced], inner: set[int], lies: Lies) -> None:
        self._placed, self._lies = places, lies
        loads: dict[Any, Traced] = {}
        written: dict[Any, Traced] = {}
        for op in unit:
            loads |= {self._key(a): a for a in inputs(op) if not uniform(a) and self._key(a) not in written}
            written[self._key(op.target)] = op.target
        self._steps: list[Step] = []
        self._dtypes = [a.dtype for a in loads.values()]
        self._values: dict[Any, int | Number] = {key: k for k, key in enumerate(loads)}
        for op in unit:
            self._operation(op)
        stores = {key: a for key, a in written.items() if id(a.buffer) not in inner}
        touched, shape = [*loads.values(), *stores.values()], repeated(unit[0].target.shape)
        arrays = [lies(a) for a in touched]
        arguments = {array.ctypes.data: a for a, array in zip(touched, arrays, strict=True)}
        numbers = {address: k for k, address in enumerate(arguments)}
        self.arguments = [*arguments.values()]
        axes, steps = merged(shape, [steps_over(a, shape) for a in arrays])
        there = [Place(numbers[a.ctypes.data], s, a.dtype) for a, s in zip(arrays, steps, strict=True)]
        stored = zip((self._values[key] for key in stores), there[len(loads) :], strict=True)
        self.loop = Loop(axes, tuple(there[: len(loads)]), tuple(self._steps), tuple(stored))

    def _key(self, a: Traced) -> Any:
        """Return what tells one view of one buffer from another."""
        # Results are told apart by their buffer, since the memory of one may be given to the next.
        own = id(a.buffer) if is_result(a) and id(a.buffer) not in self._placed else None
        array = self._lies(a)
        return own, array.ctypes.data, array.shape, array.strides, array.dtype.str

    def _result(self, function: str, operands: Sequence[int | Number], dtype: DType) -> int:
        self._steps.append(Step(function, tuple(operands), dtype))
        self._dtypes.append(dtype)
        return len(self._dtypes) - 1

    def _cast(self, value: int | Number, dtype: DType) -> int | Number:
        source = value.dtype if isinstance(value, Number) else self._dtypes[value]
        return value if source == dtype else self._result("cast", [value], dtype)

    def _operand(self, a: Any, dtype: DType) -> int | Number:
        if isinstance(a, Traced) and not uniform(a):
            return self._cast(self._values[self._key(a)], dtype)
        number = a.array.flat[0] if isinstance(a, Traced) else a
        return Number(np.asarray(number).astype(dtype).tobytes(), dtype)

    def _operation(self, op: Operation) -> None:
        dtype, boolean = loop_dtype(op), np.dtype(bool)
        kinds = [boolean if op.kind == "where" and k == 0 else dtype for k in range(len(op.operands))]
        operands = [self._operand(o, kind) for o, kind in zip(op.operands, kinds, strict=True)]
        result = operands[0]
        if op.kind != "copy":
            name = "where" if op.kind == "where" else op.function.__name__
            result = self._result(name, operands, boolean if name in DECISIONS else dtype)
        self._values[self._key(op.target)] = self._cast(result, op.target.dtype)
