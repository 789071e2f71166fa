"""A planned step as machine code: which piece does what, compiled a few pieces at a time."""

from __future__ import annotations

from collections.abc import Generator

from xpnet.backends.cpu.borrowed import pieces, product
from xpnet.backends.cpu.calls import Call, call
from xpnet.backends.cpu.chain import Chain, Piece
from xpnet.backends.cpu.compiler import Function, compiled
from xpnet.backends.cpu.driver import Driver
from xpnet.backends.cpu.functions import Code
from xpnet.backends.cpu.loops import kernels, known
from xpnet.backends.cpu.stages import Work, tasks
from xpnet.backends.cpu.trial import agree
from xpnet.backends.tape.blocks import alone, blocks, weight
from xpnet.backends.tape.fusion import adding, fits, group, within
from xpnet.backends.tape.loop import Maker
from xpnet.backends.tape.plan import Memory, Unit, assign, inputs, without_dead, write_in_place
from xpnet.backends.tape.record import Tape

AT_ONCE = 16
"""Functions that are compiled together: fewer take longer each, more take longer than one likes to wait."""
MANY = 32
"""Loops of their own sizes; in a step of more different ones loops share their code, and have sizes in tables."""


def native(tape: Tape, threads: int = 1, before: Memory | None = None) -> Generator[bool, None, list[Call]]:
    """Return the calls that replay a tape, most of them chains of machine code; yield between parts of the work.

    What is yielded says whether LLVM has something to do next, which takes most of the time. The calls of another plan,
    which they replace, leave them the memory that is theirs `before`.
    """
    operations, places = write_in_place(without_dead(tape.operations))
    operations = adding(operations, places, lambda a, b, y: None not in product(a, b, y, add=True))
    units = group(operations, places, known)
    inner = within(units, places)
    order = blocks(units, places, inner) if threads > 1 else alone(units)
    yield False
    memory = assign(order.units, places, inner, Memory(order.own, before), until=order.until)
    lanes = [memory, *(memory.of_another_thread() for _ in range(threads - 1))]
    loops: dict[int, Maker] = {}
    for k, unit in enumerate(order.units):
        if fits(unit[0], places, known):
            loops[k] = Maker(unit, places, inner, memory.resolve)
            yield False
    step = _Step(order.units, lanes, loops)
    works: list[Work | None] = []
    for job in order.jobs:
        works.append(step.work(job))
        yield False
    codes = dict.fromkeys(piece.code for work in works if work for piece in work.pieces)
    every: list[Code] = [Driver(), *codes]
    functions: list[Function] = []  # so that they are there when they are put together
    for first in range(0, len(every), AT_ONCE):
        some = every[first : first + AT_ONCE]
        yield compiled.lacks(some)
        functions += compiled(some)
    calls: list[Call] = []
    run: list[Work] = []

    def end() -> None:
        if run:
            calls.append(Chain(tasks(run, threads), threads))
            run.clear()

    for job, work in zip(order.jobs, works, strict=True):
        if work and step.agrees(job):
            run.append(work)
        else:  # one by one; a job of one is asked again, which is answered at once
            for k in job:
                single = step.work(range(k, k + 1))
                if single and step.agrees(range(k, k + 1)):
                    run.append(single)
                else:
                    end()
                    calls.append(call(order.units[k][0], memory, threads))
        yield False
    end()
    return calls


class _Step:
    """The units of a step, and where all lies: for whoever asks, and for each of the threads that help."""

    def __init__(self, units: list[Unit], lanes: list[Memory], loops: dict[int, Maker]) -> None:
        self._units, self._lanes, self._loops = units, lanes, loops
        self._fixed = len({maker.loop for maker in loops.values()}) <= MANY

    def work(self, job: range) -> Work | None:
        """Return the work of some units, or None if there is something that only NumPy does."""
        units = [self._units[k] for k in job]
        if len(job) == 1:
            found = self._parts(job[0], self._lanes[0], len(self._lanes))
            parts = None if found is None else [[part] for part in found]
        else:
            lanes = [[self._parts(k, memory, 1) for k in job] for memory in self._lanes]
            whole = not any(found is None for found in lanes[0])
            parts = [[[p for found in lane for part in found or () for p in part] for lane in lanes]] if whole else None
        if parts is None:
            return None
        resolve = self._lanes[0].resolve
        own = self._lanes[0].own if len(job) > 1 else ()
        reads = [resolve(a) for unit in units for op in unit for a in inputs(op) if id(a.buffer) not in own]
        writes = [resolve(op.target) for unit in units for op in unit if id(op.target.buffer) not in own]
        return Work(parts, reads, writes, sum(map(weight, units)))

    def _parts(self, k: int, memory: Memory, threads: int) -> list[list[Piece]] | None:
        if k not in self._loops:
            return pieces(self._units[k][0], memory, threads)
        maker = self._loops[k]
        arrays = [memory.resolve(a) for a in maker.arguments]
        return [[piece] for piece in kernels(maker.loop, arrays, self._fixed, threads)]

    def agrees(self, job: range) -> bool:
        """Say whether the pieces of some units give NumPy's bits."""
        threads = len(self._lanes) if len(job) == 1 else 1
        return all(k in self._loops or agree(self._units[k][0], self._lanes[0], threads) for k in job)
