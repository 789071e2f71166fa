"""Any number of threads gives the same bits, and nothing that goes wrong with threads stops or tears a training."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet.backends.base import Backend, Program
from xpnet.backends.cpu import openblas, parts, products
from xpnet.backends.cpu.threads import Helpers
from xpnet.backends.numpy import NumpyBackend
from xpnet.layers import ACTIVATIONS, LAYERS
from xpnet.losses import LOSSES
from xpnet.optimizers import OPTIMIZERS

RNG = np.random.default_rng(3)
BATCH, SAMPLES = 24, 55  # so that the last batch is smaller
WITH = ["written", "replayed"]
try:
    from xpnet.backends.cpu import chain

    WITH.append("compiled")
except ModuleNotFoundError:  # the extra fast is not installed
    pass


@pytest.fixture
def everything_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small products and loops are cut and shared out, too, as long ones are."""
    monkeypatch.setattr(products, "LEAST", 1 << 10)
    monkeypatch.setattr(products, "EDGE", 4)
    monkeypatch.setattr(products, "SHARED", 0)
    monkeypatch.setattr(parts, "LEAST", 1 << 5)
    monkeypatch.setattr(parts, "TOGETHER", 16)
    if "compiled" in WITH:
        monkeypatch.setattr(chain, "WORTH", 0)


class Written(NumpyBackend):
    """Runs steps as they are written."""

    def compile(self, step: Any, arrays: Any, changes: Any) -> Program:
        return Backend.compile(self, step, arrays, changes)


def trainer(make: Callable[[Any], xpnet.Trainer], how: str, threads: int) -> xpnet.Trainer:
    made = make((Written if how == "written" else NumpyBackend)(threads))
    for size in {made.feed.size(k) for k in range(made.steps_per_epoch)}:
        program: Any = made._program(size)
        if how == "compiled":
            program.compile(program._tape)
            assert any(isinstance(call, chain.Chain) and call._tasks > 1 for call in program._calls) == (threads > 1)
        elif how == "replayed":
            program._tape = None
    return made


def digest(made: xpnet.Trainer) -> str:
    tensors, _ = made.export()
    assert np.isfinite(tensors["theta"]).all()
    return hashlib.sha256(b"".join(tensors[name].tobytes() for name in sorted(tensors))).hexdigest()


def images() -> list[xpnet.Layer]:
    return [
        xpnet.RandomShift(1), xpnet.RandomFlip(), xpnet.RandomCutout(2), xpnet.Conv2D(2, 8), xpnet.BatchNorm(8),
        xpnet.ReLU(), xpnet.MaxPool2D(), xpnet.Conv2D(8, 6, stride=2), xpnet.GroupNorm(2, 6), xpnet.SiLU(),
        xpnet.AveragePool2D(), xpnet.Residual([xpnet.Conv2D(6, 6)]), xpnet.GlobalAveragePool2D(), xpnet.Linear(6, 3),
    ]  # fmt: skip


def signals() -> list[xpnet.Layer]:
    return [
        xpnet.Conv1D(8, 6, size=4), xpnet.MaxPool1D(), xpnet.RMSNorm(6), xpnet.Tanh(), xpnet.AveragePool1D(),
        xpnet.Reshape((2, 2, 6)), xpnet.Flatten(), xpnet.Reshape((4, 6)), xpnet.GlobalAveragePool1D(),
        xpnet.Identity(), xpnet.Sequence([xpnet.Linear(6, 9), xpnet.ELU()]), xpnet.Linear(9, 3),
    ]  # fmt: skip


def rows() -> list[xpnet.Layer]:
    every = [ACTIVATIONS[name]() for name in ACTIVATIONS]
    return [xpnet.Linear(128, 40), xpnet.LayerNorm(40), *every, xpnet.Linear(40, 30), xpnet.Dropout(0.2), xpnet.Linear(30, 3)]


SHAPES: dict[Any, tuple[int, ...]] = {images: (8, 8, 2), signals: (16, 8), rows: (128,)}
OPTIONS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "images": (images, {"l2": 1e-3}, {"averaging": 0.9}),
    "signals": (signals, {"l1": 1e-3}, {"sample_weight": RNG.uniform(0.5, 2.0, SAMPLES)}),
    "rows": (rows, {"dtype": "float64"}, {}),
    "images, float16": (images, {}, {"precision": "float16"}),
    "rows, float16": (rows, {}, {"precision": "float16", "averaging": 0.9}),
}


def network(name: str) -> Callable[[Any], xpnet.Trainer]:
    layers, of_network, of_trainer = OPTIONS[name]
    x = np.random.default_rng(4).normal(size=(SAMPLES, *SHAPES[layers])).astype("float32")

    def make(backend: Any) -> xpnet.Trainer:
        net = xpnet.Network(layers(), "cross_entropy", backend, seed=2, input_shape=SHAPES[layers], **of_network)
        optimizer = xpnet.AdamW(1e-3, clip_norm=0.5, weight_decay=0.01)
        return xpnet.Trainer(net, optimizer, x, np.arange(SAMPLES) % 3, batch_size=BATCH, **of_trainer)

    return make


def objective(loss: str, optimizer: str) -> Callable[[Any], xpnet.Trainer]:
    rng, kind = np.random.default_rng(5), LOSSES[loss].kind
    x = rng.normal(size=(SAMPLES, 32)).astype("float32")
    t = rng.integers(0, 3, SAMPLES) if kind == "classification" else rng.integers(0, 2, (SAMPLES, 3)).astype("float32")

    def make(backend: Any) -> xpnet.Trainer:
        net = xpnet.mlp([32, 40, 3], "tanh", loss, backend=backend, seed=2)
        return xpnet.Trainer(net, OPTIMIZERS[optimizer](clip_value=0.1), x, t, batch_size=BATCH)

    return make


PAIRS = list(zip(LOSSES, itertools.cycle(OPTIMIZERS)))
CASES = {name: network(name) for name in OPTIONS} | {f"{a}, {b}": objective(a, b) for a, b in PAIRS}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("everything_shared")
def test_every_number_of_threads_gives_the_same_bits_in_every_way_to_run_a_step(case: str) -> None:
    found = {}
    for how, threads in itertools.product(WITH, (1, 2, 4)):
        made = trainer(CASES[case], how, threads)
        made.run(2 * made.steps_per_epoch)
        found[how, threads] = digest(made)
    assert len(set(found.values())) == 1, found


def test_all_layers_are_among_these() -> None:
    def classes(layers: Any) -> Iterator[str]:
        for layer in layers:
            yield type(layer).__name__
            for chain_ in layer.chains.values():
                yield from classes(chain_)

    found = {name for make in SHAPES for name in classes(make())}
    assert found >= {cls.__name__ for cls in LAYERS.values()} - {"Activation"}
    assert {optimizer for _, optimizer in PAIRS} == set(OPTIMIZERS)
