"""The normalising layers: their values by an oracle of loops, their statistics, and where numbers are awkward."""

import normalization_oracle as oracle
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import xpnet

NP = xpnet.backends.get("numpy").xp

# Sizes of which no two are equal, so that exchanged axes show.
CASES = [
    (xpnet.BatchNorm(3), (2, 3)),
    (xpnet.BatchNorm(3, eps=1e-2), (7, 3)),
    (xpnet.BatchNorm(3), (2, 4, 5, 3)),
    (xpnet.BatchNorm(2), (5, 4, 2)),
    (xpnet.BatchNorm(2), (12, 3, 2)),
    (xpnet.BatchNorm(3), (16, 2, 3)),
    (xpnet.BatchNorm(1), (3, 2, 4, 1)),
    (xpnet.LayerNorm(4), (3, 4)),
    (xpnet.LayerNorm(5, eps=1e-3), (2, 3, 4, 5)),
    (xpnet.RMSNorm(4), (3, 4)),
    (xpnet.RMSNorm(5, eps=1e-3), (2, 3, 4, 5)),
    (xpnet.GroupNorm(2, 6), (5, 6)),
    (xpnet.GroupNorm(2, 6, eps=1e-3), (3, 4, 5, 6)),
    (xpnet.GroupNorm(1, 3), (2, 5, 3)),
    (xpnet.GroupNorm(3, 3), (2, 4, 5, 3)),
]


def drawn(layer, shape, seed=5, size=1.0, dtype="float64"):
    """Return parameters, an input, a delta and running statistics, none of them special."""
    rng = np.random.default_rng(seed)
    params = {name: rng.normal(1.0, 0.5, wanted).astype(dtype) for name, wanted in layer.parameter_shapes().items()}
    x = (size * rng.normal(0.7, 2.0, shape)).astype(dtype)
    state = {name: rng.uniform(0.2, 3.0, value.shape).astype(dtype) for name, value in layer.init_state().items()}
    return params, x, rng.normal(size=shape).astype(dtype), state


def run(layer, params, x, dy, state, training=True, xp=NP, **options):
    """Return y, and the gradients by name with the input's under "x"."""
    context = xpnet.Context(training, state=state, **options)
    y, cache = layer.forward(xp, params, x, context)
    dx, grads = layer.backward(xp, params, cache, dy, context)
    return y, {**grads, "x": dx}


# --------------------------------------------------------------------------------------------- the value


@pytest.mark.parametrize("at_once", [2**17, 1])  # all samples in one sum, or parts of them
@pytest.mark.parametrize("size", [1.0, 1e-3])  # squares beside eps, where its place shows
@pytest.mark.parametrize(("layer", "shape"), CASES, ids=str)
def test_values_and_gradients_are_those_of_loops(layer, shape, size, at_once):
    params, x, dy, state = drawn(layer, shape, size=size)
    y, grads = run(layer, params, x, dy, state, at_once=at_once)
    assert_allclose(y, oracle.forward(layer, params, x), rtol=1e-13, atol=1e-13)
    expected = oracle.gradients(layer, params, x, dy)
    assert grads.keys() == expected.keys()
    # Rounding is that of the terms, dy gamma / s the first of them; two rows alone let nothing of it through.
    terms = oracle.gradients(layer, params, x, dy, running=oracle.statistics(layer, x))
    for name, g in grads.items():
        scale = max(np.abs(expected[name]).max(), np.abs(terms[name]).max())
        assert_allclose(g, expected[name], rtol=0, atol=1e-13 * scale, err_msg=name)


@pytest.mark.parametrize("shape", [(1, 3), (7, 3), (2, 4, 5, 3)])
def test_outside_of_training_the_running_statistics_are_used(shape):
    layer = xpnet.BatchNorm(3, eps=1e-3)
    params, x, dy, state = drawn(layer, shape)
    running = dict(enumerate(zip(state["mean"], state["variance"], strict=True)))
    y, grads = run(layer, params, x, dy, state, training=False)
    assert_allclose(y, oracle.forward(layer, params, x, running), rtol=1e-13, atol=1e-13)
    expected = oracle.gradients(layer, params, x, dy, running)
    for name, g in grads.items():
        assert_allclose(g, expected[name], rtol=1e-12, atol=1e-12, err_msg=name)


def test_two_rows_by_hand():
    layer = xpnet.BatchNorm(1, momentum=0.1, eps=1.0)
    x, params = np.array([[1.0], [5.0]]), {"gamma": np.array([10.0]), "beta": np.array([3.0])}
    y, cache = layer.forward(NP, params, x, xpnet.Context(training=True))
    s = 5**0.5  # mean 3, variance ((-2)^2 + 2^2) / 2 = 4, and eps = 1
    assert_allclose(y, [[3 - 20 / s], [3 + 20 / s]], rtol=1e-15)
    dx, grads = layer.backward(NP, params, cache, np.array([[1.0], [0.0]]), xpnet.Context(training=True))
    # dy - mean(dy) = (1/2, -1/2), mean(dy xhat) = -1/s, so xhat mean(dy xhat) = (2/5, -2/5): 1/10 is left.
    assert_allclose(dx, [[1 / s], [-1 / s]], rtol=1e-14)
    assert_allclose(grads["gamma"], [-2 / s], rtol=1e-15)
    assert_array_equal(grads["beta"], [1.0])
    state = layer.update_state(NP, layer.init_state(), cache)
    assert_allclose(state["mean"], [0.3], rtol=1e-15)
    assert_allclose(state["variance"], [0.9 + 0.1 * 8], rtol=1e-15)  # unbiased: 8 / (2 - 1)


# --------------------------------------------------------------------------------------- running statistics


@pytest.mark.parametrize("momentum", [0.1, 0.9, 1.0, 0.0])
def test_running_statistics_follow_their_own_recursion(momentum):
    layer, rng = xpnet.BatchNorm(3, momentum=momentum), np.random.default_rng(2)
    batches = [rng.normal(3.0, 2.0, (rows, 2, 4, 3)) for rows in (2, 1, 5)]
    params, state = layer.init(rng), layer.init_state()
    for x in batches:
        _, cache = layer.forward(NP, params, x, xpnet.Context(training=True))
        state = {**state, **layer.update_state(NP, state, cache)}
    mean, variance = oracle.running_statistics(layer, batches)
    assert_allclose(state["mean"], mean, rtol=1e-13)
    assert_allclose(state["variance"], variance, rtol=1e-13)


def test_running_statistics_are_those_of_pytorch():
    torch = pytest.importorskip("torch", reason="torch is not installed; the loops are the oracle that always runs")
    rng = np.random.default_rng(0)
    for shape in [(2, 3), (7, 3), (4, 5, 6, 3), (1, 2, 1, 3)]:
        other = {2: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d}[len(shape)](3, dtype=torch.float64)
        layer = xpnet.BatchNorm(3)
        params, state = layer.init(rng), layer.init_state()
        for _ in range(5):
            x = rng.normal(2.0, 3.0, shape)
            other.train()(torch.tensor(x).movedim(-1, 1))
            _, cache = layer.forward(NP, params, x, xpnet.Context(training=True))
            state = layer.update_state(NP, state, cache)
            assert_allclose(state["mean"], other.running_mean.numpy(), rtol=1e-14)
            assert_allclose(state["variance"], other.running_var.numpy(), rtol=1e-14)
            y, _ = layer.forward(NP, params, x, xpnet.Context(state=state))
            assert_allclose(y, other.eval()(torch.tensor(x).movedim(-1, 1)).movedim(1, -1).detach(), atol=1e-14)


def test_without_statistics_it_says_what_is_missing():
    layer = xpnet.BatchNorm(2)
    with pytest.raises(xpnet.errors.ConfigError, match=r"needs context\.state, with its 'mean' and 'variance'"):
        layer.forward(NP, layer.init(None), np.ones((1, 2)))


# -------------------------------------------------------------------------------------------- awkward numbers


def test_a_batch_of_one_row_has_variance_zero():
    layer = xpnet.BatchNorm(3)
    params, x, dy, state = drawn(layer, (1, 3))
    y, grads = run(layer, params, x, dy, state)
    assert_array_equal(y, params["beta"][None])
    assert_array_equal(grads["x"], np.zeros((1, 3)))
    _, cache = layer.forward(NP, params, x, xpnet.Context(training=True))
    new = layer.update_state(NP, state, cache)
    assert_array_equal(new["variance"], 0.9 * state["variance"])
    assert np.isfinite(new["mean"]).all()


@pytest.mark.parametrize("shape", [(300, 2), (128, 28, 28, 2)])
def test_a_mean_far_above_the_spread_loses_no_digits_in_float32(shape):
    layer = xpnet.BatchNorm(2)
    x = (1e4 + np.random.default_rng(0).normal(size=shape)).astype("float32")
    params = {name: value.astype("float32") for name, value in layer.init(None).items()}
    y, cache = layer.forward(NP, params, x, xpnet.Context(training=True))
    exact = x.reshape(-1, 2).astype(float)
    assert_allclose(cache[1], exact.mean(axis=0), rtol=2e-6)
    assert_allclose(cache[2], exact.var(axis=0), rtol=1e-3)
    expected = (exact - exact.mean(axis=0)) / exact.std(axis=0)
    assert_allclose(y.reshape(-1, 2), expected, atol=1e-2)


@pytest.mark.parametrize(("layer", "shape", "axes"), [
    (xpnet.LayerNorm(500), (3, 500), (1,)),
    (xpnet.LayerNorm(64), (2, 5, 64), (2,)),
    (xpnet.GroupNorm(2, 4), (2, 60, 70, 4), (1, 2)),
])  # fmt: skip
def test_a_sample_far_from_zero_loses_no_digits_in_float32(layer, shape, axes):
    params, _, _, _ = drawn(layer, shape, dtype="float32")
    x = (1e4 + np.random.default_rng(0).normal(size=shape)).astype("float32")
    y, _ = layer.forward(NP, {"gamma": np.ones_like(params["gamma"]), "beta": 0.0 * params["beta"]}, x)
    exact = x.astype(float)
    if isinstance(layer, xpnet.GroupNorm):
        exact, axes = exact.reshape(*shape[:-1], 2, 2), (*axes, 4)
    expected = (exact - exact.mean(axes, keepdims=True)) / exact.std(axes, keepdims=True)
    assert_allclose(y, expected.reshape(shape), atol=5e-3)


def test_a_constant_channel_becomes_beta():
    layer = xpnet.BatchNorm(2)
    params, x, dy, state = drawn(layer, (6, 5, 2), dtype="float32")
    x[..., 1] = 0.1
    y, grads = run(layer, params, x, dy, state)
    assert_allclose(y[..., 1], params["beta"][1], atol=1e-4)
    assert all(np.isfinite(g).all() for g in grads.values())


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("shape", [(300, 6), (20, 4, 5, 6)])
@pytest.mark.parametrize(
    "layer", [xpnet.BatchNorm(6), xpnet.LayerNorm(6), xpnet.RMSNorm(6), xpnet.GroupNorm(2, 6)], ids=str
)
def test_a_row_gives_the_same_bits_in_any_batch_outside_of_training(layer, shape, rows):
    params, x, dy, state = drawn(layer, shape, dtype="float32")
    whole, grads = run(layer, params, x, dy, state, training=False)
    part, part_grads = run(layer, params, x[:rows], dy[:rows], state, training=False)
    assert_array_equal(part, whole[:rows])
    assert_array_equal(part_grads["x"], grads["x"][:rows])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: xpnet.BatchNorm(0), "BatchNorm: features must be an integer >= 1, got 0"),
        (lambda: xpnet.BatchNorm(3, momentum=1.5), r"BatchNorm: momentum must be a finite number in \[0, 1\], got 1.5"),
        (lambda: xpnet.GroupNorm(3, 4), "GroupNorm: groups must divide the 4 features, got 3"),
        (lambda: xpnet.GroupNorm(0, 4), "GroupNorm: groups must be an integer >= 1, got 0"),
        (lambda: xpnet.RMSNorm("4"), "RMSNorm: features must be an integer >= 1, got '4'"),
        (lambda: xpnet.BatchNorm(3, eps=0), r"BatchNorm: eps must be a finite number in \(0, inf\), got 0"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(xpnet.errors.ConfigError, match=message):
        make()


def test_a_sample_of_another_size_is_refused():
    with pytest.raises(xpnet.errors.ShapeError, match=r"takes samples with 4 numbers on the last axis, got shape"):
        xpnet.Network([xpnet.Linear(2, 3), xpnet.BatchNorm(4)], loss="mean_squared_error")
