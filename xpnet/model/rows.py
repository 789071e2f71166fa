"""Samples that lie in files or behind a library, and not in memory: read as slices of rows."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from xpnet.typing import HostArray

PIECE = 16 << 20
"""Bytes that are read at a time where nothing else says how many."""


class Rows:
    """Whatever has a shape, a data type and slices of rows, such as a dataset of h5py or zarr.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    unit : int
        So many rows are stored together: slices that begin at its multiples are read once.
    """

    def __init__(self, data: Any) -> None:
        self.data, self.shape, self.dtype = data, tuple(map(int, data.shape)), np.dtype(data.dtype)
        chunks = getattr(data, "chunks", None)
        self.unit = int(chunks[0]) if isinstance(chunks, tuple) and chunks and isinstance(chunks[0], int) else 1

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, start: int, stop: int) -> HostArray:
        """Return the rows from `start` to `stop` on the host."""
        piece = np.asarray(self.data[start:stop])
        if piece.shape != (stop - start, *self.shape[1:]) or piece.dtype != self.dtype:
            wanted = f"shape {(stop - start, *self.shape[1:])} and dtype {self.dtype}"
            raise ValueError(f"a slice of {wanted} was asked for, one of shape {piece.shape} and {piece.dtype} came")
        return piece

    def read_into(self, start: int, stop: int, out: HostArray) -> None:
        """Write the rows to `out`, in its data type."""
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found by who looks at the rows
            np.copyto(out, self.read(start, stop), casting="unsafe")

    def slices(self, size: int = PIECE, multiple: int = 1) -> Iterator[tuple[int, int]]:
        """Yield the beginnings and ends of slices of about so many bytes, of a multiple of so many rows."""
        row = max(1, prod(self.shape[1:]) * self.dtype.itemsize)
        step = max(1, size // row // multiple) * multiple
        for start in range(0, max(len(self), 1), step):
            yield start, min(start + step, len(self))

    def all(self, dtype: np.dtype[Any] | None = None) -> HostArray:
        """Return all rows on the host, read slice by slice."""
        result = np.empty(self.shape, self.dtype if dtype is None else dtype)
        for start, stop in self.slices(multiple=self.unit):
            self.read_into(start, stop, result[start:stop])
        return result


class MappedRows(Rows):
    """A `numpy.memmap`, read from its file: no pages of it stay in memory, and a file that has shrunk is an error.

    To look at a map beyond the end of its file would end the process.
    """

    def __init__(self, data: np.memmap[Any, Any]) -> None:
        super().__init__(data)
        self.path = os.fspath(data.filename)  # type: ignore[arg-type]
        begin = data.offset - data.offset % mmap.ALLOCATIONGRANULARITY
        address = np.frombuffer(data._mmap, np.uint8).ctypes.data  # type: ignore[attr-defined]
        self.offset = begin + data.ctypes.data - address
        self.row = data.strides[0] if data.ndim and len(data) else 0
        self.end = begin + np.lib.array_utils.byte_bounds(data)[1] - address
        # Pages that were changed in a map of mode "c" are not in the file.
        self.in_file = data.flags.c_contiguous and data.mode != "c"

    def read(self, start: int, stop: int) -> HostArray:
        if not self.in_file:
            if (size := os.path.getsize(self.path)) < self.end:
                raise EOFError(f"{self.path!r} has {size} bytes, {self.end} are needed: it has become shorter")
            return super().read(start, stop)
        piece = np.empty((stop - start, *self.shape[1:]), self.dtype)
        self._fill(start, piece)
        return piece

    def read_into(self, start: int, stop: int, out: HostArray) -> None:
        if self.in_file and out.dtype == self.dtype and out.flags.c_contiguous:
            self._fill(start, out)
        else:
            super().read_into(start, stop, out)

    def _fill(self, start: int, out: HostArray) -> None:
        begin = self.offset + start * self.row
        with open(self.path, "rb", buffering=0) as file:
            file.seek(begin)
            left = memoryview(out.reshape(-1).view(np.uint8).data)
            while len(left):
                count = file.readinto(left)
                if not count:
                    end = begin + out.nbytes
                    raise EOFError(f"{self.path!r} ends before byte {end}: it has become shorter")
                left = left[count:]
