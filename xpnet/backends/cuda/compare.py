"""What counts as no difference: equal bits, or for what is added up in another order what rounding can make of it."""

from __future__ import annotations

from math import prod, sqrt
from typing import Any

import numpy as np

from xpnet.backends.cuda.formulas import identity
from xpnet.backends.cuda.units import chunk, lanes
from xpnet.backends.tape.functions import axes_of
from xpnet.backends.tape.loop import summed_in
from xpnet.backends.tape.record import Operation
from xpnet.typing import Array

MOST_ADDITIONS = 1024
"""Additions that a number of a sum goes through at most, in whatever order CuPy or a kernel does them."""
TF32_ROUNDING, FLOAT32_ROUNDING, FLOAT64_ROUNDING = 2.0**-10, 2.0**-23, 2.0**-52


class Counts:
    """Numbers of places, on the device, at which arrays differ; looked at once, since the host waits for that."""

    def __init__(self, cupy: Any) -> None:
        self._cupy, self._sizes, self._wrong = cupy, dict[Any, int](), dict[Any, Array]()

    def add(self, name: Any, wrong: Array) -> None:
        # Sums of integers over a whole array are in CuPy as it is installed; any() and all() would be compiled first.
        count = self._cupy.sum(wrong.astype(np.int64))
        self._wrong[name] = self._wrong[name] + count if name in self._wrong else count
        self._sizes[name] = self._sizes.get(name, 0) + wrong.size

    def found(self) -> dict[Any, str]:
        """Return the names whose arrays differ, and at how many places."""
        if not self._wrong:
            return {}
        counts = self._cupy.asnumpy(self._cupy.stack([*self._wrong.values()])).tolist()
        pairs = zip(self._sizes.items(), counts, strict=True)
        return {name: f"at {count} of {size} places" for (name, size), count in pairs if count}


def differs(a: Array, b: Array) -> Array:
    """Say of each number whether its bits differ; NaN is NaN, whatever its bits."""
    if a.dtype.kind in "biu":
        return a != b
    bits = f"u{a.dtype.itemsize}"
    return (a.view(bits) != b.view(bits)) & ((a == a) | (b == b))


def differs_in_product(found: Array, own: Array, a: Array, b: Array, tf32: bool) -> Array:
    """Say of each number of two products of `a` and `b` whether they differ by more than rounding.

    Sums of K products of numbers up to A and B, in whatever order, are apart by less than 2 K A B roundings; and each
    is rounded to the data type of the result.
    """
    terms, name = a.shape[-1], found.dtype.name
    summed = terms * (FLOAT64_ROUNDING if name == "float64" else FLOAT32_ROUNDING)
    if tf32 and name == "float32":  # in case that only one of them rounded the factors
        summed = max(summed, sqrt(terms) * TF32_ROUNDING)
    wide = np.float64 if name == "float64" else np.float32
    x, y = found.astype(wide), own.astype(wide)
    rounded = {"float16": 2.0**-10, "bfloat16": 2.0**-7}.get(name, summed)
    bound = 2.0 * summed * abs(a).max().astype(wide) * abs(b).max().astype(wide) + 2.0 * rounded * abs(y)
    return differs(found, own) & ~(abs(x - y) <= bound)  # a NaN is never below a bound


def differs_in_sum(found: Array, own: Array, terms: int, magnitude: Array) -> Array:
    """Say of each number of two sums of `terms` numbers whether they differ by more than rounding.

    However a sum is done, it is apart from the exact one by less than a rounding of the sum of all magnitudes for each
    addition that a number goes through.
    """
    if found.dtype.kind in "iub":
        return differs(found, own)
    rounding = float(np.finfo(found.dtype).eps)
    bound = 2.0 * min(terms, MOST_ADDITIONS) * rounding * magnitude
    return differs(found, own) & ~(abs(found - own) <= bound)


def in_order(cupy: Any, op: Operation, *arrays: Array) -> Array:
    """Return a reduction or a product of few terms with every addition in the place that it has in a kernel."""
    if op.kind == "matmul":
        return few_terms(cupy, *arrays)
    axes = axes_of(op.operands[0], op.options[0])
    return by_lanes(cupy, op.function.__name__, arrays[0], axes, chunk(op)).reshape(op.target.shape)


def few_terms(cupy: Any, a: Array, b: Array) -> Array:
    """Return a product whose terms are added up one after another."""
    wide = summed_in(a.dtype)
    total = cupy.zeros((a.shape[0], b.shape[1]), wide)
    for k in range(a.shape[1]):
        total = total + a[:, k : k + 1].astype(wide) * b[k : k + 1, :].astype(wide)
    return total.astype(a.dtype)


def by_lanes(cupy: Any, name: str, x: Array, axes: tuple[int, ...], each: int = 0) -> Array:
    """Return a reduction, flat, as the threads of a kernel do it; in parts of `each` numbers, if it is done so."""
    kept, length = [k for k in range(x.ndim) if k not in axes], prod(x.shape[k] for k in axes)
    rows = x.transpose([*kept, *sorted(axes)]).reshape((-1, length)).astype(summed_in(x.dtype))
    if not each:
        return _tree(cupy, name, rows, lanes(length, len(rows))).astype(x.dtype)
    whole = length // each
    together = lanes(each, len(rows) * -(-length // each))
    parts = rows[:, : whole * each].reshape((-1, each))
    found = [_tree(cupy, name, parts, together).reshape((len(rows), whole))]
    if length > whole * each:
        found.append(_tree(cupy, name, rows[:, whole * each :], together))
    return cupy.concatenate(found, axis=1).T


def _tree(cupy: Any, name: str, rows: Array, together: int) -> Array:
    """Return the reduction of each row, (R, 1): each thread's own numbers first, and then halves."""
    join, start = getattr(cupy, name), identity(name, rows.dtype).value
    each = cupy.full((rows.shape[0], together), start, rows.dtype)
    for first in range(0, rows.shape[1], together):
        part = rows[:, first : first + together]
        each[:, : part.shape[1]] = join(each[:, : part.shape[1]], part)
    while together > 1:
        together //= 2
        each = join(each[:, :together], each[:, together : 2 * together])
    return each
