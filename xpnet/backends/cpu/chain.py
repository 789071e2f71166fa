"""Pieces of machine code, run through by one small loop: what Python need not come back for."""

from __future__ import annotations

import ctypes
import functools
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from xpnet.backends.cpu.compiler import Function, compiled
from xpnet.backends.cpu.driver import PLAN, SLOTS, TOTAL, TURNS, Driver, of_the_system
from xpnet.backends.cpu.functions import Code
from xpnet.backends.cpu.openblas import single
from xpnet.backends.cpu.pace import Pace
from xpnet.backends.cpu.threads import helpers

OF_KIND = {"i": "i4x", "l": "q", "f": "f4x", "d": "d", "p": "q"}
"""How C arguments lie in a table's slots of eight bytes."""
LINE = 64
"""Bytes of a line of memory, at whose beginning a room begins."""
WORTH = 1 << 24
"""Multiplications for which help is asked, which takes some ten microseconds."""


@dataclass(frozen=True)
class Piece:
    """A function's code, the table it is given, and what must live as long as that."""

    code: Code
    table: Any
    keep: tuple[Any, ...]
    room: int = 0
    """Bytes of a room of its thread, whose address is to be in the table's first slot."""

    def within(self, room: int) -> Piece:
        """Return the piece that works in the room at this address."""
        if not self.room:
            return self
        placed = ctypes.create_string_buffer(self.table.raw, len(self.table))
        struct.pack_into("q", placed, 0, room)
        return replace(self, table=placed)


Lanes = list[list[Piece]]
"""Pieces that one thread does in order: one list for whichever thread that is, or a list for each."""


class Task(NamedTuple):
    """Pieces that one thread does, after so many earlier tasks are done; and about how long that takes."""

    lanes: Lanes
    after: int = 0
    weight: int = 0
    """In multiplications."""


def table(kinds: str, *values: Any) -> Any:
    """Return memory that holds `values` in slots of eight bytes."""
    packed = struct.pack("=" + "".join(OF_KIND[kind] for kind in kinds), *values)
    return ctypes.create_string_buffer(packed, len(packed))


def words(*numbers: int) -> Any:
    """Return a table of whole numbers."""
    return (ctypes.c_int64 * len(numbers))(*numbers)


@functools.cache
def driver() -> Function:
    """Return the loop that runs through plans, which all have in common."""
    return compiled([Driver()])[0]


def _settled(lanes: Lanes, rooms: list[Any]) -> Lanes:
    """Return the pieces with a room for each thread, where they want one."""
    if len(lanes) == 1 and any(piece.room for piece in lanes[0]):
        lanes = lanes * len(rooms)
    starts = [-(-ctypes.addressof(room) // LINE) * LINE for room in rooms]
    return [[piece.within(start) for piece in lane] for lane, start in zip(lanes, starts, strict=False)]


class Chain:
    """Tasks that are done as often as one asks for, by up to so many threads; `pieces` keeps their tables alive."""

    def __init__(self, tasks: Sequence[Task], threads: int = 1) -> None:
        room = max((piece.room for task in tasks for lane in task.lanes for piece in lane), default=0)
        several = max(threads, *(len(task.lanes) for task in tasks), 1)
        rooms = [ctypes.create_string_buffer(room + LINE) for _ in range(several)]
        tasks = [task._replace(lanes=_settled(task.lanes, rooms)) for task in tasks]
        self.pieces = [piece for task in tasks for lane in task.lanes for piece in lane]
        functions = compiled([piece.code for piece in self.pieces])
        addresses = {piece.code: function.address for piece, function in zip(self.pieces, functions, strict=True)}
        lists = [
            words(*(x for lane in t.lanes for p in lane for x in (addresses[p.code], ctypes.addressof(p.table))))
            for t in tasks
        ]
        described = (
            (t.after, ctypes.addressof(a), len(t.lanes[0]), len(t.lanes[0]) if len(t.lanes) > 1 else 0)
            for t, a in zip(tasks, lists, strict=True)
        )
        self._plan = words(*of_the_system(), len(tasks), *(x for task in described for x in task))
        self._run = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(driver().address)
        self._tasks, self._weight, self._threads = len(tasks), sum(task.weight for task in tasks), threads
        self._pace = Pace()
        self._keep = functions, lists, rooms

    def __call__(self, steps: int = 1) -> None:
        """Do all tasks `steps` times."""
        run = (ctypes.c_int64 * SLOTS)()  # of this call alone: a thread that comes late finds all done
        alone = self._tasks == 1
        run[TOTAL], run[TURNS] = (1, steps) if alone else (steps * self._tasks, 1)
        run[PLAN] = ctypes.addressof(self._plan)
        if self._threads == 1 or alone or steps * self._weight < WORTH:
            with single():
                self._work(run)
            return
        began = time.perf_counter()
        with single():
            if self._pace.helped():
                helpers.invite(functools.partial(self._work, run), self._threads - 1)
            self._work(run)
        self._pace.took((time.perf_counter() - began) / steps)

    def _work(self, run: Any) -> None:
        self._run(ctypes.addressof(run))
