"""A device that lies in the host's memory: what the CuPy backend calls, on NumPy and a C compiler.

Its arrays refuse NumPy's. While a stream is capturing, operations are noted with the memory that they read and write;
launching the graph repeats them there, as CUDA does. Kernels are compiled from their CUDA source, behind a few macros;
exp and the like are C's in kernels and outside, so that the two are equal to the bit as they are on a device.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import re
import shutil
import subprocess
import tempfile
import threading
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import array_api_compat.numpy
import numpy as np
from cublas_host import library

from xpnet.backends import cublas
from xpnet.backends.cuda_kernels import PRELUDE
from xpnet.backends.cupy import CupyBackend

COMPILER = shutil.which("cc")
NO_COMPILER = "there is no C compiler (cc) here, which stands in for CUDA's"
ROUNDED = "".join(
    f"static inline {t} __{r}{name}_rn({t} a, {t} b) {{ return a {sign} b; }}\n"
    for t, r in (("float", "f"), ("double", "d"))
    for name, sign in (("add", "+"), ("sub", "-"), ("mul", "*"), ("div", "/"))
)
HEADER = (
    """
#include <math.h>
#include <stdbool.h>
#include <string.h>
#define __global__
static struct { int x; } blockIdx, threadIdx;
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline double __dsqrt_rn(double a) { return sqrt(a); }
static float from_half(unsigned short h) {
    unsigned exponent = h >> 10 & 31, u = (h & 0x7fffu) << 13;
    float x = (h & 1023) * 0x1p-24f;
    if (exponent) { u += exponent == 31 ? 0x70000000 : 0x38000000; memcpy(&x, &u, 4); }
    return h & 0x8000 ? -x : x;
}
static unsigned short to_half(float x) {
    unsigned u, sign; float a = fabsf(x);
    memcpy(&u, &x, 4); sign = u >> 16 & 0x8000; memcpy(&u, &a, 4);
    if (u > 0x7f800000) return sign | 0x7e00;
    if (u >= 0x477ff000) return sign | 0x7c00;
    if (u >= 0x38800000) return sign | (u - 0x38000000 + 0xfff + (u >> 13 & 1)) >> 13;
    a += 0.5f; memcpy(&u, &a, 4); return sign | (u - 0x3f000000);
}
static inline double __longlong_as_double(long long a) { double b; memcpy(&b, &a, 8); return b; }
"""
    + ROUNDED
)
TRANSCENDENTAL = {
    name: getattr(np, name) for name in ("exp", "expm1", "log", "log1p", "log2", "log10", "tanh", "sin", "cos", "sinh")
}
LOOPS = "".join(
    f"void {name}_{t}({t}* x, {t}* y, long n) {{ for (long i = 0; i < n; i++) y[i] = {name}{f}(x[i]); }}\n"
    for name in TRANSCENDENTAL
    for t, f in (("float", "f"), ("double", ""))
)


@functools.cache
def compiled(source: str) -> ctypes.CDLL:
    """Return the library that C makes of CUDA source: for each kernel a function of its arguments and its blocks."""
    runs = "".join(
        f"void run_{name}(void** a, int blocks, int threads) {{\n"
        f"    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)\n"
        f"        for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++)\n"
        f"            {name}({', '.join(f'a[{k}]' for k in range(parameters.count('*')))});\n}}\n"
        for name, parameters in re.findall(r"__global__ void (\w+)\((.*?)\)", source)
    )
    with tempfile.TemporaryDirectory() as folder:
        code, library = Path(folder, "kernels.c"), Path(folder, "kernels.so")
        code.write_text(HEADER + source.replace(PRELUDE, "").replace('extern "C"', "") + runs)
        options = ["-O1", "-fwrapv", "-ffp-contract=off", "-w", "-shared", "-fPIC"]
        subprocess.run([COMPILER, *options, str(code), "-o", str(library), "-lm"], check=True)
        return ctypes.CDLL(str(library))


def run(library: ctypes.CDLL, name: str, blocks: int, threads: int, arrays: Any) -> None:
    """Run a kernel on arrays of the host."""
    table = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
    getattr(library, f"run_{name}")(table, blocks, threads)


class Timeline:
    """Does what the device is asked for, and notes it while a stream is capturing."""

    nodes: list[Any] | None = None

    def do(self, work: Any) -> None:
        work()
        if self.nodes is not None:
            self.nodes.append(work)


TIMELINE = Timeline()


def plain(a: Any) -> Any:
    """Return the NumPy array behind an array of the device; arrays of the host do not pass."""
    if isinstance(a, list | tuple):
        return type(a)(map(plain, a))
    if isinstance(a, np.ndarray) and a.ndim and not isinstance(a, Numbers):
        raise TypeError("an array of the host among those of the device")
    return a.view(np.ndarray) if isinstance(a, Numbers) else a


def kept(result: Any, again: Any = None) -> Numbers:
    """Return a new result on the device; `again` computes it anew when a graph is launched."""
    target = np.array(result)
    if TIMELINE.nodes is not None:
        value = target.copy()
        TIMELINE.nodes.append(lambda: np.copyto(target, value if again is None else again()))
    return target.view(Numbers)


class Numbers(np.ndarray):
    """An array of the device."""

    data = property(lambda self: SimpleNamespace(ptr=self.ctypes.data))
    device = property(lambda self: DEVICE)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        inputs = tuple(map(plain, inputs))

        def compute():
            function = TRANSCENDENTAL.get(ufunc.__name__)
            if function is ufunc and inputs[0].dtype.kind == "f":
                x = np.ascontiguousarray(inputs[0], inputs[0].dtype if inputs[0].itemsize > 2 else np.float32)
                y = np.empty_like(x)
                name = f"{ufunc.__name__}_{'float' if x.itemsize == 4 else 'double'}"
                getattr(compiled(LOOPS), name)(ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data), x.size)
                return y.reshape(inputs[0].shape).astype(inputs[0].dtype)
            with np.errstate(all="ignore"):
                return getattr(ufunc, method)(*inputs, **options)

        if out is None:
            return kept(compute(), compute)
        target = plain(out[0])
        TIMELINE.do(lambda: np.copyto(target, compute(), casting="same_kind"))
        return out[0]

    def __array_function__(self, function, _, args, options):
        args, out = tuple(map(plain, args)), options.pop("out", None)
        if function is np.take:
            options["mode"] = "wrap"  # as CuPy does

        def compute():
            return function(*args, **options)

        if out is not None:
            TIMELINE.do(lambda: np.copyto(plain(out), compute(), casting="no"))
            return out
        result = compute()
        if not isinstance(result, np.ndarray | np.generic):
            return result
        if any(isinstance(a, np.ndarray) and np.may_share_memory(a, result) for a in args):
            return result.view(Numbers)
        return kept(result, compute)

    def __setitem__(self, key, value):
        keys = key if isinstance(key, tuple) else (key,)
        target, source = plain(self)[keys if Ellipsis in keys else (*keys, ...)], plain(value)
        TIMELINE.do(lambda: np.copyto(target, source, casting="unsafe"))

    def astype(self, dtype, copy=True):
        return (
            kept(plain(self).astype(dtype), lambda: plain(self).astype(dtype)) if copy or dtype != self.dtype else self
        )

    def __bool__(self):
        if TIMELINE.nodes is not None:
            raise RuntimeError("a value is read while the stream is capturing")
        return bool(plain(self))


class Stream:
    """What orders the work; here everything is done at once."""

    ptr = 0

    def __init__(self, non_blocking=True):
        assert non_blocking

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def wait_event(self, event):
        pass

    def record(self):
        pass

    def synchronize(self):
        pass

    def begin_capture(self):
        assert TIMELINE.nodes is None
        TIMELINE.nodes = []

    def end_capture(self):
        nodes, TIMELINE.nodes = TIMELINE.nodes, None
        return SimpleNamespace(
            upload=lambda stream: None, launch=lambda stream: [node() for node in nodes], nodes=nodes
        )


class RawModule:
    """CUDA source, compiled by C's compiler."""

    def __init__(self, code):
        self.library = compiled(code)

    def get_function(self, name):
        def launch(grid, block, arrays):
            assert all(isinstance(a, Numbers) for a in arrays)
            TIMELINE.do(lambda: run(self.library, name, grid[0], block[0], arrays))

        return launch


def on_device(function: Any) -> Any:
    """Return a function of NumPy's as one that makes arrays of the device."""

    @functools.wraps(function)
    def call(*args, device=None, **options):
        result = function(*args, **options)
        return kept(result) if isinstance(result, np.ndarray) and not isinstance(result, Numbers) else result

    return call


def wrapped(namespace: Any) -> dict[str, Any]:
    functions = {name: f for name, f in vars(namespace).items() if not name.startswith("_")}
    return {
        name: on_device(f) if callable(f) and not isinstance(f, type | np.ufunc) else f for name, f in functions.items()
    }


class Device(contextlib.nullcontext):
    id = 0


DEVICE = Device()


def recording(blas: Any) -> Any:
    """Return cuBLAS with products that a graph repeats."""
    gemm = blas.cublasGemmEx
    blas.cublasGemmEx = lambda *arguments: TIMELINE.do(lambda: gemm(*arguments)) or 0
    return blas


def make_cupy() -> Any:
    """Return what stands in for the module cupy."""
    cupy = types.ModuleType("cupy")
    vars(cupy).update(wrapped(np))
    cupy.ndarray, cupy.RawModule = Numbers, RawModule
    cupy.asarray = lambda a, dtype=None: (
        a if isinstance(a, Numbers) and dtype is None else np.array(a, dtype).view(Numbers)
    )
    cupy.asnumpy = lambda a: np.array(a.view(np.ndarray))
    cupy.fuse = lambda f: f
    cupy.cuda = SimpleNamespace(
        Stream=Stream, get_current_stream=Stream, MemoryPool=lambda: SimpleNamespace(malloc=None),
        Device=lambda n: DEVICE, using_allocator=contextlib.nullcontext, alloc=lambda n: SimpleNamespace(ptr=1),
        runtime=SimpleNamespace(CUDARuntimeError=RuntimeError),
    )  # fmt: skip
    return cupy


class HostCupy(CupyBackend):
    """The CuPy backend on such a device."""

    def __init__(self) -> None:
        self._cupy, self.tf32, self.name, self.device = make_cupy(), False, "cupy", DEVICE
        self.xp = SimpleNamespace(**wrapped(array_api_compat.numpy))
        self.xp.matmul = cublas.Product.__new__(cublas.Product)
        self.xp.matmul._cupy, self.xp.matmul._library = self._cupy, recording(library())
        self.xp.matmul._compute, self.xp.matmul._local = cublas.COMPUTE_TYPES, threading.local()

    def __reduce__(self):
        raise TypeError("not meant to be stored")
