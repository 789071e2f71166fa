"""The training step, as one function of arrays that a backend can capture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from xpnet.backends.base import Step
from xpnet.errors import ConfigError, PromiseError
from xpnet.layers import Context, Watch
from xpnet.layers.base import joined
from xpnet.model.core import Model
from xpnet.optimizers import Optimizer
from xpnet.training.arrays import statistics
from xpnet.training.feed import Batch, Feed
from xpnet.training.objective import Objective
from xpnet.typing import Array, HostArray


def make_step(
    net: Model, feed: Feed, objective: Objective, optimizer: Optimizer, size: int, watch: Watch | None = None
) -> Step:
    """Return the training step for batches of `size` samples.

    The step takes the array namespace and the training's arrays, changes these in place, reads nothing back to the host
    and lets no value decide what it does next: so it can be captured once and replayed. `watch` is shown what passes
    through the layers.
    """
    finish = make_finish(net, objective, optimizer, size)

    def step(xp: Any, a: Mapping[str, Array]) -> None:
        batch = feed.batch(xp, a, size)
        value, new = pass_through(xp, net, objective, a, batch, a["gradient"], watch)
        finish(xp, a, batch, value, new)

    return step


def pass_through(
    xp: Any, net: Model, objective: Objective, a: Mapping[str, Array], batch: Batch, gradient: Array,
    watch: Watch | None = None, first: int = 0,
) -> tuple[Array, dict[str, Array]]:  # fmt: skip
    """Do the first part of a step, forward and back: write dL/dtheta, return L and the new running statistics.

    Neither has penalties yet, nor is it unscaled. The samples may be a slice of a batch, from its place `first` on.
    """
    contexts = net.contexts(True, a["step"], statistics(a), watch, first)
    value, grads, caches = objective.differentiate(xp, a, batch, contexts)
    net.collect(xp, gradient, grads)
    return value, new_statistics(xp, net, contexts, caches)


def new_statistics(xp: Any, net: Model, contexts: Sequence[Context], caches: Sequence[Any]) -> dict[str, Array]:
    """Return the running statistics after a forward pass, by the network's names."""
    parts = zip(net.layers, contexts, caches, strict=True)
    return joined({context.place: layer.update_state(xp, context.state, cache) for layer, context, cache in parts})


def make_finish(net: Model, objective: Objective, optimizer: Optimizer, size: int) -> Callable[..., None]:
    """Return the second part of a step: given what `pass_through` gave, everything changes."""
    update = make_update(net, optimizer, objective.skips)

    def finish(xp: Any, a: Mapping[str, Array], batch: Batch, value: Array, new: Mapping[str, Array]) -> None:
        value = objective.finish(xp, a, batch, value)
        good = objective.good(xp, a)
        for name, old in statistics(a).items():
            if name in new:
                old[...] = new[name] if good is None else xp.where(good, xp.astype(new[name], old.dtype), old)
        update(xp, a, good)
        objective.count(xp, a, value, batch.share, good)
        cursor, position, number = a["cursor"], a["position"], a["step"]
        cursor += size
        position += 1
        number += 1

    return finish


def make_update(net: Model, optimizer: Optimizer, skips: bool) -> Callable[[Any, Mapping[str, Array], Any], None]:
    """Return the second half of a step: from the gradient to the new parameters.

    If it `skips`, nothing but the gradient changes where its argument `good` (0-d, boolean) is false.
    """
    update = skipping(optimizer) if skips else in_place(optimizer)
    fused = net.backend.fuse(lambda *arrays: update(net.backend.xp, *arrays))

    def apply(xp: Any, a: Mapping[str, Array], good: Array | None) -> None:
        theta, g = a["theta"], a["gradient"]
        row = xp.take(a["scalars"], a["position"], axis=0)  # this step's learning rate and the like
        *scalars, rate, blend = [row[0, k : k + 1] for k in range(row.shape[1])]
        if "factors" in a:
            rate, scalars[0] = rate * a["factors"][: net.layout.decayed], scalars[0] * a["factors"]
        if good is not None:
            done = xp.astype(good, theta.dtype)
            rate, blend, scalars = rate * done, blend * done, [*scalars, good]
        if optimizer.clip_value is not None:
            g[...] = xp.maximum(xp.minimum(g, optimizer.clip_value), -optimizer.clip_value)
        if optimizer.clip_norm is not None:
            g *= xp.minimum(1.0, optimizer.clip_norm / xp.maximum(xp.sqrt(xp.sum(g * g)), 1e-30))
        if optimizer.weight_decay:
            W = theta[: net.layout.decayed]
            W *= 1.0 - optimizer.weight_decay * rate
        arrays = (theta, g, *(a[f"slot.{name}"] for name in optimizer.slots), *scalars)
        if xp is net.backend.xp:
            fused(*arrays)
        else:  # the step is being recorded, and will be fused as a whole
            update(xp, *arrays)
        if "average" in a:
            average = a["average"]
            average += blend * (theta - average)

    return apply


def in_place(optimizer: Optimizer) -> Callable[..., None]:
    """Return `optimizer.update`, refusing a result, which nobody would read."""

    def update(xp: Any, *arrays: Array) -> None:
        if optimizer.update(xp, *arrays) is not None:  # type: ignore[func-returns-value]
            raise PromiseError(
                f"{type(optimizer).__name__}.update returned something, which is not used; it must change theta in "
                "place, e.g. theta -= rate * g, and return nothing"
            )

    return update


def rate_factors(net: Model, optimizer: Optimizer) -> HostArray:
    """Return by what each parameter's learning rate is multiplied, laid out like theta."""
    given, vector, known = dict(optimizer.factors), np.ones(net.layout.size, net.dtype), set()
    for place in net.layout.places:
        names = {place.key, place.name.rpartition(".")[2]}
        known |= names
        for name in sorted(names & given.keys(), key=len):  # the longer name says more
            vector[place.start : place.stop] = given[name]
    unknown = given.keys() - known
    if unknown:
        raise ConfigError(f"factors name {', '.join(sorted(unknown))}; parameters are {', '.join(sorted(known))}")
    return vector


def skipping(optimizer: Optimizer) -> Callable[..., None]:
    """Return `optimizer.update` with one more argument `good`: where that is false, nothing changes.

    The new values are computed all the same, and chosen, so that NaN in the gradient goes nowhere. It is elementwise
    like the update itself, and becomes one kernel with it.
    """
    count = 1 + len(optimizer.slots)

    def update(xp: Any, theta: Array, g: Array, *rest: Array) -> None:
        *others, good = rest
        old = [theta, *others[: count - 1]]
        new = [a * 1.0 for a in old]  # a copy, bit by bit
        optimizer.update(xp, new[0], g, *new[1:], *others[count - 1 :])
        for a, b in zip(old, new, strict=True):
            a[...] = xp.where(good, b, a)

    return update
