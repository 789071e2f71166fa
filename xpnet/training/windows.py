"""The order in which an epoch takes samples that lie in a file: shuffled, and yet read in blocks.

Consecutive rows make a block. The blocks are shuffled, so many of them in a row make a window, and the rows of a window
are shuffled. All of that is a function of the seed, the epoch and the size of the window alone.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from xpnet.typing import HostArray

BLOCKS = 16
"""Blocks in a window, if it has so many rows."""


class Windows:
    """The windows of each epoch.

    Parameters
    ----------
    samples : int
    window : int
        The number of rows that are shuffled together, at most.
    seed : int or None
        None for rows as they come.

    Attributes
    ----------
    block : int
        Rows in a block; the last one of the data may have fewer.
    count : int
        Windows in an epoch.
    """

    def __init__(self, samples: int, window: int, seed: int | None) -> None:
        self.samples, self.window, self.seed = samples, window, seed
        self.block = max(1, window // BLOCKS)
        self._together = window // self.block
        self._blocks = -(-samples // self.block)
        self.count = -(-self._blocks // self._together)
        self._known: tuple[int, HostArray] = (-1, np.zeros(0, np.int64))
        self._shuffles = lru_cache(2)(self._shuffle)  # one for each window at hand

    def _order(self, epoch: int) -> HostArray:
        """Return the blocks in an epoch's order."""
        known = self._known  # another thread may put another epoch's in its place
        if known[0] != epoch:
            numbers = np.arange(self._blocks)
            if self.seed is not None:
                numbers = np.random.default_rng([self.seed, 0xB10C, epoch]).permutation(self._blocks)
            self._known = known = (epoch, numbers)
        return known[1]

    def _ends(self, blocks: HostArray) -> HostArray:
        ends: HostArray = np.minimum((blocks + 1) * self.block, self.samples)
        return ends

    def starts(self, epoch: int) -> HostArray:
        """Return how many samples an epoch has before each of its windows, and at last in all."""
        blocks = self._order(epoch)
        sizes = self._ends(blocks) - blocks * self.block
        return np.concatenate([[0], np.cumsum(np.add.reduceat(sizes, np.arange(0, self._blocks, self._together)))])

    def blocks(self, epoch: int, k: int) -> list[tuple[int, int, int]]:
        """Return number, first row and end of each block of window `k`."""
        numbers = self._order(epoch)[k * self._together :][: self._together]
        return [*zip(numbers.tolist(), (numbers * self.block).tolist(), self._ends(numbers).tolist(), strict=True)]

    def shuffled(self, epoch: int, k: int) -> HostArray:
        """Return the order of the rows of window `k`, as places in the row of its blocks; it is not to be changed."""
        return self._shuffles(epoch, k)

    def _shuffle(self, epoch: int, k: int) -> HostArray:
        count = sum(end - start for _, start, end in self.blocks(epoch, k))
        places = np.arange(count, dtype=np.int32 if count < 2**31 else np.int64)
        if self.seed is None:
            return places
        return np.random.default_rng([self.seed, 0x0E0C, epoch, k]).permutation(places)

    def order(self, epoch: int) -> HostArray:
        """Return the order of all samples in an epoch, for those who have them all at hand."""
        rows = [
            np.concatenate([np.arange(start, end) for _, start, end in self.blocks(epoch, k)])[self.shuffled(epoch, k)]
            for k in range(self.count)
        ]
        return np.concatenate(rows)
