"""Exceptions anywhere in a training leave whole steps; two trainings of one network; terminals that go away."""

import errno
import functools
import io
import linecache
import re
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor

import array_api_compat.numpy
import numpy as np
import problems
import pytest
from array_backends import EagerBackend, make
from numpy.testing import assert_array_equal
from problems import classifier, flat

import xpnet
from xpnet.backends.numpy import Replay
from xpnet.errors import AlreadyTrainingError, NonFiniteError
from xpnet.training.progress import Progress

STEPS = 4


@pytest.fixture(autouse=True)
def no_machine_code(monkeypatch):
    """Compiling kernels after a while would be thousands of lines more to interrupt, on a slow machine alone."""
    monkeypatch.setattr(Replay, "patience", float("inf"))


class FaultyBackend(EagerBackend):
    """NumPy whose k-th call of an array function raises; `again` more calls later it happens again."""

    name = "faulty"

    def __init__(self):
        self.calls, self.faults, self.error = 0, (), MemoryError
        contents = vars(array_api_compat.numpy).items()
        self.xp = types.SimpleNamespace(
            **{name: self._counted(f) if callable(f) and not isinstance(f, type) else f for name, f in contents}
        )

    def _counted(self, function):
        def call(*args, **options):
            self.calls += 1
            if self.calls in self.faults:
                raise self.error("planted")
            return function(*args, **options)

        return call


def trainer_of(backend="numpy", bad=False):
    """Return a trainer of 5 batches an epoch; `bad` makes the fourth one overflow."""
    x, t = problems.three_classes()
    x, t = x[:18].copy(), t[:18]
    if bad:
        x[12] = 1e308
    layers = [xpnet.Linear(3, 4), xpnet.ReLU(), xpnet.Linear(4, 3)]
    net = xpnet.Network(layers, "sum_squared_error", backend=backend, dtype="float64", l2=0.01)
    return xpnet.Trainer(net, xpnet.Adam(0.01, clip_norm=5.0), x, np.eye(3)[t], batch_size=4, shuffle=False)


def fingerprint(trainer):
    """Return everything that later steps depend on, as bytes; and the counts."""
    arrays = {name: trainer.net.backend.to_numpy(a).tobytes() for name, a in trainer.arrays.carried.items()}
    return (trainer.epoch, trainer.position, trainer.step), arrays


def whole_steps(count, **options):
    """Return the fingerprints after 0, 1, ... whole steps."""
    trainer = trainer_of(**options)
    trainer.run(0)
    found = [fingerprint(trainer)]
    for _ in range(count):
        trainer.advance(1)
        found.append(fingerprint(trainer))
    return found


def survives(trainer, good):
    """Check that a trainer is at a whole step, knows which, and can go on to where it would have come."""
    assert trainer.step >= 1
    assert fingerprint(trainer) == good[trainer.step]
    trainer.run(STEPS - trainer.step)
    assert fingerprint(trainer) == good[STEPS]


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, OSError])
def test_an_exception_at_any_operation_leaves_whole_steps(error):
    good = whole_steps(STEPS)
    for k in range(1, 1000):
        trainer = trainer_of(FaultyBackend())
        trainer.advance(1)
        backend = trainer.net.backend
        backend.calls, backend.faults, backend.error = 0, (k,), error
        try:
            trainer.advance(STEPS - 1)
        except error:
            backend.faults = ()
            survives(trainer, good)
        else:
            break
    assert k > 100  # operations were really interrupted


def test_a_second_exception_while_the_first_is_dealt_with():
    """The steps are repeated from their beginning, and that fails as well."""
    good = whole_steps(STEPS)
    undone, k, calls = 0, 1, 10**9
    while k < calls:
        for later in range(1, 60, 4):
            trainer = trainer_of(FaultyBackend())
            trainer.advance(1)
            backend = trainer.net.backend
            backend.calls, backend.faults = 0, (k, k + later)
            try:
                trainer.advance(STEPS - 1)
            except MemoryError:
                backend.faults = ()
                undone += trainer.step == 1 and k > 40
                survives(trainer, good)
            else:
                calls = backend.calls
        k += 7
    assert calls < 1000
    assert undone > 10  # what was repeated failed too, and was given up


def apart(test):
    """Run a test in a thread of its own: an exception out of a tracer can leave its mark on the thread."""

    @functools.wraps(test)
    def run(*arguments, **options):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(test, *arguments, **options).result()

    return run


class Interrupt:
    """Raises an exception at the k-th line of xpnet's own code that runs in a `with` block, as Ctrl-C may."""

    def __init__(self, k, error=KeyboardInterrupt):
        self.k, self.error, self.lines = k, error, 0

    def _line(self, frame, event, argument):
        if event == "line" and not self._spared(frame):
            self.lines += 1
            if self.lines == self.k:
                raise self.error
        return self._line

    @staticmethod
    def _spared(frame):
        """Between a lock and its `with` no signal comes, though a tracer does."""
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        return line.startswith("with ") and "net._lock" in line

    def _call(self, frame, event, argument):
        own = frame.f_globals.get("__name__", "").startswith("xpnet")
        return self._line if own else None

    def __enter__(self):
        self._before = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(self, *_):
        sys.settrace(self._before)


@pytest.mark.parametrize("name", ["numpy", "eager"])
@apart
def test_ctrl_c_at_any_line_leaves_whole_steps(name):
    good = whole_steps(STEPS)
    compiled = trainer_of(make(name))
    compiled.advance(1)
    start = compiled.export()
    interrupted, k = 0, 0
    while True:
        k += 1
        compiled.restore(*start)
        try:
            with Interrupt(k):
                compiled.advance(STEPS - 1)
        except KeyboardInterrupt:
            interrupted += 1
            survives(compiled, good)
        else:
            break
    assert interrupted > 50


@apart
def test_ctrl_c_while_looking_for_the_cause_of_a_divergence():
    good = whole_steps(3, bad=True)
    trainer = trainer_of(bad=True)
    trainer.advance(1)
    start = trainer.export()
    with pytest.raises(NonFiniteError):
        trainer.advance(3)
    assert fingerprint(trainer) == good[3]
    interrupted, k = 0, 0
    while True:
        k += 1
        trainer.restore(*start)
        try:
            with Interrupt(k):
                trainer.advance(3)
        except KeyboardInterrupt:
            interrupted += 1
            assert fingerprint(trainer) == good[trainer.step]
            assert trainer.step in (1, 2, 3)
        except NonFiniteError:
            break
    assert interrupted > 200


@apart
def test_ctrl_c_at_any_line_of_run_leaves_a_trainer_that_goes_on():
    """Also between epochs: none is skipped, none is begun twice."""
    whole = trainer_of()
    whole.run(12)
    compiled = trainer_of()
    compiled.run(4)
    start = compiled.export()
    interrupted, k = 0, 0
    while True:
        k += 3
        compiled.restore(*start)
        try:
            with Interrupt(k):
                compiled.run(8)
        except KeyboardInterrupt:
            interrupted += 1
            assert compiled.epoch * 5 + compiled.position == compiled.step
            compiled.run(12 - compiled.step)
            assert fingerprint(compiled) == fingerprint(whole)
        else:
            break
    assert interrupted > 50


@apart
def test_ctrl_c_at_any_line_of_fit_leaves_whole_steps():
    x, t = problems.three_classes()
    options = {"epochs": 2, "batch_size": 16, "validation_data": (x, t), "verbose": False}
    net = classifier()
    trainer = xpnet.Trainer(net, "adam", x, t, batch_size=16)
    good = [flat(net).tobytes()]
    for _ in range(8):
        trainer.run(1)
        good.append(flat(net).tobytes())
    reached, k, finished = set(), 1, False
    while not finished:
        net = classifier(backend=EagerBackend())
        try:
            with Interrupt(k):
                net.fit(x, t, **options)
        except KeyboardInterrupt:
            reached.add(good.index(flat(net).tobytes()))  # a whole number of steps
        else:
            finished = True
        assert not net._lock.locked()
        k += 1 if k < 150 else 17
    assert {0, 4, 8} <= reached


# ---------------------------------------------------------------------------------------------------- threads


def test_two_trainings_of_one_network_at_once():
    x, t = problems.three_classes()
    net = classifier()
    inside, go_on = threading.Event(), threading.Event()

    def wait(run):
        inside.set()
        go_on.wait(10)

    first = threading.Thread(target=lambda: net.fit(x, t, epochs=2, callbacks=wait, verbose=False))
    first.start()
    try:
        assert inside.wait(10)
        with pytest.raises(AlreadyTrainingError, match=r"already being trained.*train a copy: net\.copy\(\)"):
            net.fit(x, t, epochs=1, verbose=False)
        copy = net.copy()
        copy.fit(x, t, epochs=1, verbose=False)  # a copy can be trained
        net.predict(x)  # and the network itself be used
    finally:
        go_on.set()
        first.join(10)
    assert issubclass(AlreadyTrainingError, RuntimeError)
    reference = classifier()
    reference.fit(x, t, epochs=2, verbose=False)
    assert_array_equal(flat(net), flat(reference))
    net.fit(x, t, epochs=1, verbose=False)


def test_a_training_inside_a_callback_of_the_same_network_is_refused_too():
    x, t = problems.three_classes()
    net = classifier()
    with pytest.raises(AlreadyTrainingError):
        net.fit(x, t, epochs=1, verbose=False, callbacks=lambda run: net.fit(x, t, verbose=False))
    net.fit(x, t, epochs=1, verbose=False)


def test_two_networks_train_in_two_threads_as_they_do_alone():
    x, t = problems.three_classes()
    alone = []
    for seed in (0, 1):
        net = classifier(seed=seed, dropout=0.2)
        net.fit(x, t, epochs=15, batch_size=4, verbose=False)
        alone.append(flat(net))
    nets = [classifier(seed=seed, dropout=0.2) for seed in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda net: net.fit(x, t, epochs=15, batch_size=4, verbose=False), nets))
    for net, expected in zip(nets, alone, strict=True):
        assert_array_equal(flat(net), expected)


@pytest.mark.parametrize("name", ["numpy", "device1"])
def test_eight_threads_predict_what_one_predicts(name):
    rng = np.random.default_rng(0)
    net = xpnet.mlp([3, 16, 4], "gelu", dropout=0.5, backend=make(name))
    batches = [rng.normal(size=(50, 3)).astype(np.float32) for _ in range(8)]
    before = sorted(vars(net))
    expected = [net.predict_proba(x) for x in batches]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for p, reference in zip(pool.map(net.predict_proba, batches), expected, strict=True):
                assert_array_equal(p, reference)
    assert sorted(vars(net)) == before  # nothing is kept on the network


def test_data_changed_by_another_thread_while_fitting_crashes_nothing():
    x, t = problems.three_classes()
    x, target = x.astype(np.float32), np.eye(3, dtype=np.float32)[t]
    stop = threading.Event()

    def scramble():
        rng = np.random.default_rng(0)
        while not stop.is_set():
            x[...] = rng.normal(size=x.shape)
            target[...] = 0.0

    thread = threading.Thread(target=scramble)
    thread.start()
    try:
        net = xpnet.mlp([3, 4, 3])
        net.fit(x, t, epochs=3, verbose=False)
        other = xpnet.mlp([3, 4, 3], loss="mean_squared_error")
        other.fit(x, target, epochs=3, verbose=False)
    finally:
        stop.set()
        thread.join(10)
    assert np.isfinite(flat(net)).all()
    assert np.isfinite(flat(other)).all()


# --------------------------------------------------------------------------------------------------- progress


class Terminal(io.StringIO):
    """A terminal whose other end may have gone."""

    def __init__(self, error=None, terminal=True):
        super().__init__()
        self.error, self.terminal, self.writes = error, terminal, 0

    def isatty(self):
        return self.terminal

    def write(self, text):
        self.writes += 1
        if self.error and self.writes > 3:
            raise self.error
        return super().write(text)


def fit_with(monkeypatch, stdout, verbose):
    x, t = problems.three_classes()
    reference, net = classifier(), classifier()
    reference.fit(x, t, epochs=3, verbose=False)
    monkeypatch.setenv("TERM", "xterm")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stdout)
        history = net.fit(x, t, epochs=3, validation_data=(x, t), verbose=verbose)
    assert history.epochs == 3
    assert_array_equal(flat(net), flat(reference))


@pytest.mark.parametrize(
    "error",
    [BrokenPipeError(errno.EPIPE, "gone"), OSError(errno.ENOSPC, "full"), ValueError("I/O operation on closed file")],
)
@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_that_goes_away_does_not_end_the_training(monkeypatch, error, terminal):
    fit_with(monkeypatch, Terminal(error, terminal), 2)


def test_no_standard_output_at_all(monkeypatch):
    fit_with(monkeypatch, None, True)
    fit_with(monkeypatch, None, 2)
    closed = io.StringIO()
    closed.close()
    fit_with(monkeypatch, closed, 2)


def test_what_is_shown(monkeypatch):
    screen = Terminal()
    fit_with(monkeypatch, screen, True)
    for text in ("epoch 1/3", "epoch 3/3", "loss ", "validation accuracy "):
        assert text in screen.getvalue()
    for verbose, lines in ((True, 0), (False, 0), (2, 3)):
        file = Terminal(terminal=False)
        fit_with(monkeypatch, file, verbose)
        assert len(file.getvalue().splitlines()) == lines


def test_the_running_loss_and_the_time_left_of_the_whole_training_are_shown(monkeypatch):
    screen = Terminal()
    fit_with(monkeypatch, screen, True)
    shown = screen.getvalue()
    assert "epoch 1/3" in shown[: shown.index("loss")]  # the bar has a name before the first step
    assert re.search(r"loss \d\.\d{4}  0:\d\d left", shown)
    assert re.search(
        r"epoch 3/3  loss \d\.\d{4}  validation loss \d\.\d{4}  validation accuracy \d\.\d{4}  \d\.\d s", shown
    )
    assert Progress(False, 10, 100, 250)._left(2, 50) == "0:00 left"
    late = Progress(False, 10, 100, 250)
    late.began -= 50.0  # 50 steps took 50 seconds, and 700 are left
    assert late._left(2, 100) == "11:40 left"


def test_a_notebook_gets_one_line_that_changes(monkeypatch):
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    cell = Terminal(terminal=False)
    fit_with(monkeypatch, cell, True)
    *before, last = cell.getvalue().rstrip("\n").split("\r")
    assert len(before) >= 3
    assert cell.getvalue().count("\n") == 1
    assert last.startswith("epoch 3/3  loss ")
    for verbose, lines in ((False, 0), (2, 3)):
        cell = Terminal(terminal=False)
        fit_with(monkeypatch, cell, verbose)
        assert len(cell.getvalue().splitlines()) == lines
    shell.kernel = None  # IPython in a pipe
    fit_with(monkeypatch, quiet := Terminal(terminal=False), True)
    assert not quiet.getvalue()


def test_a_training_that_finds_nothing_to_resume_says_so(tmp_path, capsys):
    x, t = problems.three_classes()
    for begun in (False, True):
        classifier().fit(x, t, epochs=1, checkpoint=tmp_path / "f", resume=True, verbose=2)
        assert ("there is nothing in" in capsys.readouterr().out) != begun


def test_a_clock_that_jumps_back_does_not_end_the_training(monkeypatch):
    times = iter(range(10**9, 0, -1))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(times)))
    monkeypatch.setattr(time, "time", lambda: float(next(times)))
    x, t = problems.three_classes()
    assert classifier().fit(x, t, epochs=2, verbose=False).epochs == 2
