"""`fit`: epochs, validation, history, callbacks, checkpoints."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from xpnet.errors import AlreadyTrainingError, ConfigError
from xpnet.model.memory import explained
from xpnet.model.predict import score
from xpnet.network import Network
from xpnet.optimizers import Optimizer
from xpnet.training.callbacks import Callback, as_callbacks
from xpnet.training.history import History
from xpnet.training.precision import resolve
from xpnet.training.progress import Progress
from xpnet.training.samples import Validation, check_optimizer, prepare
from xpnet.training.trainer import Trainer, epoch_order, make_step
from xpnet.typing import Array
from xpnet.validation import check_flag, check_size

__all__ = ["History", "Run", "Trainer", "epoch_order", "fit", "make_step"]


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

    def __init__(self, net: Network, trainer: Trainer, epochs: int, history: History) -> None:
        self.net, self.trainer, self.epochs, self.history = net, trainer, epochs, history
        self.stopped = False

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


def fit(
    net: Network, x: Any, t: Any, *, optimizer: Optimizer | str = "adam", epochs: int = 10, batch_size: int = 32,
    validation_data: tuple[Any, Any] | None = None, validation_split: float = 0.0, sample_weight: Any = None,
    class_weight: Mapping[int, float] | str | None = None, callbacks: Any = (), shuffle: bool = True,
    verbose: bool | int = True, averaging: float | None = None, checkpoint: Any = None,
    checkpoint_every: int | None = None, resume: bool = False, precision: str | None = None,
) -> History:  # fmt: skip
    """Train `net` by minibatch gradient descent, and return what happened.

    Each epoch goes through all samples once, in an order that depends on the network's seed and the epoch
    alone; the last batch may be smaller. The optimizer starts afresh at each call.

    Parameters
    ----------
    net : Network
    x : array (N, I)
        Moved to the device once. float64 data for a float32 network is rounded once, with a warning.
        It is never written to; what happens if another thread changes it meanwhile is undefined.
    t : array
        Integer classes (N,), or rows (N, O), as the network's loss takes them.
    optimizer : Optimizer or str
    epochs : int >= 0
    batch_size : int >= 1
        More than N is taken as N, with a warning.
    validation_data : (x, t), optional
        Measured after each epoch.
    validation_split : float in [0, 1)
        Instead of `validation_data`: the part of the samples, chosen by the seed, that is set aside.
    sample_weight : array (N,), optional
        A batch's loss is the weighted mean of its samples' losses.
    class_weight : mapping or "balanced", optional
        Multiplies the weights of the samples of a class.
    callbacks : sequence of Callback or function
        A plain function ``f(run)`` is called after each epoch.
    shuffle : bool
    verbose : bool or int
        True: progress on a terminal, quiet elsewhere. 2: a line for each epoch everywhere. False: nothing.
    averaging : float in (0, 1), optional
        Decay of an exponential average of the parameters (see `Trainer`). Validation measures the average,
        and it is what the network has in the end.
    checkpoint : path, optional
        A file that holds the whole state of the training; written after each epoch, when the training ends,
        and when an exception (also Ctrl-C) ends it.
    checkpoint_every : int, optional
        Write it after every so many steps too.
    resume : bool
        Go on from the file `checkpoint` if it is there, also in the middle of an epoch: what comes out is the
        same, to the bit, as if the training had never been interrupted.
    precision : "float16" or "bfloat16", optional
        Compute in 16 bits where that is safe, to save a GPU's time and memory (see `xpnet.training.precision`); the
        network must be of float32, and stays so. A step whose gradient overflows is skipped, usual in the beginning;
        ``run.trainer.loss_scale`` and ``run.trainer.skipped_steps`` tell a callback about it.

    Returns
    -------
    History
        Curves ``loss``, ``validation_loss``, ``validation_accuracy``, ``learning_rate``, ``seconds``.

    Raises
    ------
    ConfigError, ShapeError, DTypeError, DataError, BackendMismatchError
        Before anything has changed.
    NonFiniteError
        Training diverged; the parameters are those of the last finite step.

    Notes
    -----
    An exception that ends the training carries the history so far as its attribute ``history``.
    """
    optimizer = check_optimizer(optimizer)
    check_size("epochs", epochs, 0)
    items = as_callbacks(callbacks)
    check_flag("resume", resume)
    resolve(net, precision)  # or raise
    if checkpoint_every is not None:
        check_size("checkpoint_every", checkpoint_every)
    if checkpoint is None and (resume or checkpoint_every is not None):
        raise ConfigError("resume and checkpoint_every need a file: checkpoint='run.safetensors'")
    data = prepare(net, x, t, sample_weight, class_weight, validation_data, validation_split, batch_size)
    if checkpoint is not None:
        from xpnet.training.checkpoint import Checkpoint

        # Last, so that it sees what the other callbacks did.
        items.append(Checkpoint(checkpoint, every=checkpoint_every, resume=resume, callbacks=items))
    if net._lock.locked():
        raise AlreadyTrainingError("this Network is already being trained by another thread; train a copy: net.copy()")
    run: Run | None = None
    history = History()
    with net._lock:  # released whatever happens: no interrupt comes between taking the lock and this block
        try:
            with explained(net.backend, "training", data.batch_size):
                trainer = Trainer(
                    net, optimizer, data.x, data.t, batch_size=data.batch_size, sample_weight=data.weight,
                    shuffle=shuffle, averaging=averaging, precision=precision,
                )  # fmt: skip
            data = data._replace(x=trainer.arrays["x"])  # the device has room for one copy, perhaps not for two
            begun = Run(net, trainer, epochs, history)
            for item in items:
                item.on_begin(begun)
            run = begun
            with Progress(verbose, epochs, trainer.steps_per_epoch) as progress:
                while run.epoch < epochs and not run.stopped:
                    _one_epoch(run, items, data.validation, progress)
            for item in items:
                item.on_end(run)
            if "average" in trainer.arrays:
                net.theta[...] = trainer.arrays["average"]
            return run.history
        except BaseException as error:
            # Whatever ended the training, what was measured until then is not lost.
            error.history = history if run is None else run.history  # type: ignore[attr-defined]
            if run is not None:
                run.trainer.repair()
                for item in items:
                    item.on_exception(run, error)
            raise


def _one_epoch(run: Run, items: list[Callback], validation: Validation | None, progress: Progress) -> None:
    trainer, began = run.trainer, time.perf_counter()
    pauses = [item.every for item in items if item.every is not None]
    while trainer.position < trainer.steps_per_epoch:
        trainer.advance(min([trainer.chunk, *(n - trainer.step % n for n in pauses)]))
        progress.update(run.epoch, trainer.position)
        for item in items:
            if item.every is not None and trainer.step % item.every == 0:
                item.on_steps(run)
    values = {"loss": trainer.mean_loss()}
    if validation is not None:
        with run.averaged():
            measured = score(run.net, validation.x, validation.t, validation.weight, 512)
        values |= {f"validation_{name}": value for name, value in measured.items()}
    rate = float(trainer._rates(range(trainer.step - 1, trainer.step))[0])
    values |= {"seconds": time.perf_counter() - began, "learning_rate": rate}
    run.history.truncate(trainer.epoch)  # an interrupt may have come between the next two lines
    run.history.append(values)
    trainer.finish_epoch()
    progress.epoch(trainer.epoch - 1, values)
    run._ended = True
    try:
        for item in items:
            item.on_epoch_end(run)
    finally:
        run._ended = False
