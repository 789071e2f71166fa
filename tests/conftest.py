"""Fixtures for every test: the backends; and where the built documentation is, which one test looks at."""

import array_backends
import pytest


def pytest_addoption(parser):
    parser.addoption("--built-docs", metavar="DIR", help="the built documentation, whose page that trains is tried")


@pytest.fixture(params=array_backends.NAMES)
def backend(request):
    """Return every backend that the tests know, in turn; not all of them let arrays be changed."""
    return array_backends.make(request.param)


@pytest.fixture(params=array_backends.WRITABLE)
def training_backend(request):
    """Return every backend that a network can be trained on, in turn."""
    return array_backends.make(request.param)


@pytest.fixture
def xp(backend):
    """Return the backend's array namespace."""
    return backend.xp
