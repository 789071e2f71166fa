"""Which elementwise operations can be one loop of machine code (the ``fast`` extra).

`xpnet.backends.cpu.llvm` writes the loops. Their arithmetic is that of IEEE 754 without any relaxation (no fused
multiply-add, no reordering), so that they give the bits that NumPy gives. Exponentials and the like stay with
NumPy, which has better ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.backends.tape.plan import Unit, inputs
from xpnet.backends.tape.record import Operation, Traced
from xpnet.typing import HostArray

ARITHMETIC = {"add": "add", "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div"}
COMPARISONS = {"greater": ">", "less": "<", "greater_equal": ">=", "less_equal": "<=", "equal": "==", "not_equal": "!="}
BITWISE = {"bitwise_and": "and_", "bitwise_or": "or_", "bitwise_xor": "xor"}
FLOAT_ONLY = ("true_divide", "divide", "sqrt", "absolute", "negative")
SUPPORTED = {*ARITHMETIC, *COMPARISONS, *BITWISE, *FLOAT_ONLY, "maximum", "minimum", "square", "right_shift"}
DTYPES = ("bool", "int32", "int64", "uint32", "uint64", "float32", "float64")


def two_dimensional(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the rows and columns of a shape of at most two axes."""
    return (1, 1)[: 2 - len(shape)] + shape  # type: ignore[return-value]


def loop_dtype(op: Operation) -> np.dtype[Any]:
    """Return the data type in which NumPy computes an operation."""
    if op.kind in ("copy", "where"):
        target: np.dtype[Any] = op.target.array.dtype
        return target
    dtype: np.dtype[Any] = np.result_type(*(o.dtype if isinstance(o, Traced) else o for o in op.operands))
    return dtype


def fits(op: Operation, places: dict[int, Traced]) -> bool:
    """Say whether an operation can be part of a kernel."""
    if op.kind not in ("elementwise", "copy", "where"):
        return False
    if op.kind == "elementwise" and (op.function.__name__ not in SUPPORTED or not inputs(op)):
        return False
    arrays = [*inputs(op), op.target]
    if any(a.ndim > 2 or a.dtype.name not in DTYPES or a.size == 0 for a in arrays):
        return False
    kind = loop_dtype(op)
    if op.kind == "elementwise":
        name = op.function.__name__
        if name in FLOAT_ONLY and kind.kind != "f":
            return False
        if name == "right_shift" and not (
            kind.kind == "u" and type(op.operands[1]) is int and 0 <= op.operands[1] < 32
        ):
            return False
        if kind.kind == "b" and name not in BITWISE:
            return False
    elif any(a.dtype.kind == "f" and kind.kind != "f" for a in inputs(op)[op.kind == "where" :]):
        return False  # from floating point to integers: NumPy's own rules
    rows, columns = two_dimensional(op.target.shape)
    return all(_strides_fit(home(a, places), rows, columns) for a in arrays)


def _strides_fit(a: HostArray, rows: int, columns: int) -> bool:
    r, c = two_dimensional(a.shape)
    inner = a.strides[-1] if a.ndim else a.itemsize
    return r in (1, rows) and c in (1, columns) and (c == 1 or inner == a.itemsize)


def home(a: Traced, places: dict[int, Traced]) -> HostArray:
    """Return the array that `a` is a view of, as it lay when the step was recorded, or where it will be written."""
    if id(a.buffer) not in places:
        return a.array
    array = places[id(a.buffer)].array.reshape(a.buffer.array.shape)
    for view in a.path:
        array = view(array)
    return array


def same_view(a: HostArray, b: HostArray) -> bool:
    """Say whether two arrays are the same numbers in memory, in the same order."""
    return a.ctypes.data == b.ctypes.data and a.shape == b.shape and a.strides == b.strides and a.dtype == b.dtype


def group(
    operations: list[Operation], places: dict[int, Traced],
    suits: Callable[[Operation, dict[int, Traced]], bool] = fits,
) -> list[Unit]:  # fmt: skip
    """Put runs of operations of one shape together, unless one would see half of another's result.

    `suits` says which operations can be part of a kernel.
    """
    units: list[Unit] = []
    open_unit: Unit | None = None
    for op in operations:
        if not suits(op, places) or not _apart(op, places):
            open_unit = None
            units.append([op])
        elif open_unit is not None and _joins(op, open_unit, places):
            open_unit.append(op)
        else:
            open_unit = [op]
            units.append(open_unit)
    return units


def _joins(op: Operation, unit: Unit, places: dict[int, Traced]) -> bool:
    if two_dimensional(op.target.shape) != two_dimensional(unit[0].target.shape):
        return False
    target = home(op.target, places)
    for earlier in unit:
        written = home(earlier.target, places)
        if any(
            np.may_share_memory(home(a, places), written) and not same_view(home(a, places), written)
            for a in inputs(op)
        ):
            return False
        touched = [written, *(home(a, places) for a in inputs(earlier))]
        if any(np.may_share_memory(a, target) and not same_view(a, target) for a in touched):
            return False
    return True


def _apart(op: Operation, places: dict[int, Traced]) -> bool:
    """Say whether an operation writes only where it reads the same numbers, or none."""
    target = home(op.target, places)
    own = [home(a, places) for a in inputs(op)]
    return not any(np.may_share_memory(a, target) and not same_view(a, target) for a in own)


def alone(op: Operation, places: dict[int, Traced]) -> bool:
    """Say whether an operation can be a kernel by itself."""
    return fits(op, places) and _apart(op, places)
