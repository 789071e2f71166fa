"""Training in mixed precision: data, weights, activations and deltas of 16 bits, everything that adds up in float32.

The parameters theta stay in float32, and so do the optimizer's vectors, averages, the loss and the penalties. f16(...)
rounds to the half precision, f32(...) widens, which is exact. A step, with the scale S of the loss and the number n of
good steps in a row:

    h = f16(theta)                                      (P,)       (1)
    y = forward(h, x)                                   (B, O)     (2)
    L = loss(f32(y), t, weight)                         ()         (3)
    dy = dL / df32(y)                                   (B, O)     (4)
    dh = backward(h, f16(S * dy))                       (P,)       (5)
    g = f32(dh) / S                                     (P,)       (6)
    L = L + l1 * sum(abs(W)) + l2 / 2 * sum(W ** 2)     ()         (7)
    g = g + l1 * sign(W) + l2 * W                       (P,)       (8)
    good = all(isfinite(g))                             ()         (9)
    theta = update(theta, g) if good else theta         (P,)       (10)
    n = n + 1 if good else 0                            ()         (11)
    S = (2 * S if n == 2000 else S) if good else S / 2  ()         (12)
    n = 0 if n == 2000 else n                           ()         (13)

Without S, deltas below 6e-8, the smallest float16 above zero, would be lost; a power of two takes them up and rounds
nothing. Where it takes others beyond 65504, the largest, the gradient is not finite: the step is skipped and S is
halved, which is the way in which S is found, and no error. Nothing of this is decided on the host.

If S would fall below its minimum, the numbers are infinite of themselves; S becomes NaN then, and is found, like any
other number that is not finite, by whoever looks after the training.

References
----------
Micikevicius et al., "Mixed precision training", ICLR 2018, arXiv:1710.03740, sections 3.1 to 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from math import nan
from typing import Any

import numpy as np

from xpnet.backends import Backend
from xpnet.errors import ConfigError, DataError, closest
from xpnet.layers import Context
from xpnet.network import Network, backward_pass, forward_pass
from xpnet.optimizers import Optimizer
from xpnet.training.step import Step, count, make_update, new_statistics, take_batch, training_contexts
from xpnet.typing import Array

PREFIX = "scaling."
"""How the names of the arrays of `MixedPrecision.arrays` begin among those of a training."""


@dataclass(frozen=True)
class MixedPrecision:
    """A data type of 16 bits, and how the loss is scaled for it.

    Attributes
    ----------
    name : str
    largest : float
        The largest number of the type, as messages give it.
    initial, minimum, maximum : float
        The scale S at the beginning, and its bounds: powers of two, so that scaling rounds nothing.
    patience : int
        After so many good steps in a row S is doubled.
    dtype : object
        The data type in the terms of the array library.
    """

    name: str
    largest: float
    initial: float
    minimum: float
    maximum: float
    patience: int = 2000
    dtype: Any = None

    def arrays(self, backend: Backend) -> dict[str, Array]:
        """Return the scale, the number of good steps in a row, and the number of steps that were skipped."""
        return {
            "scaling.scale": backend.asarray(np.full(1, self.initial, dtype=np.float32)),
            "scaling.good": backend.asarray(np.zeros(1, dtype=np.int64)),
            "scaling.skipped": backend.asarray(np.zeros(1, dtype=np.int64)),
        }

    def inputs(self, x: Array, backend: Backend) -> Array:
        """Return checked inputs in half precision, or raise where they do not fit."""
        xp = backend.xp
        with backend.active():
            half = xp.astype(x, self.dtype)
            if bool(xp.all(xp.isfinite(half))):
                return half
            place = np.argwhere(~backend.to_numpy(xp.isfinite(half)))[0].tolist()
        raise DataError(
            f"x{place} = {float(x[tuple(place)]):g} is beyond {self.largest:g}, the largest {self.name}; scale the "
            "data, for instance to mean 0 and standard deviation 1, or train with precision=None"
        )


FORMATS = {
    "float16": MixedPrecision("float16", 65504.0, 2.0**15, 2.0**-14, 2.0**24),
    # Its exponents are those of float32: the scale has nothing to do, and a gradient that is not finite is an error.
    "bfloat16": MixedPrecision("bfloat16", 3.38953e38, 1.0, 1.0, 1.0),
}


def resolve(net: Network, precision: Any) -> MixedPrecision | None:
    """Return what the name of a precision stands for on the network's backend; None for None."""
    if precision is None:
        return None
    if not isinstance(precision, str) or precision not in FORMATS:
        raise ConfigError(
            f"precision must be None, 'float16' or 'bfloat16', got {precision!r}.{closest(str(precision), FORMATS)}"
        )
    if net.dtype != "float32":
        raise ConfigError(
            f"precision={precision!r} needs a network of float32, which its parameters stay in; this one is of "
            f"{net.dtype}. Build it with dtype='float32', or train it with precision=None"
        )
    return replace(FORMATS[precision], dtype=_dtype(net.backend, precision))


def _dtype(backend: Backend, name: str) -> Any:
    """Return a half precision's data type, if the backend has it."""
    found = getattr(backend.xp, name, None)
    on_cupy = backend.name.partition(":")[0] == "cupy"
    if found is None and name == "bfloat16" and on_cupy:  # CuPy knows it, but not by name
        try:
            found = np.dtype(import_module("ml_dtypes").bfloat16)
        except ImportError:
            raise ConfigError(
                "precision='bfloat16' on CuPy needs the package ml_dtypes. Install it: pip install ml_dtypes; or use "
                "precision='float16'"
            ) from None
    if found is None:
        other = "precision='float16' or " if name == "bfloat16" and hasattr(backend.xp, "float16") else ""
        raise ConfigError(f"backend {backend.name!r} has no {name}; use {other}precision=None, which is float32")
    return found


def make_mixed_step(net: Network, optimizer: Optimizer, batch: int, mixed: MixedPrecision) -> Step:
    """Return the training step in mixed precision; what `make_step` says of its own holds of this."""
    apply = make_update(net, optimizer, skips=True)

    def step(xp: Any, a: Mapping[str, Array]) -> None:
        x, t, weight, total = take_batch(xp, a, batch)
        contexts = training_contexts(net, a)
        value, caches = objective(
            net, mixed.dtype, xp, a["theta"], a["gradient"], a["scaling.scale"], x, t, weight, contexts
        )
        good = xp.sum(0.0 * a["gradient"]) == 0.0  # (9): zero times infinity, or NaN, is NaN
        for statistic, new in new_statistics(xp, net, contexts, caches):
            statistic[...] = xp.where(good, xp.astype(new, statistic.dtype), statistic)

        apply(xp, {**a, "good": good})  # (10)

        # The forward pass has nothing to do with the scale: its loss counts unless it is not finite itself.
        loss, seen, finite = a["loss"], a["seen"], 0.0 * value == 0.0
        loss += xp.where(finite, total * value, 0.0)
        seen += total * xp.astype(finite, value.dtype)
        adapt(xp, a, good, mixed)
        count(a, batch)

    return step


def objective(
    net: Network, half: Any, xp: Any, theta: Array, gradient: Array, scale: Array, x: Array, t: Array, weight: Array,
    contexts: Sequence[Context],
) -> tuple[Array, list[Any]]:  # fmt: skip
    """Do what `Network.objective` does, the two passes in half precision: equations (1) to (8)."""
    params = net.split(xp, xp.astype(theta, half))
    y, caches = forward_pass(xp, net.layers, params, x, contexts)
    value, dy = net.loss(xp, xp.astype(y, theta.dtype), t, weight)
    dy = xp.astype(scale * dy, half)
    _, grads = backward_pass(xp, net.layers, params, caches, dy, contexts, net._first_trainable)
    for views, computed in zip(net.split(xp, gradient), grads, strict=True):
        for name, view in views.items():
            view[...] = computed[name]
    gradient /= scale
    return net.penalize(xp, value, theta, gradient), caches


def adapt(xp: Any, a: Mapping[str, Array], good: Array, mixed: MixedPrecision) -> None:
    """Find the next step's scale, equations (11) to (13), and count."""
    scale, run, skipped = a["scaling.scale"], a["scaling.good"], a["scaling.skipped"]
    run[...] = xp.where(good, run + 1, 0)
    grows = run >= mixed.patience
    larger = xp.where(grows, xp.minimum(2.0 * scale, mixed.maximum), scale)
    smaller = xp.where(0.5 * scale >= mixed.minimum, 0.5 * scale, nan)
    scale[...] = xp.where(good, larger, smaller)
    run[...] = xp.where(grows, 0, run)
    skipped += 1 - xp.astype(good, skipped.dtype)
