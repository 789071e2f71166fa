"""The steps of a training: its arrays on the device, and the step as a program, again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from xpnet.backends.base import Program, Step
from xpnet.layers import Context, Watch
from xpnet.model.core import Model
from xpnet.optimizers import Optimizer
from xpnet.training.arrays import (
    COUNTER,
    DATA,
    NETWORK,
    PARTS,
    PLACE,
    SCALING,
    SCRATCH,
    SUM,
    VECTOR,
    Arrays,
    begin_with,
    statistics,
)
from xpnet.training.feed import Batch, Feed
from xpnet.training.objective import Objective
from xpnet.training.slices import SlicedStep, Workers, slice_arrays
from xpnet.training.step import make_step, rate_factors
from xpnet.typing import HostArray
from xpnet.validation import check_number


class Steps:
    """What a training is made of, and its steps one after another; `Trainer` sees to it that they go well.

    Attributes
    ----------
    net : Model
    optimizer : Optimizer
    feed : Feed
        Where batches come from.
    objective : Objective
        What is made small.
    averaging : float or None
        Decay of the average of the parameters.
    arrays : Arrays
        All that a step reads or writes, at addresses that stay.
    workers : Workers or None
        The processes that share each step, if there are several.
    """

    def __init__(
        self, net: Model, optimizer: Optimizer, feed: Feed, objective: Objective, averaging: float | None,
        workers: Workers | None = None,
    ) -> None:  # fmt: skip
        if averaging is not None:
            check_number("averaging", averaging, 0.0, 1.0, low_open=True, high_open=True)
        self.net, self.optimizer, self.feed, self.objective, self.averaging = net, optimizer, feed, objective, averaging
        self.workers = workers
        # Epochs done, steps done in this epoch, steps done: replaced together, so that no interrupt can part them.
        self._counts = (0, 0, 0)
        self._prepared = False
        self._sums: dict[str, float] | None = None
        self._undo: Callable[[], None] | None = None
        self._programs: dict[int, Program] = {}
        self.arrays = Arrays()
        backend, zeros = net.backend, np.zeros(1, dtype=np.int64)
        with backend.active():
            like = backend.xp.zeros_like
            columns = len(optimizer.scalars(np.ones(1), np.ones(1))) + 2
            declare = self.arrays.declare
            declare(DATA, feed.arrays(backend, net.dtype))
            declare(DATA, {"scalars": backend.asarray(np.zeros((feed.steps_per_epoch, columns), dtype=net.dtype))})
            declare(NETWORK, {"theta": net.theta} | begin_with("state", net.state))
            declare(SCRATCH, {"gradient": like(net.theta)})
            if workers is not None:
                declare(PARTS, slice_arrays(net, workers))
            if optimizer.factors:
                declare(DATA, {"factors": backend.asarray(rate_factors(net, optimizer))})
            declare(VECTOR, begin_with("slot", self._slots()))
            declare(PLACE, {"cursor": backend.asarray(zeros), "position": backend.asarray(zeros.copy())})
            declare(COUNTER, {"step": backend.asarray(np.zeros(1, dtype=np.uint32))})
            declare(SUM, {"loss": backend.asarray(np.zeros(1, dtype=np.float64))})
            if feed.counts_weights or objective.skips:
                declare(SUM, {"seen": backend.asarray(np.zeros(1, dtype=np.float64))})
            declare(SCALING, objective.arrays())
            if averaging is not None:
                declare(VECTOR, {"average": backend.xp.asarray(net.theta, copy=True)})

    def _slots(self) -> dict[str, Any]:
        """Return the optimizer's vectors at the beginning."""
        return {name: self.net.backend.xp.zeros_like(self.net.theta) for name in self.optimizer.slots}

    # ----------------------------------------------------------------------------------- where it is

    @property
    def epoch(self) -> int:
        """The number of whole epochs done."""
        return self._counts[0]

    @property
    def position(self) -> int:
        """The number of steps done in the current epoch."""
        return self._counts[1]

    @property
    def step(self) -> int:
        """The number of steps done."""
        return self._counts[2]

    @property
    def steps_per_epoch(self) -> int:
        """The number of steps of an epoch."""
        return self.feed.steps_per_epoch

    @property
    def precision(self) -> str | None:
        """The half precision of the training, or None."""
        return self.objective.precision

    @property
    def loss_scale(self) -> float:
        """The factor of the loss in the coming step, 1 without `precision`; reading it waits for the device."""
        return float(self.arrays["scaling.scale"][0]) if self.objective.skips else 1.0

    @property
    def skipped_steps(self) -> int:
        """How many steps were skipped since their gradient was not finite; reading it waits for the device."""
        return int(self.arrays["scaling.skipped"][0]) if self.objective.skips else 0

    def look(self, again: bool = False) -> dict[str, float]:
        """Return the sum of each array of real numbers that is carried from step to step.

        The device is waited for once, and then not until the next step, unless one looks `again`: a callback may have
        changed numbers.
        """
        if self._sums is None or again:
            backend, xp = self.net.backend, self.net.backend.xp
            with backend.active():
                real = {n: a for n, a in self.arrays.carried.items() if xp.isdtype(a.dtype, "real floating")}
                sums = xp.zeros(len(real), dtype=xp.float64, device=self.net.theta.device)
                for k, array in enumerate(real.values()):  # not stacked: for that CuPy moves addresses to the device
                    sums[k] = xp.sum(array)
                self._sums = dict(zip(real, backend.to_numpy(sums).tolist(), strict=True))
        return self._sums

    def weight_done(self) -> float:
        """Return the sum of the weights of the epoch's samples so far."""
        return self.look()["seen"] if "seen" in self.arrays else float(self.feed.seen(self.position))

    def mean_loss(self) -> float:
        """Return the mean training loss of the epoch so far, penalties included.

        With `precision`, steps whose loss was not finite do not count; without any that counts it is NaN.
        """
        return self.objective.mean(self.look()["loss"], self.weight_done())

    # --------------------------------------------------------------------------------------- the step

    def make_step(self, size: int, watch: Watch | None = None) -> Step:
        """Return the step for batches of `size` samples; see `xpnet.training.step`."""
        return make_step(self.net, self.feed, self.objective, self.optimizer, size, watch)

    def next_batch(self) -> Batch:
        """Return the samples of the coming step."""
        self.feed.bring(self.arrays, self.net.backend, self.position)
        return self.feed.batch(self.net.backend.xp, self.arrays, self.feed.size(self.position))

    def contexts(self, watch: Watch | None = None) -> Sequence[Context]:
        """Return what the layers are told in the coming step."""
        return self.net.contexts(True, self.arrays["step"], statistics(self.arrays), watch)

    def rates(self, steps: range) -> HostArray:
        """Return the learning rates of `steps`."""
        return self.optimizer.rates(steps) * self.rate_factor

    rate_factor = 1.0
    """By what the optimizer's learning rates are multiplied."""

    def slow_down(self, factor: float) -> None:
        """Multiply the learning rates by `factor` from the next step on."""
        self.rate_factor = factor
        if self._prepared:
            first = self.step - self.position
            with self.net.backend.active():
                table = self.table(range(first, first + self.steps_per_epoch))
                self.arrays["scalars"][...] = self.net.backend.asarray(table)

    def table(self, steps: range) -> HostArray:
        """Return a row of numbers for each step: the optimizer's, the learning rate, the average's new share."""
        rates, t = self.rates(steps), np.arange(steps.start + 1.0, steps.stop + 1.0)
        blend = 1.0 - np.minimum(self.averaging or 0.0, (1.0 + t) / (10.0 + t))
        columns = [*self.optimizer.scalars(t, rates).values(), rates, blend]
        with np.errstate(over="ignore"):  # a learning rate beyond float32 is found by what it does
            return np.stack(columns, axis=1).astype(self.net.dtype)

    def counters(self, counts: Mapping[str, int]) -> dict[str, HostArray]:
        """Return the arrays that are functions of the three counts."""
        return {
            "cursor": np.asarray([self.feed.seen(counts["position"])], np.int64),
            "position": np.asarray([counts["position"]], np.int64),
            "step": np.asarray([counts["step"] % 2**32], np.uint32),
        }

    def _begin_epoch(self) -> None:
        """Write the epoch's order and its steps' scalars to the device, and start at its first batch."""
        a, backend = self.arrays, self.net.backend
        first = self.step - self.position
        table = self.table(range(first, first + self.steps_per_epoch))
        with backend.active():
            self.feed.begin_epoch(a, backend, self.epoch)
            a["scalars"][...] = backend.asarray(table)
            for name, kind in a.kinds.items():
                if kind.by_epoch:
                    a[name][...] = 0
        self._prepared, self._sums = True, None

    def _program(self, size: int) -> Program:
        """Return the compiled step for this batch size."""
        if size not in self._programs and self.workers is not None:
            parts = (self.net, self.feed, self.objective, self.optimizer, self.arrays)
            self._programs[size] = SlicedStep(*parts, self.workers, size)
        elif size not in self._programs:
            step, changes = self.make_step(size), [*self.arrays.carried.values()]
            self._programs[size] = self.net.backend.compile(step, self.arrays, changes)
        return self._programs[size]

    def _advance(self, steps: int) -> None:
        """Do `steps` steps of the current epoch. Python's own counts follow each whole step."""
        feed, stop, self._sums = self.feed, self.position + steps, None
        while self.position < stop:
            epoch, start, before = self._counts
            feed.bring(self.arrays, self.net.backend, start)  # first: to compile may take a step on trial
            program = self._program(feed.size(start))
            end = min(stop, feed.full if start < feed.full else stop)  # the last batch may be smaller
            several = min(program.unroll, end - start, feed.ahead(start))
            program(several)
            self._counts = (epoch, start + several, before + several)
