"""Outputs of a network, computed over some rows at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.estimators.sampling import Samples, dense, rows_between
from xpnet.network import Network

Array = Any
HostArray = np.ndarray[Any, Any]

ROWS = 4096
"""Rows computed at once; it limits memory only."""


def outputs(net: Network, x: Any) -> Array:
    """Return the last layer's output (N, O) for samples that `to_device` returned."""
    with net.backend.active():
        parts = [
            net._output(dense(rows_between(x, start, start + ROWS), net.backend, net.dtype))
            for start in range(0, max(int(x.shape[0]), 1), ROWS)
        ]
        return parts[0] if len(parts) == 1 else net.backend.xp.concat(parts, axis=0)


def mean_loss(net: Network, y: Array, samples: Samples) -> float:
    """Return the weighted mean of the samples' losses for outputs `y`, without penalties."""
    backend = net.backend
    weight = np.ones(len(samples)) if samples.weight is None else samples.weight
    with backend.active():
        w = backend.asarray((weight / weight.sum()).astype(net.dtype))
        return float(net.loss(backend.xp, y, samples.t, w)[0])


def log_odds(xp: Any, y: Array) -> Array:
    """Return log(p / (1 - p)) of each class's probability p under a softmax of the logits `y` (B, O).

    z = y - max(y, axis=1, keepdims=True)                                             (B, O)     (1)
    rest = sum of exp(z) over the other classes                                       (B, O)     (2)
    log(p / (1 - p)) = z - log(rest)                                                  (B, O)     (3)

    The largest class's own term is left out of its sum, not subtracted, so that nothing is lost to rounding.
    """
    z = y - xp.max(y, axis=1, keepdims=True)
    e = xp.exp(z)
    classes = xp.arange(y.shape[1], device=y.device)
    largest = xp.astype(xp.argmax(y, axis=1, keepdims=True) == classes[None, :], y.dtype)
    others = e * (1.0 - largest)
    rest = largest * xp.sum(others, axis=1, keepdims=True) + (1.0 - largest) * (xp.sum(e, axis=1, keepdims=True) - e)
    return z - xp.log(xp.maximum(rest, xp.finfo(y.dtype).smallest_normal))
