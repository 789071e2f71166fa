"""What a fit leaves behind: the history, scores on validation data, the network, weights that can be changed."""

import pickle

import numpy as np
import pytest

import xpnet
from xpnet.estimators import MLPClassifier, MLPRegressor

BOTH = pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
UNFINISHED = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@UNFINISHED
def test_validation_data_are_measured_after_every_epoch(digits):
    X, y = digits
    train, held = (X[:200], y[:200]), (X[200:], y[200:])
    clf = MLPClassifier((20,), max_iter=6, random_state=0).fit(*train, validation_data=held)
    history = clf.history_
    assert list(history) == ["loss", "validation_loss", "validation_score", "seconds", "learning_rate"]
    assert history.epochs == 6
    assert history["loss"].tolist() == clf.loss_curve_
    assert history["validation_score"][-1] == clf.score(*held)
    assert history["validation_loss"][-1] == pytest.approx(clf.network_.evaluate(*held)["loss"])
    assert clf.validation_scores_ is None
    np.testing.assert_array_equal(clf.coefs_[0], MLPClassifier((20,), max_iter=6, random_state=0).fit(*train).coefs_[0])


@UNFINISHED
@BOTH
def test_a_weight_of_validation_data_counts_a_sample_as_often(digits, cls):
    X, y = digits
    count = np.arange(len(y) - 200) % 4
    weighted, repeated = (X[200:], y[200:], count), (X[200:].repeat(count, 0), y[200:].repeat(count))
    fits = [
        cls(hidden_layer_sizes=(20,), max_iter=4, random_state=0).fit(X[:200], y[:200], validation_data=v)
        for v in (weighted, repeated)
    ]
    for curve in ("validation_loss", "validation_score"):
        np.testing.assert_allclose(fits[0].history_[curve], fits[1].history_[curve], rtol=1e-10)
    plain = cls(hidden_layer_sizes=(20,), max_iter=4, random_state=0).fit(
        X[:200], y[:200], validation_data=weighted[:2]
    )
    assert abs(plain.history_["validation_loss"] / fits[0].history_["validation_loss"] - 1).min() > 1e-4


@UNFINISHED
def test_early_stopping_on_given_data_trains_on_all_the_rest(numbers):
    X, y = numbers
    weight = np.linspace(0.5, 1.5, 50)
    reg = MLPRegressor(
        hidden_layer_sizes=(20,), early_stopping=True, max_iter=200, learning_rate_init=0.02, random_state=0
    )
    reg.fit(X[:100], y[:100], validation_data=(X[100:], y[100:], weight))
    assert reg.validation_scores_ == reg.history_["validation_score"].tolist()
    assert reg.best_validation_score_ == max(reg.validation_scores_)
    assert reg.score(X[100:], y[100:], weight) == pytest.approx(reg.best_validation_score_)
    assert reg.t_ == 100 * reg.n_iter_


def test_validation_data_are_checked(iris):
    X, y = iris
    with pytest.raises(ValueError, match=r"validation_data must be \(X, y\) or"):
        MLPClassifier().fit(X, y, validation_data=X)
    with pytest.raises(ValueError, match=r"`y` has classes not in `self\.classes_`"):
        MLPClassifier().fit(X, y, validation_data=(X, y + 1))
    with pytest.raises(ValueError, match="X has 3 features, but MLPClassifier is expecting 4"):
        MLPClassifier().fit(X, y, validation_data=(X[:, :3], y))


@UNFINISHED
@BOTH
def test_partial_fit_stops_early_and_goes_back_to_the_best(numbers, binary, cls):
    X, y = numbers if cls is MLPRegressor else binary
    est = cls(
        hidden_layer_sizes=(15,),
        early_stopping=True,
        n_iter_no_change=3,
        tol=1e-3,
        random_state=0,
        learning_rate_init=0.05,
    )
    best, held = -np.inf, (X[100:], y[100:])
    classes = {"classes": [0, 1]} if cls is MLPClassifier else {}
    for call in range(300):
        est.partial_fit(X[:100], y[:100], validation_data=held, **classes)
        best = max(best, est.validation_scores_[-1])
        assert len(est.validation_scores_) == call + 1
        if est.stopped_:
            break
    assert est.stopped_
    assert 4 < call < 299
    assert est.best_validation_score_ == best
    assert est.score(*held) == pytest.approx(best)
    again = pickle.loads(pickle.dumps(est))
    for each in (est, again):
        each.partial_fit(X[:100], y[:100], validation_data=held)
    assert np.array_equal(est.network_.theta, again.network_.theta)
    assert est.score(*held) >= best - 1e-12


@UNFINISHED
def test_network_can_be_looked_into_saved_and_loaded(digits, counts, tmp_path):
    X, y = digits
    clf = MLPClassifier((9,), max_iter=3, random_state=0).fit(X, y)
    net = clf.network_
    np.testing.assert_allclose(net.predict_proba(X), clf.predict_proba(X))
    assert len(net.trace(X[:5], y[:5])) == 3
    loss, gradients = net.gradients(X, y)
    assert loss == pytest.approx(net.evaluate(X, y)["loss"])
    assert gradients["0.W"].shape == clf.coefs_[0].shape
    net.save(tmp_path / "net.safetensors")
    loaded = xpnet.load(tmp_path / "net.safetensors")
    assert np.array_equal(loaded.predict_proba(X), net.predict_proba(X))
    reg = MLPRegressor("poisson", (9,), max_iter=3, random_state=0).fit(*counts)
    reg.network_.save(tmp_path / "rates.safetensors")
    rates = xpnet.load(tmp_path / "rates.safetensors").predict(counts[0])
    np.testing.assert_allclose(rates[:, 0], reg.predict(counts[0]))


@UNFINISHED
@BOTH
def test_weights_that_a_user_changes_take_effect(iris, cls):
    X, y = iris
    est = cls(hidden_layer_sizes=(4,), max_iter=3, random_state=0).fit(X, y)
    before = est.network_.theta.copy()
    est.coefs_[1][...] *= 2.0  # in place: the network's own memory
    est.intercepts_[1][...] = 0.0
    assert np.abs(est.network_.theta - before).max() > 0
    doubled = est.network_.forward(X)
    est.coefs_ = [W.copy() for W in est.coefs_]  # a list of a user's own
    est.coefs_[1] /= 2.0
    np.testing.assert_allclose(est._outputs(X, "predict")[1], doubled / 2.0)
    assert pickle.loads(pickle.dumps(est)).predict(X).tolist() == est.predict(X).tolist()
    est.partial_fit(X, y)
    assert est.coefs_[1] is not None
    np.testing.assert_allclose(est.network_.forward(X), est._outputs(X, "predict")[1])


def test_decisions_are_exact_where_probabilities_round(iris):
    clf = MLPClassifier((2,), solver="lbfgs", max_iter=500, random_state=0, alpha=0.0).fit(*iris)
    X = iris[0] * 30.0
    p, d = clf.predict_proba(X), clf.decision_function(X)
    assert (p == 0).any()
    assert np.isfinite(d).all()
    assert (d <= 0).all()
    log_p = clf.predict_log_proba(X)  # without a warning about log(0)
    assert np.array_equal(np.isinf(log_p), p == 0)
    np.testing.assert_allclose(d[p > 0], log_p[p > 0], rtol=1e-6, atol=1e-15)
    np.testing.assert_array_equal(clf.classes_[d.argmax(axis=1)], clf.predict(X))
    near = clf.network_.forward(X)
    rows = np.flatnonzero((p.max(axis=1) == 1) & (np.diff(np.sort(near, axis=1))[:, -1] < 700))
    assert rows.size
    assert (d[rows].max(axis=1) < 0).all()  # a probability that rounds to 1 is told from 1


@UNFINISHED
def test_decisions_about_two_classes_and_several_labels(binary, labels):
    for data in (binary, labels):
        clf = MLPClassifier((3,), solver="lbfgs", max_iter=30, random_state=0, alpha=0.1).fit(*data)
        p, d = clf.predict_proba(data[0]), clf.decision_function(data[0])
        np.testing.assert_allclose(d, np.log(p[:, 1] / p[:, 0]) if d.ndim == 1 else np.log(p / (1 - p)), rtol=1e-6)
