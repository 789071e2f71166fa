"""A training step aside: made from where a training is, looked at, and thrown away."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from xpnet.layers.shapes import every_layer
from xpnet.model.core import Model
from xpnet.training.arrays import DATA, Arrays, statistics
from xpnet.training.trainer import Trainer
from xpnet.typing import Array, HostArray

MEASURES = 4
"""Numbers for each quantity: sum, sum of squares, largest absolute value, number of zeros."""


def measures(xp: Any, a: Array) -> list[Array]:
    """Return the four numbers of an array, each an array of no dimensions."""
    return [xp.sum(a), xp.sum(a * a), xp.max(xp.abs(a)), xp.sum(xp.astype(a == 0.0, a.dtype))]


def measures_of_parts(xp: Any, a: Array, parts: Mapping[str, tuple[int, int]]) -> dict[str, list[Array]]:
    """Return the four numbers of each part, from start to stop, of a vector."""
    squares, sizes, zeros = a * a, xp.abs(a), xp.astype(a == 0.0, a.dtype)
    return {
        name: [xp.sum(a[i:j]), xp.sum(squares[i:j]), xp.max(sizes[i:j]), xp.sum(zeros[i:j])]
        for name, (i, j) in parts.items()
    }


def gradient_of(name: str) -> str:
    """Return the name of a parameter's gradient: "3.0.dW" for "3.0.W"."""
    place, _, short = name.rpartition(".")
    return f"{place}.d{short}"


def quantities(net: Model, rows: int) -> dict[str, int]:
    """Return the names of what a record has of a network, and the number of entries of each."""
    sizes = {}
    for item in every_layer(net.layers, net.input_shape):
        sizes[f"{item.place}.y"] = rows * prod(item.after)
        if item.reached:  # below, no delta is computed
            sizes[f"{item.place}.delta"] = rows * prod(item.after)
        if not item.layer.chains:  # the layers inside have them
            for name, shape in item.layer.parameter_shapes().items():
                sizes |= {f"{item.place}.{name}": prod(shape), f"{item.place}.d{name}": prod(shape)}
    return sizes | {name: prod(value.shape) for name, value in net.state.items()}


class Probe:
    """The step, as one program of the backend, with arrays of its own.

    It is the trainer's step, with the same samples each time: as many as a batch has, chosen by the network's seed.

    Attributes
    ----------
    net : Model
    trainer : Trainer
    sizes : dict
        The number of entries of each quantity, by its name.
    """

    def __init__(self, trainer: Trainer) -> None:
        net = self.net = trainer.net
        self.trainer, backend = trainer, net.backend
        self._seen: dict[str, Array] = {}
        self._parts = {p.key: (p.start, p.stop) for p in sorted(net.layout.places, key=lambda p: p.start)}
        rows = np.random.default_rng([net.seed, 0x0B5E]).permutation(trainer.feed.samples)[: trainer.feed.batch_size]
        self.sizes = quantities(net, len(rows))
        train = trainer.make_step(len(rows), self._watch)

        def step(xp: Any, a: Mapping[str, Array]) -> None:
            own = {name[4:]: array for name, array in a.items() if name.startswith("own.")}
            before = {name[5:]: array for name, array in a.items() if name.startswith("from.")}
            for name, array in before.items():
                own[name][...] = array
            for name in self._counts:
                own[name][...] = 0
            self._seen.clear()
            train(xp, own)
            numbers = self._record(xp, before, own)
            for k, number in enumerate(numbers):  # not stacked: for that CuPy moves addresses to the device
                a["record"][k] = number

        with backend.active():
            self._own = self._arrays(np.sort(rows))
            self._result = backend.asarray(np.zeros(MEASURES * len(self.sizes) + len(self._parts), dtype=net.dtype))
            arrays = {f"own.{name}": array for name, array in self._own.items()} | {"record": self._result}
            arrays |= {f"from.{name}": trainer.arrays[name] for name in self._own.carried if name not in self._counts}
            changes = [a for name, a in self._own.items() if self._own.kinds[name] != DATA]
            self._program = backend.compile(step, arrays, [*changes, self._result])

    def _watch(self, place: str, name: str, array: Array) -> None:
        if name in ("y", "delta"):
            self._seen[f"{place}.{name}"] = array

    @property
    def _counts(self) -> list[str]:
        """What begins at zero each time."""
        return [name for name, kind in self._own.kinds.items() if kind.by_epoch]

    def _arrays(self, rows: HostArray) -> Arrays:
        """Return the step's own arrays: those of the trainer, with these samples alone as the data."""
        backend, xp, given, own = self.net.backend, self.net.backend.xp, self.trainer.arrays, Arrays()
        own.declare(DATA, self.trainer.feed.some(given, backend, rows))
        own.declare(DATA, {"order": backend.asarray(np.arange(len(rows))), "scalars": backend.asarray(self._scalars())})
        for name, kind in given.kinds.items():
            if kind != DATA and name != "average":
                own.declare(kind, {name: xp.zeros_like(given[name])})
        return own

    def _scalars(self) -> HostArray:
        """Return the coming step's row of the trainer's table of learning rates and the like."""
        return self.trainer.table(range(self.trainer.step, self.trainer.step + 1))

    def _record(self, xp: Any, before: Mapping[str, Array], own: Mapping[str, Array]) -> list[Array]:
        """Return the numbers of the record of a step that led from the arrays `before` to `own`."""
        theta, scale = before["theta"], before.get("scaling.scale")
        gradients = {gradient_of(name): part for name, part in self._parts.items()}
        seen = self._seen
        if scale is not None:  # deltas times it, in half precision, in which sums of squares would overflow
            seen = {name: xp.astype(a, theta.dtype) for name, a in seen.items()}
            seen |= {name: a / scale for name, a in seen.items() if name.endswith(".delta")}
        numbers = {name: measures(xp, a) for name, a in seen.items()}
        numbers |= {name: measures(xp, a) for name, a in statistics(before).items()}
        numbers |= measures_of_parts(xp, theta, self._parts)
        numbers |= measures_of_parts(xp, own["gradient"], gradients)
        update = own["theta"] - theta
        squares = update * update
        updates = [xp.sum(squares[i:j]) for i, j in self._parts.values()]
        return [number for name in self.sizes for number in numbers[name]] + updates

    def read(self, records: HostArray) -> tuple[dict[str, HostArray], dict[str, HostArray]]:
        """Return, from records (R, numbers) on the host, each quantity's (R, 4) mean, root mean square, largest
        absolute value and share of zeros; and each parameter's |update| (R,), a Euclidean norm.
        """
        found, column = {}, 0
        for name, size in self.sizes.items():
            total, squares, largest, zeros = records[:, column : column + MEASURES].astype(np.float64).T
            found[name] = np.stack([total / size, np.sqrt(squares / size), largest, zeros / size], axis=1)
            column += MEASURES
        updates = np.sqrt(records[:, column:].astype(np.float64).T)
        return found, dict(zip(self._parts, updates, strict=True))

    def __call__(self) -> Array:
        """Do the step, and return the record: an array that the next call writes anew."""
        self._own["scalars"][...] = self.net.backend.asarray(self._scalars())
        self._program(1)
        return self._result
