"""Interruptions, and numbers that stop being finite."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from array_backends import EagerBackend
from scipy.sparse import csr_array
from sklearn.exceptions import ConvergenceWarning

import xpnet
from xpnet.errors import NonFiniteError, OutOfMemoryError, XpnetError
from xpnet.estimators import DivergenceError, MLPClassifier, MLPRegressor

BOTH = pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
UNFINISHED = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@dataclass(frozen=True, kw_only=True)
class Bomb(xpnet.Optimizer):
    """Gradient descent that is interrupted in the middle of its k-th update, and remembers where each began."""

    at: int
    seen: list = field(default_factory=list)

    def update(self, xp, theta, g, rate):
        self.seen.append(theta.copy())
        half = theta.shape[0] // 2
        theta[:half] -= rate * g[:half]
        if len(self.seen) == self.at:
            raise KeyboardInterrupt
        theta[half:] -= rate * g[half:]


@UNFINISHED
@pytest.mark.parametrize("at", [1, 7, 12, 20])
def test_an_interruption_leaves_the_last_whole_step(digits, at):
    X, y = digits  # six steps an epoch
    bomb = Bomb(learning_rate=0.1, at=at)
    clf = MLPClassifier((6,), solver=bomb, random_state=0, batch_size=50, backend=EagerBackend(), max_iter=9)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        assert clf.fit(X, y) is clf
    assert np.array_equal(clf.network_.theta, bomb.seen[at - 1])
    assert clf._optimizer.step == at - 1
    assert len(clf.loss_curve_) == clf.n_iter_ == (at - 1) // 6
    assert clf.predict(X).shape == y.shape


def diverging(iris, **options):
    return MLPRegressor(
        hidden_layer_sizes=(50,),
        activation="identity",
        solver="sgd",
        learning_rate_init=1.0,
        max_iter=20,
        random_state=0,
        **options,
    ).fit(*iris)


@UNFINISHED
def test_divergence_is_an_error_with_a_reason_if_that_is_wanted(iris):
    for options in ({}, {"early_stopping": True, "on_divergence": "raise"}):
        with pytest.raises(DivergenceError, match=r"epoch \d+, step 1: the .*Try a learning rate below 1, ") as caught:
            diverging(iris, **options)
        assert "Solver produced non-finite parameter weights." in str(caught.value)
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, NonFiniteError | XpnetError | FloatingPointError)


def test_divergence_under_early_stopping_warns_with_the_reason(iris):
    with pytest.warns(ConvergenceWarning, match=r"Training diverged and was ended; .*epoch \d+, step 1"):
        reg = diverging(iris, early_stopping=True)
    assert len(reg.loss_curve_) == len(reg.validation_scores_) == reg.n_iter_ < 20
    assert reg.score(*iris) > -1e6


def test_divergence_on_sparse_rows_says_where(iris):

    with pytest.raises(DivergenceError, match=r"epoch \d+, step 1: the "):
        diverging((csr_array(iris[0]), iris[1]))


def test_after_a_divergence_the_network_is_that_of_the_last_finite_step(iris):
    reg = MLPRegressor(
        hidden_layer_sizes=(50,), activation="identity", solver="sgd", learning_rate_init=1.0, random_state=0
    )

    def go_on():
        for _ in range(20):
            reg.partial_fit(*iris)

    with pytest.raises(DivergenceError):
        go_on()
    assert np.isfinite(reg.network_.theta).all()


@UNFINISHED
@BOTH
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_memory_that_runs_out_is_explained(iris, monkeypatch, cls, solver):
    X, y = iris
    est = cls(hidden_layer_sizes=(3,), solver=solver, max_iter=2, random_state=0)

    def scarce(*args, **options):
        raise MemoryError("Unable to allocate 7.28 TiB for an array")

    def runs_out(doing, call):
        with pytest.raises(
            OutOfMemoryError,
            match=rf"{doing}( with batch_size=150)? ran out of memory on numpy: Unable to allocate 7\.28 TiB",
        ):
            call(X, y)

    with monkeypatch.context() as context:
        context.setattr("xpnet.estimators.base.check_X", scarce)
        runs_out("checking the data", est.fit)
    with monkeypatch.context() as context:
        context.setattr(xpnet.Linear, "backward", scarce)
        runs_out("training", est.fit)
    est.fit(X, y)  # the same process
    with monkeypatch.context() as context:
        context.setattr(xpnet.Linear, "forward", scarce)
        runs_out("prediction", lambda X, y: est.predict(X))
