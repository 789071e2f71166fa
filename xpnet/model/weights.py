"""How much each sample counts: checked weights of samples, and weights by class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnet.backends import Backend
from xpnet.errors import ConfigError, DataError, ShapeError
from xpnet.model.data import check_numeric, on_host
from xpnet.typing import HostArray
from xpnet.validation import check_number


def check_sample_weight(weight: Any, samples: int, backend: Backend, *, name: str = "sample_weight") -> HostArray:
    """Return the weights as float64 of shape (samples,) on the host, or raise."""
    array = on_host(name, weight, backend)
    check_numeric(name, array)
    if array.shape != (samples,):
        raise ShapeError(f"{name} has shape {array.shape}, expected ({samples},): one weight a sample")
    result = array.astype(np.float64)
    if not np.isfinite(result).all() or (result < 0).any() or not result.any():
        raise DataError(
            f"{name} must be finite, not negative and not all zero; smallest {result.min()}, sum {result.sum()}"
        )
    # Only ratios matter: numbers whose sum, or its inverse, is out of range are scaled; all others stay as they are.
    with np.errstate(over="ignore"):
        return result if 1e-200 < result.sum() < 1e200 else result / result.max()


def decided(t: HostArray) -> HostArray:
    """Return targets (N, 1) of one yes or no as classes 0 and 1 (N,), or raise."""
    if t.shape[1] > 1:
        raise ShapeError(
            f"class_weight is for one output of yes or no, but t has {t.shape[1]} columns; use sample_weight instead"
        )
    if not ((t == 0) | (t == 1)).all():
        raise DataError("class_weight needs targets 0 and 1, but t has numbers between; use sample_weight instead")
    return t[:, 0].astype(np.int64)


def class_weights(class_weight: Mapping[int, float] | str, t: HostArray, classes: int) -> HostArray:
    """Return each sample's weight by its class.

    ``"balanced"`` gives class c the weight samples / (number of classes present * samples of class c); a mapping
    gives the weights of the classes it names, and 1 to the others.
    """
    if t.ndim != 1:
        raise ShapeError(f"class_weight needs integer classes, but t has shape {t.shape}; use sample_weight instead")
    counts = np.bincount(t, minlength=classes)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ConfigError(f"class_weight must be 'balanced' or a mapping class -> weight, got {class_weight!r}")
        table = len(t) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    elif isinstance(class_weight, Mapping):
        table = np.ones(classes)
        for label, weight in class_weight.items():
            if label not in range(classes):
                raise DataError(f"class_weight names class {label!r}; expected 0..{classes - 1}")
            table[int(label)] = check_number(f"class_weight[{label!r}]", weight, 0.0)
    else:
        raise ConfigError(f"class_weight must be 'balanced' or a mapping class -> weight, got {class_weight!r}")
    return np.asarray(table[t], dtype=np.float64)
