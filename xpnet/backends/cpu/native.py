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
from xpnet.backends.tape.plan import assign, without_dead, write_in_place
from xpnet.backends.tape.record import Tape

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
    made: list[list[Piece] | None] = []
    borrowed: list[bool] = []
    for unit in units:
        borrowed.append(not fits(unit[0], places, known))
        if borrowed[-1]:
            made.append(pieces(unit[0], memory))
        else:
            maker = Maker(unit, places, inner, memory.resolve)
            made.append([kernel(maker.loop, [memory.resolve(a) for a in maker.arguments])])
        yield
    if len({piece.code for found in made for piece in found or () if isinstance(piece.code, Kernel)}) > MANY:
        made = [found and [*map(_of_any_size, found)] for found in made]
    codes: list[Code] = [Driver(), *dict.fromkeys(piece.code for found in made for piece in found or ())]
    functions: list[Function] = []  # so that they are there when they are put together
    for first in range(0, len(codes), AT_ONCE):
        functions += compiled(codes[first : first + AT_ONCE])
        yield
    calls: list[Call] = []
    run: list[Piece] = []
    for unit, found, other in zip(units, made, borrowed, strict=True):
        if found and not (other and not agree(unit[0], memory)):
            run += found
            yield
            continue
        calls += [Chain(run)] if run else []
        run = []
        calls.append(call(unit[0], memory))
    return [*calls, Chain(run)] if run else calls


def _of_any_size(piece: Piece) -> Piece:
    return kernel(piece.code.loop, piece.keep, fixed=False) if isinstance(piece.code, Kernel) else piece
