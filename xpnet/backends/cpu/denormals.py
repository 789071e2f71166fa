"""Numbers too small to have all digits, below 1.2e-38 in float32, count as zero where that makes a difference in time.

Processors of x86 take some 150 cycles for an operation with one of these denormal numbers, and trainings make them: the
running mean of a gradient that has become zero shrinks until it is one, and stays one, since 0.9 times the smallest
number is rounded to that number. On MNIST a step of 784-512-512-10 with Adam took 1.6 times as long after 20 epochs.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

SLOTS, CONTROL = 8, 7
"""Words of C's ``fenv_t`` on Linux for x86-64, and which of them controls the units for vectors (MXCSR)."""
ZERO = 0x8000
"""Its bit that makes zero of such results; operands keep their values, such as weights of samples, however small."""


def _functions() -> tuple[Callable[[Any], int], Callable[[Any], int]] | None:
    """Return C's functions that read and set a thread's floating-point environment, if its layout is known."""
    if not (sys.platform == "linux" and platform.machine() == "x86_64" and sys.maxsize > 2**32):
        return None
    library = ctypes.PyDLL(None)
    try:
        return library.fegetenv, library.fesetenv
    except AttributeError:
        return None


known = _functions()
for _dtype in (np.float16, np.float32, np.float64):
    np.finfo(_dtype)  # NumPy makes them once, and would warn of a smallest number that counts as zero


def setting(wanted: int | None = None) -> int:
    """Return which bits of `ZERO` this thread has, and give it those that are wanted."""
    if known is None:
        return 0
    (read, write), environment = known, (ctypes.c_uint32 * SLOTS)()
    read(environment)
    found = environment[CONTROL] & ZERO
    if wanted is not None and wanted != found:
        environment[CONTROL] ^= wanted ^ found
        write(environment)
    return found
