"""NumPy: the reference backend, on the CPU."""

from __future__ import annotations

import contextlib
from typing import Any

import array_api_compat.numpy
import numpy as np
from xpnet.backends.base import Backend


class NumpyBackend(Backend):
    """NumPy on the CPU."""

    name = "numpy"
    xp = array_api_compat.numpy
    device = "cpu"

    def owns(self, a: Any) -> bool:
        return isinstance(a, np.ndarray)

    def active(self) -> contextlib.AbstractContextManager[Any]:
        # Overflow is found by looking at the results, on every backend alike, and reported with its place.
        return np.errstate(all="ignore")

    def describe(self) -> str:
        return f"NumPy {np.__version__} on the CPU"
