"""Loops in LLVM's language, written by its builder.

Their arithmetic is that of IEEE 754 without any relaxation (no fused multiply-add, no reordering), so that they give
the bits that NumPy gives. Exponentials and the like stay with NumPy, which has better ones.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from llvmlite import ir

from xpnet.backends.cpu.chain import Piece, table
from xpnet.backends.cpu.functions import BIT, BYTE, NOTHING, TYPES, WORD, Code, Table, counted, further
from xpnet.backends.cpu.parts import TOGETHER, count
from xpnet.backends.cpu.products import edges
from xpnet.backends.tape.fusion import loop_dtype
from xpnet.backends.tape.loop import COMPARISONS, DType, Loop, Number, Place, Step
from xpnet.backends.tape.plan import inputs
from xpnet.backends.tape.record import Operation
from xpnet.typing import HostArray

OF_FLOATS = {"add": "fadd", "subtract": "fsub", "multiply": "fmul", "divide": "fdiv", "negative": "fneg"}
OF_INTEGERS = {"add": "add", "subtract": "sub", "multiply": "mul", "right_shift": "lshr"}
OF_BITS = {"bitwise_and": "and_", "bitwise_or": "or_", "bitwise_xor": "xor"}
"""Methods of LLVM's builder for the operations that have one."""
OF_BOTH = ("square", "maximum", "minimum", *COMPARISONS)
INTRINSICS = {"sqrt": "llvm.sqrt", "absolute": "llvm.fabs"}
SHORT = 64
"""Turns of an innermost axis up to which they are in the code of a loop that shares it with others, if it is LONG."""
LONG = 1 << 14
SECOND_OF_EQUALS = not np.signbit(np.maximum(-np.zeros(16), np.zeros(16))).any()
"""Whether NumPy's maximum of two zeros is the second, whatever their signs, as with the instructions of x86."""


def known(op: Operation) -> bool:
    """Say whether the loops of this file can do an operation over numbers that fit together."""
    arrays, dtype = [*inputs(op), op.target], loop_dtype(op)
    if any(a.dtype.kind not in "biu" and a.dtype not in (np.float32, np.float64) for a in arrays):
        return False
    if op.kind != "elementwise":
        moved = inputs(op)[op.kind == "where" :]
        return dtype.kind in "bf" or all(a.dtype.kind != "f" for a in moved)  # from floats to integers: NumPy's rules
    name = op.function.__name__
    if name == "right_shift" and not (
        dtype.kind == "u" and type(op.operands[1]) is int and 0 <= op.operands[1] < 8 * dtype.itemsize
    ):
        return False
    if name in COMPARISONS and dtype.kind == "f" and {a.dtype.kind for a in inputs(op)} == {"i", "u"}:
        return False  # int64 beside uint64: rules of their own
    of_kind = {"f": (*OF_FLOATS, *OF_BOTH, *INTRINSICS), "b": OF_BITS}
    return name in of_kind.get(dtype.kind, (*OF_INTEGERS, *OF_BITS, *OF_BOTH))


def _type(dtype: DType) -> Any:
    """Return the LLVM type in which a value is computed."""
    if dtype.kind == "f":
        return TYPES["f" if dtype.itemsize == 4 else "d"]
    return BIT if dtype.kind == "b" else ir.IntType(8 * dtype.itemsize)


@dataclass(frozen=True)
class Kernel(Code):
    """A loop's code.

    The table: the addresses of the arguments; unless it is the `whole`, where the outermost axis begins, and how many
    turns it has; and, unless they are `fixed` in the code, the other numbers of `counts`.
    """

    loop: Loop
    fixed: bool = True
    whole: bool = True

    @property
    def wide(self) -> bool:  # type: ignore[override]
        """Whether LLVM may do several turns at once. For numbers that are not side by side some versions cannot."""
        return all(place.steps[-1:] in ((), (0,), (place.dtype.itemsize,)) for place in self.loop.places)

    def write(self, table: Table, b: Any) -> None:
        # The addresses are taken out of the table first, and given to a function that may trust them not to overlap.
        sizes, count = counts(self.loop), 1 + max(place.argument for place in self.loop.places)
        free = 0 if self.whole else 1
        kinds = "p" * count + "l" * (2 * free + (0 if self.fixed else len(sizes) - free))
        name, kind = table.module.get_unique_name("body"), ir.FunctionType(NOTHING, [TYPES[k] for k in kinds])
        body = ir.Function(table.module, kind, name)
        body.linkage = "internal"
        body.attributes.add("alwaysinline")
        for argument in body.args[:count]:
            argument.add_attribute("noalias")
        start, *given = (*([WORD(0)] if self.whole else []), *list(body.args)[count:])
        given += [WORD(n) for n in sizes[len(given) :]]
        given[: len(self.loop.axes)] = [WORD(n) if n else size for n, size in zip(self.loop.axes, given, strict=False)]
        Body(table.module, ir.IRBuilder(body.append_basic_block()), self.loop).write(body.args[:count], given, start)
        b.call(body, table.load(kinds))


def ways(loop: Loop) -> list[tuple[int, ...]]:
    """Return the different steps of a loop's places along all axes but the innermost."""
    return [*dict.fromkeys(place.steps[:-1] for place in loop.places)]


def counts(loop: Loop) -> tuple[int, ...]:
    """Return how many turns a loop has for each axis, and the steps of each of its ways."""
    return (*loop.axes, *itertools.chain(*ways(loop)))


def without_sizes(loop: Loop) -> Loop:
    """Return a loop for the code of all that differ in their sizes only: its steps are the numbers of its ways.

    What goes the same way still does, so that LLVM sees when a number is read and written at one place. In a long loop
    a short innermost axis stays: its few turns become code without a loop.
    """
    numbers = {way: (k,) * len(way) for k, way in enumerate(ways(loop))}

    def placed(place: Place) -> Place:
        return replace(place, steps=(*numbers[place.steps[:-1]], *place.steps[-1:]))

    outer, innermost = loop.axes[:-1], loop.axes[-1:]
    short = outer and innermost[0] <= SHORT and math.prod(loop.axes) >= LONG
    axes = (0,) * len(outer) + (innermost if short else (0,) * len(innermost))
    stores = tuple((value, placed(place)) for value, place in loop.stores)
    return replace(loop, axes=axes, loads=tuple(map(placed, loop.loads)), stores=stores)


def kernels(loop: Loop, arrays: Sequence[HostArray], fixed: bool = True, threads: int = 1) -> list[Piece]:
    """Return a loop over arrays, in parts; one that is not `fixed` has the code of loops of other sizes."""
    sizes, several = counts(loop), count(math.prod(loop.axes), threads)
    rows = edges(loop.axes[0], several, TOGETHER if len(loop.axes) == 1 else 1) if several > 1 else [None]
    whole = len(rows) == 1
    if not fixed:
        loop = without_sizes(loop)
    elif not whole:
        loop = replace(loop, axes=(0, *loop.axes[1:]))
    code, addresses = Kernel(loop, fixed, whole), [a.ctypes.data for a in arrays]
    made = []
    for part in rows:
        first = () if whole or part is None else (part.start, part.stop - part.start)
        given = (*first, *(() if fixed else sizes[0 if whole else 1 :]))
        made.append(Piece(code, table("p" * len(arrays) + "l" * len(given), *addresses, *given), tuple(arrays)))
    return made


class Body:
    """Writes the turns of a loop."""

    def __init__(self, module: Any, builder: Any, loop: Loop) -> None:
        self._module, self._b, self._loop = module, builder, loop
        self._values: list[Any] = []

    def write(self, pointers: Any, sizes: Any, start: Any) -> None:
        """Write all, for arguments at `pointers`, sizes as `counts` lists them, and the outermost axis's `start`."""
        loop, b = self._loop, self._b
        numbers = iter(sizes[len(loop.axes) :])
        outer = {way: [next(numbers) for _ in way] for way in ways(loop)}
        with contextlib.ExitStack() as stack:
            indices = [stack.enter_context(counted(b, n)) for n in sizes[: len(loop.axes)]]
            indices[:1] = [b.add(index, start, flags=["nuw", "nsw"]) for index in indices[:1]]

            def address(place: Place) -> Any:
                steps = [*outer[place.steps[:-1]], *map(WORD, place.steps[-1:])]
                moves = [b.mul(index, step) for index, step in zip(indices, steps, strict=True)]
                return further(b, pointers[place.argument], *moves)

            for place in loop.loads:
                boolean = place.dtype.kind == "b"
                value = b.load(address(place), typ=BYTE if boolean else _type(place.dtype))
                self._values.append(b.icmp_unsigned("!=", value, BYTE(0)) if boolean else value)
            for step in loop.operations:
                self._values.append(self._result(step))
            for stored, place in loop.stores:
                value = self._value(stored)
                b.store(b.zext(value, BYTE) if place.dtype.kind == "b" else value, address(place))
        b.ret_void()

    def _value(self, operand: int | Number) -> Any:
        if isinstance(operand, int):
            return self._values[operand]
        real = operand.dtype.kind == "f"
        return ir.Constant(_type(operand.dtype), float(operand.value) if real else int(operand.value))

    def _cast(self, value: Any, source: DType, target: DType) -> Any:
        """Convert as NumPy does."""
        b, to, wider = self._b, _type(target), target.itemsize > source.itemsize
        if target.kind == "b":
            zero = ir.Constant(value.type, 0)
            return b.fcmp_unordered("!=", value, zero) if source.kind == "f" else b.icmp_unsigned("!=", value, zero)
        if source.kind == "f":
            return b.fpext(value, to) if wider else b.fptrunc(value, to)
        if target.kind == "f":
            return b.sitofp(value, to) if source.kind == "i" else b.uitofp(value, to)
        if source.kind == "b" or wider:
            return b.sext(value, to) if source.kind == "i" else b.zext(value, to)
        return b.trunc(value, to) if target.itemsize < source.itemsize else value

    def _result(self, step: Step) -> Any:
        """Write one operation."""
        b, name, dtype = self._b, step.function, self._loop.dtype(step.operands[-1])
        values, real = [self._value(o) for o in step.operands], dtype.kind == "f"
        compare = b.fcmp_ordered if real else b.icmp_signed if dtype.kind == "i" else b.icmp_unsigned
        if name == "cast":
            return self._cast(values[0], dtype, step.dtype)
        if name == "where":
            return b.select(*values)
        if name == "square":
            name, values = "multiply", values * 2
        method = (OF_FLOATS if real else OF_INTEGERS | OF_BITS).get(name)
        if method is not None:
            return getattr(b, method)(*values)
        if name in INTRINSICS:
            return b.call(self._module.declare_intrinsic(INTRINSICS[name], [_type(dtype)]), values)
        if name in COMPARISONS:
            compare = b.fcmp_unordered if real and name == "not_equal" else compare
            return compare(COMPARISONS[name], *values)
        first = compare((">" if name == "maximum" else "<") + ("" if SECOND_OF_EQUALS else "="), *values)
        if real:  # NumPy's rule: a NaN on either side comes through
            first = b.or_(first, b.fcmp_unordered("uno", values[0], values[0]))
        return b.select(first, *values)
