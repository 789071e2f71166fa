"""Layers, losses, optimizers and callbacks of one's own that break their promise are named, by the first step."""

from dataclasses import dataclass

import numpy as np
import problems
import pytest
from array_backends import make

import xpnet
from xpnet.errors import ConfigError, PromiseError

X, T = problems.three_classes()
BACKENDS = ["numpy", "device1"]


@dataclass(frozen=True)
class Scale(xpnet.Layer):
    """y = a x, with a mistake to choose."""

    mistake: str = ""

    def init(self, rng):
        return {"a": np.ones((1, 4) if self.mistake == "init" else 4)}

    def forward(self, xp, params, x, context=None):
        if self.mistake == "no pair":
            return x
        if self.mistake == "wide":
            return x * xp.ones(4, dtype=xp.float64, device=x.device), x
        return params["a"] * x, x

    def backward(self, xp, params, cache, dy, context=None, need_dx=True):
        dx, da = dy * params["a"], xp.sum(dy * cache, axis=0)
        if self.mistake == "no gradients":
            return dx
        if self.mistake == "scalar":
            return dx, {"a": xp.sum(da)}
        return dx, {} if self.mistake == "missing" else {"a": da}


def network(mistake="", backend="numpy", loss="cross_entropy"):
    return xpnet.Network([xpnet.Linear(3, 4), Scale(mistake), xpnet.Linear(4, 3)], loss, backend=make(backend))


def fit(net, **options):
    return net.fit(X[:2], T[:2], epochs=1, batch_size=2, verbose=False, **options)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("no pair", r"layer 1 Scale: forward must return a pair \(y, cache\), got"),
        ("wide", r"layer 1 Scale: forward makes float64 of .*float32"),
        ("no gradients", r"layer 1 Scale: backward must return a pair"),
        ("scalar", r"layer 1 Scale: backward must give a gradient of a of its shape \(4,\), got one of shape \(\)"),
        ("missing", r"layer 1 Scale: backward must give a gradient of a of its shape \(4,\), got none"),
        ("init", r"layer 1 Scale: backward must give a gradient of a of its shape \(1, 4\), got one of shape \(4,\)"),
    ],
)
def test_a_layer_that_breaks_its_promise_is_named_in_the_first_step(mistake, message, backend):
    net = network(mistake, backend)
    before = net.backend.to_numpy(net.theta).copy()
    with pytest.raises(PromiseError, match=message):
        fit(net)
    assert np.array_equal(net.backend.to_numpy(net.theta), before)
    fit(network(backend=backend))


def test_a_layer_that_keeps_things_and_is_no_dataclass_is_refused_at_construction():
    class Memory(xpnet.Layer):
        def __init__(self):
            self.momentum = 0.9

    with pytest.raises(ConfigError, match=r"layers\[1\] Memory keeps momentum, but is no dataclass"):
        xpnet.Network([xpnet.Linear(2, 2), Memory()], "huber")
    with pytest.raises(ConfigError, match=r"Residual: layers\[0\] Memory keeps momentum"):
        xpnet.Residual([Memory()])


@pytest.mark.parametrize("part", ["value", "delta"])
def test_a_loss_of_wrong_shapes_is_named(part):
    @dataclass(frozen=True)
    class Wrong(xpnet.Loss):
        def __call__(self, xp, y, t, weight):
            d = y - t
            return (xp.sum(d * d, axis=1) if part == "value" else xp.sum(d * d)), (d if part == "value" else d[:, 0])

    net = xpnet.mlp([3, 2], loss=Wrong())
    with pytest.raises(PromiseError, match="the loss Wrong must return a 0-d value and a delta of y's shape"):
        net.fit(X[:4], np.zeros((4, 2)), batch_size=4, epochs=1, verbose=False)


class Forgets(xpnet.Optimizer):
    def update(self, xp, theta, g, rate):
        theta = theta - rate * g


class Returns(xpnet.Optimizer):
    def update(self, xp, theta, g, rate):
        return theta - rate * g


class TooFew(xpnet.Optimizer):
    slots = ("m",)

    def update(self, xp, theta, g, rate):
        theta -= rate * g


class Right(xpnet.Optimizer):
    def update(self, xp, theta, g, rate):
        theta -= rate * g


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Forgets, r"Forgets.update changed no parameter in 1 step\(s\); it must change theta in place"),
        (Returns, r"Returns.update returned something"),
        (TooFew, r"TooFew.update must take \(xp, theta, g, m, rate\): .*slots \['m'\] and the scalars \['rate'\]"),
    ],
)
def test_an_optimizer_that_trains_nothing_is_named_in_the_first_step(kind, message, backend):
    with pytest.raises(PromiseError, match=message):
        fit(network(backend=backend), optimizer=kind(0.1))


def test_an_optimizer_that_does_its_work_is_left_alone_also_where_nothing_is_to_be_done():
    net, reference = network(), network()
    fit(net, optimizer=Right(0.1))
    fit(reference, optimizer=xpnet.SGD(0.1))
    assert np.array_equal(net.theta, reference.theta)
    dead = xpnet.mlp([3, 1], loss="mean_squared_error", weight_init="zeros")
    dead.fit(X[:4], np.zeros(4), optimizer=Right(0.1), epochs=1, batch_size=4, verbose=False)  # the gradient is 0
    fit(network(), optimizer=Right(lambda step: 0.0))


@pytest.mark.parametrize(
    ("hook", "cure"),
    [
        ("on_epoch_begin", "on_begin before the first epoch, and on_epoch_end"),
        ("on_train_batch_end", "use on_steps, with every = 1"),
        ("on_train_begin", "use on_begin"),
        ("on_epoch_ends", "Did you mean 'on_epoch_end'"),
    ],
)
def test_a_hook_that_is_never_called_is_refused_with_the_one_that_is(hook, cure):
    item = type("Mine", (xpnet.Callback,), {hook: lambda self, *what: None})()
    with pytest.raises(ConfigError, match=rf"callbacks\[0\] Mine has {hook}, which is never called.*{cure}"):
        fit(network(), callbacks=[item])


def test_on_steps_without_every_is_refused():
    item = type("Mine", (xpnet.Callback,), {"on_steps": lambda self, run: None})()
    with pytest.raises(ConfigError, match=r"callbacks\[0\] Mine has on_steps, .*set every = 1"):
        fit(network(), callbacks=[item])


def test_a_function_without_an_argument_is_refused():
    with pytest.raises(ConfigError, match="must take one argument, the run"):
        fit(network(), callbacks=lambda: None)
    fit(network(), callbacks=[lambda *run: None])
