"""Quantiles and variances: what they are at the best outputs, at the ends of what numbers can say, and in files."""

import explained
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from test_losses import run

import xpnet
from xpnet.errors import CheckpointError, ConfigError, NonFiniteError, ShapeError
from xpnet.saving.description import build, describe

NUMPY = xpnet.backends.get("numpy")
XP = NUMPY.xp


def test_the_loss_is_smallest_at_the_quantiles_of_the_targets():
    t = np.random.default_rng(0).exponential(size=(101, 1))
    weight, loss = np.full(101, 1 / 101), xpnet.Quantile([0.1, 0.5, 0.8])
    best = np.tile(np.quantile(t, loss.levels)[None, :], (101, 1))
    value, dy = run(loss, best, t, weight)
    assert np.abs(dy.sum(axis=0)).max() <= 1 / 101  # a share of the samples lies below, up to the one at the quantile
    for column in range(3):
        for move in (-0.05, 0.05):
            other = best.copy()
            other[:, column] += move
            assert run(loss, other, t, weight)[0] > value


def test_the_loss_is_smallest_at_the_mean_and_the_variance_of_the_targets():
    t = np.random.default_rng(0).normal(3.0, 0.2, size=(50, 1))
    weight, best = np.full(50, 1 / 50), [[t.mean(), np.log(t.var())]] * 50
    _, dy = run(xpnet.Gaussian(), best, t, weight)
    assert_allclose(dy.sum(axis=0), 0.0, atol=1e-12)


def test_outputs_of_several_targets_lie_level_by_level():
    y, t = np.arange(12.0).reshape(2, 6), np.asarray([[10.0, 20.0], [30.0, 40.0]])
    loss = xpnet.Quantile([0.2, 0.5, 0.9])
    parts = [
        run(xpnet.Quantile([q]), y[:, [2 * k + j]], t[:, [j]], [0.5, 0.5])[0]
        for k, q in enumerate(loss.levels)
        for j in range(2)
    ]
    assert run(loss, y, t, [0.5, 0.5])[0] == pytest.approx(np.mean(parts), rel=1e-14)
    assert_array_equal(loss.quantiles(XP, y)[1], [[6.0, 8.0, 10.0], [7.0, 9.0, 11.0]])
    assert_array_equal(loss.predict(XP, y), y[:, 2:4])
    assert_array_equal(xpnet.Gaussian().predict(XP, y[:, :4]), y[:, :2])
    assert_allclose(xpnet.Gaussian().deviation(XP, y[:, :4]), np.exp(y[:, 2:4] / 2), rtol=1e-15)


def test_quantiles_never_cross(backend):
    y = np.random.default_rng(1).normal(size=(50, 5)).astype("float32")
    loss = xpnet.Quantile([0.1, 0.2, 0.4, 0.8, 0.9])
    with backend.active():
        found = backend.to_numpy(loss.quantiles(backend.xp, backend.asarray(y)))
        middle = backend.to_numpy(loss.predict(backend.xp, backend.asarray(y)))
    assert_array_equal(found[:, 0], np.sort(y, axis=1))
    assert_array_equal(middle, found[:, :, 2])  # 0.4 is the next to 0.5


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_target_met_exactly_has_a_finite_loss_however_sure_the_network_is(dtype):
    for s in (-20.0, -2000.0, -60000.0):
        L, dy = run(xpnet.Gaussian(), [[2.0, s]], [[2.0]], dtype=dtype)
        assert_allclose([L, *dy[0]], [s / 2, 0.0, 0.5])
    L, dy = run(xpnet.Gaussian(), [[-3.0, 60000.0]], [[2.0]], dtype=dtype)
    assert_allclose([L, *dy[0]], [30000.0, 0.0, 0.5])


def test_a_training_says_that_the_likelihood_is_infinite():
    net = xpnet.Network([xpnet.Linear(1, 2)], loss="gaussian")
    net.set_parameters({"0.W": [[0.0, 0.0]], "0.b": [0.0, -300.0]})
    with pytest.raises(NonFiniteError, match=r"the loss Gaussian\(\) is inf"):
        net.fit(np.ones((4, 1), "float32"), np.ones((4, 1), "float32"), epochs=1, batch_size=4, verbose=False)


@pytest.mark.parametrize("precision", [None, "float16"])
@pytest.mark.parametrize("loss", ["quantile", "gaussian"])
def test_a_training_makes_the_loss_small_in_every_precision(loss, precision):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (256, 1)).astype("float32")
    t = x[:, 0] + 0.1 * rng.normal(size=256)
    net = xpnet.mlp([1, 16, 3 if loss == "quantile" else 2], "tanh", loss)
    history = net.fit(x, t, optimizer=xpnet.Adam(0.01), epochs=20, precision=precision, metrics="r2", verbose=False)
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    assert history["r2"][-1] > 0.8
    assert net.predict(x).shape == (256, 1)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([], "one or more numbers in increasing order"),
        ([0.5, 0.5], "one or more numbers in increasing order"),
        ([0.9, 0.1], "one or more numbers in increasing order"),
        ([0.0, 0.5], r"levels\[0\] must be a finite number in \(0, 1\)"),
        ([0.5, 5], r"levels\[1\] must be a finite number in \(0, 1\), got 5"),
        (["0.5"], r"levels\[0\] must be a finite number"),
        ("0.5", "levels must be numbers between 0 and 1"),
        (0.5, "levels must be numbers between 0 and 1"),
    ],
)
def test_impossible_levels_are_refused(levels, message):
    with pytest.raises(ConfigError, match=message):
        xpnet.Quantile(levels)


@pytest.mark.parametrize(("loss", "outputs", "needed"), [("quantile", 1, 3), ("quantile", 4, 3), ("gaussian", 3, 2)])
def test_a_network_with_too_few_outputs_is_refused(loss, outputs, needed):
    with pytest.raises(ShapeError, match=f"needs {needed} outputs for each column of the targets"):
        xpnet.mlp([2, outputs], loss=loss)


def test_targets_of_the_outputs_shape_are_refused():
    net = xpnet.mlp([2, 4], loss="gaussian")
    with pytest.raises(ShapeError, match=r"expected \(5, 2\); t must be one column for every 2 outputs"):
        net.evaluate(np.zeros((5, 2)), np.zeros((5, 4)))


def test_levels_go_through_files_and_a_strangers_are_checked(tmp_path):
    loss = xpnet.Quantile(np.asarray([0.25, 0.75]))
    assert build(describe(loss, "loss"), "loss", {}) == loss == xpnet.Quantile((0.25, 0.75))
    xpnet.mlp([2, 4], loss=loss).save(tmp_path / "net.safetensors")
    assert xpnet.load(tmp_path / "net.safetensors").loss == loss
    for levels in ([], [2.0], "ab", None, {"tuple": [0.5, 0.1]}):
        with pytest.raises(CheckpointError, match="'Quantile' refuses its values: Quantile: levels"):
            build({"class": "Quantile", "levels": levels}, "loss", {})


def test_the_explanation_of_a_mean_and_a_variance_computes_the_delta():
    net = xpnet.mlp([3, 4], loss="gaussian", dtype="float64")
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    names = explained.run(net, net.explain(), x, t, np.full(5, 0.2))
    assert_allclose(names["L"], net.gradients(x, t)[0], rtol=1e-14)
    assert_allclose(names["delta0"], net.trace(x, t)[0].delta, rtol=1e-13)
    assert r"\operatorname{concat}\left(\left[w \odot z \odot e^{\frac{-s}{2}}, " in net.explain("latex")
