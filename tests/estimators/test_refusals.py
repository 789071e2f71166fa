"""What is refused, and that a refused call changes nothing."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

import xpnet
from xpnet.errors import BackendMismatchError
from xpnet.estimators import MLPClassifier, MLPRegressor

BOTH = pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
UNFINISHED = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@BOTH
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_layer_sizes": (3, -1)}, r"hidden_layer_sizes must be > 0, got \[3, -1\]."),
        ({"hidden_layer_sizes": (3, 2.5)}, r"hidden_layer_sizes must be integers, got \[3, 2.5\]"),
        ({"hidden_layer_sizes": 0}, "The 'hidden_layer_sizes' parameter of"),
        ({"activation": "softsign"}, "The 'activation' parameter of"),
        ({"solver": "rmsprop"}, "The 'solver' parameter of"),
        ({"dropout": 1.0}, "The 'dropout' parameter of"),
        ({"backend": 3}, "The 'backend' parameter of"),
        ({"backend": "cuda"}, "unknown backend 'cuda'"),
        ({"on_divergence": "ignore"}, "The 'on_divergence' parameter of"),
        ({"momentum": 1.1}, "The 'momentum' parameter of"),
        ({"max_iter": 0}, "The 'max_iter' parameter of"),
    ],
)
def test_impossible_parameters(iris, cls, options, message):
    with pytest.raises(ValueError, match=message):
        cls(**options).fit(*iris)


@UNFINISHED
@BOTH
def test_a_refused_call_leaves_the_fitted_estimator_as_it_was(iris, cls):
    X, y = iris
    est = cls(hidden_layer_sizes=(3,), max_iter=2, random_state=0).fit(X, y)
    before = pickle.dumps(est)
    bad = [
        ((X[:, :2], y[:-1]), {}),
        ((X[:, :2], y), {"sample_weight": np.ones(3)}),
        ((X[:, :2], y), {"validation_data": (X, y)}),
        ((np.full_like(X, np.nan), y), {}),
        ((X[:, :3], np.zeros((150, 2, 2))), {}),
        ((X[:, :3], None), {}),
        ((X, y), {"sample_weight": np.zeros(150)}),
    ]
    for data, options in bad:
        for call in (est.fit, est.partial_fit):
            with pytest.raises(ValueError):
                call(*data, **options)
            assert pickle.dumps(est) == before
    if cls is MLPClassifier:
        fresh = MLPClassifier()
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            fresh.partial_fit(X, y[:-1], classes=[0, 1, 2])
        assert not hasattr(fresh, "classes_")


@UNFINISHED
def test_what_changes_between_warm_starts(iris, numbers):
    X, y = iris
    clf = MLPClassifier((4,), max_iter=2, random_state=0, warm_start=True).fit(X, y)
    theta = clf.network_.theta.copy()
    with pytest.warns(UserWarning, match=r"hidden_layer_sizes is now \[5\], but training goes on"):
        clf.set_params(hidden_layer_sizes=(5,)).fit(X, y)
    assert clf.coefs_[0].shape == (4, 4)
    clf.set_params(hidden_layer_sizes=(4,), activation="tanh", solver="lbfgs", max_iter=1).fit(X, y)
    assert type(clf.network_.layers[1]).__name__ == "Tanh"
    assert np.abs(clf.network_.theta - theta).max() < 10
    clf.set_params(solver="adam", early_stopping=True).fit(X, y)
    assert len(clf.validation_scores_) == 1
    reg = MLPRegressor(max_iter=2, warm_start=True).fit(*numbers)
    with pytest.raises(ValueError, match="y has 2 outputs, the fitted network 1"):
        reg.fit(numbers[0], np.c_[numbers[1], numbers[1]])


def test_batches_larger_than_the_data_are_clipped_with_a_warning(iris):
    with pytest.warns(UserWarning, match="Got `batch_size` less than 1 or larger than sample size"):
        MLPClassifier((2,), batch_size=1000, max_iter=300, tol=1.0, random_state=0).fit(*iris)


def test_a_backend_that_is_not_here_is_an_error(iris):
    if xpnet.backends.available()["cupy"] is None:
        pytest.skip("CuPy works on this machine")
    with pytest.raises(ImportError, match="backend 'cupy'"):
        MLPClassifier(backend="cupy").fit(*iris)


def test_arrays_of_a_library_are_not_moved_to_a_backend_that_is_named(iris, dispatch):
    strict = pytest.importorskip("array_api_strict")
    with pytest.raises(BackendMismatchError, match=r"X is on array_api_strict.*, but backend='numpy'"):
        MLPClassifier(backend="numpy").fit(strict.asarray(iris[0]), iris[1])


def test_importing_xpnet_imports_no_scikit_learn():

    code = "import sys, xpnet; sys.exit(any(name.split('.')[0] in ('sklearn', 'scipy') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
