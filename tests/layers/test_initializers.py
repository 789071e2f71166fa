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


def draw(name, inputs=I, outputs=O, seed=0):
    law = initializers.normal(0.3) if name == "normal" else name
    return initializers.initialize(law, np.random.default_rng(seed), inputs, outputs)


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


def test_orthogonal_matrices_prefer_no_direction():
    entries = np.asarray([draw("orthogonal", 3, 3, seed)[0, 0] for seed in range(1000)])
    assert stats.kstest((entries + 1) / 2, "uniform").pvalue > 1e-3  # Archimedes: a coordinate on the sphere
    signs = [np.linalg.det(draw("orthogonal", 3, 3, seed)) > 0 for seed in range(200)]
    assert 60 < sum(signs) < 140


def test_zeros():
    assert not draw("zeros").any()


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
            xpnet.Linear(4, 2, weight_init=lambda rng, i, o: rng.uniform(5, 6, (i, o)), bias_init="zeros"),
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
        (lambda rng, i, o: np.zeros(i), r"returned shape \(4,\), expected \(4, 3\)"),
        (lambda rng, i, o: np.full((i, o), np.inf), r"returned NaN or infinity"),
    ],
)
def test_impossible_laws(law, message):
    with pytest.raises(ConfigError, match=message):
        initializers.initialize(law, np.random.default_rng(0), 4, 3)


@pytest.mark.parametrize("std", [-1.0, float("nan"), float("inf"), "a"])
def test_impossible_standard_deviation(std):
    with pytest.raises(ConfigError, match=r"normal: std must be a finite number in \[0, inf\), got "):
        initializers.normal(std)


def test_biases_are_drawn_as_of_a_layer_with_one_input():
    drawn = xpnet.Linear(3, 4, weight_init="zeros", bias_init="he_normal").init(np.random.default_rng(0))
    np.testing.assert_array_equal(drawn["b"], initializers.he_normal(np.random.default_rng(0), 1, 4)[0])
