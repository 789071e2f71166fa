"""The behaviours of scikit-learn's own tests, second part: order, stopping, warm starts, numbers gone wrong."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from xpnet.estimators import MLPClassifier, MLPRegressor

ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
BOTH = pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
UNFINISHED = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# ----------------------------------------------------------------------------------- order and stopping


@UNFINISHED
def test_shuffling_is_repeatable_and_matters(numbers):
    def weights(shuffle):
        return (
            MLPRegressor(hidden_layer_sizes=(1,), max_iter=1, batch_size=1, random_state=0, shuffle=shuffle)
            .fit(*numbers)
            .coefs_[0]
        )

    assert np.array_equal(weights(True), weights(True))
    assert np.array_equal(weights(False), weights(False))
    assert not np.array_equal(weights(True), weights(False))


def test_a_large_tolerance_ends_training_early():
    clf = MLPClassifier(tol=0.5, max_iter=3000, solver="sgd", random_state=0).fit([[3.0, 2.0], [1.0, 6.0]], [1, 0])
    assert clf.n_iter_ < 3000


@UNFINISHED
def test_verbose_prints_iterations(capsys, binary):
    clf = MLPClassifier((2,), solver="sgd", max_iter=2, verbose=10, early_stopping=True, random_state=0).fit(*binary)
    clf.set_params(early_stopping=False, warm_start=True).partial_fit(*binary)
    out = capsys.readouterr().out
    assert out.count("Iteration 1, loss = ") == 2
    assert out.count("Iteration 2, loss = ") == 1
    assert out.count("Validation score: ") == 2
    MLPClassifier((2,), solver="lbfgs", max_iter=2, verbose=True, random_state=0).fit(*binary)
    assert "Iteration 2, loss = " in capsys.readouterr().out


@BOTH
def test_early_stopping_records_scores_and_keeps_the_best(binary, cls):
    X, y = binary
    options = {"tol": 0.2, "max_iter": 2000, "solver": "sgd", "learning_rate_init": 0.02, "random_state": 1}
    est = cls(early_stopping=True, **options).fit(X, y)
    scores = est.validation_scores_
    assert est.n_iter_ == len(scores) < 2000
    assert isinstance(scores, list)
    assert est.best_loss_ is None
    assert est.best_validation_score_ == max(scores) < min(scores[-2:]) + 0.2
    plain = cls(**options).fit(X, y)
    assert plain.validation_scores_ is None
    assert plain.best_validation_score_ is None
    assert plain.best_loss_ == min(plain.loss_curve_)


def test_the_adaptive_rate_shrinks_to_its_end():
    clf = MLPClassifier(tol=0.5, max_iter=3000, solver="sgd", learning_rate="adaptive", random_state=0)
    clf.fit([[3.0, 2.0], [1.0, 6.0]], [1, 0])
    assert clf.n_iter_ < 3000
    assert clf._optimizer.learning_rate < 1e-6


@pytest.mark.parametrize("patience", [2, 5, 20, 50])
def test_patience_is_counted(binary, patience):
    clf = MLPClassifier(tol=0.01, max_iter=3000, solver="sgd", n_iter_no_change=patience, random_state=0).fit(*binary)
    assert clf._no_improvement_count == patience + 1
    assert clf.n_iter_ < 3000


def test_endless_patience_goes_to_max_iter(binary):
    clf = MLPClassifier((3,), tol=1e9, max_iter=300, solver="sgd", n_iter_no_change=np.inf, random_state=0)
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(300\) reached"):
        clf.fit(*binary)
    assert clf.n_iter_ == 300
    assert clf._no_improvement_count == 299


def test_two_classes_are_split_in_proportion():
    with pytest.raises(ValueError, match=r"The least populated classes.*too few members are: \['True'\]"):
        MLPClassifier(early_stopping=True).fit([[1.0, 2.0], [2.0, 3.0], [3.0, 4.0], [4.0, 5.0]], [0, 0, 0, 1])


@UNFINISHED
def test_early_stopping_takes_words_as_classes(iris):
    X, y = iris
    clf = MLPClassifier(early_stopping=True, max_iter=30, random_state=1)
    clf.fit(X, np.array(["setosa", "versicolor", "virginica"], dtype=object)[y])
    assert len(clf.validation_scores_) == clf.n_iter_
    assert np.isfinite(clf.validation_scores_).all()


@UNFINISHED
def test_weights_of_one_change_nothing_under_early_stopping(numbers):
    X, y = numbers
    options = {"hidden_layer_sizes": 8, "early_stopping": True, "batch_size": 10, "random_state": 2, "max_iter": 30}
    weighted = MLPRegressor(**options).fit(X, y, sample_weight=np.ones_like(y))
    np.testing.assert_allclose(weighted.predict(X), MLPRegressor(**options).fit(X, y).predict(X))


def test_a_validation_set_of_one_sample_is_too_small():
    with pytest.raises(ValueError, match="The validation set is too small"):
        MLPRegressor(early_stopping=True).fit([[1.0], [2.0]], [1.0, 2.0])


@BOTH
@UNFINISHED
def test_feature_names_survive_early_stopping(cls):
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(20, 2)), columns=["height", "width"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        est = cls(early_stopping=True, validation_fraction=0.2, max_iter=5).fit(X, pd.Series(np.arange(20) % 2))
        est.predict(X)
    assert list(est.feature_names_in_) == ["height", "width"]


# ------------------------------------------------------------------------------------------ warm starts


@UNFINISHED
@pytest.mark.parametrize("schedule", ["constant", "invscaling"])
def test_the_schedule_goes_on_after_a_warm_start(schedule):
    clf = MLPClassifier(4, solver="sgd", learning_rate=schedule, power_t=0.25, max_iter=1, warm_start=True)
    X, y = [[3.0, 2.0], [1.0, 6.0], [5.0, 6.0], [-2.0, -4.0]], [1, 1, 1, 0]
    rates = [clf.fit(X, y)._optimizer.learning_rate for _ in range(2)]
    assert rates == ([0.001, 0.001] if schedule == "constant" else [0.001 / 5**0.25, 0.001 / 9**0.25])


@UNFINISHED
def test_a_warm_start_needs_the_same_classes(iris):
    X, y = iris
    clf = MLPClassifier((2,), solver="lbfgs", warm_start=True, random_state=4, max_iter=20, tol=0.1).fit(X, y)
    clf.fit(X, y).fit(X, np.roll(y, 30))
    for other in (y % 2, y + 1, np.arange(150) % 5):
        with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same classes"):
            clf.fit(X, other)


@UNFINISHED
@BOTH
def test_every_warm_start_does_all_its_iterations(iris, cls):
    est = cls(hidden_layer_sizes=(2,), solver="sgd", warm_start=True, max_iter=3)
    assert [est.fit(*iris).n_iter_ for _ in range(3)] == [3, 3, 3]


@UNFINISHED
@BOTH
def test_scores_go_on_after_a_warm_start(iris, cls):
    est = cls(max_iter=5, random_state=0, warm_start=True, early_stopping=True).fit(*iris)
    count = len(est.validation_scores_)
    est.set_params(max_iter=9).fit(*iris)
    assert len(est.validation_scores_) > count


@BOTH
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_a_warm_start_stops_at_its_own_max_iter(iris, cls, solver):
    est = cls(solver=solver, warm_start=True, max_iter=6, n_iter_no_change=np.inf, random_state=0)
    for count in (6, 11):
        with pytest.warns(ConvergenceWarning):
            est.set_params(max_iter=count).fit(*iris)
        assert est.n_iter_ == count


# ------------------------------------------------------------------------------------- numbers gone wrong


def test_weights_that_are_not_finite_are_a_value_error():
    rng = np.random.default_rng(0)
    X, y = np.finfo(np.float64).max * rng.uniform(size=(10, 2)), rng.normal(size=10)
    with pytest.raises(ValueError, match=r"Solver produced non-finite parameter weights\. The input data may contain"):
        MLPRegressor().fit(X, y)


def test_divergence_under_early_stopping_ends_without_an_error(iris):
    reg = MLPRegressor(
        hidden_layer_sizes=(50,),
        activation="identity",
        solver="sgd",
        learning_rate_init=1.0,
        max_iter=20,
        early_stopping=True,
        random_state=0,
    )
    with pytest.warns(ConvergenceWarning):
        reg.fit(*iris)
    assert type(reg.validation_scores_[-1]) is float
    assert np.isnan(reg.validation_scores_[-1])
    assert np.isfinite(reg.predict(iris[0])).all()
