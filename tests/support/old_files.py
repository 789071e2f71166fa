"""The networks and trainings of which tests/data holds files that earlier versions wrote, and how to write them anew.

    python tests/support/old_files.py FOLDER      with the version to be written by on the path

Every definition here belongs to files that are out in the world: add some, change none.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from trainings import Best, halving

import xpnet
from xpnet import initializers, schedules

_rng = np.random.default_rng(10)
X = _rng.normal(size=(40, 4)).astype("float32")
CLASSES = _rng.integers(0, 3, 40)
ROWS = _rng.uniform(0.1, 0.9, (40, 3)).astype("float32")
WEIGHTS = _rng.uniform(0.5, 2.0, 40)


@dataclasses.dataclass(frozen=True)
class Scale(xpnet.Layer):
    """A layer of one's own with a parameter, a tuple among its fields, and running statistics."""

    features: int
    options: tuple = (1, (2.5, None))

    def init(self, rng):
        return {"a": rng.normal(size=self.features)}

    def init_state(self):
        return {"mean": np.zeros(self.features), "count": np.ones(())}

    def forward(self, xp, params, x, context=None):
        return x * params["a"], x

    def backward(self, xp, params, cache, dy, context=None, need_dx=True):
        return dy * params["a"], {"a": xp.sum(dy * cache, axis=0)}


@dataclasses.dataclass(frozen=True)
class ReLU(xpnet.Layer):
    """Has the name of a layer of xpnet, and is another."""

    threshold: float = 0.5

    def forward(self, xp, params, x, context=None):
        return xp.maximum(x, self.threshold), x


@dataclasses.dataclass(frozen=True)
class Halves(xpnet.losses.Loss):
    power: float = 2.0

    def __call__(self, xp, y, t, weight):
        return 0.5 * xp.sum(weight[:, None] * (y - t) ** 2), weight[:, None] * (y - t)


def cube(xp, x):
    return x * x * x


def cube_slope(xp, x):
    return 3 * x * x


def halves(rng, *sizes):
    return np.full(sizes[0] if isinstance(sizes[0], tuple) else sizes, 0.5)


def regressor() -> xpnet.Network:
    """The network of an estimator, whose loss was no loss of a network then."""
    from xpnet.estimators import MLPRegressor

    return MLPRegressor("poisson", (3,), "tanh", max_iter=3, random_state=0).fit(X, ROWS).network_


def own() -> list[Any]:
    return [Scale, ReLU, Halves, cube, cube_slope, halves, type(regressor().loss)]


def between(*layers: xpnet.Layer, **options: Any) -> xpnet.Network:
    return xpnet.Network([xpnet.Linear(4, 5), *layers, xpnet.Linear(5, 3)], "mean_squared_error", **options)


def networks() -> dict[str, xpnet.Network]:
    """By name of file: every layer, every loss, every law, all settings, and what is one's own."""
    layers = [
        xpnet.Identity(), xpnet.ReLU(), xpnet.LeakyReLU(0.02), xpnet.ELU(0.5), xpnet.Sigmoid(), xpnet.Tanh(),
        xpnet.Softplus(), xpnet.SiLU(), xpnet.GELU(), xpnet.Softmax(), xpnet.Dropout(0.25),
    ]  # fmt: skip
    losses = [
        xpnet.MeanSquaredError(), xpnet.SumSquaredError(), xpnet.MeanAbsoluteError(), xpnet.Huber(0.5), xpnet.Poisson(),
        xpnet.BinaryCrossEntropy(), xpnet.CrossEntropy(),
    ]  # fmt: skip
    result = {type(layer).__name__: between(layer, seed=k) for k, layer in enumerate(layers)}
    result |= {
        type(loss).__name__: xpnet.Network([xpnet.Linear(4, 3)], loss, seed=k, dtype="float64")
        for k, loss in enumerate(losses)
    }
    for law in (*initializers.INITIALIZERS, initializers.normal(0.1)):
        name = law if isinstance(law, str) else "normal"
        result[name] = xpnet.mlp([4, 3], loss="huber", weight_init=law)
    result["settings"] = between(xpnet.Tanh(), dtype="float64", seed=2**127 + 1, l1=0.1, l2=1e-3, penalize_biases=True)
    result["no bias"] = xpnet.mlp([4, 6, 5, 3], ["gelu", "silu"], bias=False, dropout=0.5)
    layers = [Scale(5), ReLU(0.25), xpnet.Activation(cube, cube_slope, name="cube"), xpnet.ReLU(), xpnet.Linear(5, 3)]
    result["own"] = xpnet.Network([xpnet.Linear(4, 5, weight_init=halves), *layers], Halves(3.0))
    result["own"].state["1.mean"][...] = np.arange(5)
    return result | {"regressor": regressor()}


class Stop(Exception):
    """Ends a training in the middle of an epoch, which writes its checkpoint."""


class StopAfter(xpnet.Callback):
    def __init__(self, step: int) -> None:
        self.every = self.step = step

    def on_steps(self, run: Any) -> None:
        if run.step == self.step:
            raise Stop


def trainings() -> dict[str, dict[str, Any]]:
    """By name of file: what differs from a training of 6 epochs of 5 steps, and after which step it is stopped."""
    return {
        "sgd": {"optimizer": xpnet.SGD(0.1, momentum=0.9, nesterov=True, clip_norm=1.0), "stop": 13},
        "averaging": {"optimizer": xpnet.Adam(schedules.CosineDecay(0.01, 20)), "averaging": 0.9, "stop": 12},
        "adagrad": {"optimizer": xpnet.Adagrad(0.1), "sample_weight": WEIGHTS, "stop": 5},
        "rmsprop": {"optimizer": xpnet.RMSProp(schedules.WarmUp(4, schedules.OneCycle(0.02, 20))), "stop": 17},
        "own schedule": {"optimizer": xpnet.AdamW(halving), "class_weight": "balanced", "shuffle": False, "stop": 9},
        "float16": {"optimizer": xpnet.Adam(0.01), "precision": "float16", "averaging": 0.8, "stop": 11},
        "early stopping": {
            "optimizer": xpnet.Adam(0.05), "validation_split": 0.25, "stop": 14,
            "callbacks": [Best(), xpnet.EarlyStopping("validation_loss", patience=2)],
        },
        "recorder": {
            "optimizer": xpnet.Adam(0.01), "callbacks": [xpnet.Recorder(every=3, parameters=True)], "stop": 16,
        },
    }  # fmt: skip


def train(path: Path, training: dict[str, Any], resume: bool) -> tuple[xpnet.Network, xpnet.History]:
    """Begin one of the trainings and stop it, or go on with it to its end."""
    options = {"epochs": 6, "batch_size": 8, "verbose": False} | training
    stop, callbacks = options.pop("stop"), options.pop("callbacks", [])
    net = xpnet.mlp([4, 5, 3], "tanh", dropout=0.2, seed=3, l2=0.01)
    callbacks = [*callbacks, *([] if resume else [StopAfter(stop)])]
    return net, net.fit(X, CLASSES, callbacks=callbacks, checkpoint=path, resume=resume, **options)


def digest(net: xpnet.Network) -> str:
    """Of what a file holds to the bit."""
    states = [net.state[name].tobytes() for name in sorted(net.state)]
    return hashlib.sha256(b"".join([net.theta.tobytes(), *states])).hexdigest()


def outcome(net: xpnet.Network) -> list[list[float]]:
    """What a network computes, equal up to rounding wherever it is computed."""
    return np.asarray(net.forward(X[:3].astype(net.dtype)), dtype=float).tolist()


def main() -> None:
    folder = Path(sys.argv[1])
    expected: dict[str, Any] = {"networks": {}, "trainings": {}}
    for name, net in networks().items():
        net.save(folder / f"{name}.safetensors")
        expected["networks"][name] = {"digest": digest(net), "outputs": outcome(net)}
    for name in trainings():
        path = folder / f"training {name}.safetensors"
        try:
            train(path, trainings()[name], resume=False)
        except Stop:
            content = path.read_bytes()
        stopped = xpnet.load(path)
        net, history = train(path, trainings()[name], resume=True)
        path.write_bytes(content)
        expected["trainings"][name] = {
            "digest": digest(stopped), "outputs": outcome(net), "loss": np.asarray(history["loss"]).tolist(),
        }  # fmt: skip
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
