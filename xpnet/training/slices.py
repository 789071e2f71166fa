"""A step whose batch is cut into slices, shared out among processes: the same bits for any number of them.

The batch of B samples is cut into S slices, whoever computes them; slice k holds the samples from ``k * B // S`` to
``(k + 1) * B // S``. With the weights w of the whole batch, which sum to 1, the loss and the gradient of the batch are
the sums of those of its slices:

    L = sum_k L_k,    L_k = sum_{i in slice k} w_i l_i          (1)
    g = sum_k g_k,    g_k = dL_k / dtheta                       (2)

A sum of floating-point numbers depends on its order, so it is always that of one tree: neighbours in pairs, then the
pairs in pairs, and so on. S and the number P of processes are powers of two and P <= S, so that each process adds up a
whole branch of the tree by itself, and the P branches meet. Penalties, clipping, the optimizer and the average come
after, on every process alike.

Normalisation by the batch is normalisation by the slice; its new running statistics are the mean of those of the
slices, each by its share of the samples, added in the same tree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from math import prod
from typing import Any, Protocol

import numpy as np

from xpnet.backends import Backend
from xpnet.backends.base import Step
from xpnet.model.core import Model
from xpnet.optimizers import Optimizer
from xpnet.training.arrays import Arrays
from xpnet.training.feed import Feed
from xpnet.training.objective import Objective
from xpnet.training.step import make_finish, pass_through
from xpnet.typing import Array, HostArray


class Workers(Protocol):
    """The processes that share a training.

    Attributes
    ----------
    rank, size : int
        The number of this process, from 0, and of all.
    slices : int
        S, a power of two, at least `size`.
    sharded : bool
        Whether each process has its own part of the samples, rather than all of them.
    cores : int
        How many of the cores that processes may use on this machine are this one's share.
    """

    rank: int
    size: int
    slices: int
    sharded: bool
    cores: int

    @property
    def asked(self) -> float:
        """What this process adds to the sum by which all hear that one of them was asked to stop; else 0."""

    def total(self, vector: Array, backend: Backend) -> None:
        """Write the sum, by the tree, of the vectors that all processes give into these vectors."""

    def agree(self, what: str, facts: Mapping[str, Any]) -> None:
        """Raise on all processes, naming what differs, if they do not all give the same facts."""

    def decide(self, value: Any) -> Any:
        """Return the value that process 0 gives."""

    def gather(self, value: Any) -> list[Any]:
        """Return what each process gives, a JSON value."""

    def join(self, rows: HostArray) -> HostArray:
        """Return the rows that all processes give, one process after another."""

    def whole(self, samples: int) -> int:
        """Return how many samples all processes have together; raise on all if they are not shared out evenly."""

    def leave(self, asked: float) -> BaseException:
        """Return what all processes raise after a step in which this sum was not zero."""

    def agreed(self, error: BaseException) -> bool:
        """Say whether all processes raise it after the same step."""

    def shared(self) -> AbstractContextManager[None]:
        """Return a context of a training: within it signals are heard, and what one process raises ends all."""


def tree_sum(parts: list[Any]) -> Any:
    """Return the sum of a power of two of numbers or arrays: neighbours in pairs, then pairs in pairs."""
    while len(parts) > 1:
        parts = [a + b for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def pieces(net: Model, vector: Array) -> tuple[Array, dict[str, Array], Array, Array]:
    """Return where in a vector the gradient lies, the running statistics, the loss, and whether to stop."""
    start, found = net.layout.size, {}
    for name, array in net.state.items():
        found[name] = vector[start : start + prod(array.shape)]
        start += prod(array.shape)
    return vector[: net.layout.size], found, vector[start : start + 1], vector[start + 1 :]


def slice_arrays(net: Model, workers: Workers) -> dict[str, Array]:
    """Return the vectors of this process's slices, and their sum."""
    length = net.layout.size + sum(prod(a.shape) for a in net.state.values()) + 2
    shapes = {"slices": (workers.slices // workers.size, length), "sum": (length,)}
    return {name: net.backend.asarray(np.zeros(shape, net.dtype)) for name, shape in shapes.items()}


class SlicedStep:
    """A step as a program: this process's slices, their sum with those of the others, the rest of the step.

    Parameters
    ----------
    net : Model
    feed : Feed
    objective : Objective
    optimizer : Optimizer
    arrays : Arrays
    workers : Workers
    size : int
        The number of samples in the batch.
    """

    unroll = 1

    def __init__(
        self, net: Model, feed: Feed, objective: Objective, optimizer: Optimizer, arrays: Arrays, workers: Workers,
        size: int,
    ) -> None:  # fmt: skip
        self.net, self.feed, self.objective, self.arrays, self.workers = net, feed, objective, arrays, workers
        mine = range(workers.slices // workers.size)
        first = workers.rank * len(mine)
        own = [self._make_slice(row, first + row, size) for row in mine]
        compiled, finish = net.backend.compile, self._make_finish(make_finish(net, objective, optimizer, size), size)
        self._programs = [compiled(step, arrays, [arrays["slices"]]) for step in own]
        self._programs.append(compiled(add_slices, arrays, [arrays["sum"]]))
        self._finish = compiled(finish, arrays, [*arrays.carried.values()])

    def _make_slice(self, row: int, k: int, size: int) -> Step:
        """Return the first part of a step for slice `k`, which is number `row` of this process: (1) and (2)."""
        part = slice(k * size // self.workers.slices, (k + 1) * size // self.workers.slices)
        share = (part.stop - part.start) / size

        def step(xp: Any, a: Mapping[str, Array]) -> None:
            vector = a["slices"][row, :]
            if not share:  # there are fewer samples than slices
                vector[...] = 0.0
                return
            gradient, statistics, loss, _ = pieces(self.net, vector)
            batch = self.feed.batch(xp, a, size, part)
            value, new = pass_through(xp, self.net, self.objective, a, batch, gradient, None, part.start)
            loss[...] = value
            for name, place in statistics.items():
                place[...] = xp.reshape(new[name], place.shape) * share

        return step

    def _make_finish(self, finish: Callable[..., None], size: int) -> Step:
        """Return the second part of a step, given the sum."""

        def step(xp: Any, a: Mapping[str, Array]) -> None:
            gradient, statistics, loss, _ = pieces(self.net, a["sum"])
            a["gradient"][...] = gradient
            new = {name: xp.reshape(value, a[f"state.{name}"].shape) for name, value in statistics.items()}
            batch = self.feed.weighed(xp, a, self.feed.rows(xp, a, size), size)
            finish(xp, a, batch, xp.reshape(loss, ()), new)

        return step

    def __call__(self, steps: int = 1) -> None:
        backend, total = self.net.backend, self.arrays["sum"]
        for program in self._programs:
            program()
        *_, asked = pieces(self.net, total)
        if self.workers.asked:
            asked[...] = self.workers.asked
        self.workers.total(total, backend)
        self._finish()
        if stop := float(backend.to_numpy(asked)[0]):
            raise self.workers.leave(stop)


def add_slices(xp: Any, a: Mapping[str, Array]) -> None:
    """Add up this process's branch of the tree."""
    rows, total = a["slices"], a["sum"]
    total[...] = tree_sum([rows[k, :] for k in range(rows.shape[0])])
