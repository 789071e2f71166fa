"""Initial weights: the law of each, its shape, and that it depends on the generator alone."""

from math import sqrt

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

import xpnet
from xpnet import initializers
from xpnet.errors import ConfigError

I, O = 300, 200  # noqa: E741

NORMAL = {
    "he_normal": sqrt(2 / I),
    "glorot_normal": sqrt(2 / (I + O)),
    "lecun_normal": sqrt(1 / I),
    "normal": 0.3,
}
UNIFORM = {"he_uniform": sqrt(6 / I), "glorot_uniform": sqrt(6 / (I + O)), "lecun_uniform": sqrt(3 / I)}


def law(name):
    return initializers.normal(0.3) if name == "normal" else name


def draw(name, inputs=I, outputs=O, seed=0):
    """Draw through the layer, which says what its shape and its fans are."""
    return xpnet.Linear(inputs, outputs, weight_init=law(name)).init(np.random.default_rng(seed))["W"]


def draw_shape(name, shape, fan_in=36, fan_out=72, seed=0):
    return initializers.initialize(law(name), np.random.default_rng(seed), shape, fan_in, fan_out)


@pytest.mark.parametrize(("name", "std"), NORMAL.items())
def test_normal_laws(name, std):
    values = draw(name).reshape(-1)
    assert stats.kstest(values / std, "norm").pvalue > 1e-3
    assert values.std() == pytest.approx(std, rel=0.01)


@pytest.mark.parametrize(("name", "a"), UNIFORM.items())
def test_uniform_laws(name, a):
    values = draw(name).reshape(-1)
    assert stats.kstest((values / a + 1) / 2, "uniform").pvalue > 1e-3
    assert -a <= values.min() < -0.999 * a
    assert 0.999 * a < values.max() < a


@pytest.mark.parametrize(("normal", "uniform"), list(zip(list(NORMAL)[:3], UNIFORM, strict=True)))
def test_a_uniform_law_has_the_variance_of_its_normal_one(normal, uniform):
    assert draw(uniform).var() == pytest.approx(draw(normal).var(), rel=0.02)


@pytest.mark.parametrize(("inputs", "outputs"), [(5, 5), (8, 3), (3, 8), (1, 4)])
def test_orthogonal_matrices(inputs, outputs):
    W = draw("orthogonal", inputs, outputs)
    assert W.shape == (inputs, outputs)
    product = W.T @ W if inputs >= outputs else W @ W.T
    assert_allclose(product, np.eye(min(inputs, outputs)), atol=1e-14)


KERNELS = {
    "he_normal": sqrt(2 / 36),
    "he_uniform": sqrt(2 / 36),
    "glorot_normal": sqrt(2 / 108),
    "glorot_uniform": sqrt(2 / 108),
    "lecun_normal": sqrt(1 / 36),
    "lecun_uniform": sqrt(1 / 36),
    "normal": 0.3,
    "zeros": 0.0,
}


@pytest.mark.parametrize(("name", "std"), KERNELS.items())
def test_the_fans_need_not_be_the_shape(name, std):
    values = draw_shape(name, (30, 30, 4, 8))  # as many numbers as 100 kernels have, of 3 x 3 and 4 channels to 8
    assert values.shape == (30, 30, 4, 8)
    assert values.std() == pytest.approx(std, rel=0.02)
    assert abs(values.mean()) <= 5 * std / sqrt(values.size)


@pytest.mark.parametrize("shape", [(3, 3, 4, 8), (2, 3, 40), (6,), (5, 1)])
def test_orthogonal_arrays_are_matrices_of_their_last_axis(shape):
    W = draw_shape("orthogonal", shape)
    assert W.shape == shape
    matrix = W.reshape(-1, shape[-1])
    product = matrix.T @ matrix if len(matrix) >= shape[-1] else matrix @ matrix.T
    assert_allclose(product, np.eye(min(matrix.shape)), atol=1e-14)


@pytest.mark.parametrize("name", [*NORMAL, *UNIFORM, "orthogonal"])
def test_no_two_rows_are_equal(name):
    W = draw(name, 1024, 3)
    assert len(np.unique(W, axis=0)) == 1024
    assert len(np.unique(W)) == W.size


def test_orthogonal_matrices_prefer_no_direction():
    entries = np.asarray([draw("orthogonal", 3, 3, seed)[0, 0] for seed in range(1000)])
    assert stats.kstest((entries + 1) / 2, "uniform").pvalue > 1e-3  # Archimedes: a coordinate on the sphere
    signs = [np.linalg.det(draw("orthogonal", 3, 3, seed)) > 0 for seed in range(200)]
    assert 60 < sum(signs) < 140


def test_zeros():
    assert not draw("zeros").any()


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("he_normal", [0.1257302210933933, -0.1321048632913019, 0.6404226504432821]),
        ("glorot_uniform", [0.30006802263971943, -0.5043720396356872, -1.0056766217290054]),
        ("orthogonal", [0.14891146369604535, 0.7584992170718539, -0.6344322766704784]),
    ],
)
def test_the_numbers_of_a_seed_stay(name, row):
    assert draw(name, 2, 3)[0] == pytest.approx(row, rel=1e-14)


@pytest.mark.parametrize("name", [*initializers.INITIALIZERS, "normal"])
def test_depends_on_the_generator_alone(name):
    assert_array_equal(draw(name, 4, 3, 5), draw(name, 4, 3, 5))
    assert draw(name, 4, 3).dtype == np.float64
    assert draw(name, 4, 3).shape == (4, 3)
    if name != "zeros":
        assert (draw(name, 4, 3, 5) != draw(name, 4, 3, 6)).any()


def test_every_law_is_tested_and_named_in_the_table():
    named = {*initializers.INITIALIZERS}
    assert named == {*NORMAL, *UNIFORM, "orthogonal", "zeros"} - {"normal"}
    for name in (*named, "normal(std)"):
        assert f"``{name}``" in initializers.__doc__


def test_each_layer_may_have_its_own_law():
    net = xpnet.Network(
        [
            xpnet.Linear(3, 4, weight_init="zeros", bias_init=initializers.normal(1.0)),
            xpnet.Linear(4, 2, weight_init=lambda rng, shape, i, o: rng.uniform(5, 6, shape), bias_init="zeros"),
        ],
        loss="huber",
    )
    assert not net.parameters["0.W"].any()
    assert net.parameters["0.b"].any()
    assert (net.parameters["1.W"] >= 5).all()
    assert not net.parameters["1.b"].any()


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ("he_norml", r"unknown initializer 'he_norml'; names are he_normal, .*Did you mean 'he_normal'\?"),
        (5, r"unknown initializer 5; names are he_normal"),
        (None, r"unknown initializer None; names are he_normal"),
        ([1], r"unknown initializer \[1\]; names are he_normal"),
        (lambda rng, shape, i, o: np.zeros(i), r"returned shape \(4,\), expected \(4, 3\)"),
        (lambda rng, shape, i, o: np.full(shape, np.inf), r"returned NaN or infinity"),
        (lambda rng, i, o: np.zeros((i, o)), r"must take \(rng, shape, fan_in, fan_out\).*: too many positional"),
        (lambda: 1, r"must take \(rng, shape, fan_in, fan_out\) and return an array of that shape"),
        (initializers.normal, r"must take \(rng, shape, fan_in, fan_out\)"),
    ],
)
def test_impossible_laws(law, message):
    with pytest.raises(ConfigError, match=message):
        xpnet.Linear(4, 3, weight_init=law).init(np.random.default_rng(0))


@pytest.mark.parametrize("std", [-1.0, float("nan"), float("inf"), "a"])
def test_impossible_standard_deviation(std):
    with pytest.raises(ConfigError, match=r"normal: std must be a finite number in \[0, inf\), got "):
        initializers.normal(std)


def test_biases_are_drawn_as_of_a_layer_with_one_input():
    drawn = xpnet.Linear(3, 4, weight_init="zeros", bias_init="he_normal").init(np.random.default_rng(0))
    np.testing.assert_array_equal(drawn["b"], initializers.he_normal(np.random.default_rng(0), (4,), 1, 4))
