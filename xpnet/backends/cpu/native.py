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
from xpnet.backends.tape.fusion import adding, fits, group, within
from xpnet.backends.tape.loop import Maker
from xpnet.backends.tape.plan import Memory, Unit, assign, inputs, without_dead, write_in_place
from xpnet.backends.tape.record import Tape

AT_ONCE = 16
"""Functions that are compiled together: fewer take longer each, more take longer than one likes to wait."""
MANY = 32
"""Loops of their own sizes; in a step of more different ones loops share their code, and have sizes in tables."""
NUMBER = 16
"""Multiplications of a product that take about as long as a number of anything else."""


def native(tape: Tape, threads: int = 1) -> Generator[None, None, list[Call]]:
    """Return the calls that replay a tape, most of them chains of machine code; yield between parts of the work."""
    operations, places = write_in_place(without_dead(tape.operations))
    operations = adding(operations, places, lambda a, b, y: None not in product(a, b, y, add=True))
    units = group(operations, places, known)
    inner = within(units, places)
    yield
    memory = assign(units, places, inner)
    loops = {
        k: Maker(unit, places, inner, memory.resolve) for k, unit in enumerate(units) if fits(unit[0], places, known)
    }
    fixed = len({maker.loop for maker in loops.values()}) <= MANY
    works: list[Work | None] = []
    for k, unit in enumerate(units):
        found = _parts(loops[k], memory, fixed, threads) if k in loops else pieces(unit[0], memory, threads)
        works.append(None if found is None else _work(unit, found, memory))
        yield
    codes = dict.fromkeys(piece.code for work in works if work for part in work.parts for piece in part)
    every: list[Code] = [Driver(), *codes]
    functions: list[Function] = []  # so that they are there when they are put together
    for first in range(0, len(every), AT_ONCE):
        functions += compiled(every[first : first + AT_ONCE])
        yield
    calls: list[Call] = []
    run: list[Work] = []
    for k, (unit, work) in enumerate(zip(units, works, strict=True)):
        if work and (k in loops or agree(unit[0], memory, threads)):
            run.append(work)
            yield
            continue
        calls += [Chain(tasks(run, threads), threads)] if run else []
        run = []
        calls.append(call(unit[0], memory, threads))
    return [*calls, Chain(tasks(run, threads), threads)] if run else calls


def _parts(maker: Maker, memory: Memory, fixed: bool, threads: int) -> list[list[Piece]]:
    arrays = [memory.resolve(a) for a in maker.arguments]
    return [[piece] for piece in kernels(maker.loop, arrays, fixed, threads)]


def _work(unit: Unit, parts: list[list[Piece]], memory: Memory) -> Work:
    reads = [memory.resolve(a) for op in unit for a in inputs(op)]
    writes = [memory.resolve(op.target) for op in unit]
    numbers = [a.size for a in (writes if unit[0].kind == "take" else (*reads, *writes))]
    weight = NUMBER * max(numbers)
    if unit[0].kind in ("matmul", "adding"):
        weight = reads[0].size * writes[0].shape[-1]
    return Work(parts, reads, writes, weight)
