"""The same numbers on every backend: forward, gradient and ten steps of training."""

import numpy as np
import pytest

import xpnet

from . import devices, library, strategies
from .compare import assert_same, scale_of

pytestmark = pytest.mark.cross_backend

TOLERANCES = {"float64": 1e-12, "float32": 5e-6}  # on a GPU, whose sums have another order
OPTIMIZERS = [
    xpnet.SGD(0.05, momentum=0.9, nesterov=True),
    xpnet.Adam(0.01),
    xpnet.AdamW(0.01, clip_norm=1.0),
    xpnet.RMSProp(0.01, clip_value=0.5),
    xpnet.Adagrad(0.05, weight_decay=0.1),
]


def everything(config, backend, dtype, optimizer=None):
    """Return all outputs, the value and gradients, and the parameters after ten steps, as NumPy arrays."""
    net = library.build(config, backend, dtype)
    _, x, t, weight = strategies.numbers(config)
    x, t = x.astype(dtype), t if t.dtype.kind == "i" else t.astype(dtype)
    found = {f"output {k}": y for k, y in enumerate(library.outputs(net, x))}
    value, grads = library.gradients(net, x, t, weight)
    optimizer = optimizer or OPTIMIZERS[config["seed"] % len(OPTIMIZERS)]
    batch = 1 + config["seed"] % len(x)
    xpnet.Trainer(net, optimizer, x, t, batch_size=batch, sample_weight=weight).run(10)
    return {**found, "value": np.asarray(value), "theta": net.backend.to_numpy(net.theta)}, grads


def compare(config, backend, dtype, tolerance, optimizer=None):
    expected, grads = everything(config, "numpy", dtype, optimizer)
    actual, other = everything(config, backend, dtype, optimizer)
    for name, value in {**actual, **other}.items():
        want = expected.get(name, grads.get(name))
        assert value.dtype == want.dtype, name
    assert_same(actual, expected, tolerance, what=backend.name)
    assert_same(other, grads, tolerance, scale_of(config, grads), backend.name)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", devices.NAMES)
def test_random_networks(name, dtype):
    backend = devices.get(name)
    tolerance = TOLERANCES[dtype] if name in devices.OTHERS else 1e-15 if dtype == "float64" else 1e-6

    @strategies.architectures(part=0.25 if dtype == "float64" else 0.1)
    def check(config):
        compare(config, backend, dtype, tolerance)

    check()


@pytest.mark.parametrize("name", devices.NAMES)
def test_random_numbers_are_the_same_bits(name):
    """Initial values, shuffles and dropout masks come from the host, or are integer arithmetic."""
    backend = devices.get(name)

    def made(backend):
        net = xpnet.mlp([5, 7, 3], dropout=0.3, backend=backend, seed=123)
        return [net.backend.to_numpy(net.theta), *library.masks(net, 50).values()]

    for here, there in zip(made("numpy"), made(backend), strict=True):
        assert (here == there).all()


@pytest.mark.parametrize("name", devices.NAMES)
def test_a_hundred_steps(name):
    def train(backend):
        rng = np.random.default_rng(9)
        net = xpnet.mlp([6, 12, 3], "gelu", dropout=0.2, backend=backend, dtype="float64", seed=4, l2=1e-3)
        x, t = rng.normal(size=(40, 6)), rng.integers(0, 3, 40)
        return net.fit(x, t, optimizer="adam", epochs=20, batch_size=8, verbose=False)["loss"]

    expected = np.array(train("numpy"))
    assert np.abs(np.array(train(devices.get(name))) / expected - 1).max() <= 1e-9


def test_gpu_products_are_in_full_precision():
    """TF32 products would have ten bits; CuPy's default is off, and nothing here turns it on."""
    devices.get("cupy")
    import os

    assert os.environ.get("CUPY_TF32", "0") == "0"
