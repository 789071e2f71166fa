"""Which library computes, on which device, and in which library the answers come back."""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np
from sklearn import get_config

from xpnet.backends import Backend
from xpnet.backends import get as get_backend
from xpnet.backends.standard import StandardBackend
from xpnet.errors import BackendMismatchError
from xpnet.model.sources import in_memory


class FittedElsewhereError(BackendMismatchError, ValueError):
    """Data of one library or device, for an estimator that was fitted on another."""


def backend_of(a: Any) -> Backend | None:
    """Return the backend on which `a` lives, or None for what scikit-learn makes a NumPy array of.

    CuPy arrays, and tensors of PyTorch on a GPU, are never moved to the host silently; arrays of the other libraries,
    and PyTorch's on the CPU, count as such only under scikit-learn's ``array_api_dispatch``.
    """
    if isinstance(a, np.ndarray | np.generic) or not array_api_compat.is_array_api_obj(a):
        return None
    if array_api_compat.is_cupy_array(a):
        return get_backend("cupy", a.device.id)
    dispatch = get_config()["array_api_dispatch"]
    if array_api_compat.is_torch_array(a) and (dispatch or a.device.type != "cpu"):
        return get_backend(f"torch:{a.device}")
    if dispatch:
        return StandardBackend(array_api_compat.array_namespace(a).__name__, array_api_compat.device(a))
    return None


def choose_backend(backend: str | Backend | None, X: Any) -> Backend:
    """Return the backend that the parameter `backend` and the data ask for."""
    own = backend_of(X)
    if backend is None:
        return own or get_backend("numpy")
    chosen = get_backend(backend)
    if own is not None and not own.same_place(chosen):
        raise BackendMismatchError(
            f"X is on {own.name}, but backend={chosen.name!r}; pass NumPy arrays, which are moved there, "
            "or leave backend=None to compute where X is"
        )
    return chosen


def check_same_place(X: Any, backend: Backend, fitted_with_arrays: bool, estimator: str, method: str) -> None:
    """Raise unless `X` may be computed on by a network on `backend`.

    Data on the host may always go to a network that was asked for by name; a network that followed its
    training data to a device answers questions from this device alone.
    """
    own = backend_of(X)
    if own is not None and own.same_place(backend):
        return
    if own is None and (not fitted_with_arrays or backend == get_backend("numpy")):
        return
    came = "the host (NumPy)" if own is None else own.name
    raise FittedElsewhereError(
        f"Inputs passed to {estimator}.{method}() must use the same namespace and the same device as those passed to "
        f"fit(): it was fitted on {backend.name}, X is on {came}. Move X, or move the estimator with "
        "sklearn.utils._array_api.move_estimator_to"
    )


def to_host(a: Any) -> Any:
    """Return `a` as a NumPy array if it lies in a file or on a device that `backend_of` knows, else as it is."""
    a = in_memory(a)
    backend = backend_of(a)
    return a if backend is None else backend.to_numpy(a)
