"""A planned step as machine code: which piece does what, compiled a few pieces at a time."""

from __future__ import annotations

from collections.abc import Generator

from xpnet.backends.cpu.borrowed import agree, pieces, product
from xpnet.backends.cpu.calls import Call, call
from xpnet.backends.cpu.chain import Chain, Piece
from xpnet.backends.cpu.compiler import Function, compiled
from xpnet.backends.cpu.functions import Code, Driver
from xpnet.backends.cpu.loops import Kernel, kernel, known
from xpnet.backends.tape.fusion import adding, fits, group, within
from xpnet.backends.tape.loop import Maker
from xpnet.backends.tape.plan import Memory, Unit, assign, without_dead, write_in_place
from xpnet.backends.tape.record import Tape, Traced

AT_ONCE = 16
"""Functions that are compiled together: fewer take longer each, more take longer than one likes to wait."""
MANY = 32
"""Loops of their own sizes; in a step of more different ones loops share their code, and have sizes in tables."""


def native(tape: Tape) -> Generator[None, None, list[Call]]:
    """Return the calls that replay a tape, most of them chains of machine code; yield between parts of the work."""
    operations, places = write_in_place(without_dead(tape.operations))
    operations = adding(operations, places, lambda a, b, y: None not in product(a, b, y, add=True))
    units = group(operations, places, known)
    inner = within(units, places)
    yield
    memory = assign(units, places, inner)
    made = []
    for unit in units:
        made.append(_pieces(unit, places, inner, memory))
        yield
    if len({piece.code for piece in _all(made) if isinstance(piece.code, Kernel)}) > MANY:
        made = [found and [*map(_of_any_size, found)] for found in made]
    codes: list[Code] = [Driver(), *dict.fromkeys(piece.code for piece in _all(made))]
    functions: list[Function] = []  # so that they are there when they are put together
    for first in range(0, len(codes), AT_ONCE):
        functions += compiled(codes[first : first + AT_ONCE])
        yield
    calls: list[Call] = []
    run: list[Piece] = []
    for unit, found in zip(units, made, strict=True):
        if found and (isinstance(found[0].code, Kernel) or agree(unit[0], memory)):
            run += found
            yield
            continue
        if run:
            calls.append(Chain(run))
            run = []
        calls.append(call(unit[0], memory))
    return [*calls, Chain(run)] if run else calls


def _pieces(unit: Unit, places: dict[int, Traced], inner: set[int], memory: Memory) -> list[Piece] | None:
    """Return what does a unit: a loop, or what is borrowed, or nothing."""
    if not fits(unit[0], places, known):
        return pieces(unit[0], memory)
    maker = Maker(unit, places, inner, memory.resolve)
    return [kernel(maker.loop, [memory.resolve(a) for a in maker.arguments])]


def _all(made: list[list[Piece] | None]) -> list[Piece]:
    return [piece for found in made if found for piece in found]


def _of_any_size(piece: Piece) -> Piece:
    return kernel(piece.code.loop, piece.keep, fixed=False) if isinstance(piece.code, Kernel) else piece
