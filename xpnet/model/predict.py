"""Using a trained network: outputs, labels, probabilities, scores; in batches, accumulated on the device."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from xpnet.errors import ConfigError, NonFiniteError
from xpnet.layers.shapes import every_layer
from xpnet.model.core import Model
from xpnet.model.data import check_inputs
from xpnet.model.memory import explained
from xpnet.typing import Array, HostArray
from xpnet.validation import check_flag, check_size


def rows_at_once(net: Model, batch_size: int | None) -> int:
    """Return how many rows are computed at a time if not `batch_size`: 512 on a host, whose cache then holds them.

    A device that works ahead of the host is given as many as 64 MiB hold of the widest layer's numbers.
    """
    if batch_size is not None or not net.backend.asynchronous:
        return 512 if batch_size is None else check_size("batch_size", batch_size)
    widest = max(
        prod(shape) for item in every_layer(net.layers, net.input_shape) for shape in (item.before, item.after)
    )
    return max(512, (64 << 20) // (widest * np.dtype(net.dtype).itemsize))


def _batches(net: Model, x: Array, size: int) -> Iterator[Array]:
    """Yield the network's output for a slice of rows at a time."""
    for start in range(0, max(x.shape[0], 1), size):  # no rows at all still give one empty output
        yield net.output(x[start : min(start + size, x.shape[0]), ...])


def in_batches(net: Model, x: Array, batch_size: int | None, proba: bool) -> HostArray:
    """Return the outputs for checked inputs on the device, or what the loss makes of them, on the host."""
    xp, size = net.backend.xp, rows_at_once(net, batch_size)
    with net.backend.active(), explained(net.backend, "prediction", size):
        parts = [net.loss.predict(xp, y) if proba else y for y in _batches(net, x, size)]
        result: HostArray = net.backend.to_numpy(parts[0] if len(parts) == 1 else xp.concat(parts, axis=0))
    return result


def outputs(net: Model, x: Any, batch_size: int | None, allow_nonfinite: bool, proba: bool) -> HostArray:
    """Return the network's outputs, or with `proba` what its loss makes of them, on the host."""
    check_flag("allow_nonfinite", allow_nonfinite)
    with explained(net.backend, "checking the data"):
        x = check_inputs(x, net.input_shape, net.backend, net.dtype, minimum=0, allow_nonfinite=allow_nonfinite)
    result = in_batches(net, x, batch_size, proba)
    if not allow_nonfinite and not np.isfinite(result).all():
        row = int(np.flatnonzero(~np.isfinite(result).all(axis=1))[0])
        raise NonFiniteError(
            f"the network's output for row {row} is not finite though the input is; its parameters are not finite, or "
            "the input is far outside the range of the training data. Check net.parameters and scale the input."
        )
    return result


def predict(net: Model, x: Any, *, batch_size: int | None, allow_nonfinite: bool) -> HostArray:
    """See `Network.predict`."""
    if net.loss.kind == "regression":
        return outputs(net, x, batch_size, allow_nonfinite, proba=True)
    y = outputs(net, x, batch_size, allow_nonfinite, proba=False)
    bad = ~np.isfinite(y).all(axis=1)
    if net.loss.kind == "classification":
        labels = np.argmax(y, axis=1) if len(y) else np.zeros(0, dtype=np.int64)
        labels[bad] = -1  # a label is never taken from NaN
        return labels
    decisions = (y > 0).astype(np.int64)
    decisions[bad] = -1
    return decisions[:, 0] if decisions.shape[1] == 1 else decisions


def predict_proba(net: Model, x: Any, *, batch_size: int | None, allow_nonfinite: bool) -> HostArray:
    """See `Network.predict_proba`."""
    if net.loss.kind == "regression":
        raise ConfigError(
            f"predict_proba needs a classification loss, but the network has {type(net.loss).__name__}; use predict, "
            "or build the network with loss='cross_entropy'"
        )
    p = outputs(net, x, batch_size, allow_nonfinite, proba=True)
    if net.loss.kind == "binary" and p.shape[1] == 1:
        return np.concatenate([1 - p, p], axis=1)
    return p


def correct(net: Model, y: Array, t: Array) -> Array:
    """Return 1.0 for every sample whose label is predicted right, else 0.0, on the device (B,)."""
    xp = net.backend.xp
    if net.loss.kind == "binary":
        return xp.astype(xp.all((y > 0) == (t > 0.5), axis=1), y.dtype)
    label = t if t.ndim == 1 else xp.argmax(t, axis=1)
    return xp.astype(xp.argmax(y, axis=1) == label, y.dtype)


def score(net: Model, x: Array, t: Array, weight: HostArray, batch_size: int | None) -> dict[str, float]:
    """Return the weighted mean loss and accuracy of checked arrays on the device; one host read at the end."""
    xp, backend = net.backend.xp, net.backend
    weight = weight * (len(weight) / weight.sum())  # ones, unless weighted: then counts of hits are exact
    totals: list[Array] = []
    size = rows_at_once(net, batch_size)
    with backend.active(), explained(backend, "evaluation", size):
        start, weights = 0, backend.asarray(weight.astype(net.dtype))
        for y in _batches(net, x, size):
            stop = start + y.shape[0]
            w = weights[start:stop]
            target = t[start:stop] if t.ndim == 1 else t[start:stop, ...]
            loss, _ = net.loss(xp, y, target, w)
            parts = [loss]
            if net.loss.kind != "regression":
                parts.append(xp.sum(w * correct(net, y, target)))
            totals.append(xp.stack(parts))
            start = stop
        sums = backend.to_numpy(xp.stack(totals)).astype(np.float64).sum(axis=0) / len(weight)
    result = {"loss": float(sums[0])}
    if len(sums) > 1:
        result["accuracy"] = float(sums[1])
    return result
