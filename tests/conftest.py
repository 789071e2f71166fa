"""Fixtures for every test: the backends."""

import array_backends
import pytest


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
