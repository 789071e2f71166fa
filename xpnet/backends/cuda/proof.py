"""The proof, on the device, that a program does what its step does.

Nothing is trusted: before a program is used it does one step, and each kernel is compared, to the bit, with CuPy's own
functions on the same numbers. A kernel that differs is not used. Then the step is done as it is written. Its products,
which cuBLAS may sum up in another order, since it chooses its way by the alignment of what it is given, are compared
with those of the program by what rounding can make of them, and are replaced by them: so all else is equal to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from types import SimpleNamespace
from typing import Any

import numpy as np

from xpnet.backends.base import Step
from xpnet.backends.cuda.program import DeviceMemory, FusedStep, Rejected
from xpnet.backends.tape.plan import Unit, inputs
from xpnet.backends.tape.record import Buffer, Operation, Traced
from xpnet.typing import Array

TF32_ROUNDING, FLOAT32_ROUNDING, FLOAT64_ROUNDING = 2.0**-10, 2.0**-23, 2.0**-52


class Counts:
    """Numbers of places, on the device, at which arrays differ; looked at once, since the host waits for that."""

    def __init__(self, cupy: Any) -> None:
        self._cupy, self._added = cupy, list[tuple[Any, int, Array]]()

    def add(self, name: Any, wrong: Array) -> None:
        # Sums of integers over a whole array are in CuPy as it is installed; any() and all() would be compiled first.
        self._added.append((name, wrong.size, self._cupy.sum(wrong.astype(np.int64))))

    def found(self) -> dict[Any, str]:
        """Return the names whose arrays differ, and at how many places."""
        if not self._added:
            return {}
        counts = self._cupy.asnumpy(self._cupy.stack([count for _, _, count in self._added])).tolist()
        pairs = zip(self._added, counts, strict=True)
        return {name: f"at {count} of {size} places" for (name, size, _), count in pairs if count}


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


def check(program: FusedStep, cupy: Any) -> tuple[dict[int, Array], dict[int, str]]:
    """Do one step, and compare each kernel with CuPy's functions.

    Returns
    -------
    products : dict
        The results of the matrix products, by the identity of their operation.
    wrong : dict
        Why a kernel cannot be used, by its number; empty if all are right.
    """
    products, counts = {}, Counts(cupy)
    for k, (unit, call) in enumerate(zip(program.units, program.calls, strict=True)):
        own = _surroundings(program, cupy, unit) if k in program.kernels else None
        call()
        if own is not None:
            for op, value in _by_cupy(program, cupy, unit, own):
                counts.add(k, differs(program.memory.resolve(op.target), value))
        elif unit[0].kind == "matmul":
            products[id(unit[0])] = program.memory.resolve(unit[0].target).copy()
    names = {k: f"kernel {kernel.name} and CuPy's functions differ" for k, kernel in program.kernels.items()}
    return products, {k: f"{names[k]} {places}" for k, places in counts.found().items()}


def _home(program: FusedStep, a: Traced) -> Buffer:
    """Return the buffer in whose memory a result lies."""
    place = program.places.get(id(a.buffer))
    return a.buffer if place is None else place.buffer


def _surroundings(program: FusedStep, cupy: Any, unit: Unit) -> DeviceMemory:
    """Return the memory that a kernel reads, with copies of what it will write over."""
    own, arrays = DeviceMemory(cupy), program.memory.arrays
    written = {id(arrays.get(id(_home(program, op.target)))) for op in unit}  # results share arrays with others
    for op in unit:
        for a in (*inputs(op), op.target):
            base = _home(program, a)
            array = arrays.get(id(base))
            if array is not None and id(base) not in own.arrays:
                own.arrays[id(base)] = array.copy() if id(array) in written else array
    return own


def _by_cupy(program: FusedStep, cupy: Any, unit: Unit, own: DeviceMemory) -> list[tuple[Operation, Array]]:
    """Return what a kernel should have written, computed one operation at a time; what is done with is given back."""
    last = {id(a.buffer): k for k, op in enumerate(unit) for a in (*inputs(op), op.target)}
    for k, op in enumerate(unit):
        for a in (*inputs(op), op.target):
            if id(a.buffer) not in own.arrays:
                place, like = program.places.get(id(a.buffer)), a.buffer.array
                array = cupy.empty(like.shape, like.dtype) if place is None else own.resolve(place).reshape(like.shape)
                own.arrays[id(a.buffer)] = array
        own.resolve(op.target)[...] = program.compute(op, own)
        for a in (*inputs(op), op.target):
            if id(a.buffer) in program.inner and last[id(a.buffer)] == k:
                own.arrays.pop(id(a.buffer), None)
    return [(op, own.resolve(op.target)) for op in unit if id(op.target.buffer) not in program.inner]


class Written:
    """The namespace of a step as it is written, in which the products are those of its program, once compared.

    It is another namespace of the same functions: a step takes it for one that is not to fuse anything by itself.
    """

    def __init__(self, program: FusedStep, xp: Any, products: dict[int, Array], counts: Counts) -> None:
        self._program, self._xp, self._products, self._counts = program, xp, products, counts
        self._asked = [op for op in program.tape.operations if op.kind == "matmul"]
        self.namespace = SimpleNamespace(**vars(xp) | {"matmul": self._matmul})

    def _matmul(self, a: Array, b: Array) -> Array:
        own = self._xp.matmul(a, b)
        while self._asked:  # those that the step does not ask its namespace for, but an operator, are passed over
            op = self._asked.pop(0)
            if (op.target.shape, op.target.dtype) == (own.shape, own.dtype):
                found = self._products.get(id(op), own)  # a product that is not needed is not in the program
                name = f"a product of {a.shape} and {b.shape}"
                self._counts.add(name, differs_in_product(found, own, a, b, self._xp.matmul.tf32))
                return found
        return own


def proven(cupy: Any, xp: Any, step: Step, arrays: Mapping[str, Array], changes: Sequence[Array]) -> FusedStep:
    """Return the program of `step`, once it has done one step and the outcome was right.

    Kernels that are not right are left out. All arrays are then as they were before.

    Raises
    ------
    Exception
        Of any type, if the step cannot be recorded or the program is not equal to it.
    """
    apart: dict[int, str] = {}
    while True:
        fused = FusedStep(cupy, xp, step, arrays, apart)
        wrong = _prove(cupy, xp, fused, step, arrays, changes)
        if not wrong:
            return fused
        places = {id(op): position for position, op in enumerate(fused.tape.operations)}
        apart |= {places[id(op)]: reason for k, reason in wrong.items() for op in fused.units[k]}


def _prove(
    cupy: Any, xp: Any, fused: FusedStep, step: Step, arrays: Mapping[str, Array], changes: Sequence[Array]
) -> dict[int, str]:  # fmt: skip
    """Do one step by the program and one as it is written; return which kernels are wrong, and why."""
    names = {id(a): name for name, a in arrays.items()}
    touched = list({id(a): a for a in (*changes, *fused.changes)}.values())
    before = [a.copy() for a in touched]

    def restore() -> None:
        for array, value in zip(touched, before, strict=True):
            array[...] = value

    try:
        products, wrong = check(fused, cupy)
        if wrong:
            return wrong
        found = [a.copy() for a in touched]
        restore()
        counts = Counts(cupy)
        step(Written(fused, xp, products, counts).namespace, arrays)
        for array, outcome in zip(touched, found, strict=True):
            counts.add(f"'{names.get(id(array))}'", differs(outcome, array))
        for name, places in counts.found().items():
            raise Rejected(f"after one step {name} differs {places}")
    finally:
        restore()
    return {}
