"""Checks of data at the public boundary, before anything changes, and its one move to the device."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from math import prod
from typing import Any

import array_api_compat
import numpy as np

from xpnet.backends import Backend
from xpnet.errors import (
    BackendMismatchError,
    ConfigError,
    DataError,
    DTypeError,
    PrecisionWarning,
    ShapeError,
    warn_user,
)
from xpnet.losses import Loss, Poisson, PoissonDeviance
from xpnet.model.exchange import taken
from xpnet.typing import Array, HostArray
from xpnet.validation import check_number


def to_host(name: str, a: Any, backend: Backend) -> HostArray:
    """Return `a` as a plain NumPy array, refusing what would be silently moved or misread."""
    if array_api_compat.is_array_api_obj(a) and not isinstance(a, np.ndarray | np.generic):
        raise BackendMismatchError(
            f"{name} is a {type(a).__module__}.{type(a).__name__} but the network computes with {backend.name}; "
            "pass a NumPy array, or an array of the network's own library and device"
        )
    sparse = sys.modules.get("scipy.sparse")
    if hasattr(a, "toarray") and (sparse is None or sparse.issparse(a)):
        raise DTypeError(f"{name}: sparse input is not supported; call .toarray()")
    if isinstance(a, np.ma.MaskedArray):
        raise DTypeError(
            f"{name}: masked arrays are not supported; fill the masked entries first, e.g. {name}.filled(0)"
        )
    try:
        array = np.asarray(a)
    except ValueError as error:
        raise ShapeError(f"{name} is not a rectangular array of numbers: {error}") from error
    if array.dtype.names is not None:
        raise DTypeError(f"{name}: structured arrays are not supported; stack the fields into columns")
    return array


def _stays(a: Any, backend: Backend) -> bool:
    """Say whether `a` is on the backend's device already, and that is not the host."""
    return backend.owns(a) and not isinstance(a, np.ndarray)


def on_host(name: str, a: Any, backend: Backend) -> HostArray:
    """Return `a`, an array of the backend or whatever `to_host` takes, as a NumPy array."""
    a = taken(name, a, backend)
    return backend.to_numpy(a) if _stays(a, backend) else to_host(name, a, backend)


def check_numeric(name: str, array: HostArray) -> None:
    """Raise unless the data type is boolean, integer or real floating point."""
    if array.dtype.kind == "c":
        raise DTypeError(f"{name} has dtype {array.dtype}: Complex data not supported; pass real numbers")
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"{name} has dtype {array.dtype}; expected booleans, integers or real numbers")


def first_bad(array: HostArray) -> tuple[str, str] | None:
    """Return ("NaN" or "inf", "[17, 3]") for the first non-finite entry, or None."""
    with np.errstate(all="ignore"):
        if array.dtype.kind != "f" or np.isfinite(array.sum()):  # one NaN or infinity poisons the sum
            return None
    for start in range(0, len(array), 1024):
        bad = ~np.isfinite(array[start : start + 1024])
        if bad.any():
            index = tuple(int(i) for i in np.argwhere(bad)[0])
            index = (index[0] + start, *index[1:])
            return ("NaN" if np.isnan(array[index]) else "inf"), str(list(index))
    return None  # the sum overflowed though every entry is finite


def cast(name: str, array: HostArray, dtype: str, allow_nonfinite: bool, warn: bool) -> HostArray:
    """Return `array` in the network's data type, C-contiguous, saying so if that rounds."""
    with np.errstate(over="ignore", invalid="ignore"):
        result = np.ascontiguousarray(array, dtype=dtype)
    bad = None if allow_nonfinite else first_bad(result)
    if bad is not None:
        kind, index = first_bad(array) or (None, "")
        if kind is None:
            largest = np.finfo(dtype).max
            raise DataError(
                f"{name}{bad[1]} is larger than {largest:g}, the largest {dtype}; scale the data or use dtype='float64'"
            )
        raise DataError(f"{name} contains {kind}: {name}{index} is not finite; remove or replace such values first")
    if warn and array.dtype.kind == "f" and array.dtype.itemsize > np.dtype(dtype).itemsize:
        warn_user(
            f"{name} is {array.dtype} and is rounded once to the network's {dtype}; pass {dtype} data, or build the "
            f"network with dtype='{array.dtype}'",
            PrecisionWarning,
        )
    return result


def check_inputs(
    x: Any,
    shape: tuple[int, ...],
    backend: Backend,
    dtype: str,
    *,
    name: str = "x",
    minimum: int = 1,
    allow_nonfinite: bool = False,
    warn: bool = False,
) -> Array:
    """Return `x`, samples of this shape, on the device in the network's data type, or raise."""
    x = taken(name, x, backend)
    own = _stays(x, backend)
    array = x if own else to_host(name, x, backend)
    if not own:
        check_numeric(name, array)
    if array.ndim != len(shape) + 1:
        raise ShapeError(
            f"{name} must have shape (samples, {', '.join(map(str, shape))}), got {tuple(array.shape)}."
            f" Reshape your data{_way(name, tuple(array.shape), shape)}"
        )
    if array.shape[0] < minimum:
        raise DataError(
            f"{name} has {array.shape[0]} sample(s) (shape={tuple(array.shape)}) while a minimum of {minimum} is "
            "required"
        )
    if 0 in array.shape[1:]:
        raise DataError(f"{name} has 0 feature(s) (shape={tuple(array.shape)}) while a minimum of 1 is required")
    if tuple(array.shape[1:]) != shape and len(shape) > 1:
        raise ShapeError(f"{name} has samples of shape {tuple(array.shape[1:])}, but the network takes {shape}")
    if tuple(array.shape[1:]) != shape:
        raise ShapeError(
            f"{name.upper()} has {array.shape[1]} features, but Network is expecting {shape[0]} features as input"
            f" ({name} has shape {tuple(array.shape)})"
        )
    if not own:
        return backend.borrow(cast(name, array, dtype, allow_nonfinite, warn))
    xp = backend.xp
    if xp.isdtype(array.dtype, "complex floating"):
        raise DTypeError(f"{name} has dtype {array.dtype}: Complex data not supported; pass real numbers")
    if array.dtype != getattr(xp, dtype):
        array = xp.astype(array, getattr(xp, dtype))
    if not allow_nonfinite and not bool(xp.all(xp.isfinite(array))):
        raise DataError(f"{name} contains NaN or inf; remove or replace such values first")
    return backend.contiguous(array)


def _way(name: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Say how an array of this shape becomes one of samples of the shape that is wanted."""
    if len(wanted) == 1 and len(shape) == 1:
        return f": {name}.reshape(-1, 1) if it has a single feature, {name}.reshape(1, -1) if it is a single sample."
    if len(wanted) == 1:
        return f", e.g. {name}.reshape(len({name}), -1)."
    if shape == wanted:
        return f": {name}[None, ...] if it is a single sample."
    return f", e.g. {name}.reshape(-1, {', '.join(map(str, wanted))})." if prod(shape[1:]) == prod(wanted) else "."


def check_targets(
    t: Any, samples: int, outputs: int, loss: Loss, backend: Backend, dtype: str, *, name: str = "t"
) -> Array:
    """Return targets on the device in the form that `loss` takes, or raise.

    Classes are int64 of shape (samples,); everything else has the shape (samples, outputs) of the network's
    output and its data type. A vector serves where there is one output.
    """
    t = taken(name, t, backend)
    if _stays(t, backend):
        found = _targets_on_device(t, samples, outputs, loss, backend, dtype)
        if found is not None:
            return found  # else they are looked at on the host, which says what is wrong
    array = on_host(name, t, backend)
    if array.ndim == 0 or array.shape[0] != samples:
        count = "no samples" if array.ndim == 0 else f"{array.shape[0]} samples"
        raise ShapeError(f"x has {samples} samples, {name} has {count}; they must be equally many")
    if loss.kind == "classification":
        if array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1 and outputs > 1):
            return backend.asarray(_check_classes(name, array.reshape(-1), outputs))
        check_numeric(name, array)
        _check_rows(name, array, samples, outputs, "integer classes or rows of probabilities")
        rows = cast(name, array, dtype, False, False)
        wrong = np.flatnonzero((np.abs(rows.sum(axis=1) - 1) > 1e-3) | (rows < 0).any(axis=1))
        if wrong.size:
            raise DataError(f"{name}[{wrong[0]}] = {rows[wrong[0]]} is not a row of probabilities that sum to 1")
        return backend.asarray(rows)
    check_numeric(name, array)
    if array.ndim == 1 and outputs == 1:
        array = array[:, None]
    _check_rows(name, array, samples, outputs, "one column an output of the network")
    values = cast(name, array, dtype, False, False)
    if loss.kind == "binary" and ((values < 0) | (values > 1)).any():
        row = int(np.flatnonzero(((values < 0) | (values > 1)).any(axis=1))[0])
        raise DataError(f"{name}[{row}] = {values[row]}; a binary target lies between 0 and 1")
    if isinstance(loss, Poisson | PoissonDeviance) and (values < 0).any():
        row = int(np.flatnonzero((values < 0).any(axis=1))[0])
        raise DataError(f"{name}[{row}] = {values[row]}; a Poisson target is a count, at least 0")
    return backend.asarray(values)


def _targets_on_device(t: Array, samples: int, outputs: int, loss: Loss, backend: Backend, dtype: str) -> Array | None:
    """Return targets that lie on the device and are as the loss takes them, after one look at a number; else None."""
    xp = backend.xp
    with backend.active():
        if t.ndim == 1 and outputs == 1 and loss.kind != "classification":
            t = t[:, None]
        if loss.kind == "classification" and t.ndim == 1:
            if t.shape != (samples,) or not xp.isdtype(t.dtype, "integral"):
                return None
            good = (t >= 0) & (t < outputs)
            t = xp.astype(t, xp.int64, copy=False)
        else:
            if t.shape != (samples, outputs) or not xp.isdtype(t.dtype, ("bool", "integral", "real floating")):
                return None
            t = xp.astype(t, getattr(xp, dtype), copy=False)
            good = xp.isfinite(t)
            if loss.kind != "regression":
                good = good & (t >= 0) & (t <= 1)
            if loss.kind == "classification":
                good = good & (xp.abs(xp.sum(t, axis=1, keepdims=True) - 1) <= 1e-3)
            if isinstance(loss, Poisson | PoissonDeviance):
                good = good & (t >= 0)
        return backend.contiguous(t) if bool(xp.all(good)) else None


def _check_rows(name: str, array: HostArray, samples: int, outputs: int, accepted: str) -> None:
    if array.ndim != 2 or array.shape[1] != outputs:
        raise ShapeError(
            f"{name} has shape {array.shape}, the network's output ({samples}, {outputs}); {name} must be {accepted}"
        )


def _check_classes(name: str, array: HostArray, outputs: int) -> HostArray:
    expected = f"expected integers 0..{outputs - 1}"
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{name}: label {array[0]!r} at index 0 (dtype {array.dtype}); {expected}. Encode other labels, "
            f"e.g. classes, {name} = np.unique({name}, return_inverse=True)"
        )
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(~((array >= 0) & (array < outputs) & (array == np.floor(array))))
    if bad.size:
        raise DataError(f"{name}: label {array[bad[0]]} at index {bad[0]}; {expected}")
    return array.astype(np.int64)


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
