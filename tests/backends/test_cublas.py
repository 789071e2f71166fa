"""The arguments with which cuBLAS is called, against a stand-in that computes on the host what cuBLAS would."""

from __future__ import annotations

import gc
import threading
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from array_backends import NO_CUPY
from cublas_host import library
from cuda_host import HostCupy, Scratch, make_cupy

from xpnet.backends.cuda import products as cublas
from xpnet.backends.cuda.graph import CapturedStep
from xpnet.backends.cupy import CupyBackend


class DeviceArray:
    """A NumPy array that looks like CuPy's where `Product` looks."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.shape, self.dtype, self.strides = array.shape, array.dtype, array.strides
        self.ndim, self.itemsize, self.flags = array.ndim, array.itemsize, array.flags
        self.data = SimpleNamespace(ptr=array.ctypes.data)


@pytest.fixture
def matmul() -> cublas.Product:
    cupy = make_cupy()
    cupy.empty = lambda shape, dtype: DeviceArray(np.full(shape, np.nan, dtype))
    cupy.matmul = lambda a, b, **out: ("CuPy's own product", *out.values())
    return cublas.Product(cupy, library(), tf32=False)


def laid_out(rng: np.random.Generator, rows: int, columns: int, how: str, dtype: Any = np.float32) -> np.ndarray:
    if how == "transposed":
        return rng.normal(size=(columns, rows)).astype(dtype).T
    if how == "rows of a wider array":
        return rng.normal(size=(rows, columns + 3)).astype(dtype)[:, :columns]
    return rng.normal(size=(rows, columns)).astype(dtype)


LAYOUTS = ("contiguous", "transposed", "rows of a wider array")


@pytest.mark.parametrize(("left", "right"), list(product(LAYOUTS, LAYOUTS)))
def test_products_of_every_shape_and_layout(matmul: cublas.Product, left: str, right: str) -> None:
    rng = np.random.default_rng(0)
    for rows, inner, columns in product((1, 2, 3, 7, 64), (1, 2, 4, 7), (1, 3, 5, 10)):
        a, b = laid_out(rng, rows, inner, left), laid_out(rng, inner, columns, right)
        found = matmul(DeviceArray(a), DeviceArray(b))
        np.testing.assert_allclose(found.array, a @ b, rtol=1e-5, atol=1e-5, err_msg=f"{rows, inner, columns}")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_data_types_and_the_type_in_which_they_are_summed_up(matmul: cublas.Product, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    for left, right in product(LAYOUTS, LAYOUTS):
        a, b = laid_out(rng, 5, 300, left, dtype), laid_out(rng, 300, 6, right, dtype)
        found = matmul(DeviceArray(a), DeviceArray(b)).array
        assert found.dtype == dtype
        # Halves are summed up in float32 and rounded once: a sum in float16 would be off by several times as much.
        wide = a.astype(np.float64) @ b.astype(np.float64)
        rounded = np.finfo(dtype).eps / 2 * np.abs(wide)
        summed = 300 * np.finfo(np.promote_types(dtype, np.float32)).eps * (np.abs(a.astype(float)) @ np.abs(b))
        assert (np.abs(found - wide) <= 1.001 * rounded + summed / 10).all()


def test_a_row_of_ones_times_a_matrix(matmul: cublas.Product) -> None:
    """The bias gradient: the transpose of a column, whose strides are those of neither layout."""
    dy = np.arange(12, dtype=np.float32).reshape(4, 3)
    ones = np.ones_like(dy[:, :1])
    found = matmul(DeviceArray(ones.T), DeviceArray(dy))
    np.testing.assert_array_equal(found.array, dy.sum(axis=0, keepdims=True))


def test_what_it_does_not_serve_goes_to_cupy(matmul: cublas.Product) -> None:
    a = np.zeros((4, 4), np.float32)
    for left, right in [(a.astype(np.int64), a.astype(np.int64)), (a[:0], a), (a, a[:3]), (a[:, :0], a[:0])]:
        assert matmul(DeviceArray(left), DeviceArray(right)) == ("CuPy's own product",)


@pytest.mark.parametrize(
    "make", [HostCupy, pytest.param(CupyBackend, marks=pytest.mark.skipif(NO_CUPY is not None, reason=str(NO_CUPY)))]
)
def test_vectors_stacks_strides_and_mixed_types_are_products_that_can_be_captured(make: Any) -> None:
    """CuPy's own product refuses, and then so would the whole step."""
    backend, rng = make(), np.random.default_rng(0)
    a, b = (rng.normal(size=(6, 4, 5)).astype(np.float32), rng.normal(size=(6, 5, 3)).astype(np.float32))

    def factors(a: Any, b: Any) -> list[tuple[Any, Any]]:
        return [
            (a, b), (a[0], b), (a, b[0]), (a[:1], b), (a[:, None], b), (a[0, 0], b[0]), (a[0], b[0, :, 0]),
            (a, b[0, :, 0]), (a[0, 0], b), (a[0, 0], b[0, :, 0]), (a[::2, ::2], b[::2]),
            (a[0, :, ::2], b[0, ::2, ::2]), (a[0].astype(np.float64), b[0]), (a.transpose(0, 2, 1)[:, :4], b[:, :4]),
        ]  # fmt: skip

    on_device = factors(backend.asarray(a), backend.asarray(b))  # views of what is there, as a layer makes them
    for (left, right), (x, z) in zip(factors(a, b), on_device, strict=True):
        expected = np.matmul(left, right)
        y = backend.asarray(np.zeros_like(expected))

        def step(x: Any = x, z: Any = z, y: Any = y) -> None:
            backend.xp.matmul(x, z, out=y)
            y[...] = y + backend.xp.matmul(x, z)

        program = CapturedStep(backend._cupy, backend.xp.matmul.lane(), step, [y])
        program()
        found = backend.to_numpy(y)
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, 2 * expected, rtol=1e-5, atol=1e-5)


def test_a_product_is_written_where_it_is_asked_for(matmul: cublas.Product) -> None:
    """As a gradient's is, into its part of one long vector."""
    rng = np.random.default_rng(0)
    x, dy = (rng.normal(size=(8, columns)).astype(np.float32) for columns in (3, 5))
    vector = np.full(40, np.nan, dtype=np.float32)
    out = DeviceArray(vector[7:22].reshape(3, 5))
    assert matmul(DeviceArray(x.T), DeviceArray(dy), out=out) is out
    np.testing.assert_allclose(vector[7:22].reshape(3, 5), x.T @ dy, rtol=1e-5)
    assert np.isnan(vector[:7]).all()
    assert np.isnan(vector[22:]).all()


@pytest.mark.parametrize("out", [np.zeros((5, 3), np.float32).T, np.zeros((3, 5)), np.zeros((3, 9), np.float32)[:, :5]])
def test_where_a_product_cannot_be_written_directly_it_is_copied(out: np.ndarray) -> None:
    backend = HostCupy()
    x, dy = (backend.asarray(np.ones((8, columns), np.float32)) for columns in (3, 5))
    target = out.view(type(x))
    assert backend.xp.matmul(x.T, dy, out=target) is target
    assert (out == 8).all()


def test_an_error_status_is_an_error() -> None:
    cublas.check(0)
    with pytest.raises(cublas.CublasError, match="status 7"):
        cublas.check(7)
    for status in (1, 3):
        with pytest.raises(MemoryError, match="too little memory"):
            cublas.check(status)


def multiply(matmul: cublas.Product) -> None:
    ones = DeviceArray(np.ones((2, 2), np.float32))
    np.testing.assert_array_equal(matmul(ones, ones).array, [[2.0, 2.0], [2.0, 2.0]])


@pytest.mark.parametrize(("major", "size"), [(7, 4 << 20), (8, 4 << 20), (9, 32 << 20), (12, 32 << 20)])
def test_what_a_handle_is_told(matmul: cublas.Product, major: int, size: int) -> None:
    matmul._cupy.cuda.runtime.getDeviceProperties = lambda number: {"major": major}
    before = Scratch.used
    multiply(matmul)
    assert Scratch.used - before == size
    (told,) = matmul._library.settings.values()
    names = [name for name, _ in told]
    assert dict(told) == {"math mode": 16, "stream": matmul._cupy.cuda.get_current_stream().ptr, "workspace": size}
    assert names.index("stream") < names.index("workspace")  # the first resets the second


def test_handles_and_scratch_memory_are_given_back_with_the_backend_and_with_a_thread(matmul: cublas.Product) -> None:
    before, handles = Scratch.used, matmul._library.handles
    for _ in range(3):
        multiply(matmul)
    with matmul.lane():
        multiply(matmul)
    assert matmul.lane() is matmul.lane()
    assert len(handles) == 2
    thread = threading.Thread(target=multiply, args=(matmul,))
    thread.start()
    thread.join()
    assert len(handles) == 2
    kept = matmul.lane()
    del matmul._lanes, matmul._own
    gc.collect()
    assert len(handles) == 1  # a graph may still need it
    del kept
    gc.collect()
    assert (handles, Scratch.used) == (set(), before)


def test_handles_are_kept_for_a_few_streams_of_a_callers_own(matmul: cublas.Product) -> None:
    a = DeviceArray(np.ones((2, 2), np.float32))
    for _ in range(3 * cublas.STREAMS):
        with matmul._cupy.cuda.Stream():
            matmul(a, a)
    gc.collect()
    assert len(matmul._library.handles) == cublas.STREAMS


def test_a_handle_without_memory_is_tried_once_more_after_memory_was_given_back(matmul: cublas.Product) -> None:
    library, freed = matmul._library, []
    library.memory = 0
    pool = SimpleNamespace(free_all_blocks=lambda: freed.append(1) or setattr(library, "memory", len(freed) - 1))
    matmul._cupy.get_default_memory_pool = lambda: pool
    with pytest.raises(MemoryError, match="status 3"):
        multiply(matmul)
    multiply(matmul)
    assert len(freed) == 2


def test_reduced_precision_is_asked_for_only_by_its_name(matmul: cublas.Product) -> None:
    assert matmul._compute == {"float32": 68, "float64": 70, "float16": 68, "bfloat16": 68}
    assert cublas.Product(matmul._cupy, library(), tf32=True)._compute == matmul._compute | {"float32": 77}
