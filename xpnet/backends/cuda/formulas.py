"""The operations of a step as formulas of CUDA C.

A kernel gives the bits that CuPy gives with a kernel for each operation, by the options with which CuPy compiles both
(one of them counts the smallest numbers of float32 as zeros). Sums and products are written as ``__fadd_rn`` and the
like, which the compiler never merges into a fused multiply-add. The option ``--fmad=false`` would do the same, but it
also changes what NVRTC makes of the mathematical functions of float64 (its code for log and log1p has another number
of multiply-adds then), and these are to be the ones in CuPy's kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xpnet.backends.tape.fusion import loop_dtype
from xpnet.backends.tape.loop import COMPARISONS, DType, Number, Step
from xpnet.backends.tape.plan import inputs
from xpnet.backends.tape.record import Operation

TYPES = {
    "bool": "bool", "int8": "signed char", "uint8": "unsigned char", "int16": "short", "uint16": "unsigned short",
    "int32": "int", "uint32": "unsigned int", "int64": "long long", "uint64": "unsigned long long",
    "float16": "unsigned short", "bfloat16": "unsigned short", "float32": "float", "float64": "double",
}  # fmt: skip
"""C's types of numbers in memory. A half is computed with as a float, and rounded after each operation."""
HALVES = {"float16": "half", "bfloat16": "bfloat"}
"""The types of 16 bits, and what the functions that convert them are called."""

FROM_AND_TO_HALF = """
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
FROM_AND_TO_BFLOAT = """
static __device__ float from_bfloat(unsigned short h) { return __uint_as_float((unsigned int)h << 16); }
static __device__ unsigned short to_bfloat(float x) {  // to the nearest, of two the even one
    unsigned int u = __float_as_uint(x);
    if (x != x) return u >> 16 | 0x40;
    return (u + 0x7fff + (u >> 16 & 1)) >> 16;
}
"""

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
    return FLOATING if dtype.name in HALVES else {"f": FLOATING, "b": BOOLEAN}.get(dtype.kind, INTEGER)


def known(op: Operation) -> bool:
    """Say whether there is a formula for an operation over numbers that fit together."""
    kinds = {a.dtype.name for a in (*inputs(op), op.target)}
    if not kinds <= TYPES.keys():
        return False
    if op.kind == "take":
        return True
    dtype = loop_dtype(op)
    if dtype.name not in TYPES:
        return False
    for half in kinds & HALVES.keys():
        if not kinds <= {half, "float32", "bool"}:
            return False  # from the others it takes two roundings to get there
    if op.kind != "elementwise":
        return True
    name = op.function.__name__
    if name in DECISIONS:  # int64 beside uint64: rules of their own
        return dtype.kind != "f" or any(a.dtype.kind not in "iu" for a in inputs(op))
    if name.endswith("_shift") and not (type(op.operands[1]) is int and 0 <= op.operands[1] < 8 * dtype.itemsize):
        return False  # undefined in C
    return name in table(dtype)


def register(dtype: DType) -> str:
    """Return C's type of a number while it is computed with."""
    return "float" if dtype.name in HALVES else TYPES[dtype.name]


def read(dtype: DType, at: str) -> str:
    """Return the number that lies in memory at a place."""
    return f"from_{HALVES[dtype.name]}({at})" if dtype.name in HALVES else at


def stored(dtype: DType, value: str) -> str:
    """Return a number as it goes to memory."""
    return f"to_{HALVES[dtype.name]}({value})" if dtype.name in HALVES else value


def literal(number: Number) -> str:
    """Return a number in C, to the bit."""
    dtype, value = number.dtype, number.value
    if dtype.kind == "f" or dtype.name in HALVES:
        value = value if dtype.kind == "f" else np.float32(value)
        if not np.isfinite(value):
            bits = np.asarray(value, np.float64).view(np.uint64)[()]
            return f"(({register(dtype)})__longlong_as_double({bits:#x}LL))"
        return f"({value}{'' if dtype.itemsize == 8 else 'f'})"  # as many digits as it takes
    return f"(({TYPES[dtype.name]}){int(value) & 0xFFFFFFFFFFFFFFFF}ULL)"


def identity(name: str, dtype: DType) -> Number:
    """Return the number that a reduction begins with."""
    limits = np.iinfo(dtype) if dtype.kind in "iu" else None
    low, high = (-np.inf, np.inf) if limits is None else (limits.min, limits.max)
    value = {"add": 0, "multiply": 1, "maximum": low, "minimum": high}[name]
    return Number(np.asarray(value, dtype).tobytes(), dtype)


def formula(step: Step, dtype: DType, values: Sequence[str]) -> str:
    """Return an operation on numbers of data type `dtype` in C."""
    if step.function == "where":
        return "{} ? {} : {}".format(*values)
    if step.function == "cast":
        value = values[0] if step.dtype.name in HALVES else f"({TYPES[step.dtype.name]})({values[0]})"
    else:
        value = applied(step.function, dtype, *values)
    return read(step.dtype, stored(step.dtype, value))


def applied(name: str, dtype: DType, *values: str) -> str:
    """Return a function of numbers of a data type in C, as it is before it is rounded to a half."""
    template = DECISIONS.get(name) or table(dtype)[name]
    return template.format(*values, **({"r": "d", "f": ""} if dtype.itemsize == 8 else {"r": "f", "f": "f"}))


def whole(source: str) -> str:
    """Return the source of kernels with the functions that they call before it."""
    conversions = {"_half(": FROM_AND_TO_HALF, "_bfloat(": FROM_AND_TO_BFLOAT}
    return "".join(text for name, text in conversions.items() if name in source) + source
