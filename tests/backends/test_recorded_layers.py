"""Layers of one's own, trained as they are written, replayed and compiled: the same bits, or said to be unrecorded."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest
from array_backends import EagerBackend
from own_layers import RECORDED, REFUSED, Own

import xpnet
from xpnet.backends.cpu.replay import Replay
from xpnet.errors import NotRecordedWarning


def trained(make: Any, backend: Any, dtype: str) -> tuple[np.ndarray, list[str]]:
    """Train a network with the layer, whose last batch is smaller; return the parameters and what was warned of."""
    rng = np.random.default_rng(5)
    x, t = (rng.normal(size=(27, columns)).astype(dtype) for columns in (6, 1))
    made = make()
    f, callback = made if isinstance(made, tuple) else (made, lambda run: None)
    layers = [xpnet.Linear(6, 6), Own(f), xpnet.Linear(6, 1)]
    net = xpnet.Network(layers, "huber", backend, dtype, seed=1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        net.fit(x, t, epochs=3, batch_size=8, optimizer=xpnet.SGD(0.05), callbacks=[callback], verbose=False)
    assert {w.category for w in said} <= {NotRecordedWarning}, [str(w.message) for w in said]
    assert {w.filename for w in said} <= {__file__}, "a warning points to the line of the caller"
    return net.theta.copy(), [str(w.message) for w in said]


def both(make: Any, dtype: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Assert that the layer gives the same bits however a step is run; return what was warned of each time."""
    expected, silence = trained(make, EagerBackend(), dtype)
    assert not silence
    assert np.isfinite(expected).all()
    said = []
    for patience in (np.inf, -1.0):  # never compiled, and at once
        monkeypatch.setattr(Replay, "patience", patience)
        theta, messages = trained(make, "numpy", dtype)
        np.testing.assert_array_equal(theta, expected)
        said += messages
    return said


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_layer_gives_the_bits_of_the_layer_as_it_is_written(
    name: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert both(RECORDED[name], dtype, monkeypatch) == []


OTHERWISE = ("a_clock", "an_iterator", "a_counter_in_a_slot")
"""What is not put back: recordings have used it up."""


@pytest.mark.parametrize("name", REFUSED)
def test_a_layer_that_cannot_be_recorded_is_run_as_it_is_written(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, why = REFUSED[name]
    if name in OTHERWISE:
        said = [message for _ in range(2) for message in trained(make, "numpy", "float64")[1]]
    else:
        said = both(make, "float64", monkeypatch)
    assert len(said) == 2, said  # one for each training, although there are two sizes of batches
    for message in said:
        assert message.startswith("the training step is run as it is written, which is slower than from a recording: ")
        assert re.search(why, message), message
