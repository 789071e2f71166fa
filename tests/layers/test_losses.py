"""Losses at the ends of what numbers can say, and smoothed targets."""

import numpy as np
import pytest
import scipy.special
from numpy.testing import assert_allclose, assert_array_equal

import xpnet

NUMPY = xpnet.backends.get("numpy")
ONE = np.ones(1)


def run(loss, y, t, weight=ONE, dtype="float64", backend=NUMPY):
    """Return the value and the delta as float64."""
    t = np.asarray(t)
    t = t if t.dtype.kind == "i" else t.astype(dtype)
    arrays = [backend.asarray(a) for a in (np.asarray(y, dtype), t, np.asarray(weight, dtype))]
    with backend.active():
        value, dy = loss(backend.xp, *arrays)
    return float(value), backend.to_numpy(dy).astype(float)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", ["classes", "rows"])
def test_cross_entropy_of_logits_up_to_the_largest_number(backend, dtype, form):
    top = float(np.finfo(dtype).max)
    for y, value, delta in [
        ([[1e30, -1e30, 0.0]], [0.0, 2e30, 1e30], [1.0, 0.0, 0.0]),
        ([[-1e30, -1e30, -1e30]], [np.log(3)] * 3, [1 / 3] * 3),
        ([[700.0, -700.0, 0.0]], [0.0, 1400.0, 700.0], [1.0, 0.0, 0.0]),
        ([[-700.0, 700.0, 700.0]], [1400 + np.log(2), np.log(2), np.log(2)], [0.0, 0.5, 0.5]),
        # the difference is no number any more: the loss is the largest one
        ([[top, -top, -top]], [0.0, top, top], [1.0, 0.0, 0.0]),
        ([[-top, top, top / 2]], [top, 0.0, top / 2], [0.0, 1.0, 0.0]),
    ]:
        for k in range(3):
            t = [k] if form == "classes" else np.eye(3)[[k]]
            L, dy = run(xpnet.CrossEntropy(), y, t, dtype=dtype, backend=backend)
            assert_allclose(L, value[k], rtol=1e-6 if dtype == "float32" else 1e-15, err_msg=f"{y}, {k}")
            assert_allclose(dy[0], np.array(delta) - np.eye(3)[k], rtol=1e-6, atol=1e-30, err_msg=f"{y}, {k}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cross_entropy_of_300_classes(dtype):
    """Class numbers beyond those of 8 bits."""
    rng = np.random.default_rng(0)
    y = rng.normal(0, 30, (300, 300)).astype(dtype)
    t, weight = rng.permutation(300), rng.dirichlet(np.ones(300))
    L, dy = run(xpnet.CrossEntropy(), y, t, weight, dtype)
    p = scipy.special.softmax(y.astype(float), axis=1)
    picked = scipy.special.log_softmax(y.astype(float), axis=1)[np.arange(300), t]
    tolerance = {"float32": 1e-5, "float64": 1e-13}[dtype]
    assert_allclose(L, -(weight * picked).sum(), rtol=tolerance)
    assert_allclose(dy, weight[:, None] * (p - np.eye(300)[t]), rtol=tolerance, atol=tolerance * 1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_binary_cross_entropy_of_logits_up_to_the_largest_number(backend, dtype):
    top = float(np.finfo(dtype).max)
    for y in (1e30, 700.0, top):
        for sign, t, value, delta in [
            (1, 1.0, 0.0, 0.0), (1, 0.0, y, 1.0), (-1, 1.0, y, -1.0), (-1, 0.0, 0.0, 0.0),
            (1, 0.25, 0.75 * y, 0.75), (-1, 0.25, 0.25 * y, -0.25),
        ]:  # fmt: skip
            L, dy = run(xpnet.BinaryCrossEntropy(), [[sign * y]], [[t]], dtype=dtype, backend=backend)
            assert_allclose(L, value, rtol=1e-6 if dtype == "float32" else 1e-15, atol=1e-300)
            assert_allclose(dy, [[delta]], atol=1e-300)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_poisson_of_logits_up_to_the_largest_number(backend, dtype):
    """A rate that is no number any more is infinite, and so is the loss: a training says so and goes back."""
    top = float(np.finfo(dtype).max)
    for y in (1e30, 800.0, top):
        for t in (0.0, 5.0):
            assert run(xpnet.Poisson(), [[y]], [[t]], dtype=dtype, backend=backend) == (np.inf, np.inf)
    for y in (1e30, 700.0, top / 5):
        L, dy = run(xpnet.Poisson(), [[-y]], [[5.0]], dtype=dtype, backend=backend)
        assert_allclose([L, dy[0, 0]], [5 * y, -5.0], rtol=1e-6)
    for y, t in ((20.0, 1e12), (80.0, 1e36)):  # more was counted than expected, and t y is the larger part
        L, dy = run(xpnet.Poisson(), [[y]], [[t]], dtype=dtype, backend=backend)
        assert_allclose([L, dy[0, 0]], [np.exp(y) - t * y, np.exp(y) - t], rtol=1e-6)
    if dtype == "float64":
        L, dy = run(xpnet.Poisson(), [[700.0]], [[5.0]], backend=backend)
        assert_allclose([L, dy[0, 0]], [np.exp(700.0) - 3500, np.exp(700.0) - 5], rtol=1e-15)


def test_a_training_says_that_the_rate_is_infinite():
    net = xpnet.Network([xpnet.Linear(1, 1)], loss="poisson")
    net.set_parameters({"0.W": [[200.0]], "0.b": [0.0]})
    with pytest.raises(xpnet.errors.NonFiniteError, match=r"the loss Poisson\(\) is inf"):
        net.fit(np.ones((4, 1), "float32"), np.ones((4, 1), "float32"), epochs=1, batch_size=4, verbose=False)
    assert_array_equal(net.parameters["0.W"], [[200.0]])


# ---------------------------------------------------------------------------------------------- smoothing


@pytest.mark.parametrize("form", ["classes", "rows"])
def test_smoothed_targets_keep_a_share_for_every_class(backend, form):
    rng = np.random.default_rng(1)
    y, weight = rng.normal(0, 2, (5, 4)), rng.dirichlet(np.ones(5))
    t = rng.integers(0, 4, 5) if form == "classes" else rng.uniform(0, 1, (5, 4))  # rows that do not sum to 1, too
    rows = np.eye(4)[t] if form == "classes" else t
    L, dy = run(xpnet.CrossEntropy(label_smoothing=0.2), y, t, weight, backend=backend)
    log_p = scipy.special.log_softmax(y, axis=1)
    value = 0.0
    for i in range(5):
        for o in range(4):
            value -= weight[i] * (0.8 * rows[i, o] + 0.05) * log_p[i, o]
    assert_allclose(L, value, rtol=1e-14)
    smoothed = 0.8 * rows + 0.05
    expected = weight[:, None] * (np.exp(log_p) * smoothed.sum(axis=1, keepdims=True) - smoothed)
    assert_allclose(dy, expected, rtol=1e-13, atol=1e-16)


def test_smoothing_by_hand():
    """Two classes with equal logits: L = log 2 whatever the target, dy = 1/2 - t."""
    L, dy = run(xpnet.CrossEntropy(0.1), [[3.0, 3.0]], [0])
    assert_allclose(L, np.log(2), rtol=1e-15)
    assert_allclose(dy, [[0.5 - 0.95, 0.5 - 0.05]], rtol=1e-15)


def test_without_smoothing_it_is_the_cross_entropy_to_the_bit():
    rng = np.random.default_rng(2)
    y, t, weight = rng.normal(size=(6, 3)), rng.integers(0, 3, 6), rng.dirichlet(np.ones(6))
    assert run(xpnet.CrossEntropy(0.0), y, t, weight)[0] == run(xpnet.CrossEntropy(), y, t, weight)[0]


@pytest.mark.parametrize("bad", [-0.1, 1.0, "0.1", np.nan])
def test_a_bad_share_is_refused(bad):
    with pytest.raises(xpnet.errors.ConfigError, match=r"CrossEntropy: label_smoothing must be a finite number in \[0"):
        xpnet.CrossEntropy(label_smoothing=bad)


def test_files_say_so_only_where_targets_are_smoothed(tmp_path):
    """What was written before there was smoothing is read as none, and written again in the same way."""
    from xpnet.saving.description import build, describe

    assert describe(xpnet.CrossEntropy(), "loss") == {"class": "CrossEntropy"}
    assert build({"class": "CrossEntropy"}, "loss", {}) == xpnet.CrossEntropy()
    with pytest.raises(xpnet.errors.CheckpointError, match=r"missing are \['delta'\]"):
        build({"class": "Huber"}, "loss", {})
    net = xpnet.mlp([2, 3], loss=xpnet.CrossEntropy(0.125))
    net.save(tmp_path / "net.safetensors")
    assert xpnet.load(tmp_path / "net.safetensors").loss == xpnet.CrossEntropy(0.125)
