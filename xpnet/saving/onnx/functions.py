"""Functions of the array API standard as ONNX operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import log
from typing import Any

import numpy as np

from xpnet.saving.onnx import shaping
from xpnet.saving.onnx.graph import Dims, Graph, Value

SAME = {
    "add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div", "power": "Pow", "maximum": "Max",
    "minimum": "Min", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "reciprocal": "Reciprocal", "absolute": "Abs",
    "negative": "Neg", "sign": "Sign", "sin": "Sin", "cos": "Cos", "tan": "Tan", "arcsin": "Asin", "arccos": "Acos",
    "arctan": "Atan", "sinh": "Sinh", "cosh": "Cosh", "tanh": "Tanh", "arcsinh": "Asinh", "arccosh": "Acosh",
    "arctanh": "Atanh", "floor": "Floor", "ceil": "Ceil", "rint": "Round", "positive": "Identity",
}  # fmt: skip
"""Operators of numbers that are NumPy's functions under another name."""
ASKED = {
    "greater": "Greater", "less": "Less", "greater_equal": "GreaterOrEqual", "less_equal": "LessOrEqual",
    "equal": "Equal", "isnan": "IsNaN", "isinf": "IsInf",
}  # fmt: skip
"""Operators with an answer of yes or no."""
BITS = {"bitwise_and": "And", "bitwise_or": "Or", "bitwise_xor": "Xor", "invert": "Not"}
"""Of yes and no; of integers they are called BitwiseAnd and so on."""
LOGICAL = {"logical_and": "And", "logical_or": "Or", "logical_xor": "Xor", "logical_not": "Not"}
SHIFTS = {"left_shift": "LEFT", "right_shift": "RIGHT"}
REDUCTIONS = {"add": "ReduceSum", "maximum": "ReduceMax", "minimum": "ReduceMin", "multiply": "ReduceProd"}

MADE_OF: dict[str, Callable[..., Any]] = {
    "square": lambda e, x: e("multiply", x, x),
    "expm1": lambda e, x: e("subtract", e("exp", x), 1.0),
    "log1p": lambda e, x: e("log", e("add", x, 1.0)),
    "log2": lambda e, x: e("multiply", e("log", x), 1.0 / log(2.0)),
    "log10": lambda e, x: e("multiply", e("log", x), 1.0 / log(10.0)),
    "hypot": lambda e, x, y: e("sqrt", e("add", e("multiply", x, x), e("multiply", y, y))),
    "logaddexp": lambda e, x, y: e(
        "add", e("maximum", x, y), e("log1p", e("exp", e("negative", e("absolute", e("subtract", x, y)))))
    ),
    "trunc": lambda e, x: e("multiply", e("sign", x), e("floor", e("absolute", x))),
    "not_equal": lambda e, x, y: e("logical_not", e("equal", x, y)),
    "isfinite": lambda e, x: e("logical_not", e("logical_or", e("isnan", x), e("isinf", x))),
    "floor_divide": lambda e, x, y: e("floor", e("divide", x, y)),
    "remainder": lambda e, x, y: e("subtract", x, e("multiply", y, e("floor_divide", x, y))),
}
"""Functions that the operators lack, made of others; `e` writes one of these."""


class NoOperator(Exception):
    """There is no form for something as operators; the message says what, `operation` what it was on the tape."""

    operation: Any = None


def elementwise(g: Graph, name: str, operands: Sequence[Any], dtype: np.dtype[Any]) -> Value:
    """Return a function of each number alone, computed in `dtype`. Operands are values and Python's numbers."""

    def again(other: str, *others: Any) -> Value:
        return elementwise(g, other, others, dtype)

    if name in LOGICAL:
        dtype = np.dtype(bool)
    values = [
        shaping.cast(g, o, dtype) if isinstance(o, Value) else g.constant(np.asarray(o).astype(dtype)) for o in operands
    ]
    shape = np.broadcast_shapes(*(v.shape for v in values))
    same = _unchanged(g, name, values, shape)
    if same is not None:
        return same
    if name == "maximum" and g.number(values[1]) == 0.0 and dtype.kind == "f" and values[0].shape == shape:
        return g.node("Relu", values[:1], shape, dtype)
    if name in SAME:
        return g.node(SAME[name], values, shape, dtype)
    if name in ASKED:
        return g.node(ASKED[name], values, shape, bool)
    if name in LOGICAL:
        return g.node(LOGICAL[name], values, shape, bool)
    if name in BITS:
        return g.node(("Bitwise" if dtype.kind in "iu" else "") + BITS[name], values, shape, dtype)
    if name in SHIFTS and dtype.kind == "u":
        return g.node("BitShift", values, shape, dtype, direction=SHIFTS[name])
    if name in MADE_OF and (dtype.kind == "f" or name not in ("floor_divide", "remainder")):
        result: Value = MADE_OF[name](again, *values)
        return result
    raise NoOperator(f"{name} of {dtype.name} numbers is not an ONNX operator, nor made of some here")


def _unchanged(g: Graph, name: str, values: Sequence[Value], shape: Dims) -> Value | None:
    """Return the operand that is the outcome, as where 1 is multiplied or 0 added."""
    neutral = {"multiply": 1, "divide": 1, "add": 0, "subtract": 0, "power": 1}.get(name)
    if neutral is not None:
        first, second = values
        if g.number(second) == neutral and first.shape == shape:
            return first
        if name in ("multiply", "add") and g.number(first) == neutral and second.shape == shape:
            return second
    return None


def product(g: Graph, a: Value, b: Value) -> Value:
    """Return a matrix product; of matrices one may be transposed."""
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    shape = (*lead, *a.shape[-2:-1], *(b.shape[-1:] if len(b.shape) > 1 else ()))
    if len(a.shape) == len(b.shape) == 2:
        (first, across), (second, along) = (_untransposed(g, v) for v in (a, b))
        if across or along:
            return g.node("Gemm", [first, second], shape, a.dtype, transA=int(across), transB=int(along))
    return g.node("MatMul", [a, b], shape, a.dtype)


def _untransposed(g: Graph, x: Value) -> tuple[Value, bool]:
    node = g.maker(x, "Transpose")
    return (g.values[node.inputs[0]], True) if node else (x, False)


def added(g: Graph, a: Value, b: Value, dtype: np.dtype[Any]) -> Value | None:
    """Return a sum as part of the product before it, if `b` is a row and `a` a product of matrices; else None."""
    node = g.maker(a, "MatMul") or g.maker(a, "Gemm")
    if node is None or len(node.inputs) != 2 or len(a.shape) != 2 or len(b.shape) != 1 or b.shape != a.shape[1:]:
        return None
    if any(len(g.values[name].shape) != 2 for name in node.inputs):
        return None
    factors = [g.values[name] for name in node.inputs]
    return g.node("Gemm", [*factors, b], a.shape, dtype, **dict(node.attributes))


def reduced(g: Graph, name: str, x: Value, axes: Sequence[int], keepdims: bool, dtype: np.dtype[Any]) -> Value:
    """Return a sum, product, maximum or minimum along axes."""
    if name not in REDUCTIONS:
        raise NoOperator(f"{name} along axes is not an ONNX operator")
    shape = tuple(1 if k in axes else n for k, n in enumerate(x.shape) if keepdims or k not in axes)
    if not axes:
        return x
    return g.node(REDUCTIONS[name], [shaping.cast(g, x, dtype), g.integers(axes)], shape, dtype, keepdims=int(keepdims))


def called(g: Graph, name: str, given: Sequence[Any], options: Mapping[str, Any], shape: Dims, dtype: Any) -> Value:
    """Return what one of the standard's larger functions gives: of those that a layer is likely to call.

    `given` are its arguments, values and others.
    """
    x, *others = given
    if name == "take":
        return g.node("Gather", given, shape, dtype, axis=options["axis"])
    if name == "power_of_number":
        return elementwise(g, "power", given, dtype)
    if name == "round" and not others and not options:
        return elementwise(g, "rint", given, dtype)
    if name == "clip" and isinstance(x, Value):
        low, high = options.get("min", (*others, None)[0]), options.get("max", (*others, None, None)[1])
        x = x if low is None else elementwise(g, "maximum", [x, low], dtype)
        return x if high is None else elementwise(g, "minimum", [x, high], dtype)
    axis = options.get("axis")
    if name in ("argmax", "argmin") and axis is not None and not others:
        op, keep = "ArgMax" if name == "argmax" else "ArgMin", int(bool(options.get("keepdims")))
        return g.node(op, [x], shape, dtype, axis=axis, keepdims=keep)
    if name == "cumulative_sum" and not others and not options.get("include_initial"):
        return g.node("CumSum", [shaping.cast(g, x, dtype), g.constant(np.asarray(axis or 0))], shape, dtype)
    raise NoOperator(f"xp.{name} has no form here")
