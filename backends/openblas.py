"""Which of its kernels NumPy's matrix library chose, and whether the processor has better ones."""

from __future__ import annotations

import ctypes
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
    """Return a sentence for who could have faster matrix products, or nothing.

    OpenBLAS does not know every new processor, and gives one that it does not know the kernels of an old one.
    """
    kernels = chosen_kernels()
    if kernels is None:
        return ""
    if kernels in WIDE or not has_avx512():
        return f", OpenBLAS kernels for {kernels}"
    return (
        f", OpenBLAS kernels for {kernels}; this processor has AVX-512, so that products may be up to twice as fast "
        "with the environment variable OPENBLAS_CORETYPE=SkylakeX"
    )
