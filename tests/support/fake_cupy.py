"""A module like CuPy in which one thing or another goes wrong, for machines without a GPU."""

import types

import numpy as np


class CUDARuntimeError(RuntimeError):
    """Stands in for CuPy's."""


class CompileException(Exception):
    """Stands in for CuPy's, which is no RuntimeError."""


class DynamicLibNotFoundError(RuntimeError):
    """Stands in for the one of cuda.pathfinder."""


class Numbers:
    """A device array; adding compiles a kernel."""

    def __init__(self, value, fault=None):
        self.value, self.fault = value, fault

    def __add__(self, other):
        if self.fault:
            raise self.fault
        return Numbers(self.value + other.value)

    def __getitem__(self, key):
        return self.value


def fake_cupy(count=1, kernel=None, product=None, creation=None, answer=2.0):
    """Return a module like CuPy in which one thing or another goes wrong."""

    def devices():
        if isinstance(count, Exception):
            raise count
        return count

    def ones(shape, dtype):
        if creation:
            raise creation
        return Numbers(1.0, kernel)

    def matmul(a, b):
        if product:
            raise product
        return Numbers(answer)

    class Device:
        def __init__(self, number):
            self.id = number

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    cupy = types.ModuleType("cupy")
    cupy.__version__, cupy.float32, cupy.ones, cupy.matmul, cupy.ndarray = "14.2.0", np.float32, ones, matmul, Numbers
    runtime = types.SimpleNamespace(getDeviceCount=devices, CUDARuntimeError=CUDARuntimeError)
    cupy.cuda = types.SimpleNamespace(runtime=runtime, Device=Device)
    return cupy
