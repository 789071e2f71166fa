"""cuBLAS's product on the host, by its documentation: what the tests hand to `xpnet.backends.cuda.products`."""

from __future__ import annotations

import ctypes
import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np

TYPES = {0: np.dtype(np.float32), 1: np.dtype(np.float64), 2: np.dtype(np.float16)}  # by cudaDataType_t
COMPUTED = {68: (np.float32, ctypes.c_float), 70: (np.float64, ctypes.c_double)}  # by cublasComputeType_t


def column_major(address: int, kind: int, rows: int, columns: int, leading: int) -> np.ndarray:
    assert leading >= max(rows, 1)  # what cuBLAS itself demands
    dtype = TYPES[kind]
    buffer = (ctypes.c_char * (leading * columns * dtype.itemsize)).from_address(address)
    return np.ndarray((rows, columns), dtype, buffer, strides=(dtype.itemsize, dtype.itemsize * leading))


def gemm(
    handle: Any, ta: int, tb: int, m: int, n: int, k: int, alpha: Any, a: int, a_type: int, lda: int, b: int,
    b_type: int, ldb: int, beta: Any, c: int, c_type: int, ldc: int, compute: int, algorithm: int,
) -> int:  # fmt: skip
    """cublasGemmEx, by its documentation: C = alpha op(A) op(B) + beta C, all column-major."""
    dtype, number = COMPUTED[compute]
    assert a_type == b_type == c_type
    assert type(alpha._obj) is number  # cuBLAS reads the factors in the type in which it computes
    assert type(beta._obj) is number
    left = column_major(a, a_type, *((k, m) if ta else (m, k)), lda).astype(dtype)
    right = column_major(b, b_type, *((n, k) if tb else (k, n)), ldb).astype(dtype)
    result = column_major(c, c_type, m, n, ldc)
    kept = beta._obj.value * result if beta._obj.value else 0.0  # C is not read if beta is 0
    result[...] = alpha._obj.value * ((left.T if ta else left) @ (right.T if tb else right)) + kept
    return 0


def gemms(
    handle: Any, ta: int, tb: int, m: int, n: int, k: int, alpha: Any, a: int, a_type: int, lda: int, a_step: int,
    b: int, b_type: int, ldb: int, b_step: int, beta: Any, c: int, c_type: int, ldc: int, c_step: int, count: int,
    compute: int, algorithm: int,
) -> int:  # fmt: skip
    """cublasGemmStridedBatchedEx: `count` products, whose matrices lie so many numbers behind one another."""
    for j in range(count):
        first, second, third = (
            x + j * step * TYPES[a_type].itemsize for x, step in ((a, a_step), (b, b_step), (c, c_step))
        )
        gemm(handle, ta, tb, m, n, k, alpha, first, a_type, lda, second, b_type, ldb, beta, third, c_type, ldc, compute,
             algorithm)  # fmt: skip
    return 0


def library(memory: float = float("inf")) -> Any:
    """Return what stands in for the library, with its `handles` that are in use and memory for so many of them.

    A handle is a number; `settings` holds what each was told.
    """
    numbers, handles = itertools.count(1), set[int]()
    settings: dict[int, list[tuple[str, Any]]] = {}

    def create(handle: Any) -> int:
        if len(handles) >= made.memory:
            return 3  # CUBLAS_STATUS_ALLOC_FAILED
        handle._obj.value = next(numbers)
        handles.add(handle._obj.value)
        settings[handle._obj.value] = []
        return 0

    def destroy(handle: Any) -> int:
        handles.remove(handle.value)
        return 0

    def told(name: str) -> Any:
        return lambda handle, *values: settings[handle.value].append((name, values[-1])) or 0

    made = SimpleNamespace(
        cublasGemmEx=gemm, cublasGemmStridedBatchedEx=gemms, cublasCreate_v2=create, cublasDestroy_v2=destroy,
        cublasSetStream_v2=told("stream"),
        cublasSetWorkspace_v2=told("workspace"), cublasSetMathMode=told("math mode"), handles=handles,
        settings=settings, memory=memory,
    )  # fmt: skip
    return made
