"""Where a training's batches come from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from xpnet.backends import Backend
from xpnet.typing import Array, HostArray, Shape

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


class Treatment(NamedTuple):
    """What a step does with the inputs that it takes: x = rounded(x * scale).

    Attributes
    ----------
    scale : float or None
        None leaves them as they are.
    rounded : callable ``(xp, x) -> x`` or None
        The change to the precision of the passes, if they are not stored in it.
    """

    scale: float | None = None
    rounded: Callable[[Any, Array], Array] | None = None

    def __call__(self, xp: Any, x: Array, dtype: Any) -> Array:
        if self.scale is not None:
            x = xp.astype(x, dtype) * self.scale
        return x if self.rounded is None else self.rounded(xp, x)


AS_IT_IS = Treatment()


def epoch_order(seed: int, epoch: int, samples: int) -> HostArray:
    """Return the order of the samples in epoch number `epoch`: a function of these three numbers alone."""
    return np.random.default_rng([seed, 0x0E0C, epoch]).permutation(samples)


def few_rows(samples: int) -> list[tuple[int, int]]:
    """Return 8 slices of 8 rows by which the data of a training are recognised, where rows are not read singly."""
    starts = np.linspace(0, max(samples - 8, 0), 8).astype(int).tolist()
    return [(start, min(start + 8, samples)) for start in starts]


def digest_of(pieces: Mapping[str, tuple[Shape, HostArray]]) -> str:
    """Return a SHA-256 of named arrays' shapes, and of the pieces of them that are given."""
    digest = hashlib.sha256()
    for name, (shape, piece) in pieces.items():
        digest.update(f"{name} {shape} {piece.dtype.name}\n".encode() + np.ascontiguousarray(piece).tobytes())
    return digest.hexdigest()


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
    treatment : Treatment
        What a step does with its inputs first.
    window : int, optional
        The number of rows that the order shuffles together; None if that is all of them.
    """

    _order: Callable[[int], HostArray] | None = None

    def __init__(
        self, x: Any, t: Array, weight: HostArray | None, batch_size: int,
        order: Callable[[int], HostArray] | None = None, by_weight: bool = True, treatment: Treatment = AS_IT_IS,
        window: int | None = None,
    ) -> None:  # fmt: skip
        self.x, self.t, self.weight, self._order = x, t, weight, order
        self.counts_weights = by_weight and weight is not None
        self._divide(int(x.shape[0]), batch_size, order is not None, treatment, window)

    def _divide(
        self, samples: int, batch_size: int, shuffle: bool, treatment: Treatment, window: int | None
    ) -> None:  # fmt: skip
        """Keep how an epoch is made of batches."""
        self.samples, self.batch_size = samples, min(batch_size, samples)
        self._drawn = -1, np.arange(0)
        self.shuffle, self.treatment, self.window = shuffle, treatment, window
        self.full, self.rest = divmod(samples, self.batch_size)
        self.steps_per_epoch = self.full + bool(self.rest)

    def settings(self) -> dict[str, Any]:
        """Return what must be equal where a training goes on from a file."""
        own = {"batch_size": self.batch_size, "samples": self.samples, "shuffle": self.shuffle}
        return own | {"window": self.window, "scale": self.treatment.scale}

    def order(self, epoch: int) -> HostArray:
        """Return the order in which an epoch takes the samples."""
        if self._drawn[0] == epoch:
            return self._drawn[1]
        return np.arange(self.samples) if self._order is None else self._order(epoch)

    def draw(self, epoch: int) -> None:
        """Draw the order of an epoch before it is wanted."""
        if self._order is not None:
            self._drawn = epoch, self._order(epoch)

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

    def together(self, position: int) -> int:
        """Return how many steps from `position` on can be repeated from the samples that are at hand then."""
        return self.steps_per_epoch - position

    def bring(self, a: Mapping[str, Array], backend: Backend, position: int) -> None:
        """Write what the steps from `position` on need."""

    def batch(self, xp: Any, a: Mapping[str, Array], size: int, part: slice | None = None) -> Batch:
        """Return the step's samples: array operations alone, so that they become a part of the step.

        Of a `part` of the batch there are samples and weights; these sum to 1 over the whole batch.
        """
        rows = self.rows(xp, a, size)
        whole = self.weighed(xp, a, rows, size)
        if part is not None:
            rows = rows[part]
        x = self.treatment(xp, self.take(xp, a, rows, part or slice(0, size)), a["theta"].dtype)
        weight = whole.weight if part is None else whole.weight[part]
        return whole._replace(x=x, t=xp.take(a["t"], rows, axis=0), weight=weight)

    def rows(self, xp: Any, a: Mapping[str, Array], size: int) -> Array:
        """Return which samples the step takes."""
        cursor = a["cursor"]
        places = cursor + xp.arange(size, dtype=cursor.dtype, device=cursor.device)
        if "begin" in a:  # where the samples at hand begin, as a negative number: a sum is recorded as a selection
            places = places + a["begin"]
        return xp.take(a["order"], places, axis=0)

    def weighed(self, xp: Any, a: Mapping[str, Array], rows: Array, size: int) -> Batch:
        """Return the weights of a batch, without its samples."""
        theta = a["theta"]
        if "weight" not in a:
            weight = xp.full((size,), 1.0 / size, dtype=theta.dtype, device=theta.device)
            return Batch(None, None, weight, float(size), float(size))
        weight = xp.take(a["weight"], rows, axis=0)
        total = xp.sum(weight)
        share = total if self.counts_weights else float(size)
        return Batch(None, None, weight / xp.maximum(total, TINY), total, share)

    def take(self, xp: Any, a: Mapping[str, Array], rows: Array, part: slice) -> Array:
        """Return the step's inputs: those `rows`, which are a part of its batch."""
        return xp.take(a["x"], rows, axis=0)

    def some(self, a: Mapping[str, Array], backend: Backend, rows: HostArray) -> dict[str, Array]:
        """Return the arrays of a few samples, for whoever looks at a step."""
        index = backend.asarray(rows)
        return {name: backend.xp.take(a[name], index, axis=0) for name in ("x", "t", "weight") if name in a}

    def fingerprint(self, a: Mapping[str, Array], backend: Backend) -> str:
        """Return a SHA-256 of 64 rows of the data: other data, or another order, is noticed, at little cost."""
        rows = np.linspace(0, self.samples - 1, min(64, self.samples)).astype(np.int64)
        if self.window is not None:
            rows = np.concatenate([np.arange(start, stop) for start, stop in few_rows(self.samples)])
        with backend.active():
            few = self.some(a, backend, rows)
            return digest_of({name: (tuple(a[name].shape), backend.to_numpy(piece)) for name, piece in few.items()})

    def close(self) -> None:
        """End what the feed has begun beside the training."""


class SparseRows(Feed):
    """Inputs that stay on the host as sparse rows, and go to the device a batch at a time; the other arrays as ever."""

    def inputs(self, backend: Backend, dtype: str) -> dict[str, Array]:
        self._dtype = dtype
        return {"batch": backend.asarray(np.zeros((self.batch_size, self.x.shape[1]), dtype=dtype))}

    def begin_epoch(self, a: Mapping[str, Array], backend: Backend, epoch: int) -> None:
        self._rows = self.order(epoch)
        a["order"][...] = backend.asarray(self._rows.astype(np.int64))

    def ahead(self, position: int) -> int:
        return 1

    def bring(self, a: Mapping[str, Array], backend: Backend, position: int) -> None:
        size = self.size(position)
        rows = self._rows[self.seen(position) :][:size]
        a["batch"][:size, ...] = backend.asarray(self.x[rows].toarray().astype(self._dtype, copy=False))

    def take(self, xp: Any, a: Mapping[str, Array], rows: Array, part: slice) -> Array:
        return a["batch"][part, ...]
