"""Options and markers of the gradient tests."""

import numpy as np
import pytest

from . import strategies

MARKERS = {
    "closed_form": "derivatives of activations and values of losses against exact formulas",
    "worked_example": "the network that is done by hand in the docs, to the last digit",
    "complex_step": "gradients against the complex step on a separate reference forward pass",
    "central": "gradients against central differences of the shipped forward pass",
    "oracle": "gradients against automatic differentiation (HIPS autograd, JAX, PyTorch)",
    "identities": "what must hold between gradients: sums, parts, permutations, weights",
    "directional": "large networks, along random directions",
    "optimizers": "optimizers against independent scalar references",
    "precision": "float32 gradients against float64 on the same numbers",
    "cross_backend": "the same numbers on every backend",
    "learns": "problems whose solution is known",
    "planted": "bugs planted in copies of the library, each of which must be caught",
    "formulas": "the numbered formulas of the docstrings, executed",
    "gradcheck": "xpnet.check_gradients itself",
}


def pytest_addoption(parser):
    parser.addoption(
        "--architectures", type=int, default=strategies.ARCHITECTURES, help="random networks a test (default 200)"
    )


def pytest_configure(config):
    for name, text in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {text}")
    strategies.ARCHITECTURES = config.getoption("--architectures", strategies.ARCHITECTURES)


@pytest.fixture
def rng():
    return np.random.default_rng(20240607)
