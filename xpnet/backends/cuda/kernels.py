"""CUDA C for runs of elementwise operations: one kernel for each unit of a plan.

A kernel gives the bits that CuPy gives with a kernel for each operation, by the options with which CuPy compiles both
(one of them counts the smallest numbers of float32 as zeros). Sums and products are written as ``__fadd_rn`` and the
like, which the compiler never merges into a fused multiply-add. The option ``--fmad=false`` would do the same, but it
also changes what NVRTC makes of the mathematical functions of float64 (its code for log and log1p has another number
of multiply-adds then), and these are to be the ones in CuPy's kernels.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np

from xpnet.backends.tape.fusion import home, loop_dtype
from xpnet.backends.tape.loop import COMPARISONS, DType, Loop, Maker, Number, Place, Step
from xpnet.backends.tape.plan import Unit, inputs
from xpnet.backends.tape.record import Operation, Traced

THREADS = 256
"""Threads of a block."""

TYPES = {
    "bool": "bool", "int8": "signed char", "uint8": "unsigned char", "int16": "short", "uint16": "unsigned short",
    "int32": "int", "uint32": "unsigned int", "int64": "long long", "uint64": "unsigned long long",
    "float16": "unsigned short", "float32": "float", "float64": "double",
}  # fmt: skip
"""C's types of numbers in memory. A float16 is computed with as a float, and rounded after each operation."""

PRELUDE = """
static __device__ float from_half(unsigned short h) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
    return x;
}
static __device__ unsigned short to_half(float x) {
    unsigned short h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
    return h;
}
"""
"""What stands before the kernels of a program."""

INTEGER = {
    "add": "{0} + {1}", "subtract": "{0} - {1}", "multiply": "{0} * {1}", "square": "{0} * {0}", "negative": "-{0}",
    "maximum": "{0} > {1} ? {0} : {1}", "minimum": "{0} < {1} ? {0} : {1}", "absolute": "{0} > 0 ? {0} : -{0}",
    "bitwise_and": "{0} & {1}", "bitwise_or": "{0} | {1}", "bitwise_xor": "{0} ^ {1}", "invert": "~{0}",
    "right_shift": "{0} >> {1}", "left_shift": "{0} << {1}", "positive": "{0}",
}  # fmt: skip
BOOLEAN = {"bitwise_and": "{0} & {1}", "bitwise_or": "{0} | {1}", "bitwise_xor": "{0} ^ {1}", "invert": "!{0}"}
# {r} is f or d, the letter of the functions that round once; {f} is the letter at the end of C's float functions.
FLOATING = {
    "add": "__{r}add_rn({0}, {1})", "subtract": "__{r}sub_rn({0}, {1})", "multiply": "__{r}mul_rn({0}, {1})",
    "divide": "__{r}div_rn({0}, {1})", "reciprocal": "__{r}div_rn(1, {0})", "square": "__{r}mul_rn({0}, {0})",
    "sqrt": "__{r}sqrt_rn({0})", "negative": "-{0}", "positive": "{0}", "absolute": "fabs{f}({0})",
    # a NaN on either side comes through
    "maximum": "{0} != {0} || {1} != {1} ? __{r}add_rn({0}, {1}) : fmax{f}({0}, {1})",
    "minimum": "{0} != {0} || {1} != {1} ? __{r}add_rn({0}, {1}) : fmin{f}({0}, {1})",
    "sign": "{0} < 0 || {0} > 0 ? copysign{f}(1, {0}) : {0} - {0}",
} | {
    name: c + "{f}({0})" for name, c in {
        **{n: n for n in ("exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "sinh", "cosh", "tanh",
                          "floor", "ceil", "trunc")},
        "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arcsinh": "asinh", "arccosh": "acosh",
        "arctanh": "atanh",
    }.items()
}  # fmt: skip
DECISIONS = {name: "{0} " + sign + " {1}" for name, sign in COMPARISONS.items()} | {
    "logical_and": "{0} && {1}", "logical_or": "{0} || {1}", "logical_not": "!{0}", "isnan": "{0} != {0}",
}  # fmt: skip
"""Operations with an answer of yes or no, in the data type of what they are asked about."""


def table(dtype: DType) -> dict[str, str]:
    """Return the operations on numbers of a data type that have a number of that type as their result."""
    return {"f": FLOATING, "b": BOOLEAN}.get(dtype.kind, INTEGER)


def known(op: Operation) -> bool:
    """Say whether there is a formula for an operation over numbers that fit together."""
    arrays, dtype = [*inputs(op), op.target], loop_dtype(op)
    kinds = {a.dtype.name for a in arrays}
    if not kinds <= TYPES.keys() or dtype.name not in TYPES:
        return False
    if "float16" in kinds and not kinds <= {"float16", "float32", "bool"}:
        return False  # from the others it takes two roundings to get there
    if op.kind != "elementwise":
        return True
    name = op.function.__name__
    if name in DECISIONS:  # int64 beside uint64: rules of their own
        return dtype.kind != "f" or any(a.dtype.kind not in "iu" for a in inputs(op))
    if name.endswith("_shift") and not (type(op.operands[1]) is int and 0 <= op.operands[1] < 8 * dtype.itemsize):
        return False  # undefined in C
    return name in table(dtype)


def _register(dtype: DType) -> str:
    """Return C's type of a number while it is computed with."""
    return "float" if dtype.name == "float16" else TYPES[dtype.name]


def literal(number: Number) -> str:
    """Return a number in C, to the bit."""
    dtype, value = number.dtype, number.value
    if dtype.kind == "f":
        if not np.isfinite(value):
            bits = np.asarray(value, np.float64).view(np.uint64)[()]
            return f"(({_register(dtype)})__longlong_as_double({bits:#x}LL))"
        return f"({value}{'' if dtype.itemsize == 8 else 'f'})"  # as many digits as it takes
    return f"(({TYPES[dtype.name]}){int(value) & 0xFFFFFFFFFFFFFFFF}ULL)"


@dataclass(frozen=True)
class Kernel:
    """A kernel and what it is called with.

    Attributes
    ----------
    name : str
        Of its operations and its content: kernels of the same name are the same.
    source : str
    arguments : tuple of Traced
        Arrays whose addresses it takes, each a view of a buffer from its first number on.
    blocks : int
    """

    name: str
    source: str
    arguments: tuple[Traced, ...]
    blocks: int


class Writer:
    """Writes a loop, each turn of which is a thread's."""

    def __init__(self, loop: Loop) -> None:
        self._loop, size = loop, math.prod(loop.axes)
        reach = [sum(abs(s) * n for s, n in zip(p.steps, loop.axes, strict=True)) for p in loop.places]
        index = "int" if max(size + THREADS, *reach) < 2**31 else "long long"
        self.lines = [
            f"const {index} i = ({index})blockIdx.x * {THREADS} + threadIdx.x;", f"if (i >= {size}) return;"
        ]  # fmt: skip
        self._indices = ["i"]
        if len(loop.axes) > 1:
            self._indices = [f"i{k}" for k in range(len(loop.axes))]
            places = [f"i / {math.prod(loop.axes[k + 1 :])} % {n}" for k, n in enumerate(loop.axes)]
            pairs = zip(self._indices, places, strict=True)
            self.lines.append(f"const {index} {', '.join(f'{name} = {place}' for name, place in pairs)};")
        for k, place in enumerate(loop.loads):
            at = self._at(place)
            self._variable(k, place.dtype, f"from_half({at})" if place.dtype.name == "float16" else at)
        for k, step in enumerate(loop.operations, len(loop.loads)):
            self._variable(k, step.dtype, self._formula(step))
        for value, place in loop.stores:
            written = self._value(value)
            written = f"to_half({written})" if place.dtype.name == "float16" else written
            self.lines.append(f"{self._at(place)} = {written};")

    def _at(self, place: Place) -> str:
        """Return where a number lies, by the thread's index."""
        steps = [(name, step // place.dtype.itemsize) for name, step in zip(self._indices, place.steps, strict=False)]
        terms = [name if step == 1 else f"{name} * {step}" for name, step in steps if step]
        return f"p{place.argument}[{' + '.join(terms) or 0}]"

    def _variable(self, number: int, dtype: DType, expression: str) -> None:
        self.lines.append(f"const {_register(dtype)} v{number} = {expression};")

    def _value(self, operand: int | Number) -> str:
        return literal(operand) if isinstance(operand, Number) else f"v{operand}"

    def _formula(self, step: Step) -> str:
        """Return one operation in C."""
        dtype, values = self._loop.dtype(step.operands[-1]), [*map(self._value, step.operands)]
        half = step.dtype.name == "float16"
        if step.function == "where":
            return "{} ? {} : {}".format(*values)
        if step.function == "cast":
            if half:
                return f"from_half(to_half({values[0]}))"
            return f"({TYPES[step.dtype.name]})({values[0]})"
        template = DECISIONS.get(step.function) or table(dtype)[step.function]
        value = template.format(*values, **({"r": "d", "f": ""} if dtype.itemsize == 8 else {"r": "f", "f": "f"}))
        return f"from_half(to_half({value}))" if half else value


def write(unit: Unit, places: dict[int, Traced], inner: set[int]) -> Kernel:
    """Return the kernel that does the operations of `unit`."""
    maker = Maker(unit, places, inner, lambda a: home(a, places))
    arguments = ", ".join(f"{TYPES[a.dtype.name]}* p{k}" for k, a in enumerate(maker.arguments))
    body = f"({arguments}) {{\n" + "".join(f"    {line}\n" for line in Writer(maker.loop).lines) + "}\n"
    names = [op.function.__name__ if op.kind == "elementwise" else op.kind for op in unit]
    name = "_".join(["xpnet", *names[:4], *(["and", str(len(names) - 4)] if len(names) > 4 else [])])
    name += f"_{zlib.crc32(body.encode()):08x}"
    blocks = -(-math.prod(maker.loop.axes) // THREADS)
    return Kernel(name, f'extern "C" __global__ void {name}{body}', tuple(maker.arguments), blocks)
