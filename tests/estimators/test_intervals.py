"""Regressors that say how far off they may be: quantiles, and a standard deviation."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import xpnet
from xpnet.errors import CheckpointError, ConfigError
from xpnet.estimators import MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (400, 1))
NOISE = 0.05 + 0.3 * (X[:, 0] > 0)  # more on the right
Y = np.sin(3 * X[:, 0]) + NOISE * RNG.normal(size=400)
OPTIONS = {"hidden_layer_sizes": (16,), "activation": "tanh", "solver": "lbfgs", "max_iter": 150, "random_state": 0}


@pytest.fixture(scope="module")
def by_quantiles():
    return MLPRegressor(quantiles=[0.05, 0.5, 0.95], **OPTIONS).fit(X, Y)


@pytest.fixture(scope="module")
def by_variance():
    return MLPRegressor(loss="gaussian", **OPTIONS).fit(X, Y)


def test_quantiles_enclose_the_targets_as_often_as_they_say(by_quantiles):
    low, middle, high = by_quantiles.predict(X, quantiles=True).T
    assert 0.85 <= np.mean((low <= Y) & (high >= Y)) <= 0.95
    assert 0.45 <= np.mean(middle > Y) <= 0.55
    assert (low <= middle).all()
    assert (middle <= high).all()
    assert_array_equal(by_quantiles.predict(X), middle)
    assert by_quantiles.score(X, Y) > 0.8


def test_the_standard_deviation_is_that_of_the_noise(by_variance):
    mean, std = by_variance.predict(X, return_std=True)
    assert_array_equal(by_variance.predict(X), mean)
    assert mean.shape == std.shape == (400,)
    assert 0.03 < std[X[:, 0] < -0.1].mean() < 0.08
    assert 0.28 < std[X[:, 0] > 0.1].mean() < 0.42
    assert by_variance.score(X, Y) > 0.8


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_several_targets(solver):
    both = np.column_stack([Y, 10 + 2 * Y])
    options = {**OPTIONS, "solver": solver, "max_iter": 5, "early_stopping": solver == "adam"}
    reg = MLPRegressor(quantiles=np.asarray([0.1, 0.9]), **options).fit(X, both)
    assert reg.predict(X).shape == (400, 2)
    assert reg.predict(X[:7], quantiles=True).shape == (7, 2, 2)
    mean, std = MLPRegressor(loss=xpnet.Gaussian(), **options).fit(X, both).predict(X, return_std=True)
    assert mean.shape == std.shape == (400, 2)


def test_early_stopping_looks_at_the_loss():
    """A variance can be wrong where R2 is as good as it will get."""
    for more in ({"quantiles": [0.1, 0.9]}, {"loss": "gaussian"}):
        options = {**OPTIONS, "solver": "adam", "max_iter": 5, "early_stopping": True}
        reg = MLPRegressor(**options, **more).fit(X, Y)
        assert_allclose(reg.validation_scores_, -np.asarray(reg.history_["validation_loss"]), rtol=1e-6)


def test_they_go_through_copies_searches_and_files(tmp_path, by_quantiles, by_variance):
    for reg, more in ((by_quantiles, {"quantiles": True}), (by_variance, {"return_std": True})):
        reg.save(tmp_path / "f")
        again = MLPRegressor.load(tmp_path / "f")
        assert again.get_params() == reg.get_params()
        assert_array_equal(again.predict(X, **more), reg.predict(X, **more))
        assert_allclose(clone(reg).fit(X, Y).predict(X, **more), reg.predict(X, **more), rtol=1e-6)
        assert_allclose(xpnet.load(tmp_path / "f").predict(X)[:, 0], reg.predict(X), rtol=1e-12)
    search = GridSearchCV(by_quantiles, {"quantiles": [[0.1, 0.9], [0.5]]}, cv=2).fit(X[:60], Y[:60])
    assert search.predict(X).shape == (400,)
    reg = MLPRegressor(quantiles=np.asarray([0.1, 0.9]), **{**OPTIONS, "max_iter": 2}).fit(X, Y)
    reg.save(tmp_path / "f")
    assert MLPRegressor.load(tmp_path / "f").quantiles == [0.1, 0.9]


def test_a_strangers_quantiles_are_checked(tmp_path, by_quantiles):
    from xpnet.files.tensors import read_tensors, write_tensors

    by_quantiles.save(tmp_path / "f")
    tensors, description = read_tensors(tmp_path / "f")
    description["network"]["loss"]["levels"] = {"tuple": [0.5, 0.9]}
    write_tensors(tmp_path / "f", tensors, description)
    with pytest.raises(CheckpointError, match="needs 2 outputs for each column of the targets"):
        MLPRegressor.load(tmp_path / "f")


def test_what_the_loss_does_not_know_is_refused(by_quantiles, by_variance):
    with pytest.raises(ConfigError, match="return_std needs loss='gaussian', but the loss is Quantile"):
        by_quantiles.predict(X, return_std=True)
    with pytest.raises(ConfigError, match=r"quantiles=True needs MLPRegressor\(quantiles="):
        by_variance.predict(X, quantiles=True)
    with pytest.raises(ConfigError, match="quantiles have a loss of their own; leave the default of loss"):
        MLPRegressor(xpnet.Huber(), quantiles=[0.5]).fit(X, Y)
    with pytest.raises(ConfigError, match=r"levels\[0\] must be a finite number in \(0, 1\), got 5"):
        MLPRegressor(quantiles=[5, 95]).fit(X, Y)
