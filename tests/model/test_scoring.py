"""The score of validation data on a device that works ahead of the host: captured once, and the same numbers."""

from __future__ import annotations

from functools import partial
from typing import Any

import cuda_c
import numpy as np
import pytest
from cuda_host import HostCupy

import xpnet
from xpnet.backends.base import Backend
from xpnet.backends.cupy import CapturedStep
from xpnet.model.scoring import Scorer

pytestmark = pytest.mark.skipif(cuda_c.COMPILER is None, reason=cuda_c.NO_COMPILER)
RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(90, 3)).astype(np.float32), RNG.integers(0, 2, 90)


class Counting(HostCupy):
    """Counts graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.captured: list[Any] = []

    def capture(self, step: Any, arrays: Any, changes: Any) -> Any:
        self.captured.append(super().capture(step, arrays, changes))
        return self.captured[-1]


@pytest.mark.parametrize("loss", ["cross_entropy", "mean_squared_error", "binary_cross_entropy"])
def test_validation_is_captured_at_the_second_epoch_and_gives_the_same_numbers(loss: str) -> None:
    """Averaged parameters, running statistics and weights go in as they are at each epoch."""
    t = T if loss == "cross_entropy" else (T[:, None] * 1.0).astype(np.float32)
    outputs, histories = 2 if loss == "cross_entropy" else 1, []
    backend, plain = Counting(), HostCupy()
    plain.capture = partial(Backend.capture, plain)  # type: ignore[method-assign]
    for on in (plain, backend):
        layers = [xpnet.Linear(3, 5), xpnet.BatchNorm(5), xpnet.Tanh(), xpnet.Linear(5, outputs)]
        net = xpnet.Network(layers, loss, on, seed=1)
        validation = X[:40], t[:40], np.arange(40) + 1.0
        histories.append(net.fit(X[40:], t[40:], epochs=5, batch_size=10, validation_data=validation, averaging=0.9))
    (program,) = backend.captured
    assert isinstance(program, CapturedStep)
    for name in (name for name in histories[0] if name.startswith("validation")):
        np.testing.assert_array_equal(histories[1][name], histories[0][name], err_msg=name)
    assert len(set(histories[1]["validation_loss"])) == 5


@pytest.mark.parametrize("rows", [40, 8])  # CuPy puts up to eight arrays together otherwise than more
def test_several_slices_and_another_vector_of_parameters(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr("xpnet.model.scoring.rows_at_once", lambda net, size: rows)
    backend = Counting()
    net = xpnet.mlp([3, 4, 2], backend=backend, seed=1)
    scorer = Scorer(net, *map(backend.asarray, (X, T)), np.ones(90), None)
    found = [scorer(), scorer()]
    net.theta[...] = 2.0 * net.theta
    found += [scorer(), net.evaluate(X, T, batch_size=rows)]
    assert found[0] == found[1] != found[2] == found[3]
    net.theta = backend.asarray(np.zeros(net.parameter_count, np.float32))
    assert scorer()["loss"] == pytest.approx(np.log(2))
    assert [type(program) for program in backend.captured] == [CapturedStep, CapturedStep]


def test_what_a_layer_takes_from_the_host_is_not_frozen() -> None:
    calls = []

    def counted(xp: Any, x: Any) -> Any:
        calls.append(1)
        return x * float(len(calls))

    backend = Counting()
    own = xpnet.Activation(counted, lambda xp, x: xp.ones_like(x))
    net = xpnet.Network([xpnet.Linear(3, 2), own], "cross_entropy", backend)
    scorer = Scorer(net, *map(backend.asarray, (X, T)), np.ones(90), None)
    assert len({scorer()["loss"] for _ in range(4)}) == 4
    assert not isinstance(backend.captured[0], CapturedStep)
