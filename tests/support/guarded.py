"""A backend that stands in for a second GPU: its arrays refuse all work outside of `active()`."""

import contextlib

import numpy as np

from xpnet.backends.base import Backend
from xpnet.backends.numpy import NumpyBackend


class Refused(Exception):
    """Work on a device that is not the current one."""


class Guarded(np.ndarray):
    """An array that can only be computed with, read and written while its device is current."""

    depth = 0

    def _refuse(self):
        if not Guarded.depth:
            raise Refused("an array is touched outside of active()")

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        self._refuse()
        plain = [a.view(np.ndarray) if isinstance(a, Guarded) else a for a in inputs]
        if "out" in options:
            options["out"] = tuple(a.view(np.ndarray) if isinstance(a, Guarded) else a for a in options["out"])
        result = getattr(ufunc, method)(*plain, **options)
        if "out" in options:
            return next(a for a in (*options["out"], *inputs) if isinstance(a, np.ndarray)).view(Guarded)
        return result.view(Guarded) if isinstance(result, np.ndarray) else result

    def __array_function__(self, function, types, arguments, options):
        if function not in (np.reshape, np.transpose):  # views ask nothing of a device
            self._refuse()
        result = super().__array_function__(function, types, arguments, options)
        return result.view(Guarded) if isinstance(result, np.ndarray) else result

    def __setitem__(self, key, value):
        self._refuse()
        super().__setitem__(key, value)


class GuardedBackend(NumpyBackend):
    """NumPy's numbers on a device of their own, which works ahead of the host."""

    name = "guarded"
    asynchronous, is_host = True, False
    fuse, compile, loader = Backend.fuse, Backend.compile, Backend.loader

    def asarray(self, a, dtype=None):
        return np.array(a, dtype=dtype).view(Guarded)  # moving data sets the device itself, as CuPy's function does

    def to_numpy(self, a):
        return np.array(a.view(np.ndarray)) if isinstance(a, np.ndarray) else np.asarray(a)

    def owns(self, a):
        return isinstance(a, Guarded)

    @contextlib.contextmanager
    def active(self):
        Guarded.depth += 1
        try:
            with np.errstate(all="ignore"):
                yield
        finally:
            Guarded.depth -= 1

    def __reduce__(self):
        return GuardedBackend, ()
