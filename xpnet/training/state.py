"""The state of a training as named arrays and a description, and back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.errors import CheckpointError
from xpnet.files.tensors import read_tensors
from xpnet.saving.description import describe
from xpnet.saving.network import (
    TRAINING,
    Expected,
    Tensors,
    check_tensors,
    flat_vector,
    members,
    mismatch,
    network_content,
    network_tensors,
)
from xpnet.training.callbacks import Callback
from xpnet.training.history import History

if TYPE_CHECKING:
    from xpnet.training.fit import Run
    from xpnet.training.trainer import Trainer

COUNTS = ("epoch", "position", "step")


def training_counts(trainer: Trainer) -> dict[str, int]:
    """Return the numbers of epochs done, of steps done in this epoch, and of steps done."""
    return {name: getattr(trainer, name) for name in COUNTS}


def training_settings(trainer: Trainer, callbacks: Sequence[Callback]) -> dict[str, Any]:
    """Return what must be equal in a training that goes on, besides the network."""
    return {
        "optimizer": describe(trainer.optimizer, "optimizer"),
        "batch_size": trainer.batch_size,
        "samples": trainer.samples,
        "shuffle": trainer.shuffle,
        "averaging": describe(trainer.averaging, "averaging"),
        "precision": trainer.precision,
        "data": _fingerprint(trainer),
        "callbacks": [type(item).__name__ for item in callbacks],
    }


def training_content(run: Run, settings: Any, callbacks: Sequence[Callback]) -> tuple[Tensors, dict[str, Any]]:
    """Return everything that a training depends on: tensors on the host, and the description."""
    trainer, net = run.trainer, run.net
    tensors, network = network_content(net)
    arrays, counts = trainer.export()
    for name, value in arrays.items():
        if _per_parameter(name):
            views = net.split(np, value)
            tensors |= {f"{TRAINING}{name}.{k}.{p}": view for k, own in enumerate(views) for p, view in own.items()}
        elif _is_stored(name):
            # Between two epochs the sums are still those of the last one.
            over = name in ("loss", "seen") and not counts["position"]
            tensors[TRAINING + name] = np.zeros_like(value) if over else value
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
        parts["training"].setdefault("precision", None)  # files written before there was a choice
    training = members(parts["training"], f"{where}, training", (*settings, *COUNTS, "stopped"))
    there = {"network": parts["network"]} | {name: training[name] for name in settings}
    found = differences(there, {"network": network_content(net)[1]} | settings)
    if found:
        what = "this is another training; use the same settings, or load the network and begin a new one"
        raise mismatch(where, what, found)
    counts = _check_counts(training, trainer, where)
    epoch, position = counts["epoch"], counts["position"]
    curves = _take(tensors, f"{TRAINING}history.")
    if any(curve.shape != (epoch,) for curve in curves.values()) or (epoch and "loss" not in curves):
        raise CheckpointError(f"{where}: each curve of the history must have {epoch} numbers")
    states = [_take(tensors, f"{TRAINING}callback.{k}.") for k in range(len(callbacks))]
    check_tensors(tensors, network_tensors(net) | _expected(trainer), where)
    arrays = {
        "theta": flat_vector(net, tensors),
        "cursor": np.asarray([min(position * trainer.batch_size, trainer.samples)], np.int64),
        "position": np.asarray([position], np.int64),
        "step": np.asarray([counts["step"] % 2**32], np.uint32),
    }
    for name in trainer.mutable():
        if _per_parameter(name):
            arrays[name] = flat_vector(net, tensors, f"{TRAINING}{name}.")
        elif name not in arrays:
            arrays[name] = tensors[name if name.startswith("state.") else TRAINING + name]
    before = trainer.export()
    try:
        for item, state in zip(callbacks, states, strict=True):
            item.set_state(state)
        trainer.restore(arrays, counts)
    except BaseException as error:
        trainer.restore(*before)
        if isinstance(error, KeyError | ValueError | TypeError):
            raise CheckpointError(f"{where}: the state of the callbacks does not fit: {error!r:.300}") from error
        raise
    run.history, run.stopped = History(curves), training["stopped"]


def differences(there: Any, here: Any, where: str = "") -> list[str]:
    """Return where two JSON values differ, a line each."""
    if isinstance(there, dict) and isinstance(here, dict) and there.keys() == here.keys():
        if "class" in here and there["class"] != here["class"]:
            return differences(there["class"], here["class"], where)
        return [line for key in here for line in differences(there[key], here[key], f"{where}.{key}".lstrip("."))]
    if isinstance(there, dict) and isinstance(here, dict) and "class" in there and "class" in here:
        return differences(there["class"], here["class"], where)
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        return [line for k in range(len(here)) for line in differences(there[k], here[k], f"{where}[{k}]")]
    if type(there) is type(here) and there == here:
        return []
    return [f"{where} is {there!r:.200} in the file, {here!r:.200} here"]


def _per_parameter(name: str) -> bool:
    """Whether an array of the trainer is laid out like theta; such are stored under the parameters' names."""
    return name == "average" or name.startswith("slot.")


def _is_stored(name: str) -> bool:
    """Whether an array is neither the network's nor a function of the counts."""
    return name not in ("theta", "cursor", "position", "step") and not name.startswith("state.")


def _expected(trainer: Trainer) -> Expected:
    """Return the shapes and types of the tensors that `training_content` gives besides the network's."""
    net, result = trainer.net, Expected()
    for name, array in trainer.mutable().items():
        if _per_parameter(name):
            result |= {f"{TRAINING}{name}.{key}": (tuple(p.shape), net.dtype) for key, p in net.parameters.items()}
        elif _is_stored(name):
            host = net.backend.to_numpy(array)
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


def _fingerprint(trainer: Trainer) -> str:
    """Return a SHA-256 of 64 rows of the data: other data, or another order, is noticed, at little cost."""
    net, digest = trainer.net, hashlib.sha256()
    with net.backend.active():
        rows = net.backend.asarray(np.linspace(0, trainer.samples - 1, min(64, trainer.samples)).astype(np.int64))
        for name in ("x", "t", "weight"):
            if name in trainer.arrays:
                array = trainer.arrays[name]
                piece = np.ascontiguousarray(net.backend.to_numpy(net.backend.xp.take(array, rows, axis=0)))
                digest.update(f"{name} {array.shape} {piece.dtype.name}\n".encode() + piece.tobytes())
    return digest.hexdigest()
