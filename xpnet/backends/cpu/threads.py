"""Threads that help with what one thread does: they wait for work, which any number of them may do together."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any

from xpnet.backends.cpu.denormals import setting

Work = Callable[[], object]


def usable_cores() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    return [*os.sched_getaffinity(0)] if hasattr(os, "sched_getaffinity") else [*range(os.cpu_count() or 1)]


def cores() -> int:
    """Return how many cores these are."""
    return len(usable_cores())


class Helpers:
    """The helping threads of this process, started when they are first asked for.

    Whoever asks does the work, too, and never needs their help: so they may be busy, not there, or late. A process that
    is made by a fork begins without any.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[Work] = SimpleQueue()
        self._started = 0

    def invite(self, work: Work, count: int) -> None:
        """Let up to `count` threads call `work`, which must not raise, and which has nothing to do once all is done."""
        while self._started < count:
            try:
                threading.Thread(target=_help, args=(self._queue,), name="xpnet helper", daemon=True).start()
            except RuntimeError:  # the system has no more threads, or Python is about to end
                break
            self._started += 1
        for _ in range(min(count, self._started) - self._queue.qsize()):
            self._queue.put(partial(copy_context().run, _work, setting(), work))

    def share(self, parts: Sequence[Work], count: int) -> None:
        """Call all `parts`, in any order, with the help of up to `count` threads; raise what one of them raises."""
        shared = _Shared(parts)
        self.invite(shared.help, count)
        shared()


def _work(denormals: int, work: Work) -> None:
    """Work with the floating-point numbers of whoever asked; NumPy's settings are in the context."""
    setting(denormals)
    work()


def _help(queue: SimpleQueue[Work]) -> None:
    while True:
        queue.get()()  # and nothing is kept while there is nothing to do


class _Shared:
    """Calls that several threads take one by one."""

    def __init__(self, parts: Sequence[Work]) -> None:
        self._left = iter(parts)
        self._helped: dict[Any, bool] = {}  # a lock of each helping thread, which is held while it does something
        self._failures: list[BaseException] = []

    def help(self) -> None:
        """Take calls until none is left."""
        lock = threading.Lock()
        lock.acquire()
        self._helped[lock] = True  # before the first call is taken
        try:
            self._take()
        except BaseException as failure:  # for whoever has shared them out
            self._failures.append(failure)
        finally:
            self._helped[lock] = False
            lock.release()

    def _take(self) -> None:
        for part in self._left:
            part()

    def __call__(self) -> None:
        """Take calls until none is left and none is being done, also after an interrupt: nothing is written later."""
        try:
            try:
                self._take()
            finally:
                self._end()
        finally:
            self._end()  # for an interrupt that came while the others were waited for
        if self._failures:
            raise self._failures[0]

    def _end(self) -> None:
        for _ in self._left:  # which nobody takes any more
            pass
        for lock in [*self._helped]:
            if self._helped[lock]:  # also where an interrupt came after the lock was taken
                lock.acquire()


helpers = Helpers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=helpers.__init__)  # type: ignore[misc]
