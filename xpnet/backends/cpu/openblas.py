"""OpenBLAS, the library of matrix products that comes with NumPy: functions, kernels, and its number of threads."""

from __future__ import annotations

import ctypes
import functools
import os
import threading
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
        self.threads: Callable[[], int] = self._library[self._named("openblas_get_num_threads")]
        self.set_threads: Callable[[int], None] = self._library[self._named("openblas_set_num_threads")]

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
    """A context in which products are done by one thread, the caller's; afterwards the setting is as it was found.

    OpenBLAS has one setting for a process: it is left alone again when the last of all threads that want this is done.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: dict[int, int] = {}  # how often, by thread
        self._found = 0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def usual(self) -> int | None:
        """Return the number of threads that is set outside of this context; None where nobody can tell."""
        blas = of_numpy()
        return None if blas is None else self._found if self._inside else blas.threads()

    def __enter__(self) -> None:
        me, blas = threading.get_ident(), of_numpy()
        with self._lock:
            if blas is not None and not self._inside:
                self._found = blas.threads()
                blas.set_threads(1)
            self._inside[me] = self._inside.get(me, 0) + 1

    def __exit__(self, *_: object) -> None:
        me = threading.get_ident()
        with self._lock:
            self._inside[me] -= 1
            if not self._inside[me]:
                del self._inside[me]
                self._restore()

    def _restore(self) -> None:
        blas = of_numpy()
        if blas is not None and not self._inside:
            blas.set_threads(self._found)

    def _forked(self) -> None:
        """Forget the other threads, which this process does not have."""
        me, inside, self._lock = threading.get_ident(), self._inside, threading.Lock()
        if inside:
            self._inside = {me: inside[me]} if me in inside else {}
            self._restore()


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
