"""Do intervals of 90 % hold 90 % of what was never seen? `python benchmarks/intervals.py`: five tables, five folds.

They are real and come with scikit-learn. Three ways: quantiles as the network learns them; the same, widened by what a
quarter of the training samples needs (Romano, Patterson and Candès, "Conformalized quantile regression", NeurIPS 2019);
and a normal law's 1.645 standard deviations on both sides of the mean.
"""

from __future__ import annotations

import argparse
import json
import platform
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from sklearn import datasets
from sklearn.model_selection import KFold, train_test_split
from sklearn.preprocessing import StandardScaler

import xpnet
from xpnet.estimators import MLPRegressor

LEVELS = (0.05, 0.5, 0.95)
SHARE = LEVELS[-1] - LEVELS[0]
DEVIATIONS = 1.6449
"""So many standard deviations on both sides hold that share of a normal law."""
OPTIONS = {
    "hidden_layer_sizes": (16,), "activation": "tanh", "solver": "adam", "learning_rate_init": 0.01, "alpha": 0.01,
    "max_iter": 300, "batch_size": 32,
}  # fmt: skip
Array = np.ndarray[Any, Any]


def tables() -> Iterator[tuple[str, Array, Array]]:
    """Yield five tables by name: what is measured, and what shall be predicted."""
    yield "diabetes", *datasets.load_diabetes(return_X_y=True)
    X, Y = datasets.load_linnerud(return_X_y=True)
    yield "linnerud: waist", X, Y[:, 1]
    flowers = datasets.load_iris().data
    yield "iris: petal length", flowers[:, :2], flowers[:, 2]
    wine = datasets.load_wine().data
    yield "wine: colour intensity", np.delete(wine, 9, axis=1), wine[:, 9]
    cancer = datasets.load_breast_cancer().data
    yield "cancer: worst smoothness", cancer[:, :10], cancer[:, 24]


def intervals(X: Array, y: Array, X_test: Array, seed: int) -> dict[str, tuple[Array, Array]]:
    """Return lower and upper ends for the test samples by each of the three ways."""
    x_scale, y_scale = StandardScaler().fit(X), StandardScaler().fit(y[:, None])
    x, t, x_test = x_scale.transform(X), y_scale.transform(y[:, None])[:, 0], x_scale.transform(X_test)
    train, held = train_test_split(np.arange(len(t)), test_size=0.25, random_state=seed)
    validation = (x[held], t[held])

    def fitted(rows: Any, **more: Any) -> MLPRegressor:
        reg = MLPRegressor(early_stopping=True, random_state=seed, **OPTIONS, **more)
        return reg.fit(x[rows], t[rows], validation_data=validation)

    found = {}
    reg = fitted(train, quantiles=LEVELS)
    low, _, high = reg.predict(x_test, quantiles=True).T
    found["quantiles"] = low, high
    inner, _, outer = reg.predict(x[held], quantiles=True).T
    missed = np.maximum(inner - t[held], t[held] - outer)  # how far outside of its interval each sample lies
    level = min(1.0, SHARE * (1 + 1 / len(held)))
    wider = np.quantile(missed, level, method="higher")
    found["quantiles, conformalized"] = low - wider, high + wider
    mean, std = fitted(train, loss="gaussian").predict(x_test, return_std=True)
    found["gaussian"] = mean - DEVIATIONS * std, mean + DEVIATIONS * std
    return {name: tuple(y_scale.inverse_transform(e[:, None])[:, 0] for e in ends) for name, ends in found.items()}


def measure(X: Array, y: Array, repeats: int) -> dict[str, dict[str, float]]:
    """Return the share of held-out samples in their intervals, and the mean width in standard deviations of y."""
    inside: dict[str, list[Array]] = {}
    widths: dict[str, list[Array]] = {}
    for seed in range(repeats):
        for train, test in KFold(5, shuffle=True, random_state=seed).split(X):
            for name, (low, high) in intervals(X[train], y[train], X[test], seed).items():
                inside.setdefault(name, []).append((low <= y[test]) & (y[test] <= high))
                widths.setdefault(name, []).append(high - low)
    return {
        name: {
            "coverage": float(np.concatenate(inside[name]).mean()),
            "width": float(np.concatenate(widths[name]).mean() / y.std()),
        }
        for name in inside
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=4, help="how often the five folds are drawn anew")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "intervals")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # that training ended before it converged
    lines = ["| table | samples | way | in the interval | width |", "| --- | ---: | --- | ---: | ---: |"]
    results: dict[str, Any] = {}
    for name, X, y in tables():
        results[name] = {"samples": len(y), "ways": measure(X, y, arguments.repeats)}
        for way, found in results[name]["ways"].items():
            lines.append(f"| {name} | {len(y)} | {way} | {found['coverage']:.1%} | {found['width']:.2f} |")
            print(lines[-1], flush=True)
    about = {
        "xpnet": xpnet.__version__, "numpy": np.__version__, "scikit-learn": sklearn.__version__,
        "python": platform.python_version(), "repeats": arguments.repeats, "wanted": SHARE,
    }  # fmt: skip
    arguments.output.with_suffix(".json").write_text(json.dumps({"about": about, "tables": results}, indent=1) + "\n")
    arguments.output.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
