"""Estimators with arrays of PyTorch and JAX, and on PyTorch's backend."""

import pickle

import numpy as np
import pytest
from array_backends import NO_TORCH
from elsewhere import Elsewhere
from labels import label

from xpnet.errors import BackendMismatchError, DTypeError
from xpnet.estimators import MLPClassifier, MLPRegressor
from xpnet.estimators.intake import check_X
from xpnet.estimators.sampling import to_device

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
needs_torch = pytest.mark.skipif(NO_TORCH is not None, reason=str(NO_TORCH))
BACKENDS = [None, pytest.param("torch", marks=needs_torch)]
SOLVERS = [{"solver": "adam", "dropout": 0.2}, {"solver": "sgd", "early_stopping": True}, {"solver": "lbfgs"}]


def of_torch(a):
    return pytest.importorskip("torch").tensor(a)


def of_jax(a):
    return pytest.importorskip("jax.numpy").asarray(a)


@pytest.mark.parametrize("options", SOLVERS, ids=label)
@pytest.mark.parametrize("of", [of_torch, of_jax])
@pytest.mark.parametrize("backend", BACKENDS)
def test_arrays_on_the_cpu_count_as_numpys(iris, backend, of, options):
    X, y = iris[0].astype(np.float32), iris[1]
    there, here = (MLPClassifier((6,), max_iter=4, random_state=0, backend=backend, **options) for _ in range(2))
    there.fit(of(X), of(y)), here.fit(X, y)
    probabilities = there.predict_proba(of(X))
    assert isinstance(probabilities, np.ndarray)
    assert np.array_equal(probabilities, here.predict_proba(X))
    assert there.score(of(X), of(y)) == here.score(X, y)
    assert np.array_equal(pickle.loads(pickle.dumps(there)).predict_proba(X), probabilities)
    assert [type(a) for a in there.coefs_] == [np.ndarray, np.ndarray]


@pytest.mark.parametrize("of", [of_torch, of_jax])
@pytest.mark.parametrize("backend", BACKENDS)
def test_samples_on_the_cpu_are_not_copied(iris, backend, of):
    X = of(iris[0].astype(np.float32))
    est = MLPClassifier((6,), max_iter=1, backend=backend).fit(X, iris[1])
    taken = to_device(check_X(est, X, reset=False), est.network_.backend, "float32")
    assert est.network_.backend.owns(taken)
    assert np.from_dlpack(taken).ctypes.data == np.from_dlpack(X).ctypes.data


@pytest.mark.parametrize("backend", BACKENDS)
def test_samples_elsewhere_are_refused(iris, backend):
    est = MLPClassifier((6,), max_iter=1, backend=backend)
    with pytest.raises(BackendMismatchError, match=r"X is a elsewhere\.Elsewhere on CUDA device 1.* backend='cupy:1'"):
        est.fit(Elsewhere(iris[0].shape), iris[1])
    est.fit(*iris)
    with pytest.raises(BackendMismatchError, match=r"X is a elsewhere\.Elsewhere on CUDA device 1"):
        est.predict(Elsewhere(iris[0].shape))


@needs_torch
def test_a_tensor_that_gradients_are_asked_of_is_named():
    torch = pytest.importorskip("torch")
    with pytest.raises(DTypeError, match=r"X is a torch\.Tensor that cannot be taken as it is"):
        MLPClassifier().fit(torch.ones((4, 2), requires_grad=True), [0, 1, 0, 1])


@needs_torch
@pytest.mark.parametrize("options", SOLVERS, ids=label)
@pytest.mark.parametrize("backend", [None, "torch"])
def test_with_scikit_learns_switch_answers_come_as_tensors(iris, pairs, dispatch, backend, options):
    torch = pytest.importorskip("torch")
    for cls, (X, y) in ((MLPClassifier, iris), (MLPRegressor, pairs)):
        there = cls(hidden_layer_sizes=(6,), max_iter=8, random_state=0, backend=backend, **options)
        there.fit(torch.tensor(X), torch.tensor(y))
        here = cls(hidden_layer_sizes=(6,), max_iter=8, random_state=0, **options).fit(X, y)
        assert there.network_.backend.name == "torch"
        answer = there.predict(torch.tensor(X))
        assert isinstance(answer, torch.Tensor)
        np.testing.assert_allclose(answer.numpy(), here.predict(X), rtol=1e-7)
        assert there.score(torch.tensor(X), torch.tensor(y)) == pytest.approx(here.score(X, y))
        assert isinstance(pickle.loads(pickle.dumps(there)).predict(torch.tensor(X)), torch.Tensor)


@needs_torch
def test_sparse_rows_go_to_torch_batch_by_batch(iris):
    from scipy.sparse import csr_array

    X, y = csr_array(iris[0]), iris[1]
    there, here = (MLPClassifier((6,), max_iter=4, random_state=0, backend=name) for name in ("torch", "numpy"))
    probabilities = there.fit(X, y).predict_proba(X)
    np.testing.assert_allclose(probabilities, here.fit(X, y).predict_proba(X), rtol=1e-9)
