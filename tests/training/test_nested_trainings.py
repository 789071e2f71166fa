"""Trainings of layers inside of layers: on every backend, in half precision, compiled, and when numbers go wrong."""

import numpy as np
import pytest
from nested import T, X, network
from numpy.testing import assert_allclose, assert_array_equal

import xpnet
from xpnet import Linear, Residual, Sequence, Tanh
from xpnet.errors import NonFiniteError


def trained(backend="numpy", **options):
    net = network(backend, dtype="float64" if "precision" not in options else "float32", l1=1e-4, l2=1e-3)
    data = X.astype(net.dtype), T
    options = {"epochs": 3, "batch_size": 8, "optimizer": "adam", "verbose": False, "averaging": 0.5} | options
    net.fit(*data, **options)
    return net


def test_every_backend_trains_to_the_same_parameters(training_backend):
    found = training_backend.to_numpy(trained(training_backend).theta)
    assert_allclose(found, trained().theta, rtol=1e-9, atol=1e-12)


def test_machine_code_and_replay_give_the_bits_of_the_steps_as_written(monkeypatch):
    from array_backends import make

    eager = trained(make("eager"))
    assert_array_equal(trained().theta, eager.theta)
    monkeypatch.setattr(xpnet.backends.numpy.Replay, "patience", 0.0)
    assert_array_equal(trained().theta, eager.theta)


def test_half_precision():
    half, single = trained(precision="float16", averaging=None), trained(averaging=None)
    assert half.theta.dtype == np.float32
    assert_allclose(half.theta, single.theta, atol=0.03)
    assert (half.theta != single.theta).any()


def fails(xp, x):
    """Return x, or infinity where x is above 100."""
    return x / xp.astype(x < 100, x.dtype)


FRAGILE = xpnet.Activation(fails, lambda xp, x: xp.ones_like(x))


def refuse(*layers, rate=0.1, x=X):
    net = xpnet.Network(list(layers), "cross_entropy")
    with pytest.raises(NonFiniteError) as caught:
        net.fit(x, T, epochs=3, batch_size=8, optimizer=xpnet.SGD(rate), verbose=False)
    return str(caught.value)


def test_the_layer_inside_whose_output_is_not_finite_is_named():
    wide = Linear(5, 5, weight_init=xpnet.initializers.normal(1e4))
    message = refuse(Residual([Tanh(), Sequence([wide, FRAGILE])]), Linear(5, 3))
    assert "step 1: the output of layer 0.1.1 (Activation(" in message
    message = refuse(Linear(5, 5), Residual([Tanh()], shortcut=[wide, FRAGILE]), Linear(5, 3))
    assert "step 1: the output of layer 1.shortcut.1 (Activation(" in message


def test_the_layer_inside_whose_delta_is_not_finite_is_named():
    steep = xpnet.Activation(lambda xp, x: 1.0 * x, lambda xp, x: x / (0.0 * x))
    message = refuse(Linear(5, 5), Residual([Sequence([Tanh(), steep])]), Linear(5, 3))
    assert "the delta passed back by layer 1.0.1 (Activation(" in message


def test_a_gradient_inside_that_is_not_finite_is_named():
    class Wrong(Linear):
        def backward(self, xp, params, cache, dy, context=None, need_dx=True):
            dx, grads = super().backward(xp, params, cache, dy, context, need_dx)
            return dx, grads | {"b": grads["b"] / (0.0 * grads["b"])}

    message = refuse(Sequence([Residual([Wrong(5, 5)]), Linear(5, 3)]))
    assert "the gradient of b of layer 0.0.0 (" in message


def test_a_sum_of_two_ways_that_is_not_finite_is_that_of_the_residual():
    ways = [Linear(5, 5, weight_init="zeros") for _ in range(2)]
    net = xpnet.Network([Residual(ways[:1], shortcut=ways[1:]), Linear(5, 3)], "cross_entropy")
    net.set_parameters({"0.0.b": np.full(5, 3e38), "0.shortcut.0.b": np.full(5, 3e38)})
    with pytest.raises(NonFiniteError, match=r"the output of layer 0 \(Residual\(.* has 0 NaN and 40 infinite of 40"):
        net.fit(X, T, epochs=1, batch_size=8, verbose=False)


def test_a_running_statistic_inside_that_is_not_finite_is_named():
    class Wrong(xpnet.BatchNorm):
        def update_state(self, xp, state, cache):
            new = super().update_state(xp, state, cache)
            return new | {"variance": new["variance"] / (0.0 * new["variance"])}

    message = refuse(Linear(5, 4), Residual([Tanh(), Sequence([Wrong(4)])]), Linear(4, 3))
    assert "step 1: the running variance of layer 1.1.0 (" in message
