"""Rows on their way to a GPU: through memory that stays in its place, on a stream beside that of the training."""

from __future__ import annotations

from collections import deque
from math import prod
from typing import Any

import numpy as np

from xpnet.backends.base import Backend, Loader
from xpnet.typing import Array, HostArray

UNDER_WAY = 6
"""Copies that are not waited for: two blocks of inputs, targets and weights."""


class PinnedLoader(Loader):
    """Copies that the device does while it computes: from page-locked memory, on a stream of their own."""

    def __init__(self, backend: Backend, cupy: Any) -> None:
        super().__init__(backend)
        self._cuda, self._under_way = cupy.cuda, deque[tuple[HostArray, Any]]()
        with backend.active():
            self._stream = self._cuda.Stream(non_blocking=True)

    def mark(self) -> Any:
        return self._cuda.get_current_stream().record()

    def after(self, mark: Any) -> None:
        self._stream.wait_event(mark)

    def room(self, array: Array, start: int, stop: int, dtype: np.dtype[Any]) -> HostArray:
        while len(self._under_way) >= UNDER_WAY:
            self._under_way[0][1].synchronize()
            self._under_way.popleft()  # not before: anybody may be given its memory then
        shape = (stop - start, *array.shape[1:])
        memory = self._cuda.alloc_pinned_memory(prod(shape) * dtype.itemsize)
        return np.ndarray(shape, dtype, memory)

    def send(self, room: HostArray, array: Array, start: int) -> None:
        array[start : start + len(room)].set(room, stream=self._stream)
        self._under_way.append((room, self._stream.record()))

    def finish(self) -> None:
        self._stream.synchronize()
        self._under_way.clear()
