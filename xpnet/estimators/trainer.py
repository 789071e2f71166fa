"""xpnet's `Trainer` with scikit-learn's order of the samples, penalty and measure of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils import shuffle as shuffled

from xpnet.backends.base import Eager, Program
from xpnet.estimators.sampling import Samples, is_sparse
from xpnet.estimators.solvers import SolverState
from xpnet.model.memory import free_memory
from xpnet.model.rows import Rows
from xpnet.network import Network
from xpnet.training.feed import TINY, Batch, Feed, SparseRows
from xpnet.training.intake import Plan, stream, with_window
from xpnet.training.objective import Objective
from xpnet.training.slices import Workers
from xpnet.training.steps import Steps
from xpnet.training.trainer import Trainer
from xpnet.typing import Array, HostArray

WORTH_RECORDING = 32
"""From this number of steps on a step is recorded, or captured by a device."""


class ScaledPenalty(Objective):
    """The weighted mean of the samples' losses plus alpha / (2 s) times the sum of the squared weights.

    s is the sum of the batch's sample weights, their number if there are none. xpnet's own penalty is not divided, so
    this one belongs to a network without one.
    """

    def __init__(self, net: Network, alpha: float) -> None:
        super().__init__(net)
        self.alpha = alpha

    def finish(self, xp: Any, a: Mapping[str, Array], batch: Batch, value: Array) -> Array:
        value = super().finish(xp, a, batch, value)
        if self.alpha:
            decayed, penalty = self.net.layout.decayed, self.alpha / batch.total
            if "weight" in a:  # 0, like the loss, if all the batch's weights are 0
                penalty = self.alpha * xp.sum(batch.weight) / xp.maximum(batch.total, TINY)
            W, dW = a["theta"][:decayed], a["gradient"][:decayed]
            value = value + 0.5 * penalty * xp.sum(W * W)
            dW += penalty * W
        return value


class EpochTrainer(Trainer):
    """Trains a network epoch by epoch as scikit-learn's multi-layer perceptron does.

    Parameters
    ----------
    net : Network
    state : SolverState
        Changed as steps are done.
    data : Samples
    batch_size : int
    alpha : float
    shuffle : bool
    rng : RandomState
        Draws the order of every epoch.
    epochs : int
        How many epochs are expected; a few steps are not worth the time that recording one takes.
    workers : Workers, optional
        The processes that share each step.
    """

    def __init__(
        self, net: Network, state: SolverState, data: Samples, batch_size: int, alpha: float, shuffle: bool,
        rng: np.random.RandomState, epochs: int, workers: Workers | None = None,
    ) -> None:  # fmt: skip
        self.state, self.data, weight, order = state, data, data.weight, np.arange(len(data))

        def next_order(epoch: int) -> HostArray:
            nonlocal order
            order = np.asarray(shuffled(order, random_state=rng))
            return order

        if weight is not None:  # on the scale where their mean is 1, and so is alpha
            scale = len(data) / float(weight.sum())
            weight, alpha = weight * scale, alpha * scale
        objective = ScaledPenalty(net, alpha)
        if isinstance(data.x, Rows):  # a file's
            plan = Plan(batch_size, epochs, shuffle)
            plan = with_window(net, data.x, data.t, free_memory(net.backend) / 2, plan)
            targets = Rows(net.backend.to_numpy(data.t))
            feed: Feed = stream(net, objective, data.x, targets, weight, plan, int(rng.randint(2**31 - 1)))
            feed.counts_weights = False
        else:
            kind = SparseRows if is_sparse(data.x) else Feed
            feed = kind(data.x, data.t, weight, batch_size, next_order if shuffle else None, by_weight=False)
        self.few = epochs * feed.steps_per_epoch < WORTH_RECORDING
        step = np.asarray([state.step % 2**32], dtype=np.uint32)
        Steps.__init__(self, net, state.optimizer, feed, objective, None, step, workers)
        self._counts = (0, 0, state.step)

    def _slots(self) -> dict[str, Array]:
        return self.state.slots

    def rates(self, steps: range) -> HostArray:
        return self.state.rates(steps)

    def run_epoch(self) -> float:
        """Go through the samples once, and return the mean of the batches' objectives."""
        try:
            while self.position < self.steps_per_epoch:
                self.advance(self.chunk)
        finally:
            self.state.step = self.step
        return self.finish_epoch()

    def _program(self, size: int) -> Program:
        if self.few and self.workers is None and size not in self._programs:
            self._programs[size] = Eager(self.make_step(size), self.net.backend.xp, self.arrays)
        return super()._program(size)
