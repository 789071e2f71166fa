"""Compiling is never the reason why a training fails, stands still, or keeps memory."""

from __future__ import annotations

import gc
import importlib.util
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet.backends.cpu import replay
from xpnet.backends.cpu.replay import Replay
from xpnet.backends.tape.record import record

pytest.importorskip("llvmlite", reason="the extra fast is not installed")

import llvmlite

from xpnet.backends.cpu.compiler import compiled
from xpnet.backends.cpu.functions import Call
from xpnet.backends.cpu.loops import Body


def trainer(*widths: int) -> xpnet.Trainer:
    rng = np.random.default_rng(0)
    net = xpnet.mlp([3, *widths, 2], seed=1)
    x = rng.normal(size=(64, 3)).astype(np.float32)
    return xpnet.Trainer(net, xpnet.Adam(1e-2), x, rng.integers(0, 2, 64), batch_size=16)


def trained(*widths: int, steps: int = 12) -> tuple[bytes, Replay]:
    made = trainer(*widths)
    made.run(steps)
    return made.net.theta.tobytes(), made._programs[16]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Replay, "patience", 0.0)
    replay._warn.cache_clear()


def numpys(monkeypatch: pytest.MonkeyPatch, *widths: int) -> bytes:
    with monkeypatch.context() as patch:
        patch.setattr(Replay, "patience", float("inf"))
        return trained(*widths)[0]


def fail(*_: Any) -> Any:
    raise KeyError("what is this?")


CAUSES: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "too old": (lambda patch: patch.setattr(llvmlite, "__version__", "0.44.0"), "llvmlite 0.44.0 is too old"),
    "broken": (lambda patch: patch.setitem(sys.modules, "xpnet.backends.cpu.native", None), "import of xpnet"),
    "no memory": (lambda patch: patch.setattr(replay, "ROOM", 1 << 60), "MiB of memory left for LLVM"),
    "an operation nobody knows": (lambda patch: patch.setattr(Body, "_result", fail), "KeyError: 'what is this?'"),
    "no memory for NumPy": (lambda patch: patch.setattr(Body, "write", lambda *_: np.zeros(1 << 48)), "MemoryError"),
}


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.usefixtures("at_once")
def test_whatever_goes_wrong_the_step_goes_on_and_one_warning_says_why(
    monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    expected = numpys(monkeypatch, 7, 5)
    plant, why = CAUSES[cause]
    plant(monkeypatch)
    compiled._functions.clear()
    with pytest.warns(RuntimeWarning, match=re.escape(why)) as said:
        found = [trained(7, 5) for _ in range(2)]
    assert len(said) == 1
    assert ("pip install" in str(said[0].message)) == (cause != "no memory")
    for theta, program in found:
        assert theta == expected
        assert program._whole is None
        assert program._tape is None  # nothing is tried again


BROKEN = """
import warnings, numpy as np, xpnet
from xpnet.backends.cpu.replay import Replay
Replay.patience = 0.0
x = np.ones((20, 3), np.float32)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    xpnet.mlp([3, 4, 2]).fit(x, np.arange(20) % 2, epochs=3)
print(*(w.message for w in said if w.category is RuntimeWarning))
"""


def run(program: str, *folders: Path) -> str:
    path = os.pathsep.join([*map(str, folders), str(Path(xpnet.__file__).parents[1])])
    command, environment = [sys.executable, "-c", program], os.environ | {"PYTHONPATH": path}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120).stdout


def test_an_llvm_that_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "llvmlite").mkdir()
    (tmp_path / "llvmlite" / "__init__.py").write_text("raise ImportError('libstdc++.so.6 is too old')")
    said = run(BROKEN, tmp_path)
    assert "ImportError: libstdc++.so.6 is too old" in said
    assert 'pip install --upgrade "xpnet[fast]"' in said


LIMITED = """
import resource, warnings, numpy as np, xpnet
from xpnet.backends.cpu.replay import Replay
x = np.ones((200, 3), np.float32)
xpnet.mlp([3, 4, 2]).fit(x, np.arange(200) % 2, epochs=1)
if LOADED: import llvmlite.binding
Replay.patience = 0.0
with open("/proc/self/statm") as numbers:
    size = int(numbers.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (LEFT << 20),) * 2)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always", RuntimeWarning)
    xpnet.mlp([3, 5, 2]).fit(x, np.arange(200) % 2, epochs=3)
print("trained", *(w.message for w in said if w.category is RuntimeWarning))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells and limits a process's size")
@pytest.mark.parametrize("left", [4, 40, 120])
@pytest.mark.parametrize("loaded", [False, True])
def test_memory_that_is_limited(left: int, loaded: bool) -> None:
    """LLVM ends the process where it finds too little, which nobody could catch."""
    said = run(LIMITED.replace("LEFT", str(left)).replace("LOADED", str(loaded)))
    assert said.startswith("trained")
    if left < 64 or not loaded:
        assert f"there are no {64 if loaded else 512} MiB of memory left for LLVM" in said


@pytest.mark.usefixtures("at_once")
def test_compiling_that_is_interrupted_is_not_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = numpys(monkeypatch, 8, 5)
    made = trainer(8, 5)

    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Body, "write", interrupt)
        program = made._program(16)
        with pytest.raises(KeyboardInterrupt):
            program.compile(program._tape)
    made.run(12)
    assert made.net.theta.tobytes() == expected


def test_the_clock_is_read_only_as_long_as_something_depends_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "llvmlite" else find(name))
    made = trainer(4)
    program = Replay(record(made.make_step(16), made.net.backend.xp, made.arrays))
    assert program._tape is None  # nor is anything of the recording kept
    monkeypatch.setattr(time, "perf_counter", fail)
    program(3)
    assert int(made.arrays["step"][0]) == 3


def codes(*widths: int) -> set[Any]:
    made = trainer(*widths)
    program = Replay(record(made.make_step(16), made.net.backend.xp, made.arrays))
    program.compile(program._tape)  # type: ignore[arg-type]
    return {piece.code for call in program._calls for piece in call.pieces}  # type: ignore[attr-defined]


def test_a_compiled_step_takes_the_memory_of_the_calls_that_it_replaces() -> None:
    made = trainer(40)
    program = Replay(record(made.make_step(16), made.net.backend.xp, made.arrays))
    assert program._memory is not None
    before = program._memory._taken
    program.compile(program._tape)  # type: ignore[arg-type]
    arrays = [a for call in program._calls for piece in call.pieces for a in piece.keep]  # type: ignore[attr-defined]
    assert any(np.may_share_memory(a, b) for a in arrays if isinstance(a, np.ndarray) for b in before)
    assert program._memory is None


def test_layers_of_all_widths_share_their_code() -> None:
    """Where there are many: few layers have code of their own sizes, which is a little faster."""
    few, many = codes(*range(8, 11)), codes(*range(8, 48))
    assert len(many) < len(few) + 4
    assert trained(*range(8, 48), steps=4)[0] == trained(*range(8, 48), steps=4)[0]


def test_compiling_makes_room_for_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each part it is asked whether the time is over."""
    widths = range(8, 48)
    made = trainer(*widths)
    program = made._program(16)
    program._seconds = -np.inf
    parts = 0
    while program._tape is not None:
        program.compile(program._tape, 1e-3, most=1e-9)
        made.run(1)
        parts += 1
    assert parts > 100
    assert program._whole is not None
    expected = trainer(*widths)
    monkeypatch.setattr(Replay, "patience", float("inf"))
    expected.run(parts)
    assert made.net.theta.tobytes() == expected.net.theta.tobytes()


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells a process's size")
def test_code_of_networks_that_are_gone_is_given_back() -> None:
    def several(widths: range) -> tuple[float, int]:
        for width in widths:
            codes(width, width + 1)
        gc.collect()
        return resident(), len(compiled._functions)

    _, before, after = several(range(14, 50)), several(range(50, 58)), several(range(58, 82))
    assert after[1] < before[1] + 10
    assert after[0] < before[0] + 8

    def again(times: int) -> float:
        for _ in range(times):
            compiled._compile([Call("l")], True)
        return resident()

    warm = again(50)
    assert again(100) < warm + 3  # it was 8 when the managers of LLVM's passes were not given back


IN_CYCLES = """
import gc
from xpnet.backends.cpu.compiler import compiled
from xpnet.backends.cpu.functions import Call

gc.disable()
for _ in range(20):
    made = compiled._compile([Call("l")], True)
    made.append(made)
del made
gc.collect()
"""


def test_code_that_the_garbage_collector_finds_is_given_back_in_order() -> None:
    """It took LLVM's context before what lies in it, which ended the process."""
    subprocess.run([sys.executable, "-c", IN_CYCLES], check=True, timeout=60)


def test_the_same_network_again_is_not_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    codes(33, 32)
    gc.collect()
    monkeypatch.setattr(compiled, "_compile", fail)
    codes(33, 32)


@pytest.mark.parametrize(("widths", "known"), [((31, 32), True), ((29, 28), False)])
def test_a_step_is_compiled_sooner_if_its_code_is_there(widths: tuple[int, ...], known: bool) -> None:
    codes(31, 32)
    program = trainer(*widths)._program(16)
    assert program._wait == pytest.approx(replay.KNOWN * replay.Replay.patience, rel=0.2)
    program._seconds = program._wait
    program(1)
    assert (program._tape is None) is known
    if not known:  # LLVM is worth the time later
        assert (program._wait, program._seconds) == (program._patience, 0.0)
        assert program._patience == pytest.approx(replay.Replay.patience, rel=0.2)
        program._seconds = program._wait
        program(1)
        assert program._tape is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_process_that_forks_while_another_thread_compiles_has_a_child_that_compiles() -> None:
    begun, end = threading.Event(), threading.Event()

    def hold() -> None:
        with compiled._lock:  # as while something is compiled
            begun.set()
            end.wait(0.5)

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait()
    child = os.fork()
    if child == 0:
        codes(21, 22)
        os._exit(7)
    end.set()
    thread.join()
    for _ in range(300):
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            break
        time.sleep(0.1)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
        pytest.fail("the child hangs")
    assert os.waitstatus_to_exitcode(status) == 7
