"""NumPy: the reference backend, on the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import array_api_compat.numpy
import numpy as np
from xpnet.backends.base import Backend, Step
from xpnet.backends.plan import plan
from xpnet.backends.tape import CannotRecord, record


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

    def compile(self, step: Step, arrays: Mapping[str, Any]) -> Callable[[], None]:
        try:
            calls = plan(record(step, self.xp, arrays))
        except CannotRecord:  # a user's layer may look at values; then each step runs as it is written
            return super().compile(step, arrays)

        def replay() -> None:
            for call in calls:
                call()

        return replay

    def describe(self) -> str:
        return f"NumPy {np.__version__} on the CPU"
