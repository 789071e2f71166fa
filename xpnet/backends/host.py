"""NumPy's functions as the array API standard has them.

Since version 2.1 most of NumPy's own are that, and are taken as they are. The others, which array-api-compat wraps, are
loaded when one of them is asked for: to import them takes longer than all of xpnet.
"""

from __future__ import annotations

import types
from importlib import import_module
from typing import Any

import numpy as np

WRAPPED = (
    "argsort", "ceil", "clip", "count_nonzero", "cumulative_prod", "cumulative_sum", "eye", "fft", "floor", "full_like",
    "iinfo", "linalg", "linspace", "matrix_transpose", "nonzero", "sign", "sort", "std", "take_along_axis", "tensordot",
    "trunc", "unique_all", "unique_counts", "unique_inverse", "unique_values", "var",
)  # fmt: skip
"""What NumPy has otherwise: without an argument, or for other types."""


PLAIN = {name: value for name, value in vars(np).items() if name not in WRAPPED}


class Host(types.SimpleNamespace):
    """The namespace of the standard for NumPy's arrays, with some functions in place of others."""

    def __init__(self, **instead: Any) -> None:
        super().__init__()
        vars(self).update(PLAIN, **instead)

    def __getattr__(self, name: str) -> Any:
        value = getattr(import_module("array_api_compat.numpy"), name)
        setattr(self, name, value)
        return value


host = Host()
