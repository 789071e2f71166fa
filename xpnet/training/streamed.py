"""A feed of samples that do not fit on the device: a window of them is there, and the next one is on its way."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping

import numpy as np

from xpnet.backends import Backend
from xpnet.training.feed import Feed, Treatment, digest_of
from xpnet.training.reader import Reader
from xpnet.training.supply import Rooms, Supply
from xpnet.typing import Array, HostArray


class StreamedFeed(Feed):
    """Samples of which two windows are on the device, at addresses that stay: a step recorded once reads them all.

    Parameters
    ----------
    supply : Supply
    backend : Backend
    treatment : Treatment
    stored : callable
        What a training whose samples are all on the device makes of inputs: by it the two recognise each other's data.
    shuffle : bool
    window : int or None
        As files of trainings know it.
    epochs : int
        How many there will be.
    """

    def __init__(
        self, supply: Supply, backend: Backend, treatment: Treatment, stored: Callable[[Array], Array],
        shuffle: bool, window: int | None, epochs: int,
    ) -> None:  # fmt: skip
        self._reader, self._stored = Reader(supply, backend, epochs), stored
        self._epoch, self._starts, self._shown = 0, supply.starts(0).tolist(), (-1, -1)
        self.counts_weights = "weight" in supply.specs
        self._divide(supply.samples, supply.batch_size, shuffle, treatment, window)

    def arrays(self, backend: Backend, dtype: str) -> dict[str, Array]:
        places = np.zeros(self._reader.supply.room + self.batch_size, np.int64)
        return self._reader.arrays() | {"order": backend.asarray(places), "begin": backend.asarray(places[:1].copy())}

    def begin_epoch(self, a: Mapping[str, Array], backend: Backend, epoch: int) -> None:
        self._epoch, self._starts = epoch, self._reader.supply.starts(epoch).tolist()

    def _window(self, position: int) -> tuple[int, int]:
        """Return the window in which a step begins, and the number of its samples that are left then."""
        first = self.seen(position)
        k = bisect_right(self._starts, first, hi=len(self._starts) - 1) - 1
        return k, self._starts[k + 1] - first

    def ahead(self, position: int) -> int:
        return max(1, self._window(position)[1] // self.batch_size)

    def together(self, position: int) -> int:
        return min(self.steps_per_epoch - position, -(-self._window(position)[1] // self.batch_size))

    def bring(self, a: Mapping[str, Array], backend: Backend, position: int) -> None:
        supply, epoch, (k, left) = self._reader.supply, self._epoch, self._window(position)
        both = self.size(position) > left
        if self._shown == (epoch, k) and not both:
            return
        place, other = self._reader.bring(epoch, k, both)
        self._shown = (-1, -1)  # an interrupt may come between the next lines
        order = np.add(supply.shuffled(epoch, k), place, dtype=np.int64)
        a["order"][: len(order)] = backend.asarray(order)
        if both:  # the batch begins in this window and ends in the next one
            more = np.add(supply.shuffled(epoch, k + 1)[: self.batch_size], other, dtype=np.int64)
            a["order"][len(order) : len(order) + len(more)] = backend.asarray(more)
        a["begin"][...] = backend.asarray(np.asarray([-self._starts[k]]))
        self._shown = (epoch, k)

    def some(self, a: Mapping[str, Array], backend: Backend, rows: HostArray) -> dict[str, Array]:
        return self._moved(self._reader.first(), backend)

    def _moved(self, rooms: Rooms, backend: Backend) -> dict[str, Array]:
        return {name: backend.asarray(room) for name, room in rooms.items()}

    def fingerprint(self, a: Mapping[str, Array], backend: Backend) -> str:
        shapes, rooms = self._reader.supply.some()
        with backend.active():
            moved = self._moved(rooms, backend)
            if "x" in moved:
                moved["x"] = self._stored(moved["x"])
            return digest_of({name: (shapes[name], backend.to_numpy(moved[name])) for name in moved})

    def close(self) -> None:
        self._reader.close()
