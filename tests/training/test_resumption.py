"""Trainings that are interrupted, by whatever, and go on: nothing is lost, and the result is the same to the bit."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import array_backends
import numpy as np
import pytest
import trainings
from fault_injection import Calls, same, temporaries
from trainings import COMBINATIONS, FEATURES, SAMPLES, WEIGHTS, KillAfter, T, X, curves, make, train

import xpnet
from xpnet import schedules
from xpnet.errors import CheckpointError, CheckpointIOError, ConfigError, NonFiniteError
from xpnet.files.tensors import read_tensors, write_tensors
from xpnet.training.checkpoint import Checkpoint, exit_on_sigterm
from xpnet.training.state import differences

EVERYTHING = "adam, validation, early stopping"  # dropout, averaging, validation and two callbacks with a state


class Boom(Exception):
    pass


class RaiseAfter(xpnet.Callback):
    """Raise after a step, or, if `every` is None, at the end of the first epoch."""

    def __init__(self, step: int | None, error: type[BaseException] = Boom) -> None:
        self.every, self.step, self.error = step and 1, step, error

    def on_steps(self, run: Any) -> None:
        if run.step == self.step:
            raise self.error("as was to be expected")

    def on_epoch_end(self, run: Any) -> None:
        if self.step is None:
            raise self.error("as was to be expected")


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests write need not outlive a loss of power."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def uninterrupted(name: str, **options: Any) -> tuple[xpnet.Network, xpnet.History]:
    net = make(name)
    return net, train(name, net, **options)


# ------------------------------------------------------------------------------------------------- to the bit


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which one process was killed in all trainings, and another has gone on with them."""
    folder = tmp_path_factory.mktemp("resumed")
    for what in ("kill", "resume"):
        command = [sys.executable, "-W", "error", trainings.__file__, what, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", COMBINATIONS)
def test_a_training_killed_and_resumed_elsewhere_ends_the_same(resumed: Path, name: str) -> None:
    net, history = uninterrupted(name)
    with np.load(resumed / f"{name}.npz") as end:
        assert end["theta"].tobytes() == net.theta.tobytes()
        assert {key: end[key].tolist() for key in end if key != "theta"} == curves(history)
    assert not temporaries(resumed)


def test_the_combinations_differ_and_are_killed_in_mid_epoch(resumed: Path) -> None:
    ends = [np.load(resumed / f"{name}.npz")["theta"].tobytes() for name in COMBINATIONS]
    assert len(set(ends)) == len(COMBINATIONS) >= 12
    positions = [case["step"] % 7 for case in COMBINATIONS.values() if case["options"]["batch_size"] == 8]
    assert sum(position not in (0, 7) for position in positions) >= 10


def test_the_weights_alone_are_not_enough(tmp_path: Path, no_sync: None) -> None:
    name = "adam, cosine, dropout, averaging"
    net, _ = uninterrupted(name, averaging=None)
    with pytest.raises(Boom):
        train(name, make(name), [RaiseAfter(35)], checkpoint=tmp_path / "f", averaging=None)
    weights = xpnet.load(tmp_path / "f")
    train(name, weights, epochs=5, averaging=None)
    assert not np.array_equal(weights.theta, net.theta)
    whole = make(name)
    train(name, whole, checkpoint=tmp_path / "f", resume=True, averaging=None)
    assert np.array_equal(whole.theta, net.theta)


@pytest.mark.parametrize("step", range(1, 36))
def test_after_any_step(tmp_path: Path, no_sync: None, step: int) -> None:
    path = tmp_path / "f"
    net, history = uninterrupted(EVERYTHING, epochs=5)
    first = make(EVERYTHING)
    with pytest.raises(Boom) as caught:
        train(EVERYTHING, first, [RaiseAfter(step)], epochs=5, checkpoint=path)
    (note,) = caught.value.__notes__
    assert f"after {step} steps" in note
    assert f"fit(..., checkpoint={str(path)!r}, resume=True)" in note
    assert xpnet.load(path).theta.tobytes() == first.theta.tobytes()
    assert read_tensors(path)[1]["training"]["step"] == step
    again = make(EVERYTHING)
    got = train(EVERYTHING, again, epochs=5, checkpoint=path, resume=True)
    assert again.theta.tobytes() == net.theta.tobytes()
    assert curves(got) == curves(history)


@pytest.mark.parametrize("every", [1, 3, 7, 100])
def test_writing_changes_nothing(tmp_path: Path, no_sync: None, every: int) -> None:
    net, history = uninterrupted(EVERYTHING)
    again = make(EVERYTHING)
    got = train(EVERYTHING, again, checkpoint=tmp_path / "f", checkpoint_every=every)
    assert again.theta.tobytes() == net.theta.tobytes()
    assert curves(got) == curves(history)


def test_the_file_is_written_when_it_was_said(tmp_path: Path, no_sync: None) -> None:
    seen = []

    class Look(xpnet.Callback):
        every = 1

        def on_steps(self, run: Any) -> None:
            seen.append(read_tensors(tmp_path / "f")[1]["training"]["step"] if (tmp_path / "f").exists() else None)

    net = make("adam")
    train("adam", net, [Look()], epochs=3, checkpoint=tmp_path / "f")
    assert seen == [None] * 7 + [7] * 7 + [14] * 7
    seen.clear()
    os.unlink(tmp_path / "f")
    train("adam", make("adam"), [Look()], epochs=2, checkpoint=tmp_path / "f", checkpoint_every=3)
    assert seen == [None] * 3 + [3] * 3 + [6] + [7] * 2 + [9] * 3 + [12] * 2


def test_a_finished_training_goes_on_if_more_epochs_are_asked_for(tmp_path: Path, no_sync: None) -> None:
    name = "at the end of an epoch"
    net, history = uninterrupted(name, epochs=6)
    for epochs in (2, 2, 5, 6):
        again = make(name)
        got = train(name, again, epochs=epochs, checkpoint=tmp_path / "f", resume=True)
        assert got.epochs == epochs
    assert again.theta.tobytes() == net.theta.tobytes()
    assert curves(got) == curves(history)


def test_a_training_that_was_stopped_stays_stopped(tmp_path: Path, no_sync: None) -> None:
    name = "adam, split, stopped early"
    net, history = uninterrupted(name, epochs=50)
    assert history.epochs < 50
    for _ in range(2):
        again = make(name)
        got = train(name, again, epochs=50, checkpoint=tmp_path / "f", resume=True)
        assert again.theta.tobytes() == net.theta.tobytes()
        assert curves(got) == curves(history)


def test_resume_begins_anew_if_there_is_no_file(tmp_path: Path, no_sync: None) -> None:
    net, _ = uninterrupted("adam")
    again = make("adam")
    train("adam", again, checkpoint=tmp_path / "f", resume=True)
    assert again.theta.tobytes() == net.theta.tobytes()


@pytest.mark.parametrize("name", array_backends.WRITABLE)
def test_on_every_backend(tmp_path: Path, no_sync: None, name: str) -> None:
    def net() -> xpnet.Network:
        backend = array_backends.make(name)
        return xpnet.mlp([FEATURES, 3, 3], dropout=0.2, backend=backend)

    options = {"epochs": 3, "batch_size": 20, "verbose": False, "averaging": 0.9}
    whole, first, second = net(), net(), net()
    whole.fit(X, T, **options)
    with pytest.raises(Boom):
        first.fit(X, T, **options, checkpoint=tmp_path / "f", callbacks=[RaiseAfter(4)])
    second.fit(X, T, **options, checkpoint=tmp_path / "f", resume=True)
    assert np.array_equal(second.backend.to_numpy(second.theta), whole.backend.to_numpy(whole.theta))
    # A file of any backend is one of all others.
    third = xpnet.mlp([FEATURES, 3, 3], dropout=0.2)
    third.fit(X, T, **options, checkpoint=tmp_path / "f", resume=True)
    there = whole.backend.to_numpy(whole.theta)
    assert np.allclose(third.theta, there, rtol=1e-4) if name == "torch" else np.array_equal(third.theta, there)


def test_a_network_of_ones_own_functions_is_resumed_without_naming_them(tmp_path: Path, no_sync: None) -> None:
    def net() -> xpnet.Network:
        own = xpnet.Activation(lambda xp, x: xp.sin(x), lambda xp, x: xp.cos(x))
        return xpnet.Network([xpnet.Linear(FEATURES, 3), own, xpnet.Linear(3, 3)], "cross_entropy")

    options = {"epochs": 3, "batch_size": 20, "verbose": False, "optimizer": xpnet.SGD(lambda step: 0.1 / (1 + step))}
    whole, first, second = net(), net(), net()
    whole.fit(X, T, **options)
    with pytest.raises(Boom):
        first.fit(X, T, **options, checkpoint=tmp_path / "f", callbacks=[RaiseAfter(4)])
    second.fit(X, T, **options, checkpoint=tmp_path / "f", resume=True)
    assert np.array_equal(second.theta, whole.theta)


# ---------------------------------------------------------------------------------------------- interruptions


def package_lines(point: int) -> Any:
    """A trace function that raises KeyboardInterrupt at line number `point` of xpnet's that is run, and counts."""
    folder = os.path.dirname(xpnet.__file__) + os.sep
    backends = os.path.dirname(xpnet.backends.__file__) + os.sep
    count = 0

    def local(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        if event == "line":
            count += 1
            local.count = count  # type: ignore[attr-defined]
            if count == point:
                raise KeyboardInterrupt
        return local

    def trace(frame: Any, event: str, argument: Any) -> Any:
        return local if frame.f_code.co_filename.startswith((folder, backends)) else None

    local.count = 0  # type: ignore[attr-defined]
    return trace, local


def interrupted(path: Path, point: int) -> tuple[xpnet.Network, int, BaseException | None]:
    """Train with Ctrl-C at a line; return the network, the number of lines run, and what came out."""
    net, error = make(EVERYTHING), None
    trace, local = package_lines(point)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        train(EVERYTHING, net, epochs=3, checkpoint=path, checkpoint_every=4)
    except KeyboardInterrupt as caught:
        error = caught
    finally:
        sys.settrace(before)
    return net, local.count, error


def test_ctrl_c_at_any_line(tmp_path: Path, no_sync: None) -> None:
    path = tmp_path / "f"
    net, history = uninterrupted(EVERYTHING, epochs=3)
    _, lines, error = interrupted(path, 0)
    assert error is None
    rng, found = random.Random(0), {"file": 0, "no file": 0}
    for point in sorted(rng.sample(range(1, lines), 25)):
        path.unlink(missing_ok=True)
        interrupted(path, point)
        found["file" if path.exists() else "no file"] += 1
        again = make(EVERYTHING)
        got = train(EVERYTHING, again, epochs=3, checkpoint=path, resume=True)
        assert again.theta.tobytes() == net.theta.tobytes(), f"line {point} of {lines}"
        assert curves(got) == curves(history), f"line {point} of {lines}"
    assert found["file"] > 15


def test_a_second_ctrl_c_while_the_file_is_written_leaves_the_previous_one(tmp_path: Path, no_sync: None) -> None:
    path = tmp_path / "f"
    net, _ = uninterrupted(EVERYTHING)
    with pytest.raises(KeyboardInterrupt):
        train(EVERYTHING, make(EVERYTHING), [RaiseAfter(10, KeyboardInterrupt)], checkpoint=path)
    before = path.read_bytes()
    for k, name in enumerate(("write", "fsync", "link", "replace")):
        path.write_bytes(before)
        calls = Calls((name,), fail_at=0, error=KeyboardInterrupt())
        with calls.watching(), pytest.raises(KeyboardInterrupt):
            train(
                EVERYTHING, make(EVERYTHING), [RaiseAfter(11 + k % 3, KeyboardInterrupt)], checkpoint=path, resume=True
            )
        assert calls.log
        assert path.read_bytes() == before
        assert not temporaries(tmp_path)
    again = make(EVERYTHING)
    train(EVERYTHING, again, checkpoint=path, resume=True)
    assert again.theta.tobytes() == net.theta.tobytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_signals_of_the_system(tmp_path: Path, number: int, code: int) -> None:
    path = tmp_path / "f"
    script = f"""
import signal, sys; sys.path.insert(0, {str(Path(__file__).parents[1] / "support")!r})
from trainings import make, train
from xpnet.training.checkpoint import exit_on_sigterm
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is told to ignore it
with exit_on_sigterm():
    train("adam", make("adam"), epochs=10**6, checkpoint=sys.argv[1], checkpoint_every=1000)
"""
    child = subprocess.Popen([sys.executable, "-c", script, str(path)], stderr=subprocess.DEVNULL)
    while not path.exists():
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(number)
    assert child.wait(60) == code
    done = read_tensors(path)[1]["training"]
    assert done["step"] == 7 * done["epoch"] + done["position"] > 0
    net, _ = uninterrupted("adam", epochs=done["epoch"] + 1)
    again = make("adam")
    train("adam", again, epochs=done["epoch"] + 1, checkpoint=path, resume=True)
    assert again.theta.tobytes() == net.theta.tobytes()


def test_sigterm_is_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught, exit_on_sigterm():
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_kills_at_random_times(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", trainings.__file__, "kills", "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "{'killed': 8, 'ended': 1, 'equal': 1}", done.stderr


def test_a_callback_that_raises_loses_nothing(tmp_path: Path, no_sync: None) -> None:
    path = tmp_path / "f"
    net, history = uninterrupted("adam", epochs=3)
    first = make("adam")
    with pytest.raises(Boom, match=r"^as was to be expected\n") as caught:
        train("adam", first, [RaiseAfter(None)], epochs=3, checkpoint=path, checkpoint_every=100)
    assert caught.value.history.epochs == 1
    assert xpnet.load(path).theta.tobytes() == first.theta.tobytes()
    again = make("adam")
    assert curves(train("adam", again, epochs=3, checkpoint=path, resume=True)) == curves(history)
    assert again.theta.tobytes() == net.theta.tobytes()


def test_an_error_after_the_last_epoch_leaves_the_file_of_the_last_step(tmp_path: Path, no_sync: None) -> None:
    class AtEnd(xpnet.Callback):
        def on_end(self, run: Any) -> None:
            raise Boom

    path = tmp_path / "f"
    net, history = uninterrupted(EVERYTHING)
    losses = history["validation_loss"].tolist()
    # An epoch that was not the best, so that early stopping changes the network before the error comes.
    epochs = next(k for k in range(2, len(losses)) if np.argmin(losses[:k]) == k - 2)
    with pytest.raises(Boom):
        train(EVERYTHING, make(EVERYTHING), [AtEnd()], epochs=epochs, checkpoint=path)
    again = make(EVERYTHING)
    assert curves(train(EVERYTHING, again, checkpoint=path, resume=True)) == curves(history)
    assert again.theta.tobytes() == net.theta.tobytes()


@pytest.mark.parametrize("call", [0, 1, 2])
def test_ctrl_c_between_two_epochs(tmp_path: Path, no_sync: None, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    path, calls, finish = tmp_path / "f", [], xpnet.Trainer.finish_epoch

    def finish_epoch(trainer: Any) -> float:
        calls.append(trainer)
        if len(calls) == call + 1:
            raise KeyboardInterrupt  # the history has the epoch already, the trainer has not finished it
        return finish(trainer)

    net, history = uninterrupted(EVERYTHING, epochs=3)
    with monkeypatch.context() as context:
        context.setattr(xpnet.Trainer, "finish_epoch", finish_epoch)
        with pytest.raises(KeyboardInterrupt):
            train(EVERYTHING, make(EVERYTHING), epochs=3, checkpoint=path)
    again = make(EVERYTHING)
    assert curves(train(EVERYTHING, again, epochs=3, checkpoint=path, resume=True)) == curves(history)
    assert again.theta.tobytes() == net.theta.tobytes()


# ---------------------------------------------------------------------------------------------- the disk, numbers


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_disk_that_fails_in_mid_training(tmp_path: Path, error: int) -> None:
    path = tmp_path / "f"
    net, _ = uninterrupted("adam", epochs=3)
    for name in ("write", "fsync", "replace"):
        path.unlink(missing_ok=True)
        train("adam", make("adam"), epochs=1, checkpoint=path)
        before = path.read_bytes()
        calls = Calls((name,), fail_at=0, error=error)
        calls.forever = True
        stopped = make("adam")
        with calls.watching(), pytest.raises(CheckpointIOError, match=os.strerror(error)) as caught:
            train("adam", stopped, epochs=3, checkpoint=path, resume=True)
        assert "The last checkpoint could not be written" in caught.value.__notes__[0]
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["f"]
        two, _ = uninterrupted("adam", epochs=2)
        assert stopped.theta.tobytes() == two.theta.tobytes()  # the memory still has what the disk has not
        again = make("adam")
        train("adam", again, epochs=3, checkpoint=path, resume=True)
        assert again.theta.tobytes() == net.theta.tobytes()


def test_a_disk_that_fails_when_another_error_is_on_its_way_does_not_hide_it(tmp_path: Path) -> None:
    calls = Calls(("write",), fail_at=0, error=errno.ENOSPC)
    with calls.watching(), pytest.raises(Boom) as caught:
        train("adam", make("adam"), [RaiseAfter(3)], checkpoint=tmp_path / "f")
    assert "could not be written: cannot write" in caught.value.__notes__[0]
    assert "No space left on device" in caught.value.__notes__[0]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("target", "text"),
    [("missing/f", "No such file"), ("", "Is a directory"), ("f/g", "Not a directory"), ("a\0b", "null")],
)
def test_an_impossible_path_is_noticed_before_the_first_step(tmp_path: Path, target: str, text: str) -> None:
    (tmp_path / "f").write_bytes(b"")
    net = make("adam")
    before = net.theta.tobytes()
    with pytest.raises(CheckpointIOError, match=text):
        train("adam", net, checkpoint=f"{tmp_path}/{target}")
    assert net.theta.tobytes() == before
    assert os.listdir(tmp_path) == ["f"]


def test_what_a_file_cannot_hold_is_noticed_before_the_first_step(tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Memory(xpnet.Layer):
        x: Any

    net = xpnet.Network([xpnet.Linear(FEATURES, 3), Memory(np.ones(3))], "cross_entropy")
    before = net.theta.tobytes()
    with pytest.raises(CheckpointError, match=r"layers\[1\].x is array"):
        net.fit(X, T, verbose=False, checkpoint=tmp_path / "f")
    assert net.theta.tobytes() == before
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("options", [{"resume": True}, {"checkpoint_every": 3}])
def test_options_without_a_file(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="need a file: checkpoint="):
        train("adam", make("adam"), **options)


@pytest.mark.parametrize("every", [0, -1, 2.5, True, "3"])
def test_checkpoint_every(tmp_path: Path, every: Any) -> None:
    with pytest.raises(ConfigError, match=r"checkpoint_every must be an integer >= 1"):
        train("adam", make("adam"), checkpoint=tmp_path / "f", checkpoint_every=every)
    with pytest.raises(ConfigError, match=r"checkpoint_every must be an integer >= 1"):
        Checkpoint(tmp_path / "f", every=every)


def test_numbers_that_are_not_finite_never_replace_a_file(tmp_path: Path, no_sync: None) -> None:
    path = tmp_path / "f"
    net = make("adam")
    train("adam", net, epochs=1, checkpoint=path)
    before = path.read_bytes()

    class Spoil(xpnet.Callback):
        def on_epoch_end(self, run: Any) -> None:
            run.net.theta[0] = np.nan

    with pytest.warns(RuntimeWarning, match="NaN or infinities; the checkpoint .* is kept as it was"):
        train("adam", make("adam"), [Spoil()], epochs=2, checkpoint=path, resume=True, shuffle=True)
    assert path.read_bytes() == before


def test_a_training_that_diverges_leaves_its_last_finite_step(tmp_path: Path, no_sync: None) -> None:
    path = tmp_path / "f"
    net = xpnet.mlp([FEATURES, 2], loss="mean_squared_error")
    values = np.ones((SAMPLES, 2), "float32")
    with pytest.raises(NonFiniteError):
        net.fit(X, values, optimizer=xpnet.SGD(1e3), epochs=30, batch_size=8, verbose=False, checkpoint=path)
    again = xpnet.load(path)
    assert np.isfinite(again.theta).all()
    assert again.theta.tobytes() == net.theta.tobytes()


# ------------------------------------------------------------------------------------------------- other files


@pytest.fixture
def run_file(tmp_path: Path, no_sync: None) -> Path:
    with pytest.raises(Boom):
        train(EVERYTHING, make(EVERYTHING), [RaiseAfter(17)], checkpoint=tmp_path / "f")
    return tmp_path / "f"


def refused(path: Path, net: xpnet.Network, x: Any = X, t: Any = T, **options: Any) -> str:
    """The message with which a resumption is refused; nothing may have changed."""
    before, file = net.theta.tobytes(), path.read_bytes()
    case = COMBINATIONS[EVERYTHING]
    settings = {"optimizer": case["optimizer"], "callbacks": [trainings.Best(), xpnet.EarlyStopping(patience=2)]}
    settings |= case["options"] | {"checkpoint": path, "resume": True} | options
    with pytest.raises(CheckpointError) as caught:
        net.fit(x, t, **settings)
    assert net.theta.tobytes() == before
    assert path.read_bytes() == file
    assert repr(str(path)) in str(caught.value)
    return str(caught.value)


def test_another_training_is_refused_with_all_differences(run_file: Path) -> None:
    net = xpnet.mlp([FEATURES, 7, 3], "relu", dropout=0.2, seed=1, l2=0.5)
    text = refused(run_file, net, optimizer=xpnet.SGD(0.1), batch_size=10, shuffle=False, averaging=0.7)
    for part in (
        "this is another training; use the same settings, or load the network and begin a new one",
        "network.layers[0].outputs is 6 in the file, 7 here",
        "network.layers[1] is 'Tanh' in the file, 'ReLU' here",
        "network.layers[2].rate is 0.1 in the file, 0.2 here",
        "network.seed is 0 in the file, 1 here",
        "network.l2 is 0.0 in the file, 0.5 here",
        "optimizer is 'Adam' in the file, 'SGD' here",
        "batch_size is 8 in the file, 10 here",
        "shuffle is True in the file, False here",
        "averaging is 0.8 in the file, 0.7 here",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"optimizer": xpnet.Adam(0.2)}, "optimizer.learning_rate is 0.1 in the file, 0.2 here"),
        (
            {"optimizer": xpnet.Adam(schedules.StepDecay(0.1, 3))},
            "optimizer.learning_rate is 0.1 in the file, {'class': 'StepDecay'",
        ),
        ({"callbacks": []}, "callbacks is ['Best', 'EarlyStopping'] in the file, [] here"),
        ({"averaging": None}, "averaging is 0.8 in the file, None here"),
        ({"x": X + 1}, "data is "),
        ({"x": X[::-1].copy()}, "data is "),
        ({"t": (T + 1) % 3}, "data is "),
        ({"x": X[:-1], "t": T[:-1]}, "samples is 50 in the file, 49 here"),
        ({"sample_weight": WEIGHTS}, "data is "),
    ],
)
def test_each_setting_counts(run_file: Path, options: dict[str, Any], part: str) -> None:
    assert part in refused(run_file, make(EVERYTHING), **options)


def test_callbacks_without_a_state_may_come_and_go(run_file: Path) -> None:
    net, _ = uninterrupted(EVERYTHING)
    again = make(EVERYTHING)
    train(EVERYTHING, again, [lambda run: None, RaiseAfter(10**6)], checkpoint=run_file, resume=True)
    assert again.theta.tobytes() == net.theta.tobytes()


def test_a_network_without_a_training_is_refused(tmp_path: Path) -> None:
    make(EVERYTHING).save(tmp_path / "f")
    assert "expected a description with network, training" in refused(tmp_path / "f", make(EVERYTHING))


def test_damaged_files_are_refused(run_file: Path) -> None:
    content = run_file.read_bytes()
    for damaged in (b"", content[:-1], content[:500], content + b"x", content[:-1] + bytes([content[-1] ^ 1])):
        run_file.write_bytes(damaged)
        refused(run_file, make(EVERYTHING))


def rewritten(path: Path, change: Any) -> Path:
    tensors, description = read_tensors(path)
    change(tensors, description["training"])
    write_tensors(path, tensors, description)
    return path


CHANGES = {
    "epoch negative": (lambda t, d: d.update(epoch=-1), "impossible counts"),
    "epoch too large": (lambda t, d: d.update(epoch=3), "impossible counts"),
    "position too large": (lambda t, d: d.update(position=8, step=22), "impossible counts"),
    "position a float": (lambda t, d: d.update(position=3.0), "impossible counts"),
    "step true": (lambda t, d: d.update(step=True), "impossible counts"),
    "step a list": (lambda t, d: d.update(step=[]), "impossible counts"),
    "step null": (lambda t, d: d.update(step=None), "impossible counts"),
    "stopped a number": (lambda t, d: d.update(stopped=0), "impossible counts"),
    "no step": (lambda t, d: d.pop("step"), "expected a description with"),
    "more": (lambda t, d: d.update(more=1), "expected a description with"),
    "history too short": (lambda t, d: t.update({"training.history.loss": np.zeros(1)}), "must have 2 numbers"),
    "history of another shape": (
        lambda t, d: t.update({"training.history.x": np.zeros((2, 2))}),
        "must have 2 numbers",
    ),
    "no losses": (lambda t, d: t.pop("training.history.loss"), "must have 2 numbers"),
    "no slot": (lambda t, d: t.pop("training.slot.m.0.W"), "'training.slot.m.0.W' (4, 6) is missing"),
    "no average": (lambda t, d: t.pop("training.average.0.b"), "'training.average.0.b' (6,) is missing"),
    "no sum": (lambda t, d: t.pop("training.loss"), "'training.loss' (1,) is missing"),
    "sum of another type": (
        lambda t, d: t.update({"training.loss": np.zeros(1, "f4")}),
        "dtype float32, expected float64",
    ),
    "another tensor": (lambda t, d: t.update({"training.more": np.zeros(1)}), "'training.more' (1,) is not known"),
    "another parameter": (lambda t, d: t.update({"9.W": np.zeros(1)}), "'9.W' (1,) is not known"),
    "no state of a callback": (
        lambda t, d: t.pop("training.callback.0.best"),
        "of its callbacks does not fit",
    ),
    "state of another shape": (lambda t, d: t.update({"training.callback.0.best": np.zeros(2)}), "does not fit"),
    "state of no callback": (lambda t, d: t.update({"training.callback.7.x": np.zeros(2)}), "'training.callback.7.x'"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_states_that_do_not_fit_are_refused(run_file: Path, name: str) -> None:
    change, message = CHANGES[name]
    assert message in refused(rewritten(run_file, change), make(EVERYTHING))


def changed(name: str, value: Any) -> Any:
    return lambda tensors, description: tensors.update({f"training.callback.{name}": np.asarray(value)})


BEST, ROWS = "training.callback.1.parameters.0", "training.callback.2.records"
FORGED = {
    "the best value NaN": changed("1.best", np.nan),
    "the best value endless": changed("1.best", -np.inf),
    "the best values two": changed("1.best", [1.0, 2.0]),
    "the best epoch endless": changed("1.best_epoch", np.inf),
    "the best epoch a fraction": changed("1.best_epoch", 0.5),
    "the best epoch negative": changed("1.best_epoch", -2),
    "the best epoch to come": changed("1.best_epoch", 2),
    "the best epoch a row": changed("1.best_epoch", [0]),
    "no best epoch, but a best value": changed("1.best_epoch", -1),
    "the best parameters one number": changed("1.parameters.0", np.zeros(1, "f4")),
    "the best parameters too many": changed("1.parameters.1", np.zeros(1, "f4")),
    "the best parameters of another type": lambda t, d: t.update({BEST: t[BEST].astype("f8")}),
    "the best parameters endless": lambda t, d: t.update({BEST: t[BEST] * np.float32(np.inf)}),
    "something else about the best": changed("1.more", 1.0),
    "the steps of records endless": changed("2.steps", np.full(5, np.inf)),
    "the steps of records fractions": changed("2.steps", np.arange(5.0)),
    "the steps of records negative": changed("2.steps", np.arange(-1, 4)),
    "the steps of records falling": changed("2.steps", np.arange(5)[::-1]),
    "the steps of records to come": changed("2.steps", np.arange(17, 22)),
    "the steps of records one number": changed("2.steps", 4),
    "the steps of fewer records": changed("2.steps", np.arange(4)),
    "records of another width": changed("2.records", np.zeros((5, 3), "f4")),
    "no records": lambda t, d: (changed("2.steps", np.zeros(0, int))(t, d), changed("2.records", np.zeros(0))(t, d)),
    "records of another type": lambda t, d: t.update({ROWS: t[ROWS].astype("f8")}),
    "parameters in the records": changed("2.parameters", np.zeros((5, 3), "f4")),
    "endless parameters": lambda t, d: t["0.W"].fill(np.inf),
    "endless moments": lambda t, d: t["training.slot.m.0.W"].fill(np.nan),
    "an endless average": lambda t, d: t["training.average.0.W"].fill(np.inf),
    "an endless loss": lambda t, d: t["training.loss"].fill(np.inf),
}


def recorded(net: xpnet.Network, path: Path, items: list[Any], **options: Any) -> None:
    case = COMBINATIONS[EVERYTHING]
    net.fit(X, T, optimizer=case["optimizer"], callbacks=items, checkpoint=path, **case["options"] | options)


def with_states() -> list[Any]:
    return [trainings.Best(), xpnet.EarlyStopping(patience=9), xpnet.Recorder(4)]


@pytest.fixture(scope="module")
def recorded_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recorded") / "f"
    with pytest.raises(Boom):
        recorded(make(EVERYTHING), path, [*with_states(), RaiseAfter(17)])
    return path


class AsBegun(xpnet.Callback):
    """Keeps what the callbacks before it have when the training begins, and again when it was refused."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def on_begin(self, run: Any) -> None:
        self.begun = self.states()

    def states(self) -> list[Any]:
        return [{name: np.asarray(v).tobytes() for name, v in item.get_state().items()} for item in self.items]


@pytest.mark.parametrize("name", FORGED)
def test_forged_states_of_callbacks_are_refused_and_change_nothing(
    recorded_file: Path, tmp_path: Path, no_sync: None, name: str
) -> None:
    path = tmp_path / "f"
    path.write_bytes(recorded_file.read_bytes())
    rewritten(path, FORGED[name])
    net, items, content = make(EVERYTHING), with_states(), path.read_bytes()
    before, begun = net.theta.tobytes(), AsBegun(items)
    with pytest.raises(CheckpointError, match="of the training or of its callbacks does not fit"):
        recorded(net, path, [*items, begun], resume=True)
    assert net.theta.tobytes() == before
    assert begun.states() == begun.begun
    assert path.read_bytes() == content


def test_what_was_not_forged_goes_on(recorded_file: Path, tmp_path: Path, no_sync: None) -> None:
    path = tmp_path / "f"
    path.write_bytes(recorded_file.read_bytes())
    items = with_states()
    recorded(make(EVERYTHING), path, items, resume=True, epochs=4)
    assert items[2].steps.tolist() == list(range(0, 29, 4))


def test_memory_that_runs_out_while_resuming_changes_nothing(run_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    restore, asarray = xpnet.Trainer.restore, xpnet.backends.numpy.NumpyBackend.asarray

    for k in range(8):
        calls: list[Any] = []

        def failing(backend: Any, a: Any, dtype: Any = None, calls: list[Any] = calls, k: int = k) -> Any:
            calls.append(a)
            if len(calls) == k + 1:
                raise MemoryError
            return asarray(backend, a, dtype)

        def begin(trainer: Any, tensors: Any, counts: Any, failing: Any = failing) -> None:
            with pytest.MonkeyPatch.context() as inner:
                if counts["step"]:  # not on the way back
                    inner.setattr(xpnet.backends.numpy.NumpyBackend, "asarray", failing)
                restore(trainer, tensors, counts)

        net = make(EVERYTHING)
        before = net.theta.tobytes()
        with monkeypatch.context() as context:
            context.setattr(xpnet.Trainer, "restore", begin)
            with pytest.raises(MemoryError):
                train(EVERYTHING, net, checkpoint=run_file, resume=True)
        assert len(calls) == k + 1
        assert net.theta.tobytes() == before


def test_scrambled_states_are_refused_or_make_sense(run_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "xpnet.files.tensors.write_atomically", lambda path, chunks: Path(path).write_bytes(b"".join(chunks))
    )
    tensors, description = read_tensors(run_file)
    rng, found = random.Random(0), {"refused": 0, "resumed": 0}
    for _ in range(150):
        some = dict(tensors)
        training = json.loads(json.dumps(description["training"]))
        if rng.random() < 0.5:
            name = rng.choice(list(some))
            value = some.pop(name)
            replacements = [
                value.T,
                value.astype("float16"),
                np.zeros(3),
                value[..., None],
                value[:0] if value.ndim else value,
            ]
            some |= rng.choice([{}, {name + "x": value}, {name: rng.choice(replacements)}])
        else:
            training[rng.choice(list(training))] = rng.choice([None, 0, 1, 21, "x", [], {}, True, 2**70, -1, 0.5])
        run_file.unlink()
        write_tensors(run_file, some, description | {"training": training})
        net = make(EVERYTHING)
        before = net.theta.tobytes()
        try:
            train(EVERYTHING, net, checkpoint=run_file, resume=True, epochs=3)
            found["resumed"] += 1
        except CheckpointError:
            found["refused"] += 1
            assert net.theta.tobytes() == before
    assert found["refused"] > 100


def test_differences() -> None:
    a = {"x": [1, {"class": "A", "n": 1}], "y": None}
    assert differences(a, a) == []
    assert differences(a, {"x": [1, {"class": "A", "n": 2}], "y": None}) == ["x[1].n is 1 in the file, 2 here"]
    assert differences(a, {"x": [1, {"class": "B", "m": 2}], "y": None}) == ["x[1] is 'A' in the file, 'B' here"]
    assert differences(a, {"x": [1], "y": 0}) == [
        "x is [1, {'class': 'A', 'n': 1}] in the file, [1] here",
        "y is None in the file, 0 here",
    ]
    assert differences(True, 1, "z") == ["z is True in the file, 1 here"]
    assert differences(1.0, 1, "z") == ["z is 1.0 in the file, 1 here"]


def test_helpers_can_fail(tmp_path: Path) -> None:
    assert not same({"a": np.zeros(2)}, {"a": np.ones(2)})
    assert not same({"a": np.zeros(2)}, {"a": np.zeros(2, "float32")})
    assert KillAfter(3).every == 3
