"""xpnet's `Trainer` with scikit-learn's order of the samples, penalty and measure of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils import shuffle as shuffled

from xpnet.backends.base import Eager, Program
from xpnet.estimators.sampling import Samples, dense, is_sparse, take
from xpnet.estimators.solvers import SolverState
from xpnet.layers import LAYERS, Activation, Dropout
from xpnet.network import Network
from xpnet.training.trainer import Step, Trainer, make_update
from xpnet.typing import Array, HostArray

WORTH_RECORDING = 32
"""From this number of steps on a step is recorded, or captured by a device."""

DETERMINISTIC = ({*LAYERS.values()} - {Dropout}) | {Activation}
"""Layers that do not look at the number of the step."""

TINY = 1e-30


class EpochTrainer(Trainer):
    """Trains a network epoch by epoch as scikit-learn's multi-layer perceptron does.

    The objective of a batch is the weighted mean of its samples' losses plus alpha / (2 s) times the sum of the
    squared weights, where s is the sum of the batch's sample weights (their number, if there are none). xpnet's
    own penalty is not divided, so it is added here, to a network without one.

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
    """

    def __init__(
        self, net: Network, state: SolverState, data: Samples, batch_size: int, alpha: float, shuffle: bool,
        rng: np.random.RandomState, epochs: int,
    ) -> None:  # fmt: skip
        self.net, self.optimizer, self.state, self.data = net, state.optimizer, state, data
        self.samples, self.batch_size, self.shuffle, self.rng = len(data), batch_size, shuffle, rng
        self.rest, self.steps_per_epoch = self.samples % batch_size, -(-self.samples // batch_size)
        self.alpha, self.averaging = alpha, None
        self._counts, self._prepared, self._programs = (0, 0, state.step), False, {}
        self.order = np.arange(self.samples)
        self.few = epochs * self.steps_per_epoch < WORTH_RECORDING
        backend = net.backend
        with backend.active():
            columns = len(self.optimizer.scalars(np.ones(1), np.ones(1))) + 2
            self.arrays = {
                "t": data.t,
                "theta": net.theta,
                "gradient": backend.xp.zeros_like(net.theta),
                "order": backend.asarray(self.order.astype(np.int64)),
                "cursor": backend.asarray(np.zeros(1, dtype=np.int64)),
                "position": backend.asarray(np.zeros(1, dtype=np.int64)),
                "step": backend.asarray(np.asarray([state.step % 2**32], dtype=self._step_dtype())),
                "scalars": backend.asarray(np.zeros((self.steps_per_epoch, columns), dtype=net.dtype)),
                "loss": backend.asarray(np.zeros(1, dtype=np.float64)),
            }
            self.arrays |= {f"slot.{name}": value for name, value in state.slots.items()}
            self.arrays |= {f"state.{name}": value for name, value in net.state.items()}
            if is_sparse(data.x):
                self.arrays["batch"] = backend.asarray(np.zeros((batch_size, data.x.shape[1]), dtype=net.dtype))
            else:
                self.arrays["x"] = data.x
            if data.weight is not None:  # on the scale where their mean is 1, and so is alpha
                scale = self.samples / float(data.weight.sum())
                self.alpha *= scale
                self.arrays["weight"] = backend.asarray((data.weight * scale).astype(net.dtype))

    def _step_dtype(self) -> type[np.integer[Any]]:
        """Return uint32; int64 if no layer wants to know the step, since not every library can add to a uint32."""
        return np.int64 if all(type(layer) in DETERMINISTIC for layer in self.net.layers) else np.uint32

    def run_epoch(self) -> float:
        """Go through the samples once, and return the mean of the batches' objectives."""
        try:
            while self.position < self.steps_per_epoch:
                self.advance(self.chunk)
        finally:
            self.state.step = self.step
        return self.finish_epoch()

    def _order(self) -> HostArray:
        if self.shuffle:
            self.order = shuffled(self.order, random_state=self.rng)
        return self.order

    def _rates(self, steps: range) -> HostArray:
        return self.state.rates(steps)

    def weight_done(self) -> float:
        """Return the number of the epoch's samples so far: batches count by their size, whatever their weights."""
        return float(min(self.position * self.batch_size, self.samples))

    def _next_rows(self) -> HostArray:
        return self.order[self.position * self.batch_size :][: self.batch_size]

    def _next_batch(self) -> tuple[Array, Array]:
        """Return the inputs and targets of the coming step."""
        rows, backend = self._next_rows(), self.net.backend
        return dense(take(self.data.x, rows, backend), backend, self.net.dtype), take(self.data.t, rows, backend)

    def _advance(self, steps: int) -> None:
        if "x" in self.arrays:
            super()._advance(steps)
            return
        for _ in range(steps):
            x = dense(self.data.x[self._next_rows()], self.net.backend, self.net.dtype)
            self.arrays["batch"][: x.shape[0], ...] = x
            super()._advance(1)

    def _program(self, batch: int) -> Program:
        if not self.few:
            return super()._program(batch)
        if batch not in self._programs:
            self._programs[batch] = Eager(self._make_step(batch), self.net.backend.xp, self.arrays)
        return self._programs[batch]

    def _make_step(self, batch: int) -> Step:
        net, alpha, decayed = self.net, self.alpha, self.net._decayed
        apply = make_update(net, self.optimizer)

        def step(xp: Any, a: Mapping[str, Array]) -> None:
            theta, g, cursor = a["theta"], a["gradient"], a["cursor"]
            rows = xp.take(a["order"], cursor + xp.arange(batch, dtype=cursor.dtype, device=cursor.device), axis=0)
            x = xp.take(a["x"], rows, axis=0) if "x" in a else a["batch"][:batch, ...]
            t = xp.take(a["t"], rows, axis=0)
            if "weight" in a:
                weight = xp.take(a["weight"], rows, axis=0)
                divisor = xp.maximum(xp.sum(weight), TINY)
                weight = weight / divisor
                penalty = alpha * xp.sum(weight) / divisor  # 0, like the loss, if all the batch's weights are 0
            else:
                weight = xp.full((batch,), 1.0 / batch, dtype=theta.dtype, device=theta.device)
                penalty = alpha / batch

            state = {name[6:]: value for name, value in a.items() if name.startswith("state.")}
            contexts = net.contexts(True, a["step"], state)
            value, caches = net.objective(xp, theta, g, x, t, weight, contexts)
            if alpha:
                W, dW = theta[:decayed], g[:decayed]
                value = value + 0.5 * penalty * xp.sum(W * W)
                dW += penalty * W
            for k, layer in enumerate(net.layers):
                for name, new in layer.update_state(xp, contexts[k].state, caches[k]).items():
                    state[f"{k}.{name}"][...] = new

            apply(xp, a)

            loss = a["loss"]
            loss += float(batch) * value
            cursor += batch
            position = a["position"]
            position += 1
            number = a["step"]
            number += 1

        return step
