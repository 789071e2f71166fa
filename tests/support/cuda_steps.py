"""Training steps of every layer, loss and optimizer, for the tests of what is generated for a GPU."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from cases import LAYERS, LOSSES, OPTIMIZERS

import xpnet

ROWS, BATCH = 24, 8


def network(layers: Any, loss: Any, dtype: str, backend: Any, **options: Any) -> xpnet.Network:
    return xpnet.Network(layers, loss, backend, dtype, seed=3, **options)


def trainer(name: str, backend: Any = "numpy", dtype: str = "float32") -> xpnet.Trainer:
    """Return the trainer that STEPS calls `name`."""
    return STEPS[name](backend, dtype)


def _values(outputs: int = 2) -> Any:
    return np.random.default_rng(1).normal(size=(ROWS, outputs))


def _trainer(net: xpnet.Network, optimizer: Any, t: Any, **options: Any) -> xpnet.Trainer:
    x = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(net.dtype)
    t = t.astype(net.dtype) if t.dtype.kind == "f" else t
    return xpnet.Trainer(net, optimizer, x, t, batch_size=BATCH, **options)


def _of_layer(case: Any) -> Any:
    """Return a training of a network with the layer between two others; images are made of rows, and rows of images."""
    before = [xpnet.Linear(3, prod(case.shape)), xpnet.Reshape(case.shape)][: len(case.shape)]
    after = [xpnet.Flatten(), xpnet.Linear(prod(case.layer.output_shape(case.shape)), 2)]

    def make(backend: Any, dtype: str) -> xpnet.Trainer:
        net = network([*before, case.layer, *after], "mean_squared_error", dtype, backend)
        return _trainer(net, xpnet.SGD(0.1), _values())

    return make


def _of_loss(loss: Any, targets: Any) -> Any:
    def make(backend: Any, dtype: str) -> xpnet.Trainer:
        net = network([xpnet.Linear(3, 4), xpnet.Tanh(), xpnet.Linear(4, 3 * loss.per_target)], loss, dtype, backend)
        t = np.asarray(targets(np.random.default_rng(2), ROWS, 3))
        return _trainer(net, xpnet.SGD(0.1), t)

    return make


def _of_optimizer(optimizer: Any, **options: Any) -> Any:
    penalties = {name: options.pop(name) for name in ("l1", "l2") if name in options}

    def make(backend: Any, dtype: str) -> xpnet.Trainer:
        dtype = "float32" if "precision" in options else dtype  # of the parameters, with half precision or without
        layers = [xpnet.Linear(3, 4), xpnet.ReLU(), xpnet.Linear(4, 3)]
        net = network(layers, "cross_entropy", dtype, backend, **penalties)
        return _trainer(net, optimizer, np.arange(ROWS) % 3, **options)

    return make


def _in_half(layers: Any) -> Any:
    def make(backend: Any, dtype: str) -> xpnet.Trainer:
        net = network([xpnet.Linear(3, 4), *layers, xpnet.Linear(4, 2)], "huber", "float32", backend)
        return _trainer(net, xpnet.SGD(0.1), _values(), precision="float16")

    return make


STEPS = (
    {f"layer {k}: {case.layer}": _of_layer(case) for k, case in enumerate(LAYERS)}
    | {f"loss {k}: {loss}": _of_loss(loss, targets) for k, (loss, targets) in enumerate(LOSSES)}
    | {f"optimizer {k}: {type(item).__name__}": _of_optimizer(item) for k, item in enumerate(OPTIMIZERS)}
    | {
        "weights, averages, penalties": _of_optimizer(
            xpnet.AdamW(0.01, clip_norm=0.5), l1=1e-3, l2=1e-2, averaging=0.9,
            sample_weight=np.random.default_rng(4).uniform(size=ROWS),
        ),
        "half precision": _of_optimizer(xpnet.Adam(0.01), precision="float16"),
        "half precision, curved": _in_half([xpnet.Tanh(), xpnet.Softplus(), xpnet.Dropout(0.3), xpnet.GELU()]),
    }
)  # fmt: skip
