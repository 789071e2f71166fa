"""A recorded step, replayed on the CPU; once it has run for a while it is compiled."""

from __future__ import annotations

import importlib.util
import math
import time

from xpnet.backends.cpu.chain import Chain
from xpnet.backends.tape.plan import plan
from xpnet.backends.tape.record import Tape

MOST = 4096
"""Steps that are asked for in one call at most."""


class Replay:
    """A recorded step. Once it has run for a while it pays to compile it, which gives the same bits."""

    patience = 0.2
    """Seconds of replay after which the step is compiled; that takes about as long."""
    at_once = 0.005
    """Seconds of steps that are asked for in one call, between which Python sees to other things."""

    def __init__(self, tape: Tape) -> None:
        self._tape: Tape | None = tape
        self._calls = plan(tape)
        self._whole: Chain | None = None
        self._seconds = 0.0 if importlib.util.find_spec("llvmlite") else -math.inf
        self._fastest = math.inf
        self.unroll = 1

    def __call__(self, steps: int = 1) -> None:
        if self._whole is not None:
            began = time.perf_counter()
            self._whole(steps)
            if steps == self.unroll < MOST and time.perf_counter() - began < self.at_once / 2:
                self.unroll *= 2
            return
        for _ in range(steps):
            began = time.perf_counter()
            for call in self._calls:
                call()
            if self._tape is not None:
                seconds = time.perf_counter() - began
                self._seconds, self._fastest = self._seconds + seconds, min(self._fastest, seconds)
                if self._seconds > self.patience:
                    self.compile(self._tape, self._fastest)

    def compile(self, tape: Tape, seconds: float = 1.0) -> None:
        """Compile the step, of which one takes about `seconds`."""
        # Results that outlast a step are in the caller's arrays: the change of plan is not noticed.
        self._calls, self._tape = plan(tape, native=True), None
        only = self._calls[0]
        if len(self._calls) == 1 and isinstance(only, Chain):
            self._whole, self.unroll = only, max(1, min(MOST, int(self.at_once / max(seconds, 1e-9))))
