"""A training step on a GPU: kernels of its own, products by cuBLAS and CuPy's functions, in memory planned ahead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from xpnet.backends.base import Step
from xpnet.backends.cuda.formulas import known, whole
from xpnet.backends.cuda.kernels import Kernel, write
from xpnet.backends.cuda.launches import beside, launches
from xpnet.backends.cuda.rewrites import sums
from xpnet.backends.cuda.writer import THREADS
from xpnet.backends.tape.fusion import NUMBER_BY_NUMBER, within
from xpnet.backends.tape.plan import Memory, assign, inputs, is_result, outermost_first, without_dead, write_in_place
from xpnet.backends.tape.record import Buffer, Operation, record
from xpnet.typing import Array

REDUCTIONS = {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min"}
CALLS = {"matmul": "products", "reduce": "reductions", "take": "selections"} | dict.fromkeys(
    ("elementwise", "copy", "where", "other"), "functions of CuPy"
)
"""What `FusedStep.describe` says of the kinds of operations."""
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
        free = self._blocks.get((like.dtype, like.shape, like.strides))
        if free:
            array = free.pop()
        else:
            order = outermost_first(like)
            flat = self._cupy.empty([like.shape[axis] for axis in order], like.dtype)
            array = flat.transpose([order.index(axis) for axis in range(like.ndim)]) if order else flat
        self.arrays[id(buffer)] = self._owner[id(buffer)] = array

    def release(self, buffer: Buffer) -> None:
        like = buffer.array
        array = self._owner.pop(id(buffer), None)
        if array is not None:
            self._blocks.setdefault((like.dtype, like.shape, like.strides), []).append(array)


class FusedStep:
    """The program of one step: a list of units, each a kernel or one call of a function.

    Parameters
    ----------
    cupy : module
    xp : namespace
        The backend's, with a `matmul` that takes ``out``.
    step : callable
    arrays : mapping of arrays
    apart : mapping, optional
        Positions on the tape of operations that are not to be in a kernel, and why.

    Attributes
    ----------
    tape : Tape
        The recording.
    launches : list of Launch
        What is started, in order.
    units : list of lists of operations
        What each of them does.
    kernels : dict
        The kernels among these, by their place in `units`.
    positions : dict
        The place on the tape of each operation, by its identity.
    beside : dict
        Products that may be done beside what follows them, and what has to wait for each.
    branch : Lane, optional
        Where these are done.
    changes : list of arrays
        Those among `arrays` that the program writes.
    """

    def __init__(
        self,
        cupy: Any,
        xp: Any,
        step: Step,
        arrays: Mapping[str, Array],
        apart: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        self._cupy, self._reasons = cupy, sorted(set(apart.values()))
        self.compute = partial(_compute, cupy, xp)
        # Kept, since the plan tells buffers apart by their identity.
        self.tape = record(step, xp, arrays, cupy.ndarray)
        given = self.tape.given
        operations, self.places = write_in_place(without_dead(self.tape.operations))
        positions = {id(op): position for position, op in enumerate(self.tape.operations)}

        def suits(op: Operation) -> bool:
            return positions.get(id(op)) not in apart and known(op)

        instead = sums(self.tape, operations, self.places, suits)
        positions |= {id(own): positions[id(op)] for op, made in zip(operations, instead, strict=True) for own in made}
        self.positions = positions
        made, links = launches([op for own in instead for op in own], self.places, suits)
        self.launches, self.beside = beside(made, self.places, links)
        self.branch: Any = None
        self.units = [launch.operations for launch in self.launches]
        self.inner = within(self.units, self.places) | links
        self._loose = self._results_of_reductions()
        self.memory = self._memory(operations, {id(given[name].buffer): array for name, array in arrays.items()})
        written = [self.places.get(id(op.target.buffer), op.target).buffer for op in operations]
        self.changes = [arrays[name] for name, a in given.items() if a.buffer in written]
        self.kernels = {
            k: write(launch.parts, self.places, self.inner) for k, launch in enumerate(self.launches) if launch.parts
        }
        sources = {kernel.name: kernel.source for kernel in self.kernels.values()}
        module = cupy.RawModule(code=whole("".join(sources.values())))
        functions = {name: module.get_function(name) for name in sources}
        self.calls = [
            self._launch(self.kernels[k], functions[self.kernels[k].name]) if k in self.kernels else self._call(unit[0])
            for k, unit in enumerate(self.units)
        ]

    def _results_of_reductions(self) -> set[int]:
        """Return the buffers that are not placed by the plan."""
        alone = (op for launch in self.launches for op in launch.alone)
        found = (op for op in alone if op.kind in LOOSE and is_result(op.target))
        return {id(op.target.buffer) for op in found} - set(self.places)

    def _memory(self, operations: list[Operation], given: dict[int, Array]) -> DeviceMemory:
        """Give every buffer its array: the caller's, a constant moved to the device once, or a planned one."""
        memory = DeviceMemory(self._cupy)
        memory.arrays.update(given)
        for op in operations:
            for a in inputs(op):
                if a.buffer.kind == "constant" and id(a.buffer) not in memory.arrays:
                    memory.arrays[id(a.buffer)] = self._cupy.asarray(a.buffer.array)
        assign(self.units, self.places, self.inner | self._loose, memory, self._in_place, self.beside)
        return memory

    def _in_place(self, number: int) -> bool:
        """Say whether a launch reads each number only in the thread that writes there, and before it does."""
        parts = self.launches[number].parts
        return not parts or (len(parts) == 1 and all(op.kind in NUMBER_BY_NUMBER for op in parts[0].operations))

    def __call__(self) -> None:
        """Do one step."""
        if self.branch is None:
            for call in self.calls:
                call()
            return
        main, side = self._cupy.cuda.get_current_stream(), self.branch.stream
        waiting = {*self.beside.values()}
        for k, call in enumerate(self.calls):
            if k in waiting:
                main.wait_event(side.record())
            if k not in self.beside:
                call()
                continue
            side.wait_event(main.record())
            with self.branch:
                call()

    def describe(self) -> str:
        """Return what a step consists of, in one line."""
        kinds = Counter("kernels" if k in self.kernels else CALLS[unit[0].kind] for k, unit in enumerate(self.units))
        operations, parts = (
            len({id(op) for unit in self.units for op in unit}),
            ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())),
        )
        return "; not used: ".join([f"{operations} operations in {len(self.units)} calls: {parts}", *self._reasons])

    def _launch(self, kernel: Kernel, function: Any) -> Callable[[], None]:
        memory = self.memory  # and not the program itself: in a circle its memory would wait for Python's collector

        def call() -> None:
            # Looked up at each call, of which there are few: loose results lie where CuPy has put them this time.
            arrays = tuple(memory.resolve(a) for a in kernel.arguments)
            function((kernel.blocks,), (THREADS,), arrays)

        return call

    def _call(self, op: Operation) -> Callable[[], None]:
        buffer, memory, compute = op.target.buffer, self.memory, self.compute

        def loose() -> None:
            result = compute(op, memory)
            if _layout(result) != _layout(buffer.array):
                raise Rejected(f"CuPy's {op.kind} gives another layout than NumPy's")
            memory.arrays[id(buffer)] = result

        def placed() -> None:
            compute(op, memory, memory.resolve(op.target))

        return loose if id(buffer) in self._loose else placed


def _compute(cupy: Any, xp: Any, op: Operation, memory: Memory, out: Array | None = None) -> Array:
    """Do one operation by CuPy's own function; return the result, or write it to `out`."""
    values = [memory.resolve(o) for o in op.operands]
    if op.kind in ("elementwise", "take", "matmul"):
        keyword = {} if out is None else {"out": out}
        if op.kind == "elementwise":
            return getattr(cupy, op.function.__name__)(*values, **keyword)
        if op.kind == "matmul":
            return xp.matmul(*values, **keyword)
        return cupy.take(*values, axis=op.options[0], **keyword)
    if op.kind == "reduce":
        axis, dtype, keepdims = op.options
        other = {"dtype": dtype} if values[0].dtype != dtype else {}
        name = REDUCTIONS[op.function.__name__]
        result = getattr(xp, name)(values[0], axis=axis, keepdims=keepdims, **other)
    elif op.kind == "where":
        result = xp.where(*values)
    else:
        result = values[0] if op.kind == "copy" else op.function(*values)
    if out is not None:
        out[...] = result
    return result


def _layout(a: Array) -> Any:
    """Return an array's data type and shape, and the steps along axes of more than one entry."""
    return a.dtype, a.shape, [s for s, n in zip(a.strides, a.shape, strict=True) if n > 1]
