"""NumPy: the reference backend, on the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from xpnet.backends.base import Backend, Eager, Loader, Program, Step
from xpnet.backends.cpu import denormals, openblas
from xpnet.backends.cpu.products import TILES, matmul
from xpnet.backends.cpu.replay import Replay
from xpnet.backends.cpu.threads import cores
from xpnet.backends.host import Host
from xpnet.backends.tape.record import CannotRecord, record
from xpnet.typing import HostArray


def usual_threads() -> int:
    """Return the number of cores that this process may use, or of the threads that NumPy's products have, if fewer.

    So whoever has told these to be modest, as programs do that start a process for each core, need not tell twice. They
    are eight at most, twice as many as a product of many columns has tiles.
    """
    return max(1, min(cores(), openblas.single.usual() or 1, 2 * TILES))


class _Active(np.errstate):
    """The context of everything that is computed."""

    def __init__(self) -> None:
        super().__init__(all="ignore")
        self._single = openblas.single()

    def __enter__(self) -> Any:
        self._single.__enter__()
        self._found = denormals.setting(denormals.ZERO)
        return super().__enter__()

    def __exit__(self, *failure: Any) -> Any:
        self._single.__exit__()
        denormals.setting(self._found)
        return super().__exit__(*failure)


class InPlace(Loader):
    """Lets blocks be written where they belong: nothing is copied."""

    def room(self, array: HostArray, start: int, stop: int, dtype: np.dtype[Any]) -> HostArray:
        return array[start:stop]

    def send(self, room: HostArray, array: HostArray, start: int) -> None:
        """Do nothing: it is there."""


class NumpyBackend(Backend):
    """NumPy on the CPU.

    Parameters
    ----------
    threads : int, optional
        On how many cores a network's products and training steps run; by default as in `usual_threads`.
        It changes no number.
    """

    name = "numpy"
    device = "cpu"
    replays = is_host = True

    def __init__(self, threads: int | None = None) -> None:
        self._asked = threads
        self.threads = usual_threads() if threads is None else threads
        self.xp = Host(matmul=lambda a, b: matmul(a, b, self.threads))

    def __reduce__(self) -> Any:
        return type(self), (self._asked,)

    def owns(self, a: Any) -> bool:
        return isinstance(a, np.ndarray)

    def dlpack_device(self) -> tuple[int, int]:
        return 1, 0

    def loader(self) -> Loader:
        return InPlace(self)

    def active(self) -> contextlib.AbstractContextManager[Any]:
        # Overflow is found by looking at the results, on every backend alike, and reported with its place.
        return _Active()

    @contextlib.contextmanager
    def using(self, cores: int | None) -> Iterator[None]:
        before = self.threads
        if cores is not None and self._asked is None:
            self.threads = min(before, cores)
        try:
            yield
        finally:
            self.threads = before

    def capture(self, step: Step, arrays: Mapping[str, Any], changes: Sequence[Any]) -> Program:
        try:
            return Replay(record(step, self.xp, arrays), self.threads)
        except Exception:  # memory may not suffice: as it is written it is right in any case
            return super().capture(step, arrays, changes)

    def compile(self, step: Step, arrays: Mapping[str, Any], changes: Sequence[Any]) -> Program:
        try:
            return Replay(record(step, self.xp, arrays), self.threads)
        except MemoryError:
            raise
        except CannotRecord as reason:
            self.tell_as_written(reason)
            return super().compile(step, arrays, changes)
        except Exception as error:  # the step's own, which it will raise again: there is something to tell if not
            return Eager(step, self.xp, arrays, after=partial(self.tell_as_written, error))

    def describe(self) -> str:
        blas = openblas.of_numpy()
        products = "NumPy's own calls" if blas is None else "the OpenBLAS of NumPy's package"
        return f"NumPy {np.__version__} on the CPU, threads: {self.threads}, products: {products}{openblas.advice()}"
