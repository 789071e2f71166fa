"""Checks of data at the public boundary, before anything changes, and its one move to the device."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import array_api_compat
import numpy as np

from xpnet.backends import Backend
from xpnet.errors import (
    BackendMismatchError,
    DataError,
    DTypeError,
    ShapeError,
)
from xpnet.losses import Loss, Poisson, PoissonDeviance
from xpnet.model.casting import cast
from xpnet.model.exchange import taken
from xpnet.model.frames import as_numbers, columns_of
from xpnet.typing import Array, HostArray, Shape


def to_host(name: str, a: Any, backend: Backend) -> HostArray:
    """Return `a` as a plain NumPy array, refusing what would be silently moved or misread."""
    if array_api_compat.is_array_api_obj(a) and not isinstance(a, np.ndarray | np.generic):
        raise BackendMismatchError(
            f"{name} is a {type(a).__module__}.{type(a).__name__} but the network computes with {backend.name}; "
            "pass a NumPy array, or an array of the network's own library and device"
        )
    if hasattr(a, "collect_schema") and not hasattr(a, "__array__"):  # polars's frame of things to be done
        raise DTypeError(f"{name} is a {type(a).__name__}, which has no values yet; pass {name}.collect()")
    if isinstance(a, list) and len(a) and isinstance(a[0], Mapping):
        raise DTypeError(f"{name} is a list of {type(a[0]).__name__}; make a table: pandas.DataFrame({name})")
    if isinstance(a, Mapping | Iterator):
        way = f"a table: pandas.DataFrame({name})" if isinstance(a, Mapping) else f"an array: numpy.stack([*{name}])"
        raise DTypeError(f"{name} is a {type(a).__name__}; make {way}")
    sparse = sys.modules.get("scipy.sparse")
    if hasattr(a, "toarray") and (sparse is None or sparse.issparse(a)):
        raise DTypeError(f"{name}: sparse input is not supported; call .toarray()")
    if isinstance(a, np.ma.MaskedArray):
        raise DTypeError(
            f"{name}: masked arrays are not supported; fill the masked entries first, e.g. {name}.filled(0)"
        )
    exports = hasattr(a, "__dlpack__") and not hasattr(a, "__array__")  # NumPy would take it for an object
    try:
        array = np.from_dlpack(a) if exports else np.asarray(a)
    except ValueError as error:
        raise ShapeError(f"{name} is not a rectangular array of numbers: {error}") from error
    if array.dtype.names is not None:
        raise DTypeError(f"{name}: structured arrays are not supported; stack the fields into columns")
    return as_numbers(name, a, array)


def stays(a: Any, backend: Backend) -> bool:
    """Say whether `a` is on the backend's device already, and that is not the host."""
    return backend.owns(a) and not backend.is_host


def on_host(name: str, a: Any, backend: Backend) -> HostArray:
    """Return `a`, an array of the backend or whatever `to_host` takes, as a NumPy array."""
    a = taken(name, a, backend)
    return backend.to_numpy(a) if stays(a, backend) else to_host(name, a, backend)


def check_numeric(name: str, array: Any) -> None:
    """Raise unless the data type is boolean, integer or real floating point."""
    if array.dtype.kind == "c":
        raise DTypeError(f"{name} has dtype {array.dtype}: Complex data not supported; pass real numbers")
    if array.dtype.kind not in "biuf":
        text = array.dtype.kind in "OUST"
        cure = f"; numpy.asarray({name}, dtype=float) makes numbers of what is written as text" if text else ""
        raise DTypeError(f"{name} has dtype {array.dtype}; expected booleans, integers or real numbers{cure}")


def check_shape(name: str, given: Shape, shape: Shape, minimum: int = 1) -> None:
    """Raise unless an array of shape `given` holds at least so many samples of this shape."""
    if len(given) != len(shape) + 1:
        raise ShapeError(
            f"{name} must have shape (samples, {', '.join(map(str, shape))}), got {given}."
            f" Reshape your data{_way(name, given, shape)}"
        )
    if given[0] < minimum:
        raise DataError(f"{name} has {given[0]} sample(s) (shape={given}) while a minimum of {minimum} is required")
    if 0 in given[1:]:
        raise DataError(f"{name} has 0 feature(s) (shape={given}) while a minimum of 1 is required")
    if tuple(given[1:]) != shape and len(shape) > 1:
        raise ShapeError(f"{name} has samples of shape {tuple(given[1:])}, but the network takes {shape}")
    if tuple(given[1:]) != shape:
        raise ShapeError(
            f"{name.upper()} has {given[1]} features, but Network is expecting {shape[0]} features as input"
            f" ({name} has shape {given})"
        )


def check_inputs(
    x: Any,
    shape: tuple[int, ...],
    backend: Backend,
    dtype: str,
    *,
    name: str = "x",
    minimum: int = 1,
    allow_nonfinite: bool = False,
    first: int = 0,
) -> Array:
    """Return `x`, samples of this shape, on the device in the network's data type, or raise; `first` counts rows."""
    x = taken(name, x, backend)
    own = stays(x, backend)
    array = x if own else to_host(name, x, backend)
    if not own:
        check_numeric(name, array)
    check_shape(name, tuple(array.shape), shape, minimum)
    if not own:
        columns = [label for label, _ in columns_of(x)]
        return backend.borrow(cast(name, array, dtype, allow_nonfinite, columns, first))
    xp = backend.xp
    if xp.isdtype(array.dtype, "complex floating"):
        raise DTypeError(f"{name} has dtype {array.dtype}: Complex data not supported; pass real numbers")
    with backend.active():
        array = xp.astype(array, getattr(xp, dtype), copy=False)
        finite = allow_nonfinite or bool(xp.all(xp.isfinite(array)))
    if not finite:
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
    t: Any, samples: int, outputs: int, loss: Loss, backend: Backend, dtype: str, *, name: str = "t", first: int = 0
) -> Array:
    """Return targets on the device in the form that `loss` takes, or raise; see `target_values`."""
    t = taken(name, t, backend)
    if stays(t, backend):
        found = _targets_on_device(t, samples, outputs, loss, backend, dtype)
        if found is not None:
            return found  # else they are looked at on the host, which says what is wrong
    return backend.asarray(target_values(on_host(name, t, backend), samples, outputs, loss, dtype, name, first))


def target_values(
    array: HostArray, samples: int, outputs: int, loss: Loss, dtype: str, name: str = "t", first: int = 0
) -> HostArray:
    """Return targets in the form that `loss` takes, or raise; row `first` of the data is their first.

    Classes are int64 of shape (samples,); everything else has the data type of the network's output and its shape
    (samples, outputs), or fewer columns if the loss has several outputs for one. A vector serves where there is one.
    """
    if array.ndim == 0 and array.dtype.kind in "UO":
        given = repr(array.item())[:100]
        raise ShapeError(f"{name} is {given}; give the targets themselves, such as table[{given}]")
    check_length(samples, array.shape, name)
    if loss.kind == "classification":
        if array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1 and outputs > 1):
            return _check_classes(name, array.reshape(-1), outputs, first)
        check_numeric(name, array)
        _check_rows(name, array, samples, outputs, "integer classes or rows of probabilities")
        rows = cast(name, array, dtype, False, first=first)
        wrong = np.flatnonzero((np.abs(rows.sum(axis=1) - 1) > 1e-3) | (rows < 0).any(axis=1))
        if wrong.size:
            row = wrong[0]
            raise DataError(f"{name}[{row + first}] = {rows[row]} is not a row of probabilities that sum to 1")
        return rows
    if loss.kind == "binary" and array.size and array.dtype.kind in "UO" and isinstance(array.flat[0], str):
        raise DataError(f"{name} is text, but a binary target is 0 or 1: {name} == {str(array.flat[0])!r}, for example")
    check_numeric(name, array)
    columns = outputs // loss.per_target
    if array.ndim == 1 and columns == 1:
        array = array[:, None]
    if loss.per_target == 1:
        _check_rows(name, array, samples, columns, "one column an output of the network")
    else:
        each = f"one column for every {loss.per_target} outputs of the network"
        _check_rows(name, array, samples, columns, each, "expected")
    values = cast(name, array, dtype, False, first=first)
    if loss.kind == "binary" and ((values < 0) | (values > 1)).any():
        row = int(np.flatnonzero(((values < 0) | (values > 1)).any(axis=1))[0])
        shown = values[row, 0] if outputs == 1 else values[row]
        raise DataError(
            f"{name}[{row + first}] = {shown}; a binary target lies between 0 and 1: 0 for no and 1 for yes, "
            f"such as {name} == {values.max():g}"
        )
    if isinstance(loss, Poisson | PoissonDeviance) and (values < 0).any():
        row = int(np.flatnonzero((values < 0).any(axis=1))[0])
        raise DataError(f"{name}[{row + first}] = {values[row]}; a Poisson target is a count, at least 0")
    return values


def check_length(samples: int, given: Shape, name: str = "t") -> None:
    """Raise unless an array of shape `given` has as many samples as x."""
    if not given or given[0] != samples:
        count = f"{given[0]} samples" if given else "no samples"
        raise ShapeError(f"x has {samples} samples, {name} has {count}; they must be equally many")


def _targets_on_device(t: Array, samples: int, outputs: int, loss: Loss, backend: Backend, dtype: str) -> Array | None:
    """Return targets that lie on the device and are as the loss takes them, after one look at a number; else None."""
    xp = backend.xp
    with backend.active():
        columns = outputs // loss.per_target
        if t.ndim == 1 and columns == 1 and loss.kind != "classification":
            t = t[:, None]
        if loss.kind == "classification" and t.ndim == 1:
            if t.shape != (samples,) or not xp.isdtype(t.dtype, "integral"):
                return None
            good = (t >= 0) & (t < outputs)
            t = xp.astype(t, xp.int64, copy=False)
        else:
            if t.shape != (samples, columns) or not xp.isdtype(t.dtype, ("bool", "integral", "real floating")):
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


def _check_rows(
    name: str, array: HostArray, samples: int, outputs: int, accepted: str, wanted: str = "the network's output"
) -> None:  # fmt: skip
    if array.ndim != 2 or array.shape[1] != outputs:
        raise ShapeError(f"{name} has shape {array.shape}, {wanted} ({samples}, {outputs}); {name} must be {accepted}")


def _check_classes(name: str, array: HostArray, outputs: int, first: int) -> HostArray:
    expected = (
        f"expected integers 0..{outputs - 1}. Encode other labels, "
        f"e.g. classes, {name} = np.unique({name}, return_inverse=True)"
    )
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name}: label {array.tolist()[0]!r} at index {first} (dtype {array.dtype}); {expected}")
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(~((array >= 0) & (array < outputs) & (array == np.floor(array))))
    if bad.size:
        raise DataError(f"{name}: label {array[bad[0]]} at index {bad[0] + first}; {expected}")
    return array.astype(np.int64)
