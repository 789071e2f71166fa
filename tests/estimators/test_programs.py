"""Compiled steps stay with an estimator that goes on, and go with it; validation is captured as in every training."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Iterator
from typing import Any

import cuda_c
import cuda_host
import numpy as np
import pytest
import scipy.sparse

import xpnet
from xpnet.backends.base import Backend
from xpnet.backends.numpy import NumpyBackend
from xpnet.estimators import MLPClassifier, MLPRegressor
from xpnet.estimators.trainer import EpochTrainer

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(330, 5)).astype(np.float32), RNG.integers(0, 3, 330)
PARTS = [slice(start, start + 110) for start in (0, 110, 220)]
SMALL: dict[str, Any] = {"hidden_layer_sizes": (6,), "batch_size": 3, "random_state": 0}
STEPS_PER_CALL = 37  # 36 of three samples, and one of two
GPU = pytest.param("stand-in", marks=pytest.mark.skipif(cuda_c.COMPILER is None, reason=cuda_c.NO_COMPILER))


class Watched:
    """A backend that counts what it compiles and captures, and knows which of these programs are still alive."""

    def __init__(self, backend: Backend) -> None:
        self.backend, self.made = backend, list[Any]()
        self.captured = 0
        compiling, capturing = backend.compile, backend.capture

        def compile(*parts: Any) -> Any:
            program = compiling(*parts)
            self.made.append(weakref.ref(program))
            return program

        def capture(*parts: Any) -> Any:
            self.captured += 1
            return capturing(*parts)

        backend.compile, backend.capture = compile, capture  # type: ignore[method-assign]

    @property
    def alive(self) -> int:
        return sum(program() is not None for program in self.made)


@pytest.fixture(params=["numpy", GPU])
def watched(request: Any) -> Iterator[Watched]:
    """Return a backend of its own, with a collector that is switched off: nothing may wait for it."""
    found = Watched(NumpyBackend() if request.param == "numpy" else cuda_host.HostCupy())
    gc.collect()
    gc.disable()
    yield found
    gc.enable()


def on(backend: Backend | None, **options: Any) -> Any:
    return MLPClassifier(**{"backend": backend} | SMALL | options)


def test_a_second_partial_fit_compiles_nothing_and_gives_the_same_numbers(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, anew = on(watched.backend), on(watched.backend)
    for part in PARTS:
        kept.partial_fit(X[part], Y[part], classes=[0, 1, 2])
    assert len(watched.made) == 2  # for full batches, and for the rest
    monkeypatch.setattr(EpochTrainer, "serves", lambda *_: False)
    for part in PARTS:
        anew.partial_fit(X[part], Y[part], classes=[0, 1, 2])
    assert len(watched.made) == 8
    np.testing.assert_array_equal(kept.coefs_[0], anew.coefs_[0])
    assert kept.loss_curve_ == anew.loss_curve_


@pytest.mark.parametrize("options", [{}, {"solver": "sgd", "alpha": 0.1}, {"solver": xpnet.RMSProp(0.01)}])
def test_a_warm_start_compiles_nothing_and_gives_the_same_numbers(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, options: Any
) -> None:
    """The solver begins anew at each `fit`, and so do the orders of the samples."""
    kept, anew = (on(watched.backend, warm_start=True, max_iter=1, **options) for _ in range(2))
    for part in PARTS:
        kept.fit(X[part], Y[part])
    assert len(watched.made) == 2
    monkeypatch.setattr(EpochTrainer, "serves", lambda *_: False)
    for part in PARTS:
        anew.fit(X[part], Y[part])
    np.testing.assert_array_equal(kept.coefs_[0], anew.coefs_[0])


def test_few_steps_at_a_time_are_recorded_once_they_are_many(watched: Watched) -> None:
    est = on(watched.backend, batch_size=110)
    counts = []
    for _ in range(34):
        est.partial_fit(X[:110], Y[:110], classes=[0, 1, 2])
        counts.append(len(watched.made))
    assert counts == [0] * 31 + [1] * 3


@pytest.mark.parametrize(
    "change", [{"alpha": 0.5}, {"learning_rate_init": 0.1}, {"batch_size": 4}, {"shuffle": False}, {"beta_1": 0.5}]
)
def test_what_is_compiled_into_a_step_is_never_old(change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = []
    for _ in range(2):
        est = on(None, warm_start=True, max_iter=1).fit(X[:110], Y[:110])
        est.set_params(**change).fit(X[110:220], Y[110:220])
        outcomes.append(est.coefs_[0])
        monkeypatch.setattr(EpochTrainer, "serves", lambda *_: False)
    np.testing.assert_array_equal(*outcomes)


@pytest.mark.parametrize("kind", ["sparse", "weights", "coefs_", "theta"])
def test_other_kinds_of_data_and_weights_of_ones_own_go_on_as_ever(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = []
    for _ in range(2):
        est = MLPRegressor(**SMALL)
        for part in PARTS:
            x = scipy.sparse.csr_array(X[part]) if kind == "sparse" else X[part]
            weight = {"sample_weight": np.arange(110) + float(part.start)} if kind == "weights" else {}
            est.partial_fit(x, 1.0 * Y[part], **weight)
            if kind == "coefs_":
                est.coefs_ = [0.5 * W for W in est.coefs_]
            if kind == "theta":
                est.network_.theta = 0.5 * est.network_.theta
        outcomes.append(est.coefs_[0])
        monkeypatch.setattr(EpochTrainer, "serves", lambda *_: False)
    np.testing.assert_array_equal(*outcomes)


def test_the_users_samples_are_not_written_over() -> None:
    x, y = X[:110].astype(np.float64), RNG.normal(size=(110, 2))
    before = x.copy(), y.copy()
    est = MLPRegressor(**SMALL).partial_fit(x, y)
    est.partial_fit(2.0 * x, 2.0 * y)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])


def test_programs_go_with_the_estimator_and_not_with_its_copies(watched: Watched) -> None:
    est = on(watched.backend).partial_fit(X[:110], Y[:110], classes=[0, 1, 2])
    assert watched.alive == 2
    copies = [copy.copy(est), copy.deepcopy(est)]
    if isinstance(watched.backend, NumpyBackend):
        copies.append(pickle.loads(pickle.dumps(est)))
    assert not any("_trainer" in vars(each) for each in copies)
    del est
    assert watched.alive == 0
    for each in copies[1:]:
        each.partial_fit(X[110:220], Y[110:220])


def test_many_trainings_leave_what_two_leave(watched: Watched) -> None:
    counts = []
    for k in range(6):
        est = on(watched.backend, warm_start=k % 2 == 0, max_iter=1)
        for _ in range(1 + k % 2):
            est.fit(X[:110], Y[:110])
        counts.append((watched.alive, cuda_host.Scratch.used))
    assert {*counts[1::2]} == {counts[1]}
    assert {*counts[2::2]} == {counts[2]}
    assert counts[2][0] == 2  # those of the estimator that is there


@pytest.mark.skipif(cuda_c.COMPILER is None, reason=cuda_c.NO_COMPILER)
def test_on_a_device_validation_is_captured_from_the_second_epoch_on() -> None:
    watched = Watched(cuda_host.HostCupy())
    est = on(watched.backend, max_iter=4).fit(X[:110], Y[:110], validation_data=(X[110:], Y[110:]))
    assert watched.captured == 1
    assert est.history_["validation_score"][-1] == est.score(X[110:], Y[110:])


@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
def test_sparse_validation_data_are_measured_as_dense_ones_are(cls: Any) -> None:
    histories = []
    for kind in (np.asarray, scipy.sparse.csr_array):
        est = cls(max_iter=3, hidden_layer_sizes=(6,), random_state=0)
        weight = np.arange(220.0)
        histories.append(est.fit(X[:110], Y[:110], validation_data=(kind(X[110:]), Y[110:], weight)).history_)
    for curve in ("validation_loss", "validation_score"):
        np.testing.assert_array_equal(histories[0][curve], histories[1][curve])
