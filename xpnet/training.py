"""Training: batches, steps, epochs. The step is one function of arrays that a backend can capture."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from xpnet import diagnosis
from xpnet.backends.base import Program
from xpnet.callbacks import as_callbacks
from xpnet.data import check_inputs, check_targets
from xpnet.errors import AlreadyTrainingError, ConfigError
from xpnet.history import History
from xpnet.inference import score
from xpnet.network import Network
from xpnet.optimizers import OPTIMIZERS, Optimizer
from xpnet.preparation import Validation, check_optimizer, prepare, prepare_weights
from xpnet.progress import Progress
from xpnet.validation import check_flag, check_size

Array = Any

CHUNK = 64
"""Steps between two looks at the numbers on a host backend."""

__all__ = ["OPTIMIZERS", "History", "Run", "Trainer", "epoch_order", "fit"]


def epoch_order(seed: int, epoch: int, samples: int) -> np.ndarray[Any, Any]:
    """Return the order of the samples in epoch number `epoch`: a function of these three numbers alone."""
    return np.random.default_rng([seed, 0x0E0C, epoch]).permutation(samples)


def make_step(net: Network, optimizer: Optimizer, batch: int) -> Callable[[Any, Mapping[str, Array]], None]:
    """Return the training step for batches of `batch` samples.

    The step takes the array namespace and the run's arrays, changes these in place, reads nothing back to
    the host and lets no value decide what it does next: so it can be captured once and replayed.
    """
    update = net.backend.fuse(lambda *arrays: optimizer.update(net.backend.xp, *arrays))

    def step(xp: Any, a: Mapping[str, Array]) -> None:
        theta, g, cursor = a["theta"], a["gradient"], a["cursor"]
        rows = xp.take(a["order"], cursor + xp.arange(batch, dtype=cursor.dtype, device=cursor.device), axis=0)
        x, t = xp.take(a["x"], rows, axis=0), xp.take(a["t"], rows, axis=0)
        if "weight" in a:
            weight = xp.take(a["weight"], rows, axis=0)
            total = xp.sum(weight)
            weight = weight / xp.maximum(total, 1e-30)  # weights that are all zero give a gradient of zero
            seen = a["seen"]
            seen += total
        else:
            weight = xp.full((batch,), 1.0 / batch, dtype=theta.dtype, device=theta.device)
            total = float(batch)

        state = {name[6:]: value for name, value in a.items() if name.startswith("state.")}
        contexts = net.contexts(True, a["step"], state)
        value, caches = net.objective(xp, theta, g, x, t, weight, contexts)
        for k, layer in enumerate(net.layers):
            for name, new in layer.update_state(xp, contexts[k].state, caches[k]).items():
                state[f"{k}.{name}"][...] = new

        row = xp.take(a["scalars"], a["position"], axis=0)  # this step's learning rate and the like
        scalars = [row[0, k : k + 1] for k in range(row.shape[1])]
        if optimizer.clip_value is not None:
            g[...] = xp.maximum(xp.minimum(g, optimizer.clip_value), -optimizer.clip_value)
        if optimizer.clip_norm is not None:
            g *= xp.minimum(1.0, optimizer.clip_norm / xp.maximum(xp.sqrt(xp.sum(g * g)), 1e-30))
        if optimizer.weight_decay:
            W = theta[: net._decayed]
            W *= 1.0 - optimizer.weight_decay * scalars[-1]
        slots = [a[f"slot.{name}"] for name in optimizer.slots]
        (update if xp is net.backend.xp else lambda *arrays: optimizer.update(xp, *arrays))(
            theta, g, *slots, *scalars[:-1]
        )

        loss = a["loss"]
        loss += total * value
        cursor += batch
        position = a["position"]
        position += 1
        number = a["step"]
        number += 1

    return step


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
        self, net: Network, optimizer: Optimizer | str, x: Any, t: Any, *, batch_size: int = 32,
        sample_weight: Any = None, shuffle: bool = True,
    ) -> None:  # fmt: skip
        self.net, self.optimizer = net, check_optimizer(optimizer)
        backend = net.backend
        x = check_inputs(x, net.input_shape, backend, net.dtype, warn=True)
        t = check_targets(t, x.shape[0], net.output_shape[0], net.loss, backend, net.dtype)
        self.samples, self.shuffle = x.shape[0], check_flag("shuffle", shuffle)
        self.batch_size = min(check_size("batch_size", batch_size), self.samples)
        self.rest = self.samples % self.batch_size
        self.steps_per_epoch = -(-self.samples // self.batch_size)
        weight = prepare_weights(sample_weight, None, self.samples, t, net)
        self.total_weight = float(self.samples if weight is None else weight.sum())
        self.epoch = self.step = self.position = 0
        self._programs: dict[int, Program] = {}
        with backend.active():
            columns = len(self.optimizer.scalars(np.ones(1), np.ones(1))) + 1
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
                self.arrays["seen"] = backend.asarray(np.zeros(1, dtype=np.float64))
                self.arrays["weight"] = backend.asarray(weight.astype(net.dtype))
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        """Write the epoch's order and its steps' scalars to the device, and start at its first batch."""
        net, a, backend = self.net, self.arrays, self.net.backend
        order = epoch_order(net.seed, self.epoch, self.samples) if self.shuffle else np.arange(self.samples)
        steps = range(self.step, self.step + self.steps_per_epoch)
        rates = self.optimizer.rates(steps)
        scalars = self.optimizer.scalars(np.arange(steps.start + 1.0, steps.stop + 1.0), rates)
        table = np.stack([*scalars.values(), rates], axis=1)
        with backend.active():
            a["order"][...] = backend.asarray(order.astype(np.int64))
            a["scalars"][...] = backend.asarray(table.astype(net.dtype))
            for name in ("cursor", "position", "loss", "seen"):
                if name in a:
                    a[name][...] = 0
        self.position = 0

    def _program(self, batch: int) -> Program:
        """Return the compiled step for this batch size."""
        if batch not in self._programs:
            step = make_step(self.net, self.optimizer, batch)
            self._programs[batch] = self.net.backend.compile(step, self.arrays, self.mutable())
        return self._programs[batch]

    def mutable(self) -> list[Array]:
        """Return every array that a step changes and later steps depend on."""
        names = ["theta", "cursor", "position", "step", "loss"]
        names += [name for name in self.arrays if name == "seen" or name.startswith(("slot.", "state."))]
        return [self.arrays[name] for name in names]

    def _advance(self, steps: int) -> None:
        """Do `steps` steps of the current epoch. Python's own counts follow each whole step."""
        while steps:
            full = self.samples // self.batch_size - self.position  # full batches left in this epoch
            program = self._program(self.batch_size if full else self.rest)
            count = min(steps, full, program.unroll) if full else 1
            program(count)
            self.position += count
            self.step += count
            steps -= count

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
        with backend.active():
            arrays = self.mutable()
            saved = [xp.asarray(array, copy=True) for array in arrays]
            begin = (self.position, self.step)

            def restore() -> None:
                for array, value in zip(arrays, saved, strict=True):
                    array[...] = value
                self.position, self.step = begin

            def rewind(done: int) -> None:
                restore()
                self._advance(done)

            try:
                self._advance(steps)
                finite = diagnosis.state_is_finite(self)
            except BaseException:
                self._recover(restore, self.step - begin[1])
                raise
            if not finite:
                try:
                    good, problem = diagnosis.find(self, rewind, steps)
                except BaseException:
                    restore()
                    raise
                self._recover(restore, good)
                raise problem
        return self.mean_loss()

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
        """Return the mean training loss of the epoch so far, penalties included."""
        return float(self.arrays["loss"][0]) / max(self.weight_done(), 1e-30)

    def finish_epoch(self) -> float:
        """Return the epoch's mean training loss, and begin the next epoch."""
        loss = self.mean_loss()
        self.epoch += 1
        self._begin_epoch()
        return loss

    def run(self, steps: int) -> float:
        """Do `steps` steps through as many epochs as they fill; return the mean loss of the epoch so far."""
        left, loss = check_size("steps", steps, 0), float("nan")
        while left:
            count = min(left, self.steps_per_epoch - self.position)
            loss = self.advance(count)
            left -= count
            if self.position == self.steps_per_epoch:
                loss = self.finish_epoch()
        return loss


class Run:
    """A training in progress, as callbacks see it.

    Attributes
    ----------
    net : Network
    trainer : Trainer
    history : History
    epoch : int
        The number of the current epoch, from 0.
    epochs : int
        How many were asked for.
    """

    def __init__(self, net: Network, trainer: Trainer, epochs: int, history: History) -> None:
        self.net, self.trainer, self.epochs, self.history = net, trainer, epochs, history
        self.epoch = trainer.epoch
        self.stopped = False

    @property
    def step(self) -> int:
        """The number of training steps done."""
        return self.trainer.step

    def stop(self) -> None:
        """End the training after this epoch."""
        self.stopped = True

    def snapshot_parameters(self) -> list[Array]:
        """Return a copy of the parameters and running statistics, on the device."""
        xp = self.net.backend.xp
        return [xp.asarray(a, copy=True) for a in (self.net.theta, *self.net.state.values())]

    def restore_parameters(self, snapshot: list[Array]) -> None:
        """Write a copy back."""
        for array, value in zip((self.net.theta, *self.net.state.values()), snapshot, strict=True):
            array[...] = value


def fit(
    net: Network, x: Any, t: Any, *, optimizer: Optimizer | str = "adam", epochs: int = 10, batch_size: int = 32,
    validation_data: tuple[Any, Any] | None = None, validation_split: float = 0.0, sample_weight: Any = None,
    class_weight: Mapping[int, float] | str | None = None, callbacks: Any = (), shuffle: bool = True,
    verbose: bool | int = True,
) -> History:  # fmt: skip
    """Train `net` by minibatch gradient descent, and return what happened.

    Each epoch goes through all samples once, in an order that depends on the network's seed and the epoch
    alone; the last batch may be smaller. The optimizer starts afresh at each call.

    Parameters
    ----------
    net : Network
    x : array (N, I)
        Moved to the device once. float64 data for a float32 network is rounded once, with a warning.
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
    data = prepare(net, x, t, sample_weight, class_weight, validation_data, validation_split, batch_size)
    if not net._lock.acquire(blocking=False):
        raise AlreadyTrainingError("this Network is already being trained by another thread; train a copy: net.copy()")
    history = History()
    try:
        trainer = Trainer(
            net, optimizer, data.x, data.t, batch_size=data.batch_size, sample_weight=data.weight, shuffle=shuffle
        )
        run = Run(net, trainer, epochs, history)
        with Progress(verbose, epochs, trainer.steps_per_epoch) as progress:
            for item in items:
                item.on_begin(run)
            while run.epoch < epochs and not run.stopped:
                _one_epoch(run, items, data.validation, progress)
            for item in items:
                item.on_end(run)
        return run.history
    except BaseException as error:
        # Whatever ended the training, what was measured until then is not lost.
        error.history = history  # type: ignore[attr-defined]
        raise
    finally:
        net._lock.release()


def _one_epoch(run: Run, items: list[Any], validation: Validation | None, progress: Progress) -> None:
    trainer, began = run.trainer, time.perf_counter()
    pauses = [item.every for item in items if item.every is not None]
    while trainer.position < trainer.steps_per_epoch:
        # A device that works ahead of the host is asked for the whole epoch at once.
        limit = trainer.steps_per_epoch if run.net.backend.asynchronous else CHUNK
        chunk = min([limit, trainer.steps_per_epoch - trainer.position, *(n - trainer.step % n for n in pauses)])
        trainer.advance(chunk)
        progress.update(run.epoch, trainer.position)
        for item in items:
            if item.every is not None and trainer.step % item.every == 0:
                item.on_steps(run)
    rate = float(trainer.optimizer.rates(range(trainer.step - 1, trainer.step))[0])
    values = {"loss": trainer.finish_epoch()}
    if validation is not None:
        measured = score(run.net, validation.x, validation.t, validation.weight, 1024)
        values |= {f"validation_{name}": value for name, value in measured.items()}
    values |= {"seconds": time.perf_counter() - began, "learning_rate": rate}
    run.history.append(values)
    progress.epoch(run.epoch, values)
    for item in items:
        item.on_epoch_end(run)
    run.epoch += 1
