"""A training step as kernels of its own, products by cuBLAS and CuPy's functions, and the proof that it is the step.

Nothing is trusted: before the program is used it does one step on the device, and each kernel is compared, to the bit,
with CuPy's own functions on the same numbers; then the whole step is compared with the step as it is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from xpnet.backends.base import Step
from xpnet.backends.cuda_kernels import THREADS, Kernel, fits, write
from xpnet.backends.cuda_record import record
from xpnet.backends.native import group
from xpnet.backends.plan import Memory, Unit, _inner, assign, inputs, is_result, without_dead, write_in_place
from xpnet.backends.tape import Buffer, Operation

Array = Any

REDUCTIONS = {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min"}
LOOSE = ("reduce", "where")
"""Kinds of operations whose results stay in the arrays that CuPy returns: to write them elsewhere takes a copy."""


class Rejected(Exception):
    """The program does not do what the step does; the message says where."""


class DeviceMemory(Memory):
    """Gives buffers arrays of the device."""

    def __init__(self, cupy: Any) -> None:
        super().__init__()
        self._cupy = cupy
        self._blocks: dict[Any, list[Array]] = {}

    def place(self, buffer: Buffer) -> None:
        """Give `buffer` an array: one that another has left, of the same data type and layout, or a new one.

        A kernel may read and write the same array, but never two that overlap in some other way.
        """
        like = buffer.array
        free = self._blocks.get((like.dtype.str, like.shape, like.strides))
        if free:
            array = free.pop()
        else:
            order = sorted(range(like.ndim), key=lambda axis: -abs(like.strides[axis]))
            flat = self._cupy.empty([like.shape[axis] for axis in order], like.dtype)
            array = flat.transpose([order.index(axis) for axis in range(like.ndim)]) if order else flat
        self.arrays[id(buffer)] = self._owner[id(buffer)] = array
        self.own.add(id(buffer))

    def release(self, buffer: Buffer) -> None:
        like = buffer.array
        array = self._owner.pop(id(buffer), None)
        if array is not None:
            self._blocks.setdefault((like.dtype.str, like.shape, like.strides), []).append(array)


class FusedStep:
    """The program of one step: a list of units, each a kernel or one call of a function.

    Parameters
    ----------
    cupy : module
    xp : namespace
        The backend's, with a `matmul` that takes ``out``.
    step : callable
    arrays : mapping of arrays
    """

    def __init__(self, cupy: Any, xp: Any, step: Step, arrays: Mapping[str, Array]) -> None:
        self._cupy, self._xp = cupy, xp
        tape, given = record(step, xp, cupy.ndarray, arrays)
        operations, self.places = write_in_place(without_dead(tape.operations))
        self.units = group(operations, self.places, fits)
        self.inner = _inner(self.units, self.places)
        loose = {
            id(op.target.buffer)
            for op in operations
            if op.kind in LOOSE and is_result(op.target) and not fits(op, self.places)
        } - set(self.places)
        self.memory = DeviceMemory(cupy)
        self.memory.arrays = {id(given[name].buffer): array for name, array in arrays.items()}
        for op in operations:
            for a in inputs(op):
                if a.buffer.kind == "constant" and id(a.buffer) not in self.memory.arrays:
                    self.memory.arrays[id(a.buffer)] = cupy.asarray(np.asarray(a.buffer.array))
        assign(self.units, self.places, self.inner | loose, self.memory)
        self._loose = loose
        self._tape = tape  # the plan tells buffers apart by their identity
        changed = {id(op.target.buffer) for op in operations}
        self.changes = {name: arrays[name] for name, a in given.items() if id(a.buffer) in changed}
        self.changes |= {
            name: arrays[name] for name, a in given.items() if any(p.buffer is a.buffer for p in self.places.values())
        }
        self.kernels = {
            k: write(unit, self.places, self.inner) for k, unit in enumerate(self.units) if self._fused(unit)
        }
        sources = {kernel.name: kernel.source for kernel in self.kernels.values()}
        module = cupy.RawModule(code="".join(sources.values())) if sources else None
        functions = {name: module.get_function(name) for name in sources} if module is not None else {}
        self._calls = [
            self._launch(self.kernels[k], functions[self.kernels[k].name]) if k in self.kernels else self._call(unit[0])
            for k, unit in enumerate(self.units)
        ]

    def __call__(self) -> None:
        """Do one step."""
        for call in self._calls:
            call()

    def describe(self) -> str:
        """Return what a step consists of, in one line."""
        kinds = Counter("kernel" if k in self.kernels else unit[0].kind for k, unit in enumerate(self.units))
        operations = sum(len(unit) for unit in self.units)
        return f"{operations} operations as " + ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))

    def _launch(self, kernel: Kernel, function: Any) -> Callable[[], None]:
        def call() -> None:
            # Looked up at each call, of which there are few: loose results lie where CuPy has put them this time.
            arrays = tuple(self.memory.resolve(a) for a in kernel.arguments)
            function((kernel.blocks,), (THREADS,), arrays)

        return call

    def _call(self, op: Operation) -> Callable[[], None]:
        buffer = op.target.buffer

        def loose() -> None:
            result = self.compute(op, self.memory)
            if _layout(result) != _layout(buffer.array):
                raise Rejected(f"CuPy's {op.kind} gives another layout than NumPy's")
            self.memory.arrays[id(buffer)] = result

        def placed() -> None:
            self.compute(op, self.memory, self.memory.resolve(op.target))

        return loose if id(buffer) in self._loose else placed

    def compute(self, op: Operation, memory: Memory, out: Array | None = None) -> Array:
        """Do one operation by CuPy's own function; return the result, or write it to `out`."""
        values = [memory.resolve(o) for o in op.operands]
        if op.kind in ("elementwise", "take", "matmul"):
            keyword = {} if out is None else {"out": out}
            if op.kind == "elementwise":
                return getattr(self._cupy, op.function.__name__)(*values, **keyword)
            if op.kind == "matmul":
                return self._xp.matmul(*values, **keyword)
            return self._cupy.take(*values, axis=op.options[0], **keyword)
        if op.kind == "reduce":
            axis, dtype, keepdims = op.options
            other = {"dtype": dtype} if values[0].dtype != dtype else {}
            name = REDUCTIONS[op.function.__name__]
            result = getattr(self._xp, name)(values[0], axis=axis, keepdims=keepdims, **other)
        elif op.kind == "where":
            result = self._xp.where(*values)
        else:
            result = values[0] if op.kind == "copy" else op.function(*values)
        if out is not None:
            out[...] = result
        return result

    def check(self) -> None:
        """Do one step, and compare each kernel with CuPy's functions.

        Raises
        ------
        Rejected
            Numbers are not the same.
        """
        for k, (unit, call) in enumerate(zip(self.units, self._calls, strict=True)):
            if k not in self.kernels:
                call()
                continue
            expected = self._by_cupy(unit)
            call()
            for op, value in expected:
                found = self.memory.resolve(op.target)
                if not bool(((found == value) | ((found != found) & (value != value))).all()):
                    raise Rejected(f"kernel {self.kernels[k].name} is not what CuPy computes for {op.target.shape}")

    def _by_cupy(self, unit: Unit) -> list[tuple[Operation, Array]]:
        """Return what a kernel is going to write, computed one operation at a time on copies."""
        own = DeviceMemory(self._cupy)
        for op in unit:
            for a in (*inputs(op), op.target):
                place = self.places.get(id(a.buffer))
                base = a.buffer if place is None else place.buffer
                if id(base) not in own.arrays:
                    array = self.memory.arrays.get(id(base))
                    own.arrays[id(base)] = (
                        self._cupy.empty(base.array.shape, base.array.dtype) if array is None else array.copy()
                    )
                if place is not None:
                    own.arrays[id(a.buffer)] = own.resolve(place).reshape(a.buffer.array.shape)
        for op in unit:
            own.resolve(op.target)[...] = self.compute(op, own)
        return [(op, own.resolve(op.target)) for op in unit if id(op.target.buffer) not in self.inner]


def _layout(a: Array) -> Any:
    """Return an array's data type and shape, and the steps along axes of more than one entry."""
    return a.dtype, a.shape, [s for s, n in zip(a.strides, a.shape, strict=True) if n > 1]


def difference(found: Array, expected: Array, before: Array) -> str:
    """Say how two outcomes of one array differ by more than rounding, or return nothing.

    The kernels are compared to the bit elsewhere. Here two steps are compared whose products may have been summed up
    in another order, since cuBLAS chooses its way by the alignment of what it is given: so floats may differ by a
    ten-thousandth of the largest change of the array in this step, and by four roundings.
    """
    same = (found == expected) | ((found != found) & (expected != expected))
    if bool(same.all()):
        return ""
    if found.dtype.kind != "f":
        return "differs"
    apart = abs(found - expected)
    bound = 1e-4 * abs(expected - before).max() + 4 * np.finfo(found.dtype).eps * abs(expected)
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
    touched = list({id(a): a for a in (*changes, *fused.changes.values())}.values())
    before = [a.copy() for a in touched]

    def restore() -> None:
        for array, value in zip(touched, before, strict=True):
            array[...] = value

    try:
        fused.check()
        found = {name: a.copy() for name, a in fused.changes.items()}
        restore()
        # Another namespace of the same functions: the step takes it for one that is not to fuse anything by itself.
        step(SimpleNamespace(**vars(xp)), arrays)
        states = {id(a): value for a, value in zip(touched, before, strict=True)}
        for name, array in fused.changes.items():
            problem = difference(found[name], array, states[id(array)])
            if problem:
                raise Rejected(f"after one step '{name}' {problem}")
    finally:
        restore()
    return fused
