"""NumPy: the reference backend, on the CPU."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import array_api_compat.numpy
import numpy as np

from xpnet.backends.base import Backend, Eager, Loader, Program, Step
from xpnet.backends.cpu import openblas
from xpnet.backends.cpu.replay import Replay
from xpnet.backends.tape.record import CannotRecord, record
from xpnet.typing import HostArray


def matmul(a: Any, b: Any) -> Any:
    """Return the matrix product; that of half precision by way of float32, as on a GPU, which is much faster, too."""
    if a.dtype == b.dtype == np.float16:
        return np.matmul(a.astype(np.float32), b.astype(np.float32)).astype(np.float16)
    return np.matmul(a, b)


class InPlace(Loader):
    """Lets blocks be written where they belong: nothing is copied."""

    def room(self, array: HostArray, start: int, stop: int, dtype: np.dtype[Any]) -> HostArray:
        return array[start:stop]

    def send(self, room: HostArray, array: HostArray, start: int) -> None:
        """Do nothing: it is there."""


class NumpyBackend(Backend):
    """NumPy on the CPU."""

    name = "numpy"
    xp = types.SimpleNamespace(**vars(array_api_compat.numpy) | {"matmul": matmul})
    device = "cpu"

    def owns(self, a: Any) -> bool:
        return isinstance(a, np.ndarray)

    def dlpack_device(self) -> tuple[int, int]:
        return 1, 0

    def loader(self) -> Loader:
        return InPlace(self)

    def active(self) -> contextlib.AbstractContextManager[Any]:
        # Overflow is found by looking at the results, on every backend alike, and reported with its place.
        return np.errstate(all="ignore")

    def compile(self, step: Step, arrays: Mapping[str, Any], changes: Sequence[Any]) -> Program:
        try:
            return Replay(record(step, self.xp, arrays))
        except MemoryError:
            raise
        except CannotRecord as reason:
            self.tell_as_written(reason)
            return super().compile(step, arrays, changes)
        except Exception as error:  # the step's own, which it will raise again: there is something to tell if not
            return Eager(step, self.xp, arrays, after=partial(self.tell_as_written, error))

    def describe(self) -> str:
        return f"NumPy {np.__version__} on the CPU{openblas.advice()}"
