"""Matrix products by cuBLAS, called so that they can be captured into a CUDA graph.

CuPy's own products refuse to be captured. cuBLAS itself can be, given a handle whose stream and workspace are
set beforehand; this calls the library that CuPy has loaded, through ctypes.
"""

from __future__ import annotations

import ctypes
import gc
import threading
import weakref
from math import prod
from typing import Any

import numpy as np

from xpnet.backends.tape.layout import layout
from xpnet.errors import XpnetError
from xpnet.typing import Array

WORKSPACE, WORKSPACE_BEFORE_HOPPER = 32 << 20, 4 << 20
"""Bytes of scratch memory for each handle: NVIDIA's advice for GPUs of compute capability 9.0 and later, and others."""
FULL_SUMS = 16
"""CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION: parts of a sum of halves are added up in float32, too."""
NO_MEMORY = (1, 3)
"""The statuses CUBLAS_STATUS_NOT_INITIALIZED and _ALLOC_FAILED: making a handle took more memory than there is."""
DATA_TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}  # cudaDataType_t
COMPUTE_TYPES = {"float32": 68, "float64": 70, "float16": 68, "bfloat16": 68}
"""CUBLAS_COMPUTE_64F, and CUBLAS_COMPUTE_32F also for halves: their products are summed up, and scaled, in float32."""
COMPUTE_TF32 = 77  # CUBLAS_COMPUTE_32F_FAST_TF32

STREAMS = 8
"""Streams of a caller's own for which a thread keeps a lane; who uses more waits for a handle now and then."""

_POINTER, _INT, _SIZE, _LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_longlong


class CublasError(XpnetError, RuntimeError):
    """cuBLAS returned an error status."""


class CublasMemoryError(CublasError, MemoryError):
    """The device has no memory left for cuBLAS."""


def load() -> Any:
    """Return the cuBLAS library that CuPy uses, with the signatures of the functions needed here."""
    from cuda.pathfinder import load_nvidia_dynamic_lib

    library = ctypes.CDLL(load_nvidia_dynamic_lib("cublas").abs_path)
    library.cublasCreate_v2.argtypes = [ctypes.POINTER(_POINTER)]
    library.cublasDestroy_v2.argtypes = [_POINTER]
    library.cublasSetMathMode.argtypes = [_POINTER, _INT]
    library.cublasSetStream_v2.argtypes = [_POINTER, _POINTER]
    library.cublasSetWorkspace_v2.argtypes = [_POINTER, _POINTER, _SIZE]
    library.cublasGemmEx.argtypes = [
        _POINTER, _INT, _INT, _INT, _INT, _INT, _POINTER, _POINTER, _INT, _INT, _POINTER, _INT, _INT, _POINTER,
        _POINTER, _INT, _INT, _INT, _INT,
    ]  # fmt: skip
    library.cublasGemmStridedBatchedEx.argtypes = [
        _POINTER, _INT, _INT, _INT, _INT, _INT, _POINTER, _POINTER, _INT, _INT, _LONG, _POINTER, _INT, _INT, _LONG,
        _POINTER, _POINTER, _INT, _INT, _LONG, _INT, _INT, _INT,
    ]  # fmt: skip
    return library


def check(status: int) -> None:
    """Raise unless `status` is that of success."""
    if status in NO_MEMORY:
        raise CublasMemoryError(f"cuBLAS returned status {status}: the device has too little memory for its handle")
    if status:
        raise CublasError(f"cuBLAS returned status {status} (see cublasStatus_t)")


class Lane:
    """A stream with what cuBLAS needs to work on it: a handle and scratch memory.

    Entering it makes the stream the current one. Whoever keeps a graph with products in it keeps their lane: the
    graph knows the addresses of the scratch memory and does not keep it.

    Parameters
    ----------
    cupy : module
    library : library
        cuBLAS.
    stream : stream
    lanes : threading.local
        Each thread's, by the address of their stream: a handle must not be used by two threads at once.
    """

    def __init__(self, cupy: Any, library: Any, stream: Any, lanes: threading.local) -> None:
        self.stream, self._lanes, self.handle = stream, weakref.proxy(lanes), _POINTER()
        status = library.cublasCreate_v2(ctypes.byref(self.handle))
        if status in NO_MEMORY:  # CuPy may hold memory that nobody uses
            gc.collect()
            cupy.get_default_memory_pool().free_all_blocks()
            status = library.cublasCreate_v2(ctypes.byref(self.handle))
        check(status)
        weakref.finalize(self, library.cublasDestroy_v2, self.handle).atexit = False  # CUDA ends before Python does
        runtime = cupy.cuda.runtime
        recent = runtime.getDeviceProperties(runtime.getDevice())["major"] >= 9
        size = WORKSPACE if recent else WORKSPACE_BEFORE_HOPPER
        self._workspace = cupy.cuda.alloc(size)
        check(library.cublasSetMathMode(self.handle, FULL_SUMS))
        check(library.cublasSetStream_v2(self.handle, stream.ptr))  # resets the workspace, hence this order
        check(library.cublasSetWorkspace_v2(self.handle, self._workspace.ptr, size))

    def __enter__(self) -> None:
        self._lanes.__dict__[str(self.stream.ptr)] = self
        self.stream.__enter__()

    def __exit__(self, *error: object) -> None:
        self.stream.__exit__(*error)
        self._lanes.__dict__.pop(str(self.stream.ptr), None)  # another thread's is entered for a graph it captured


class Product:
    """The function ``matmul(a, b)`` for CuPy arrays.

    Parameters
    ----------
    cupy : module
    library : library
        cuBLAS.
    tf32 : bool
        Whether float32 products may round their factors to 10 bits of mantissa, which is several times faster.
    """

    def __init__(self, cupy: Any, library: Any, tf32: bool) -> None:
        self._cupy, self._library, self.tf32 = cupy, library, tf32
        self._compute = COMPUTE_TYPES | ({"float32": COMPUTE_TF32} if tf32 else {})
        self._lanes, self._own = threading.local(), threading.local()

    def lane(self, name: str = "main") -> Lane:
        """Return the lane on which this thread captures and launches graphs, one for all; or one "beside" it."""
        lanes = self._own.__dict__
        if name not in lanes:
            # The legacy default stream cannot capture, and a blocking stream would clash with it.
            stream = self._cupy.cuda.Stream(non_blocking=True)
            lanes[name] = Lane(self._cupy, self._library, stream, self._lanes)
        return lanes[name]  # type: ignore[no-any-return]

    def _handle(self) -> Any:
        """Return this thread's handle for the current stream; making one is not allowed during capture."""
        stream, lanes = self._cupy.cuda.get_current_stream(), self._lanes.__dict__
        name = str(stream.ptr)
        if name not in lanes:
            while len(lanes) >= STREAMS:
                del lanes[next(iter(lanes))]  # the oldest; to destroy its handle waits for what it has begun
            lanes[name] = Lane(self._cupy, self._library, stream, self._lanes)
        return lanes[name].handle

    def __call__(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """Return the product of two matrices, vectors or stacks of these, as the standard has it.

        Parameters
        ----------
        a, b : arrays
        out : array, optional
            Where the product is written; it must not overlap `a` or `b`.
        """
        if not _serves(a, b):
            return self._cupy.matmul(a, b) if out is None else self._cupy.matmul(a, b, out=out)
        if a.dtype != b.dtype:
            a, b = (x.astype(self._cupy.result_type(a, b), copy=False) for x in (a, b))
        if a.ndim == b.ndim == 2:
            return self._matrices(a, b, out)
        shape = (
            *np.broadcast_shapes(a.shape[:-2], b.shape[:-2]),
            *a.shape[-2:-1],
            *(b.shape[-1:] if b.ndim > 1 else ()),
        )
        found = self._stacks(a[None, :] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b).reshape(shape)
        if out is None:
            return found
        out[...] = found
        return out

    def _matrices(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """Return the product of two matrices."""
        a, b = (x if layout(x) else self._cupy.ascontiguousarray(x) for x in (a, b))
        left, right, columns = layout(a), layout(b), b.shape[1]
        assert left is not None
        assert right is not None
        shape = a.shape[0], columns
        if out is not None and not _takes(out, shape, a.dtype):
            out[...] = self._matrices(a, b)
            return out
        if out is None:
            out = self._cupy.empty(shape, a.dtype)
        # cuBLAS counts down columns: row-major out = a b is column-major out' = b' a'.
        first, second, target = ((x.data.ptr, DATA_TYPES[a.dtype.name]) for x in (a, b, out))
        one, zero, compute = self._numbers(a)
        check(self._library.cublasGemmEx(
            self._handle(), right[0], left[0], columns, a.shape[0], a.shape[1], one, *second, right[1], *first, left[1],
            zero, *target, columns, compute, -1,
        ))  # fmt: skip
        return out

    def _stacks(self, a: Array, b: Array) -> Array:
        """Return the products of two stacks of matrices; each is repeated where the other one has more."""
        if b.ndim == 2:  # a stack of rows is one tall matrix
            return self._matrices(a.reshape((-1, a.shape[-1])), b)
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        rows, terms, columns = a.shape[-2], a.shape[-1], b.shape[-1]
        a, b = (self._cupy.ascontiguousarray(self._cupy.broadcast_to(x, (*lead, *x.shape[-2:]))) for x in (a, b))
        out = self._cupy.empty((*lead, rows, columns), a.dtype)
        first, second, target = ((x.data.ptr, DATA_TYPES[a.dtype.name]) for x in (a, b, out))
        one, zero, compute = self._numbers(a)
        check(self._library.cublasGemmStridedBatchedEx(
            self._handle(), 0, 0, columns, rows, terms, one, *second, columns, terms * columns, *first, terms,
            rows * terms, zero, *target, columns, rows * columns, prod(lead), compute, -1,
        ))  # fmt: skip
        return out

    def _numbers(self, a: Array) -> tuple[Any, Any, int]:
        """Return one and zero for cuBLAS, and the type in which it computes."""
        name = a.dtype.name
        number = ctypes.c_double if name == "float64" else ctypes.c_float
        return ctypes.byref(number(1.0)), ctypes.byref(number(0.0)), self._compute[name]


def _serves(a: Array, b: Array) -> bool:
    """Say whether cuBLAS has a product of such arrays: it has none of integers, or where there is nothing to add up."""
    if not a.ndim or not b.ndim or {a.dtype.name, b.dtype.name} - {*DATA_TYPES}:
        return False
    return bool(0 not in (*a.shape, *b.shape) and a.shape[-1] == b.shape[-2 if b.ndim > 1 else 0])


def _takes(out: Array, shape: tuple[int, int], dtype: Any) -> bool:
    """Say whether a product can be written straight into `out`."""
    return bool(out.shape == shape and out.dtype == dtype and out.flags.c_contiguous)
