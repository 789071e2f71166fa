"""Data that the tests of the estimators share."""

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris, make_multilabel_classification, make_regression


@pytest.fixture(scope="session")
def digits():
    """Return 300 images of ten digits, between 0 and 1."""
    X, y = load_digits(return_X_y=True)
    return X[:300] / 16.0, y[:300]


@pytest.fixture(scope="session")
def binary():
    """Return images of zeros and ones."""
    X, y = load_digits(n_class=2, return_X_y=True)
    return X[:200] / 16.0, y[:200]


@pytest.fixture(scope="session")
def iris():
    """Return the irises: four features, three kinds."""
    return load_iris(return_X_y=True)


@pytest.fixture(scope="session")
def labels():
    """Return samples with several labels at once."""
    return make_multilabel_classification(n_samples=80, n_features=12, n_classes=4, random_state=3)


@pytest.fixture(scope="session")
def numbers():
    """Return a regression problem with one output, of size about 1."""
    X, y = make_regression(n_samples=150, n_features=8, noise=20.0, random_state=5)
    return X, (y - y.mean()) / y.std()


@pytest.fixture(scope="session")
def pairs():
    """Return a regression problem with two outputs."""
    X, y = make_regression(n_samples=120, n_features=6, n_targets=2, noise=5.0, random_state=6)
    return X, y / y.std(axis=0)


@pytest.fixture(scope="session")
def counts():
    """Return counts that grow with the feature."""
    rng = np.random.default_rng(8)
    x = np.linspace(0.0, 1.0, 120)[:, None]
    return x, rng.poisson(np.exp(1.0 + x[:, 0])).astype(float)


@pytest.fixture
def dispatch(monkeypatch):
    """Switch scikit-learn's array API dispatch on."""
    import sklearn

    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    with sklearn.config_context(array_api_dispatch=True):
        yield
