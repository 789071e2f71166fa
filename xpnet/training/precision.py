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
from dataclasses import dataclass
from importlib import import_module
from math import nan
from typing import Any

import numpy as np

from xpnet.backends import Backend
from xpnet.errors import ConfigError, DataError, closest
from xpnet.layers import Context
from xpnet.model.core import Model
from xpnet.training.feed import Batch
from xpnet.training.objective import Objective
from xpnet.typing import Array, LayerParams


@dataclass(frozen=True)
class Format:
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
    """

    name: str
    largest: float
    initial: float
    minimum: float
    maximum: float
    patience: int = 2000


FORMATS = {
    "float16": Format("float16", 65504.0, 2.0**15, 2.0**-14, 2.0**24),
    # Its exponents are those of float32: the scale has nothing to do, and a gradient that is not finite is an error.
    "bfloat16": Format("bfloat16", 3.38953e38, 1.0, 1.0, 1.0),
}


def objective_of(net: Model, precision: Any) -> Objective:
    """Return the objective in the precision of this name, or in the network's own for None."""
    if precision is None:
        return Objective(net)
    if not isinstance(precision, str) or precision not in FORMATS:
        raise ConfigError(
            f"precision must be None, 'float16' or 'bfloat16', got {precision!r}.{closest(str(precision), FORMATS)}"
        )
    if net.dtype != "float32":
        raise ConfigError(
            f"precision={precision!r} needs a network of float32, which its parameters stay in; this one is of "
            f"{net.dtype}. Build it with dtype='float32', or train it with precision=None"
        )
    return MixedPrecision(net, FORMATS[precision])


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


class MixedPrecision(Objective):
    """The network's objective with both passes in half precision."""

    skips = True

    def __init__(self, net: Model, format: Format) -> None:
        super().__init__(net)
        self.format, self.precision, self.largest = format, format.name, format.largest
        self.dtype = _dtype(net.backend, format.name)

    def arrays(self) -> dict[str, Array]:
        """Return the scale, the number of good steps in a row, and the number of steps that were skipped."""
        asarray = self.net.backend.asarray
        return {
            "scaling.scale": asarray(np.full(1, self.format.initial, dtype=np.float32)),
            "scaling.good": asarray(np.zeros(1, dtype=np.int64)),
            "scaling.skipped": asarray(np.zeros(1, dtype=np.int64)),
        }

    def inputs(self, x: Array) -> Array:
        """Return checked inputs in half precision, or raise where they do not fit."""
        backend, xp = self.net.backend, self.net.backend.xp
        with backend.active():
            half = xp.astype(x, self.dtype)
            if bool(xp.all(xp.isfinite(half))):
                return half
            place = np.argwhere(~backend.to_numpy(xp.isfinite(half)))[0].tolist()
        raise DataError(
            f"x{place} = {float(x[tuple(place)]):g} is beyond {self.format.largest:g}, the largest {self.precision}; "
            "scale the data, for instance to mean 0 and standard deviation 1, or train with precision=None"
        )

    def rounded(self, xp: Any, x: Array) -> Array:
        return xp.astype(x, self.dtype)

    def differentiate(
        self, xp: Any, a: Mapping[str, Array], batch: Batch, contexts: Sequence[Context]
    ) -> tuple[Array, LayerParams, list[Any]]:
        """Equations (1) to (5)."""
        net, theta = self.net, a["theta"]

        def loss(xp: Any, y: Array, t: Array, weight: Array) -> tuple[Array, Array]:
            value, dy = net.loss(xp, xp.astype(y, theta.dtype), t, weight)
            return value, xp.astype(a["scaling.scale"] * dy, self.dtype)

        params = net.layout.split(xp, xp.astype(theta, self.dtype))
        return net.differentiate(xp, params, batch.x, batch.t, batch.weight, contexts, loss)

    def finish(self, xp: Any, a: Mapping[str, Array], batch: Batch, value: Array) -> Array:
        """Equations (6) to (8)."""
        gradient = a["gradient"]
        gradient /= a["scaling.scale"]
        return super().finish(xp, a, batch, value)

    def good(self, xp: Any, a: Mapping[str, Array]) -> Array:
        """Equation (9): zero times infinity, or NaN, is NaN."""
        return xp.sum(0.0 * a["gradient"]) == 0.0

    def count(self, xp: Any, a: Mapping[str, Array], value: Array, share: Any, good: Array | None) -> None:
        """Add L to the epoch's sum, and find the next step's scale: equations (11) to (13).

        The forward pass has nothing to do with the scale: its loss counts unless it is not finite itself.
        """
        loss, seen, finite = a["loss"], a["seen"], 0.0 * value == 0.0
        loss += xp.where(finite, share * value, 0.0)
        seen += share * xp.astype(finite, value.dtype)
        scale, run, skipped = a["scaling.scale"], a["scaling.good"], a["scaling.skipped"]
        run[...] = xp.where(good, run + 1, 0)
        grows = run >= self.format.patience
        larger = xp.where(grows, xp.minimum(2.0 * scale, self.format.maximum), scale)
        smaller = xp.where(0.5 * scale >= self.format.minimum, 0.5 * scale, nan)
        scale[...] = xp.where(good, larger, smaller)
        run[...] = xp.where(grows, 0, run)
        skipped += 1 - xp.astype(good, skipped.dtype)

    def advice(self) -> str:
        return f", or precision=None ({self.precision} ends at {self.format.largest:g})"
