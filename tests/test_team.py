"""Threads that share a step's long loops: each part is done once, whoever does it, and help is never needed."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from collections.abc import Mapping
from itertools import chain as joined
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet.backends import chain, openblas, plan, tape, team
from xpnet.backends.numpy import NumpyBackend, Replay

pytest.importorskip("llvmlite", reason="the extra fast is not installed")
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads share loops on Linux only")


@pytest.mark.parametrize("rounds", [1, 2, 7, 64, 1000, 5000, 669_706])
@pytest.mark.parametrize("size", [0, team.WORTH - 1, team.WORTH, 10 * team.WORTH])
@pytest.mark.parametrize("threads", [1, 2, 8])
def test_parts_cover_a_loop_once(rounds: int, size: int, threads: int) -> None:
    cut = team.parts(rounds, size, threads)
    assert list(joined.from_iterable(cut)) == list(range(rounds))
    assert all(cut)
    assert (len(cut) == 1) == (threads == 1 or size < team.WORTH or rounds == 1)
    assert len(cut) <= 4 * threads


@pytest.mark.parametrize(("threads", "wanted"), [(1, None), (2, 2), (3, 3), (100, team.MOST)])
def test_there_are_as_many_threads_as_products_use(
    monkeypatch: pytest.MonkeyPatch, threads: int, wanted: int | None
) -> None:
    monkeypatch.setattr(openblas, "of_numpy", lambda: SimpleNamespace(threads=threads))
    monkeypatch.setattr(team, "_made", lambda count: count)
    assert team.team() == wanted


def test_there_are_none_without_an_openblas_or_where_they_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openblas, "of_numpy", lambda: None)
    assert team.team() is None
    monkeypatch.setattr(openblas, "of_numpy", lambda: SimpleNamespace(threads=2))
    monkeypatch.setattr(team.sys, "platform", "darwin")
    assert team.team() is None


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> team.Team:
    """Three threads for every loop of more than a few numbers."""
    made = team._made(3)
    assert made is not None
    monkeypatch.setattr(team, "team", lambda: made)
    monkeypatch.setattr(team, "WORTH", 256)
    monkeypatch.setattr(team, "PART", 64)
    return made


SIZE = 4099


def count_up(xp: Any, a: Mapping[str, Any]) -> None:
    y, z = a["y"], a["z"]
    y += 1.0
    z += a["x"]
    z -= a["row"]
    a["taken"][...] = xp.take(a["z"], a["order"], axis=0)


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "x": rng.integers(0, 9, (SIZE, 5)).astype(float),
        "row": rng.integers(0, 9, 5).astype(float),
        "y": np.zeros(SIZE),
        "z": np.zeros((SIZE, 5)),
        "taken": np.zeros((SIZE, 5)),
        "order": rng.permutation(SIZE),
    }


def compiled(a: dict[str, np.ndarray]) -> Any:
    (call,) = plan.plan(tape.record(count_up, NumpyBackend.xp, a), native=True)
    return call


def assert_counted(a: dict[str, np.ndarray], steps: int) -> None:
    assert (a["y"] == steps).all()
    np.testing.assert_array_equal(a["z"], steps * (a["x"] - a["row"]))
    np.testing.assert_array_equal(a["taken"], a["z"][a["order"]])


def shared(call: Any) -> int:
    return sum(piece.source == team.SHARE for piece in call._keep[0])


def test_every_part_is_done_once(three: team.Team) -> None:
    a = arrays()
    call = compiled(a)
    assert shared(call) == 3  # the two loops and the selection
    call(3000)
    assert_counted(a, 3000)


SLOW = f"""
define void @run(ptr %table) {{
  {chain.slots("pip")}
  %r = call i32 %v0(i32 %v1)
  %before = load i64, ptr %v2
  %after = add i64 %before, 1
  store i64 %after, ptr %v2
  ret void
}}
"""


def test_a_job_is_over_when_its_last_part_is(three: team.Team) -> None:
    """The parts sleep, so that helping threads are still at it when the caller finds nothing left."""
    sleep = ctypes.cast(ctypes.CDLL(None).usleep, ctypes.c_void_p).value
    done = np.zeros(5, np.int64)
    tables = [chain.table("pip", sleep, 2000, done.ctypes.data + 8 * k) for k in range(5)]
    call = chain.Chain([three.share(SLOW, tables, (done,))])
    for times in range(1, 21):
        call()
        assert done.tolist() == [times] * 5


def test_threads_of_the_caller_may_ask_for_help_at_once(three: team.Team) -> None:
    own = [arrays() for _ in range(4)]
    threads = [threading.Thread(target=compiled(a), args=(800,)) for a in own]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a in own:
        assert_counted(a, 800)


def test_jobs_come_and_go(three: team.Team) -> None:
    """A helping thread that comes late must not touch what is no longer there."""
    for _ in range(40):
        a = arrays()
        compiled(a)(5)
        assert_counted(a, 5)
        del a
        gc.collect(0)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_no_help_and_needs_none(three: team.Team) -> None:
    a = arrays()
    call = compiled(a)
    call(10)
    child = os.fork()
    if child == 0:  # pragma: no cover
        call(10)
        os._exit(0 if (a["y"] == 20).all() and (a["z"] == 20 * (a["x"] - a["row"])).all() else 1)
    assert os.waitpid(child, 0)[1] == 0
    call(10)
    assert_counted(a, 20)


def test_arrays_that_begin_together_and_go_on_apart_are_not_cut(three: team.Team) -> None:
    def step(xp: Any, a: Mapping[str, Any]) -> None:
        y = a["y"]
        y[100:] += y[:1] + a["x"]  # one number, and what begins elsewhere
        z = a["z"]
        z += y[:1] * y

    rng = np.random.default_rng(1)
    start = {"x": rng.normal(size=SIZE - 100), "y": rng.normal(size=SIZE), "z": rng.normal(size=SIZE)}
    a, b = ({name: value.copy() for name, value in start.items()} for _ in range(2))
    calls = plan.plan(tape.record(step, NumpyBackend.xp, a), native=True)
    for _ in range(5):
        step(np, b)
        for call in calls:
            call()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop"])
def test_a_training_gives_the_same_bits_with_help_and_without(
    three: team.Team, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    rng = np.random.default_rng(2)
    x, t = rng.normal(size=(512, 40)).astype("float32"), rng.integers(0, 5, 512)

    def trained() -> tuple[bytes, int]:
        net = xpnet.mlp([40, 64, 32, 5], seed=3, l2=1e-3)
        trainer = xpnet.Trainer(net, optimizer, x, t, batch_size=100)
        program = trainer._program(100)
        assert isinstance(program, Replay)
        assert program._tape is not None
        program.compile(program._tape)
        trainer.run(60)
        assert program._whole is not None
        return net.theta.tobytes(), shared(program._whole)

    helped, jobs = trained()
    assert jobs >= 4
    monkeypatch.setattr(team, "team", lambda: None)
    assert trained() == (helped, 0)
