"""PyTorch as an array library: the same code on its CPU and on the GPUs of NVIDIA, AMD, Intel and Apple.

PyTorch only goes forwards here: its automatic differentiation is switched off, and gradients are xpnet's own. Integers
of 32 bits without a sign, which PyTorch stores but cannot add, are kept in int64; where a device has no float64, sums
are kept in float32.
"""

from __future__ import annotations

import contextlib
import functools
import types
from typing import Any

import numpy as np

from xpnet.backends.base import Backend
from xpnet.errors import BackendUnavailableError, ConfigError, DTypeError
from xpnet.typing import HostArray

INSTALL = 'pip install "xpnet[torch]"'
KINDS = ("cpu", "cuda", "mps", "xpu")
"""Kinds of devices: "cuda" is an NVIDIA GPU or, with PyTorch's build for ROCm, an AMD GPU; Apple's, Intel's."""
NUMBERED = ("cuda", "xpu")
FULL = ("can't allocate memory", "not enough memory", "out of memory")
"""How PyTorch says that memory ran out, where the exception is a plain RuntimeError."""


def _import_torch() -> Any:
    try:
        import torch
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "torch":
            message = f"backend 'torch' needs PyTorch, which is not installed. Install it: {INSTALL}"
            raise BackendUnavailableError(message) from None
        raise BackendUnavailableError(
            f"backend 'torch': PyTorch is installed but cannot be imported ({error}). Uninstall it, and install it "
            f"again: {INSTALL}"
        ) from error
    return torch


def probe(torch: Any, place: str) -> Any:
    """Return PyTorch's device of this name once a matrix product has really run there."""
    try:  # the first of several, whichever the program has made the current one
        ones = torch.ones((2, 2), dtype=torch.float32, device=f"{place}:0" if place in NUMBERED else place)
        two = float(torch.matmul(ones, ones)[0, 0])
    except Exception as error:  # of many types, assertions among them: a driver, a device or a build may be missing
        reason = str(error).partition("\n")[0]
        raise BackendUnavailableError(
            f"backend 'torch:{place}': PyTorch {torch.__version__} does not compute there ({reason}). Install the "
            "build of PyTorch for this device, see https://pytorch.org/get-started/locally, and its driver; or use "
            "backend='torch', which is the CPU"
        ) from error
    if two != 2.0:
        raise BackendUnavailableError(f"backend 'torch:{place}': the device computes [1 1].[1 1] = {two}")
    return ones.device


def _has_float64(torch: Any, device: Any) -> bool:
    try:
        return float(torch.ones(1, dtype=torch.float64, device=device) + 1.0) == 2.0
    except Exception:  # of several types: Apple's GPUs have none, and some of Intel's
        return False


class TorchBackend(Backend):
    """PyTorch on one device.

    Attributes
    ----------
    wide : bool
        Whether the device has float64.
    """

    def __init__(self, place: str = "cpu") -> None:
        self._torch = torch = _import_torch()
        self.device, self.place = probe(torch, place), place
        self.wide = _has_float64(torch, self.device)
        self.name = "torch" if place == "cpu" else f"torch:{place}"
        if place != "cpu":
            self.asynchronous, self.at_once = True, 2**24
        import array_api_compat.torch as compat

        self.xp = types.SimpleNamespace(**vars(compat) | ({} if self.wide else {"float64": torch.float32}))

    def check_dtype(self, dtype: str) -> None:
        if dtype == "float64" and not self.wide:
            raise DTypeError(
                f"backend {self.name!r} has no float64, which its device cannot compute with; build the network with "
                "dtype='float32', or use backend='torch', which is the CPU"
            )

    def asarray(self, a: Any, dtype: str | None = None) -> Any:
        if self.owns(a):
            return a if dtype is None else a.to(getattr(self.xp, dtype))
        host = np.asarray(a, dtype)
        if host.dtype == np.uint32:
            host = host.astype(np.int64)
        elif host.dtype == np.float64 and not self.wide:
            host = host.astype(np.float32)
        return self.borrow(host if host.flags.writeable else host.copy())  # PyTorch would write to it all the same

    def borrow(self, a: HostArray) -> Any:
        # What lies backwards has no like in PyTorch, where even asking for it by DLPack ends the program.
        return self._torch.from_dlpack(a if min(a.strides, default=0) >= 0 else a.copy()).to(self.device)

    def from_dlpack(self, a: Any) -> Any:
        return self.borrow(np.from_dlpack(a)) if self.place == "cpu" else self._torch.from_dlpack(a)

    def dlpack_device(self) -> tuple[int, int]:
        kind, number = self._torch.empty(0, device=self.device).__dlpack_device__()
        return int(kind), int(number)

    def to_numpy(self, a: Any) -> HostArray:
        host = a.detach().cpu()  # numbers that PyTorch would follow, too
        return np.asarray((host.float() if host.dtype == self._torch.bfloat16 else host).numpy())

    def owns(self, a: Any) -> bool:
        return isinstance(a, self._torch.Tensor) and a.device == self.device and a.layout == self._torch.strided

    def contiguous(self, a: Any) -> Any:
        return a.contiguous()

    def active(self) -> contextlib.AbstractContextManager[Any]:
        return self._torch.no_grad()  # type: ignore[no-any-return]

    def out_of_memory(self, error: Exception) -> bool:
        said = isinstance(error, RuntimeError) and any(words in str(error) for words in FULL)
        return said or isinstance(error, MemoryError | self._torch.OutOfMemoryError)

    def synchronize(self) -> None:
        if self.asynchronous:
            self._torch.accelerator.synchronize(self.device)

    def release_memory(self) -> None:
        if self.asynchronous:
            getattr(self._torch, self.device.type).empty_cache()

    def free_memory(self) -> str:
        if self.device.type not in NUMBERED:
            return ""
        free, total = getattr(self._torch, self.device.type).mem_get_info(self.device)
        return f"The device has {free / 2**20:.0f} of {total / 2**20:.0f} MiB free. "

    def describe(self) -> str:
        if self.place != "cpu":
            return f"PyTorch {self._torch.__version__} on {self.device}"
        others = [f"torch:{kind}" for kind in KINDS[1:] if getattr(self._torch, kind).is_available()]
        return f"PyTorch {self._torch.__version__} on the CPU; further devices here: {', '.join(others) or 'none'}"

    def __reduce__(self) -> Any:
        return on_device, (self.place,)


def on_device(place: str = "cpu") -> TorchBackend:
    """Return the backend of a device: "cpu", "cuda", "cuda:1", "mps", "xpu".

    Raises
    ------
    ConfigError
        There are no devices of this name.
    BackendUnavailableError
        PyTorch is missing, or does not compute there.
    """
    kind, colon, number = place.partition(":")
    if kind not in KINDS or (colon and (kind == "cpu" or not (number.isascii() and number.isdecimal()))):
        raise ConfigError(
            f"backend 'torch:{place}' is not understood; write 'torch', 'torch:cuda', 'torch:cuda:1', 'torch:mps' or "
            "'torch:xpu'"
        )
    return _probed(kind if number == "" or int(number) == 0 else f"{kind}:{int(number)}")


@functools.cache
def _probed(place: str) -> TorchBackend:
    return TorchBackend(place)  # once: a probe waits for the device
