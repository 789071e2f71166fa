"""Networks too large to move every parameter of: the derivative along random directions."""

import itertools

import numpy as np
import pytest

from . import library, reference, strategies
from .compare import assert_close

pytestmark = pytest.mark.directional


def chain(sizes, activation, **rest):
    """Return a network of many layers of one kind."""
    layers = []
    for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        layers.append({"kind": "Linear", "inputs": inputs, "outputs": outputs, "bias": True})
        if number < len(sizes) - 2:
            layers += [activation, {"kind": "Dropout", "rate": 0.1}]
    config = {"layers": layers, "loss": {"kind": "CrossEntropy", "targets": "classes"}, "l1": 1e-5, "l2": 1e-4}
    return {**config, "penalize_biases": False, "batch": 16, "weighted": True, "seed": 6, **rest}


NETWORKS = {
    "784-512-512-10": chain([784, 512, 512, 10], {"kind": "ReLU"}),
    "784-256-128-10 GELU": chain([784, 256, 128, 10], {"kind": "GELU"}),
    "ten layers": chain([40, *[32] * 9, 7], {"kind": "Tanh"}),
    "ten layers SiLU": chain([40, *[32] * 9, 7], {"kind": "SiLU"}, loss={"kind": "Huber", "delta": 1.0}),
    "batch of 500": chain([30, 64, 5], {"kind": "ELU"}, batch=500, loss={"kind": "BinaryCrossEntropy"}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_directional(name):
    config = NETWORKS[name]
    net = library.build(config)
    params, x, t, weight = strategies.numbers(config)
    masks = library.masks(net, len(x))
    value, grads = library.gradients(net, x, t, weight)
    assert_close(value, reference.objective(config, params, x, t, weight, masks), 1e-13, "value")
    rng = np.random.default_rng(1)
    for kind in range(3):
        # Each array by itself has the same share, or the largest would hide the others.
        direction = {n: rng.normal(size=g.shape) / np.linalg.norm(g) for n, g in grads.items()}
        slope = reference.directional(config, params, x, t, direction, weight, masks)
        along = sum(np.sum(g * direction[n]) for n, g in grads.items())
        assert abs(along - slope) <= 1e-11 * np.sqrt(len(grads)), (kind, along, slope)
