"""CUDA C for runs of elementwise operations: one kernel for each unit of a plan.

A kernel gives the bits that CuPy gives with a kernel for each operation, by the options with which CuPy compiles both
(one of them counts the smallest numbers of float32 as zeros). Sums and products are written as ``__fadd_rn`` and the
like, which the compiler never merges into a fused multiply-add. The option ``--fmad=false`` would do the same, but it
also changes what NVRTC makes of the mathematical functions of float64 (its code for log and log1p has another number
of multiply-adds then), and these are to be the ones in CuPy's kernels.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.backends.tape.fusion import COMPARISONS, home, loop_dtype, same_view, two_dimensional
from xpnet.backends.tape.plan import Unit, inputs
from xpnet.backends.tape.record import Operation, Traced
from xpnet.typing import HostArray

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


def formula(op: Operation) -> str | None:
    """Return one operation in C, as a template of its operands, or None if it has none."""
    dtype = loop_dtype(op)
    if op.kind == "copy":
        return "{0}"
    if op.kind == "where":
        return "{0} ? {1} : {2}"
    name = op.function.__name__
    if name in DECISIONS:
        integers = all(a.dtype.kind in "iu" for a in inputs(op))
        return None if dtype.kind == "f" and integers else DECISIONS[name]  # int64 beside uint64: rules of their own
    table = {"f": FLOATING, "b": BOOLEAN}.get(dtype.kind, INTEGER)
    if name not in table:
        return None
    if name.endswith("_shift") and not (type(op.operands[1]) is int and 0 <= op.operands[1] < 8 * dtype.itemsize):
        return None  # undefined in C
    return table[name]


def fits(op: Operation, places: dict[int, Traced]) -> bool:
    """Say whether an operation can be part of a kernel."""
    if op.kind not in ("elementwise", "copy", "where") or (op.kind == "elementwise" and not inputs(op)):
        return False
    arrays = [*inputs(op), op.target]
    if any(a.ndim > 2 or a.dtype.name not in TYPES or a.size == 0 for a in arrays):
        return False
    target = home(op.target, places)
    if any(np.may_share_memory(home(a, places), target) and not same_view(home(a, places), target) for a in inputs(op)):
        return False  # one thread would read what another writes
    kinds = {a.dtype.name for a in arrays}
    if "float16" in kinds and not kinds <= {"float16", "float32", "bool"}:
        return False  # from the others it takes two roundings to get there
    rows, columns = two_dimensional(op.target.shape)
    for a in arrays:
        r, c = two_dimensional(a.shape)
        if r not in (1, rows) or c not in (1, columns) or any(s % a.dtype.itemsize for s in home(a, places).strides):
            return False
    return loop_dtype(op).name in TYPES and formula(op) is not None


def _register(dtype: np.dtype[Any]) -> str:
    """Return C's type of a number while it is computed with."""
    return "float" if dtype.name == "float16" else TYPES[dtype.name]


def literal(value: Any, dtype: np.dtype[Any]) -> str:
    """Return a number in C, to the bit."""
    number = np.asarray(value).astype(dtype)[()]
    if dtype.kind == "f":
        if not np.isfinite(number):
            bits = np.asarray(number, np.float64).view(np.uint64)[()]
            return f"(({_register(dtype)})__longlong_as_double({bits:#x}LL))"
        return f"({number}{'' if dtype.itemsize == 8 else 'f'})"  # as many digits as it takes
    return f"(({TYPES[dtype.name]}){int(number) & 0xFFFFFFFFFFFFFFFF}ULL)"


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
    """Writes the kernel of one unit. Buffers in `inner` stay in registers."""

    def __init__(self, unit: Unit, places: dict[int, Traced], inner: set[int]) -> None:
        self._places, self._inner = places, inner
        self._shape = two_dimensional(unit[0].target.shape)
        touched = [a for op in unit for a in (*inputs(op), op.target) if id(a.buffer) not in inner]
        size = self._shape[0] * self._shape[1]
        self._flat = all(self._home(a).flags.c_contiguous and a.size in (1, size) for a in touched)
        reach = [sum(abs(s) * n for s, n in zip(self._home(a).strides, a.shape, strict=True)) for a in touched]
        self._index = "int" if max(size + THREADS, *reach) < 2**31 else "long long"
        self._arguments: dict[int, Traced] = {}
        self._values: dict[Any, tuple[str, np.dtype[Any]]] = {}
        self._lines: list[str] = []
        stores: dict[Any, Traced] = {}
        for op in unit:
            self._operation(op)
            if id(op.target.buffer) not in inner:
                stores[self._key(op.target)] = op.target
        for key, a in stores.items():
            value = self._values[key][0]
            self._lines.append(f"{self._place(a)} = {f'to_half({value})' if a.dtype.name == 'float16' else value};")
        self.kernel = self._kernel(unit, size)

    def _home(self, a: Traced) -> HostArray:
        return home(a, self._places)

    def _key(self, a: Traced) -> Any:
        """Return what tells one view of one buffer from another."""
        array = self._home(a)
        return array.ctypes.data, array.shape, array.strides, array.dtype.str

    def _place(self, a: Traced) -> str:
        """Return where a number of `a` lies, by the thread's row and column."""
        array = self._home(a)
        self._arguments.setdefault(array.ctypes.data, a)
        pointer = list(self._arguments).index(array.ctypes.data)
        if self._flat:
            return f"p{pointer}[{'i' if array.size > 1 else 0}]"
        r, c = two_dimensional(array.shape)
        down = array.strides[0] // array.itemsize if r > 1 else 0
        across = array.strides[-1] // array.itemsize if c > 1 else 0
        steps = (("row", down), ("column", across))
        terms = [name if step == 1 else f"{name} * {step}" for name, step in steps if step]
        return f"p{pointer}[{' + '.join(terms) or 0}]"

    def _cast(self, value: str, source: np.dtype[Any], target: np.dtype[Any]) -> str:
        if source == target or (source.name, target.name) == ("float16", "float32"):
            return value
        return f"from_half(to_half({value}))" if target.name == "float16" else f"({TYPES[target.name]})({value})"

    def _variable(self, dtype: np.dtype[Any], expression: str) -> str:
        name = f"v{len(self._lines)}"
        self._lines.append(f"const {_register(dtype)} {name} = {expression};")
        return name

    def _operand(self, a: Any, dtype: np.dtype[Any], condition: bool) -> str:
        if not isinstance(a, Traced):
            return literal(a, dtype)
        key = self._key(a)
        if key not in self._values:
            load = self._place(a)
            self._values[key] = (
                self._variable(a.dtype, f"from_half({load})" if a.dtype.name == "float16" else load),
                a.dtype,
            )
        value, source = self._values[key]
        return value if condition else self._cast(value, source, dtype)

    def _operation(self, op: Operation) -> None:
        dtype, template = loop_dtype(op), formula(op)
        assert template is not None
        operands = [self._operand(o, dtype, op.kind == "where" and k == 0) for k, o in enumerate(op.operands)]
        letters = {"r": "d", "f": ""} if dtype.itemsize == 8 else {"r": "f", "f": "f"}
        decision = op.kind == "elementwise" and op.function.__name__ in DECISIONS
        made = np.dtype(bool) if decision else dtype
        value = template.format(*operands, **letters)
        if made.name == "float16" and op.kind == "elementwise":
            value = f"from_half(to_half({value}))"
        target: np.dtype[Any] = op.target.dtype
        self._values[self._key(op.target)] = self._variable(target, self._cast(value, made, target)), target

    def _kernel(self, unit: Unit, size: int) -> Kernel:
        head = [
            f"const {self._index} i = ({self._index})blockIdx.x * {THREADS} + threadIdx.x;",
            f"if (i >= {size}) return;",
        ]
        if not self._flat:  # the compiler drops what is not used
            head.append(f"const {self._index} row = i / {self._shape[1]}, column = i % {self._shape[1]};")
        parameters = ", ".join(f"{TYPES[a.dtype.name]}* p{k}" for k, a in enumerate(self._arguments.values()))
        body = f"({parameters}) {{\n" + "".join(f"    {line}\n" for line in [*head, *self._lines]) + "}\n"
        names = [op.function.__name__ if op.kind == "elementwise" else op.kind for op in unit]
        name = "_".join(["xpnet", *names[:4], *(["and", str(len(names) - 4)] if len(names) > 4 else [])])
        name += f"_{zlib.crc32(body.encode()):08x}"
        source = f'extern "C" __global__ void {name}{body}'
        return Kernel(name, source, tuple(self._arguments.values()), -(-size // THREADS))


def write(unit: Unit, places: dict[int, Traced], inner: set[int]) -> Kernel:
    """Return the kernel that does the operations of `unit`."""
    return Writer(unit, places, inner).kernel
