"""The other backends that the gradients are compared on."""

import array_backends
import pytest

import xpnet

NAMES = ["eager", "CPU_DEVICE", "device1", "cupy", "torch"]


def get(name):
    """Return a backend, or skip the test and say what is missing."""
    if name in ("cupy", "torch") and (reason := xpnet.backends.missing(name)):
        pytest.skip(reason)
    return array_backends.make(name)
