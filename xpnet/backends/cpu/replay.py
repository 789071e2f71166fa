"""A recorded step, replayed on the CPU; once it has run for a while it is compiled, if LLVM is there and works."""

from __future__ import annotations

import functools
import importlib.util
import math
import mmap
import sys
import time
import warnings
from collections.abc import Callable, Generator
from typing import Any

from xpnet.backends.cpu.calls import Call, calls
from xpnet.backends.tape.plan import Memory
from xpnet.backends.tape.record import Tape

MOST = 4096
"""Steps that are asked for in one call at most."""
MANY = 500
"""Calls of a step that take about as long to compile as the patience with a short one."""
KNOWN = 0.1
"""The part of the patience after which a step is compiled whose code is there from a training before."""
NATIVE = "xpnet.backends.cpu.native"
NEWEST_OLD = (0, 44)
"""The newest version of llvmlite that is too old."""
ROOM = 64 << 20
"""Bytes of memory that have to be free while something is compiled: LLVM ends the process where there are too few."""
ROOM_TO_LOAD = 512 << 20
"""The same while LLVM is loaded."""
INSTALL = 'pip install --upgrade "xpnet[fast]"'


class CannotCompile(Exception):
    """A step is not compiled; the message says why."""


def _need(size: int) -> None:
    """Make sure that the process may have so many bytes more."""
    try:
        mmap.mmap(-1, size).close()
    except (OSError, MemoryError):
        raise CannotCompile(f"there are no {size >> 20} MiB of memory left for LLVM") from None


def _load() -> Callable[[Tape, int, Memory | None], Generator[bool, None, list[Call]]]:
    """Load LLVM, and return what compiles a tape, in parts."""
    if "llvmlite.binding" not in sys.modules:
        _need(ROOM_TO_LOAD)
    import llvmlite

    if tuple(map(int, llvmlite.__version__.split(".")[:2])) <= NEWEST_OLD:
        raise CannotCompile(f"llvmlite {llvmlite.__version__} is too old. To mend it: {INSTALL}")
    from xpnet.backends.cpu.native import native

    return native


@functools.cache
def _warn(reason: str) -> None:
    """Warn, once in a process for each reason."""
    text = f"Steps are not compiled, and go on as NumPy's calls, with the same numbers but slower: {reason}"
    warnings.warn(text, RuntimeWarning, stacklevel=2)


class Replay:
    """A recorded step. Once it has run for a while it pays to compile it, which gives the same bits.

    Compiling is never the reason why a step fails: if it does not work, NumPy's calls go on.
    """

    patience = 0.2
    """Seconds of replay after which a short step is compiled; for one of many calls, which takes longer, more."""
    standstill = 0.2
    """Seconds, or the time of a step, after which compiling makes room for one; what is begun is brought to its end."""
    at_once = 0.005
    """Seconds of steps that are asked for in one call, between which Python sees to other things."""
    at_once_shared = 0.02
    """The same on several threads, which begin and end together."""

    def __init__(self, tape: Tape, threads: int = 1) -> None:
        memory = Memory()
        self._calls, self._threads = calls(tape, threads, memory), threads
        if threads > 1:
            self.at_once = self.at_once_shared
        compiles = importlib.util.find_spec("llvmlite")
        self._tape: Tape | None = tape if compiles else None
        self._memory: Memory | None = memory if compiles else None
        self._parts: Generator[bool, None, list[Call]] | None = None
        self._whole: Callable[..., Any] | None = None
        self._seconds, self._fastest = 0.0, math.inf
        self._patience, self._early = self.patience * (1 + len(self._calls) / MANY), NATIVE in sys.modules
        self._wait = self._patience * (KNOWN if self._early else 1)
        self.unroll = 1

    def __call__(self, steps: int = 1) -> None:
        if self._whole is not None:
            began = time.perf_counter()
            self._whole(steps)
            if steps == self.unroll < MOST:
                fitting = int(steps * self.at_once / (time.perf_counter() - began))
                self.unroll = max(steps, min(fitting, 2 * steps, MOST))
            return
        for _ in range(steps):
            if self._tape is None:  # nothing depends on the clock any more
                for call in self._calls:
                    call()
            else:
                self._timed(self._tape)

    def _timed(self, tape: Tape) -> None:
        """Do one step, and compile some more once it is time for that."""
        began = time.perf_counter()
        for call in self._calls:
            call()
        seconds = time.perf_counter() - began
        self._seconds, self._fastest = self._seconds + seconds, min(self._fastest, seconds)
        if self._seconds > self._wait:
            self._seconds, self._wait = 0.0, self.patience / 4
            self.compile(tape, self._fastest, max(self.standstill, self._fastest))

    def compile(self, tape: Tape, seconds: float = 1.0, most: float = math.inf) -> None:
        """Compile the step, of which one takes about `seconds`, for `most` seconds at most.

        If that comes early and it turns out that LLVM has something to do, the rest has to wait.
        """
        end = time.perf_counter() + most
        try:
            self._parts = self._parts or _load()(tape, self._threads, self._memory)
            while True:
                _need(ROOM)
                unknown = next(self._parts)
                if unknown and self._early and most < math.inf:
                    self._early, self._wait = False, self._patience
                    break
                if time.perf_counter() > end:
                    break
        except StopIteration as result:
            self._finish(result.value, seconds)
        except Exception as error:
            self._finish(None, seconds)
            known = isinstance(error, CannotCompile)
            _warn(str(error) if known else f"{type(error).__name__}: {error}. To mend it: {INSTALL}")

    def _finish(self, made: list[Call] | None, seconds: float) -> None:
        """Take the compiled calls, or, if there are none, stay with NumPy's."""
        self._tape = self._parts = self._memory = None
        if made is None:
            return
        # Results that outlast a step are in the caller's arrays: the change of plan is not noticed.
        self._calls = made
        if len(made) == 1 and hasattr(made[0], "pieces"):
            self._whole = made[0]
            self.unroll = max(1, min(MOST, int(self.at_once / max(seconds, 1e-9))))
