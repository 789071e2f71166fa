"""Batches that a user makes, as windows of a streamed training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from math import prod
from typing import Any

import numpy as np

from xpnet.errors import ConfigError, DataError
from xpnet.model.core import Model
from xpnet.model.data import check_numeric, check_shape, target_values, to_host
from xpnet.model.memory import readable
from xpnet.training.supply import Piece, Rooms, Spec, Supply, check_values, located, storage
from xpnet.typing import HostArray, Shape

USUAL = 64 << 20
"""Bytes of batches that lie on the device if nothing else is said, and if two batches do not take more."""


class Batches(Supply):
    """Batches of a user's own, in the user's order: each is a step.

    Parameters
    ----------
    net : Model
    feed : iterable
        Each ``iter(feed)`` gives an epoch's pairs (x, t) of arrays. All have equally many samples, but the last one may
        have fewer. If there is a method ``set_epoch``, it is told the number of the epoch before.
    scaled : bool
        Whether a step scales the inputs.
    most : float
        The largest number that an input may be.
    memory : int or None
        Bytes on the device at most.
    """

    def __init__(self, net: Model, feed: Iterable[Any], scaled: bool, most: float, memory: int | None) -> None:
        if iter(feed) is feed:
            raise DataError(
                f"x is an iterator ({type(feed).__name__}), which can be gone through once; pass what can be gone "
                "through again in each epoch: a list, or an object whose __iter__ begins anew"
            )
        self.net, self.feed, self.scaled, self.most = net, feed, scaled, most
        self._batches: Iterator[Any] = iter(())
        self._at = (-1, 0)
        self.specs = {}
        sizes = self._sizes()
        self.batch_size, self.samples, self.steps = sizes[0], sum(sizes), len(sizes)
        row = sum(prod(spec.shape) * spec.dtype.itemsize for spec in self.specs.values())
        size = row * self.batch_size
        if memory is not None and memory < 2 * size:
            raise ConfigError(f"memory={readable(memory)} must hold two batches at least, of {readable(size)} each")
        self._together = min(self.steps, max(1, (USUAL if memory is None else memory) // (2 * size)))
        self.room, self.count = self._together * self.batch_size, -(-self.steps // self._together)

    def _sizes(self) -> list[int]:
        """Return the number of samples in each batch, all of which are looked at once."""
        sizes: list[int] = []
        while True:
            with located(f"batch {len(sizes)}"):
                batch = self._next(0, len(sizes))
                if batch is None:
                    break
                size = len(batch["t"])
                if sizes and (size > sizes[0] or sizes[-1] < sizes[0]):
                    raise DataError(
                        f"it has {size} samples, the first batch has {sizes[0]} and the one before {sizes[-1]}; all "
                        "need the same number, only the last batch may be smaller"
                    )
                sizes.append(size)
        if not sizes:
            raise DataError("x gives no batches; an epoch needs at least one pair (x, t)")
        return sizes

    def _next(self, epoch: int, j: int) -> Rooms | None:
        """Return batch `j` of an epoch, checked, or None if there are not so many."""
        if self._at != (epoch, j):
            if hasattr(self.feed, "set_epoch"):
                self.feed.set_epoch(epoch)
            self._batches = iter(self.feed)
            for _ in range(j):
                next(self._batches, None)
        self._at = (-1, 0)  # where it is, is not known if the next line raises
        try:
            batch = next(self._batches)
        except StopIteration:
            return None
        self._at = (epoch, j + 1)
        return self._checked(batch)

    def _checked(self, batch: Any) -> Rooms:
        net = self.net
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise DataError(f"a batch must be a pair (x, t), got {type(batch).__name__}")
        x, t = (to_host(name, a, net.backend) for name, a in zip(("x", "t"), batch, strict=True))
        check_numeric("x", x)
        check_shape("x", x.shape, net.input_shape)
        dtype = storage(x.dtype, net.dtype, self.scaled)
        values = {
            "x": np.ascontiguousarray(x, dtype),
            "t": target_values(t, len(x), net.output_shape[0], net.loss, net.dtype),
        }
        check_values(values["x"], lambda: x, 0, self.most)
        specs = {name: Spec(a.shape[1:], a.dtype) for name, a in values.items()}
        self.specs = self.specs or specs
        if specs != self.specs:
            raise DataError(f"the batch has {specs}, the first one {self.specs}")
        return values

    def _fill(self, epoch: int, j: int, rooms: Rooms) -> None:
        batch = self._next(epoch, j)
        if batch is None:
            raise DataError(f"x ends after {j} batches of {self.steps}")
        if len(batch["t"]) != len(rooms["t"]):
            raise DataError(f"the batch has {len(batch['t'])} samples, in the first epoch it had {len(rooms['t'])}")
        for name, room in rooms.items():
            room[...] = batch[name]
        if j == self.steps - 1 and self._next(epoch, j + 1) is not None:
            raise DataError(f"x goes on after {self.steps} batches, with which it ended the first time")

    def starts(self, epoch: int) -> HostArray:
        return np.minimum(np.arange(self.count + 1) * self.room, self.samples)

    def shuffled(self, epoch: int, k: int) -> HostArray:
        return np.arange(np.diff(self.starts(epoch))[k])

    def pieces(self, epoch: int, k: int) -> Iterator[Piece]:
        size, begin = self.batch_size, k * self._together
        for j in range(begin, min(begin + self._together, self.steps)):
            place = (j - begin) * size
            stop = min(place + size, self.samples - begin * size)
            yield Piece(place, stop, f"batch {j} of epoch {epoch + 1}", partial(self._fill, epoch, j))

    def first(self) -> Rooms:
        rooms = {n: np.empty((self.batch_size, *s.shape), s.dtype) for n, s in self.specs.items()}
        with located("batch 0"):
            self._fill(0, 0, rooms)
        return rooms

    def some(self) -> tuple[dict[str, Shape], Rooms]:
        return {name: (self.samples, *spec.shape) for name, spec in self.specs.items()}, {}
