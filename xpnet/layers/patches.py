"""Images cut to patches, a few samples at a time, and deltas of patches added up to deltas of images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

from xpnet.layers.windows import Axis, Windows
from xpnet.typing import Array, Shape

Index = tuple[int | slice, ...]

AT_ONCE = 2**18
"""Numbers of patches that are held at a time, which fit into a processor's cache: so many samples, but at least one."""


class Patches(NamedTuple):
    """How images (B, H, W, C) are cut. A signal is an image of one row.

    A patch is what one row of a window sees, K C numbers: each number of an image is copied for every column of a
    window, but not for every row. The patches of n samples are a matrix (rows of images x n x windows across, K C), in
    this order, so that what the i-th row of all windows sees is one run of its rows, `part(i, n)`. For this, rows of
    images that are a multiple of the stride apart lie together.
    """

    channels: int
    down: Axis
    across: Axis

    @classmethod
    def of(cls, windows: Windows, channels: int) -> Patches:
        """Cut images, or signals, where the windows lie."""
        *above, across = windows.axes
        return cls(channels, above[0] if above else Axis(1, 1, 1, 0, 1), across)

    @property
    def windows(self) -> Shape:
        """How many windows there are down and across."""
        return self.down.windows, self.across.windows

    def grid(self, rows: int) -> Shape:
        """Return the axes of the patches of so many samples; the first has the rows of images apart by the stride."""
        size, stride, windows = self.down.size, self.down.stride, self.down.windows
        apart = (min(stride, size), windows + (size - 1) // stride)
        return *apart, rows, self.across.windows, self.across.size, self.channels

    def blocks(self, xp: Any, x: Array) -> Iterator[tuple[slice, Array]]:
        """Yield samples that are worked on together: the memory for patches does not grow with the batch."""
        step = max(AT_ONCE // prod(self.grid(1)), 1)
        for start in range(0, x.shape[0], step):
            block = slice(start, min(start + step, x.shape[0]))
            n = block.stop - start
            yield block, xp.reshape(x[block, ...], (n, self.down.inputs, self.across.inputs, self.channels))

    def part(self, i: int, rows: int) -> slice:
        """Return which of the patches of so many samples the i-th row of all windows sees."""
        groups, lines, _, columns, _, _ = self.grid(rows)
        start = (i % groups * lines + i // groups) * rows * columns
        return slice(start, start + self.down.windows * rows * columns)

    def places(self) -> Iterator[tuple[Index, Index]]:
        """Yield where numbers of images lie among the patches, and which numbers these are."""
        groups, lines, *_ = self.grid(1)
        down, whole = self.down._replace(windows=lines), slice(None)
        for i, j in itertools.product(range(groups), range(self.across.size)):
            (at, seen), (columns, pixels) = down.seen(i), self.across.seen(j)
            yield (i, at, whole, columns, j, whole), (whole, seen, pixels, whole)

    def cut(self, xp: Any, x: Array) -> Array:
        """Return the patches of images; outside of an image these are zeros."""
        P = xp.zeros(self.grid(x.shape[0]), dtype=x.dtype, device=x.device)
        for at, seen in self.places():
            P[at] = rows_first(xp, x[seen])
        return xp.reshape(P, (-1, self.across.size * self.channels))

    def add(self, xp: Any, dP: Array, rows: int) -> Array:
        """Return the deltas of so many images: of each number the sum over all patches that have it."""
        dP = xp.reshape(dP, self.grid(rows))
        shape = (rows, self.down.inputs, self.across.inputs, self.channels)
        dx = xp.zeros(shape, dtype=dP.dtype, device=dP.device)
        for at, seen in self.places():
            dx[seen] += rows_first(xp, dP[at])
        return dx

    def images(self, xp: Any, Y: Array, rows: int) -> Array:
        """Return the outputs of windows, which lie as patches do, as images."""
        return rows_first(xp, xp.reshape(Y, (self.down.windows, rows, self.across.windows, -1)))


def rows_first(xp: Any, x: Array) -> Array:
    """Return images with their rows as the first axis and the samples as the second, or, from such, images again."""
    return xp.permute_dims(x, (1, 0, 2, 3))
