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
HEAD, EACH = 2, 4
"""Slots of a plan: of its head, and of each task."""
SPINS = 2000
"""Looks at a counter before other programs are let run, some 50 microseconds."""
PATIENCE = 1 << 26
"""Multiplications after which other programs are let run, about a millisecond: see `Driver`."""
PAUSE = "llvm.x86.sse2.pause" if platform.machine() in ("x86_64", "AMD64") else None
"""LLVM's name for the instruction that tells a processor that one waits."""


def giving_way() -> int:
    """Return the address of the system's function that lets other programs run."""
    library, name = (None, "sched_yield") if os.name == "posix" else ("kernel32", "SwitchToThread")
    return ctypes.cast(ctypes.CDLL(library)[name], ctypes.c_void_p).value or 0


@dataclass(frozen=True)
class Driver(Code):
    """Takes tasks one by one until none is left, and returns when all are done.

    The table: how many tasks are taken, how many are done, how many there are in all, how often the pieces of each are
    done, and the plan. A plan: the system's function that lets others run, the number of its tasks (after the last
    comes the first again), and for each how many of them have to be done before it begins, the address of its pieces,
    their number, and about how many multiplications it takes. A piece is a function and its table.

    A thread waits for tasks, never for another thread: one that the system has put aside between two tasks holds up
    nobody. Where another program wants the same core, a thread is put aside every few milliseconds. So each gives way
    of its own accord once in a while, when it has finished a task, and is not put aside in the middle of one.
    """

    def write(self, table: Table, b: Any) -> None:
        taken, done = table.at(TAKEN), table.at(DONE)
        total, turns, plan = table.load("llp", TOTAL)

        def slot(start: Any, number: Any) -> Any:
            return b.gep(start, [number], source_etype=WORD)

        tasks = b.load(slot(plan, WORD(1)), typ=WORD)
        looks, worked = b.alloca(WORD), b.alloca(WORD)
        for number in (looks, worked):
            b.store(WORD(0), number)
        look, wait, way, ready, take, work, end = (b.append_basic_block() for _ in range(7))
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
        b.cbranch(b.icmp_unsigned("<", times, WORD(SPINS)), look, way)

        b.position_at_end(way)
        table.call(plan, [], INT)
        b.branch(look)

        b.position_at_end(ready)
        b.cbranch(left, take, end)
        b.position_at_end(take)
        mine = b.cmpxchg(taken, number, b.add(number, WORD(1)), "acq_rel", "acquire")
        b.cbranch(b.extract_value(mine, 1), work, look)

        b.position_at_end(work)
        pieces, count, weight = (
            b.load(slot(task, WORD(k)), typ=kind) for k, kind in ((1, POINTER), (2, WORD), (3, WORD))
        )
        with counted(b, turns), counted(b, count) as k:
            piece = slot(pieces, b.mul(k, WORD(2)))
            table.call(piece, [b.load(slot(piece, WORD(1)), typ=POINTER)])
        b.atomic_rmw("add", done, WORD(1), "acq_rel")
        b.store(WORD(0), looks)
        sum_ = b.add(b.load(worked, typ=WORD), weight)
        long = b.icmp_unsigned(">=", sum_, WORD(PATIENCE))
        b.store(b.select(long, WORD(0), sum_), worked)
        b.cbranch(long, way, look)
        b.position_at_end(end)
