"""Loops in LLVM's language, written by its builder.

Their arithmetic is that of IEEE 754 without any relaxation (no fused multiply-add, no reordering), so that they give
the bits that NumPy gives. Exponentials and the like stay with NumPy, which has better ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from llvmlite import ir

from xpnet.backends.cpu.chain import Piece, table
from xpnet.backends.cpu.functions import BIT, BYTE, NOTHING, TYPES, WORD, Table, counted, further
from xpnet.backends.tape.fusion import loop_dtype
from xpnet.backends.tape.loop import COMPARISONS, DType, Loop, Number, Place, Step
from xpnet.backends.tape.plan import inputs
from xpnet.backends.tape.record import Operation
from xpnet.typing import HostArray

ARITHMETIC = {"add": "add", "subtract": "sub", "multiply": "mul"}
BITWISE = {"bitwise_and": "and_", "bitwise_or": "or_", "bitwise_xor": "xor"}
FLOATING = ("divide", "true_divide", "sqrt", "absolute", "negative")
NUMBERS = (*ARITHMETIC, "square", "maximum", "minimum", *COMPARISONS)
"""Operations on floats and integers."""
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
    if name == "right_shift":
        return dtype.kind == "u" and type(op.operands[1]) is int and 0 <= op.operands[1] < 8 * dtype.itemsize
    if name in COMPARISONS and dtype.kind == "f" and {a.dtype.kind for a in inputs(op)} == {"i", "u"}:
        return False  # int64 beside uint64: rules of their own
    tables = {"b": BITWISE, "i": (*NUMBERS, *BITWISE), "u": (*NUMBERS, *BITWISE), "f": (*NUMBERS, *FLOATING)}
    return name in tables[dtype.kind]


def _type(dtype: DType) -> Any:
    """Return the LLVM type in which a value is computed."""
    if dtype.kind == "f":
        return TYPES["f" if dtype.itemsize == 4 else "d"]
    return BIT if dtype.kind == "b" else ir.IntType(8 * dtype.itemsize)


@dataclass(frozen=True)
class Kernel:
    """A loop's code, a function of a table.

    The table: the addresses of the arguments; and, unless they are `fixed` in the code, how many turns for each axis,
    and the steps of each place along all axes but the innermost.
    """

    loop: Loop
    fixed: bool = True

    @property
    def wide(self) -> bool:
        """Whether LLVM may do several turns at once. For numbers that are not side by side some versions cannot."""
        return all(place.steps[-1:] in ((), (0,), (place.dtype.itemsize,)) for place in self.loop.places)

    def write(self, module: Any, name: str) -> None:
        """Add the function to a module."""
        # The addresses are taken out of the table first, and given to a function that may trust them not to overlap.
        count, sizes = 1 + max(place.argument for place in self.loop.places), len(counts(self.loop))
        pointers, words = "p" * count, "" if self.fixed else "l" * sizes
        kind = ir.FunctionType(NOTHING, [TYPES[letter] for letter in pointers + words])
        body = ir.Function(module, kind, f"{name}.body")
        body.linkage = "internal"
        body.attributes.add("alwaysinline")
        for argument in body.args[:count]:
            argument.add_attribute("noalias")
        given = [WORD(n) for n in counts(self.loop)] if self.fixed else body.args[count:]
        Body(module, ir.IRBuilder(body.append_basic_block()), self.loop).write(body.args[:count], given)
        table = Table(module, name)
        table.builder.call(body, table.load(pointers + words))
        table.builder.ret_void()


def kernel(loop: Loop, arrays: Sequence[HostArray], fixed: bool = True) -> Piece:
    """Return a loop over arrays; one that is not `fixed` has the code of loops of other sizes."""
    addresses = [a.ctypes.data for a in arrays]
    if fixed:
        return Piece(Kernel(loop), table("p" * len(addresses), *addresses), tuple(arrays))

    def of_any_size(place: Place) -> Place:
        return replace(place, steps=(*(0 for _ in place.steps[:-1]), *place.steps[-1:]))

    stores = tuple((value, of_any_size(place)) for value, place in loop.stores)
    shared = Loop((0,) * len(loop.axes), tuple(map(of_any_size, loop.loads)), loop.operations, stores)
    slots = table("p" * len(addresses) + "l" * len(counts(loop)), *addresses, *counts(loop))
    return Piece(Kernel(shared, fixed=False), slots, tuple(arrays))


def counts(loop: Loop) -> tuple[int, ...]:
    """Return how many turns a loop has for each axis, and the steps of each place along all but the innermost."""
    return (*loop.axes, *(step for place in loop.places for step in place.steps[:-1]))


class Body:
    """Writes the body of a loop."""

    def __init__(self, module: Any, builder: Any, loop: Loop) -> None:
        self._module, self._b, self._loop = module, builder, loop
        self._values: list[Any] = []

    def write(self, pointers: Any, sizes: Any) -> None:
        """Write all, for arguments at `pointers` and sizes as `counts` lists them."""
        loop, b = self._loop, self._b
        outer = iter(sizes[len(loop.axes) :])
        with contextlib.ExitStack() as stack:
            indices = [stack.enter_context(counted(b, n)) for n, _ in zip(sizes, loop.axes, strict=False)]

            def address(place: Place) -> Any:
                steps = [*(next(outer) for _ in place.steps[:-1]), *map(WORD, place.steps[-1:])]
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
        b, to = self._b, _type(target)
        if target.kind == "b":
            zero = ir.Constant(value.type, 0)
            return b.fcmp_unordered("!=", value, zero) if source.kind == "f" else b.icmp_unsigned("!=", value, zero)
        if target.kind == "f":
            if source.kind == "f":
                return b.fpext(value, to) if target.itemsize > source.itemsize else b.fptrunc(value, to)
            return b.sitofp(value, to) if source.kind == "i" else b.uitofp(value, to)
        if source.kind == "b" or target.itemsize > source.itemsize:
            return b.sext(value, to) if source.kind == "i" else b.zext(value, to)
        return b.trunc(value, to) if target.itemsize < source.itemsize else value

    def _result(self, step: Step) -> Any:
        """Write one operation."""
        b, name = self._b, step.function
        values, dtype = [self._value(o) for o in step.operands], self._loop.dtype(step.operands[-1])
        real, signed = dtype.kind == "f", dtype.kind == "i"
        if name == "cast":
            return self._cast(values[0], dtype, step.dtype)
        if name == "where":
            return b.select(*values)
        if name in ARITHMETIC:
            return getattr(b, ("f" if real else "") + ARITHMETIC[name])(*values)
        if name == "square":
            return (b.fmul if real else b.mul)(values[0], values[0])
        if name in COMPARISONS:
            sign = COMPARISONS[name]
            if real:
                return (b.fcmp_unordered if sign == "!=" else b.fcmp_ordered)(sign, *values)
            return (b.icmp_signed if signed else b.icmp_unsigned)(sign, *values)
        if name in ("maximum", "minimum"):
            sign = (">" if name == "maximum" else "<") + ("" if SECOND_OF_EQUALS else "=")
            if not real:
                return b.select((b.icmp_signed if signed else b.icmp_unsigned)(sign, *values), *values)
            # NumPy's rule: a NaN on either side comes through
            first = b.or_(b.fcmp_ordered(sign, *values), b.fcmp_unordered("uno", values[0], values[0]))
            return b.select(first, *values)
        if name in BITWISE:
            return getattr(b, BITWISE[name])(*values)
        if name == "right_shift":
            return b.lshr(*values)
        if name in ("divide", "true_divide"):
            return b.fdiv(*values)
        if name == "negative":
            return b.fneg(values[0])
        intrinsic = {"sqrt": "llvm.sqrt", "absolute": "llvm.fabs"}[name]
        return b.call(self._module.declare_intrinsic(intrinsic, [_type(dtype)]), values)
