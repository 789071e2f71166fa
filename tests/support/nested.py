"""A network of layers inside of layers, data for it, and layers of one's own to put inside."""

from dataclasses import dataclass

import numpy as np

import xpnet
from xpnet import Dropout, Identity, Linear, ReLU, Residual, Sequence, Tanh

RNG = np.random.default_rng(9)
X = RNG.normal(size=(40, 5)).astype(np.float32)
T = RNG.integers(0, 3, 40)


def network(backend="numpy", dropout=0.3, **options):
    """Return a network with a sequence in a residual block, one with a shortcut, and one whose branch does nothing."""
    layers = [
        Residual(
            [Tanh(), Sequence([Linear(5, 6), ReLU(), Dropout(dropout)]), Linear(6, 4)], [Linear(5, 4, bias=False)]
        ),
        Residual([Sequence([Residual([Linear(4, 4), Tanh()])]), Dropout(dropout)]),
        Residual([Identity()]),
        Linear(4, 3),
    ]
    return xpnet.Network(layers, "cross_entropy", backend, **{"seed": 2} | options)


@dataclass(frozen=True)
class Counted(xpnet.Layer):
    """Adds its running statistic, and counts training steps and the sum of its inputs in it."""

    def init_state(self):
        return {"count": np.zeros(1), "total": np.zeros(1)}

    def update_state(self, xp, state, cache):
        return {"count": state["count"] + 1, "total": state["total"] + cache}

    def forward(self, xp, params, x, context=None):
        return x + context.state["count"], xp.sum(x)

    def backward(self, xp, params, cache, dy, context=None, need_dx=True):
        return dy, {}


@dataclass(frozen=True)
class Undeclared(xpnet.Layer):
    """A factor for all numbers, whose shape is known once it is drawn."""

    def init(self, rng):
        return {"a": rng.normal(size=(1,))}

    def forward(self, xp, params, x, context=None):
        return x * params["a"], x

    def backward(self, xp, params, cache, dy, context=None, need_dx=True):
        return dy * params["a"] if need_dx else None, {"a": xp.reshape(xp.sum(dy * cache), (1,))}
