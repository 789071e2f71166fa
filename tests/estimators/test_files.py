"""Estimators as files that cannot run code."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

import xpnet
from xpnet.errors import CheckpointError
from xpnet.estimators import MLPClassifier, MLPRegressor
from xpnet.files.tensors import read_tensors, write_tensors

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
rng = np.random.default_rng(0)
X = pd.DataFrame(rng.normal(size=(60, 3)), columns=["age", "height", "weight"])
LABELS = {
    "text": np.asarray(["c", "a", "b"])[np.arange(60) % 3],
    "objects": np.asarray(["c", "a", "b"], dtype=object)[np.arange(60) % 3],
    "two": np.asarray([7, 3])[np.arange(60) % 2],
    "truth": np.arange(60) % 2 == 0,
    "several at once": (rng.uniform(size=(60, 3)) > 0.5).astype(int),
}


@pytest.mark.parametrize("y", LABELS.values(), ids=LABELS)
def test_a_classifier_comes_back_with_its_labels_and_the_names_of_the_features(tmp_path, y):
    solver = xpnet.SGD(0.1, momentum=0.9)
    est = MLPClassifier((5,), max_iter=3, random_state=1, tol=0.0, solver=solver, activation=xpnet.ELU(0.5)).fit(X, y)
    est.save(tmp_path / "f")
    again = MLPClassifier.load(tmp_path / "f")
    assert_array_equal(again.predict(X), est.predict(X))
    assert again.predict(X).dtype == est.predict(X).dtype
    assert_array_equal(again.predict_proba(X), est.predict_proba(X))
    assert_array_equal(again.classes_, est.classes_)
    assert_array_equal(again.feature_names_in_, ["age", "height", "weight"])
    with pytest.raises(ValueError, match="feature names"):
        again.predict(X.rename(columns={"age": "years"}))
    assert again.get_params() == est.get_params()
    assert again.score(X, y) == est.score(X, y)
    assert_array_equal(xpnet.load(tmp_path / "f").theta, est.network_.theta)
    again.set_params(max_iter=1).fit(X, y)  # and it can be trained


def test_a_regressor_comes_back(tmp_path):
    est = MLPRegressor(hidden_layer_sizes=(4,), max_iter=2, tol=0.0, random_state=0).fit(
        X.to_numpy(), X.to_numpy()[:, :2]
    )
    est.save(tmp_path / "f")
    assert_array_equal(MLPRegressor.load(tmp_path / "f").predict(X.to_numpy()), est.predict(X.to_numpy()))
    with pytest.raises(CheckpointError, match="expected MLPClassifier and its parameters, got 'MLPRegressor'"):
        MLPClassifier.load(tmp_path / "f")
    xpnet.mlp([2, 2]).save(tmp_path / "net")
    with pytest.raises(CheckpointError, match="expected a description with network, estimator"):
        MLPRegressor.load(tmp_path / "net")


def test_what_a_file_cannot_describe_is_said(tmp_path):
    est = MLPClassifier((3,), max_iter=1, tol=0.0, random_state=np.random.RandomState(0)).fit(X, LABELS["two"])
    with pytest.raises(CheckpointError, match="random_state is RandomState"):
        est.save(tmp_path / "f")


@pytest.mark.parametrize(
    "change",
    [
        {"kind_of_labels": "multilabel-indicator"},
        {"kind_of_labels": None},
        {"kind_of_labels": "binary"},
        {"n_features_in_": 4},
        {"parameters": {"nonsense": 3}},
        {"more": 1},
    ],
    ids=str,
)
def test_a_file_that_was_changed_is_refused(tmp_path, change):
    MLPClassifier((3,), max_iter=1, tol=0.0, random_state=0).fit(X, LABELS["text"]).save(tmp_path / "f")
    tensors, description = read_tensors(tmp_path / "f")
    write_tensors(tmp_path / "f", tensors, description | {"estimator": description["estimator"] | change})
    with pytest.raises(CheckpointError, match="estimator"):
        MLPClassifier.load(tmp_path / "f")


@pytest.mark.parametrize("y", LABELS.values(), ids=LABELS)
def test_the_network_alone_answers_with_the_labels(tmp_path, y):
    est = MLPClassifier((5,), max_iter=3, random_state=1, tol=0.0).fit(X, y)
    est.save(tmp_path / "f")
    est.network_.save(tmp_path / "net")
    for net in (*map(xpnet.load, (tmp_path / "f", tmp_path / "net")), est.network_, est.network_.copy()):
        assert_array_equal(net.predict(X), est.predict(X))
        assert net.predict(X).dtype == est.predict(X).dtype
    est.coefs_ = [W * 1.0 for W in est.coefs_]  # a user's own weights
    est.save(tmp_path / "f")
    assert_array_equal(xpnet.load(tmp_path / "f").predict(X), est.predict(X))


def test_a_classifier_of_one_class_is_not_saved(tmp_path):
    est = MLPClassifier((3,), max_iter=1, tol=0.0).fit(X, ["a"] * 60)
    with pytest.raises(CheckpointError, match="of the single class"):
        est.save(tmp_path / "f")
