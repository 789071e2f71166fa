"""A training step as a CUDA graph: recorded once, launched as a whole, several steps at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from xpnet.typing import Array

UNROLL = 16
"""Steps in the larger of a captured step's two graphs, so that one launch serves them all."""


class CapturedStep:
    """A step without arguments, captured.

    The step's intermediate arrays come from a pool of memory of their own: a graph does not hold on to memory,
    and whoever else was given these addresses would be written over at each launch.

    Parameters
    ----------
    cupy : module
    step : callable
        Changes arrays in place and reads nothing back to the host.
    changes : sequence of arrays
        What it changes; warming up runs the step, and this is how it is undone.
    description : str
        What has been captured, for whoever asks; kept as an attribute.
    """

    unroll = UNROLL

    def __init__(
        self, cupy: Any, step: Callable[[], None], changes: Sequence[Array], description: str = ""
    ) -> None:  # fmt: skip
        self.description = description
        self._cuda = cupy.cuda
        self._pool = cupy.cuda.MemoryPool()
        # The legacy default stream cannot capture, and a blocking stream would clash with it.
        self._stream = cupy.cuda.Stream(non_blocking=True)
        saved = [array.copy() for array in changes]
        caller = self._enter()
        try:
            with self._stream, cupy.cuda.using_allocator(self._pool.malloc):
                for _ in range(2):  # compiles kernels, makes cuBLAS's handle, grows the pool: not during capture
                    step()
                self._stream.synchronize()
                self._step = step  # a graph does not hold on to the step's own arrays either
                self._graphs = {count: self._capture(step, count) for count in (1, self.unroll)}
        finally:
            self._leave(caller)
            for array, value in zip(changes, saved, strict=True):
                array[...] = value

    def _capture(self, step: Callable[[], None], count: int) -> Any:
        self._stream.begin_capture()
        try:
            for _ in range(count):
                step()
        except BaseException:
            with contextlib.suppress(self._cuda.runtime.CUDARuntimeError):
                self._stream.end_capture()  # leave capture mode; the graph is of no use
            raise
        graph = self._stream.end_capture()
        graph.upload(self._stream)
        return graph

    def _enter(self) -> Any:
        """Let the graph's stream wait for what the caller has asked for so far; return the caller's stream."""
        caller = self._cuda.get_current_stream()
        self._stream.wait_event(caller.record())
        return caller

    def _leave(self, caller: Any) -> None:
        """Let the caller's stream wait for the graph's."""
        caller.wait_event(self._stream.record())

    def __call__(self, steps: int = 1) -> None:
        """Do `steps` steps."""
        caller = self._enter()
        many, single = divmod(steps, self.unroll)
        for _ in range(many):
            self._graphs[self.unroll].launch(self._stream)
        for _ in range(single):
            self._graphs[1].launch(self._stream)
        self._leave(caller)
