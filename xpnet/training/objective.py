"""What a training makes small, and its gradient: the network's loss and penalties, in its own precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, nan
from typing import Any

from xpnet.layers import Context
from xpnet.model.core import Model
from xpnet.training.feed import Batch
from xpnet.typing import Array, LayerParams


class Objective:
    """The loss plus penalties; the base of other objectives.

    Parameters
    ----------
    net : Model

    Attributes
    ----------
    precision : str or None
        The name of the half precision in which passes are computed.
    largest : float
        The largest number that it has, if it is a half precision.
    skips : bool
        Whether a step whose gradient is not finite is skipped.
    """

    precision: str | None = None
    largest = inf
    skips = False

    def __init__(self, net: Model) -> None:
        self.net = net

    def arrays(self) -> dict[str, Array]:
        """Return arrays of its own that a step changes and later steps depend on."""
        return {}

    def inputs(self, x: Array) -> Array:
        """Return checked inputs in the precision of the passes."""
        return x

    def rounded(self, xp: Any, x: Array) -> Array:
        """Return a step's inputs in the precision of the passes."""
        return x

    def differentiate(
        self, xp: Any, a: Mapping[str, Array], batch: Batch, contexts: Sequence[Context]
    ) -> tuple[Array, LayerParams, list[Any]]:
        """Return the loss without penalties, each layer's gradients, and the layers' caches."""
        params = self.net.layout.split(xp, a["theta"])
        return self.net.differentiate(xp, params, batch.x, batch.t, batch.weight, contexts)

    def finish(self, xp: Any, a: Mapping[str, Array], batch: Batch, value: Array) -> Array:
        """Add the penalties to the gradient in ``a["gradient"]`` and to the loss, which is returned."""
        return self.net.penalize(xp, value, a["theta"], a["gradient"])

    def good(self, xp: Any, a: Mapping[str, Array]) -> Array | None:
        """Return whether the step counts, an array of no dimensions; None if every step does."""
        return None

    def count(self, xp: Any, a: Mapping[str, Array], value: Array, share: Any, good: Array | None) -> None:
        """Add the step's L to the epoch's sum."""
        loss = a["loss"]
        loss += share * value
        if "seen" in a:
            seen = a["seen"]
            seen += share

    def mean(self, total: float, done: float) -> float:
        """Return the epoch's mean L, given the sum and what has been counted."""
        return total / max(done, 1e-30) if done or not self.skips else nan

    def advice(self) -> str:
        """Return what else to try when numbers are not finite."""
        return ""
