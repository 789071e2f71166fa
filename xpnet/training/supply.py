"""Where streamed samples come from, a part of a window at a time; and rows of files or the like, in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from xpnet.errors import DataError, XpnetError
from xpnet.model.casting import check_finite, first_bad
from xpnet.model.core import Model
from xpnet.model.data import target_values
from xpnet.model.rows import Rows
from xpnet.training.feed import few_rows
from xpnet.training.windows import Windows
from xpnet.typing import HostArray, Shape

RESUMABLE = "The training keeps its last whole step, from which a checkpoint goes on by resume=True"

Rooms = dict[str, HostArray]
Fill = Callable[[Rooms], None]


class Piece(NamedTuple):
    """A part of a window: its first and its last place there, what it is called, and what writes its rows."""

    start: int
    stop: int
    name: str
    fill: Fill


class Spec(NamedTuple):
    """The shape and the data type of a sample's inputs, target or weight."""

    shape: Shape
    dtype: np.dtype[Any]


def storage(given: np.dtype[Any], dtype: str, scaled: bool) -> np.dtype[Any]:
    """Return in which data type inputs travel: integers of a byte or two as they are if a step scales them."""
    small = given.kind in "biu" and given.itemsize <= 2
    return given.newbyteorder("=") if scaled and small else np.dtype(dtype)


def check_values(x: HostArray, given: Callable[[], HostArray], first: int, most: float) -> None:
    """Raise unless the inputs are finite, and none is larger than `most`; `given` returns what they were made of."""
    if first_bad(x):
        check_finite("x", x, given(), first)
    if most < np.inf and x.dtype.kind == "f" and (wrong := np.abs(x) > most).any():
        row, *rest = np.argwhere(wrong)[0].tolist()
        place = [row + first, *rest]
        raise DataError(
            f"x{place} = {x[(row, *rest)]:g} is beyond {most:g}; scale the data, or train in full precision"
        )


class Supply:
    """Samples in windows, one of which is on the device while the next one is read.

    Attributes
    ----------
    specs : dict of Spec
        By "x", "t" and, if samples have weights, "weight".
    samples, batch_size : int
    room : int
        Rows of the largest window.
    count : int
        Windows in an epoch.
    """

    specs: dict[str, Spec]
    samples: int
    batch_size: int
    room: int
    count: int

    def starts(self, epoch: int) -> HostArray:
        """Return how many samples an epoch has before each of its windows, and at last in all."""
        raise NotImplementedError

    def shuffled(self, epoch: int, k: int) -> HostArray:
        """Return the order in which an epoch takes the rows of window `k`."""
        raise NotImplementedError

    def pieces(self, epoch: int, k: int) -> Iterator[Piece]:
        """Yield the parts of window `k`, one after another."""
        raise NotImplementedError

    def some(self) -> tuple[dict[str, Shape], Rooms]:
        """Return the shapes of the whole, and a few rows by which other data are recognised."""
        raise NotImplementedError

    def first(self) -> Rooms:
        """Return the first batch."""
        raise NotImplementedError


class Blocks(Supply):
    """Rows of files or the like, in blocks of consecutive rows; see `xpnet.training.windows`.

    Parameters
    ----------
    net : Model
    x, t : Rows
    weight : array (N,) on the host, optional
    windows : Windows
    batch_size : int
    dtype : numpy.dtype
        In which inputs travel.
    most : float
        The largest number that an input may be.
    """

    def __init__(
        self, net: Model, x: Rows, t: Rows, weight: HostArray | None, windows: Windows, batch_size: int,
        dtype: np.dtype[Any], most: float,
    ) -> None:  # fmt: skip
        self.net, self.x, self.t, self.weight, self.windows, self.most = net, x, t, weight, windows, most
        self.samples, self.batch_size, self.room, self.count = len(x), batch_size, windows.window, windows.count
        with located("row 0"):
            target = self._targets(0, 1)
        self.specs = {"x": Spec(x.shape[1:], dtype), "t": Spec(target.shape[1:], target.dtype)}
        if weight is not None:
            self.specs["weight"] = Spec((), np.dtype(net.dtype))

    def starts(self, epoch: int) -> HostArray:
        return self.windows.starts(epoch)

    def shuffled(self, epoch: int, k: int) -> HostArray:
        return self.windows.shuffled(epoch, k)

    def _targets(self, start: int, stop: int) -> HostArray:
        net = self.net
        given = self.t.read(start, stop)
        return target_values(given, stop - start, net.output_shape[0], net.loss, net.dtype, "t", start)

    def fill(self, start: int, stop: int, rooms: Rooms) -> None:
        """Write the rows from `start` to `stop`, checked."""
        self.x.read_into(start, stop, rooms["x"])
        check_values(rooms["x"], lambda: self.x.read(start, stop), start, self.most)
        rooms["t"][...] = self._targets(start, stop)
        if self.weight is not None:
            rooms["weight"][...] = self.weight[start:stop]

    def pieces(self, epoch: int, k: int) -> Iterator[Piece]:
        place = 0
        for number, start, stop in self.windows.blocks(epoch, k):
            name = f"block {number} (rows {start} to {stop - 1})"
            yield Piece(place, place + stop - start, name, partial(self.fill, start, stop))
            place += stop - start

    def first(self) -> Rooms:
        return self._read([(0, self.batch_size)])

    def some(self) -> tuple[dict[str, Shape], Rooms]:
        shapes = {name: (self.samples, *spec.shape) for name, spec in self.specs.items()}
        return shapes, self._read(few_rows(self.samples))

    def _read(self, slices: list[tuple[int, int]]) -> Rooms:
        count = sum(stop - start for start, stop in slices)
        rooms = {name: np.empty((count, *spec.shape), spec.dtype) for name, spec in self.specs.items()}
        place = 0
        for start, stop in slices:
            with located(f"rows {start} to {stop - 1}"):
                self.fill(start, stop, {name: room[place : place + stop - start] for name, room in rooms.items()})
            place += stop - start
        return rooms


@contextmanager
def located(name: str) -> Iterator[None]:
    """Let what goes wrong with a part of the data be a `DataError` that says with which, and why."""
    try:
        yield
    except MemoryError:
        raise
    except XpnetError as error:
        raise DataError(f"{name}: {error}. {RESUMABLE}") from error
    except Exception as error:
        raise DataError(f"{name} cannot be read: {type(error).__name__}: {error}. {RESUMABLE}") from error
