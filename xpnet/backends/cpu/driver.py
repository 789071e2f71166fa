"""The small loop that runs through a plan, in machine code: by one thread, or by several of them at the same time."""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from xpnet.backends.cpu.functions import INT, NOTHING, POINTER, TYPES, WORD, Code, Table, counted

TAKEN, DONE, TOTAL, TURNS, PLAN, THREADS, SLOTS = 0, 16, 32, 33, 34, 35, 36
"""Slots of the table. What changes lies in lines of memory of its own, for which threads do not wait for each other."""
HEAD, EACH = 4, 4
"""Slots of a plan: of its head, and of each task."""
SPINS = 2000
"""Looks at a counter before a thread goes to sleep, some 50 to 100 microseconds."""
NAP = 10
"""Microseconds for which it sleeps; the system makes some 60 of them."""
X86 = platform.machine() in ("x86_64", "AMD64")
PAUSE = "llvm.x86.sse2.pause"
"""LLVM's name for the instruction that tells such a processor that one waits."""
TURN = 1 << 22
"""Its cycles, some two milliseconds, after which a thread lets others have its core for a moment."""


def of_the_system() -> tuple[int, int, int]:
    """Return the address of what lets a thread sleep, for how long in its unit, and of what gives a core away."""
    posix = os.name == "posix"
    library, names = ctypes.CDLL(None if posix else "kernel32"), ("usleep", "sched_yield")
    sleep, give = (library[name] for name in (names if posix else ("Sleep", "SwitchToThread")))
    return _address(sleep), NAP if posix else 0, _address(give)


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


@dataclass(frozen=True)
class Driver(Code):
    """Takes tasks one by one until none is left, and returns when all are done.

    The table: how many tasks are taken, how many are done, how many there are in all, how often the pieces of each are
    done, the plan, and how many threads have come. A plan: the system's function that lets a thread sleep, for how
    long, the one that gives a core away, the number of its tasks (after the last comes the first again), and for each
    how many of them have to be done before it begins, the address of its pieces, their number, and how many pieces
    further on those of the next thread are. A piece is a function and its table.

    A thread waits for tasks, never for another thread: one that the system has put aside between two tasks holds up
    nobody. Who waits for long goes to sleep, so that its core is free for a thread that the system has put aside in the
    middle of a task. To wait by `sched_yield` was three times slower where other programs want the cores (Linux 6.18).
    Who works for long gives the core away between two tasks, before the system takes it away in the middle of one.
    """

    def write(self, table: Table, b: Any) -> None:
        taken, done = table.at(TAKEN), table.at(DONE)
        total, turns, plan = table.load("llp", TOTAL)
        lane = b.atomic_rmw("add", table.at(THREADS), WORD(1), "monotonic")

        def slot(start: Any, number: Any) -> Any:
            return b.gep(start, [number], source_etype=WORD)

        time, tasks = (b.load(slot(plan, WORD(k)), typ=WORD) for k in (1, 3))
        looks, since = b.alloca(WORD), b.alloca(WORD)
        b.store(WORD(0), looks)
        cycles = ir.Function(table.module, ir.FunctionType(WORD, []), "llvm.readcyclecounter") if X86 else None
        b.store(b.call(cycles, []) if X86 else WORD(0), since)
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
        if X86:
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
        got = b.cmpxchg(taken, number, b.add(number, WORD(1)), "acq_rel", "acquire")
        b.cbranch(b.extract_value(got, 1), work, look)

        b.position_at_end(work)
        pieces, count, apart = (
            b.load(slot(task, WORD(k)), typ=TYPES[kind]) for k, kind in ((1, "p"), (2, "l"), (3, "l"))
        )
        mine = b.mul(lane, apart)
        with counted(b, turns), counted(b, count) as k:
            piece = slot(pieces, b.mul(b.add(mine, k), WORD(2)))
            table.call(piece, [b.load(slot(piece, WORD(1)), typ=POINTER)])
        b.atomic_rmw("add", done, WORD(1), "acq_rel")
        b.store(WORD(0), looks)
        if X86:
            worked = b.sub(b.call(cycles, []), b.load(since, typ=WORD))
            with b.if_then(b.icmp_unsigned(">", worked, WORD(TURN))):
                table.call(slot(plan, WORD(2)), [], INT)
                b.store(b.call(cycles, []), since)
        b.branch(look)
        b.position_at_end(end)
