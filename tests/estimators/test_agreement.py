"""From the same seed, a fit is scikit-learn's own fit, number by number, up to rounding.

Initial weights, the order of the samples, batches, penalties, schedules, stopping and what is recorded all have
to be the same for that, so these comparisons hold them all.
"""

import numpy as np
import pytest
from labels import label
from scipy import sparse
from sklearn import neural_network

from xpnet.estimators import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

CURVES = ("loss_curve_", "validation_scores_")
NUMBERS = ("loss_", "best_loss_", "best_validation_score_")
COUNTS = ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "_no_improvement_count")


def compare(ours, theirs, X, rtol=1e-9):
    """Fitted attributes and predictions agree."""
    for mine, other in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        assert mine.shape == other.shape
        assert mine.dtype == other.dtype
        np.testing.assert_allclose(mine, other, rtol=rtol, atol=rtol * np.abs(other).max())
    for name in CURVES + NUMBERS + COUNTS:
        assert hasattr(ours, name) == hasattr(theirs, name), name
        mine, other = getattr(ours, name, None), getattr(theirs, name, None)
        if name in COUNTS or other is None:
            assert mine == other, name
        else:
            assert type(mine) is type(other) or isinstance(mine, float), name
            np.testing.assert_allclose(mine, other, rtol=10 * rtol, err_msg=name)
    if hasattr(theirs, "classes_"):
        np.testing.assert_array_equal(ours.classes_, theirs.classes_)
        np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-6, atol=1e-12)
    else:
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-6, atol=1e-9)


def both(kind, X, y, weight=None, rtol=1e-9, **options):
    """Fit ours and theirs alike and compare."""
    options = {"random_state": 4, "max_iter": 12, "hidden_layer_sizes": (7,)} | options
    mine = {"classifier": MLPClassifier, "regressor": MLPRegressor}[kind](**options)
    other = {"classifier": neural_network.MLPClassifier, "regressor": neural_network.MLPRegressor}[kind](**options)
    for est in (mine, other):
        est.fit(X, y, sample_weight=weight)
    compare(mine, other, X, rtol)
    return mine, other


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"solver": "sgd"},
        {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.2, "power_t": 0.3},
        {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.5, "tol": 0.05, "n_iter_no_change": 2},
        {"solver": "sgd", "momentum": 0.0},
        {"solver": "sgd", "momentum": 1.0, "learning_rate_init": 1e-3},
        {"solver": "sgd", "nesterovs_momentum": False},
        {"activation": "identity"},
        {"activation": "logistic"},
        {"activation": "tanh"},
        {"hidden_layer_sizes": (9, 6, 5)},
        {"hidden_layer_sizes": 5},
        {"hidden_layer_sizes": ()},
        {"hidden_layer_sizes": np.array([4, 3])},
        {"alpha": 2.0},
        {"alpha": 0.0},
        {"batch_size": 32},
        {"batch_size": 1, "max_iter": 2},
        {"shuffle": False, "batch_size": 50},
        {"beta_1": 0.0, "beta_2": 0.5, "epsilon": 1e-3},
        {"tol": 0.1, "n_iter_no_change": 1, "max_iter": 60},
        {"early_stopping": True, "max_iter": 20, "learning_rate_init": 0.02},
        {"early_stopping": True, "validation_fraction": 0.3, "solver": "sgd", "max_iter": 60, "tol": 0.02},
        {"early_stopping": True, "solver": "sgd", "learning_rate": "adaptive", "n_iter_no_change": 2, "tol": 0.1},
    ],
    ids=label,
)
def test_stochastic_solvers(digits, options):
    both("classifier", *digits, **options)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("stopping", [False, True])
def test_two_classes(binary, solver, stopping):
    both("classifier", *binary, solver=solver, early_stopping=stopping, rtol=1e-7)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("stopping", [False, True])
def test_several_labels(labels, solver, stopping):
    both("classifier", *labels, solver=solver, early_stopping=stopping, rtol=1e-7)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_one_output(numbers, solver, activation):
    both("regressor", *numbers, solver=solver, activation=activation, rtol=1e-7)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_counts(counts, solver):
    both("regressor", *counts, solver=solver, loss="poisson", rtol=1e-7)


def test_early_stopping_of_a_regression(numbers):
    both("regressor", *numbers, early_stopping=True, max_iter=30, learning_rate_init=0.05)


@pytest.mark.parametrize("batch", ["auto", 40])
@pytest.mark.parametrize("options", [{}, {"solver": "sgd"}, {"solver": "lbfgs"}, {"early_stopping": True}], ids=label)
def test_sample_weights(digits, batch, options):
    weight = np.random.default_rng(0).integers(0, 4, len(digits[1])).astype(float)
    both("classifier", *digits, weight=weight, batch_size=batch, rtol=1e-7, alpha=0.3, **options)


@pytest.mark.parametrize("options", [{}, {"solver": "lbfgs"}, {"early_stopping": True, "batch_size": 30}], ids=label)
@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csc_matrix])
def test_sparse_rows(digits, form, options):
    X, y = digits
    both("classifier", form(X), y, rtol=1e-7, **options)


def test_weighted_sparse_rows_a_few_at_a_time(digits, monkeypatch):
    monkeypatch.setattr("xpnet.estimators.lbfgs.ROWS", 7)
    X, y = digits
    weight = np.random.default_rng(1).uniform(0.1, 3.0, len(y))
    options = {"hidden_layer_sizes": (5,), "solver": "lbfgs", "max_iter": 8, "random_state": 0}
    few = MLPClassifier(**options).fit(sparse.csr_array(X), y, weight)
    whole = MLPClassifier(**options).fit(X, y, weight)
    for mine, other in zip(few.coefs_ + few.intercepts_, whole.coefs_ + whole.intercepts_, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("options", [{}, {"solver": "sgd"}, {"early_stopping": True}], ids=label)
def test_single_precision(digits, options):
    X, y = digits
    both("classifier", X.astype(np.float32), y, rtol=2e-4, max_iter=5, **options)


def test_words_as_classes(iris):
    X, y = iris
    both("classifier", X, np.array(["setosa", "versicolor", "virginica"])[y])
    both("classifier", X, np.array(["no", "yes"], dtype=object)[(y == 1).astype(int)], early_stopping=True)


def test_one_class():
    X = np.random.default_rng(0).normal(size=(20, 3))
    mine, _ = both("classifier", X, np.full(20, 7))
    assert set(mine.predict(X)) == {7}


@pytest.mark.parametrize("options", [{}, {"solver": "sgd", "learning_rate": "invscaling"}], ids=label)
def test_warm_starts_go_on_from_where_they_were(digits, options):
    mine, other = both("classifier", *digits, warm_start=True, max_iter=4, **options)
    for est in (mine, other):
        est.set_params(max_iter=6)
        est.fit(*digits)
        est.fit(*digits)
    compare(mine, other, digits[0])


def test_a_warm_start_without_an_improvement_keeps_the_best_parameters(digits):
    # scikit-learn keeps no copy of them: it returns those of the last epoch.
    mine, other = both("classifier", *digits, warm_start=True, early_stopping=True, max_iter=4)
    best = [W.copy() for W in mine.coefs_]
    for est in (mine, other):
        est.set_params(learning_rate_init=1e-9).fit(*digits)
    assert mine.best_validation_score_ == other.best_validation_score_ >= max(mine.validation_scores_[4:])
    assert all(np.array_equal(now, then) for now, then in zip(mine.coefs_, best, strict=True))
    assert not all(np.array_equal(now, then) for now, then in zip(other.coefs_, best, strict=True))


def test_a_warm_start_of_lbfgs(iris):
    mine, other = both("classifier", *iris, warm_start=True, max_iter=4, solver="lbfgs", rtol=1e-7)
    for est in (mine, other):
        est.fit(*iris)
    compare(mine, other, iris[0], rtol=1e-6)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_partial_fits(digits, solver):
    X, y = digits
    options = {"solver": solver, "random_state": 1, "hidden_layer_sizes": (6,), "batch_size": 32}
    mine, other = MLPClassifier(**options), neural_network.MLPClassifier(**options)
    for est in (mine, other):
        for start in (0, 100, 200, 0):
            est.partial_fit(X[start : start + 100], y[start : start + 100], classes=np.arange(10))
    compare(mine, other, X)


def test_partial_fits_after_a_fit(pairs):
    X, y = pairs[0], pairs[1][:, 0]
    mine, other = both("regressor", X, y, solver="sgd")
    for est in (mine, other):
        est.partial_fit(X[:50], y[:50])
        est.partial_fit(X[50:], y[50:], sample_weight=np.linspace(1, 2, 70))
    compare(mine, other, X)


def test_a_generator_of_random_numbers_goes_on_between_fits(digits):
    X, y = digits
    mine = MLPClassifier((5,), max_iter=3, random_state=np.random.RandomState(5)).fit(X, y).fit(X, y)
    other = neural_network.MLPClassifier((5,), max_iter=3, random_state=np.random.RandomState(5)).fit(X, y).fit(X, y)
    compare(mine, other, X)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_several_outputs_agree_at_the_rate_that_the_docs_give(pairs, solver):
    # scikit-learn's gradient is n_outputs times that of its loss: their rate times n_outputs and their penalty
    # divided by it is the same descent. Adam does not see a factor of the gradient, up to its epsilon.
    X, y = pairs
    common = {"solver": solver, "random_state": 2, "max_iter": 10, "hidden_layer_sizes": (6,), "tol": 0.0}
    theirs = neural_network.MLPRegressor(alpha=0.5, learning_rate_init=0.01, epsilon=1e-12, **common).fit(X, y)
    rate = 0.02 if solver == "sgd" else 0.01
    ours = MLPRegressor(alpha=0.25, learning_rate_init=rate, epsilon=1e-12, **common).fit(X, y)
    for mine, other in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(MLPClassifier, neural_network.MLPClassifier), (MLPRegressor, neural_network.MLPRegressor)]
)
def test_every_parameter_is_there_with_its_default(ours, theirs):
    mine, other = ours().get_params(), theirs().get_params()
    assert {name: mine[name] for name in other} == other
    new = {"backend", "class_weight", "dropout", "loss", "on_divergence", "parallel", "quantiles"}
    assert set(mine) - set(other) <= new
    assert ours().loss == theirs().loss


def test_every_attribute_and_method_is_there(digits, numbers):
    for ours, theirs, data in (
        (MLPClassifier, neural_network.MLPClassifier, digits),
        (MLPRegressor, neural_network.MLPRegressor, numbers),
    ):
        for options in ({}, {"early_stopping": True}, {"solver": "lbfgs"}):
            mine, other = ours(max_iter=2, **options).fit(*data), theirs(max_iter=2, **options).fit(*data)
            public = {name for name in dir(other) if not name.startswith("_")}
            if options == {"solver": "lbfgs"}:
                public.discard("partial_fit")  # their regressor has it by mistake, for their own check is never called
            assert public <= set(dir(mine)), public - set(dir(mine))
