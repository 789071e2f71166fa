"""The small loop that runs through a plan, in machine code: by one thread, or by several of them at the same time."""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from xpnet.backends.cpu.functions import INT, NOTHING, POINTER, WORD, Code, Table, counted

TAKEN, DONE, TOTAL, TURNS, PLAN, SLOTS = 0, 16, 32, 33, 34, 35
"""Slots of the table. What changes lies in lines of memory of its own, for which threads do not wait for each other."""
HEAD, EACH = 3, 3
"""Slots of a plan: of its head, and of each task."""
SPINS = 2000
"""Looks at a counter before a thread goes to sleep, some 50 to 100 microseconds."""
NAP = 10
"""Microseconds for which it sleeps; the system makes some 60 of them."""
PAUSE = "llvm.x86.sse2.pause" if platform.machine() in ("x86_64", "AMD64") else None
"""LLVM's name for the instruction that tells a processor that one waits."""


def sleeping() -> tuple[int, int]:
    """Return the address of the system's function that lets a thread sleep, and for how much of its unit of time."""
    library, name, time = (None, "usleep", NAP) if os.name == "posix" else ("kernel32", "Sleep", 0)
    return ctypes.cast(ctypes.CDLL(library)[name], ctypes.c_void_p).value or 0, time


@dataclass(frozen=True)
class Driver(Code):
    """Takes tasks one by one until none is left, and returns when all are done.

    The table: how many tasks are taken, how many are done, how many there are in all, how often the pieces of each are
    done, and the plan. A plan: the system's function that lets a thread sleep, for how long, the number of its tasks
    (after the last comes the first again), and for each how many of them have to be done before it begins, the address
    of its pieces, and their number. A piece is a function and its table.

    A thread waits for tasks, never for another thread: one that the system has put aside between two tasks holds up
    nobody. Who waits for long goes to sleep, so that its core is free for a thread that the system has put aside in the
    middle of a task. To wait by `sched_yield` was three times slower where other programs want the cores (Linux 6.18).
    """

    def write(self, table: Table, b: Any) -> None:
        taken, done = table.at(TAKEN), table.at(DONE)
        total, turns, plan = table.load("llp", TOTAL)

        def slot(start: Any, number: Any) -> Any:
            return b.gep(start, [number], source_etype=WORD)

        time, tasks = (b.load(slot(plan, WORD(k)), typ=WORD) for k in (1, 2))
        looks = b.alloca(WORD)
        b.store(WORD(0), looks)
        look, wait, sleep, ready, take, work, end = (b.append_basic_block() for _ in range(7))
        b.branch(look)
        b.position_at_end(look)
        number = b.load_atomic(taken, "acquire", 8, typ=WORD)
        step = b.udiv(number, tasks)
        before = b.mul(step, tasks)
        task = slot(plan, b.add(b.mul(b.sub(number, before), WORD(EACH)), WORD(HEAD)))
        left = b.icmp_unsigned("<", number, total)
        needed = b.select(left, b.add(before, b.load(task, typ=WORD)), total)
        finished = b.load_atomic(done, "acquire", 8, typ=WORD)
        b.cbranch(b.icmp_unsigned(">=", finished, needed), ready, wait)

        b.position_at_end(wait)
        if PAUSE:
            b.call(ir.Function(table.module, ir.FunctionType(NOTHING, []), PAUSE), [])
        times = b.add(b.load(looks, typ=WORD), WORD(1))
        b.store(times, looks)
        b.cbranch(b.icmp_unsigned("<", times, WORD(SPINS)), look, sleep)

        b.position_at_end(sleep)
        table.call(plan, [b.trunc(time, INT)], INT)
        b.branch(look)

        b.position_at_end(ready)
        b.cbranch(left, take, end)
        b.position_at_end(take)
        mine = b.cmpxchg(taken, number, b.add(number, WORD(1)), "acq_rel", "acquire")
        b.cbranch(b.extract_value(mine, 1), work, look)

        b.position_at_end(work)
        pieces, count = (b.load(slot(task, WORD(k)), typ=kind) for k, kind in ((1, POINTER), (2, WORD)))
        with counted(b, turns), counted(b, count) as k:
            piece = slot(pieces, b.mul(k, WORD(2)))
            table.call(piece, [b.load(slot(piece, WORD(1)), typ=POINTER)])
        b.atomic_rmw("add", done, WORD(1), "acq_rel")
        b.store(WORD(0), looks)
        b.branch(look)
        b.position_at_end(end)
