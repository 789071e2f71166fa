"""The trainer: steps, all or none of them, and what to do when numbers or interrupts get in the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from xpnet.errors import ConfigError, NonFiniteError
from xpnet.keywords import Named
from xpnet.model.core import Model
from xpnet.model.memory import explained
from xpnet.optimizers import Optimizer
from xpnet.training import divergence
from xpnet.training.feed import Feed
from xpnet.training.objective import Objective
from xpnet.training.precision import objective_of
from xpnet.training.promises import check_effect, is_own
from xpnet.training.samples import check_optimizer, check_samples, resident
from xpnet.training.slices import Workers
from xpnet.training.steps import Steps
from xpnet.typing import HostArray
from xpnet.validation import check_size

CHUNK = 64
"""Steps between two looks at the numbers at least, on a host backend."""


class Trainer(Named, Steps):
    """A network, an optimizer and data on the device: does training steps.

    `fit` is built on this class; use it directly for a loop of your own.

    Parameters
    ----------
    net : Model
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

    def __init__(
        self, net: Model, optimizer: Optimizer | str, x: Any, t: Any, *, batch_size: int = 32,
        sample_weight: Any = None, shuffle: bool = True, averaging: float | None = None, precision: str | None = None,
    ) -> None:  # fmt: skip
        optimizer, objective = check_optimizer(optimizer), objective_of(net, precision)
        with net.backend.active(), explained(net.backend, "preparing the training"):
            samples = check_samples(net, x, t, sample_weight, None)
            feed = resident(net, objective, samples, batch_size, shuffle)
            super().__init__(net, optimizer, feed, objective, averaging)

    @classmethod
    def of(
        cls, net: Model, optimizer: Optimizer, feed: Feed, objective: Objective, averaging: float | None = None,
        workers: Workers | None = None,
    ) -> Trainer:  # fmt: skip
        """Return a trainer of the parts that a training is made of."""
        trainer = cls.__new__(cls)
        Steps.__init__(trainer, net, optimizer, feed, objective, averaging, workers=workers)
        return trainer

    draws_ahead = True
    """Whether an epoch's order depends on its number alone."""
    _pace = 0.0
    """Seconds that a step took of late."""

    @property
    def chunk(self) -> int:
        """The number of steps that are best done between two looks at the numbers.

        At least 64, and more where steps are so short that a look at the numbers would take longer. On a device that
        works ahead of the host a look is a wait: there it is a second's worth, so that progress is seen and Ctrl-C
        is heard. Processes that share a training look at the same time.
        """
        program = self._programs.get(self.feed.batch_size)
        several = CHUNK if program is None else 4 * program.unroll
        if self.net.backend.asynchronous and self._pace and self.workers is None:
            several = int(1.0 / self._pace)
        return min(self.feed.together(self.position), max(CHUNK, several))

    def advance(
        self, steps: int, visit: Callable[[], None] = lambda: None, pauses: Collection[int] = ()
    ) -> float:  # fmt: skip
        """Do `steps` steps of the current epoch, all or, if something goes wrong, a whole number of them.

        `visit` is called wherever the count of all steps is a multiple of one of `pauses`, and at the end: nobody has
        looked at the numbers then, so that a device is not waited for, and these steps may still be undone.

        If an exception comes from within, the parameters and the optimizer are those after the last completed step; if
        numbers stop being finite, those after the last finite one.

        Returns
        -------
        float
            The mean training loss of the epoch so far, penalties included.

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
        with backend.active(), explained(backend, "training", self.feed.batch_size):
            arrays = [*self.arrays.carried.values()]
            saved = [xp.asarray(array, copy=True) for array in arrays]
            begin = self._counts

            def restore() -> None:
                for array, value in zip(arrays, saved, strict=True):
                    array[...] = value
                self._counts, self._sums = begin, None

            def rewind(done: int) -> None:
                restore()
                self._advance(done)

            self._undo = restore  # as long as the steps are not whole
            began = time.perf_counter()
            try:
                self._visited(steps, visit, pauses)
                if self.draws_ahead and backend.asynchronous and self.position == self.steps_per_epoch:
                    self.feed.draw(self.epoch + 1)  # while the device is at work
                if not divergence.state_is_finite(self):
                    good, problem = divergence.find(self, rewind, steps)
                    rewind(good)
                    raise problem
                if begin[2] == 0 and is_own(self.optimizer):
                    check_effect(self, saved[[*self.arrays.carried].index("theta")])
            except NonFiniteError:
                self._undo = None
                raise
            except BaseException as error:
                # What the others do not raise, too, they do not recover from: steps with them cannot be repeated.
                alone = self.workers is not None and not self.workers.agreed(error)
                self._recover(restore, 0 if alone else self.step - begin[2])
                if not divergence.state_is_finite(self):  # it came between the first NaN and the next look
                    restore()
                self._undo = None
                raise
            self._undo = None
            self._pace = (time.perf_counter() - began) / steps
        return self.mean_loss()

    def _visited(self, steps: int, visit: Callable[[], None], pauses: Collection[int]) -> None:
        """Do `steps` steps, and call `visit` on the way."""
        stop = self.position + steps
        while self.position < stop:
            self._advance(min([stop - self.position, *(n - self.step % n for n in pauses)]))
            visit()

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

    def finish_epoch(self) -> float:
        """Return the epoch's mean training loss, and go on to the next epoch."""
        loss = self.mean_loss()
        self._prepared = False
        self._counts = (self.epoch + 1, 0, self.step)
        return loss

    def export(self) -> tuple[dict[str, HostArray], dict[str, int]]:
        """Return everything that later steps depend on: host copies of the arrays, and the three counts."""
        tensors = {name: self.net.backend.to_numpy(a).copy() for name, a in self.arrays.carried.items()}
        return tensors, dict(zip(("epoch", "position", "step"), self._counts, strict=True))

    def restore(self, tensors: Mapping[str, HostArray], counts: Mapping[str, int]) -> None:
        """Take up what `export` returned, from a trainer of the same network, optimizer and data."""
        arrays = self.arrays.carried
        if set(tensors) != set(arrays):
            raise ConfigError(f"a trainer's state has {', '.join(arrays)}, got {', '.join(tensors)}")
        self._counts = (counts["epoch"], counts["position"], counts["step"])
        self._begin_epoch()
        with self.net.backend.active():
            for name, array in arrays.items():
                array[...] = self.net.backend.asarray(tensors[name])
        self._sums = None
        self._prepared = self.position > 0  # between two epochs the counters are still those of the last one

    def run(self, steps: int) -> float:
        """Return the mean loss of the epoch so far, after `steps` steps through as many epochs as they fill."""
        left, loss = check_size("steps", steps, 0), float("nan")
        while left:
            if self.position == self.steps_per_epoch:  # `advance` may have been called up to here
                self.finish_epoch()
            count = min(left, self.steps_per_epoch - self.position)
            if self.net.backend.asynchronous:  # or Ctrl-C would wait for a whole epoch
                count = min(count, self.chunk)
            loss = self.advance(count)
            left -= count
            if self.position == self.steps_per_epoch:
                loss = self.finish_epoch()
        return loss
