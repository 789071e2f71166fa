"""Fixtures for every test: the backends."""

import pytest

import backends


@pytest.fixture(params=backends.NAMES)
def backend(request):
    """Return every backend that the tests know, in turn; not all of them let arrays be changed."""
    return backends.make(request.param)


@pytest.fixture(params=backends.WRITABLE)
def training_backend(request):
    """Return every backend that a network can be trained on, in turn."""
    return backends.make(request.param)


@pytest.fixture
def xp(backend):
    """Return the backend's array namespace."""
    return backend.xp
