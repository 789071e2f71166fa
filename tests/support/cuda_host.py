"""A device that lies in the host's memory: what the CuPy backend calls, on NumPy and a C compiler.

Its arrays refuse NumPy's. While a stream is capturing, operations are noted with the memory that they read and write;
launching the graph repeats them there, as CUDA does.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
import types
import weakref
from types import SimpleNamespace
from typing import Any, ClassVar

import array_api_compat.numpy
import numpy as np
from cublas_host import library
from cuda_c import TRANSCENDENTAL, apply, compiled, run

from xpnet.backends.base import Backend
from xpnet.backends.cuda import compare
from xpnet.backends.cuda import products as cublas
from xpnet.backends.cuda.program import REDUCTIONS
from xpnet.backends.cuda.units import FEW, MOST_LANES, TURNS
from xpnet.backends.cupy import CupyBackend, namespace
from xpnet.backends.tape import surroundings

# They are no more a user's than CuPy is, whose part they play.
surroundings.OURS += ("cublas_host", "cuda_c", "cuda_host")


class Timeline:
    """Does what the device is asked for, and notes it while a stream is capturing."""

    nodes: list[Any] | None = None
    pool: list[Any] | None = None
    """What keeps the arrays alive whose addresses a graph knows; it does not keep them itself."""

    def do(self, work: Any) -> None:
        if self.nodes is None:
            work()
        else:  # it is done when the graph is launched, and not before
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


def refuse_while_capturing() -> None:
    if TIMELINE.nodes is not None:
        raise RuntimeError("a value is read while the stream is capturing")


class Numbers(np.ndarray):
    """An array of the device."""

    data = property(lambda self: SimpleNamespace(ptr=self.ctypes.data))
    device = property(lambda self: DEVICE)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        inputs = tuple(map(plain, inputs))

        def compute():
            function = TRANSCENDENTAL.get(ufunc.__name__)
            if function is ufunc and inputs[0].dtype.kind == "f":
                return apply(ufunc.__name__, inputs[0])
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

    def __getitem__(self, key):
        if isinstance(key, Numbers):
            refuse_while_capturing()  # how many places a mask has decides about the shape
        return super().__getitem__(plain(key))

    def __setitem__(self, key, value):
        if isinstance(key, Numbers):
            refuse_while_capturing()
            plain(self)[plain(key)] = plain(value)
            return
        keys = key if isinstance(key, tuple) else (key,)
        target, source = plain(self)[keys if Ellipsis in keys else (*keys, ...)], plain(value)
        TIMELINE.do(lambda: np.copyto(target, source, casting="unsafe"))

    def set(self, array, stream):
        """Copy from the host on a stream, whatever another stream captures; copies are counted."""
        assert self.flags.c_contiguous
        assert array.dtype == self.dtype
        assert isinstance(array.base, Pinned)
        plain(self)[...] = array
        stream.copied += 1

    def astype(self, dtype, copy=True):
        return (
            kept(plain(self).astype(dtype), lambda: plain(self).astype(dtype)) if copy or dtype != self.dtype else self
        )

    def __bool__(self):
        refuse_while_capturing()
        return bool(plain(self))

    def __float__(self):
        refuse_while_capturing()
        return float(plain(self))


class Pinned(bytearray):
    """Page-locked memory; `taken` counts its pieces."""

    taken = 0

    def __init__(self, size):
        super().__init__(size)
        Pinned.taken += 1


class Stream:
    """What orders the work; here everything is done at once."""

    numbers = itertools.count(1)
    current: ClassVar[list[Any]] = []

    def __init__(self, non_blocking=True):
        assert non_blocking
        self.ptr = next(self.numbers)
        self.copied = 0

    def __enter__(self):
        self.current.append(self)
        return self

    def __exit__(self, *error):
        assert self.current.pop() is self

    def wait_event(self, event):
        pass

    def record(self):
        return self

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


class Event:
    """A moment; here there is nothing to wait for."""

    def record(self, stream=None):
        self.moment = time.perf_counter()

    def synchronize(self):
        pass


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
    made = {
        name: on_device(f) if callable(f) and not isinstance(f, type | np.ufunc) else f for name, f in functions.items()
    }
    return made | {name: joined(made[name]) for name in ("concat", "concatenate", "stack")}


class Device(contextlib.nullcontext):
    id = 0
    mem_info = (2**30, 2**34)


DEVICE = Device()
LEGACY = Stream()


def empty(shape: Any, dtype: Any) -> Numbers:
    """Return memory: no work for the device."""
    array = np.empty(shape, dtype).view(Numbers)
    if TIMELINE.pool is not None:
        TIMELINE.pool.append(array)
    return array


@contextlib.contextmanager
def using_allocator(pool: list[Any]) -> Any:
    TIMELINE.pool = pool
    yield
    TIMELINE.pool = None


class MemoryPool:
    def __init__(self):
        self.malloc = []


class CUDARuntimeError(RuntimeError):
    """What CUDA itself refuses."""


class Scratch:
    """Memory for cuBLAS; `used` counts the bytes that somebody holds."""

    used = 0

    def __init__(self, size):
        self.ptr = id(self)
        Scratch.used += size
        weakref.finalize(self, Scratch.free, size)

    @staticmethod
    def free(size):
        Scratch.used -= size


def recording(blas: Any) -> Any:
    """Return cuBLAS with products that a graph repeats."""
    for name in ("cublasGemmEx", "cublasGemmStridedBatchedEx"):
        own = getattr(blas, name)
        setattr(blas, name, lambda *arguments, own=own: TIMELINE.do(lambda: own(*arguments)) or 0)
    return blas


def asarray(a: Any, dtype: Any = None) -> Numbers:
    """Return `a` on the device. What comes from the host goes by memory whose event a capture would swallow."""
    if not isinstance(a, Numbers):
        refuse_while_capturing()
    return a if isinstance(a, Numbers) and dtype is None else np.array(a, dtype).view(Numbers)


def joined(function: Any) -> Any:
    """Return a function that puts arrays together; the addresses of more than eight go to the device first."""

    def call(arrays: Any, *args: Any, **options: Any) -> Any:
        if len(arrays) > 8:
            refuse_while_capturing()
        return function(arrays, *args, **options)

    return call


def own_product(a: Any, b: Any, **options: Any) -> Any:
    """CuPy's own matrix product, which it refuses to capture."""
    if TIMELINE.nodes is not None:
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
    return on_device(np.matmul)(a, b, **options)


def make_cupy() -> Any:
    """Return what stands in for the module cupy."""
    cupy = types.ModuleType("cupy")
    vars(cupy).update(wrapped(np))
    cupy.ndarray, cupy.RawModule, cupy.__version__ = Numbers, RawModule, "14.2.0"
    cupy.asarray = asarray
    cupy.empty = empty
    cupy.asnumpy = lambda a: np.array(a.view(np.ndarray))
    cupy.fuse = lambda f: f
    cupy.matmul = own_product
    cupy.cuda = SimpleNamespace(
        Event=Event, get_elapsed_time=lambda start, end: 1e3 * (end.moment - start.moment),
        Stream=Stream, get_current_stream=lambda: (Stream.current or [LEGACY])[-1], MemoryPool=MemoryPool,
        Device=lambda n: DEVICE, using_allocator=using_allocator, alloc=Scratch,
        alloc_pinned_memory=Pinned,
        runtime=SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError, runtimeGetVersion=lambda: 13020, getDevice=lambda: 0,
            getDeviceProperties=lambda number: {"name": b"the host", "totalGlobalMem": 2**34, "major": 9},
        ),
    )  # fmt: skip
    cupy.get_default_memory_pool = lambda: SimpleNamespace(free_all_blocks=lambda: None, free_bytes=lambda: 0)
    return cupy


def in_order(cupy: Any, xp: Any) -> Any:
    """Return the functions of a step in which sums are added up in the order of the kernels that do them."""

    def reduced(name: str) -> Any:
        plain = getattr(xp, REDUCTIONS[name])

        def function(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
            own = plain(x, axis=axis, keepdims=keepdims, **({} if dtype is None else {"dtype": dtype}))
            axes = tuple(k % x.ndim for k in (range(x.ndim) if axis is None else np.atleast_1d(axis).tolist()))
            length = np.prod([x.shape[k] for k in axes], dtype=int)
            if own.dtype != x.dtype or not 2 <= length <= TURNS * MOST_LANES or x.dtype.kind == "b":
                return own
            return compare.by_lanes(cupy, name, x, axes).reshape(own.shape)

        return function

    def matmul(a: Any, b: Any) -> Any:
        ones = a.ndim == 2 and a.shape[0] == 1 < a.shape[1] and (a.view(np.ndarray) == 1).all()
        if ones:
            return compare.by_lanes(cupy, "add", b, (0,)).reshape((1, -1))
        return compare.few_terms(cupy, a, b) if a.ndim == b.ndim == 2 and a.shape[1] <= FEW else xp.matmul(a, b)

    def mean(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
        total = instead["sum"](x, axis=axis, keepdims=keepdims)
        return total / (x.size // total.size)

    def var(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
        difference = x - mean(x, axis=axis, keepdims=True)
        return mean(difference * difference, axis=axis, keepdims=keepdims)

    matmul.lane, matmul.tf32 = xp.matmul.lane, False
    instead = {REDUCTIONS[name]: reduced(name) for name in REDUCTIONS} | {"matmul": matmul, "mean": mean, "var": var}
    return SimpleNamespace(**vars(xp) | instead)


class HostCupy(CupyBackend):
    """The CuPy backend on such a device."""

    def __init__(self) -> None:
        self._cupy, self.tf32, self.name, self.device = make_cupy(), False, "cupy", DEVICE
        product = cublas.Product(self._cupy, recording(library()), tf32=False)
        self.xp = namespace(self._cupy, wrapped(array_api_compat.numpy), product)

    def __reduce__(self):
        raise TypeError("not meant to be stored")


class InOrder(HostCupy):
    """The same with steps as they are written, one operation after another, but sums in the order of the kernels."""

    compile = Backend.compile

    def __init__(self) -> None:
        super().__init__()
        self.xp = in_order(self._cupy, self.xp)
