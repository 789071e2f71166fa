"""The proof, on the device, that a program does what its step does.

Nothing is trusted: before a program is used it does one step, and each kernel is compared, to the bit, with CuPy's own
functions on the same numbers, which add up in the order of the kernel where that adds up. A kernel that differs is not
used. Then the step is done as it is written. Its products and sums are done in another order there (cuBLAS chooses its
way by the alignment of what it is given, and CuPy's sums have an order of their own). So they are compared with those
of the program by what rounding can make of them, and are replaced by them: so all else is equal to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xpnet.backends.base import Step
from xpnet.backends.cuda.compare import Counts, differs, in_order
from xpnet.backends.cuda.program import DeviceMemory, FusedStep, Rejected
from xpnet.backends.cuda.units import Part
from xpnet.backends.cuda.written import SUMS, Written
from xpnet.backends.tape.fusion import NUMBER_BY_NUMBER
from xpnet.backends.tape.plan import Unit, inputs, is_result
from xpnet.backends.tape.record import Buffer, Operation, Traced
from xpnet.typing import Array

WINDOW = 2**20
"""Numbers of a vector that are compared at once."""


class Seen(DeviceMemory):
    """Memory of which a window of each long vector is seen, if there is a window."""

    def __init__(self, cupy: Any, arrays: Mapping[int, Array], window: tuple[int, slice] | None) -> None:
        super().__init__(cupy)
        self.arrays.update(arrays)
        self._window = window

    def cut(self, array: Array) -> Array:
        """Return what is seen of an array."""
        return array[self._window[1]] if self._window and array.shape == (self._window[0],) else array

    def resolve(self, a: Any) -> Any:
        array = super().resolve(a)
        return self.cut(array) if isinstance(a, Traced) else array

    def empty(self, like: Array) -> Array:
        """Return room for what is seen of an array like `like`."""
        shape = like.shape
        if self._window and shape == (self._window[0],):
            shape = (len(range(*self._window[1].indices(shape[0]))),)
        return self._cupy.empty(shape, like.dtype)


def _windows(part: Part, program: FusedStep) -> list[tuple[int, slice] | None]:
    """Return the windows in which a long vector is looked at, so that intermediate results take little memory."""
    operations, shape = part.operations, part.space.shape
    if len(shape) != 1 or shape[0] <= WINDOW or any(op.kind not in NUMBER_BY_NUMBER for op in operations):
        return [None]
    results = [a for op in operations for a in (*inputs(op), op.target) if is_result(a) and a.shape == shape]
    if any(a.path or id(a.buffer) in program.places for a in results):
        return [None]
    return [(shape[0], slice(start, start + WINDOW)) for start in range(0, shape[0], WINDOW)]


def check(program: FusedStep, cupy: Any) -> tuple[dict[int, Array], dict[tuple[int, int], str]]:
    """Do one step, and compare each part of each kernel with CuPy's functions.

    Returns
    -------
    sums : dict
        The results of matrix products, and of reductions in kernels, by the identity of their buffer.
    wrong : dict
        Why a part cannot be used, by the numbers of its kernel and its own; empty if all are right.
    """
    sums, counts = dict[int, Array](), Counts(cupy)
    for k, (unit, call) in enumerate(zip(program.units, program.calls, strict=True)):
        own = _surroundings(program, cupy, unit) if k in program.kernels else None
        call()
        if own is not None:
            for p, part in enumerate(program.launches[k].parts):
                for window in _windows(part, program):
                    seen = Seen(cupy, own.arrays, window)
                    for op, value in _by_cupy(program, cupy, part.operations, seen, sums):
                        counts.add((k, p), differs(seen.cut(program.memory.resolve(op.target)), value))
        elif unit[0].kind == "matmul":
            sums[id(unit[0].target.buffer)] = program.memory.resolve(unit[0].target).copy()
    found = counts.found()
    names = {key: f"kernel {program.kernels[key[0]].name} and CuPy's functions differ" for key in found}
    return sums, {key: f"{names[key]} {places}" for key, places in found.items()}


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


def _by_cupy(
    program: FusedStep, cupy: Any, unit: Unit, own: Seen, sums: dict[int, Array]
) -> list[tuple[Operation, Array]]:  # fmt: skip
    """Return what a part should have written, computed one operation at a time; what is done with is given back.

    What it adds up, which is not what CuPy's own function would give to the bit, is kept in `sums`, too.
    """
    last = {id(a.buffer): k for k, op in enumerate(unit) for a in (*inputs(op), op.target)}
    for k, op in enumerate(unit):
        for a in (*inputs(op), op.target):
            if id(a.buffer) not in own.arrays:
                place, like = program.places.get(id(a.buffer)), a.buffer.array
                array = own.empty(like) if place is None else own.resolve(place).reshape(like.shape)
                own.arrays[id(a.buffer)] = array
        if op.kind in SUMS:
            own.resolve(op.target)[...] = in_order(cupy, op, *map(own.resolve, inputs(op)))
            sums[id(op.target.buffer)] = own.resolve(op.target).copy()
        else:
            own.resolve(op.target)[...] = program.compute(op, own)
        for a in (*inputs(op), op.target):
            if id(a.buffer) in program.inner and last[id(a.buffer)] == k:
                own.arrays.pop(id(a.buffer), None)
    kept = (op for op in unit if id(op.target.buffer) not in program.inner)
    written = {(id(op.target.buffer), op.target.array.ctypes.data, op.target.shape): op for op in kept}
    return [(op, own.resolve(op.target)) for op in written.values()]


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
        for (k, p), reason in wrong.items():
            operations = fused.launches[k].parts[p].operations
            others = [op for op in operations if op.kind not in SUMS]  # first, so that sums stay in their order
            apart |= {fused.positions[id(op)]: reason for op in others or operations}


def _prove(
    cupy: Any, xp: Any, fused: FusedStep, step: Step, arrays: Mapping[str, Array], changes: Sequence[Array]
) -> dict[tuple[int, int], str]:  # fmt: skip
    """Do one step by the program and one as it is written; return which parts of kernels are wrong, and why."""
    names = {id(a): name for name, a in arrays.items()}
    touched = list({id(a): a for a in (*changes, *fused.changes)}.values())
    before = [a.copy() for a in touched]

    def restore() -> None:
        for array, value in zip(touched, before, strict=True):
            array[...] = value

    try:
        sums, wrong = check(fused, cupy)
        if wrong:
            return wrong
        found = [a.copy() for a in touched]
        restore()
        counts = Counts(cupy)
        step(Written(fused, xp, sums, counts).namespace, arrays)
        for array, outcome in zip(touched, found, strict=True):
            for start in range(0, array.size, WINDOW):
                one, other = (a.reshape(-1)[start : start + WINDOW] for a in (outcome, array))
                counts.add(f"'{names.get(id(array))}'", differs(one, other))
        for name, places in counts.found().items():
            raise Rejected(f"after one step {name} differs {places}")
    finally:
        restore()
    return {}
