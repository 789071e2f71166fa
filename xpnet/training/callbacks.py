"""Callbacks: what a user does between steps and epochs of a training."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from math import inf, isfinite
from typing import Any

import numpy as np

from xpnet.errors import ConfigError, closest
from xpnet.keywords import Named
from xpnet.training.history import no_curve
from xpnet.training.run import Run
from xpnet.validation import check_flag, check_items, check_number, check_size


class Callback(Named):
    """Base class; override what is needed. `run` is the training, see `xpnet.training.run.Run`.

    Attributes
    ----------
    every : int or None
        If a number n, `on_steps` is called after every n training steps; between calls nothing is interrupted.
    looks : bool
        Whether `on_steps` looks at numbers, or may: then the steps before it are known to be good, for which a GPU is
        waited for. With False it may only ask for something that is done on the device, such as a copy; if the steps
        turn out to be bad they are undone, and ``run.step`` is smaller in `on_exception`.

    Examples
    --------
    >>> import xpnet
    >>> class Say(xpnet.Callback):
    ...     def on_epoch_end(self, run):
    ...         print("epoch", run.epoch)
    ...
    >>> x, t = xpnet.datasets.xor(100, seed=0)
    >>> history = xpnet.mlp([2, 4, 2]).fit(x, t, epochs=2, callbacks=Say())
    epoch 0
    epoch 1
    """

    every: int | None = None
    looks: bool = True

    def on_begin(self, run: Run) -> None:
        """Before the first step."""

    def on_steps(self, run: Run) -> None:
        """After every `every` steps."""

    def on_epoch_end(self, run: Run) -> None:
        """After each epoch, when its numbers are in ``run.history``. ``run.stop()`` ends the training."""

    def on_end(self, run: Run) -> None:
        """After the last epoch; not called if an exception ends the training."""

    def on_exception(self, run: Run, error: BaseException) -> None:
        """When an exception (also Ctrl-C) ends the training; the parameters are those of the last whole step."""

    def get_state(self) -> dict[str, Any]:
        """Return what the callback has to remember when a training is resumed: numbers and arrays by name."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take up what `get_state` returned, after `on_begin`; everything comes as NumPy arrays.

        The trainer has its counts already. What the state cannot be is refused by an exception.
        """


class _EpochFunction(Callback):
    def __init__(self, function: Callable[[Run], Any]) -> None:
        self.on_epoch_end = function  # type: ignore[method-assign, assignment]


def as_callbacks(callbacks: Any) -> list[Callback]:
    """Return callbacks; a plain function ``f(run)`` is called after each epoch."""
    if callable(callbacks) or isinstance(callbacks, Callback):
        callbacks = [callbacks]
    result: list[Callback] = []
    for k, item in enumerate(
        check_items("callbacks", callbacks, "a sequence of Callbacks or functions, such as [xpnet.EarlyStopping()]")
    ):
        if isinstance(item, Callback):
            result.append(item)
        elif callable(item) and not isinstance(item, type):
            result.append(_EpochFunction(item))
        else:
            hint = f" (write {item.__name__}(...), with parentheses)" if isinstance(item, type) else ""
            raise ConfigError(f"callbacks[{k}] must be a Callback or a function of the run, got {item!r}{hint}")
        if result[-1].every is not None:
            check_size(f"callbacks[{k}].every", result[-1].every)
        check_flag(f"callbacks[{k}].looks", result[-1].looks)
        _check_hooks(f"callbacks[{k}] {type(item).__name__}", result[-1])
    return result


OTHER_HOOKS = {
    "on_train_begin": "on_begin", "on_train_end": "on_end", "on_fit_start": "on_begin", "on_fit_end": "on_end",
    "on_epoch_begin": "on_begin before the first epoch, and on_epoch_end, after which the next one begins",
    "on_batch_begin": "on_steps, with every = 1", "on_batch_end": "on_steps, with every = 1",
    "on_train_batch_begin": "on_steps, with every = 1", "on_train_batch_end": "on_steps, with every = 1",
}  # fmt: skip
"""Hooks of other libraries, and what serves here."""


def _check_hooks(name: str, item: Callback) -> None:
    """Raise if the callback waits for something that never comes."""
    known = [hook for hook in vars(Callback) if hook.startswith("on_")]
    for hook in dir(item):
        if hook.startswith("on_") and hook not in known:
            cure = f"; use {OTHER_HOOKS[hook]}" if hook in OTHER_HOOKS else closest(hook, known)
            raise ConfigError(f"{name} has {hook}, which is never called: hooks are {', '.join(known)}{cure}")
    said = "every" in vars(item) or any("every" in vars(cls) for cls in type(item).__mro__ if cls is not Callback)
    if not said and type(item).on_steps is not Callback.on_steps:
        raise ConfigError(f"{name} has on_steps, which is never called, since its every is None; set every = 1")
    if isinstance(item, _EpochFunction):
        try:
            inspect.signature(item.on_epoch_end).bind(None)
        except TypeError:
            raise ConfigError(f"{name} must take one argument, the run: def f(run): ...") from None
        except ValueError:  # a function in C does not say what it takes
            pass


def larger_is_better(curve: str) -> bool:
    """Say whether a curve is the better the larger it is."""
    return curve.endswith(("accuracy", "auc", "r2"))


class Monitor(Callback):
    """Base of callbacks that ask whether a curve of the history has got better.

    Parameters
    ----------
    monitor : str
        A curve of the history. Accuracies, AUC and R2 are better when larger, all others when smaller.
    min_delta : float >= 0
        What counts as better.
    """

    best, best_epoch = inf, -1

    def __init__(self, monitor: str, min_delta: float) -> None:
        self.monitor = monitor
        self.min_delta = check_number(f"{type(self).__name__}: min_delta", min_delta, 0.0)

    def __repr__(self) -> str:
        best = f"best {abs(self.best):.4g} in epoch {self.best_epoch + 1}"
        return f"<{type(self).__name__} on {self.monitor}: {best if self.best_epoch >= 0 else 'nothing measured yet'}>"

    def on_begin(self, run: Run) -> None:
        self._run, self.best, self.best_epoch = run, inf, -1

    def improved(self, run: Run) -> bool:
        """Say whether the epoch that ended is better than all before, and remember it if so."""
        if self.monitor not in run.history:
            raise ConfigError(f"{type(self).__name__}: there is no curve {no_curve(run.history, self.monitor)}")
        value = float(run.history[self.monitor][-1]) * (-1 if larger_is_better(self.monitor) else 1)
        better = isfinite(value) and value < self.best - self.min_delta
        if better:
            self.best, self.best_epoch = value, run.epoch
        return better

    def get_state(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch}

    def set_state(self, state: dict[str, Any]) -> None:
        best, epoch = state["best"], state["best_epoch"]
        possible = isfinite(best) if epoch >= 0 else best == inf
        if epoch.dtype.kind != "i" or not -1 <= epoch < self._run.epoch or not possible:
            raise ValueError(f"best {best} in epoch {epoch} of {self._run.epoch}")
        self.best, self.best_epoch = float(best), int(epoch)


class EarlyStopping(Monitor):
    """Stop when a curve has not got better for a while, and go back to the best parameters.

    Parameters
    ----------
    monitor : str
        A curve of the history, by default ``"validation_loss"``. Accuracies, AUC and R2 are better when larger, all
        others when smaller.
    patience : int
        How many epochs without an improvement are endured.
    min_delta : float
        What counts as an improvement.
    restore_best : bool
        Whether the network gets the parameters of its best epoch back.

    Examples
    --------
    >>> import xpnet
    >>> x, t = xpnet.datasets.spirals(200, seed=0)
    >>> data = {"validation_split": 0.2, "callbacks": xpnet.EarlyStopping(patience=2)}
    >>> history = xpnet.mlp([2, 16, 3]).fit(x, t, optimizer=xpnet.Adam(0.05), epochs=500, **data)
    >>> history.epochs < 500
    True
    """

    def __init__(
        self, monitor: str = "validation_loss", *, patience: int = 5, min_delta: float = 0.0, restore_best: bool = True
    ) -> None:
        super().__init__(monitor, min_delta)
        self.patience = check_size("EarlyStopping: patience", patience)
        self.restore_best = check_flag("EarlyStopping: restore_best", restore_best)

    def on_begin(self, run: Run) -> None:
        super().on_begin(run)
        self._parameters: list[Any] | None = None

    def on_epoch_end(self, run: Run) -> None:
        if not self.improved(run):
            if run.epoch - self.best_epoch >= self.patience:
                run.stop()
        elif self.restore_best:
            self._parameters = run.snapshot_parameters()

    def get_state(self) -> dict[str, Any]:
        parameters = {
            f"parameters.{k}": self._run.net.backend.to_numpy(a) for k, a in enumerate(self._parameters or ())
        }
        return super().get_state() | parameters

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        saved = [state[f"parameters.{k}"] for k in range(len(state) - 2)]
        wanted = [(np.dtype(self._run.net.dtype), tuple(a.shape)) for a in self._run.parameters_in_use()]
        if saved and ([(a.dtype, a.shape) for a in saved] != wanted or not all(np.isfinite(a).all() for a in saved)):
            raise ValueError(f"the best parameters are not {len(wanted)} finite arrays {wanted!r:.200}")
        self._parameters = [self._run.net.backend.asarray(a) for a in saved] or None

    def on_end(self, run: Run) -> None:
        if self.restore_best and self._parameters is not None:
            run.restore_parameters(self._parameters)
