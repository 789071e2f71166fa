"""Any number of threads gives the same bits, and nothing that goes wrong with threads stops or tears a training."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_parts

import xpnet
from xpnet.backends.base import Backend, Program
from xpnet.backends.cpu import openblas
from xpnet.backends.cpu.pace import Pace
from xpnet.backends.cpu.threads import Helpers
from xpnet.backends.numpy import NumpyBackend
from xpnet.layers import ACTIVATIONS, LAYERS
from xpnet.losses import LOSSES
from xpnet.optimizers import OPTIMIZERS

RNG = np.random.default_rng(3)
BATCH, SAMPLES = 24, 55  # so that the last batch is smaller
WAYS = [("written", 1), ("written", 4), ("replayed", 1), ("replayed", 2)]
try:
    from xpnet.backends.cpu import chain

    WAYS += [("compiled", 1), ("compiled", 2), ("compiled", 4)]
except ModuleNotFoundError:  # the extra fast is not installed
    pass
FAST = len(WAYS) > 4


@pytest.fixture
def everything_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small products and loops are cut and shared out, too, as long ones are."""
    small_parts.cut_everything(monkeypatch.setattr)


class Written(NumpyBackend):
    """Runs steps as they are written."""

    def compile(self, step: Any, arrays: Any, changes: Any) -> Program:
        return Backend.compile(self, step, arrays, changes)


def trainer(make: Callable[[Any], xpnet.Trainer], how: str, threads: int) -> xpnet.Trainer:
    made = make((Written if how == "written" else NumpyBackend)(threads))
    for size in {made.feed.size(k) for k in range(made.steps_per_epoch)}:
        program: Any = made._program(size)
        if how == "compiled":
            program.compile(program._tape)
            assert any(isinstance(call, chain.Chain) and call._tasks > 1 for call in program._calls) == (threads > 1)
        elif how == "replayed":
            program._tape = None
    return made


def digest(made: xpnet.Trainer) -> str:
    tensors, _ = made.export()
    assert np.isfinite(tensors["theta"]).all()
    return hashlib.sha256(b"".join(tensors[name].tobytes() for name in sorted(tensors))).hexdigest()


def images() -> list[xpnet.Layer]:
    return [
        xpnet.RandomShift(1), xpnet.RandomFlip(), xpnet.RandomCutout(2), xpnet.Conv2D(2, 8), xpnet.BatchNorm(8),
        xpnet.ReLU(), xpnet.MaxPool2D(), xpnet.Conv2D(8, 6, stride=2), xpnet.GroupNorm(2, 6), xpnet.SiLU(),
        xpnet.AveragePool2D(), xpnet.Residual([xpnet.Conv2D(6, 6)]), xpnet.GlobalAveragePool2D(), xpnet.Linear(6, 3),
    ]  # fmt: skip


def signals() -> list[xpnet.Layer]:
    return [
        xpnet.Conv1D(8, 6, size=4), xpnet.MaxPool1D(), xpnet.RMSNorm(6), xpnet.Tanh(), xpnet.AveragePool1D(),
        xpnet.Reshape((2, 2, 6)), xpnet.Flatten(), xpnet.Reshape((4, 6)), xpnet.GlobalAveragePool1D(),
        xpnet.Identity(), xpnet.Sequence([xpnet.Linear(6, 9), xpnet.ELU()]), xpnet.Linear(9, 3),
    ]  # fmt: skip


def rows() -> list[xpnet.Layer]:
    every = [ACTIVATIONS[name]() for name in ACTIVATIONS]
    return [
        xpnet.Linear(128, 40),
        xpnet.LayerNorm(40),
        *every,
        xpnet.Linear(40, 30),
        xpnet.Dropout(0.2),
        xpnet.Linear(30, 3),
    ]


SHAPES: dict[Any, tuple[int, ...]] = {images: (8, 8, 2), signals: (16, 8), rows: (128,)}
OPTIONS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "images": (images, {"l2": 1e-3}, {"averaging": 0.9}),
    "signals": (signals, {"l1": 1e-3}, {"sample_weight": RNG.uniform(0.5, 2.0, SAMPLES)}),
    "rows": (rows, {"dtype": "float64"}, {}),
    "images, float16": (images, {}, {"precision": "float16"}),
    "rows, float16": (rows, {}, {"precision": "float16", "averaging": 0.9}),
}


def network(name: str, samples: int = SAMPLES) -> Callable[[Any], xpnet.Trainer]:
    layers, of_network, of_trainer = OPTIONS[name]
    x = np.random.default_rng(4).normal(size=(samples, *SHAPES[layers])).astype("float32")

    def make(backend: Any) -> xpnet.Trainer:
        net = xpnet.Network(layers(), "cross_entropy", backend, seed=2, input_shape=SHAPES[layers], **of_network)
        optimizer = xpnet.AdamW(1e-3, clip_norm=0.5, weight_decay=0.01)
        return xpnet.Trainer(net, optimizer, x, np.arange(samples) % 3, batch_size=BATCH, **of_trainer)

    return make


def objective(loss: str, optimizer: str) -> Callable[[Any], xpnet.Trainer]:
    rng, kind = np.random.default_rng(5), LOSSES[loss].kind
    x = rng.normal(size=(SAMPLES, 32)).astype("float32")
    t = rng.integers(0, 3, SAMPLES) if kind == "classification" else rng.integers(0, 2, (SAMPLES, 3)).astype("float32")

    def make(backend: Any) -> xpnet.Trainer:
        net = xpnet.mlp([32, 40, 3 * LOSSES[loss]().per_target], "tanh", loss, backend=backend, seed=2)
        return xpnet.Trainer(net, OPTIMIZERS[optimizer](clip_value=0.1), x, t, batch_size=BATCH)

    return make


PAIRS = list(zip(LOSSES, itertools.cycle(OPTIMIZERS)))
CASES = {name: network(name) for name in OPTIONS} | {f"{a}, {b}": objective(a, b) for a, b in PAIRS}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("everything_shared")
def test_every_number_of_threads_gives_the_same_bits_in_every_way_to_run_a_step(case: str) -> None:
    found = {}
    for how, threads in WAYS if case in ("images", "signals", "rows") else (WAYS[0], *WAYS[3::3]):
        made = trainer(CASES[case], how, threads)
        made.run(2 * made.steps_per_epoch)
        found[how, threads] = digest(made)
    assert len(set(found.values())) == 1, found


@pytest.mark.skipif(not FAST, reason="the extra fast is not installed")
@pytest.mark.usefixtures("everything_shared")
def test_what_needs_earlier_work_waits_for_it_through_hundreds_of_steps_in_one_call() -> None:
    made = network("rows", 300 * BATCH)
    found = []
    for how, threads in (("replayed", 1), ("compiled", 2), ("compiled", 3)):
        one = trainer(made, how, threads)
        program: Any = one._program(BATCH)
        program.unroll = 300 if how == "compiled" else 1
        one.run(300)
        found.append(digest(one))
    assert len(set(found)) == 1


def test_all_layers_are_among_these() -> None:
    def classes(layers: Any) -> Iterator[str]:
        for layer in layers:
            yield type(layer).__name__
            for chain_ in layer.chains.values():
                yield from classes(chain_)

    found = {name for make in SHAPES for name in classes(make())}
    assert found >= {cls.__name__ for cls in LAYERS.values()} - {"Activation"}
    assert {optimizer for _, optimizer in PAIRS} == set(OPTIMIZERS)


# ---------------------------------------------------------------------------------------- OpenBLAS's own threads


class Blas:
    """Stands in for an OpenBLAS: what is set."""

    def __init__(self, threads: int) -> None:
        self.now = threads

    def threads(self) -> int:
        return self.now

    def set_threads(self, threads: int) -> None:
        self.now = threads


@pytest.fixture
def blas(monkeypatch: pytest.MonkeyPatch) -> Blas:
    found = Blas(7)
    monkeypatch.setattr(openblas, "of_numpy", lambda: found)
    monkeypatch.setattr(openblas, "single", openblas.Single())
    return found


def test_the_number_of_threads_of_openblas_is_left_as_it_was_found(blas: Blas) -> None:
    single = openblas.single

    def fail() -> None:
        with single():
            with single():
                assert blas.now == 1
            assert blas.now == 1
            assert single.usual() == 7
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert blas.now == 7
    blas.now = 3  # by somebody else
    with single():
        assert blas.now == 1
    assert blas.now == 3


def test_a_context_that_an_interrupt_has_kept_from_being_left_is_left_when_it_is_gone(blas: Blas) -> None:
    context = openblas.single()
    context.__enter__()
    with openblas.single():
        pass
    assert blas.now == 1
    del context
    assert blas.now == 7


def test_it_is_set_back_when_the_last_of_several_threads_is_done(blas: Blas) -> None:
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with openblas.single():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with openblas.single():
        thread.start()
        inside.wait(10)
    assert blas.now == 1
    leave.set()
    thread.join(10)
    assert blas.now == 7


@pytest.mark.skipif(openblas.of_numpy() is None, reason="this NumPy does not come with an OpenBLAS of its own")
def test_training_and_predicting_leave_the_setting_alone_and_so_do_their_failures() -> None:
    found: Any = openblas.of_numpy()
    before = found.threads()
    seen = []
    net = xpnet.mlp([64, 300, 3], seed=1)
    x, t = RNG.normal(size=(400, 64)).astype("float32"), np.arange(400) % 3
    try:
        found.set_threads(3)
        look = xpnet.Activation(lambda xp, x: seen.append(found.threads()) or x, lambda xp, x: xp.ones_like(x))
        watched = xpnet.Network([xpnet.Linear(64, 3), look], "cross_entropy")
        watched.predict(x)
        net.fit(x, t, epochs=1, verbose=False)
        assert found.threads() == 3
        with pytest.raises(xpnet.errors.NonFiniteError):
            net.fit(x, t, epochs=1, optimizer=xpnet.SGD(1e30), verbose=False)
        assert found.threads() == 3
        assert set(seen) == {1}
    finally:
        found.set_threads(before)


def test_as_many_threads_as_cores_unless_products_were_told_to_have_fewer(
    monkeypatch: pytest.MonkeyPatch, blas: Blas
) -> None:
    blas.now = 64
    monkeypatch.setattr("xpnet.backends.numpy.cores", lambda: 64)
    assert NumpyBackend().threads == 8  # more would have nothing to do
    monkeypatch.setattr("xpnet.backends.numpy.cores", lambda: 5)
    assert NumpyBackend().threads == 5
    blas.now = 2
    assert NumpyBackend().threads == 2
    assert NumpyBackend(6).threads == 6
    monkeypatch.setattr(openblas, "of_numpy", lambda: None)
    assert NumpyBackend().threads == 1  # whose threads another library's products have, nobody knows


def test_the_number_of_threads_goes_with_the_backend_and_is_checked() -> None:
    import pickle

    backend = xpnet.backends.get("numpy", threads=3)
    assert isinstance(backend, NumpyBackend)
    assert backend.threads == pickle.loads(pickle.dumps(backend)).threads == 3
    assert backend == xpnet.backends.get("numpy")
    for threads in (0, 1.5, "2"):
        with pytest.raises(xpnet.errors.ConfigError, match="threads must be"):
            xpnet.backends.get("numpy", threads=threads)  # type: ignore[arg-type]
    with pytest.raises(xpnet.errors.ConfigError, match="threads is an option of backend 'numpy' only"):
        xpnet.backends.get("cupy", threads=2)


# ------------------------------------------------------------------------------------------------ what goes wrong


def in_time(action: Callable[[], Any], seconds: float = 60.0) -> None:
    """Do something in a thread of its own, and fail if it hangs."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it hangs"
    if failures:
        raise failures[0]


def test_what_a_helping_thread_raises_is_raised_and_everything_has_ended_then() -> None:
    helpers, here, ended = Helpers(), threading.get_ident(), []

    def part(number: int) -> None:
        time.sleep(0.01)
        ended.append(number)
        if threading.get_ident() != here:
            raise KeyError(number)

    def share() -> None:
        nonlocal here
        here = threading.get_ident()
        with pytest.raises(KeyError):
            helpers.share([lambda k=k: part(k) for k in range(20)], 2)
        count = len(ended)
        time.sleep(0.05)
        assert len(ended) == count

    in_time(share)


def test_an_interrupt_waits_for_what_the_others_are_writing() -> None:
    helpers, begun, ended = Helpers(), threading.Event(), threading.Event()

    def long() -> None:
        begun.set()
        time.sleep(0.2)
        ended.set()

    def interrupted() -> None:
        begun.wait(10)
        raise KeyboardInterrupt

    def share() -> None:
        here = threading.get_ident()
        parts = [lambda: interrupted() if threading.get_ident() == here else long()] * 2
        with pytest.raises(KeyboardInterrupt):
            helpers.share(parts, 1)
        assert ended.is_set()

    in_time(share)


def test_without_any_thread_to_help_all_is_done_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("can't start new thread")

    helpers, done = Helpers(), []
    monkeypatch.setattr(threading.Thread, "start", refuse)
    helpers.share([lambda: done.append(1)] * 5, 3)
    assert done == [1] * 5


@pytest.mark.usefixtures("everything_shared")
def test_several_networks_train_in_several_threads_at_once() -> None:
    case = CASES["rows"]
    expected = trainer(case, "replayed", 1)
    expected.run(30)
    several = [trainer(case, how, threads) for how, threads in WAYS]

    def train(made: xpnet.Trainer) -> None:
        for _ in range(30):
            made.run(1)

    threads = [threading.Thread(target=train, args=(made,), daemon=True) for made in several]
    for thread in threads:
        thread.start()
    in_time(lambda: [thread.join() for thread in threads])
    assert {digest(made) for made in several} == {digest(expected)}


FORK = """
import os, sys, warnings, numpy as np, xpnet
from xpnet.backends.cpu import openblas, products, parts
from xpnet.backends.cpu.replay import Replay
warnings.simplefilter("ignore")
Replay.patience, products.SHARED, products.LEAST, parts.LEAST = 0.0, 0, 1 << 12, 1 << 10
try:
    from xpnet.backends.cpu import chain
    chain.WORTH = 0
except ModuleNotFoundError:
    pass
x, t = np.random.default_rng(0).normal(size=(256, 64)).astype("float32"), np.arange(256) % 3
def train(trainer):
    trainer.run(40)
    return trainer.net.theta.tobytes()
def new():
    net = xpnet.mlp([64, 128, 128, 3], backend=xpnet.backends.get("numpy", threads=4), seed=1)
    return xpnet.Trainer(net, xpnet.Adam(), x, t, batch_size=128)
first = new()
train(first)
child = os.fork() if sys.argv[1] == "fork" else 0
again = train(first), train(new())
if sys.argv[1] == "fork":
    import hashlib
    digest = hashlib.sha256(b"".join(again)).hexdigest()
    if child == 0:
        with open(sys.argv[2], "w") as file:
            file.write(digest)
        os._exit(0)
    os.waitpid(child, 0)
    assert open(sys.argv[2]).read() == digest
print("trained")
"""


@pytest.mark.parametrize("how", ["fork", "end"])
def test_a_process_that_forks_or_ends_after_a_training(how: str, tmp_path: Path) -> None:
    """The child starts threads of its own; and nothing waits for threads when Python ends."""
    if how == "fork" and not hasattr(os, "fork"):
        pytest.skip("there is no fork here")
    command = [sys.executable, "-c", FORK, how, str(tmp_path / "digest")]
    environment = os.environ | {"PYTHONPATH": str(Path(xpnet.__file__).parents[1])}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120).stdout
    assert said == "trained\n"


def calls_with_help(with_help: Callable[[int], float], alone: Callable[[int], float], calls: int) -> list[bool]:
    """Return which calls are made with help if a step takes so long."""
    pace, asked = Pace(), []
    for k in range(calls):
        asked.append(pace.helped())
        pace.took((with_help if asked[-1] else alone)(k))
    return asked


def test_help_is_asked_for_as_long_as_it_helps() -> None:
    quiet = calls_with_help(lambda k: 1.0, lambda k: 1.9, 1000)
    assert quiet.count(False) == 1  # one call, to compare
    disturbed = calls_with_help(lambda k: 9.0 if k % 50 > 47 else 1.0, lambda k: 1.9, 1000)
    assert disturbed.count(False) == 1  # what is slow now and then says nothing about the next calls
    busy = calls_with_help(lambda k: 9.0, lambda k: 2.0, 1000)
    assert busy.count(True) < 12
    later = calls_with_help(lambda k: 9.0 if 300 <= k < 600 else 1.0, lambda k: 2.0, 1200)
    assert later[:300].count(False) <= 2
    assert later[300:600].count(True) < 12
    assert later[-300:].count(False) <= 2


@pytest.mark.usefixtures("everything_shared")
def test_idle_threads_cost_nothing() -> None:
    made = trainer(CASES["rows"], *WAYS[-1])
    made.run(4)
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.03


@pytest.mark.skipif(not FAST, reason="the extra fast is not installed")
def test_each_work_is_in_the_last_stage_before_what_needs_it() -> None:
    from xpnet.backends.cpu.stages import Work, levels

    a, b, c, d = (np.zeros(4) for _ in range(4))
    made = [
        Work([[[]]], [a], [b]),  # needed at once
        Work([[[]]], [a], [c]),  # needed by the last
        Work([[[]]], [b], [d]),
        Work([[[]]], [d], [b]),  # written over what the one before has read
        Work([[[]]], [b, c], [a]),
        Work([[[]]], [], [np.zeros(4)]),  # needed by none
    ]
    assert levels(made) == [0, 2, 1, 2, 3, 3]
