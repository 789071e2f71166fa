"""Trainings that processes and threads share, over everything that xpnet has; as a script one of these processes:

mpiexec -n 4 python tests/support/shared_trainings.py FILE 2        hashes, on 2 threads each, to FILE.RANK as JSON

Or, with as many processes as are needed, and the numbers of them and of threads, all of it in every way (an hour):

python tests/support/shared_trainings.py whole 1 2 4
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from math import inf, prod
from pathlib import Path
from typing import Any

import array_backends
import cases
import golden
import numpy as np
import shared_faults
import small_parts
from sklearn.exceptions import ConvergenceWarning

import xpnet
from xpnet.backends.cpu import products
from xpnet.backends.cpu.replay import Replay
from xpnet.backends.numpy import NumpyBackend
from xpnet.estimators import MLPClassifier
from xpnet.parallel import MPI

RNG = np.random.default_rng(3)
IMAGES = RNG.normal(size=(26, 6, 6, 2)).astype("float32")
CLASSES = RNG.integers(0, 3, 26)
WAYS = {"as written": inf, "replayed": inf, "compiled": 0.0}
"""How a step is run, and after how many seconds it is compiled."""
FEW = ("momentum", "schedule", "optimizer adamw ['clip_norm', 'clip_value', 'weight_decay']")
"""What is tried in every way each time."""


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
    weight, workers = np.linspace(0.5, 2, samples), fit["parallel"]
    rows = workers.part(samples) if workers.sharded else slice(samples)
    more = {"class_weight": "balanced", "sample_weight": weight[rows], "averaging": 0.9, "batch_size": 10}
    history = net.fit(IMAGES[rows], CLASSES[rows], epochs=3, verbose=False, **more | fit)
    return golden.digest(net.theta, *net.state.values(), history["loss"])


def long_training(backend: Any, fit: dict[str, Any]) -> str:
    """Train a network of which each slice has products and runs that are long enough to be shared out by anyone."""
    rng = np.random.default_rng(8)
    x, t = rng.normal(size=(512, 256)).astype("float32"), rng.integers(0, 10, 512)
    layers = [
        xpnet.Linear(256, 1024), xpnet.BatchNorm(1024), xpnet.ReLU(), xpnet.Dropout(0.2), xpnet.Linear(1024, 512),
        xpnet.Tanh(), xpnet.Linear(512, 10),
    ]  # fmt: skip
    net = xpnet.Network(layers, "cross_entropy", backend, seed=4, l2=1e-4)
    net.fit(x, t, batch_size=256, epochs=1, optimizer=xpnet.Adam(clip_norm=1.0), averaging=0.9, verbose=False, **fit)
    return golden.digest(net.theta, *net.state.values())


def made(way: str, threads: int) -> NumpyBackend:
    """Return the backend that runs steps in this way."""
    return (array_backends.EagerBackend if way == "as written" else NumpyBackend)(threads)


def trainings(backend: NumpyBackend, shared: dict[str, Any], every: bool) -> Iterator[tuple[str, Any]]:
    """Return names and functions that train and return a hash: all of them, or a few."""
    yield "images", partial(image_training, backend, shared)
    parts = {"parallel": MPI(sharded=True), "batch_size": 8}
    yield "images, of which each process has its own part", partial(image_training, backend, parts)
    half = shared | {"precision": "float16", "optimizer": xpnet.Adam(0.01, clip_norm=1.0)}
    # batches of one size: half as much to compile
    yield "images in float16", partial(image_training, backend, half, 20)
    for name, case in golden.networks("float64"):
        sizes, fit = case.args
        if every or name in FEW:
            yield name, partial(golden.trained, sizes, fit | shared, **case.keywords, backend=backend)
    if every:
        for k, case in enumerate(cases.LAYERS):
            yield f"layer {k} {type(case.layer).__name__}", partial(layer_training, case, backend=backend, **shared)
        for name, case in golden.half_precision():
            sizes, fit = case.args
            yield name, partial(golden.trained, sizes, fit | shared, **case.keywords, backend=backend)
        for solver in ("adam", "sgd", "early", "dropout", "xpnet"):
            options = golden.SOLVERS[solver] | {"batch_size": 32, "max_iter": 3, "backend": backend} | shared
            yield f"classifier {solver}", partial(estimated, options)


def estimated(options: dict[str, Any]) -> str:
    """Fit a classifier to weighted samples, and train it for some more."""
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        x, t, weight = golden.X[:64], golden.CLASSES[:64], golden.WEIGHTS[:64]
        est = MLPClassifier(**golden.OPTIONS | options).fit(x, t, sample_weight=weight)
        if not est.early_stopping:
            est.partial_fit(golden.X[:50], golden.CLASSES[:50])
    return golden.digest(*est.coefs_, *est.intercepts_, [est.loss_])


def hashes(threads: int, every: bool) -> dict[str, dict[str, str]]:
    """Return hashes by the way in which steps are run, and by name.

    All trainings, with even small products and runs cut: in every way if `every`. Otherwise all are as written and of
    the usual sizes, and a few are cut, in every way.
    """
    Replay.standstill, shared = inf, {"parallel": MPI()}
    found: dict[str, dict[str, str]] = {}
    for way, Replay.patience in WAYS.items():
        found[way] = {"long": long_training(made(way, threads), shared)}
    if not every:
        found["usual"] = {name: train() for name, train in trainings(made("as written", threads), shared, True)}
    usual = products.SHARED
    small_parts.cut_everything()
    if not every:  # to hand many small tiles to other threads takes longer than all else; of the long ones it is done
        products.SHARED = usual
    for way, Replay.patience in WAYS.items():
        found[way] |= {name: train() for name, train in trainings(made(way, threads), shared, every)}
    return found


def whole(sizes: Sequence[int]) -> str:
    """Return what all trainings gave for all these numbers of processes times threads, in every way."""
    began, different, names, found = time.monotonic(), set(), set(), {}
    with tempfile.TemporaryDirectory() as folder:
        for ranks, threads in itertools.product(sizes, sizes):
            command = shared_faults.mpiexec(ranks, f"{folder}/found", str(threads), "every", file=__file__)
            subprocess.run(command, check=True)
            for rank in range(ranks):
                for way, given in json.loads(Path(folder, f"found.{rank}").read_text()).items():
                    for name, value in given.items():
                        first = found.setdefault(name, value)
                        different |= {(name, way, ranks, threads)} if value != first else set()
                        names.add(name)
            minutes = (time.monotonic() - began) / 60
            print(f"{ranks} processes, {threads} threads: {len(different)} differ after {minutes:.0f} min", flush=True)
    return f"{len(names)} trainings in {len(WAYS) * len(sizes) ** 2} ways: {sorted(different) or 'all equal'}"


if __name__ == "__main__":
    if sys.argv[1] == "whole":
        print(whole([*map(int, sys.argv[2:])]))
    else:
        place, threads, *every = sys.argv[1:]
        with open(f"{place}.{MPI().rank}", "w") as file:
            json.dump(hashes(int(threads), bool(every)), file)
