"""How a loss and an output depend on the input: against differences, on every backend."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import xpnet
from xpnet.errors import ConfigError, DataError, ShapeError

RNG = np.random.default_rng(4)
X = RNG.normal(size=(3, 5, 4, 2))
CLASSES, VALUES = np.array([2, 0, 1]), RNG.normal(size=(3, 3))


def seeing(backend="numpy", loss="cross_entropy", dtype="float64", first=(), **options):
    """Return a network of all kinds of layers, whose running statistics are those of a short training."""
    layers = [
        *first,
        xpnet.Conv2D(2, 4),
        xpnet.BatchNorm(4),
        xpnet.Dropout(0.5),
        xpnet.Tanh(),
        xpnet.Residual([xpnet.Conv2D(4, 4), xpnet.BatchNorm(4)]),
        xpnet.MaxPool2D(2),
        xpnet.Flatten(),
        xpnet.Linear(16, 3),
    ]
    net = xpnet.Network(layers, loss, dtype=dtype, input_shape=(5, 4, 2), **options)
    x, t = RNG.normal(1.0, 2.0, size=(8, 5, 4, 2)), RNG.integers(0, 3, 8)
    t = t if loss == "cross_entropy" else RNG.normal(size=(8, 3)).astype(dtype)
    net.fit(x.astype(dtype), t, epochs=2, batch_size=4, verbose=False)
    return net.to(backend)


def differences(f, x, h=1e-5):
    """Return the derivative of the sum of `f` by every entry of x, by central differences."""
    dx = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        for sign in (1.0, -1.0):
            moved = x.copy()
            moved[place] += sign * h
            dx[place] += sign * float(np.sum(f(moved))) / (2 * h)
    return dx


@pytest.mark.parametrize("first", [(), (xpnet.RandomShift(1), xpnet.RandomFlip()), (xpnet.Residual([xpnet.Tanh()]),)])
@pytest.mark.parametrize(("loss", "t"), [("cross_entropy", CLASSES), ("mean_squared_error", VALUES)])
def test_each_samples_own_loss_is_differentiated_by_its_input(first, loss, t):
    net = seeing(loss=loss, first=first, l2=0.1)  # without the penalty
    own = [differences(lambda x, b=b: net.evaluate(x, t[b : b + 1])["loss"], X[b : b + 1]) for b in range(3)]
    assert_allclose(net.input_gradients(X, t), np.concatenate(own), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("output", [0, 2, np.int64(1)])
def test_an_output_is_differentiated_by_the_input_on_every_backend(backend, output):
    net = seeing()
    expected = differences(lambda x: net.forward(x)[:, output], X)
    there = net.to(backend)
    dx = there.input_gradients(X, output=output)
    assert backend.owns(dx)
    assert_allclose(backend.to_numpy(dx), expected, rtol=1e-6, atol=1e-9)
    by_loss = backend.to_numpy(there.input_gradients(X, CLASSES))
    assert_allclose(by_loss, net.input_gradients(X, CLASSES), rtol=1e-12, atol=1e-14)


def test_no_sample_depends_on_another_and_nothing_changes():
    net, before = seeing(dtype="float32"), X.astype(np.float32)
    x, theta, state = before.copy(), net.theta.copy(), {k: v.copy() for k, v in net.state.items()}
    whole = net.input_gradients(x, CLASSES)
    assert whole.dtype == np.float32
    for b in range(3):
        assert_allclose(net.input_gradients(x[b : b + 1], CLASSES[b : b + 1])[0], whole[b], rtol=1e-4, atol=1e-6)
    assert_array_equal(x, before)
    assert_array_equal(net.theta, theta)
    assert all((net.state[k] == v).all() for k, v in state.items())


def test_the_delta_of_a_linear_network_is_its_weights():
    net = xpnet.mlp([4, 3])
    dx = net.input_gradients(np.zeros((2, 4), dtype=np.float32), output=1)
    assert_array_equal(dx, np.stack([net.parameters["0.W"][:, 1]] * 2))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ConfigError, r"input_gradients takes either targets t or output="),
        ({"t": CLASSES, "output": 0}, ConfigError, r"either targets t or output="),
        ({"output": 3}, ConfigError, "output must be .* got 3"),
        ({"output": -1}, ConfigError, "output must be .* got -1"),
        ({"t": CLASSES[:2]}, ShapeError, "2"),
        ({"t": [0, 1, 7]}, DataError, "7"),
    ],
)
def test_impossible_questions_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        seeing().input_gradients(X, **arguments)
