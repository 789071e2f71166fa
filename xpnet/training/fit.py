"""`fit`: epochs, validation, history, callbacks, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from xpnet.errors import AlreadyTrainingError, ConfigError
from xpnet.model.core import Model
from xpnet.model.memory import explained
from xpnet.model.metrics import check_metrics
from xpnet.optimizers import Optimizer
from xpnet.training.callbacks import Callback, as_callbacks
from xpnet.training.checkpoint import Checkpoint
from xpnet.training.divergence import say_if_worse
from xpnet.training.feed import Feed
from xpnet.training.history import History
from xpnet.training.intake import Plan, take_in
from xpnet.training.precision import objective_of
from xpnet.training.progress import Progress
from xpnet.training.run import Run
from xpnet.training.samples import check_optimizer
from xpnet.training.scores import Scores
from xpnet.training.sharded import take_in_part
from xpnet.training.slices import Workers
from xpnet.training.state import stored_window, training_facts, training_numbers
from xpnet.training.trainer import Trainer
from xpnet.validation import check_flag, check_size


def fit(
    net: Model, x: Any, t: Any = None, *, optimizer: Optimizer | str = "adam", epochs: int = 10, batch_size: int = 32,
    validation_data: tuple[Any, Any] | None = None, validation_split: float = 0.0, sample_weight: Any = None,
    class_weight: Mapping[int, float] | str | None = None, callbacks: Any = (), shuffle: bool = True,
    verbose: bool | int = True, averaging: float | None = None, checkpoint: Any = None,
    checkpoint_every: int | None = None, resume: bool = False, precision: str | None = None,
    memory: int | str | None = None, window: int | None = None, scale: float | None = None,
    metrics: Any = (), workers: Workers | None = None,
) -> History:  # fmt: skip
    """Train `net`; see `xpnet.Network.fit`."""
    optimizer, objective = check_optimizer(optimizer), objective_of(net, precision)
    check_size("epochs", epochs, 0)
    items = as_callbacks(callbacks)
    check_flag("resume", resume)
    measured = check_metrics(net, metrics)
    if checkpoint_every is not None:
        check_size("checkpoint_every", checkpoint_every)
    if checkpoint is None and (resume or checkpoint_every is not None):
        raise ConfigError("resume and checkpoint_every need a file: checkpoint='run.safetensors'")
    if net._lock.locked():
        raise AlreadyTrainingError("this Network is already being trained by another thread; train a copy: net.copy()")
    told = np.geterr()  # callbacks hear NumPy's warnings as they would anywhere else
    cores = None if workers is None else workers.cores
    # The lock is released whatever happens: no interrupt comes in between.
    with net.backend.active(), net.backend.using(cores), net._lock:
        with explained(net.backend, "checking the data"):
            if window is None and resume:
                window = stored_window(checkpoint, check_size("batch_size", batch_size))
            plan = Plan(batch_size, epochs, shuffle, memory, window, scale)
            take = partial(take_in_part, workers) if workers is not None and workers.sharded else take_in
            data = take(net, objective, x, t, sample_weight, class_weight, validation_data, validation_split, plan)
            batch_size = data.batch_size
        if checkpoint is not None:
            # Last, so that it sees what the other callbacks did.
            items.append(Checkpoint(checkpoint, every=checkpoint_every, resume=resume, callbacks=items))
        run: Run | None = None
        feed: Feed | None = None
        history = History()
        try:
            with explained(net.backend, "training", batch_size):
                scores = Scores(net, measured, data.training if measured else None, data.validation)
                feed = data.feed()
                del data, x  # in half precision the device has room for one copy, perhaps not for two
                trainer = Trainer.of(net, optimizer, feed, objective, averaging, workers)
                begun = Run(net, trainer, epochs, history)
                tell = partial(_tell, items, told)
                tell("on_begin", begun)
                if workers is not None:
                    asked = {"epochs": epochs, "steps between calls of callbacks": sorted(_pauses(items))}
                    workers.agree("training", training_facts(trainer) | asked)
                run = begun
                shown = verbose if run.leads else False
                with Progress(shown, epochs, trainer.steps_per_epoch, trainer.step) as progress:
                    if resume and not run.step:
                        progress.say(f"there is nothing in {str(checkpoint)!r} to resume: the training begins anew")
                    while run.epoch < epochs and not run.stopped:
                        _one_epoch(run, items, told, scores, progress)
                        if workers is not None:
                            workers.agree("numbers after an epoch", training_numbers(trainer))
                            run.stopped = workers.decide(run.stopped)
                tell("on_end", run)
                if "average" in trainer.arrays:
                    net.theta[...] = trainer.arrays["average"]
                if workers is not None:
                    workers.agree("numbers at the end", training_numbers(trainer))
                say_if_worse(net, run.history)
                return run.history
        except BaseException as error:
            # Whatever ended the training, what was measured until then is not lost.
            error.history = history if run is None else run.history  # type: ignore[attr-defined]
            if run is not None:
                run.trainer.repair()
                tell("on_exception", run, error)
            raise
        finally:
            if feed is not None:
                feed.close()


def _tell(items: Sequence[Callback], told: Any, event: str, *what: Any) -> None:
    """Tell callbacks of an event."""
    with np.errstate(**told):
        for item in items:
            getattr(item, event)(*what)


def _pauses(items: Iterable[Callback]) -> set[int]:
    """Return after multiples of which numbers of steps callbacks are called."""
    return {item.every for item in items if item.every is not None}


def _one_epoch(
    run: Run, items: list[Callback], told: Any, scores: Scores, progress: Progress
) -> None:  # fmt: skip
    trainer, began = run.trainer, time.perf_counter()
    looking, others = ([item for item in items if item.every and item.looks is looks] for looks in (True, False))

    def pause(among: list[Callback]) -> None:
        _tell([item for item in among if item.every and trainer.step % item.every == 0], told, "on_steps", run)

    while trainer.position < trainer.steps_per_epoch:
        steps = min([trainer.chunk, *(n - trainer.step % n for n in _pauses(looking))])
        loss = trainer.advance(steps, partial(pause, others), _pauses(others))
        progress.update(run.epoch, trainer.position, loss)
        pause(looking)
    values = {"loss": trainer.mean_loss()}
    if scores.training is not None or scores.validation is not None:
        with run.averaged():
            values |= scores()
    rate = float(trainer.rates(range(trainer.step - 1, trainer.step))[0])
    values |= {"seconds": time.perf_counter() - began, "learning_rate": rate}
    run.history.truncate(trainer.epoch)  # an interrupt may have come between the next two lines
    run.history.append(values)
    trainer.finish_epoch()
    progress.epoch(trainer.epoch - 1, values)
    run._ended = True
    try:
        _tell(items, told, "on_epoch_end", run)
    finally:
        run._ended = False
