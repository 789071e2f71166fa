"""Fitted estimators as ONNX files: labels, probabilities and values are those of `predict` and `predict_proba`."""

import json

import numpy as np
import pytest
from onnx_files import File, far
from sklearn.exceptions import NotFittedError

from xpnet.estimators import MLPClassifier, MLPRegressor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
CODES = (X[:, 0] + X[:, 1] > 0).astype(int) + (X[:, 2] > 0.5)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize(
    "y",
    [CODES, np.asarray(["low", "middle", "high"])[CODES], np.asarray([10, -3, 7])[CODES], CODES > 0,
     np.asarray(["no", "yes"])[np.minimum(CODES, 1)], (X[:, :3] > 0).astype(int)],
    ids=["numbers", "words", "other numbers", "booleans", "yes or no", "several labels"],
)  # fmt: skip
def test_a_classifier_is_exported_with_its_labels(y, tmp_path):
    model = MLPClassifier((6,), max_iter=5, random_state=0).fit(X, y)
    model.to_onnx(tmp_path / "model.onnx")
    file = File(tmp_path / "model.onnx")
    assert list(file.inputs) == ["X"]
    assert file.outputs[:2] == ["label", "probabilities"]
    found = file(X=X[:7])
    assert (found["label"] == model.predict(X[:7])).all()
    assert found["label"].dtype == (object if y.dtype.kind == "U" else np.int64)
    assert far(found["probabilities"], model.predict_proba(X[:7])) < 1e-5
    if y.ndim == 1:
        assert json.loads(file.metadata["classes"]) == model.classes_.tolist()


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_a_regressor_is_exported(loss, outputs, tmp_path):
    model = MLPRegressor(loss, (6,), activation="logistic", max_iter=5, random_state=0)
    model.fit(X.astype(float), np.abs(X[:, :outputs]).squeeze())
    model.to_onnx(tmp_path / "model.onnx", batch=7)
    expected = model.predict(X[:7].astype(float)).reshape(7, outputs)
    assert far(File(tmp_path / "model.onnx")(X=X[:7])["variable"], expected) < 1e-5
    model.to_onnx(tmp_path / "model.onnx", dtype=None)
    assert far(File(tmp_path / "model.onnx")(X=X[:7].astype(float))["variable"], expected) < 1e-12


def test_what_is_not_fitted_is_not_exported(tmp_path):
    for model in (MLPClassifier(), MLPRegressor()):
        with pytest.raises(NotFittedError):
            model.to_onnx(tmp_path / "model.onnx")
