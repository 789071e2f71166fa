"""A recorder does not hold up a device that works ahead of the host; what is undone is not recorded."""

from __future__ import annotations

from typing import Any

import cuda_c
import numpy as np
import pytest
from cuda_host import TIMELINE, HostCupy, Numbers

import xpnet
from xpnet.errors import NonFiniteError

RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(165, 6)).astype(np.float32), RNG.integers(0, 3, 165)  # twenty batches of eight, and a rest
NEEDS_C = pytest.mark.skipif(cuda_c.COMPILER is None, reason=cuda_c.NO_COMPILER)


def train(backend: Any, *callbacks: xpnet.Callback, **options: Any) -> xpnet.Network:
    net = xpnet.mlp([6, 8, 8, 3], backend=backend, seed=0)
    options = {"epochs": 3, "batch_size": 8} | options
    net.fit(X, T, callbacks=callbacks, verbose=False, **options)
    return net


class Counts(xpnet.Callback):
    """How often the host waits, and starts something, in each epoch."""

    def __init__(self, backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waits = self.starts = 0
        self.epochs: list[tuple[int, int]] = []

        def counted(name: str, f: Any) -> Any:
            def call(*arguments: Any, **options: Any) -> Any:
                if TIMELINE.nodes is None:
                    setattr(self, name, getattr(self, name) + 1)
                return f(*arguments, **options)

            return call

        monkeypatch.setattr(backend._cupy, "asnumpy", counted("waits", backend._cupy.asnumpy))
        for name in ("__bool__", "__float__"):
            monkeypatch.setattr(Numbers, name, counted("waits", getattr(Numbers, name)))
        monkeypatch.setattr(TIMELINE, "do", counted("starts", TIMELINE.do))

    def on_epoch_end(self, run: Any) -> None:
        self.epochs.append((self.waits, self.starts))
        self.waits = self.starts = 0


@NEEDS_C
def test_an_epoch_with_records_waits_once_like_one_without(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for every in (None, 5):
        with monkeypatch.context() as patch:
            backend = HostCupy()
            counts = Counts(backend, patch)
            train(backend, counts, *([] if every is None else [xpnet.Recorder(every)]))
            found[every] = counts.epochs[-1]
    assert found[None][0] == found[5][0] == 1
    assert found[5][1] - found[None][1] == 4  # one copy for each of four records; the rest is in a graph


@pytest.mark.parametrize("backend", ["numpy", pytest.param("stand-in", marks=NEEDS_C)])
def test_records_are_the_same_whether_the_steps_before_them_were_looked_at(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorders, thetas = [xpnet.Recorder(5, parameters=True) for _ in range(2)], []
    for looks, recorder in zip((True, False), recorders, strict=True):
        monkeypatch.setattr(xpnet.Recorder, "looks", looks)
        net = train(backend if backend == "numpy" else HostCupy(), recorder)
        thetas.append(net.backend.to_numpy(net.theta))
    np.testing.assert_array_equal(*thetas)
    np.testing.assert_array_equal(recorders[0].steps, recorders[1].steps)
    assert recorders[0].steps.tolist() == [*range(0, 64, 5)]
    for name in recorders[0]:
        np.testing.assert_array_equal(recorders[0][name], recorders[1][name], err_msg=name)


def test_records_of_steps_that_were_undone_are_dropped() -> None:
    """The learning rate is beyond all bounds from step 14 on, which is noticed at the end of the epoch."""
    recorder = xpnet.Recorder(2, parameters=True)
    net = xpnet.mlp([6, 8, 3], seed=0)
    wild = xpnet.SGD(lambda step: np.where(np.asarray(step) < 13, 0.01, 1e38))
    with pytest.raises(NonFiniteError, match=r"epoch 1, step 1[4-6]"):
        net.fit(X, T, optimizer=wild, callbacks=recorder, epochs=1, batch_size=8, verbose=False)
    assert recorder.steps.tolist() in ([0, 2, 4, 6, 8, 10, 12], [0, 2, 4, 6, 8, 10, 12, 14])
    assert all(np.isfinite(recorder.parameters("0.W")).reshape(-1))
    assert len(recorder["0.W"].rms) == len(recorder.steps)


def test_callbacks_that_look_and_that_do_not_are_called_when_they_ask_for_it() -> None:
    called = []

    class Asks(xpnet.Callback):
        def __init__(self, every: int, looks: bool) -> None:
            self.every, self.looks = every, looks

        def on_steps(self, run: Any) -> None:
            called.append((run.step, self.looks))

    train("numpy", Asks(6, True), Asks(4, False), Asks(3, False), epochs=1)
    assert called == sorted(
        [(step, looks) for every, looks in ((6, True), (4, False), (3, False)) for step in range(every, 22, every)]
    )


def test_a_mistake_in_a_callback_that_does_not_look_leaves_whole_steps() -> None:
    class Fails(xpnet.Callback):
        every, looks = 5, False

        def on_steps(self, run: Any) -> None:
            if run.step == 15:
                raise RuntimeError("no")

    recorder, net = xpnet.Recorder(3), xpnet.mlp([6, 8, 8, 3], seed=0)
    other = xpnet.mlp([6, 8, 8, 3], seed=0)
    with pytest.raises(RuntimeError, match="no"):
        net.fit(X, T, callbacks=[Fails(), recorder], batch_size=8, verbose=False)
    assert recorder.steps.tolist() in ([0, 3, 6, 9, 12], [0, 3, 6, 9, 12, 15])
    trainer = xpnet.Trainer(other, "adam", X, T, batch_size=8)
    trainer.run(15)
    np.testing.assert_array_equal(net.theta, other.theta)
