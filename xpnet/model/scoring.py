"""The mean loss and the accuracy on given data, added up on the device; captured if they are wanted again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from xpnet.backends.base import Program
from xpnet.model.core import Model
from xpnet.model.memory import explained
from xpnet.model.predict import rows_at_once, slices_of, with_targets
from xpnet.model.rows import Rows
from xpnet.typing import Array, HostArray


def correct(net: Model, xp: Any, y: Array, t: Array) -> Array:
    """Return 1.0 for every sample whose label is predicted right, else 0.0, on the device (B,)."""
    if net.loss.kind == "binary":
        return xp.astype(xp.all((y > 0) == (t > 0.5), axis=1), y.dtype)
    label = t if t.ndim == 1 else xp.argmax(t, axis=1)
    return xp.astype(xp.argmax(y, axis=1) == label, y.dtype)


def _totals(
    net: Model, xp: Any, answer: Callable[[Array], Array], x: Array, t: Array, weight: Array, size: int,
    scale: float | None,
) -> list[Array]:  # fmt: skip
    """Return for each `size` rows the weighted sum of their losses, and of those that are predicted right.

    `answer` gives the network's outputs for rows.
    """
    found, start = [], 0
    for rows in slices_of(net, xp, x, size, scale):
        y = answer(rows)
        stop = start + y.shape[0]
        w, target = weight[start:stop], t[start:stop] if t.ndim == 1 else t[start:stop, ...]
        loss, _ = net.loss(xp, y, target, w)
        found.append(
            xp.stack([loss] if net.loss.kind == "regression" else [loss, xp.sum(w * correct(net, xp, y, target))])
        )
        start = stop
    return found


def _scaled(weight: HostArray) -> HostArray:
    """Return weights whose mean is 1: ones, unless the samples are weighted, so that counts of hits are exact."""
    scaled: HostArray = weight * (len(weight) / weight.sum())
    return scaled


def _means(net: Model, totals: Array, samples: int) -> dict[str, float]:
    """Return the means by their names; this is where the host waits."""
    means = net.backend.to_numpy(totals).astype(np.float64).sum(axis=0) / samples
    return dict(zip(("loss", "accuracy"), map(float, means), strict=False))


def score(
    net: Model, x: Any, t: Any, weight: HostArray, batch_size: int | None, scale: float | None = None
) -> dict[str, float]:  # fmt: skip
    """Return the weighted mean loss and accuracy of checked arrays on the device; one host read at the end.

    Inputs that lie elsewhere come as `Rows`, with their targets as such, and are read and checked on the way.
    """
    xp, backend = net.backend.xp, net.backend
    totals: list[Array] = []
    size = rows_at_once(net, batch_size)
    with backend.active(), explained(backend, "evaluation", size):
        weights = backend.asarray(_scaled(weight).astype(net.dtype))
        for first, piece, targets in with_targets(net, x, t, size, scale):
            own = weights[first : first + piece.shape[0]]
            totals += _totals(net, xp, net.output, piece, targets, own, size, scale)
        return _means(net, xp.stack(totals), len(weight))


class Scorer:
    """The score of data that stay where they are, as often as it is asked for.

    Asked a second time, a device that works ahead of the host captures all of it as one graph.
    """

    def __init__(self, net: Model, x: Any, t: Any, weight: HostArray, scale: float | None) -> None:
        self._net, self._data = net, (x, t, weight, scale)
        self._size, self._times = rows_at_once(net, None), 0
        self._arrays: dict[str, Array] = {}
        self._program: Program | None = None

    def __call__(self) -> dict[str, float]:
        net, (x, t, weight, scale) = self._net, self._data
        self._times += 1
        if self._times == 1 or isinstance(x, Rows) or not net.backend.asynchronous:
            return score(net, x, t, weight, None, scale)
        with net.backend.active(), explained(net.backend, "evaluation", self._size):
            given = {"theta": net.theta} | {f"state.{name}": value for name, value in net.state.items()}
            if self._program is None or any(self._arrays[name] is not array for name, array in given.items()):
                self._capture(given)
            assert self._program is not None
            self._program(1)
            return _means(net, self._arrays["totals"], len(weight))

    def _capture(self, given: dict[str, Array]) -> None:
        net, (x, t, weight, scale), size = self._net, self._data, self._size
        shape = (-(-x.shape[0] // size), 1 if net.loss.kind == "regression" else 2)
        own = {"weight": _scaled(weight).astype(net.dtype), "totals": np.zeros(shape, net.dtype)}
        arrays = given | {"x": x, "t": t} | {name: net.backend.asarray(array) for name, array in own.items()}

        def step(xp: Any, a: Mapping[str, Array]) -> None:
            state = {name: a[f"state.{name}"] for name in net.state}
            answer = partial(net.answer, xp, a["theta"], state)
            # Not stacked: for more than eight arrays CuPy moves addresses to the device, which cannot be captured.
            for k, found in enumerate(_totals(net, xp, answer, a["x"], a["t"], a["weight"], size, scale)):
                a["totals"][k, ...] = found

        self._arrays, self._program = arrays, net.backend.capture(step, arrays, [arrays["totals"]])
