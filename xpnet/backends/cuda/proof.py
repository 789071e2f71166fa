"""The proof, on the device, that a program does what its step does.

Nothing is trusted: before a program is used it does one step, and each kernel is compared, to the bit, with CuPy's own
functions on the same numbers; then the whole step is compared with the step as it is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from xpnet.backends.base import Step
from xpnet.backends.cuda.program import DeviceMemory, FusedStep, Rejected
from xpnet.backends.tape.plan import Unit, inputs
from xpnet.backends.tape.record import Operation
from xpnet.typing import Array


def _same(a: Array, b: Array) -> Array:
    """Say of each number whether it is the same in both, NaN being the same as NaN."""
    return (a == b) | ((a != a) & (b != b))


def check(program: FusedStep, cupy: Any) -> None:
    """Do one step, and compare each kernel with CuPy's functions.

    Raises
    ------
    Rejected
        Numbers are not the same.
    """
    for k, (unit, call) in enumerate(zip(program.units, program.calls, strict=True)):
        if k not in program.kernels:
            call()
            continue
        expected = _by_cupy(program, cupy, unit)
        call()
        for op, value in expected:
            wrong = ~_same(program.memory.resolve(op.target), value)
            if bool(wrong.any()):
                places = f"at {int(wrong.sum())} of {wrong.size} places"
                raise Rejected(f"kernel {program.kernels[k].name} and CuPy's functions differ {places}")


def _by_cupy(program: FusedStep, cupy: Any, unit: Unit) -> list[tuple[Operation, Array]]:
    """Return what a kernel is going to write, computed one operation at a time on copies."""
    own = DeviceMemory(cupy)
    for op in unit:
        for a in (*inputs(op), op.target):
            place = program.places.get(id(a.buffer))
            base = a.buffer if place is None else place.buffer
            if id(base) not in own.arrays:
                array = program.memory.arrays.get(id(base))
                own.arrays[id(base)] = cupy.empty(base.array.shape, base.array.dtype) if array is None else array.copy()
            if place is not None:
                own.arrays[id(a.buffer)] = own.resolve(place).reshape(a.buffer.array.shape)
    for op in unit:
        own.resolve(op.target)[...] = program.compute(op, own)
    return [(op, own.resolve(op.target)) for op in unit if id(op.target.buffer) not in program.inner]


def difference(found: Array, expected: Array, before: Array) -> str:
    """Say how two outcomes of one array differ by more than rounding, or return nothing.

    The kernels are compared to the bit elsewhere. Here two steps are compared whose products may have been summed up
    in another order, since cuBLAS chooses its way by the alignment of what it is given: so floats may differ by a
    ten-thousandth of the largest change of the array in this step, and by four roundings.
    """
    same = _same(found, expected)
    if bool(same.all()):
        return ""
    if found.dtype.kind != "f":
        return "differs"
    apart = abs(found - expected)
    bound = 1e-4 * abs(expected - before).max() + 4 * float(np.finfo(found.dtype).eps) * abs(expected)
    wrong = ~(same | (apart <= bound))  # a NaN is never below a bound
    return f"differs at {int(wrong.sum())} of {found.size} places" if bool(wrong.any()) else ""


def proven(cupy: Any, xp: Any, step: Step, arrays: Mapping[str, Array], changes: Sequence[Array]) -> FusedStep:
    """Return the program of `step`, once it has done one step and the outcome was right.

    All arrays are then as they were before.

    Raises
    ------
    Exception
        Of any type, if the step cannot be recorded or the program is not equal to it.
    """
    fused = FusedStep(cupy, xp, step, arrays)
    names = {id(a): name for name, a in arrays.items()}
    touched = list({id(a): a for a in (*changes, *fused.changes)}.values())
    before = [a.copy() for a in touched]

    def restore() -> None:
        for array, value in zip(touched, before, strict=True):
            array[...] = value

    try:
        check(fused, cupy)
        found = [a.copy() for a in touched]
        restore()
        # Another namespace of the same functions: the step takes it for one that is not to fuse anything by itself.
        step(SimpleNamespace(**vars(xp)), arrays)
        for array, outcome, value in zip(touched, found, before, strict=True):
            problem = difference(outcome, array, value)
            if problem:
                raise Rejected(f"after one step '{names.get(id(array))}' {problem}")
    finally:
        restore()
    return fused
