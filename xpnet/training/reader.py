"""The thread that reads: one window of a streamed training goes to the device while another one is trained on."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from xpnet.backends.base import Backend
from xpnet.training.supply import Supply, located
from xpnet.typing import Array, HostArray

Window = tuple[int, int]
"""Number of the epoch, and of the window within it."""


class Reader:
    """Fills arrays with room for two windows, one half of them after the other.

    Whoever looks at what a training step can reach passes by objects that have slots alone: so the user's data are not
    taken for a part of the step, whatever the thread changes in them.

    Parameters
    ----------
    supply : Supply
    backend : Backend
    epochs : int
        How many there will be; nothing is read ahead beyond them.
    """

    __slots__ = ("_arrays", "_backend", "_coming", "_epochs", "_loader", "_pool", "_there", "supply")

    def __init__(self, supply: Supply, backend: Backend, epochs: int) -> None:
        self.supply, self._backend, self._epochs = supply, backend, epochs
        self._arrays: dict[str, Array] = {}
        self._loader, self._pool = backend.loader(), ThreadPoolExecutor(1, "xpnet-reader")
        self._there: dict[int, Window] = {}
        self._coming: tuple[Window, int, Future[None], threading.Event] | None = None

    def arrays(self) -> dict[str, Array]:
        """Return the arrays that are filled."""
        xp, device = self._backend.xp, self._backend.device
        self._arrays = {
            name: xp.zeros((2 * self.supply.room, *spec.shape), dtype=getattr(xp, spec.dtype.name), device=device)
            for name, spec in self.supply.specs.items()
        }
        return self._arrays

    def bring(self, epoch: int, k: int, both: bool) -> tuple[int, int]:
        """Wait until window `k` is there, and, if `both`, the one after it, which is begun to be read in any case.

        Returns the first rows of the two. What was in the place of the second one is no longer needed.
        """
        window = (epoch, k)
        if self._place(window) is None:
            self._wait(window, 0)
        place = self._place(window)
        assert place is not None
        following = (epoch, k + 1) if k + 1 < self.supply.count else (epoch + 1, 0)
        if self._place(following) is None and following[0] < self._epochs:
            self._start(following, 1 - place)
            if both:
                self._wait(following, 1 - place)
        return place * self.supply.room, (1 - place) * self.supply.room

    def first(self) -> dict[str, HostArray]:
        """Return the first batch, read by the thread, so that nobody reads beside it."""
        return self._pool.submit(self.supply.first).result()

    def _place(self, window: Window) -> int | None:
        """Return in which half a window is, if it is there."""
        return next((half for half, there in self._there.items() if there == window), None)

    def _wait(self, window: Window, half: int) -> None:
        """Wait until a window is there; what is wrong with it is raised here."""
        self._start(window, half)
        assert self._coming is not None
        _, half, future, _ = self._coming
        try:
            future.result()
        except BaseException:
            if future.done():
                self._coming = None  # what failed may be tried again
            raise
        self._coming, self._there[half] = None, window

    def _start(self, window: Window, half: int) -> None:
        """Begin to read a window into a half, unless it is on its way."""
        if self._coming is not None:
            if self._coming[0] == window:
                return
            self._give_up()
        self._there.pop(half, None)
        stop, mark = threading.Event(), self._loader.mark()
        self._coming = window, half, self._pool.submit(self._fill, window, half, mark, stop), stop

    def _fill(self, window: Window, half: int, mark: Any, stop: threading.Event) -> None:
        """Read a window, piece by piece; this is what the thread does."""
        with self._backend.active():
            self._loader.after(mark)
            self.supply.shuffled(*window)  # which remembers it: a long order takes a while
            try:
                self._send(window, half * self.supply.room, stop)
            finally:  # also of what was given up: else the memory of both ends could be given to others meanwhile
                self._loader.finish()

    def _send(self, window: Window, first: int, stop: threading.Event) -> None:
        """Send the pieces of a window, one after another, until told to stop."""
        loader = self._loader
        for piece in self.supply.pieces(*window):
            if stop.is_set():
                return
            start, stop_row = first + piece.start, first + piece.stop
            rooms = {
                name: loader.room(self._arrays[name], start, stop_row, spec.dtype)
                for name, spec in self.supply.specs.items()
            }
            with located(piece.name):
                piece.fill(rooms)
            for name, room in rooms.items():
                loader.send(room, self._arrays[name], start)

    def _give_up(self) -> None:
        """Stop reading; what is half read is not there."""
        if self._coming is not None:
            _, _, future, stop = self._coming
            stop.set()
            with suppress(Exception):
                future.result()
            self._coming = None

    def close(self) -> None:
        """End the thread; it ends with the block that it is reading."""
        if self._coming is not None:
            self._coming[3].set()
        self._pool.shutdown(wait=True, cancel_futures=True)
