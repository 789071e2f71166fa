"""Estimators on a device that is not the current one: whatever they do there they do after making it so."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from guarded import GuardedBackend

from xpnet.estimators import MLPClassifier, MLPRegressor

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
