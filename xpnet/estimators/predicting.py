"""Outputs of a network, computed over some rows at a time."""

from __future__ import annotations

from typing import Any

from xpnet.estimators.sampling import dense, rows_between
from xpnet.model.memory import explained
from xpnet.model.predict import rows_at_once
from xpnet.network import Network
from xpnet.typing import Array


def outputs(net: Network, x: Any) -> Array:
    """Return the last layer's output (N, O) for samples that `to_device` returned."""
    step = rows_at_once(net, None)
    with net.backend.active(), explained(net.backend, "prediction"):
        parts = [
            net.output(dense(rows_between(x, start, start + step), net.backend, net.dtype))
            for start in range(0, max(int(x.shape[0]), 1), step)
        ]
        return parts[0] if len(parts) == 1 else net.backend.xp.concat(parts, axis=0)


def log_softmax(xp: Any, y: Array) -> Array:
    """Return the logarithm of each class's probability under a softmax of the logits `y` (B, O).

    z = y - max(y, axis=1, keepdims=True)                         (B, O)     (1)
    others = sum of exp(z) over all classes but the largest       (B, 1)     (2)
    log(p) = z - log1p(others)                                    (B, O)     (3)

    The largest class's term is 1 and is left to log1p, so that nothing is lost where p is close to 0 or 1.
    """
    z = y - xp.max(y, axis=1, keepdims=True)
    classes = xp.arange(y.shape[1], device=y.device)
    other = xp.astype(xp.argmax(y, axis=1, keepdims=True) != classes[None, :], y.dtype)
    return z - xp.log1p(xp.sum(xp.exp(z) * other, axis=1, keepdims=True))
