"""The backends that the tests run on: xpnet's own, and some that refuse what NumPy lets pass.

array-api-strict has nothing but the standard, on ``device1`` no silent move to the host either; boolean masks and
shapes that depend on values are switched off, since a device would have to be asked for them. The read-only NumPy
hands out arrays that cannot be changed, so that whoever writes into an argument is caught in the act.
"""

import contextlib

import array_api_strict
import numpy as np

import xpnet
from xpnet.backends.base import Backend
from xpnet.backends.numpy import NumpyBackend

API_VERSION = "2024.12"
NO_CUPY, NO_TORCH = map(xpnet.backends.missing, ("cupy", "torch"))
"""Why a library does not work here, or None; one test is skipped with this reason, the others leave the library out."""
DEVICES = (
    "CPU_DEVICE", "device1", *(["cupy"] if NO_CUPY is None else []), *(["torch"] if NO_TORCH is None else [])
)  # fmt: skip
NAMES = ("numpy", "read-only", *DEVICES)
WRITABLE = ("numpy", "eager", *DEVICES)


class StrictBackend(Backend):
    """array-api-strict on one of its devices."""

    def __init__(self, device):
        array_api_strict.set_array_api_strict_flags(
            api_version=API_VERSION, boolean_indexing=False, data_dependent_shapes=False
        )
        self.xp = array_api_strict
        self.device = array_api_strict.Device(device)
        self.name = f"strict:{device}"

    def to_numpy(self, a):
        return np.array(a.to_device(array_api_strict.Device("CPU_DEVICE")))

    def owns(self, a):
        return isinstance(a, type(self.xp.asarray(0))) and a.device == self.device

    def active(self):
        return np.errstate(all="ignore")  # the library computes with NumPy, whose warnings no other device gives

    def __reduce__(self):
        return StrictBackend, (self.device._device,)


class ReadOnlyBackend(NumpyBackend):
    """NumPy whose arrays cannot be changed. It serves for everything but training."""

    name = "read-only"

    def asarray(self, a, dtype=None):
        array = np.array(a, dtype=dtype)
        array.flags.writeable = False
        return array

    def __reduce__(self):
        return ReadOnlyBackend, ()


class EagerBackend(NumpyBackend):
    """NumPy that does each step as it is written, without recording or fusing."""

    name = "eager"
    fuse, compile = Backend.fuse, Backend.compile

    def __reduce__(self):
        return EagerBackend, ()


def strict_backend(device="CPU_DEVICE"):
    """Return array-api-strict on ``"CPU_DEVICE"`` or ``"device1"``."""
    return StrictBackend(device)


def make(name):
    """Return the backend of one of `NAMES` or `WRITABLE`."""
    if name == "read-only":
        return ReadOnlyBackend()
    if name == "eager":
        return EagerBackend()
    return strict_backend(name) if name in ("CPU_DEVICE", "device1") else xpnet.backends.get(name)


def freeze(backend, value):
    """On the read-only backend, make the arrays of a nested tuple or dict read-only; elsewhere do nothing."""
    if not isinstance(backend, ReadOnlyBackend):
        return value
    if isinstance(value, np.ndarray):
        with contextlib.suppress(ValueError):
            value.flags.writeable = False
    elif isinstance(value, tuple | list):
        for item in value:
            freeze(backend, item)
    elif isinstance(value, dict):
        for item in value.values():
            freeze(backend, item)
    return value
