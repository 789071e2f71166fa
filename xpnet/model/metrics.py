"""What else is measured of predictions, besides the loss: by name, or by a function of one's own."""

from __future__ import annotations

from collections.abc import Callable
from math import isnan
from typing import Any

import numpy as np

from xpnet.errors import ConfigError, NonFiniteError, closest, needs
from xpnet.model.core import Model
from xpnet.model.memory import explained
from xpnet.model.predict import NOT_FINITE, checked, in_batches, rows_at_once, with_targets
from xpnet.model.scoring import score
from xpnet.model.sources import in_memory
from xpnet.model.weights import check_sample_weight
from xpnet.typing import HostArray
from xpnet.validation import check_items

Metric = Callable[[HostArray, HostArray, HostArray], float]
"""A function of targets, predictions (probabilities, or expected values) and weights, all on the host."""


def right_classes(t: HostArray, p: HostArray, weight: HostArray) -> float:
    """The weighted share of samples whose most probable class is right."""
    return float(np.average(np.argmax(p, axis=1) == (t if t.ndim == 1 else np.argmax(t, axis=1)), weights=weight))


def right_decisions(t: HostArray, p: HostArray, weight: HostArray) -> float:
    """The weighted share of samples whose every yes or no is right."""
    return float(np.average(((p > 0.5) == (t > 0.5)).all(axis=1), weights=weight))


def r2(t: HostArray, p: HostArray, weight: HostArray) -> float:
    """Coefficient of determination: 1 - sum w (t - p)^2 / sum w (t - mean(t))^2, averaged over the outputs."""
    t, w = t.astype(np.float64), weight[:, None]
    mean = np.average(t, axis=0, weights=weight)
    left, whole = np.sum(w * (t - p) ** 2, axis=0), np.sum(w * (t - mean) ** 2, axis=0)
    return float(np.mean(np.where(whole > 0, 1.0 - left / np.where(whole > 0, whole, 1.0), np.nan)))


def auc(t: HostArray, p: HostArray, weight: HostArray) -> float:
    """Area under the receiver operating characteristic, by scikit-learn; of several classes one against the rest."""
    with needs("the metric 'auc'", "scikit-learn", "sklearn"):
        from sklearn.metrics import roc_auc_score
    if t.ndim == 1 and p.shape[1] > 2:
        options: dict[str, Any] = {"multi_class": "ovr", "labels": np.arange(p.shape[1])}
        return float(roc_auc_score(t, p.astype(np.float64) / p.sum(axis=1, keepdims=True, dtype=float), **options))
    of_yes = p[:, 1] if t.ndim == 1 else p
    return float(roc_auc_score(t, of_yes, sample_weight=weight))


METRICS: dict[str, dict[str, Metric]] = {
    "accuracy": {"classification": right_classes, "binary": right_decisions},
    "auc": {"classification": auc, "binary": auc},
    "r2": {"regression": r2},
}
"""Every metric by its name and the kind of loss that it goes with."""


def check_metrics(net: Model, metrics: Any) -> dict[str, Metric]:
    """Return metrics by name: names of `METRICS`, and functions ``f(t, p)`` by their own."""
    if isinstance(metrics, str) or callable(metrics):
        metrics = [metrics]
    found: dict[str, Metric] = {}
    for k, metric in enumerate(check_items("metrics", metrics, "names or functions f(t, p)")):
        if callable(metric):
            found[getattr(metric, "__name__", type(metric).__name__)] = _without_weights(metric)
        elif not isinstance(metric, str) or metric not in METRICS:
            raise ConfigError(
                f"metrics[{k}] is {metric!r}; names are {', '.join(METRICS)}, and a function f(t, p) serves too."
                f"{closest(str(metric), METRICS)}"
            )
        elif net.loss.kind not in METRICS[metric]:
            raise ConfigError(
                f"metrics[{k}] {metric!r} is for losses of the kind {' or '.join(METRICS[metric])}; the network has "
                f"{type(net.loss).__name__} ({net.loss.kind})"
            )
        else:
            found[metric] = METRICS[metric][net.loss.kind]
    return found


def _without_weights(f: Callable[[HostArray, HostArray], Any]) -> Metric:
    return lambda t, p, weight: float(f(t, p))


def measure(
    net: Model, metrics: dict[str, Metric], x: Any, t: Any, weight: HostArray, batch_size: int | None = None,
    scale: float | None = None,
) -> dict[str, float]:  # fmt: skip
    """Return what the metrics say of the network's predictions for samples as `score` takes them."""
    if not metrics:
        return {}
    size = rows_at_once(net, batch_size)
    pieces = [
        (net.backend.to_numpy(targets), in_batches(net, piece, size, scale, proba=True))
        for _, piece, targets in with_targets(net, x, t, size, scale)
    ]
    targets, p = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    return {name: metric(targets, p, weight) for name, metric in metrics.items()}


def evaluate(
    net: Model, x: Any, t: Any, sample_weight: Any, *, batch_size: int | None, metrics: Any = (),
    scale: float | None = None,
) -> dict[str, float]:  # fmt: skip
    """See `Network.evaluate`."""
    asked = check_metrics(net, metrics)
    with explained(net.backend, "evaluation"):
        x, t = checked(net, x, t)
        weight = np.ones(x.shape[0])
        if sample_weight is not None:
            weight = check_sample_weight(in_memory(sample_weight), x.shape[0], net.backend)
        found = score(net, x, t, weight, batch_size, scale)
        if isnan(found["loss"]):
            raise NonFiniteError(f"the mean loss is not a number: the network's output {NOT_FINITE}")
        return found | measure(net, asked, x, t, weight, batch_size, scale)
