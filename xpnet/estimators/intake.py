"""Checks of what users pass, by scikit-learn's own functions, so that the messages are the known ones."""

from __future__ import annotations

from math import prod
from typing import Any

import array_api_compat
import numpy as np
from sklearn import get_config
from sklearn.utils import check_X_y
from sklearn.utils.validation import _check_sample_weight, validate_data

from xpnet.backends import get as get_backend
from xpnet.errors import DataError, DTypeError
from xpnet.estimators.arrays import backend_of, choose_backend, to_host
from xpnet.model.data import check_inputs, check_numeric
from xpnet.model.exchange import taken
from xpnet.model.frames import columns_of
from xpnet.model.memory import free_memory
from xpnet.model.rows import Rows
from xpnet.model.sources import rows_of
from xpnet.typing import HostArray


def dtype_name(x: Any) -> str:
    """Return the precision of checked samples."""
    return "float32" if "float32" in str(x.dtype) else "float64"


def from_file(est: Any, X: Any) -> Any:
    """Return what is read from a file as an array if it fits in half of the free memory, or else as rows."""
    rows = rows_of(X)
    if rows is None:
        return X
    room = free_memory(choose_backend(est.backend, X)) / 2
    if prod(rows.shape) * rows.dtype.itemsize > room and est.solver != "lbfgs":  # which needs all samples at each step
        return rows
    return X if isinstance(X, np.ndarray) else rows.all()  # a mapped file, as joblib shares it, stays one


def check_X(est: Any, X: Any, *, reset: bool) -> Any:
    """Return checked samples: an array of real numbers of the library that came in, sparse rows, or a file's."""
    if backend_of(X) is None:
        own = get_backend(est.backend or "numpy")
        X = taken("X", X, own)
        X = own.to_numpy(X) if own.owns(X) and backend_of(X) is None else X
    X = from_file(est, X)
    if isinstance(X, Rows):
        check_numeric("X", X)
        if len(X.shape) != 2:
            raise ValueError(f"Expected 2D array, got {len(X.shape)}D array instead. Reshape your data")
        validate_data(est, X, reset=reset, skip_check_array=True)
        return X
    backend = backend_of(X)
    if backend is None or get_config()["array_api_dispatch"]:
        xp: Any = np if backend is None else array_api_compat.array_namespace(X)
        try:
            return validate_data(est, X, accept_sparse=["csr", "csc"], dtype=[xp.float64, xp.float32], reset=reset)
        except (TypeError, ValueError):
            check_columns(X)
            raise
    # scikit-learn would try to make a NumPy array of a CuPy array, which CuPy refuses.
    x = check_inputs(X, tuple(X.shape[1:]) if X.ndim == 2 else (0,), backend, dtype_name(X), name="X")
    validate_data(est, x, reset=reset, skip_check_array=True)
    return x


def check_columns(X: Any) -> None:
    """Raise if a column of a table is at fault, and name it, which scikit-learn does not."""
    if columns := columns_of(X):
        try:
            check_inputs(X, (len(columns),), get_backend("numpy"), "float64", name="X")
        except DTypeError as error:
            raise DataError(str(error)) from None  # a ValueError, as scikit-learn's is


def check_y(est: Any, y: Any, samples: int) -> Any:
    """Return checked targets on the host, one or a row for each of `samples`."""
    if y is None:
        raise ValueError(f"This {type(est).__name__} estimator requires y to be passed, but the target y is None.")
    stand_in = np.zeros((samples, 1))
    return check_X_y(stand_in, to_host(y), multi_output=True, y_numeric=est._numeric_targets, estimator=est)[1]


def check_weights(sample_weight: Any, samples: int) -> HostArray | None:
    """Return checked sample weights on the host."""
    if sample_weight is None:
        return None
    return np.asarray(_check_sample_weight(to_host(sample_weight), np.zeros((samples, 1))))
