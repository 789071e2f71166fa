"""Trainings that processes share, over everything that xpnet has; as a script one of these processes:

mpiexec -n 4 python tests/support/shared_trainings.py FILE      hashes of trainings, to FILE.RANK as JSON
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from math import inf, prod
from typing import Any

import array_backends
import cases
import golden
import numpy as np
from sklearn.exceptions import ConvergenceWarning

import xpnet
from xpnet.backends.cpu.replay import Replay
from xpnet.estimators import MLPClassifier
from xpnet.parallel import MPI

RNG = np.random.default_rng(3)
IMAGES = RNG.normal(size=(26, 6, 6, 2)).astype("float32")
CLASSES = RNG.integers(0, 3, 26)
WAYS = {"as written": inf, "replayed": inf, "compiled": 0.0}
"""How a step is run, and after how many seconds it is compiled."""


def layer_training(case: cases.LayerCase, **options: Any) -> str:
    """Train a network with this layer by batches of 3 samples, the last of 1: fewer than there are slices."""
    first = xpnet.Network([case.layer, xpnet.Flatten()], "mean_squared_error", input_shape=case.shape)
    width = prod(first.output_shape)
    layers = [case.layer, xpnet.Flatten(), xpnet.Linear(width, 3)]
    net = xpnet.Network(layers, "cross_entropy", input_shape=case.shape, seed=2, backend=options.pop("backend"))
    x = np.random.default_rng(1).normal(size=(7, *case.shape)).astype("float32")
    net.fit(x, CLASSES[:7], epochs=2, batch_size=3, verbose=False, **options)
    return golden.digest(net.theta, *net.state.values())


def image_training(backend: Any, fit: dict[str, Any], samples: int = 26) -> str:
    """Train a network of images with everything that is of its own kind, by batches of 10 and what is left."""
    block = [xpnet.Conv2D(4, 4, 3, padding="same"), xpnet.BatchNorm(4), xpnet.Dropout(0.1)]
    layers = [
        xpnet.RandomShift(1), xpnet.RandomFlip(), xpnet.Conv2D(2, 4, 3), xpnet.BatchNorm(4), xpnet.ReLU(),
        xpnet.Residual(block), xpnet.MaxPool2D(2), xpnet.GlobalAveragePool2D(), xpnet.Linear(4, 3),
    ]  # fmt: skip
    net = xpnet.Network(layers, "cross_entropy", backend, input_shape=(6, 6, 2), seed=1, l2=1e-3)
    x, t, weight = IMAGES[:samples], CLASSES[:samples], np.linspace(0.5, 2, samples)
    more = {"class_weight": "balanced", "sample_weight": weight, "averaging": 0.9}
    history = net.fit(x, t, epochs=3, batch_size=10, verbose=False, **more | fit)
    return golden.digest(net.theta, *net.state.values(), history["loss"])


def trainings(way: str) -> Iterator[tuple[str, Any]]:
    """Return names and functions that train and return a hash: as written all of them, otherwise a few."""
    backend = array_backends.EagerBackend() if way == "as written" else xpnet.backends.get("numpy")
    shared = {"parallel": MPI()}
    yield "images", partial(image_training, backend, shared)
    half = shared | {"precision": "float16", "optimizer": xpnet.Adam(0.01, clip_norm=1.0)}
    yield (
        "images in float16",
        partial(image_training, backend, half, 20),
    )  # batches of one size: half as much to compile
    few = ("loss poisson", "momentum", "schedule", "optimizer adamw ['clip_norm', 'clip_value', 'weight_decay']")
    for name, case in golden.networks("float64"):
        sizes, fit = case.args
        if way == "as written" or name in few:
            yield name, partial(golden.trained, sizes, fit | shared, **case.keywords, backend=backend)
    if way == "as written":
        for k, case in enumerate(cases.LAYERS):
            yield f"layer {k} {type(case.layer).__name__}", partial(layer_training, case, backend=backend, **shared)
        for name, case in golden.half_precision():
            sizes, fit = case.args
            yield name, partial(golden.trained, sizes, fit | shared, **case.keywords, backend=backend)
        for solver in ("adam", "sgd", "early", "dropout", "xpnet"):
            options = golden.SOLVERS[solver] | {"batch_size": 32, "max_iter": 3} | shared
            yield f"classifier {solver}", partial(estimated, options)


def estimated(options: dict[str, Any]) -> str:
    """Fit a classifier to weighted samples, and train it for some more."""
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        x, t, weight = golden.X[:64], golden.CLASSES[:64], golden.WEIGHTS[:64]
        est = MLPClassifier(**golden.OPTIONS | options).fit(x, t, sample_weight=weight)
        if not est.early_stopping:
            est.partial_fit(golden.X[:50], golden.CLASSES[:50])
    return golden.digest(*est.coefs_, *est.intercepts_, [est.loss_])


def hashes() -> dict[str, dict[str, str]]:
    """Return all hashes by the way in which steps are run, and by name."""
    found, Replay.standstill = {}, inf
    for way, Replay.patience in WAYS.items():
        found[way] = {name: train() for name, train in trainings(way)}
    return found


if __name__ == "__main__":
    with open(f"{sys.argv[1]}.{MPI().rank}", "w") as file:
        json.dump(hashes(), file)
