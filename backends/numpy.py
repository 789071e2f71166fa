"""NumPy: the reference backend, on the CPU."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import array_api_compat.numpy
import numpy as np

from xpnet.backends import openblas
from xpnet.backends.base import Backend, Program, Step
from xpnet.backends.plan import plan
from xpnet.backends.tape import Tape, record


class NumpyBackend(Backend):
    """NumPy on the CPU."""

    name = "numpy"
    xp = array_api_compat.numpy
    device = "cpu"

    def owns(self, a: Any) -> bool:
        return isinstance(a, np.ndarray)

    def active(self) -> contextlib.AbstractContextManager[Any]:
        # Overflow is found by looking at the results, on every backend alike, and reported with its place.
        return np.errstate(all="ignore")

    def compile(self, step: Step, arrays: Mapping[str, Any], changes: Sequence[Any]) -> Program:
        try:
            return Replay(record(step, self.xp, arrays))
        except MemoryError:
            raise
        except Exception:  # a user's layer may look at values, or call what is not in the standard: then each
            # step runs as it is written, and if that is wrong it says so itself
            return super().compile(step, arrays, changes)

    def describe(self) -> str:
        return f"NumPy {np.__version__} on the CPU{openblas.advice()}"


class Replay:
    """A recorded step. Once it has run for a while it pays to compile kernels, which give the same bits."""

    unroll = 1
    patience = 0.2
    """Seconds of replay after which kernels are compiled; that takes about as long."""

    def __init__(self, tape: Tape) -> None:
        self._tape: Tape | None = tape
        self._calls = plan(tape)
        self._seconds = 0.0 if importlib.util.find_spec("llvmlite") else -math.inf

    def __call__(self, steps: int = 1) -> None:
        for _ in range(steps):
            if self._tape is None:
                for call in self._calls:
                    call()
            else:
                self._measured(self._tape)

    def _measured(self, tape: Tape) -> None:
        began = time.perf_counter()
        for call in self._calls:
            call()
        self._seconds += time.perf_counter() - began
        if self._seconds > self.patience:
            # Results that outlast a step are in the caller's arrays: the change of plan is not noticed.
            self._calls, self._tape = plan(tape, native=True), None
