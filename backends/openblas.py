"""Which of its kernels NumPy's matrix library uses, and whether it was told to leave better ones aside."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import numpy as np

NAMES = ("scipy_openblas_get_corename64_", "scipy_openblas_get_corename", "openblas_get_corename64_")
WIDE = ("SkylakeX", "Cooperlake", "SapphireRapids")
"""Kernels that use AVX-512."""


def chosen_kernels(folder: Path | None = None) -> str | None:
    """Return the processor for which the OpenBLAS in NumPy's own package made its kernels, if it says so."""
    folder = Path(np.__file__).parent.parent / "numpy.libs" if folder is None else folder
    for path in sorted(folder.glob("*openblas*")):
        try:
            library = ctypes.CDLL(str(path))  # it is loaded already: this only finds it
        except OSError:
            continue
        for name in NAMES:
            function = getattr(library, name, None)
            if function is not None:
                function.restype = ctypes.c_char_p
                return bytes(function()).decode()
    return None


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
    kernels = chosen_kernels()
    if kernels is None:
        return ""
    told = os.environ.get("OPENBLAS_CORETYPE")
    if not told or kernels in WIDE or not has_avx512():
        return f", OpenBLAS kernels for {kernels}"
    return (
        f", OpenBLAS kernels for {kernels} because the environment variable OPENBLAS_CORETYPE is {told!r}; without it "
        "products may be up to twice as fast, since this processor has AVX-512"
    )
