"""What goes wrong while data are streamed: where and why is said, and the last whole step is kept."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sources
from numpy.testing import assert_array_equal
from sources import BATCH, SAMPLES, WINDOW, Pairs, Sliced, network, streamed, train

import xpnet
from xpnet.errors import DataError

X, T = sources.samples()
STEPS = -(-SAMPLES // BATCH)


def whole(step: int) -> Any:
    """Return the parameters after a number of steps of a training without faults."""
    net = network()
    stop = Stop(step)
    with pytest.raises(Stopped):
        streamed(net, X, T, memory=None, callbacks=[stop])
    return net.theta


class Stopped(Exception):
    """Ends a training."""


class Stop(xpnet.Callback):
    every = 1

    def __init__(self, step: int) -> None:
        self.step = step

    def on_steps(self, run: Any) -> None:
        if run.step == self.step:
            raise Stopped


def failing(fault: Callable[[], object], epoch: int, row: int, for_good: bool = True) -> Sliced:
    """Return rows of which one, and for good all others, cannot be read from its turn in an epoch on, from 0."""
    times = [0]

    def hook(start: int, stop: int) -> None:
        now = start <= row < stop and stop - start != 8  # 8 rows are what data are recognised by
        times[0] += now
        if times[0] > epoch and (now or for_good):
            fault()

    return Sliced(X, hook)


def lose_contact() -> None:
    raise OSError("the disk is gone")


@pytest.mark.parametrize(("epoch", "row"), [(0, 0), (0, 555), (1, 1001), (2, 321)])
def test_a_block_that_cannot_be_read_ends_the_training_after_all_steps_before_it(
    epoch: int, row: int, tmp_path: Path
) -> None:
    path, net = tmp_path / "run.safetensors", network()
    ended = []
    stopping = xpnet.Callback()
    stopping.on_exception = lambda run, error: ended.append(run.step)  # type: ignore[method-assign]
    rows = failing(lose_contact, epoch, row)
    block = f"block {row // 10} .rows {row // 10 * 10} to {min(row // 10 * 10 + 9, SAMPLES - 1)}."
    with pytest.raises(DataError, match=f"{block} cannot be read: OSError: the disk is gone.* resume=True") as caught:
        streamed(net, rows, T, checkpoint=path, callbacks=[stopping])
    assert isinstance(caught.value.__cause__, OSError)
    assert sources.no_threads()
    starts = xpnet.training.windows.Windows(SAMPLES, WINDOW, 1).starts(epoch)
    order = xpnet.training.windows.Windows(SAMPLES, WINDOW, 1).order(epoch).tolist()
    window = np.searchsorted(starts, order.index(row), "right") - 1
    assert ended == [epoch * STEPS + starts[window] // BATCH]  # all steps that need nothing of the window
    assert_array_equal(net.theta, whole(ended[0]) if ended[0] else network().theta)
    again = network()
    streamed(again, Sliced(X), T, checkpoint=path, resume=True)
    assert_array_equal(again.theta, whole_training())


def whole_training() -> Any:
    net = network()
    streamed(net, X, T, memory=None)
    return net.theta


def test_a_file_that_shrinks_is_an_error_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    net, rows = network(), sources.mapped(tmp_path, X)
    with pytest.raises(DataError, match=r"block \d+ \(rows \d+ to \d+\) cannot be read: EOFError: .*it has become sh"):
        streamed(net, rows, T, epochs=9, callbacks=lambda run: os.truncate(rows.filename, 5_000))
    assert sources.no_threads()
    with pytest.raises(DataError, match="it has become shorter"):
        net.predict(rows)
    rows = sources.mapped(tmp_path, np.asfortranarray(np.zeros((8000, 20), np.uint8)))
    os.truncate(rows.filename, 5_000)
    with pytest.raises(DataError, match="it has become shorter"):
        net.predict(rows[:, ::-1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_deep_inside_is_named_by_its_row(value: float) -> None:
    x = X.astype(np.float64)
    x[777, 3] = value
    with pytest.raises(
        DataError, match=r"block 77 \(rows 770 to 779\): x contains (NaN|inf): x\[777, 3\] is not finite"
    ):
        streamed(network(), Sliced(x), T, memory=40_000)
    x[777, 3] = 1e300
    with pytest.raises(DataError, match=r"x\[777, 3\] is larger than 3.40282e\+38, the largest float32"):
        streamed(network(), Sliced(x), T, memory=40_000)
    x[777, 3] = 1e5
    rows = Sliced(x.astype(np.float32))
    with pytest.raises(DataError, match=r"x\[777, 3\] = 100000 is beyond 65504; scale the data"):
        streamed(network(), rows, T, memory=40_000, scale=None, precision="float16")


def test_a_target_deep_inside_that_cannot_be_is_named_by_its_row() -> None:
    t = T.copy()
    t[501] = 3
    with pytest.raises(
        DataError, match=r"block 50 \(rows 500 to 509\): t: label 3 at index 501; expected integers 0..2"
    ):
        streamed(network(), Sliced(X), t)


@pytest.mark.parametrize(
    ("slices", "problem"),
    [
        (lambda a: a[:-1], r"shape \(10, 20\) and dtype uint8 was asked for, one of shape \(9, 20\)"),
        (lambda a: a[:, 1:], r"one of shape \(10, 19\)"),
        (lambda a: a.astype(np.int64), "and int64 came"),
    ],
)
def test_a_slice_of_another_shape_or_type_is_an_error(slices: Callable[[Any], Any], problem: str) -> None:
    class Changing(Sliced):
        def __getitem__(self, key: slice) -> Any:
            rows = super().__getitem__(key)
            return slices(rows) if key.start == 400 else rows

    with pytest.raises(DataError, match=f"block 40 .*{problem}"):
        streamed(network(), Changing(X), T)


def test_sizes_that_do_not_fit_are_found_before_anything_changes() -> None:
    for x, t, problem in (
        (Sliced(X), T[1:], "x has 1003 samples, t has 1002 samples; they must be equally many"),
        (Sliced(X[:, 1:]), T, "X has 19 features, but Network is expecting 20"),
        (Sliced(X.astype(complex)), T, "Complex data not supported"),
    ):
        with pytest.raises(xpnet.XpnetError, match=problem):
            streamed(network(), x, t)
    assert sources.no_threads()


# ---------------------------------------------------------------------------------------------- batches of one's own


def changed(epoch: int, number: int, change: Callable[[Any, Any], Any]) -> Pairs:
    """Return a feed of which one batch is changed."""
    return Pairs(X, T, change=lambda e, k, x, t: change(x, t) if (e, k) == (epoch, number) else (x, t))


def explode(x: Any, t: Any) -> Any:
    raise RuntimeError("no more luck")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda x, t: (x[:5], t[:5]), "the batch has 5 samples, in the first epoch it had 24"),
        (lambda x, t: (x[:, 1:], t), "X has 19 features, but Network is expecting 20"),
        (lambda x, t: (x, t[1:]), "x has 24 samples, t has 23"),
        (lambda x, t: (x.astype(np.int16), t), "the batch has .*int16.*, the first one .*uint8"),
        (lambda x, t: (x, t + 3), "t: label [345] at index 0; expected"),
        (lambda x, t: x, "a batch must be a pair"),
        (lambda x, t: None, "x ends after 7 batches of 42"),
        (explode, "cannot be read: RuntimeError: no more luck"),
    ],
)
def test_a_batch_that_is_wrong_is_named_and_what_was_trained_is_kept(
    change: Callable[[Any, Any], Any], problem: str, tmp_path: Path
) -> None:
    path, net, wanted = tmp_path / "run.safetensors", network(), network()
    options: dict[str, Any] = {"scale": 1 / 255, "memory": 4_000}
    with pytest.raises(DataError, match=f"batch 7 of epoch 2.*{problem}") as caught:
        train(net, changed(1, 7, change), checkpoint=path, **options)
    assert change is not explode or isinstance(caught.value.__cause__, RuntimeError)
    assert sources.no_threads()
    train(net, Pairs(X, T), checkpoint=path, resume=True, **options)
    train(wanted, Pairs(X, T), **options)
    assert_array_equal(net.theta, wanted.theta)


def test_a_feed_that_is_wrong_from_the_first_is_found_before_anything_changes() -> None:
    for feed, problem in (
        (iter(Pairs(X, T)), "x is an iterator .generator., which can be gone through once"),
        ([], "x gives no batches"),
        (changed(0, 3, explode), "batch 3 cannot be read: RuntimeError: no more luck"),
        (changed(0, 3, lambda x, t: (x[:9], t[:9])), "batch 4: .*only the last batch may be smaller"),
        (Pairs(X + np.float32(np.nan), T), "batch 0: x contains NaN"),
    ):
        net = network()
        with pytest.raises(DataError, match=problem):
            train(net, feed)
        assert_array_equal(net.theta, network().theta)
    for x, options, problem in (
        (X, {}, r"t is missing: give fit\(x, t\), or fit\(feed\)"),
        (3, {}, "with a feed of batches"),
        (Pairs(X, T), {"sample_weight": T}, "not for a feed of batches"),
    ):
        with pytest.raises(xpnet.errors.ConfigError, match=problem):
            train(network(), x, **options)  # type: ignore[arg-type]
    assert sources.no_threads()


def test_a_feed_that_grows_is_an_error() -> None:
    feed = Pairs(X, T)

    def longer(run: Any) -> None:
        feed.x, feed.t = np.concatenate([X, X]), np.concatenate([T, T])

    with pytest.raises(DataError, match="of epoch 2: the batch has 24 samples, in the first epoch it had 19"):
        train(network(), feed, memory=6_000, callbacks=longer)
    whole = len(X) // BATCH * BATCH
    feed = Pairs(X[:whole], T[:whole])
    with pytest.raises(DataError, match=f"x goes on after {whole // BATCH} batches, with which it ended"):
        train(network(), feed, callbacks=longer)


# ------------------------------------------------------------------------------------------------- interrupts, threads


def interrupt() -> None:
    raise KeyboardInterrupt


def test_ctrl_c_in_the_thread_that_reads_ends_the_training_like_any_other(tmp_path: Path) -> None:
    path, net = tmp_path / "run.safetensors", network()
    with pytest.raises(KeyboardInterrupt):
        streamed(net, failing(interrupt, 1, 500), T, checkpoint=path)
    assert sources.no_threads()
    streamed(net, Sliced(X), T, checkpoint=path, resume=True)
    assert_array_equal(net.theta, whole_training())


def test_ctrl_c_while_one_waits_for_the_thread_is_heard(tmp_path: Path) -> None:
    path, net, reading = tmp_path / "run.safetensors", network(), threading.Event()

    def slow() -> None:
        reading.set()
        time.sleep(0.3)

    def press() -> None:
        reading.wait()
        time.sleep(0.1)
        os.kill(os.getpid(), 2)

    key = threading.Thread(target=press)
    key.start()
    with pytest.raises(KeyboardInterrupt):
        streamed(net, failing(slow, 1, 500), T, checkpoint=path)
    key.join()
    assert sources.no_threads()
    streamed(net, Sliced(X), T, checkpoint=path, resume=True)
    assert_array_equal(net.theta, whole_training())


def test_a_training_that_diverges_is_taken_back_to_the_last_finite_step() -> None:
    messages = []
    for x, memory in ((X, None), (Sliced(X), sources.MEMORY)):
        net = network()
        with pytest.raises(xpnet.errors.NonFiniteError) as caught:
            streamed(net, x, T, memory=memory, optimizer=xpnet.SGD(1e25))
        messages.append((str(caught.value), net.theta.tobytes()))
    assert messages[0] == messages[1]
    assert sources.no_threads()


def test_steps_of_several_windows_in_one_call_can_be_taken_back() -> None:
    """A loop of one's own may ask for more steps than the windows at hand: then they are read again."""
    rows = failing(lose_contact, 0, 999, for_good=False)
    trainers: list[Any] = []

    def at_once(run: Any) -> None:
        trainers.append(run.trainer)
        left = run.trainer.steps_per_epoch - run.trainer.position
        with pytest.raises(DataError):
            run.trainer.advance(left)
        raise Stopped

    begun = xpnet.Callback()
    begun.every, begun.on_steps = 1, at_once  # type: ignore[method-assign]
    net = network()
    with pytest.raises(Stopped):
        streamed(net, rows, T, callbacks=[begun])
    assert trainers[0].step > 1
    assert_array_equal(net.theta, whole(trainers[0].step))
