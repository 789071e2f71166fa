"""Arrays with a shape, a data type and a place, and without numbers: what a step is recorded on.

A recording asks how results look, never what they are. So nothing is computed, and no memory is taken: a hollow array
lies at addresses that no process has, where NumPy makes views, and says which of them overlap, but can read nothing.
How a result lies in memory, on which the order of later sums depends, NumPy is asked with small arrays.
"""

from __future__ import annotations

import functools
import sys
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np

from xpnet.typing import HostArray, Shape


class Hollow(HostArray):
    """An array without numbers."""

    __array_ufunc__ = None  # type: ignore[assignment]  # NumPy's functions refuse it: there is nothing to read

    def __repr__(self) -> str:
        return f"<hollow {self.dtype} {self.shape}>"

    __str__ = __repr__


_INTERFACE = {"version": 3, "typestr": "|u1", "shape": (sys.maxsize // 2,), "data": (sys.maxsize // 2 + 1, False)}
NOWHERE = np.asarray(SimpleNamespace(__array_interface__=_INTERFACE))
"""Half of all addresses, the upper ones, which processes do not get."""


def _steps(a: HostArray) -> Shape:
    """Return how the axes of `a` lie in memory: 1 for the innermost, 2 for the next; 0 if repeated, < 0 if reversed."""
    if a.flags.c_contiguous:
        return tuple(range(a.ndim, 0, -1))
    sizes = sorted({abs(s) for s in a.strides if s})
    return tuple(((s > 0) - (s < 0)) * (1 + sizes.index(abs(s))) if s else 0 for s in a.strides)


def _zeros(shape: Shape, dtype: np.dtype[Any], steps: Shape) -> HostArray:
    """Return zeros whose axes lie in memory by these `steps`."""
    order = sorted(range(len(shape)), key=lambda axis: -abs(steps[axis]))
    packed = np.zeros([shape[axis] if steps[axis] else 1 for axis in order], dtype)
    zeros = packed.transpose([order.index(axis) for axis in range(len(shape))])
    backwards = tuple(axis for axis, step in enumerate(steps) if step < 0)
    zeros = np.flip(zeros, backwards) if backwards else zeros
    return np.broadcast_to(zeros, shape) if 0 in steps else zeros


_kept_zeros = functools.lru_cache(1024)(_zeros)


def small(a: HostArray) -> HostArray:
    """Return zeros that lie in memory as `a` does, two at most along each axis. They are kept: do not change them."""
    return _kept_zeros(tuple([2 if n > 2 else n for n in a.shape]), a.dtype, _steps(a))


def zeros_like(a: HostArray) -> HostArray:
    """Return zeros of the shape of `a` that lie in memory as it does."""
    return _zeros(a.shape, a.dtype, _steps(a))


def strides_like(like: HostArray, shape: Shape) -> Shape | None:
    """Return the strides of a new array of `shape` whose axes lie as those of `like`, None if they lie in order."""
    if like.flags.c_contiguous and 1 not in shape:
        return None
    inner = [axis for axis, n in enumerate(like.shape) if n > 1]
    return tuple(like.itemsize * prod(shape[k] for k in inner if like.strides[k] < stride) for stride in like.strides)


def power(a: HostArray, exponent: Any) -> np.ufunc:
    """Return the function that NumPy takes for ``a ** exponent``: for some numbers a quicker one, of `a` alone."""
    called: np.ufunc = small(a).view(_Asked) ** exponent
    return called


class _Asked(HostArray):
    """An array that answers with the function that is called on it."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        return ufunc


def same_view(a: HostArray, b: HostArray) -> bool:
    """Say whether two arrays are the same numbers in memory, in the same order."""
    return a.ctypes.data == b.ctypes.data and a.shape == b.shape and a.strides == b.strides and a.dtype == b.dtype
