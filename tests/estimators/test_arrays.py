"""Arrays of other libraries and devices: the answers come back where the questions came from."""

import pickle

import array_api_strict as strict
import numpy as np
import pytest
from labels import label
from sklearn.metrics import accuracy_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils._array_api import move_estimator_to

import xpnet
from xpnet.errors import BackendMismatchError
from xpnet.estimators import FittedElsewhereError, MLPClassifier, MLPRegressor, arrays

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
CPU, OTHER = strict.Device("CPU_DEVICE"), strict.Device("device1")
METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function")
SOLVERS = [{"solver": "adam"}, {"solver": "sgd", "early_stopping": True}, {"solver": "lbfgs"}]


def on(device, *arrays):
    return [strict.asarray(a, device=device) for a in arrays]


def host(a):
    return np.asarray(a.to_device(CPU))


@pytest.mark.parametrize("device", [CPU, OTHER], ids=label)
@pytest.mark.parametrize("options", SOLVERS, ids=label)
def test_answers_come_in_the_library_and_on_the_device_of_the_data(iris, pairs, dispatch, device, options):
    for cls, (X, y) in ((MLPClassifier, iris), (MLPRegressor, pairs)):
        est = cls(hidden_layer_sizes=(6,), max_iter=8, random_state=0, **options)
        X_there, y_there = on(device, X, y)
        there, here = est.fit(X_there, y_there), cls(**est.get_params()).fit(X, y)
        assert {a.device for a in there.coefs_ + there.intercepts_} == {device}
        methods = ["predict"] + (
            ["predict_proba", "predict_log_proba", "decision_function"] if cls is MLPClassifier else []
        )
        for name in methods:
            answer, expected = getattr(there, name)(X_there), getattr(here, name)(X)
            assert answer.device == device
            assert host(answer).dtype == expected.dtype
            np.testing.assert_allclose(host(answer), expected, rtol=1e-9, atol=1e-12)
        assert there.score(X_there, y_there) == pytest.approx(here.score(X, y))
        assert isinstance(there.score(X_there, y_there), float)


@pytest.mark.parametrize("kind", ["two", "several"])
def test_other_kinds_of_targets(binary, labels, dispatch, kind):
    X, y = {"two": binary, "several": labels}[kind]
    X_there, y_there = on(OTHER, X, y)
    there = MLPClassifier((5,), max_iter=10, random_state=0).fit(X_there, y_there)
    here = MLPClassifier((5,), max_iter=10, random_state=0).fit(X, y)
    np.testing.assert_array_equal(host(there.predict(X_there)), here.predict(X))
    np.testing.assert_allclose(host(there.predict_proba(X_there)), here.predict_proba(X), rtol=1e-9)


def test_targets_and_weights_follow_the_data(iris, dispatch):
    X, y = iris
    weight = np.linspace(1.0, 2.0, len(y))
    expected = MLPClassifier((4,), max_iter=5, random_state=0).fit(X, y, sample_weight=weight).network_.theta
    (X_there,) = on(OTHER, X)
    for targets, weights in (
        (y, weight), on(CPU, y, weight), on(OTHER, y, weight), (y.tolist(), weight.tolist()),
    ):  # fmt: skip
        est = MLPClassifier((4,), max_iter=5, random_state=0).fit(X_there, targets, sample_weight=weights)
        assert est.network_.theta.device == OTHER
        np.testing.assert_allclose(host(est.network_.theta), expected, rtol=1e-9)
        assert est.score(X_there, targets, sample_weight=weights) == pytest.approx(
            accuracy_score(y, host(est.predict(X_there)), sample_weight=weight)
        )
    (y_there,) = on(OTHER, y)
    assert isinstance(MLPClassifier((4,), max_iter=5, random_state=0).fit(X, y_there).network_.theta, np.ndarray)


def test_words_as_classes_come_back_as_numpy_arrays(iris, dispatch):
    X, y = iris
    (X_there,) = on(OTHER, X)
    est = MLPClassifier((4,), max_iter=30, random_state=0).fit(X_there, np.array(["a", "b", "c"])[y])
    predicted = est.predict(X_there)
    assert isinstance(predicted, np.ndarray)
    assert set(predicted) <= {"a", "b", "c"}
    assert est.predict_proba(X_there).device == OTHER


def test_fitted_on_one_device_and_asked_on_another(iris, dispatch):
    X, y = iris
    (X_there,), (X_here,) = on(OTHER, X), on(CPU, X)
    est = MLPClassifier((4,), max_iter=3).fit(X_there, y)
    for elsewhere, name in (
        (X, r"the host \(NumPy\)"),
        (X_here, "array_api_strict.*CPU_DEVICE"),
        (X.tolist(), "the host"),
    ):
        for method in METHODS:
            with pytest.raises(
                FittedElsewhereError,
                match=rf"MLPClassifier.{method}\(\) must use the same namespace and the same device.* X is on {name}",
            ):
                getattr(est, method)(elsewhere)
        for call in (est.partial_fit, est.set_params(warm_start=True).fit):
            with pytest.raises(FittedElsewhereError):
                call(elsewhere, y)
    assert issubclass(FittedElsewhereError, ValueError)
    assert issubclass(FittedElsewhereError, BackendMismatchError)
    here = MLPClassifier((4,), max_iter=3).fit(X, y)
    with pytest.raises(FittedElsewhereError, match="it was fitted on numpy"):
        here.predict(X_there)


def test_an_estimator_can_be_moved(iris, dispatch):
    X, y = iris
    (X_there,) = on(OTHER, X)
    here = MLPClassifier((4,), max_iter=4, random_state=0).fit(X, y)
    there = move_estimator_to(here, strict, OTHER)
    np.testing.assert_allclose(host(there.predict_proba(X_there)), here.predict_proba(X), rtol=1e-12)
    back = move_estimator_to(there, np, "cpu")
    assert np.array_equal(back.predict_proba(X), here.predict_proba(X))
    for est, data in ((here, X), (there, X_there), (back, X)):
        est.partial_fit(data, y)
    np.testing.assert_allclose(host(there.network_.theta), here.network_.theta, rtol=1e-9)
    assert np.array_equal(back.network_.theta, here.network_.theta)


def test_files_keep_the_device(iris, dispatch):
    X, y = iris
    (X_there,) = on(OTHER, X)
    est = MLPClassifier((4,), max_iter=4, random_state=0, early_stopping=True).fit(X_there, y)
    again = pickle.loads(pickle.dumps(est))
    assert again.coefs_[0].device == OTHER
    assert np.array_equal(host(again.predict_proba(X_there)), host(est.predict_proba(X_there)))


def test_a_user_can_give_weights_of_the_library(iris, dispatch):
    X, y = iris
    (X_there,) = on(OTHER, X)
    est = MLPClassifier((4,), max_iter=4, random_state=0).fit(X_there, y)
    before = host(est._outputs(X_there, "predict")[1])
    est.coefs_ = [est.coefs_[0], est.coefs_[1] * 2.0]
    est.intercepts_ = [est.intercepts_[0], est.intercepts_[1] * 2.0]
    np.testing.assert_allclose(host(est._outputs(X_there, "predict")[1]), 2.0 * before)


def test_in_a_pipeline(iris, dispatch):
    X_there, y_there = on(CPU, *iris)
    scale = FunctionTransformer(lambda X: X * 0.1)
    est = make_pipeline(scale, MLPClassifier((4,), max_iter=5, random_state=0)).fit(X_there, y_there)
    assert isinstance(est.predict_proba(X_there), type(X_there))
    assert isinstance(est.score(X_there, y_there), float)


def test_sparse_rows_stay_on_the_host(iris, dispatch):
    from scipy.sparse import csr_array

    est = MLPClassifier((4,), max_iter=5, random_state=0).fit(csr_array(iris[0]), iris[1])
    assert isinstance(est.predict(csr_array(iris[0])), np.ndarray)


def test_only_a_backend_that_follows_the_data_is_tagged():
    from sklearn.utils import get_tags

    assert get_tags(MLPClassifier()).array_api_support
    assert not get_tags(MLPClassifier(backend="numpy")).array_api_support
    assert get_tags(MLPRegressor()).input_tags.sparse
    assert get_tags(MLPClassifier()).classifier_tags.multi_label


# ---- CuPy arrays are followed without the switch too; a strict device stands in for the GPU here.


class Gpu(arrays.StandardBackend):
    """A device that will not let its arrays be read by NumPy."""

    def __init__(self):
        super().__init__("array_api_strict", OTHER)
        self.name = "gpu"

    def __reduce__(self):
        return Gpu, ()


@pytest.fixture
def gpu(monkeypatch):
    """Make strict arrays on the other device count as CuPy's."""
    known = arrays.backend_of

    def backend_of(a):
        return Gpu() if isinstance(a, type(strict.asarray(0))) and a.device == OTHER else known(a)

    for module in ("arrays", "intake", "fitted", "base", "classifier"):
        monkeypatch.setattr(f"xpnet.estimators.{module}.backend_of", backend_of)
    return Gpu()


@pytest.mark.parametrize("options", SOLVERS, ids=label)
def test_a_devices_arrays_are_followed_without_a_switch(iris, numbers, gpu, options):
    for cls, (X, y) in ((MLPClassifier, iris), (MLPRegressor, numbers)):
        X_there, y_there, weight = on(OTHER, X, y, np.linspace(1, 2, len(y)))
        est = cls(hidden_layer_sizes=(6,), max_iter=8, random_state=0, **options).fit(
            X_there, y_there, sample_weight=weight
        )
        here = cls(**est.get_params()).fit(X, y, sample_weight=host(weight))
        assert est.network_.backend == gpu
        assert est.predict(X_there).device == OTHER
        np.testing.assert_allclose(host(est.predict(X_there)), here.predict(X), rtol=1e-7)
        assert est.score(X_there, y_there) == pytest.approx(here.score(X, y))
        with pytest.raises(FittedElsewhereError):
            est.predict(X)
        with pytest.raises(ValueError, match=f"X has 2 features, but {cls.__name__} is expecting {X.shape[1]}"):
            est.predict(X_there[:, :2])
        with pytest.raises(ValueError, match="Reshape your data"):
            est.predict(X_there[:, 0])
        with pytest.raises(ValueError, match="X contains NaN or inf"):
            est.predict(X_there * np.nan)


@pytest.mark.parametrize("options", SOLVERS, ids=label)
def test_a_backend_that_is_named_takes_and_gives_numpy_arrays(iris, gpu, options):
    X, y = iris
    clf = MLPClassifier((6,), max_iter=8, random_state=0, backend=gpu, **options).fit(X, y)
    here = MLPClassifier((6,), max_iter=8, random_state=0, **options).fit(X, y)
    assert clf.network_.theta.device == OTHER
    assert all(isinstance(a, np.ndarray) for a in clf.coefs_ + clf.intercepts_)
    assert not clf.coefs_[0].flags.writeable  # they are copies: writing to them would change nothing
    assert isinstance(clf.predict(X), np.ndarray)
    np.testing.assert_allclose(clf.predict_proba(X), here.predict_proba(X), rtol=1e-9)
    (X_there,) = on(OTHER, X)
    assert clf.predict_proba(X_there).device == OTHER
    with pytest.raises(BackendMismatchError, match=r"X is on gpu, but backend='numpy'"):
        MLPClassifier(backend="numpy").fit(X_there, y)
    again = pickle.loads(pickle.dumps(clf))
    assert np.array_equal(again.predict_proba(X), clf.predict_proba(X))
    assert cross_val_score(clf, X, y, cv=2).shape == (2,)


def test_a_network_moves_when_another_backend_is_named(iris, gpu):
    clf = MLPClassifier((6,), max_iter=4, random_state=0, warm_start=True).fit(*iris)
    theta = clf.network_.theta.copy()
    clf.set_params(backend=gpu, learning_rate_init=1e-12).fit(*iris)
    assert clf.network_.backend == gpu
    np.testing.assert_allclose(host(clf.network_.theta), theta, atol=1e-9)
    clf.set_params(backend="numpy").partial_fit(*iris)
    assert clf.network_.backend == xpnet.backends.get("numpy")


def test_a_standard_backend_is_a_value():
    a, b = (arrays.StandardBackend("array_api_strict", d) for d in (CPU, OTHER))
    assert a == pickle.loads(pickle.dumps(a)) != b
    x = strict.asarray([1.0, 2.0], device=OTHER)
    assert b.owns(x)
    assert not a.owns(x)
    assert not b.owns(np.zeros(2))
    assert b.to_numpy(x).tolist() == [1.0, 2.0]
