"""Tests of the tests of images: every planted bug is caught in each network that it touches, as `bugs_images` says."""

import loops
import numpy as np
import pytest

import xpnet
from xpnet.layers import patches

from .bugs_images import BUGS
from .planting import assert_caught, catches, gradients, plant, reported

pytestmark = pytest.mark.planted


@pytest.fixture(scope="module", autouse=True)
def both_kinds_of_patches():
    """Small networks have patches of whole windows and of their rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patches, "FEW", 4)
        yield


def network(seed, shape, *layers, outputs=2):
    """Return the dict of a network of images, or of signals."""
    loss = {"kind": "MeanSquaredError"} if seed % 2 else {"kind": "CrossEntropy", "targets": "classes"}
    inputs = next(layer["outputs"] for layer in layers[::-1] if "outputs" in layer)
    end = [
        {"kind": f"GlobalAveragePool{len(shape) - 1}D"},
        {"kind": "Linear", "inputs": inputs, "outputs": outputs, "bias": True},
    ]
    rest = {"l1": 0.0, "l2": 0.1, "penalize_biases": False, "batch": 2 + seed % 2, "weighted": True, "seed": seed}
    return {"shape": shape, "layers": [*layers, *end], "loss": loss, **rest}


def conv(inputs, outputs, size=3, stride=1, padding="same", axes=2):
    size, stride = (v if isinstance(v, tuple) else (v,) * axes for v in (size, stride))
    options = {"size": size, "stride": stride, "padding": padding, "bias": True}
    return {"kind": f"Conv{axes}D", "inputs": inputs, "outputs": outputs, **options}


def pool(kind, size, stride, axes=2):
    return {"kind": f"{kind}{axes}D", "size": size, "stride": stride}


TANH = {"kind": "Tanh"}


def flat(seed):
    """Return a network that flattens."""
    config = network(seed, (3, 4, 2), conv(2, 3, (3, 2)), TANH, conv(3, 2, 2))
    inputs = {**config["layers"][-1], "inputs": 24}
    return {**config, "layers": [*config["layers"][:-2], {"kind": "Flatten"}, inputs]}


POOL = [
    config
    for seed in range(0, 12, 3)
    for config in (
        network(seed, (6, 5, 2), conv(2, 3, (3, 2)), TANH, conv(3, 2, 2, (2, 1))),
        network(seed + 1, (5, 4, 2), conv(2, 2), TANH, pool("MaxPool", (3, 2), (1, 1)), conv(2, 2, 3, 2, "valid")),
        network(seed + 2, (6, 7, 1), conv(1, 2, 2), pool("AveragePool", (2, 3), (2, 1)), TANH, conv(2, 2, 3, (2, 1))),
        network(seed, (9, 2), conv(2, 2, 3, 2, "valid", 1), TANH, pool("MaxPool", 2, 1, 1), conv(2, 3, 2, axes=1)),
        flat(seed),
    )
]


@pytest.fixture(scope="module")
def honest():
    return [gradients(config) for config in POOL]


def ties():
    """Say whether pools of numbers of which many are equal give other deltas than plain loops."""
    x = np.random.default_rng(0).integers(0, 2, (2, 5, 4, 3)).astype(float)
    layer, xp = xpnet.MaxPool2D((3, 2), (2, 1)), xpnet.backends.get("numpy").xp
    y, cache = layer.forward(xp, {}, x)
    dy = np.random.default_rng(1).normal(size=y.shape)
    return np.abs(layer.backward(xp, {}, cache, dy)[0] - loops.max_pool_back(x, dy, (3, 2), (2, 1))).max() > 1e-12


@pytest.mark.parametrize("check", ["complex_step", "autograd", "central"])
def test_no_alarm_without_a_bug(check):
    assert not ties()
    for config in POOL:
        assert not catches(check, config)


@pytest.mark.parametrize("name", BUGS)
def test_bug_is_caught(name, honest):
    bug = BUGS[name]
    if "ties" in bug.caught_by:
        with plant(bug):
            assert ties()
        return
    assert_caught(bug, POOL, honest)


@pytest.mark.parametrize("name", [name for name, bug in BUGS.items() if "central" in bug.caught_by])
def test_check_gradients_finds_it(name, honest):
    failure = reported(BUGS[name], POOL, honest, max_elements=40)
    assert any(kind in failure for kind in ("Conv", "Pool", "Flatten")), failure
