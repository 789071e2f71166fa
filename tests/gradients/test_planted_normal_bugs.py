"""Tests of the tests of normalisation: every planted bug is caught in each network that it touches."""

import numpy as np
import pytest

import xpnet
from xpnet.layers import layernorm

from .bugs_normal import BUGS
from .planting import assert_caught, catches, gradients, reported

pytestmark = pytest.mark.planted


def normal(kind, features, groups=None):
    return {"kind": kind, **({"groups": groups} if groups else {}), "features": features, "eps": 0.3}


def linear(inputs, outputs):
    return {"kind": "Linear", "inputs": inputs, "outputs": outputs, "bias": True}


def network(seed, shape, layers):
    """Return the dict of a network of rows or images, under a squared error: what is left of a mean shows."""
    rest = {"l1": 0.0, "l2": 0.0, "penalize_biases": False, "batch": 3 + seed % 3, "weighted": True, "seed": seed}
    return {"shape": shape, "layers": layers, "loss": {"kind": "MeanSquaredError"}, **rest}


def rows(seed, layer):
    return network(seed, (3,), [linear(3, 4), layer, {"kind": "Tanh"}, linear(4, 2)])


def images(seed, layer):
    conv = {"kind": "Conv2D", "inputs": 2, "outputs": 4, "size": (2, 3), "stride": 1, "padding": "same", "bias": True}
    end = [{"kind": "GlobalAveragePool2D"}, linear(4, 2)]
    return network(seed, (3, 5, 2), [conv, layer, {"kind": "Tanh"}, *end])


NORMALS = [normal("BatchNorm", 4), normal("LayerNorm", 4), normal("RMSNorm", 4), normal("GroupNorm", 4, 2)]
POOL = [make(seed, layer) for seed in range(3) for layer in NORMALS for make in (rows, images)]


@pytest.fixture(scope="module")
def honest():
    return [gradients(config) for config in POOL]


@pytest.mark.parametrize("check", ["complex_step", "autograd", "central"])
def test_no_alarm_without_a_bug(check):
    for config in POOL:
        assert not catches(check, config)


@pytest.mark.parametrize("name", BUGS)
def test_bug_is_caught(name, honest):
    assert_caught(BUGS[name], POOL, honest)


@pytest.mark.parametrize("name", [name for name, bug in BUGS.items() if "central" in bug.caught_by])
def test_check_gradients_finds_it(name, honest):
    assert "Norm" in reported(BUGS[name], POOL, honest, training=True)


def interleaved(honest, place):
    """Let a pass see channels in the order in which each group has one of every G."""

    def wrong(self, xp, params, first, second, *rest, **options):
        order = np.arange(self.features).reshape(-1, self.groups).T.ravel()
        own, back = {name: p[order] for name, p in params.items()}, np.argsort(order)
        if place == "forward":
            y, cache = honest(self, xp, own, first[..., order], second, *rest, **options)
            return y[..., back], cache
        dx, grads = honest(self, xp, own, first, second[..., order], *rest, **options)
        return dx[..., back], {name: g[back] for name, g in grads.items()}

    return wrong


def test_interleaved_groups_are_caught_by_values_alone(monkeypatch):
    """Forward and backward pass agree with each other; what is wrong is which channels make a group."""
    for place in ("forward", "backward"):
        monkeypatch.setattr(xpnet.GroupNorm, place, interleaved(getattr(xpnet.GroupNorm, place), place))
    for config in (rows(1, normal("GroupNorm", 4, 2)), images(2, normal("GroupNorm", 4, 2))):
        assert not catches("central", config)
        assert catches("complex_step", config)
        assert catches("autograd", config)


@pytest.mark.parametrize(("axes", "config"), [
    ((0,), rows(1, normal("LayerNorm", 4))),
    ((1, 2, 3), images(1, normal("LayerNorm", 4))),
], ids=["samples", "places"])  # fmt: skip
def test_statistics_over_other_axes_are_caught_by_values_alone(monkeypatch, axes, config):
    forward, backward = layernorm.standardize, layernorm.standardize_backward
    monkeypatch.setattr(layernorm, "standardize", lambda xp, x, _, eps: forward(xp, x, axes, eps))
    monkeypatch.setattr(layernorm, "standardize_backward", lambda xp, xhat, s, d, _: backward(xp, xhat, s, d, axes))
    assert not catches("central", config)
    assert catches("complex_step", config)
    assert catches("autograd", config)
    if axes == (0,):
        assert catches("identities", config)  # and by the samples, which now see each other
