"""Samples of which each process that shares a training has its own part.

The N samples of all processes together are in S parts, as a batch is in S slices: slice k of every batch is taken from
part k, the samples from ``k * N // S`` to ``(k + 1) * N // S``. A process has the parts of its slices. So this order,
like everything else, does not know how many processes there are. The weights of all samples, and their order, are known
to every process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from itertools import chain, pairwise
from typing import Any

import numpy as np

from xpnet.backends import Backend
from xpnet.errors import ConfigError
from xpnet.model.core import Model
from xpnet.model.data import check_length, check_numeric, on_host
from xpnet.model.sources import in_memory
from xpnet.training.feed import AS_IT_IS, Batch, Feed, Treatment, digest_of
from xpnet.training.intake import Data, Plan, beyond, check_plan, here
from xpnet.training.objective import Objective
from xpnet.training.samples import Samples, check_samples, check_weights, fitting_batch, other_samples
from xpnet.training.slices import Workers
from xpnet.typing import Array, HostArray
from xpnet.validation import check_size

ROWS = 64
"""Samples by which the data of a training are recognised."""


def edges(samples: int, slices: int) -> list[int]:
    """Return where the parts begin, and the end of the last."""
    return [k * samples // slices for k in range(slices + 1)]


def sharded_order(seed: int | None, samples: int, slices: int, batch_size: int, epoch: int) -> HostArray:
    """Return the order of an epoch's samples: each part shuffled by itself, or as it comes without a seed."""
    starts = edges(samples, slices)
    parts = [np.arange(start, stop) for start, stop in pairwise(starts)]
    if seed is not None:
        parts = [np.random.default_rng([seed, 0x0E0C, epoch, k]).permutation(part) for k, part in enumerate(parts)]
    each, full = (batch_size // slices, samples // batch_size) if batch_size < samples else (0, 0)
    whole = np.stack([part[: full * each].reshape(full, each) for part in parts], axis=1)
    return np.concatenate([whole.reshape(-1), *(part[full * each :] for part in parts)])


class Shard(Feed):
    """This process's part of the samples, which lies on the device.

    Numbers of samples count from the first that is here, and around: so those that are here come first, and those of
    the processes before this one last.

    Parameters
    ----------
    net : Model
    given : Samples
        Inputs and targets that are here, and the weights of all samples.
    samples : int
        How many all processes have.
    batch_size : int
    shuffle : bool
    treatment : Treatment
    workers : Workers
    """

    def __init__(
        self, net: Model, given: Samples, samples: int, batch_size: int, shuffle: bool, treatment: Treatment,
        workers: Workers,
    ) -> None:  # fmt: skip
        self._backend, self._workers = net.backend, workers
        first = edges(samples, workers.size)[workers.rank]
        order = partial(sharded_order, net.seed if shuffle else None, samples, workers.slices, batch_size)
        weight = None if given.weight is None else np.roll(given.weight, -first)
        super().__init__(given.x, given.t, weight, batch_size, lambda epoch: (order(epoch) - first) % samples)
        self._divide(samples, batch_size, shuffle, treatment, None)
        self._fingerprint = self._all_digests()

    def batch(self, xp: Any, a: Mapping[str, Array], size: int, part: slice | None = None) -> Batch:
        """Return a slice of the batch that is here; or all of it, which the processes then tell each other."""
        if part is not None:
            return super().batch(xp, a, size, part)
        backend, workers = self._backend, self._workers
        own = super().batch(xp, a, size, slice(*edges(size, workers.size)[workers.rank :][:2]))
        x, t = (backend.asarray(workers.join(backend.to_numpy(rows))) for rows in (own.x, own.t))
        return self.weighed(xp, a, self.rows(xp, a, size), size)._replace(x=x, t=t)

    def some(self, a: Mapping[str, Array], backend: Backend, rows: HostArray) -> dict[str, Array]:
        raise ConfigError(
            "a Recorder looks at samples from everywhere, of which each process has but a part with sharded=True: "
            "leave one of the two out"
        )

    def _all_digests(self) -> str:
        """Return a SHA-256 of some rows of each part, wherever that is."""
        workers, xp, found = self._workers, self._backend.xp, []
        for start, stop in pairwise(edges(int(self.x.shape[0]), workers.slices // workers.size)):
            few = np.linspace(start, stop - 1, min(max(1, ROWS // workers.slices), stop - start)).astype(np.int64)
            index, pieces = self._backend.asarray(few), {}
            for name, array in (("x", self.x), ("t", self.t)):
                piece = self._backend.to_numpy(xp.take(array, index, axis=0))
                pieces[name] = (self.samples, *array.shape[1:]), piece
            if self.weight is not None:
                pieces["weight"] = (self.samples,), self.weight[few]
            found.append(digest_of(pieces))
        return sha256(json.dumps(list(chain(*workers.gather(found)))).encode()).hexdigest()

    def fingerprint(self, a: Mapping[str, Array], backend: Backend) -> str:
        return self._fingerprint


def take_in_part(
    workers: Workers, net: Model, objective: Objective, x: Any, t: Any, sample_weight: Any, class_weight: Any,
    validation_data: Any, validation_split: float, plan: Plan,
) -> Data:  # fmt: skip
    """Check a process's own part of the samples, and learn of the others how many there are, and their weights."""
    memory = check_plan(plan)
    if t is None or plan.window is not None or validation_split:
        raise ConfigError(
            "with sharded=True, x and t must be arrays, and there is neither window nor validation_split; to validate, "
            "give every process the same validation_data=(x, t)"
        )
    if beyond(net, x, t, memory, plan) is not None:
        raise ConfigError(
            "with sharded=True nothing is streamed, but this process's samples take more than its memory; start more "
            "processes, or give each of them all samples, without sharded=True, and a memory"
        )
    x, dtype = here(net, x, plan)
    samples = check_samples(net, x, t, None, None, dtype)
    count, weight = int(samples.t.shape[0]), None
    kinds = {name: f"{a.dtype} of shape {tuple(a.shape[1:])}" for name, a in (("x", samples.x), ("t", samples.t))}
    given = {"sample_weight": sample_weight is not None, "class_weight": f"{class_weight}"}
    workers.agree("kind of data", {"sharded": True} | kinds | given)
    total = workers.whole(count)
    size = fitting_batch(check_size("batch_size", plan.batch_size), total)
    if size % workers.slices and size < total:
        raise ConfigError(
            f"batch_size must be a multiple of {workers.slices}, the number of slices, with sharded=True; got {size}"
        )
    if sample_weight is not None:
        own = on_host("sample_weight", in_memory(sample_weight), net.backend)
        check_numeric("sample_weight", own)
        check_length(count, own.shape, "sample_weight")
        weight = workers.join(own.astype(np.float64))
    weight = check_weights(net, total, weight, class_weight, lambda: workers.join(net.backend.to_numpy(samples.t)))
    validation = None if validation_data is None else other_samples(net, validation_data, None, plan.scale)
    samples = samples._replace(x=samples.x if plan.scale is not None else objective.inputs(samples.x), weight=weight)
    treatment = AS_IT_IS if plan.scale is None else Treatment(plan.scale, objective.rounded)
    return Data(size, partial(Shard, net, samples, total, size, plan.shuffle, treatment, workers), validation)
