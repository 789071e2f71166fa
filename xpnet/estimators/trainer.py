"""xpnet's `Trainer` with scikit-learn's order of the samples, penalty and measure of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

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


class Orders:
    """scikit-learn's orders of an epoch's samples: each is a shuffle of the one before."""

    def __init__(self, samples: int) -> None:
        self._samples = samples

    def begin(self, rng: np.random.RandomState) -> None:
        """Begin with the samples as they come; `rng` draws the orders from here on."""
        self._rng, self._last = rng, np.arange(self._samples)

    def __call__(self, epoch: int) -> HostArray:
        """Return the next order."""
        self._last = np.asarray(shuffled(self._last, random_state=self._rng))
        return self._last


class Call(NamedTuple):
    """What one call of `fit` or `partial_fit` trains, how and on what.

    Attributes
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

    net: Network
    state: SolverState
    data: Samples
    batch_size: int
    alpha: float
    shuffle: bool
    rng: np.random.RandomState
    epochs: int
    workers: Workers | None = None

    def scaled(self) -> tuple[HostArray | None, float]:
        """Return the samples' weights on the scale where their mean is 1, and alpha on the same one."""
        weight = self.data.weight
        if weight is None:
            return None, self.alpha
        scale = len(self.data) / float(weight.sum())
        return weight * scale, self.alpha * scale

    def baked(self) -> tuple[Any, ...]:
        """Return what a compiled step has in it that may be another one in another call."""
        x, t = self.data.x, self.data.t
        arrays = type(x), x.shape, t.shape, t.dtype, self.data.weight is None
        return *arrays, self.state.optimizer, self.batch_size, self.scaled()[1], self.shuffle


class EpochTrainer(Trainer):
    """Trains a network epoch by epoch as scikit-learn's multi-layer perceptron does.

    Parameters
    ----------
    call : Call
    again : bool
        Whether `begin` may be called for other samples later: then these are copied, so that the arrays of a compiled
        step are its own.
    """

    def __init__(self, call: Call, again: bool) -> None:
        net, data, xp = call.net, call.data, call.net.backend.xp
        self.again = again and call.workers is None and not isinstance(data.x, Rows)
        self._baked, self._orders, self._expected = call.baked(), Orders(len(data)), 0
        self.state = call.state
        (weight, alpha), x, t = call.scaled(), data.x, data.t
        if self.again:
            with net.backend.active():
                x, t = x if is_sparse(x) else xp.asarray(x, copy=True), xp.asarray(t, copy=True)
        objective = ScaledPenalty(net, alpha)
        if isinstance(x, Rows):  # a file's
            plan = Plan(call.batch_size, call.epochs, call.shuffle)
            plan = with_window(net, x, t, free_memory(net.backend) / 2, plan)
            targets = Rows(net.backend.to_numpy(t))
            feed: Feed = stream(net, objective, x, targets, weight, plan, int(call.rng.randint(2**31 - 1)))
            feed.counts_weights = False
        else:
            kind = SparseRows if is_sparse(x) else Feed
            feed = kind(x, t, weight, call.batch_size, self._orders if call.shuffle else None, by_weight=False)
        Steps.__init__(self, net, call.state.optimizer, feed, objective, None, workers=call.workers)
        self.begin(call)

    def serves(self, call: Call) -> bool:
        """Say whether it may `begin` a call, whose steps then differ from those before in numbers alone."""
        same = self.net is call.net and self.arrays["theta"] is call.net.theta
        return same and self.again and call.workers is None and self._baked == call.baked()

    draws_ahead = False  # scikit-learn's orders are each made of the one before, by a generator that others use, too

    def begin(self, call: Call) -> None:
        """Go on with the samples of a call, from its state of the solver."""
        a, backend, few = self.arrays, self.net.backend, self._few
        self.state, (weight, _) = call.state, call.scaled()
        with backend.active():
            if self._expected:
                given = {"t": call.data.t} | ({} if weight is None else {"weight": weight.astype(self.net.dtype)})
                if is_sparse(call.data.x):
                    self.feed.x = call.data.x
                else:
                    given["x"] = call.data.x
                for name, array in given.items():
                    a[name][...] = backend.asarray(array)
            for name, array in self.state.slots.items():
                own = a[f"slot.{name}"]
                if own is not array:
                    own[...] = array
                    self.state.slots[name] = own
            a["step"][...] = backend.asarray(np.asarray([self.state.step % 2**32], dtype=np.uint32))
        self._orders.begin(call.rng)
        self._expected += call.epochs * self.steps_per_epoch
        if few and not self._few:
            self._programs.clear()
        self._counts, self._prepared, self._sums = (0, 0, self.state.step), False, None

    @property
    def _few(self) -> bool:
        return self._expected < WORTH_RECORDING

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
        if self._few and self.workers is None and size not in self._programs:
            self._programs[size] = Eager(self.make_step(size), self.net.backend.xp, self.arrays)
        return super()._program(size)
