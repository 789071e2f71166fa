"""The trainer: the arrays of a training on the device, and the step again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import nan
from typing import Any

import numpy as np

from xpnet.backends.base import Program
from xpnet.errors import ConfigError, NonFiniteError
from xpnet.model.data import check_inputs, check_targets
from xpnet.model.memory import explained
from xpnet.network import Network
from xpnet.optimizers import Optimizer
from xpnet.training import divergence
from xpnet.training.precision import PREFIX, MixedPrecision, make_mixed_step, resolve
from xpnet.training.samples import check_optimizer, prepare_weights
from xpnet.training.step import Step, epoch_order, make_step, make_update
from xpnet.typing import Array, HostArray
from xpnet.validation import check_flag, check_number, check_size

CHUNK = 64
"""Steps between two looks at the numbers at least, on a host backend."""

__all__ = ["Step", "Trainer", "epoch_order", "make_step", "make_update"]


class Trainer:
    """A network, an optimizer and data on the device: does training steps.

    `fit` is built on this class; use it directly for a loop of your own.

    Parameters
    ----------
    net : Network
        Its parameters are changed in place.
    optimizer : Optimizer or str
    x, t : arrays
        Inputs (N, I) and targets in the form that the network's loss takes.
    batch_size : int
        Samples a step; the last batch of an epoch may be smaller, and its mean is over its own samples.
    sample_weight : array (N,), optional
    shuffle : bool
        Whether each epoch takes the samples in a new order, a function of the network's seed and the epoch.
    averaging : float in (0, 1), optional
        Keep an exponential average of the parameters too, with this decay, less in the first steps:
        average = d average + (1 - d) theta, d = min(averaging, (1 + t) / (10 + t)) at step t = 1, 2, ...
    precision : "float16" or "bfloat16", optional
        Keep the data, activations and deltas, and a copy of the weights to compute with, in 16 bits; parameters,
        optimizer and sums stay in float32. A step whose gradient overflows is skipped, which is usual in the
        beginning: it changes nothing but the counts. See `xpnet.training.precision`.

    Attributes
    ----------
    epoch, step : int
        The number of whole epochs and of steps done.

    Examples
    --------
    >>> import numpy as np, xpnet
    >>> net = xpnet.mlp([1, 1], loss="mean_squared_error", dtype="float64")
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> trainer = xpnet.Trainer(net, xpnet.SGD(0.5), x, 3 * x + 1, batch_size=20)
    >>> loss = trainer.run(200)
    >>> net.parameters["0.W"].round(6).tolist(), net.parameters["0.b"].round(6).tolist()
    ([[3.0]], [1.0])
    """

    mixed: MixedPrecision | None = None
    """What `precision` stands for."""

    def __init__(
        self, net: Network, optimizer: Optimizer | str, x: Any, t: Any, *, batch_size: int = 32,
        sample_weight: Any = None, shuffle: bool = True, averaging: float | None = None, precision: str | None = None,
    ) -> None:  # fmt: skip
        self.net, self.optimizer = net, check_optimizer(optimizer)
        self.mixed = resolve(net, precision)
        backend = net.backend
        x = check_inputs(x, net.input_shape, backend, net.dtype, warn=True)
        t = check_targets(t, x.shape[0], net.output_shape[0], net.loss, backend, net.dtype)
        self.samples, self.shuffle = x.shape[0], check_flag("shuffle", shuffle)
        self.batch_size = min(check_size("batch_size", batch_size), self.samples)
        self.rest = self.samples % self.batch_size
        self.steps_per_epoch = -(-self.samples // self.batch_size)
        weight = prepare_weights(sample_weight, None, self.samples, t, net)
        if averaging is not None:
            check_number("averaging", averaging, 0.0, 1.0, low_open=True, high_open=True)
        self.averaging = averaging
        if self.mixed is not None:
            x = self.mixed.inputs(x, backend)
        # Epochs done, steps done in this epoch, steps done: replaced together, so that no interrupt can part them.
        self._counts = (0, 0, 0)
        self._prepared = False
        self._undo: Callable[[], None] | None = None
        self._programs: dict[int, Program] = {}
        with backend.active():
            columns = len(self.optimizer.scalars(np.ones(1), np.ones(1))) + 2
            zeros = backend.xp.zeros_like
            # The device holds everything a step reads or writes, at addresses that stay.
            self.arrays: dict[str, Array] = {
                "x": x,
                "t": t,
                "theta": net.theta,
                "gradient": zeros(net.theta),
                "order": backend.asarray(np.arange(self.samples, dtype=np.int64)),
                "cursor": backend.asarray(np.zeros(1, dtype=np.int64)),
                "position": backend.asarray(np.zeros(1, dtype=np.int64)),
                "step": backend.asarray(np.zeros(1, dtype=np.uint32)),
                "scalars": backend.asarray(np.zeros((self.steps_per_epoch, columns), dtype=net.dtype)),
                "loss": backend.asarray(np.zeros(1, dtype=np.float64)),
            }
            self.arrays |= {f"slot.{name}": zeros(net.theta) for name in self.optimizer.slots}
            self.arrays |= {f"state.{name}": value for name, value in net.state.items()}
            if weight is not None:
                self.arrays["weight"] = backend.asarray(weight.astype(net.dtype))
            if weight is not None or self.mixed is not None:
                self.arrays["seen"] = backend.asarray(np.zeros(1, dtype=np.float64))
            if self.mixed is not None:
                self.arrays |= self.mixed.arrays(backend)
            if averaging is not None:
                self.arrays["average"] = backend.xp.asarray(net.theta, copy=True)

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
    def precision(self) -> str | None:
        """The half precision of the training, or None."""
        return None if self.mixed is None else self.mixed.name

    @property
    def loss_scale(self) -> float:
        """The factor of the loss in the coming step, 1 without `precision`; reading it waits for the device."""
        return 1.0 if self.mixed is None else float(self.arrays["scaling.scale"][0])

    @property
    def skipped_steps(self) -> int:
        """How many steps were skipped since their gradient was not finite; reading it waits for the device."""
        return 0 if self.mixed is None else int(self.arrays["scaling.skipped"][0])

    def _order(self) -> HostArray:
        """Return the order in which this epoch takes the samples."""
        return epoch_order(self.net.seed, self.epoch, self.samples) if self.shuffle else np.arange(self.samples)

    def _rates(self, steps: range) -> HostArray:
        """Return the learning rates of `steps`."""
        return self.optimizer.rates(steps)

    def _make_step(self, batch: int) -> Step:
        """Return the step for batches of `batch` samples."""
        if self.mixed is not None:
            return make_mixed_step(self.net, self.optimizer, batch, self.mixed)
        return make_step(self.net, self.optimizer, batch)

    def _next_batch(self) -> tuple[Array, Array]:
        """Return the inputs and targets of the coming step."""
        xp, a = self.net.backend.xp, self.arrays
        start = self.position * self.batch_size
        rows = a["order"][start : min(start + self.batch_size, self.samples)]
        return xp.take(a["x"], rows, axis=0), xp.take(a["t"], rows, axis=0)

    def _table(self, steps: range) -> HostArray:
        """Return a row of numbers for each step: the optimizer's, the learning rate, the average's new share."""
        rates, t = self._rates(steps), np.arange(steps.start + 1.0, steps.stop + 1.0)
        blend = 1.0 - np.minimum(self.averaging or 0.0, (1.0 + t) / (10.0 + t))
        columns = [*self.optimizer.scalars(t, rates).values(), rates, blend]
        with np.errstate(over="ignore"):  # a learning rate beyond float32 is found by what it does
            return np.stack(columns, axis=1).astype(self.net.dtype)

    def _begin_epoch(self) -> None:
        """Write the epoch's order and its steps' scalars to the device, and start at its first batch."""
        a, backend = self.arrays, self.net.backend
        first = self.step - self.position
        table = self._table(range(first, first + self.steps_per_epoch))
        with backend.active():
            a["order"][...] = backend.asarray(self._order().astype(np.int64))
            a["scalars"][...] = backend.asarray(table)
            for name in ("cursor", "position", "loss", "seen"):
                if name in a:
                    a[name][...] = 0
        self._prepared = True

    def _program(self, batch: int) -> Program:
        """Return the compiled step for this batch size."""
        if batch not in self._programs:
            self._programs[batch] = self.net.backend.compile(
                self._make_step(batch), self.arrays, [*self.mutable().values()]
            )
        return self._programs[batch]

    @property
    def chunk(self) -> int:
        """The number of steps that are best done between two looks at the numbers.

        On a device that works ahead of the host these are all that are left of the epoch; else 64, and more where the
        steps are so short that a look at the numbers would take longer.
        """
        left: int = self.steps_per_epoch - self.position
        program = self._programs.get(self.batch_size)
        if self.net.backend.asynchronous:
            return left
        return min(left, max(CHUNK, 4 * program.unroll if program else 1))

    def mutable(self) -> dict[str, Array]:
        """Return, by name, every array that a step changes and later steps depend on."""
        names = ["theta", "cursor", "position", "step", "loss"]
        names += [name for name in self.arrays if name.startswith(("seen", "average", "slot.", "state.", PREFIX))]
        return {name: self.arrays[name] for name in names}

    def _advance(self, steps: int) -> None:
        """Do `steps` steps of the current epoch. Python's own counts follow each whole step."""
        epoch, start, before = self._counts
        full = min(steps, self.samples // self.batch_size - start)  # of full batches; the rest is at most one more
        for size, count in ((self.batch_size, full), (self.rest, steps - full)):
            if count:
                program = self._program(size)
                stop = start + count
                while start < stop:
                    several = min(program.unroll, stop - start)
                    program(several)
                    start, before = start + several, before + several
                    self._counts = (epoch, start, before)

    def advance(self, steps: int) -> float:
        """Do `steps` steps of the current epoch, all or, if something goes wrong, a whole number of them.

        Returns the mean training loss of the epoch so far, penalties included. If an exception comes from
        within, the parameters and the optimizer are those after the last completed step; if numbers stop
        being finite, those after the last finite one.

        Raises
        ------
        NonFiniteError
            Which step, which layer and which quantity; and what to try.
        """
        backend, xp = self.net.backend, self.net.backend.xp
        left = self.steps_per_epoch - self.position
        if check_size("steps", steps) > left:
            raise ConfigError(f"steps must be at most {left}, what is left of the epoch, got {steps}; use run(steps)")
        if not self._prepared:
            self._begin_epoch()
        with backend.active(), explained(backend, "training", self.batch_size):
            arrays = [*self.mutable().values()]
            saved = [xp.asarray(array, copy=True) for array in arrays]
            begin = self._counts

            def restore() -> None:
                for array, value in zip(arrays, saved, strict=True):
                    array[...] = value
                self._counts = begin

            def rewind(done: int) -> None:
                restore()
                self._advance(done)

            self._undo = restore  # as long as the steps are not whole
            try:
                self._advance(steps)
                if not divergence.state_is_finite(self):
                    good, problem = divergence.find(self, rewind, steps)
                    rewind(good)
                    raise problem
            except NonFiniteError:
                self._undo = None
                raise
            except BaseException:
                self._recover(restore, self.step - begin[2])
                if not divergence.state_is_finite(self):  # it came between the first NaN and the next look
                    restore()
                self._undo = None
                raise
            self._undo = None
        return self.mean_loss()

    def repair(self) -> None:
        """Go back to the last whole state if an interrupt came while another one was being dealt with."""
        if self._undo is not None:
            with self.net.backend.active():
                self._undo()
            self._undo = None

    def _recover(self, restore: Callable[[], None], done: int) -> None:
        """Go back to the state after `done` steps; if even repeating these fails, to that before all of them."""
        restore()
        try:
            self._advance(done)
        except BaseException:
            restore()
            raise

    def weight_done(self) -> float:
        """Return the sum of the weights of the epoch's samples so far."""
        if "seen" in self.arrays:
            return float(self.arrays["seen"][0])
        return float(min(self.position * self.batch_size, self.samples))

    def mean_loss(self) -> float:
        """Return the mean training loss of the epoch so far, penalties included.

        With `precision`, steps whose loss was not finite do not count; without any that counts it is NaN.
        """
        done = self.weight_done()
        if self.mixed is not None and not done:
            return nan
        return float(self.arrays["loss"][0]) / max(done, 1e-30)

    def finish_epoch(self) -> float:
        """Return the epoch's mean training loss, and go on to the next epoch."""
        loss = self.mean_loss()
        self._prepared = False
        self._counts = (self.epoch + 1, 0, self.step)
        return loss

    def export(self) -> tuple[dict[str, HostArray], dict[str, int]]:
        """Return everything that later steps depend on: host copies of the arrays, and the three counts."""
        tensors = {name: self.net.backend.to_numpy(a).copy() for name, a in self.mutable().items()}
        return tensors, dict(zip(("epoch", "position", "step"), self._counts, strict=True))

    def restore(self, tensors: Mapping[str, HostArray], counts: Mapping[str, int]) -> None:
        """Take up what `export` returned, from a trainer of the same network, optimizer and data."""
        arrays = self.mutable()
        if set(tensors) != set(arrays):
            raise ConfigError(f"a trainer's state has {', '.join(arrays)}, got {', '.join(tensors)}")
        self._counts = (counts["epoch"], counts["position"], counts["step"])
        self._begin_epoch()
        with self.net.backend.active():
            for name, array in arrays.items():
                array[...] = self.net.backend.asarray(tensors[name])
        self._prepared = self.position > 0  # between two epochs the counters are still those of the last one

    def run(self, steps: int) -> float:
        """Do `steps` steps through as many epochs as they fill; return the mean loss of the epoch so far."""
        left, loss = check_size("steps", steps, 0), float("nan")
        while left:
            if self.position == self.steps_per_epoch:  # `advance` may have been called up to here
                self.finish_epoch()
            count = min(left, self.steps_per_epoch - self.position)
            loss = self.advance(count)
            left -= count
            if self.position == self.steps_per_epoch:
                loss = self.finish_epoch()
        return loss
