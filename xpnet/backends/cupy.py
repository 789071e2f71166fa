"""CuPy: the same code on a CUDA GPU. Not a word of a layer's mathematics is here."""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from xpnet.backends.base import Backend, Eager, Loader, Program, Step
from xpnet.backends.cuda.graph import CapturedStep
from xpnet.backends.cuda.pinned import PinnedLoader
from xpnet.backends.cuda.products import Product, load
from xpnet.backends.cuda.proof import proven
from xpnet.backends.tape.record import CannotRecord, record
from xpnet.errors import BackendUnavailableError
from xpnet.typing import HostArray

INSTALL = 'pip install "xpnet[cuda13]" (driver 580 or newer) or "xpnet[cuda12]" (older drivers)'


def _import_cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            message = f"backend 'cupy' needs CuPy, which is not installed. Install it: {INSTALL}"
            raise BackendUnavailableError(message) from None
        raise BackendUnavailableError(_broken(str(error))) from error
    if not hasattr(cupy, "ndarray"):  # what is left of a folder when one of two CuPy packages is uninstalled
        raise BackendUnavailableError(_broken("the package is an empty folder"))
    return cupy


def _broken(reason: str) -> str:
    return (
        f"backend 'cupy': CuPy is installed but cannot be imported ({reason}). "
        f"Uninstall every cupy package and install one of them: {INSTALL}"
    )


def probe(device: int) -> Any:
    """Return the module cupy once a kernel and a matrix product have really run on CUDA device `device`.

    Both are tried because they fail apart: a kernel needs the compiler library NVRTC, a product needs cuBLAS.
    """
    cupy = _import_cupy()
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendUnavailableError(
            f"backend 'cupy': CuPy {cupy.__version__} is installed, but there is no usable NVIDIA driver or GPU "
            f"({error}). Install or update the NVIDIA driver (nvidia-smi must list the GPU), or use backend='numpy'."
        ) from error
    if not 0 <= device < count:
        raise BackendUnavailableError(
            f"backend 'cupy:{device}': there is no CUDA device {device}; this machine has {count}, numbered from 0. "
            "Use backend='cupy' for the first."
        )
    part = "the CUDA compiler library (NVRTC)"
    with cupy.cuda.Device(device):
        try:
            ones = cupy.ones((2, 2), dtype=cupy.float32)
            two = float((ones + ones)[0, 0])
            part = "the CUDA matrix library (cuBLAS)"
            product = float(cupy.matmul(ones, ones)[0, 0])
        except Exception as error:  # of many types: a library, a header, memory may be missing
            message = f"backend 'cupy': {part} is missing or does not fit the driver ({error}). Install it: "
            raise BackendUnavailableError(message + INSTALL) from error
    if two != 2.0 or product != 2.0:
        raise BackendUnavailableError(
            f"backend 'cupy': device {device} computes 1 + 1 = {two}, [1 1].[1 1] = {product}."
        )
    return cupy


def namespace(cupy: Any, compat: Mapping[str, Any], product: Product) -> Any:
    """Return `compat`, the functions of the standard for CuPy, with those in place that can be captured.

    Its own `clip` and `sign` look at values, for which the host waits, and CuPy's products refuse to be captured.
    """

    def clip(x: Any, /, min: Any = None, max: Any = None) -> Any:
        result = x if min is None else cupy.maximum(x, min)
        result = result if max is None else cupy.minimum(result, max)
        return result.astype(x.dtype, copy=result is x)

    return types.SimpleNamespace(**dict(compat) | {"clip": clip, "sign": cupy.sign, "matmul": product})


class CupyBackend(Backend):
    """CuPy on one CUDA device.

    Attributes
    ----------
    fusion : bool
        Whether what lies between a step's large products may become kernels of their own.
    compiled : str
        What the last compiled training step consists of, or why it is run as it is written.
    """

    asynchronous = True
    at_once = 2**24
    fusion = True
    compiled = ""

    def __init__(self, device: int = 0, tf32: bool = False) -> None:
        self._cupy = probe(device)
        self.tf32 = tf32
        import array_api_compat.cupy

        self.device = self._cupy.cuda.Device(device)
        self.name = "cupy" if device == 0 else f"cupy:{device}"
        self.xp = namespace(self._cupy, vars(array_api_compat.cupy), Product(self._cupy, load(), tf32))

    def asarray(self, a: Any, dtype: str | None = None) -> Any:
        with self.device:
            return self._cupy.asarray(a, dtype=dtype)

    def from_dlpack(self, a: Any) -> Any:
        with self.device:
            return self._cupy.from_dlpack(a)

    def dlpack_device(self) -> tuple[int, int]:
        return 2, self.device.id  # kDLCUDA

    def to_numpy(self, a: Any) -> HostArray:
        return np.asarray(self._cupy.asnumpy(a))

    def contiguous(self, a: Any) -> Any:
        with self.device:
            return self._cupy.ascontiguousarray(a)

    def same_place(self, other: Backend) -> bool:
        return isinstance(other, CupyBackend) and self.name == other.name

    def address(self) -> str:
        return str(self.device.pci_bus_id)  # a launcher may show each process one GPU, which is number 0 to all of them

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CupyBackend) and (self.name, self.tf32) == (other.name, other.tf32)

    def __hash__(self) -> int:
        return hash((self.name, self.tf32))

    def __reduce__(self) -> Any:
        return on_device, (self.device.id, self.tf32)

    def owns(self, a: Any) -> bool:
        return isinstance(a, self._cupy.ndarray) and a.device.id == self.device.id

    def synchronize(self) -> None:
        with self.device:
            self._cupy.cuda.get_current_stream().synchronize()

    def release_memory(self) -> None:
        with self.device:
            self._cupy.get_default_memory_pool().free_all_blocks()

    def free_memory(self) -> str:
        free, total = self.device.mem_info
        return f"The device has {free / 2**20:.0f} of {total / 2**20:.0f} MiB free. "

    def free_bytes(self) -> float:
        with self.device:  # what the pool holds in reserve is free, too
            return float(self.device.mem_info[0] + self._cupy.get_default_memory_pool().free_bytes())

    def loader(self) -> Loader:
        return PinnedLoader(self, self._cupy)

    def active(self) -> contextlib.AbstractContextManager[Any]:
        return self.device  # type: ignore[no-any-return]

    def compile(self, step: Step, arrays: Mapping[str, Any], changes: Sequence[Any]) -> Program:
        self.compiled = "as it is written, since fusion is switched off"
        with self.device:
            try:
                if self.fusion:
                    fused = proven(self._cupy, self.xp, step, arrays, changes)
                    self.compiled = fused.describe()
                    if fused.beside:
                        fused.branch = self.xp.matmul.lane("beside")
                        with contextlib.suppress(Exception):  # without branches it may work all the same
                            return self._captured(fused, changes)
                        fused.branch = None
                    return self._captured(fused, changes)
            except CannotRecord as reason:  # then a graph might freeze what the step takes from the host
                self.compiled = f"as it is written, since it cannot be recorded: {reason}"
                self.tell_as_written(reason)
                return super().compile(step, arrays, changes)
            except Exception as error:  # memory may not suffice, a compiler may be missing: the step as it is written
                # is right in any case, and says itself if something is wrong with it
                self.compiled = f"as it is written, since fusing it failed: {type(error).__name__}: {error}"
            try:
                return self._captured(lambda: step(self.xp, arrays), changes)
            except MemoryError:
                raise
            except Exception as error:  # a value is looked at, or the step's own, which it will raise again
                failure = f"{type(error).__name__}: {error}"
                self.compiled = f"step by step, since capturing it failed: {failure}; {self.compiled}"
                error.__traceback__ = error.__context__ = None  # they hold on to all that was tried
                return Eager(step, self.xp, arrays, after=functools.partial(self.tell_as_written, error))

    def capture(self, step: Step, arrays: Mapping[str, Any], changes: Sequence[Any]) -> Program:
        with self.device:
            try:
                record(step, self.xp, arrays, self._cupy.ndarray)  # else a graph might freeze what comes from the host
                return CapturedStep(self._cupy, self.xp.matmul.lane(), lambda: step(self.xp, arrays), changes)
            except Exception:  # memory may not suffice: as it is written it is right in any case
                return super().capture(step, arrays, changes)

    def _captured(self, step: Callable[[], None], changes: Sequence[Any]) -> Program:
        self.release_memory()  # what the proof took and the pool keeps: a graph's own pool cannot have that
        return CapturedStep(self._cupy, self.xp.matmul.lane(), step, changes, self.compiled)

    def fuse(self, f: Any) -> Any:
        def kernel(*arrays: Any) -> Any:  # a function with a name, which the generated kernel takes
            return f(*arrays)

        return self._cupy.fuse(kernel)

    def describe(self) -> str:
        properties = self._cupy.cuda.runtime.getDeviceProperties(self.device.id)
        gigabytes = properties["totalGlobalMem"] / 2**30
        version = self._cupy.cuda.runtime.runtimeGetVersion()
        return (
            f"CuPy {self._cupy.__version__}, CUDA {version // 1000}.{version % 1000 // 10}, "
            f"device {self.device.id}: {properties['name'].decode()}, {gigabytes:.0f} GiB"
            f"{'; last training step: ' if self.compiled else ''}{self.compiled}"
        )


@functools.cache
def on_device(device: int, tf32: bool) -> CupyBackend:
    """Return the backend of a device: one, since it holds a stream, a handle and scratch memory, and a probe waits."""
    return CupyBackend(device, tf32)
