"""Outputs of large batches of one size come from a recording: the same bits, always of the present parameters."""

from __future__ import annotations

import copy
import pickle
import threading
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

import xpnet
from xpnet.model import outputs
from xpnet.model.outputs import FIRST, Outputs

X = np.random.default_rng(0).normal(size=(40, 8, 8, 2)).astype("float32")


@pytest.fixture(autouse=True)
def every_batch_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "LEAST", 1)


def network(*more: xpnet.Layer) -> xpnet.Network:
    layers = [xpnet.Conv2D(2, 4), xpnet.BatchNorm(4), xpnet.ReLU(), *more, xpnet.Flatten(), xpnet.Linear(256, 3)]
    return xpnet.Network(layers, "cross_entropy", input_shape=(8, 8, 2))


def answer(net: xpnet.Network, x: Any) -> Any:
    """Return the outputs as they are written."""
    return net.answer(net.backend.xp, net.theta, net.state, x)


def recorded(net: xpnet.Network) -> bool:
    return net._outputs._program is not None


def repeat(net: xpnet.Network, times: int = FIRST + 3, x: Any = X) -> None:
    for _ in range(times):
        assert net.forward(x).tobytes() == answer(net, x).tobytes()


def test_they_are_those_of_the_forward_pass_to_the_bit_recorded_or_compiled() -> None:
    net = network()
    repeat(net, FIRST)
    assert not recorded(net)
    repeat(net, 3)
    assert recorded(net)
    program: Any = net._outputs._program
    if program._tape is not None:  # the extra fast is installed, and it is not compiled yet
        program.compile(program._tape)
    repeat(net, 3, X[::-1].copy())


def test_of_a_large_batch_a_few_samples_at_a_time_go_through_all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "NEAR", 1)
    net, seen, own = network(), [], xpnet.Network.answer
    few = net.parameter_count // 256  # the convolution gives 256 numbers for a sample
    wanted = np.concatenate([answer(net, X[k : k + few]) for k in range(0, 40, few)])
    monkeypatch.setattr(xpnet.Network, "answer", lambda net, *a: seen.append(len(a[3])) or own(net, *a))
    for times in range(FIRST + 2):
        if times == FIRST + 1:
            program: Any = net._outputs._program
            if program._tape is not None:
                program.compile(program._tape)
        assert net.forward(X).tobytes() == wanted.tobytes()
    assert 1 < few < 10
    assert set(seen) == {few, 40 % few}
    with monkeypatch.context() as patch:  # where so many would go together, the products are large in any case
        patch.setattr(outputs, "TOGETHER", few - 1)
        assert net.copy().forward(X).tobytes() == answer(net, X).tobytes()
        assert seen[-2:] == [40, 40]
    monkeypatch.setattr(outputs, "PARTS", range(2, 10))  # a batch of more parts is not cut
    assert net.copy().forward(X).tobytes() == answer(net, X).tobytes()
    assert seen[-2:] == [40, 40]


def test_they_are_of_the_parameters_and_statistics_as_they_are_now() -> None:
    net = network()
    repeat(net)
    before = net.forward(X)
    net.fit(X, np.arange(40) % 3, epochs=1, verbose=False)
    repeat(net, 2)
    assert (net.forward(X) != before).any()
    net.theta = net.theta * 2  # another array
    net.state = {name: value + 1 for name, value in net.state.items()}
    repeat(net, 2)
    assert recorded(net)


def test_what_is_returned_is_not_written_over() -> None:
    net = network()
    repeat(net)
    first = net.forward(X)
    kept = first.copy()
    net.forward(-X)
    assert (first == kept).all()


def test_batches_of_other_sizes_in_between_change_nothing() -> None:
    net = network()
    repeat(net)
    program = net._outputs._program
    for _ in range(FIRST + 1):
        repeat(net, 1)
        repeat(net, 1, X[:7])
    assert net._outputs._program is program
    repeat(net, 4 * FIRST, X[:7])  # until they are the usual ones
    assert net._outputs._program is not program


def test_validation_and_predictions_are_made_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    net, seen = network(), []
    own = Outputs.__call__
    monkeypatch.setattr(Outputs, "__call__", lambda made, *given: seen.append(len(given[1])) or own(made, *given))
    net.predict(X, batch_size=20)
    net.evaluate(X, np.arange(40) % 3, batch_size=10)
    assert seen == [20] * 2 + [10] * 4


@dataclass(frozen=True)
class Counting(xpnet.Layer):
    """Counts how often it is asked."""

    calls: ClassVar[list[int]] = [0]

    def forward(self, xp: Any, params: Any, x: Any, context: Any = None) -> Any:
        self.calls[0] += 1
        return x, None

    def backward(self, xp: Any, params: Any, cache: Any, dy: Any, context: Any = None, need_dx: bool = True) -> Any:
        return dy, {}


@pytest.mark.parametrize(
    "layer", [Counting(), xpnet.Sequence([Counting()]), xpnet.Activation(lambda xp, x: xp.tanh(x), lambda xp, x: x)]
)
def test_layers_of_a_users_own_are_asked_each_time(layer: xpnet.Layer) -> None:
    net, before = network(layer), Counting.calls[0]
    for _ in range(2 * FIRST):
        net.forward(X)
    assert not recorded(net)
    assert Counting.calls[0] - before == (0 if isinstance(layer, xpnet.Activation) else 2 * FIRST)


def test_copies_and_files_have_no_recording() -> None:
    net = network()
    repeat(net)
    for other in (net.copy(), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert not recorded(other)
        assert other.forward(X).tobytes() == net.forward(X).tobytes()
    assert recorded(net)


def test_several_threads_may_ask_at_once() -> None:
    net = network()
    repeat(net)
    wanted, wrong = {k: answer(net, X * k) for k in range(4)}, []

    def ask(k: int) -> None:
        for _ in range(50):
            if (net.forward(X * k) != wanted[k]).any():
                wrong.append(k)

    threads = [threading.Thread(target=ask, args=(k,)) for k in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_small_batches_are_computed_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    net = network()
    repeat(net)
    assert not recorded(net)
