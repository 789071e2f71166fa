"""OpenBLAS, the library of matrix products that comes with NumPy: its functions, and for whom its kernels are."""

from __future__ import annotations

import ctypes
import functools
import os
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
