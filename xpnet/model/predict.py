"""Using a trained network: outputs, labels, probabilities; in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np

from xpnet.errors import ConfigError, DataError, DTypeError, NonFiniteError, ShapeError
from xpnet.model.core import Model
from xpnet.model.data import (
    check_inputs,
    check_length,
    check_numeric,
    check_shape,
    check_targets,
    on_host,
    stays,
    to_host,
)
from xpnet.model.memory import explained
from xpnet.model.outputs import LEAST
from xpnet.model.rows import Rows
from xpnet.model.sources import in_memory, rows_of
from xpnet.typing import Array, HostArray
from xpnet.validation import check_flag, check_number, check_size

FEW, SOME, MANY = 64, 512, 4096
"""Rows that are computed at a time: at least, since fewer would read the weights too often; of narrow layers, whose
results a cache holds then, and on a GPU at least; and at most."""
WIDE = 1 << 21
"""Numbers that the widest layer gives for more of them at most."""

NOT_FINITE = (
    "is not finite though the input is; its parameters or running statistics are not finite, or the input is far "
    "outside the range of the training data. Check net.parameters and net.state, and scale the input."
)


def rows_at_once(net: Model, batch_size: int | None) -> int:
    """Return how many rows are computed at a time if not `batch_size`: on a host 64 to 4,096.

    Those of narrow layers are few enough for its caches. Of wide ones more are taken, so that the products are large
    and the forward pass is worth recording (`Outputs`). A device that works ahead of the host is given as many as 64
    MiB hold of what the network takes or its widest layer gives, and not fewer than 512.
    """
    if batch_size is not None:
        return check_size("batch_size", batch_size)
    widest = net._outputs.width(net)[0]
    if net.backend.asynchronous:
        return max(SOME, (64 << 20) // (max(widest, prod(net.input_shape)) * np.dtype(net.dtype).itemsize))
    rows = min(MANY, max(FEW, WIDE // widest // 16 * 16))
    return rows if rows * widest >= LEAST else min(SOME, rows)


def _pieces(
    net: Model, x: Any, size: int, scale: float | None, allow_nonfinite: bool = False, by_pieces: bool = False
) -> Iterator[tuple[int, int, Array]]:  # fmt: skip
    """Yield how many rows there are, the first row of a piece, and the piece, checked and on the device.

    What is in memory is one piece, unless it is wanted `by_pieces`; what lies elsewhere is read piece by piece.
    """
    backend, shape, rows = net.backend, net.input_shape, rows_of(x)
    if scale is not None:
        check_number("scale", scale)
    if rows is None and by_pieces and not stays(x, backend):
        rows = Rows(to_host("x", x, backend))
    if rows is None:
        with explained(backend, "checking the data"):
            whole = check_inputs(x, shape, backend, net.dtype, minimum=0, allow_nonfinite=allow_nonfinite)
        yield whole.shape[0], 0, whole
        return
    check_shape("x", rows.shape, shape, 0)
    for start, stop in rows.slices(multiple=size):
        piece = _read("x", rows, start, stop)
        x = check_inputs(piece, shape, backend, net.dtype, minimum=0, allow_nonfinite=allow_nonfinite, first=start)
        yield len(rows), start, x


def _read(name: str, rows: Rows, start: int, stop: int) -> HostArray:
    """Return rows on the host; if that fails, what cannot be read is said."""
    try:
        return rows.read(start, stop)
    except MemoryError:
        raise
    except Exception as error:
        what = f"{name}: rows {start} to {stop - 1} cannot be read"
        raise DataError(f"{what}: {type(error).__name__}: {error}") from error


def slices_of(net: Model, xp: Any, x: Array, size: int, scale: float | None) -> Iterator[Array]:
    """Yield slices of rows as the network takes them."""
    for start in range(0, max(x.shape[0], 1), size):  # no rows at all still give one empty output
        rows = x[start : min(start + size, x.shape[0]), ...]
        if scale is not None:  # of bytes, as a training keeps them, that would be float64
            rows = xp.astype(rows, getattr(xp, net.dtype), copy=False) * scale
        yield rows


def in_batches(net: Model, x: Array, size: int, scale: float | None, proba: bool) -> HostArray:
    """Return the outputs for checked inputs on the device, or what the loss makes of them, on the host."""
    xp = net.backend.xp
    with net.backend.active(), explained(net.backend, "prediction", size):
        parts = [net.output(rows) for rows in slices_of(net, xp, x, size, scale)]
        parts = [net.loss.predict(xp, y) for y in parts] if proba else parts
        result: HostArray = net.backend.to_numpy(parts[0] if len(parts) == 1 else xp.concat(parts, axis=0))
    return result


def outputs(
    net: Model, x: Any, batch_size: int | None, allow_nonfinite: bool, proba: bool, out: Any, scale: float | None,
    answer: Callable[[HostArray], HostArray],
) -> HostArray:  # fmt: skip
    """Return on the host, or write to `out`, the answers made of the network's outputs.

    With `proba` they are made of what its loss makes of the outputs.
    """
    check_flag("allow_nonfinite", allow_nonfinite)
    size = rows_at_once(net, batch_size)
    answers: list[HostArray] = []
    for rows, first, piece in _pieces(net, x, size, scale, allow_nonfinite, out is not None):
        result = in_batches(net, piece, size, scale, proba)
        if not allow_nonfinite and not np.isfinite(result).all():
            row = int(np.flatnonzero(~np.isfinite(result).all(axis=1))[0]) + first
            raise NonFiniteError(f"the network's output for row {row} {NOT_FINITE}")
        answers.append(answer(result))
        if out is not None:
            if first == 0:
                _check_out(out, rows, answers[0])
            out[first : first + len(result)] = answers.pop()
    return out if out is not None else answers[0] if len(answers) == 1 else np.concatenate(answers)


def _check_out(out: Any, rows: int, answer: HostArray) -> None:
    """Raise unless answers for so many rows fit into `out`."""
    wanted = (rows, *answer.shape[1:])
    if tuple(getattr(out, "shape", ())) != wanted:
        raise ShapeError(f"out must have shape {wanted}, got {tuple(getattr(out, 'shape', ()))}")
    if not np.can_cast(answer.dtype, out.dtype, "same_kind"):
        raise DTypeError(f"out must take {answer.dtype}, got dtype {out.dtype}")


def predict(
    net: Model, x: Any, *, batch_size: int | None, allow_nonfinite: bool, out: Any = None, scale: float | None = None
) -> HostArray:  # fmt: skip
    """See `Network.predict`."""

    if allow_nonfinite is True and net.labels is not None:
        raise ConfigError(
            "allow_nonfinite answers -1 where there is no class, which is no label; set net.labels = None before"
        )

    def answer(y: HostArray) -> HostArray:
        found = numbers(y)
        return found if net.labels is None else net.labels[found]

    def numbers(y: HostArray) -> HostArray:
        if net.loss.kind == "regression":
            return y
        bad = ~np.isfinite(y).all(axis=1)
        if net.loss.kind == "classification":
            labels = np.argmax(y, axis=1) if len(y) else np.zeros(0, dtype=np.int64)
            labels[bad] = -1  # a label is never taken from NaN
            return labels
        decisions = (y > 0).astype(np.int64)
        decisions[bad] = -1
        return decisions[:, 0] if decisions.shape[1] == 1 else decisions

    return outputs(net, x, batch_size, allow_nonfinite, net.loss.kind == "regression", out, scale, answer)


def predict_proba(
    net: Model, x: Any, *, batch_size: int | None, allow_nonfinite: bool, out: Any = None, scale: float | None = None
) -> HostArray:  # fmt: skip
    """See `Network.predict_proba`."""
    if net.loss.kind == "regression":
        raise ConfigError(
            f"predict_proba needs a classification loss, but the network has {type(net.loss).__name__}; use predict, "
            "or build the network with loss='cross_entropy'"
        )

    def answer(p: HostArray) -> HostArray:
        return np.concatenate([1 - p, p], axis=1) if net.loss.kind == "binary" and p.shape[1] == 1 else p

    return outputs(net, x, batch_size, allow_nonfinite, True, out, scale, answer)


def with_targets(net: Model, x: Any, t: Any, size: int, scale: float | None) -> Iterator[tuple[int, Array, Array]]:
    """Yield the first row of a piece, the piece and its targets; what is on the device is one piece."""
    if not isinstance(x, Rows):
        yield 0, x, t
        return
    for _, first, piece in _pieces(net, x, size, scale):
        count = int(piece.shape[0])
        targets = _read("t", t, first, first + count)
        outputs, backend = net.output_shape[0], net.backend
        yield first, piece, check_targets(targets, count, outputs, net.loss, backend, net.dtype, first=first)


def checked(net: Model, x: Any, t: Any, by_pieces: bool = False, suffix: str = "") -> tuple[Any, Any]:
    """Return checked inputs and targets as `score` takes them: on the device, or as rows to be read."""
    backend, names = net.backend, (f"x{suffix}", f"t{suffix}")
    rows, targets = rows_of(x), rows_of(t)
    if rows is None and (targets is not None or by_pieces) and not stays(x, backend):
        rows = Rows(to_host(names[0], x, backend))
    if rows is None:
        x = check_inputs(x, net.input_shape, backend, net.dtype, name=names[0])
        t = in_memory(t)
        return x, check_targets(t, x.shape[0], net.output_shape[0], net.loss, backend, net.dtype, name=names[1])
    check_numeric(names[0], rows)
    check_shape(names[0], rows.shape, net.input_shape)
    targets = Rows(on_host(names[1], t, backend)) if targets is None else targets
    check_length(len(rows), targets.shape, names[1])
    return rows, targets
