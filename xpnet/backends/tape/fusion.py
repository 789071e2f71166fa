"""Which elementwise operations can be one loop: runs over one shape, of which none sees half of another's result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.backends.tape.hollow import same_view
from xpnet.backends.tape.plan import Unit, Uses, inputs, is_result
from xpnet.backends.tape.record import Operation, Traced
from xpnet.typing import HostArray

Known = Callable[[Operation], bool]  # says for which operations there is code

NUMBER_BY_NUMBER = ("elementwise", "copy", "where")
"""The kinds of operations that compute each number of their target from those at its own place."""


LOOK = 100
"""Steps of NumPy's search for a number that two arrays have in common; if it takes more, they may have one."""


def loop_dtype(op: Operation) -> np.dtype[Any]:
    """Return the data type in which NumPy computes an operation."""
    if op.kind in ("copy", "where"):
        target: np.dtype[Any] = op.target.array.dtype
        return target
    if any(a.dtype.name == "bfloat16" for a in inputs(op)) and len(inputs(op)) < len(op.operands):
        return np.dtype(np.float32)  # ml_dtypes' type knows no Python numbers that take the array's type
    dtype: np.dtype[Any] = np.result_type(*(o.dtype if isinstance(o, Traced) else o for o in op.operands))
    return dtype


def home(a: Traced, places: dict[int, Traced]) -> HostArray:
    """Return the array that `a` is a view of, as it lay when the step was recorded, or where it will be written."""
    if id(a.buffer) not in places:
        return a.array
    array = places[id(a.buffer)].array.reshape(a.buffer.array.shape)
    for view in a.path:
        array = view(array)
    return array


def repeated(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without leading axes of one entry, over which arrays are repeated anyway."""
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape


def _repeats(a: HostArray, shape: tuple[int, ...]) -> bool:
    """Say whether an array has a number for each place of `shape`, by repeating it along some axes."""
    own = repeated(a.shape)
    return len(own) <= len(shape) and all(n in (1, m) for n, m in zip(own[::-1], shape[::-1], strict=False))


def fits(op: Operation, places: dict[int, Traced], known: Known) -> bool:
    """Say whether an operation can be part of a loop: it reads no number that it writes at another place."""
    if op.kind not in NUMBER_BY_NUMBER or (op.kind == "elementwise" and not inputs(op)) or not known(op):
        return False
    target = home(op.target, places)
    for a in (target, *(home(a, places) for a in inputs(op))):
        if a.size == 0 or not a.flags.aligned or any(s % a.itemsize for s in a.strides):
            return False
        if not _repeats(a, target.shape) or (np.may_share_memory(a, target) and not same_view(a, target)):
            return False
    return all(holds(loop_dtype(op), o) for o in op.operands if type(o) is int)


def holds(dtype: np.dtype[Any], number: int) -> bool:
    """Say whether an integer is one of a data type; NumPy has rules of its own for comparisons with others."""
    return dtype.kind not in "iu" or bool(np.iinfo(dtype).min <= number <= np.iinfo(dtype).max)


def group(
    operations: list[Operation], places: dict[int, Traced], known: Known = lambda op: True
) -> list[Unit]:  # fmt: skip
    """Put runs of operations over one shape together, unless one would see half of another's result."""
    units: list[Unit] = []
    open_unit: Unit | None = None
    for op in operations:
        if not fits(op, places, known):
            open_unit = None
            units.append([op])
        elif open_unit is not None and _joins(op, open_unit, places):
            open_unit.append(op)
        else:
            open_unit = [op]
            units.append(open_unit)
    return units


def _joins(op: Operation, unit: Unit, places: dict[int, Traced]) -> bool:
    if repeated(op.target.shape) != repeated(unit[0].target.shape):
        return False
    target, read = home(op.target, places), [home(a, places) for a in inputs(op)]
    for earlier in unit:
        written = home(earlier.target, places)
        before = [written, *(home(a, places) for a in inputs(earlier))]
        pairs = [*((a, written) for a in read), *((a, target) for a in before)]
        if any(_overlap(a, b) and not same_view(a, b) for a, b in pairs):
            return False
    return True


def _overlap(a: HostArray, b: HostArray) -> bool:
    """Say whether two arrays may have a number in common, though one may lie between the numbers of the other."""
    return np.may_share_memory(a, b, LOOK)  # type: ignore[arg-type]  # NumPy's stubs know two numbers only


def within(units: list[Unit], places: dict[int, Traced]) -> set[int]:
    """Return the buffers that only one unit writes and reads: they stay in the registers of its loop."""
    where: dict[int, set[int]] = {}
    for i, unit in enumerate(units):
        for op in unit:
            for a in (*inputs(op), op.target):
                if is_result(a):
                    where.setdefault(id(a.buffer), set()).add(i)
    return {key for key, found in where.items() if len(found) == 1 and key not in places}


def adding(
    operations: list[Operation], places: dict[int, Traced], suits: Callable[[HostArray, HostArray, HostArray], bool]
) -> list[Operation]:  # fmt: skip
    """Let a product that is made to be added to an array add itself: ``y += matmul(a, b)`` is one operation, "adding".

    `suits` says for which factors and target that gives the same numbers.
    """
    uses = Uses(operations)
    made: dict[int, Operation | None] = {}
    for i, op in enumerate(operations):
        if op.function is not np.add or len(inputs(op)) != 2:
            continue
        for y, product in (op.operands, op.operands[::-1]):
            maker = uses.makers.get(id(product.buffer), i)
            if not (is_result(product) and operations[maker].kind == "matmul" and not product.path):
                continue
            if uses.readers[id(product.buffer)] != [i] or product.shape != y.shape:
                continue
            factors, target = operations[maker].operands, home(op.target, places)
            written = [target, *(home(o.target, places) for o in operations[maker + 1 : i])]
            if any(np.may_share_memory(home(a, places), b) for a in factors for b in written):
                continue
            if same_view(home(y, places), target) and suits(*(home(a, places) for a in (*factors, y))):
                options = operations[maker].options
                made |= {maker: None, i: Operation("adding", np.matmul, [*factors, y], op.target, options)}
    left = (made.get(i, op) for i, op in enumerate(operations))
    return [op for op in left if op is not None]
