"""What is trained on: samples on the device, or sparse rows that go there a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

from xpnet.backends import Backend
from xpnet.errors import DataError
from xpnet.model.casting import check_finite
from xpnet.model.data import stays
from xpnet.model.rows import Rows
from xpnet.training.samples import Validation
from xpnet.typing import Array, HostArray


def is_sparse(a: Any) -> bool:
    """Say whether `a` is a sparse array or matrix of scipy."""
    return bool(scipy.sparse.issparse(a))


def to_device(a: Any, backend: Backend, dtype: str) -> Array:
    """Return checked samples in the network's library and precision; sparse rows, and those of files, stay there."""
    if isinstance(a, Rows):
        return a
    if is_sparse(a):
        return a.tocsr()
    if stays(a, backend):
        with backend.active():
            return backend.contiguous(backend.xp.astype(a, getattr(backend.xp, dtype), copy=False))
    return backend.borrow(np.ascontiguousarray(a, dtype=dtype))


def rows_between(a: Any, start: int, stop: int) -> Any:
    """Return the rows `start` to `stop`, or to the end if that comes first; those of files are read, and checked."""
    stop = min(stop, int(a.shape[0]))
    if isinstance(a, Rows):
        rows = a.read(start, stop)
        check_finite("X", rows, rows, start)
        return rows
    return a[start:stop] if is_sparse(a) or a.ndim == 1 else a[start:stop, ...]


def dense(a: Any, backend: Backend, dtype: str) -> Array:
    """Return sparse rows, or those of a file, as a dense array on the device."""
    if isinstance(a, np.ndarray):
        return backend.asarray(np.ascontiguousarray(a, dtype=dtype))
    return backend.asarray(a.toarray().astype(dtype, copy=False)) if is_sparse(a) else a


def take(a: Any, rows: HostArray, backend: Backend) -> Any:
    """Return the given rows of samples that `to_device` returned."""
    if is_sparse(a):
        return a[rows]
    if isinstance(a, Rows):
        raise DataError("early_stopping sets samples of everywhere aside; for data in files give validation_data")
    with backend.active():
        return backend.xp.take(a, backend.asarray(rows), axis=0)


class SparseMatrix(Rows):
    """Sparse rows, which become dense some at a time."""

    def read(self, start: int, stop: int) -> HostArray:
        return np.asarray(self.data[start:stop].toarray())


@dataclass(frozen=True)
class Samples:
    """Inputs, targets and weights.

    Attributes
    ----------
    x : array (N, I) on the device, or sparse rows on the host, or rows of a file
    t : array on the device
        Integer classes (N,), or rows (N, O), as the loss takes them.
    weight : array (N,) on the host, or None
    """

    x: Any
    t: Array
    weight: HostArray | None

    def __len__(self) -> int:
        return int(self.x.shape[0])

    def rows(self, which: HostArray, backend: Backend) -> Samples:
        """Return some of the samples."""
        weight = None if self.weight is None else self.weight[which]
        return Samples(take(self.x, which, backend), take(self.t, which, backend), weight)

    def to_measure(self, backend: Backend) -> Validation:
        """Return them as validation data; what does not lie on the device is read in rows, and its targets, too."""
        weight = np.ones(len(self)) if self.weight is None else self.weight
        if not isinstance(self.x, Rows) and not is_sparse(self.x):
            return Validation(self.x, self.t, weight)
        rows = self.x if isinstance(self.x, Rows) else SparseMatrix(self.x)
        return Validation(rows, Rows(backend.to_numpy(self.t)), weight)
