"""The other backends that the gradients are compared on."""

import array_backends
import pytest

import xpnet

OTHERS = ["cupy", "torch"]
"""Those with products, sums and functions of their own, which round otherwise than NumPy's."""
GENTLE = xpnet.SGD(1e-3, momentum=0.9)
"""For comparisons with those: Adam divides a gradient that is 0 but for its rounding by its own size, and large steps
overshoot, so that a last digit becomes the first."""
NAMES = ["eager", "CPU_DEVICE", "device1", *OTHERS]


def get(name):
    """Return a backend, or skip the test and say what is missing."""
    if name in OTHERS and (reason := xpnet.backends.missing(name)):
        pytest.skip(reason)
    return array_backends.make(name)
