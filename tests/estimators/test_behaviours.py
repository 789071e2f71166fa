"""The forty-three behaviours that scikit-learn's own tests of its multi-layer perceptrons hold, on other data.

Here they are stated without looking at scikit-learn; `test_agreement.py` compares with it number by number. This
is the first part: the mathematics, solver "lbfgs", what is predicted, and `partial_fit`.
"""

import pickle

import joblib
import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import roc_auc_score

from xpnet.estimators import MLPClassifier, MLPRegressor

ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
BOTH = pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
UNFINISHED = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# ------------------------------------------------------------------------------------- the mathematics


@UNFINISHED
def test_a_larger_penalty_gives_smaller_weights(binary):
    sizes = []
    for alpha in (0.0, 1.0, 10.0):
        clf = MLPClassifier((8,), alpha=alpha, random_state=3, max_iter=100).fit(*binary)
        sizes.append([np.abs(W).sum() for W in clf.coefs_])
    assert np.all(np.diff(sizes, axis=0) < 0)


def test_one_step_is_the_step_worked_out_by_hand():
    # Two inputs, two logistic hidden units, one output; the weights are given, as a program may give them.
    x, rate, alpha = np.array([[0.5, -1.0]]), 0.1, 0.1
    W1, b1 = np.array([[0.2, -0.4], [0.6, 0.3]]), np.array([0.1, -0.1])
    W2, b2 = np.array([[0.7], [-0.5]]), np.array([0.25])
    clf = MLPClassifier((2,), activation="logistic", solver="sgd", learning_rate_init=rate, alpha=alpha, momentum=0.0)
    clf.coefs_, clf.intercepts_ = [W1.copy(), W2.copy()], [b1.copy(), b2.copy()]
    clf.n_features_in_, clf.n_outputs_, clf.n_layers_, clf.out_activation_ = 2, 1, 3, "logistic"
    clf.t_ = clf.n_iter_ = clf._no_improvement_count = 0
    clf.loss_curve_, clf.best_loss_ = [], np.inf
    clf.partial_fit(x, [1], classes=[0, 1])

    h = expit(x @ W1 + b1)
    d2 = expit(h @ W2 + b2) - 1.0
    d1 = d2 @ W2.T * h * (1.0 - h)
    for now, before, gradient in (
        (clf.coefs_[0], W1, x.T @ d1 + alpha * W1), (clf.coefs_[1], W2, h.T @ d2 + alpha * W2),
        (clf.intercepts_[0], b1, d1[0]), (clf.intercepts_[1], b2, d2[0]),
    ):  # fmt: skip
        np.testing.assert_allclose(now, before - rate * gradient, rtol=1e-12)
    h = expit(x @ clf.coefs_[0] + clf.intercepts_[0])
    np.testing.assert_allclose(clf.predict_proba(x)[:, 1], expit(h @ clf.coefs_[1] + clf.intercepts_[1])[:, 0])


@UNFINISHED
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("classes", [2, 4])
def test_the_gradient_of_lbfgs_is_that_of_its_objective(activation, classes):
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(6, 5)), np.arange(6) % classes
    Y = np.eye(classes)[y] if classes > 2 else y[:, None].astype(float)
    clf = MLPClassifier((4,), activation=activation, solver="lbfgs", max_iter=1, alpha=0.01, random_state=0).fit(X, y)
    theta = np.concatenate([a.ravel() for a in clf.coefs_ + clf.intercepts_])
    _, gradient = clf._loss_grad_lbfgs(theta, X, Y, None, [], [], [], [])
    h = 1e-5
    numeric = [
        (clf._loss_grad_lbfgs(theta + h * e, X, Y, None)[0] - clf._loss_grad_lbfgs(theta - h * e, X, Y, None)[0])
        / (2 * h)
        for e in np.eye(len(theta))
    ]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_poisson_without_hidden_layers_is_the_generalised_linear_model(counts, seed):
    X, y = counts
    glm = PoissonRegressor(alpha=0, tol=1e-9).fit(X, y)
    options = {"hidden_layer_sizes": (1,), "activation": "identity", "alpha": 0, "solver": "lbfgs", "tol": 1e-8}
    mlp = MLPRegressor(loss="poisson", random_state=seed, **options).fit(X, y)
    np.testing.assert_allclose(mlp.predict(X), glm.predict(X), rtol=1e-4)
    straight = MLPRegressor(loss="squared_error", random_state=seed, **options).fit(X, y)
    assert not np.allclose(straight.predict(X), glm.predict(X), rtol=1e-3)


# -------------------------------------------------------------------------------------- solver "lbfgs"


@UNFINISHED
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_lbfgs_classifies(digits, binary, activation):
    for X, y in (digits, binary):
        clf = MLPClassifier((30,), solver="lbfgs", activation=activation, max_iter=120, random_state=2).fit(
            X[:150], y[:150]
        )
        assert clf.score(X[:150], y[:150]) > 0.95
        predicted = clf.predict(X[150:])
        assert predicted.shape == y[150:].shape
        assert predicted.dtype == y.dtype


@UNFINISHED
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_lbfgs_fits_numbers(numbers, activation):
    X, y = numbers
    score = (
        MLPRegressor(
            hidden_layer_sizes=(30,), solver="lbfgs", activation=activation, max_iter=200, tol=1e-3, random_state=1
        )
        .fit(X, y)
        .score(X, y)
    )
    assert score > (0.8 if activation == "identity" else 0.97)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_lbfgs_stops_at_max_fun_when_it_classifies(digits, activation):
    clf = MLPClassifier((20,), solver="lbfgs", max_fun=8, activation=activation, random_state=1)
    with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge"):
        clf.fit(*digits)
    assert clf.n_iter_ <= 8


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_lbfgs_stops_at_max_fun_when_it_fits_numbers(numbers, activation):
    reg = MLPRegressor(
        hidden_layer_sizes=(20,), solver="lbfgs", max_fun=8, tol=0.0, activation=activation, random_state=1
    )
    with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge"):
        reg.fit(*numbers)
    assert reg.n_iter_ <= 8


# ----------------------------------------------------------------------------------- what is predicted


@UNFINISHED
def test_several_labels_at_once(labels):
    X, Y = labels
    options = {"hidden_layer_sizes": (40,), "activation": "logistic", "alpha": 1e-5, "random_state": 0}
    assert MLPClassifier(solver="lbfgs", max_iter=200, **options).fit(X, Y).score(X, Y) > 0.95
    steps = MLPClassifier(solver="sgd", learning_rate_init=0.2, **options)
    for _ in range(150):
        steps.partial_fit(X, Y, classes=np.arange(4))
    assert steps.score(X, Y) > 0.85
    stopped = MLPClassifier(early_stopping=True, random_state=0).fit(X, Y)
    assert stopped.predict(X).shape == Y.shape


@UNFINISHED
def test_several_outputs_at_once(pairs):
    X, Y = pairs
    reg = MLPRegressor(hidden_layer_sizes=(30,), solver="lbfgs", max_iter=200, tol=1e-3, random_state=1).fit(X, Y)
    assert reg.predict(X).shape == Y.shape
    assert reg.score(X, Y) > 0.9


@UNFINISHED
@pytest.mark.parametrize("which", ["two", "ten", "several"])
def test_probabilities_and_their_logarithms(binary, digits, labels, which):
    X, y = {"two": binary, "ten": digits, "several": labels}[which]
    clf = MLPClassifier((20,), solver="lbfgs", max_iter=60, random_state=1, alpha=0.01).fit(X, y)
    p, log_p = clf.predict_proba(X), clf.predict_log_proba(X)
    assert p.shape == (len(X), {"two": 2, "ten": 10, "several": 4}[which])
    np.testing.assert_allclose(log_p, np.log(p))
    if which == "several":  # independent of each other: rows need not sum to 1
        np.testing.assert_array_equal(p > 0.5, clf.predict(X) == 1)
        assert np.abs(p.sum(axis=1) - 1).max() > 0.1
    else:
        np.testing.assert_allclose(p.sum(axis=1), 1)
        np.testing.assert_array_equal(clf.classes_[p.argmax(axis=1)], clf.predict(X))
    if which == "two":
        assert roc_auc_score(y, p[:, 1]) == 1.0


@UNFINISHED
@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csr_array])
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_sparse_rows_are_like_dense_ones(binary, form, solver):
    X, y = binary
    dense = MLPClassifier((9,), solver=solver, random_state=1, max_iter=40).fit(X, y)
    thin = MLPClassifier((9,), solver=solver, random_state=1, max_iter=40).fit(form(X), y)
    np.testing.assert_allclose(thin.predict_proba(form(X)), dense.predict_proba(X), rtol=1e-4)
    np.testing.assert_allclose(thin.predict_proba(X), thin.predict_proba(form(X)), rtol=1e-9)


@UNFINISHED
@BOTH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_data_decides_on_the_precision(digits, cls, dtype):
    X, y = digits
    est = cls(hidden_layer_sizes=(5, 3), random_state=1, max_iter=10).fit(X.astype(dtype), y)
    assert {a.dtype for a in est.coefs_ + est.intercepts_} == {np.dtype(dtype)}
    if cls is MLPRegressor:
        assert est.predict(X.astype(dtype)).dtype == dtype


@UNFINISHED
def test_both_precisions_classify_alike(digits):
    X, y = digits
    narrow, wide = (
        MLPClassifier((12,), random_state=1, max_iter=30).fit(X[:200].astype(t), y[:200])
        for t in (np.float32, np.float64)
    )
    np.testing.assert_array_equal(narrow.predict(X[200:].astype(np.float32)), wide.predict(X[200:]))
    np.testing.assert_allclose(narrow.predict_proba(X[200:].astype(np.float32)), wide.predict_proba(X[200:]), rtol=1e-3)


@UNFINISHED
def test_both_precisions_fit_numbers_alike(numbers):
    X, y = numbers
    narrow, wide = (
        MLPRegressor(hidden_layer_sizes=(12,), random_state=1, max_iter=30).fit(X.astype(t), y)
        for t in (np.float32, np.float64)
    )
    np.testing.assert_allclose(narrow.predict(X.astype(np.float32)), wide.predict(X), rtol=1e-3, atol=1e-4)


# ------------------------------------------------------------------------------------------ partial_fit


def test_other_classes_in_a_later_call_are_an_error():
    clf = MLPClassifier(solver="sgd").partial_fit([[3.0, 2.0]], [0], classes=[0, 1])
    with pytest.raises(ValueError, match="is not the same as on last call to partial_fit"):
        clf.partial_fit([[3.0, 2.0]], [0], classes=[1, 2])


def test_partial_fit_needs_its_classes_and_a_stochastic_solver():
    X, y = [[3.0, 2.0], [1.0, 6.0]], [1, 0]
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        MLPClassifier(solver="sgd").partial_fit(X, y)
    with pytest.raises(ValueError, match=r"`y` has classes not in `self.classes_`"):
        MLPClassifier(solver="sgd").partial_fit(X, y, classes=[2])
    for cls in (MLPClassifier, MLPRegressor):
        assert not hasattr(cls(solver="lbfgs"), "partial_fit")


def test_classes_may_come_later():
    clf = MLPClassifier(random_state=1)
    clf.partial_fit([[1.0], [2.0], [3.0]], ["a", "b", "c"], classes=["a", "b", "c", "d"])
    clf.partial_fit([[4.0]], ["d"])
    assert clf.score([[1.0], [2.0], [3.0], [4.0]], ["a", "b", "c", "d"]) > 0


@UNFINISHED
def test_many_partial_fits_are_one_fit_when_they_classify(digits, binary):
    for X, y in (digits, binary):
        options = {"solver": "sgd", "learning_rate_init": 0.2, "random_state": 1, "shuffle": False, "tol": 0.0}
        whole = MLPClassifier((20,), max_iter=60, **options).fit(X, y)
        steps = MLPClassifier((20,), **options)
        for _ in range(60):
            steps.partial_fit(X, y, classes=np.unique(y))
        np.testing.assert_allclose(steps.predict_proba(X), whole.predict_proba(X), rtol=1e-9, atol=1e-12)
        assert steps.score(X, y) > 0.95


@UNFINISHED
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_many_partial_fits_are_one_fit_when_they_fit_numbers(numbers, momentum):
    X, y = numbers
    options = {
        "solver": "sgd",
        "learning_rate_init": 0.05,
        "random_state": 1,
        "batch_size": len(X),
        "momentum": momentum,
    }
    whole = MLPRegressor(hidden_layer_sizes=(20,), max_iter=80, n_iter_no_change=np.inf, **options).fit(X, y)
    steps = MLPRegressor(hidden_layer_sizes=(20,), **options)
    for _ in range(80):
        steps.partial_fit(X, y)
    np.testing.assert_allclose(steps.predict(X), whole.predict(X), rtol=1e-7)
    assert steps.score(X, y) > 0.7


@UNFINISHED
def test_a_loaded_estimator_learns_on(tmp_path):
    # Exactly one sample, and another target for it after loading.
    reg = MLPRegressor(hidden_layer_sizes=(20,), learning_rate_init=0.01, random_state=1, max_iter=150).fit(
        [[2.0]], [4.0]
    )
    before = reg.predict([[2.0]])
    joblib.dump(reg, tmp_path / "reg.joblib")
    for mode in (None, "r"):
        loaded = joblib.load(tmp_path / "reg.joblib", mmap_mode=mode)
        assert loaded.predict([[2.0]]) == before
        for _ in range(250):
            loaded.partial_fit([[2.0]], [1.0])
        np.testing.assert_allclose(loaded.predict([[2.0]]), [1.0], rtol=1e-3)
    assert reg.predict([[2.0]]) == before > 3.0


@BOTH
def test_early_stopping_is_refused_by_partial_fit_without_validation_data(iris, cls):
    est = cls(early_stopping=True, random_state=0, max_iter=20, tol=1.0).fit(*iris)
    before = pickle.dumps(est)
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        est.partial_fit(*iris)
    assert pickle.dumps(est) == before
