"""Estimators on a device that is not the current one: whatever they do there they do after making it so."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from guarded import Guarded, GuardedBackend

from xpnet.estimators import MLPClassifier, MLPRegressor, arrays, base, classifier, fitted, intake

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
CLASSES, NUMBERS = np.arange(60) % 3, X[:, :2] - X[:, 2:]
WAYS: list[dict[str, Any]] = [
    {}, {"early_stopping": True}, {"early_stopping": True, "warm_start": True},
    {"solver": "sgd", "learning_rate": "adaptive"}, {"solver": "lbfgs"},
]  # fmt: skip


@pytest.mark.parametrize("options", WAYS, ids=str)
@pytest.mark.parametrize(("cls", "y"), [(MLPClassifier, CLASSES), (MLPRegressor, NUMBERS)])
def test_everything_works(cls: Any, y: Any, options: dict[str, Any], tmp_path: Path) -> None:
    est = cls(hidden_layer_sizes=(5,), max_iter=4, batch_size=10, backend=GuardedBackend(), random_state=0, **options)
    given = {"validation_data": (X, y)} if "warm_start" in options else {}
    for _ in range(2):
        est.fit(X, y, sample_weight=np.arange(60) + 1.0, **given)
    if given or not {"lbfgs", True} & {*options.values()}:
        est.partial_fit(X, y, **given)
    est.predict(X), est.score(X, y)
    if cls is MLPClassifier:
        est.predict_proba(X), est.predict_log_proba(X), est.decision_function(X)
    with est.network_.backend.active():
        est.coefs_ = [2.0 * W for W in est.coefs_]
    est.predict(X)
    for other in (copy.deepcopy(est), pickle.loads(pickle.dumps(est))):
        np.testing.assert_array_equal(other.predict(X), est.predict(X))
    est.save(tmp_path / "est.safetensors")
    np.testing.assert_array_equal(cls.load(tmp_path / "est.safetensors").predict(X), est.predict(X))


def test_samples_that_are_there_already(monkeypatch: pytest.MonkeyPatch) -> None:
    there, known = GuardedBackend(), arrays.backend_of
    for module in (arrays, base, classifier, fitted, intake):
        monkeypatch.setattr(module, "backend_of", lambda a: there if isinstance(a, Guarded) else known(a))
    x = there.asarray(X)
    for y in (CLASSES, CLASSES == 1, np.stack([CLASSES == 1, CLASSES == 2], axis=1)):
        est = MLPClassifier((5,), max_iter=4, random_state=0).fit(x, y)
        twin = MLPClassifier((5,), max_iter=4, random_state=0).fit(X, y)
        for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
            found = getattr(est, method)(x)
            assert isinstance(found, Guarded)
            np.testing.assert_allclose(there.to_numpy(found), getattr(twin, method)(X), rtol=1e-5)
        assert est.score(x, y) == twin.score(X, y)
    regressor = MLPRegressor(hidden_layer_sizes=(5,), max_iter=4, random_state=0).fit(x, NUMBERS)
    assert isinstance(regressor.predict(x), Guarded)
