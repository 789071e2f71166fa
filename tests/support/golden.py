"""Hashes of what trainings over everything that xpnet has end with, to see that a change of the code changes no number.

    python tests/support/golden.py write FILE      with the version to be compared with on the path
    python tests/support/golden.py compare FILE    with the changed one

They hold on one machine with one set of libraries, since products are those of NumPy's BLAS.
"""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

import xpnet
from xpnet.estimators import MLPClassifier, MLPRegressor
from xpnet.layers import ACTIVATIONS
from xpnet.losses import LOSSES
from xpnet.optimizers import OPTIMIZERS

Cases = Iterator[tuple[str, Callable[[], str]]]  # names, and what gives the hashes

RNG = np.random.default_rng(7)
X = RNG.normal(size=(75, 6))
CLASSES = RNG.integers(0, 3, size=75)
ROWS = RNG.uniform(0.0, 1.0, size=(75, 3))
WEIGHTS = np.linspace(0.1, 1, 75)
SOLVERS: dict[str, dict[str, Any]] = {
    "adam": {},
    "sgd": {"solver": "sgd", "learning_rate": "invscaling"},
    "lbfgs": {"solver": "lbfgs"},
    "early": {"early_stopping": True, "max_iter": 40},
    "dropout": {"dropout": 0.2},
    "tanh": {"activation": "tanh"},
    "batch": {"batch_size": 16, "max_iter": 15},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0, "max_iter": 30},
    "xpnet": {"solver": xpnet.AdamW(0.01), "batch_size": 7},
}
OPTIONS: dict[str, Any] = {"max_iter": 5, "hidden_layer_sizes": (11, 7), "random_state": 1}


def digest(*arrays: Any) -> str:
    """Return a hash of the arrays' types, shapes and bits."""
    sha = hashlib.sha256()
    for a in map(np.ascontiguousarray, arrays):
        sha.update(f"{a.dtype} {a.shape} ".encode() + a.tobytes())
    return sha.hexdigest()[:24]


def trained(sizes: Sequence[int], fit: dict[str, Any], **options: Any) -> str:
    """Return the hash of all that a network is and says after a training, and of the training's curves."""
    net = xpnet.mlp(sizes, **options)
    x = X.astype(net.dtype)
    targets = {
        "classification": CLASSES,
        "binary": (ROWS > 0.5).astype(net.dtype),
        "regression": ROWS.astype(net.dtype),
    }
    t = targets[net.loss.kind]
    history = net.fit(x, t, **{"optimizer": "sgd", "epochs": 3, "batch_size": 16, "verbose": False} | fit)
    curves = [history[name] for name in history if name != "seconds"]
    scores = net.evaluate(x, t)
    value, gradients = net.gradients(x[:9], t[:9])
    return digest(
        net.theta, *net.state.values(), net.predict(x), [*scores.values(), value], *gradients.values(), *curves
    )


def networks(dtype: str) -> Cases:
    """Every activation, loss and optimizer, and what a training may be told."""

    def case(fit: dict[str, Any], sizes: Sequence[int] = (6, 9, 3), **options: Any) -> Callable[[], str]:
        return partial(trained, sizes, fit, dtype=dtype, **options)

    for name in ACTIVATIONS:
        yield f"activation {name}", case({}, activation=name, loss="mean_squared_error", seed=3)
    for name in LOSSES:
        options = {"dropout": 0.2, "l1": 1e-4, "l2": 1e-3}
        yield (
            f"loss {name}",
            case({}, (6, 9, 7, 3 * LOSSES[name]().per_target), activation="tanh", loss=name, **options),
        )
    for name, optimizer in OPTIMIZERS.items():
        for options in ({}, {"weight_decay": 0.01, "clip_norm": 0.5, "clip_value": 0.1}):
            fit = {"optimizer": optimizer(**options), "averaging": 0.9}
            yield f"optimizer {name} {sorted(options)}", case(fit)
    weights = {"sample_weight": np.linspace(0, 1, 75), "class_weight": "balanced", "validation_split": 0.2}
    yield "momentum", case({"optimizer": xpnet.SGD(0.1, momentum=0.9, nesterov=True)} | weights)
    fit = {"optimizer": xpnet.Adam(xpnet.schedules.OneCycle(0.01, 15)), "shuffle": False}
    fit |= {"validation_data": (X[:20].astype(dtype), CLASSES[:20])}
    yield "schedule", case(fit, penalize_biases=True, l2=0.1)


def half_precision() -> Cases:
    """Mixed precision."""
    for dropout in (0.0, 0.3):
        for loss in ("cross_entropy", "mean_squared_error", "binary_cross_entropy"):
            for optimizer in ("adam", "sgd"):
                fit = {"optimizer": optimizer, "precision": "float16", "sample_weight": WEIGHTS, "averaging": 0.9}
                options = {"loss": loss, "dropout": dropout, "l2": 1e-3}
                yield f"float16 {loss} {optimizer} {dropout}", partial(trained, (6, 32, 3), fit, **options)


def recorded() -> str:
    """Return the hash of what a recorder has seen."""
    recorder = xpnet.Recorder(every=3)
    trained((6, 9, 3), {"callbacks": [recorder]}, dropout=0.1)
    names = [f"{k}.{q}" for k in (0, 3) for q in ("y", "delta", "W", "dW", "b", "db")]
    return digest(*(v for name in names for v in recorder[name]), recorder.update_ratio("0.W"))


def estimated(make: Callable[..., Any], options: dict[str, Any], x: Any, y: Any, **fit: Any) -> str:
    est = make(**OPTIONS | options).fit(x, y, **fit)
    return digest(*est.coefs_, *est.intercepts_, est.predict(x), [est.loss_])


def estimators() -> Cases:
    """Both estimators by all ways of training."""
    for name, options in SOLVERS.items():
        classifier = partial(estimated, MLPClassifier, options)
        for x in (X, X.astype(np.float32)):
            yield f"classifier {name} {x.dtype}", partial(classifier, x, CLASSES)
            yield f"regressor {name} {x.dtype}", partial(estimated, MLPRegressor, options, x, ROWS)
            weights = np.linspace(0.1, 2, 75)
            yield f"weighted {name} {x.dtype}", partial(classifier, x, CLASSES, sample_weight=weights)
            if name != "early":
                yield f"sparse {name} {x.dtype}", partial(classifier, sparse.csr_array(x * (x > 0)), CLASSES)
        yield f"binary {name}", partial(classifier, X, CLASSES > 0)
        yield f"labels {name}", partial(classifier, X, ROWS > 0.5)
    yield "poisson", partial(estimated, MLPRegressor, {"loss": "poisson"}, X, CLASSES.astype(float))
    yield "partial_fit", partly_fitted


def partly_fitted() -> str:
    est = MLPClassifier(**OPTIONS)
    for k in range(4):
        est.partial_fit(X[k * 10 :], CLASSES[k * 10 :], classes=[0, 1, 2])
    return digest(*est.coefs_, *est.intercepts_)


def hashes() -> dict[str, str]:
    """Return all hashes by name."""
    found = {f"{name} {dtype}": case() for dtype in ("float32", "float64") for name, case in networks(dtype)}
    others = (*half_precision(), *estimators(), ("recorder", recorded))
    return found | {name: case() for name, case in others}


def main(command: str, file: str) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of trainings that are as short as these
        found = hashes()
    if command == "write":
        Path(file).write_text(json.dumps(found, indent=1) + "\n")
        print(len(found), "hashes written")
        return 0
    expected = json.loads(Path(file).read_text())
    wrong = [name for name in expected if expected[name] != found.get(name)]
    print(f"{len(expected) - len(wrong)} of {len(expected)} equal", *(f"differs: {name}" for name in wrong), sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
