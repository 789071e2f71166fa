"""Threads that share the long loops of a step: elementwise operations and the selection of rows, cut into parts.

A *job* is a function and the tables of its parts. Whoever runs a job takes one part after another until none is left,
and so does each helping thread that wakes up in time; one that comes late finds nothing to do. So a job needs no help:
on a busy machine, or in a process that was forked and has no such threads, the caller does all of it. Each part is done
once, and they do not overlap, so the numbers do not depend on who did what.

There are as many threads as OpenBLAS uses for its products, and none where it uses one.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from xpnet.backends import openblas
from xpnet.backends.chain import Piece, slots, table

MOST = 8
"""Threads at most, the caller's among them: these loops are bound by memory."""
WORTH = 1 << 21
"""Bytes that a loop goes through at least if it is to be shared: to wake a thread takes as long as half of them."""
PART = 1 << 18
"""Bytes of a part at least."""

SERVE = f"""
define void @run(ptr %table) {{
entry:
  {slots("ppp")}
  br label %wait
wait:
  %r = call i32 %v0(ptr %v1)
  %job = load atomic ptr, ptr %v2 acquire, align 8
  %none = icmp eq ptr %job, null
  br i1 %none, label %wait, label %look
look:
  %done.at = getelementptr i64, ptr %job, i64 1
  %count.at = getelementptr i64, ptr %job, i64 2
  %f.at = getelementptr i64, ptr %job, i64 3
  %tables.at = getelementptr i64, ptr %job, i64 4
  %count = load i64, ptr %count.at
  br label %take
take:
  %i = atomicrmw add ptr %job, i64 1 seq_cst
  %left = icmp ult i64 %i, %count
  br i1 %left, label %do, label %wait
do:
  %f = load ptr, ptr %f.at
  %tables = load ptr, ptr %tables.at
  %t.at = getelementptr ptr, ptr %tables, i64 %i
  %t = load ptr, ptr %t.at
  call void %f(ptr %t)
  %before = atomicrmw add ptr %done.at, i64 1 seq_cst
  br label %take
}}
"""
"""A helping thread. The table: `sem_wait`, the semaphore, and where the current job's address is."""

SHARE = f"""
define void @run(ptr %table) {{
entry:
  {slots("pppplplpp")}
  %done.at = getelementptr i64, ptr %v0, i64 1
  store atomic i64 0, ptr %done.at seq_cst, align 8
  store atomic i64 0, ptr %v0 seq_cst, align 8
  store atomic ptr %v0, ptr %v1 seq_cst, align 8
  br label %call
call:
  %k = phi i64 [0, %entry], [%k.next, %call]
  %r = call i32 %v2(ptr %v3)
  %k.next = add i64 %k, 1
  %k.more = icmp ult i64 %k.next, %v4
  br i1 %k.more, label %call, label %take
take:
  %i = atomicrmw add ptr %v0, i64 1 seq_cst
  %left = icmp ult i64 %i, %v6
  br i1 %left, label %do, label %wait
do:
  %t.at = getelementptr ptr, ptr %v7, i64 %i
  %t = load ptr, ptr %t.at
  call void %v5(ptr %t)
  %before = atomicrmw add ptr %done.at, i64 1 seq_cst
  br label %take
wait:
  %done = load atomic i64, ptr %done.at seq_cst, align 8
  %all = icmp uge i64 %done, %v6
  br i1 %all, label %end, label %yield
yield:
  %y = call i32 %v8()
  br label %wait
end:
  ret void
}}
"""
"""A job. The table: the job's five numbers, where the current job's address goes, `sem_post`, the semaphore, how many
threads are called, the parts' function, how many parts, their tables, and `sched_yield`: a helping thread may have been
stopped in the middle of a part, on a busy machine for as long as the caller does not let it go on."""


class Team:
    """Helping threads, which wait for jobs as long as the process lives."""

    def __init__(self, threads: int) -> None:
        from xpnet.backends.llvm import compiled

        self.threads = threads
        library = ctypes.CDLL(None, use_errno=True)
        self._semaphore = ctypes.create_string_buffer(64)  # a sem_t takes 32 bytes
        if library.sem_init(self._semaphore, 0, 0):
            raise OSError(ctypes.get_errno(), "no semaphore can be made")
        self._current = (ctypes.c_int64 * 1)(0)
        functions = (library.sem_post, library.sem_wait, library.sched_yield)
        self._post, wait, self._yield = (ctypes.cast(f, ctypes.c_void_p).value or 0 for f in functions)
        self._table = table("ppp", wait, ctypes.addressof(self._semaphore), ctypes.addressof(self._current))
        self._serve = compiled(SERVE)
        function = ctypes.cast(self._serve[0], ctypes.c_void_p)
        with _signals_for_others():
            for _ in range(threads - 1):
                number = ctypes.c_ulong()
                if library.pthread_create(ctypes.byref(number), None, function, self._table):
                    raise OSError("no thread can be started")
                library.pthread_detach(number)

    def share(self, source: str, tables: list[Any], keep: tuple[Any, ...]) -> Piece:
        """Return a piece that calls the function of this source with each of the tables, in any order."""
        from xpnet.backends.llvm import compiled

        called, engine = compiled(source)
        function = ctypes.cast(called, ctypes.c_void_p).value or 0
        addresses = (ctypes.c_int64 * len(tables))(*map(ctypes.addressof, tables))
        # Never given back: a late thread may still look at the first number, which tells it that nothing is left.
        job = (ctypes.c_int64 * 5)(len(tables), 0, len(tables), function, ctypes.addressof(addresses))
        _jobs.append((job, addresses))
        wanted = min(self.threads, len(tables)) - 1
        own = table(
            "pppplplpp", ctypes.addressof(job), ctypes.addressof(self._current), self._post,
            ctypes.addressof(self._semaphore), wanted, function, len(tables), ctypes.addressof(addresses), self._yield,
        )  # fmt: skip
        return Piece(SHARE, own, (*tables, *keep, engine))


_jobs: list[Any] = []
_lock = threading.Lock()


@contextlib.contextmanager
def _signals_for_others() -> Iterator[None]:
    """Let threads that are started meanwhile take no signals."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@functools.cache
def _made(threads: int) -> Team | None:
    try:
        team = Team(threads)
    except OSError:
        return None
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(team))  # its threads outlive the interpreter's own end
    return team


def team() -> Team | None:
    """Return the threads that may help now, or None if there are to be none."""
    blas = openblas.of_numpy()
    threads = min(MOST, blas.threads) if blas is not None else 1
    if threads < 2 or not sys.platform.startswith("linux"):
        return None
    with _lock:
        return _made(threads)


def parts(rounds: int, size: int, threads: int) -> list[range]:
    """Cut a loop that goes through `size` bytes in so many rounds into parts that are worth a thread's while."""
    count = min(rounds, 4 * threads, size // PART)
    if threads < 2 or size < WORTH or count < 2:
        return [range(rounds)]
    length = -(-rounds // count)
    length = -(-length // 64) * 64 if length > 1024 else length  # of numbers one by one, whole lines of memory
    return [range(start, min(start + length, rounds)) for start in range(0, rounds, length)]
