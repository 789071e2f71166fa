"""OpenBLAS, the library of matrix products that comes with NumPy: functions, kernels, and its number of threads."""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ENDINGS = (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", ""))
"""What NumPy's builds put before and after the names of OpenBLAS's functions; "64_" means sizes of 64 bits."""
WIDE = ("SkylakeX", "Cooperlake", "SapphireRapids")
"""Kernels that use AVX-512."""


class OpenBlas:
    """A loaded OpenBLAS.

    Attributes
    ----------
    kernels : str
        The processor for which its kernels were made.
    size : ctypes type
        The type of the sizes that its functions take.
    threads, set_threads : callable
        Return, or change, how many threads of its own it may use.
    """

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        for self._ending in ENDINGS:
            name = getattr(self._library, self._named("openblas_get_corename"), None)
            if name is not None:
                break
        else:
            raise OSError(f"{path} is not an OpenBLAS that tells its kernels")
        name.restype = ctypes.c_char_p
        self.kernels = bytes(name()).decode()
        self.size: Any = ctypes.c_int64 if self._ending[1] else ctypes.c_int
        keeping_gil = ctypes.PyDLL(str(path))
        self.threads: Callable[[], int] = keeping_gil[self._named("openblas_get_num_threads")]
        self.set_threads: Callable[[int], None] = keeping_gil[self._named("openblas_set_num_threads")]

    def _named(self, name: str) -> str:
        before, after = self._ending
        return f"{before}{name}{after}"

    def address(self, name: str) -> int:
        """Return the address of a function by the name that OpenBLAS's documentation gives it."""
        return int(ctypes.cast(self._library[self._named(name)], ctypes.c_void_p).value or 0)


def in_folder(folder: Path) -> OpenBlas | None:
    """Return the OpenBLAS in a folder of libraries, or None if there is none that can be used."""
    for path in sorted(folder.glob("*openblas*")):
        try:
            return OpenBlas(path)
        except OSError:
            continue
    return None


@functools.cache
def of_numpy() -> OpenBlas | None:
    """Return the OpenBLAS in NumPy's own package, or None if NumPy uses another library, or one from elsewhere.

    NumPy has loaded it already; this only finds it.
    """
    return in_folder(Path(np.__file__).parent.parent / "numpy.libs")


class Single:
    """Contexts in which products are done by one thread, the caller's; afterwards the setting is as it was found.

    OpenBLAS has one setting for a process: it is set back when the last context of all threads is left. One that an
    interrupt has kept from being left is left when it is no longer there. There is no lock, which an interrupt could
    leave locked: a line that asks and acts is not divided among Python's threads, since what it calls keeps the GIL.
    """

    def __init__(self) -> None:
        self._inside: dict[int, tuple[weakref.ref[_Context], int]] = {}  # and the thread
        self._found = 0
        self._changed = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def __call__(self) -> _Context:
        """Return a context."""
        return _Context(self)

    def usual(self) -> int | None:
        """Return the number of threads that is set outside of these contexts; None where nobody can tell."""
        blas = of_numpy()
        return None if blas is None else self._found if self._changed else blas.threads()

    def enter(self, context: _Context) -> None:
        """See to it that there is one thread until the context is left, or gone."""
        key, blas = id(context), of_numpy()
        if blas is not None:
            here = weakref.ref(context, lambda _: self.leave(key)), threading.get_ident()
            self._found = self._found if self._changed else blas.threads()
            self._changed = True
            self._inside[key] = here
            blas.set_threads(1)

    def leave(self, key: int) -> None:
        """Set the number back if this was the last context."""
        try:
            try:
                self._inside.pop(key, None)
            finally:
                self._settle()
        finally:
            self._settle()  # for an interrupt that came in the first

    def _settle(self) -> None:
        blas = of_numpy()
        if blas is not None and self._changed:
            _ = self._inside or blas.set_threads(self._found)
            self._changed = self._inside != {}

    def _forked(self) -> None:
        """Forget the other threads, which this process does not have."""
        for key in [key for key, (_, thread) in self._inside.items() if thread != threading.get_ident()]:
            self.leave(key)


class _Context:
    """A context of `Single`."""

    def __init__(self, single: Single) -> None:
        self._single = single

    def __enter__(self) -> None:
        self._single.enter(self)

    def __exit__(self, *_: object) -> None:
        self._single.leave(id(self))


single = Single()


def has_avx512(processor: Path = Path("/proc/cpuinfo")) -> bool:
    """Say whether the processor has AVX-512; False where the system does not tell."""
    try:
        flags = processor.read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return all(flag in flags for flag in ("avx512f", "avx512bw", "avx512dq", "avx512vl"))


def advice() -> str:
    """Return a clause that names the kernels, and says so if a setting keeps the processor's own from being used.

    OpenBLAS chooses by the processor, unless the environment variable ``OPENBLAS_CORETYPE`` tells it otherwise.
    """
    blas = of_numpy()
    if blas is None:
        return ""
    kernels = blas.kernels
    told = os.environ.get("OPENBLAS_CORETYPE")
    if not told or kernels in WIDE or not has_avx512():
        return f", OpenBLAS kernels for {kernels}"
    return (
        f", OpenBLAS kernels for {kernels} because the environment variable OPENBLAS_CORETYPE is {told!r}; without it "
        "products may be up to twice as fast, since this processor has AVX-512"
    )
