"""Estimators on data in files: read as a whole where they fit, and else streamed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sources
from numpy.testing import assert_array_equal
from sources import SAMPLES, Sliced

from xpnet.errors import DataError
from xpnet.estimators import MLPClassifier, MLPRegressor, intake, trainer

X, T = sources.samples("float32")
X /= 255


def test_estimators_take_files() -> None:
    made = [MLPClassifier((5,), max_iter=3, random_state=0, tol=0) for _ in range(2)]
    for model, data, t in zip(made, (X, Sliced(X)), (T, Sliced(T)), strict=True):
        with pytest.warns(UserWarning, match="Maximum iterations"):
            model.fit(data, t)
        model.partial_fit(data, t)
    assert_array_equal(made[0].predict_proba(X), made[1].predict_proba(Sliced(X)))
    assert made[0].score(X, T) == made[1].score(Sliced(X), Sliced(T))


@pytest.mark.parametrize("weight", [None, np.arange(SAMPLES) + 1.0])
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_estimators_stream_what_does_not_fit(kind: Any, weight: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x = X[:, :2]
    y = (x[:, 0] > x[:, 1]).astype(str) if kind is MLPClassifier else x @ [[1, 2], [3, 4]]
    for module in (intake, trainer):
        monkeypatch.setattr(module, "free_memory", lambda backend: 15_000)
    rows = Sliced(x)
    options = {"learning_rate_init": 0.01, "batch_size": 50, "tol": 0, "n_iter_no_change": 99}
    model = kind(hidden_layer_sizes=(16,), max_iter=40, random_state=0, **options)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model.fit(rows, y, weight)
    assert max(stop - start for start, stop in rows.slices) < 100
    assert model.score(rows, y) == pytest.approx(model.score(x, y))
    assert model.score(rows, y) > 0.9
    before = model.loss_
    model.partial_fit(rows, y, weight)
    assert model.loss_ < 1.2 * before
    assert sources.no_threads()
    with pytest.raises(ValueError, match="X has 3 features, but MLP"):
        model.predict(Sliced(X[:, :3]))
    wrong = x.copy()
    wrong[700, 1] = np.nan
    with pytest.raises(DataError, match=r"X contains NaN: X\[700, 1\]"):
        model.predict(Sliced(wrong))
    with pytest.raises(DataError, match=r"\(rows \d+ to \d+\): x contains NaN: x\[700, 1\]"):
        model.fit(Sliced(wrong), y)
    model.set_params(solver="lbfgs", max_iter=1000, tol=0.1).fit(rows, y)  # reads all of them
    model.set_params(solver="adam", early_stopping=True)
    with pytest.raises(DataError, match="early_stopping sets samples of everywhere aside"):
        model.fit(rows, y)
    assert sources.no_threads()
