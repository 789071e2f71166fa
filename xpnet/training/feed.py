"""Where a training's batches come from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from xpnet.backends import Backend
from xpnet.typing import Array, HostArray

TINY = 1e-30
"""Weights that are all zero are divided by it, and give a gradient of zero."""


class Batch(NamedTuple):
    """The samples of one step.

    Attributes
    ----------
    x, t : arrays
    weight : array (B,)
        The samples' weights, which sum to 1.
    total : float or array ()
        What they summed to before.
    share : float or array ()
        How much the batch counts for in the epoch's mean loss.
    """

    x: Array
    t: Array
    weight: Array
    total: Any
    share: Any


def epoch_order(seed: int, epoch: int, samples: int) -> HostArray:
    """Return the order of the samples in epoch number `epoch`: a function of these three numbers alone."""
    return np.random.default_rng([seed, 0x0E0C, epoch]).permutation(samples)


class Feed:
    """Samples that lie on the device, all of them; the base of other feeds.

    A feed puts arrays of its own among those of the training, writes to them between steps, and is asked within a step,
    where nothing is read back to the host, for the batch. The last batch of an epoch may be smaller.

    Parameters
    ----------
    x, t : arrays
        Checked inputs and targets on the device.
    weight : array (N,) on the host, optional
    batch_size : int
    order : callable ``epoch -> array (N,)``, optional
        The order in which an epoch takes the samples; as they come, if left out.
    by_weight : bool
        Whether a batch counts for the epoch's mean loss by the sum of its weights, or by its size.
    """

    def __init__(
        self, x: Any, t: Array, weight: HostArray | None, batch_size: int,
        order: Callable[[int], HostArray] | None = None, by_weight: bool = True,
    ) -> None:  # fmt: skip
        self.x, self.t, self.weight, self._order = x, t, weight, order
        self.samples = int(x.shape[0])
        self.batch_size = min(batch_size, self.samples)
        self.counts_weights = by_weight and weight is not None
        self.full, self.rest = divmod(self.samples, self.batch_size)
        self.steps_per_epoch = self.full + bool(self.rest)

    def settings(self) -> dict[str, Any]:
        """Return what must be equal where a training goes on from a file."""
        return {"batch_size": self.batch_size, "samples": self.samples, "shuffle": self._order is not None}

    def order(self, epoch: int) -> HostArray:
        """Return the order in which an epoch takes the samples."""
        return np.arange(self.samples) if self._order is None else self._order(epoch)

    def size(self, position: int) -> int:
        """Return the number of samples of the step at `position` of an epoch."""
        return self.batch_size if position < self.full else self.rest

    def seen(self, position: int) -> int:
        """Return the number of samples in an epoch's steps before `position`."""
        return min(position * self.batch_size, self.samples)

    def arrays(self, backend: Backend, dtype: str) -> dict[str, Array]:
        """Return the arrays that steps read."""
        own = self.inputs(backend, dtype) | {"t": self.t, "order": backend.asarray(np.arange(self.samples))}
        if self.weight is not None:
            own["weight"] = backend.asarray(self.weight.astype(dtype))
        return own

    def inputs(self, backend: Backend, dtype: str) -> dict[str, Array]:
        """Return the arrays from which a step takes its inputs."""
        return {"x": self.x}

    def begin_epoch(self, a: Mapping[str, Array], backend: Backend, epoch: int) -> None:
        """Write what the steps of an epoch need."""
        a["order"][...] = backend.asarray(self.order(epoch).astype(np.int64))

    def ahead(self, position: int) -> int:
        """Return how many steps from `position` on need nothing of the host in between."""
        return self.steps_per_epoch - position

    def bring(self, a: Mapping[str, Array], backend: Backend, position: int) -> None:
        """Write what the steps from `position` on need."""

    def batch(self, xp: Any, a: Mapping[str, Array], size: int, part: slice | None = None) -> Batch:
        """Return the step's samples: array operations alone, so that they become a part of the step.

        Of a `part` of the batch there are samples and weights; these sum to 1 over the whole batch.
        """
        rows = self.rows(xp, a, size)
        whole = self.weighed(xp, a, rows, size)
        if part is None:
            return whole._replace(x=self.take(xp, a, rows, slice(0, size)), t=xp.take(a["t"], rows, axis=0))
        x, t = self.take(xp, a, rows[part], part), xp.take(a["t"], rows[part], axis=0)
        return whole._replace(x=x, t=t, weight=whole.weight[part])

    def rows(self, xp: Any, a: Mapping[str, Array], size: int) -> Array:
        """Return which samples the step takes."""
        cursor = a["cursor"]
        return xp.take(a["order"], cursor + xp.arange(size, dtype=cursor.dtype, device=cursor.device), axis=0)

    def weighed(self, xp: Any, a: Mapping[str, Array], rows: Array, size: int) -> Batch:
        """Return the weights of a batch, without its samples."""
        if "weight" not in a:
            theta = a["theta"]
            weight = xp.full((size,), 1.0 / size, dtype=theta.dtype, device=theta.device)
            return Batch(None, None, weight, float(size), float(size))
        weight = xp.take(a["weight"], rows, axis=0)
        total = xp.sum(weight)
        share = total if self.counts_weights else float(size)
        return Batch(None, None, weight / xp.maximum(total, TINY), total, share)

    def take(self, xp: Any, a: Mapping[str, Array], rows: Array, part: slice) -> Array:
        """Return the step's inputs: those `rows`, which are a part of its batch."""
        return xp.take(a["x"], rows, axis=0)

    def fingerprint(self, a: Mapping[str, Array], backend: Backend) -> str:
        """Return a SHA-256 of 64 rows of the data: other data, or another order, is noticed, at little cost."""
        digest = hashlib.sha256()
        with backend.active():
            rows = backend.asarray(np.linspace(0, self.samples - 1, min(64, self.samples)).astype(np.int64))
            for name in ("x", "t", "weight"):
                if name in a:
                    piece = np.ascontiguousarray(backend.to_numpy(backend.xp.take(a[name], rows, axis=0)))
                    digest.update(f"{name} {a[name].shape} {piece.dtype.name}\n".encode() + piece.tobytes())
        return digest.hexdigest()


class SparseRows(Feed):
    """Inputs that stay on the host as sparse rows, and go to the device a batch at a time; the other arrays as ever."""

    def inputs(self, backend: Backend, dtype: str) -> dict[str, Array]:
        return {"batch": backend.asarray(np.zeros((self.batch_size, self.x.shape[1]), dtype=dtype))}

    def begin_epoch(self, a: Mapping[str, Array], backend: Backend, epoch: int) -> None:
        self._rows = self.order(epoch)
        a["order"][...] = backend.asarray(self._rows.astype(np.int64))

    def ahead(self, position: int) -> int:
        return 1

    def bring(self, a: Mapping[str, Array], backend: Backend, position: int) -> None:
        size = self.size(position)
        rows = self._rows[self.seen(position) :][:size]
        a["batch"][:size, ...] = backend.asarray(self.x[rows].toarray().astype(a["batch"].dtype.name, copy=False))

    def take(self, xp: Any, a: Mapping[str, Array], rows: Array, part: slice) -> Array:
        return a["batch"][part, ...]
