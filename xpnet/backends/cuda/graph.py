"""A training step as a CUDA graph: recorded once, launched as a whole, several steps at a time."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Sequence
from typing import Any

from xpnet.backends.cuda.products import Lane
from xpnet.typing import Array

UNROLL = 16
"""Steps in the larger of a captured step's two graphs, so that one launch serves them all."""


class CapturedStep:
    """A step without arguments, captured.

    The step's intermediate arrays come from a pool of memory of their own: a graph does not hold on to memory,
    and whoever else was given these addresses would be written over at each launch. Each graph has its pool, since one
    that runs out of memory gives back what nobody holds, and another graph may know it.

    Parameters
    ----------
    cupy : module
    lane : Lane
        Where it is captured and launched; launches on one stream are in order.
    step : callable
        Changes arrays in place and reads nothing back to the host.
    changes : sequence of arrays
        What it changes; warming up runs the step, and this is how it is undone.
    description : str
        What has been captured, for whoever asks; kept as an attribute.
    """

    unroll = UNROLL

    def __init__(
        self, cupy: Any, lane: Lane, step: Callable[[], None], changes: Sequence[Array], description: str = ""
    ) -> None:  # fmt: skip
        self.description = description
        self._cuda, self._lane, self._stream = cupy.cuda, lane, lane.stream
        self._pools = {1: cupy.cuda.MemoryPool()}
        self._step = step  # a graph does not hold on to the step's own arrays
        self._graphs: dict[int, Any] = {}
        saved = [array.copy() for array in changes]
        caller = self._enter()
        try:
            with lane, cupy.cuda.using_allocator(self._pools[1].malloc):
                for _ in range(2):  # compiles kernels, makes cuBLAS's handle, grows the pool: not during capture
                    step()
            self._stream.synchronize()
            self._graph(1)
        finally:
            self._leave(caller)
            for array, value in zip(changes, saved, strict=True):
                array[...] = value

    def _graph(self, count: int) -> Any:
        """Return the graph of `count` steps, which is captured when it is first wanted."""
        if count not in self._graphs:
            collecting = gc.isenabled()
            gc.disable()  # what it destroys, such as a handle of cuBLAS, might end the capture
            pool = self._pools.setdefault(count, self._cuda.MemoryPool())
            try:
                with self._lane, self._cuda.using_allocator(pool.malloc):
                    try:
                        self._graphs[count] = self._capture(count)
                    except self._cuda.runtime.CUDARuntimeError:  # another thread may have ended it
                        self._graphs[count] = self._capture(count)
            finally:
                if collecting:
                    gc.enable()
        return self._graphs[count]

    def _capture(self, count: int) -> Any:
        self._stream.begin_capture()
        try:
            for _ in range(count):
                self._step()
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
        if steps >= self.unroll > 1:
            try:
                self._graph(self.unroll)
            except Exception:  # there may be too little memory for it, and enough for what is there
                self._pools.pop(self.unroll, None)
                self.unroll = 1
        many, single = divmod(steps, self.unroll)
        try:
            for _ in range(many):
                self._graph(self.unroll).launch(self._stream)
            for _ in range(single):
                self._graph(1).launch(self._stream)
        finally:  # also if Ctrl-C comes between: whoever puts the state back has to wait for what is launched
            self._leave(caller)
