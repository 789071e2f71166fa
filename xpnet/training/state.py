"""The state of a training as named arrays and a description, and back."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np

from xpnet.errors import CheckpointError
from xpnet.files.tensors import read_tensors
from xpnet.saving.description import describe
from xpnet.saving.network import (
    TRAINING,
    Expected,
    Tensors,
    check_tensors,
    members,
    mismatch,
    network_content,
    network_tensors,
)
from xpnet.training.arrays import VECTOR, begin_with
from xpnet.training.callbacks import Callback
from xpnet.training.divergence import state_is_finite
from xpnet.training.history import History, in_order
from xpnet.training.run import Run
from xpnet.training.trainer import Trainer

COUNTS = ("epoch", "position", "step")
BEFORE = {"precision": None, "window": None, "scale": None, "slices": 1, "sharded": False}
"""What holds for files that were written before there was a choice."""


def training_counts(trainer: Trainer) -> dict[str, int]:
    """Return the numbers of epochs done, of steps done in this epoch, and of steps done."""
    return {name: getattr(trainer, name) for name in COUNTS}


def training_settings(trainer: Trainer, callbacks: Sequence[Callback]) -> dict[str, Any]:
    """Return what must be equal in a training that goes on, besides the network."""
    return {
        "optimizer": describe(trainer.optimizer, "optimizer"),
        **trainer.feed.settings(),
        "averaging": describe(trainer.averaging, "averaging"),
        "precision": trainer.objective.precision,
        "data": trainer.feed.fingerprint(trainer.arrays, trainer.net.backend),
        "callbacks": [type(item).__name__ for item in callbacks],
        "slices": 1 if trainer.workers is None else trainer.workers.slices,
        "sharded": trainer.workers is not None and trainer.workers.sharded,
    }


def stored_window(path: Any, batch_size: Any) -> int | None:
    """Return the window of the training that a file holds, so that it goes on with it; None if it has none of use."""
    if not os.path.exists(path):
        return None
    training = read_tensors(os.fspath(path))[1].get("training")
    window = training.get("window") if isinstance(training, dict) else None
    return window if type(window) is int and window >= 2 * batch_size else None


def training_facts(trainer: Trainer) -> dict[str, Any]:
    """Return what must be equal on all processes that share a training, by what to call it; arrays as hashes."""
    net = trainer.net
    return {
        "version of xpnet": sys.modules["xpnet"].__version__,
        "version of NumPy": np.__version__,
        "array library": net.backend.name.partition(":")[0],
        **{f"network, {name}": value for name, value in network_content(net)[1].items()},
        **training_settings(trainer, ()),
        **training_counts(trainer),
        **training_numbers(trainer),
    }


def training_numbers(trainer: Trainer) -> dict[str, str]:
    """Return the beginning of a SHA-256 of each array that is carried from step to step."""
    return {name: sha256(np.ascontiguousarray(a).tobytes()).hexdigest()[:16] for name, a in trainer.export()[0].items()}


def training_content(run: Run, settings: Any, callbacks: Sequence[Callback]) -> tuple[Tensors, dict[str, Any]]:
    """Return everything that a training depends on: tensors on the host, and the description."""
    trainer, net = run.trainer, run.net
    tensors, network = network_content(net)
    arrays, counts = trainer.export()
    for name, kind in trainer.arrays.kinds.items():
        if kind.stored and kind.like_theta:
            tensors |= begin_with(TRAINING + name, net.layout.named(np, arrays[name]))
        elif kind.stored:
            # Between two epochs the sums are still those of the last one.
            over = kind.by_epoch and not counts["position"]
            tensors[TRAINING + name] = np.zeros_like(arrays[name]) if over else arrays[name]
    epochs = counts["epoch"]
    tensors |= {f"{TRAINING}history.{name}": curve[:epochs] for name, curve in run.history.to_numpy().items()}
    for k, item in enumerate(callbacks):
        tensors |= {f"{TRAINING}callback.{k}.{name}": np.asarray(v) for name, v in item.get_state().items()}
    return tensors, {"network": network, "training": settings | counts | {"stopped": run.stopped}}


def restore_training(path: str, run: Run, settings: Any, callbacks: Sequence[Callback]) -> None:
    """Put a training into the state that a file holds, or, if the file does not fit, leave it as it is."""
    trainer, net, where = run.trainer, run.net, repr(path)
    tensors, description = read_tensors(path)
    parts = members(description, where, ("network", "training"))
    if isinstance(parts["training"], dict):
        for name, value in BEFORE.items():
            parts["training"].setdefault(name, value)
    training = members(parts["training"], f"{where}, training", (*settings, *COUNTS, "stopped"))
    there = {"network": parts["network"]} | {name: training[name] for name in settings}
    found = differences(there, {"network": network_content(net)[1]} | settings)
    if found:
        what = "this is another training; use the same settings, or load the network and begin a new one"
        raise mismatch(where, what, found)
    counts = _check_counts(training, trainer, where)
    epoch = counts["epoch"]
    curves = _take(tensors, f"{TRAINING}history.")
    if any(curve.shape != (epoch,) for curve in curves.values()) or (epoch and "loss" not in curves):
        raise CheckpointError(f"{where}: each curve of the history must have {epoch} numbers")
    states = [_take(tensors, f"{TRAINING}callback.{k}.") for k in range(len(callbacks))]
    check_tensors(tensors, network_tensors(net) | _expected(trainer), where)
    arrays = {"theta": net.layout.join(tensors, net.dtype)} | trainer.counters(counts)
    for name in trainer.arrays.carried:
        if trainer.arrays.kinds[name] == VECTOR:
            arrays[name] = net.layout.join(tensors, net.dtype, f"{TRAINING}{name}.")
        elif name not in arrays:
            arrays[name] = tensors[name if name.startswith("state.") else TRAINING + name]
    before, callbacks_before = trainer.export(), [dict(vars(item)) for item in callbacks]
    try:
        trainer.restore(arrays, counts)
        if not state_is_finite(trainer):
            raise ValueError("the training has NaN or infinities")
        for item, state in zip(callbacks, states, strict=True):
            item.set_state(state)
    except BaseException as error:
        trainer.restore(*before)
        for item, attributes in zip(callbacks, callbacks_before, strict=True):
            vars(item).clear()
            vars(item).update(attributes)
        if isinstance(error, Exception) and not isinstance(error, MemoryError):
            raise CheckpointError(
                f"{where}: the state of the training or of its callbacks does not fit: {error!r:.300}"
            ) from error
        raise
    run.history, run.stopped = History(in_order(curves)), training["stopped"]


def differences(there: Any, here: Any, where: str = "") -> list[str]:
    """Return where two JSON values differ, a line each."""
    if isinstance(there, dict) and isinstance(here, dict):
        if there.keys() == here.keys() == {"tuple"}:
            return differences(there["tuple"], here["tuple"], where)
        if there.get("class") != here.get("class"):
            return differences(there.get("class"), here.get("class"), where)
        if there.keys() == here.keys():
            return [line for key in here for line in differences(there[key], here[key], f"{where}.{key}".lstrip("."))]
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        return [line for k in range(len(here)) for line in differences(there[k], here[k], f"{where}[{k}]")]
    if type(there) is type(here) and there == here:
        return []
    return [f"{where} is {there!r:.200} in the file, {here!r:.200} here"]


def _expected(trainer: Trainer) -> Expected:
    """Return the shapes and types of the tensors that `training_content` gives besides the network's."""
    net, result = trainer.net, Expected()
    for name, kind in trainer.arrays.kinds.items():
        if kind.stored and kind.like_theta:
            result |= {f"{TRAINING}{name}.{p.key}": (p.shape, net.dtype) for p in net.layout.places}
        elif kind.stored:
            host = net.backend.to_numpy(trainer.arrays[name])
            result[TRAINING + name] = (host.shape, host.dtype.name)
    return result


def _check_counts(training: dict[str, Any], trainer: Trainer, where: str) -> dict[str, int]:
    counts = {name: training[name] for name in COUNTS}
    if not all(type(n) is int and n >= 0 for n in counts.values()) or type(training["stopped"]) is not bool:
        raise CheckpointError(f"{where}: impossible counts {counts!r:.200} or stopped {training['stopped']!r:.50}")
    length = trainer.steps_per_epoch
    if counts["position"] > length or counts["step"] != counts["epoch"] * length + counts["position"]:
        raise CheckpointError(f"{where}: impossible counts {counts!r:.200} in epochs of {length} steps")
    return counts


def _take(tensors: Tensors, prefix: str) -> Tensors:
    """Remove the tensors whose names begin with `prefix`, and return them by the rest of their names."""
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in names}
