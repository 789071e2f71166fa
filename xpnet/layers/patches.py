"""Images cut to patches, a few samples at a time, and deltas of patches added up to deltas of images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

from xpnet.layers.windows import Axis, Windows
from xpnet.typing import Array, Shape

Index = tuple[int | slice, ...]

FEW = 9
"""So many numbers in a row of a window, or fewer, make a slow product: then a patch is the whole window."""

BLOCKS = 32
"""Parts of a batch at most: what is done for each of them is recorded, and compiled, one by one."""


class Patches(NamedTuple):
    """How images (B, H, W, C) are cut. A signal is an image of one row.

    A patch is what one row of a window sees, K C numbers: each number of an image is copied for every column of a
    window, but not for every row. The patches of n samples are a matrix (rows of images x n x windows across, K C), in
    this order, so that what the i-th row of all windows sees is one run of its rows, `part(i, n)`. For this, rows of
    images that are a multiple of the stride apart lie together. If these were few numbers, a patch has all rows.
    In between, images have a frame of zeros around them, as far as windows see.
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

    @property
    def few(self) -> bool:
        """Whether a row of a window has few numbers."""
        return self.across.size * self.channels <= FEW

    @property
    def together(self) -> int:
        """How many rows of a window are in one patch."""
        return self.down.size if self.few else 1

    def grid(self, rows: int) -> Shape:
        """Return the axes of the patches of so many samples; the first has the rows of images apart by the stride."""
        apart, stride = self.down.size // self.together, self.down.stride
        lines = (min(stride, apart), self.down.windows + (apart - 1) // stride)
        return *lines, rows, self.across.windows, self.together, self.across.size, self.channels

    def blocks(self, xp: Any, x: Array, W: Array, at_once: int) -> Iterator[tuple[slice, Array]]:
        """Yield samples whose patches are about so many numbers: all, or one of 4 n equal blocks, BLOCKS at most.

        What a block adds to dW, which is as large as W, is to be little beside its patches.
        """
        at_once = max(at_once, 2 * W.size)
        numbers = x.shape[0] * prod(self.grid(1))
        count = min(-(-numbers // (4 * at_once)) * 4, BLOCKS) if numbers > at_once else 1
        step = max(-(-x.shape[0] // count), 1)
        for start in range(0, x.shape[0], step):
            block = slice(start, min(start + step, x.shape[0]))
            n = block.stop - start
            yield block, xp.reshape(x[block, ...], (n, self.down.inputs, self.across.inputs, self.channels))

    def part(self, i: int, rows: int) -> slice:
        """Return which of the patches of so many samples the i-th row of all windows sees."""
        groups, lines, _, columns, *_ = self.grid(rows)
        start = (i % groups * lines + i // groups) * rows * columns
        return slice(start, start + self.down.windows * rows * columns)

    @property
    def frame(self) -> Shape:
        """How many rows and columns an image has with all zeros around it that windows see."""
        groups, lines, *_ = self.grid(1)
        seen = (lines - 1, max(groups, self.together)), (self.across.windows - 1, self.across.size)
        axes = zip((self.down, self.across), seen, strict=True)
        return tuple(max(last * a.stride + size, a.before + a.inputs) for a, (last, size) in axes)

    def inside(self, X: Array) -> Array:
        """Return the images of frames (rows, n, columns, C), without what is around them."""
        down, across = (slice(a.before, a.before + a.inputs) for a in (self.down, self.across))
        return X[down, :, across, :]

    def places(self) -> Iterator[tuple[Index, Index]]:
        """Yield where numbers of frames lie among the patches, and which numbers these are."""
        groups, lines, *_ = self.grid(1)
        rows, columns, whole = max(groups, self.together), self.across.size, slice(None)
        for i, j in itertools.product(range(rows), range(columns)):
            down = slice(i, i + (lines - 1) * self.down.stride + 1, self.down.stride)
            across = slice(j, j + (self.across.windows - 1) * self.across.stride + 1, self.across.stride)
            g, row = (0, i) if self.few else (i, 0)
            yield (g, whole, whole, whole, row, j, whole), (down, whole, across, whole)

    def framed(self, xp: Any, x: Array) -> Array:
        """Return images, row by row, with zeros around them: (rows, n, columns, C)."""
        n, *places, C = x.shape
        if not self.few and tuple(places) == self.frame:
            return rows_first(xp, x)
        rows, columns = self.frame
        # Of few channels each has rows of its own: longer runs of numbers to copy.
        shape = (rows, n, C, columns) if self.few else (rows, n, columns, C)
        X = xp.zeros(shape, dtype=x.dtype, device=x.device)
        X = xp.permute_dims(X, (0, 1, 3, 2)) if self.few else X
        self.inside(X)[...] = rows_first(xp, x)
        return X

    def cut(self, xp: Any, x: Array) -> Array:
        """Return the patches of images; outside of an image these are zeros."""
        X, grid = self.framed(xp, x), self.grid(x.shape[0])
        # Of few channels the numbers of a row of an image lie together, not those of a patch: longer runs to copy.
        order = (4, 5, 6, 0, 1, 2, 3) if self.few else (0, 1, 2, 3, 4, 5, 6)
        P = xp.empty(tuple(grid[k] for k in order), dtype=x.dtype, device=x.device)
        for at, seen in self.places():
            P[tuple(at[k] for k in order)] = xp.permute_dims(X[seen], (3, 0, 1, 2)) if self.few else X[seen]
        numbers = prod(grid[4:])
        return xp.reshape(P, (numbers, -1)).T if self.few else xp.reshape(P, (-1, numbers))

    def add(self, xp: Any, dP: Array, rows: int) -> Array:
        """Return the deltas of so many images: of each number the sum over all patches that have it."""
        dP, (down, across) = xp.reshape(dP, self.grid(rows)), self.frame
        dX = xp.zeros((down, rows, across, self.channels), dtype=dP.dtype, device=dP.device)
        for at, seen in self.places():
            dX[seen] += dP[at]
        return rows_first(xp, self.inside(dX))

    def matrices(self, xp: Any, W: Array) -> Array:
        """Return the weights of windows as one matrix for each part."""
        return xp.reshape(W, (self.down.size // self.together, -1, W.shape[-1]))

    def transposed(self, xp: Any, W: Array) -> Array:
        """Return each of these matrices transposed, its rows side by side in memory, which makes products faster."""
        W_T = xp.permute_dims(W, (0, 2, 1))
        return xp.reshape(xp.reshape(W_T, (-1,)), W_T.shape)

    def images(self, xp: Any, Y: Array, rows: int) -> Array:
        """Return the outputs of windows, which lie as patches do, as images."""
        return rows_first(xp, xp.reshape(Y, (self.down.windows, rows, self.across.windows, -1)))


def rows_first(xp: Any, x: Array) -> Array:
    """Return images with their rows as the first axis and the samples as the second, or, from such, images again."""
    return xp.permute_dims(x, (1, 0, 2, 3))
