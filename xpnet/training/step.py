"""The training step, as one function of arrays that a backend can capture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from xpnet.layers import Context
from xpnet.network import Network
from xpnet.optimizers import Optimizer
from xpnet.typing import Array, HostArray

Step = Callable[[Any, Mapping[str, Array]], None]


def epoch_order(seed: int, epoch: int, samples: int) -> HostArray:
    """Return the order of the samples in epoch number `epoch`: a function of these three numbers alone."""
    return np.random.default_rng([seed, 0x0E0C, epoch]).permutation(samples)


def make_step(net: Network, optimizer: Optimizer, batch: int) -> Step:
    """Return the training step for batches of `batch` samples.

    The step takes the array namespace and the run's arrays, changes these in place, reads nothing back to
    the host and lets no value decide what it does next: so it can be captured once and replayed.
    """
    apply = make_update(net, optimizer)

    def step(xp: Any, a: Mapping[str, Array]) -> None:
        x, t, weight, total = take_batch(xp, a, batch)
        if "seen" in a:
            seen = a["seen"]
            seen += total
        contexts = training_contexts(net, a)
        value, caches = net.objective(xp, a["theta"], a["gradient"], x, t, weight, contexts)
        for statistic, new in new_statistics(xp, net, contexts, caches):
            statistic[...] = new

        apply(xp, a)

        loss = a["loss"]
        loss += total * value
        count(a, batch)

    return step


def take_batch(xp: Any, a: Mapping[str, Array], batch: int) -> tuple[Array, Array, Array, Any]:
    """Return the step's inputs, targets, weights that sum to 1, and what they summed to before."""
    theta, cursor = a["theta"], a["cursor"]
    rows = xp.take(a["order"], cursor + xp.arange(batch, dtype=cursor.dtype, device=cursor.device), axis=0)
    x, t = xp.take(a["x"], rows, axis=0), xp.take(a["t"], rows, axis=0)
    if "weight" not in a:
        return x, t, xp.full((batch,), 1.0 / batch, dtype=theta.dtype, device=theta.device), float(batch)
    weight = xp.take(a["weight"], rows, axis=0)
    total = xp.sum(weight)
    return x, t, weight / xp.maximum(total, 1e-30), total  # weights that are all zero give a gradient of zero


def training_contexts(net: Network, a: Mapping[str, Array]) -> list[Context]:
    """Return what each layer is told in this step."""
    return net.contexts(True, a["step"], {name[6:]: value for name, value in a.items() if name.startswith("state.")})


def new_statistics(
    xp: Any, net: Network, contexts: Sequence[Context], caches: Sequence[Any]
) -> Iterator[tuple[Array, Array]]:
    """Yield each running statistic, and what it is after the step."""
    for layer, context, cache in zip(net.layers, contexts, caches, strict=True):
        for name, new in layer.update_state(xp, context.state, cache).items():
            yield context.state[name], new


def count(a: Mapping[str, Array], batch: int) -> None:
    """Go on to the next step."""
    cursor, position, number = a["cursor"], a["position"], a["step"]
    cursor += batch
    position += 1
    number += 1


def make_update(net: Network, optimizer: Optimizer, skips: bool = False) -> Step:
    """Return the second half of a step: from the gradient to the new parameters.

    If it `skips`, nothing but the gradient changes where the array "good" (0-d, boolean) is false.
    """
    update = skipping(optimizer) if skips else optimizer.update
    fused = net.backend.fuse(lambda *arrays: update(net.backend.xp, *arrays))

    def apply(xp: Any, a: Mapping[str, Array]) -> None:
        theta, g = a["theta"], a["gradient"]
        row = xp.take(a["scalars"], a["position"], axis=0)  # this step's learning rate and the like
        *scalars, rate, blend = [row[0, k : k + 1] for k in range(row.shape[1])]
        if skips:
            done = xp.astype(a["good"], theta.dtype)
            rate, blend, scalars = rate * done, blend * done, [*scalars, a["good"]]
        if optimizer.clip_value is not None:
            g[...] = xp.maximum(xp.minimum(g, optimizer.clip_value), -optimizer.clip_value)
        if optimizer.clip_norm is not None:
            g *= xp.minimum(1.0, optimizer.clip_norm / xp.maximum(xp.sqrt(xp.sum(g * g)), 1e-30))
        if optimizer.weight_decay:
            W = theta[: net._decayed]
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
