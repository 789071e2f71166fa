"""Metrics by name and by function, of training and validation data."""

import sys

import numpy as np
import problems
import pytest
from array_backends import make
from numpy.testing import assert_allclose
from sklearn.metrics import r2_score, roc_auc_score

import xpnet
from xpnet.errors import ConfigError

X, T = problems.three_classes()


def largest(t, p):
    return p.max()


@pytest.mark.parametrize("backend", ["numpy", "device1"])
def test_metrics_are_measured_on_training_and_validation_data(backend):
    net = problems.classifier(backend=make(backend))
    history = net.fit(
        X[20:], T[20:], epochs=2, validation_data=(X[:20], T[:20]), metrics=["accuracy", "auc", largest], verbose=False
    )
    names = ["loss", "accuracy", "auc", "largest", "validation_loss", "validation_accuracy", "validation_auc"]
    assert list(history) == [*names, "validation_largest", "seconds", "learning_rate"]
    p = net.predict_proba(X)
    assert history["accuracy"][-1] == np.mean(net.predict(X[20:]) == T[20:])
    assert_allclose(history["validation_auc"][-1], roc_auc_score(T[:20], p[:20], multi_class="ovr"), rtol=1e-6)
    assert history["largest"][-1] == p[20:].max()
    assert history["validation_accuracy"][-1] == net.evaluate(X[:20], T[:20])["accuracy"]
    measured = net.evaluate(X, T, metrics=largest)
    assert list(measured) == ["loss", "accuracy", "largest"]
    assert measured["largest"] == p.max()


def test_metrics_change_nothing_and_an_average_is_measured_where_there_is_one():
    plain, measured = problems.classifier(), problems.classifier()
    plain.fit(X, T, epochs=2, averaging=0.9, verbose=False)
    history = measured.fit(X, T, epochs=2, averaging=0.9, metrics="accuracy", verbose=False)
    assert np.array_equal(plain.theta, measured.theta)
    assert history["accuracy"][-1] == measured.evaluate(X, T)["accuracy"]


def test_r2_and_auc_are_scikit_learns():
    rng = np.random.default_rng(0)
    t, w = rng.normal(size=(40, 2)), rng.uniform(0.1, 1.0, 40)
    x = rng.normal(size=(40, 3)).astype("f4")
    net = xpnet.mlp([3, 2], loss="mean_squared_error")
    assert_allclose(net.evaluate(x, t, w, metrics="r2")["r2"], r2_score(t, net.predict(x), sample_weight=w), rtol=1e-6)
    one = xpnet.mlp([3, 1], loss="binary_cross_entropy")
    yes = rng.integers(0, 2, 40)
    expected = roc_auc_score(yes, one.predict_proba(x)[:, 1], sample_weight=w)
    assert_allclose(one.evaluate(x, yes, w, metrics=["auc"])["auc"], expected, rtol=1e-6)
    two = xpnet.mlp([3, 2])
    assert_allclose(two.evaluate(x, yes, metrics="auc")["auc"], roc_auc_score(yes, two.predict_proba(x)[:, 1]))
    assert two.evaluate(x, yes, w, metrics="accuracy")["accuracy"] == pytest.approx(
        np.average(two.predict(x) == yes, weights=w)
    )


def test_early_stopping_waits_for_the_largest_auc():
    stopping = xpnet.EarlyStopping("auc", patience=1, restore_best=False)
    history = problems.classifier().fit(
        X, T, epochs=30, metrics="auc", callbacks=stopping, optimizer=xpnet.SGD(1e-9), verbose=False
    )
    assert history.epochs == 2
    assert stopping.best == -history["auc"][0]


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ("acuracy", r"metrics\[0\] is 'acuracy'; names are accuracy, auc, r2.*Did you mean 'accuracy'"),
        (["accuracy", "r2"], r"metrics\[1\] 'r2' is for losses of the kind regression; the network has CrossEntropy"),
        (3, "metrics must be names or functions"),
    ],
)
def test_metrics_that_do_not_fit_are_refused(metrics, message):
    for call in (lambda net: net.fit(X, T, metrics=metrics), lambda net: net.evaluate(X, T, metrics=metrics)):
        with pytest.raises(ConfigError, match=message):
            call(problems.classifier())


def test_auc_without_scikit_learn_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(ImportError, match=r'pip install "xpnet\[sklearn\]"'):
        problems.classifier().evaluate(X, T, metrics="auc")
