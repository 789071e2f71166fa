"""A training in progress, as callbacks see it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from xpnet.training.history import History
from xpnet.training.trainer import Trainer
from xpnet.typing import Array


class Run:
    """A training in progress, as callbacks see it.

    Attributes
    ----------
    net : Network
    trainer : Trainer
    history : History
    epochs : int
        How many were asked for.
    """

    def __init__(self, net: Any, trainer: Trainer, epochs: int, history: History) -> None:
        self.net, self.trainer, self.epochs, self.history = net, trainer, epochs, history
        self.stopped = False

    @property
    def leads(self) -> bool:
        """Whether this process is the one that prints and writes files, if several share the training."""
        return self.trainer.workers is None or self.trainer.workers.rank == 0

    @property
    def epoch(self) -> int:
        """The number of the current epoch, from 0; while `on_epoch_end` runs, that of the epoch that ended."""
        return self.trainer.epoch - (1 if self._ended else 0)

    _ended = False

    @property
    def step(self) -> int:
        """The number of training steps done."""
        return self.trainer.step

    def stop(self) -> None:
        """End the training after this epoch."""
        self.stopped = True

    def parameters_in_use(self) -> list[Array]:
        """Return what a prediction would use: the parameters, or their average if there is one; and statistics."""
        return [self.trainer.arrays.get("average", self.net.theta), *self.net.state.values()]

    def snapshot_parameters(self) -> list[Array]:
        """Return a copy of `parameters_in_use`, on the device."""
        xp = self.net.backend.xp
        return [xp.asarray(a, copy=True) for a in self.parameters_in_use()]

    def restore_parameters(self, snapshot: list[Array]) -> None:
        """Write such a copy to where predictions find it."""
        for array, value in zip(self.parameters_in_use(), snapshot, strict=True):
            array[...] = value

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the network have the averaged parameters for a while, if there are any."""
        average, theta = self.trainer.arrays.get("average"), self.net.theta
        if average is None:
            yield
            return
        own = self.net.backend.xp.asarray(theta, copy=True)

        def undo() -> None:
            theta[...] = own

        self.trainer._undo = undo
        theta[...] = average
        try:
            yield
        finally:
            undo()
            self.trainer._undo = None
