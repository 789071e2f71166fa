"""The measurements on a GPU: without one they end with a sentence, and on a stand-in for one every part runs."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import cuda_c
import cuda_host
import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("gpu")
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(BENCHMARKS)):
            del sys.modules[name]


def test_without_a_gpu_it_ends_with_a_sentence(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--output", str(tmp_path / "gpu.json")]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=hidden)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith(
        "benchmarks/gpu.py measures on an NVIDIA GPU, and there is none that can be used here"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(cuda_c.COMPILER is None, reason=cuda_c.NO_COMPILER)
def test_units_and_steps_are_measured_on_whatever_stands_in_for_a_gpu(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "REPEATS", 2)
    monkeypatch.setattr(bench, "NETWORKS", {"small": ((20, 18, 10), 8)})
    with np.errstate(all="ignore"):
        found = bench.units(cuda_host.HostCupy(), (20, 18, 10), 8)
        written = bench.units(cuda_host.HostCupy(), (20, 18, 10), 8, "float16", fused=False)
        assert 5 < len(found) < 0.3 * len(written)
        assert {row["operations"] for row in written} == {1}
        assert {"matmul"} < {row["unit"] for row in found}
        assert all(row["microseconds"] > 0 and row["operations"] > 0 for row in found)
        on = cuda_host.HostCupy()
        *_, steps = bench.everywhere(lambda name, tf32: on, bench.step)
    assert len(steps) == 8
    assert " kernels, " in steps["small, float16, fused"]["step"]
    assert steps["small, tf32, as written"]["step"] == "as it is written, since fusion is switched off"
    assert steps["small, float32, fused"]["microseconds"] > 0


def test_every_peer_is_a_system(bench: Any) -> None:
    assert set(bench.PEERS) <= set(importlib.import_module("systems").SYSTEMS)


def test_all_batches_are_whole_and_there_are_many_of_them(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workloads = importlib.import_module("workloads")

    def mnist(part: str, rows: int) -> tuple[Any, Any]:
        """A column in place of an image."""
        numbers = np.arange(min(rows, 60_000))
        return numbers[:, None].astype(np.float32), numbers

    monkeypatch.setattr(workloads, "mnist", mnist)
    for batch in (*bench.crossover.BATCHES, 4096):
        point = bench.crossover.workload(16, batch)
        x, t = workloads.training_data(point)
        assert len(x) == len(t) == batch * point.batches
        assert 8192 <= len(x) <= 2**17
        assert point.batches >= (64 if batch <= 2048 else 16)
        assert np.array_equal(x[:, 0], t)
        assert np.array_equal(t, np.arange(len(t)) % 60_000)


def stand_in(bench: Any, monkeypatch: pytest.MonkeyPatch, precisions: dict[str, Any]) -> None:
    """Let a small network be measured on what stands in for a GPU."""
    on = cuda_host.HostCupy()
    # It is not asked for the others: PyTorch would bring its own libraries of CUDA into the process.
    monkeypatch.setattr(bench.xpnet.backends, "missing", {"cupy": None}.__getitem__)
    monkeypatch.setattr(bench.xpnet.backends, "get", lambda name, tf32=False: on)
    monkeypatch.setattr(bench, "NETWORKS", {"small": ((6, 5, 3), 4)})
    monkeypatch.setattr(bench, "PRECISIONS", precisions)
    monkeypatch.setattr(bench, "REPEATS", 2)


@pytest.mark.skipif(cuda_c.COMPILER is None, reason=cuda_c.NO_COMPILER)
def test_each_result_is_written_when_it_is_known(bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_in(bench, monkeypatch, {"float32": {}, "float16": {"precision": "float16"}})
    written: list[Path] = []
    own, path = Path.write_text, tmp_path / "found.json"
    monkeypatch.setattr(Path, "write_text", lambda to, *a, **o: written.append(to) or own(to, *a, **o))
    with np.errstate(all="ignore"):
        assert bench.main(["--parts", "steps", "units", "--seconds", "60", "--output", str(path)]) == 0
    found = json.loads(path.read_text())
    assert (len(found["steps"]), len(found["units"])) == (4, 4)
    assert written.count(path) == 1 + 4 + 4


@pytest.mark.skipif(cuda_c.COMPILER is None, reason=cuda_c.NO_COMPILER)
def test_a_precision_that_cannot_be_had_ends_neither_steps_nor_units(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in(bench, monkeypatch, {"bfloat16": {"precision": "bfloat16"}, "float32": {}})
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    path = tmp_path / "found.json"
    with np.errstate(all="ignore"):
        assert bench.main(["--parts", "steps", "units", "--output", str(path)]) == 0
    found = json.loads(path.read_text())
    for part in ("steps", "units"):
        assert [*found[part]] == [
            f"small, {precision}, {how}" for precision in ("bfloat16", "float32") for how in ("fused", "as written")
        ]
        assert all(("ml_dtypes" in str(of)) == ("bfloat16" in key) for key, of in found[part].items())


@pytest.mark.skipif(cuda_c.COMPILER is None, reason=cuda_c.NO_COMPILER)
def test_a_unit_that_cannot_be_captured_leaves_the_stream_to_the_others(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Step(bench.FusedStep):  # type: ignore[misc]
        """Its last call looks at a value, if it is fused."""

        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            if not given[-1]:
                self.calls[-1] = cuda_host.refuse_while_capturing

    stand_in(bench, monkeypatch, {"float32": {}})
    monkeypatch.setattr(bench, "FusedStep", Step)
    with np.errstate(all="ignore"):
        *_, found = bench.everywhere(bench.xpnet.backends.get, bench.units)
    assert "while the stream is capturing" in found["small, float32, fused"]["failed"]
    assert len(found["small, float32, as written"]) > 5


@pytest.mark.skipif(cuda_c.COMPILER is None, reason=cuda_c.NO_COMPILER)
@pytest.mark.parametrize(("takes", "launches"), [(0.0, 200), (100.0, 20), (5000.0, 1)])
def test_units_that_take_long_are_launched_less_often(
    bench: Any, monkeypatch: pytest.MonkeyPatch, takes: float, launches: int
) -> None:
    counts = []
    monkeypatch.setattr(bench.CapturedStep, "__call__", lambda self, steps=1: counts.append(steps))
    monkeypatch.setattr(bench, "microseconds", lambda cupy, f, times=20: f() or takes * counts[-1])
    with np.errstate(all="ignore"):
        found = bench.units(cuda_host.HostCupy(), (6, 5, 3), 4)
    assert counts == [1, launches] * len(found)
    assert {unit["microseconds"] for unit in found} == {takes}


def test_no_part_begins_when_time_is_over_and_one_that_fails_does_not_end_the_others(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, clock, began = tmp_path / "found.json", [0.0], []

    def part(name: str, takes: float, fails: bool = False) -> Any:
        def results(*given: Any) -> Any:
            began.append(name)
            for k in (1, 2):
                clock[0] += takes
                yield {"results": k}
                if fails:
                    raise ValueError("no")

        return results

    stand_in(bench, monkeypatch, {})
    monkeypatch.setattr(bench, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(bench, "peers", part("peers", 1.0, fails=True))
    monkeypatch.setattr(bench, "sizes_beside_the_cpu", part("crossover", 5.0))
    monkeypatch.setattr(bench, "everywhere", part("steps or units", 1.0))
    for seconds, some in ((60, ["peers", "crossover", *["steps or units"] * 2]), (10, ["peers", "crossover"]), (0, [])):
        clock[0] = 0.0
        assert bench.main(["--seconds", str(seconds), "--output", str(path)]) == (1 if some else 0)
        found = json.loads(path.read_text())
        assert began == some
        began.clear()
        assert found.get("peers") == ({"results": 1, "failed": "ValueError: no"} if some else None)
        assert found.get("crossover") == ({"results": 2} if some else None)
        assert "machine" in found


class Process:
    """What `measure` knows of a system's process: of two one dies and one cannot be imported, and one lacks memory."""

    asked: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, name: str, threads: int, tf32: bool) -> None:
        self.name = name

    def _fail(self, why: str, name: str) -> None:
        if self.name == name:
            raise importlib.import_module("pool").Failed(why)

    def tell(self, command: str) -> None:
        self.asked.append((self.name, command))
        self._fail("the process has ended", "torch-eager-cuda")

    def answer(self, command: str) -> dict[str, Any]:
        self.asked.append((self.name, "answer"))
        self._fail("ImportError: no library", "torch-graph-cuda")
        return {"versions": {self.name: "1"}}

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        if command == "load" and arguments["workload"]["sizes"][1] == 2048:
            self._fail("out of memory", "jax-scan-cuda")
        # A unit of 16 steps of 0.01 s: of the 50 steps in half a second, 48 are done.
        return {"step": 0.01, "unit": 16, "steps": 48} if command == "load" else {"seconds": arguments["steps"] / 100}

    def close(self, grace: float = 10.0) -> None:
        self.asked.append((self.name, "closed"))


def test_systems_are_imported_at_once_and_one_that_fails_does_not_end_the_others(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.crossover, "Worker", Process)
    monkeypatch.setattr(bench.crossover, "why_unavailable", lambda name, gpus: "")
    monkeypatch.setattr(Process, "asked", [])
    seen = [json.loads(json.dumps(found)) for found in bench.peers(1, 0.5, float("inf"))]
    assert [name for name, call in Process.asked if call == "hello"][:4] == [*bench.PEERS]
    assert ("xpnet-cupy", "answer") not in Process.asked[:4]
    assert [len(found["float32"]["rates"]["xpnet-cupy"]) for found in seen] == [1, 2, 3, 3, 3, 3]
    assert seen[0]["float32"]["steps"] == {"xpnet-cupy": {"2048 x 1024": 48}}
    assert seen[0]["float32"]["rates"]["xpnet-cupy"] == {"2048 x 1024": [102_400]}
    assert seen[0]["float32"]["missing"] == {
        "torch-eager-cuda": "the process has ended",
        "torch-graph-cuda": "ImportError: no library",
        "jax-scan-cuda, 2048 x 1024": "out of memory",
    }
    # It has another process for the next network, and keeps that.
    assert [*seen[-1]["tf32"]["rates"]["jax-scan-cuda"]] == ["4096 x 8192", "512 x 128"]
    calls = [call for _, call in Process.asked]
    assert calls.count("closed") == calls.count("hello") == 2 * (len(bench.PEERS) + 1)
    (only,) = bench.sizes_beside_the_cpu(1, 0.5, 0.0)  # no time is left
    assert only["rates"] == {}


@pytest.mark.parametrize("tf32", [False, True])  # which is for GPUs, and none of the CPU's business
def test_a_rate_is_measured_by_a_real_process(bench: Any, tf32: bool) -> None:
    point = bench.crossover.workload(4, 8)
    (found,) = bench.crossover.measure([point], ("xpnet-numpy", "sklearn", "jax-scan-cuda"), 1, 2, 0.01, tf32)
    assert len(found["rates"]["xpnet-numpy"]["4 x 8"]) == 2
    assert set(found["missing"]) <= {"sklearn", "jax-scan-cuda"}
    if "sklearn" not in found["missing"]:  # its unit is an epoch
        assert found["steps"]["sklearn"]["4 x 8"] % point.batches == 0


@pytest.mark.parametrize(("unit", "steps"), [(1, 50), (16, 48), (468, 468)])
def test_a_sample_is_of_whole_units(bench: Any, monkeypatch: pytest.MonkeyPatch, unit: int, steps: int) -> None:
    """A system that does an epoch at a time does nothing for the steps of a part of one."""
    worker = importlib.import_module("worker")
    session = worker.Session.__new__(worker.Session)
    system = SimpleNamespace(unit=unit, adapt=lambda workload: (workload, ""), load=lambda *a: None, run=lambda n: None)
    monkeypatch.setattr(session, "system", system, raising=False)
    monkeypatch.setattr(session, "_pace", lambda budget: 0.01)
    point = importlib.import_module("workloads").STEPS["tiny"]
    assert session.load(point.to_json(), budget=0.5)["steps"] == steps


def test_what_failed_midway_is_a_gap_in_the_table_and_the_picture(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    crossover = bench.crossover
    monkeypatch.setattr(crossover, "Worker", Process)
    monkeypatch.setattr(crossover, "why_unavailable", lambda name, gpus: "")
    monkeypatch.setattr(crossover, "CPU", "torch-eager-cuda")
    monkeypatch.setattr(crossover, "GPU", "jax-scan-cuda")
    output = tmp_path / "found"
    options = ["--widths", "16", "2048", "--batches", "1024", "--rounds", "1", "--output", str(output)]
    assert crossover.main(options) == 0
    table = output.with_suffix(".md").read_text()
    assert "| 16 | 1024 |  | 102,400 |  |\n| 2048 | 1024 |  |  |  |\n" in table
    assert "- torch-eager-cuda: not measured: the process has ended\n" in table
    assert "- jax-scan-cuda, 2048 x 1024: not measured: out of memory\n" in table
    assert json.loads(output.with_suffix(".json").read_text())["missing"]


def test_a_driver_that_does_not_answer_ends_nothing(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(command: list[str], **options: Any) -> None:
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(bench.machine.shutil, "which", lambda name: name)
    monkeypatch.setattr(bench.machine.subprocess, "run", hangs)
    assert bench.machine.gpu_names() == []


def test_what_overrules_a_choice_of_tf32_is_not_handed_on(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    values = importlib.import_module("pool").environment("torch-eager-cuda", 2)
    assert "NVIDIA_TF32_OVERRIDE" not in values
    assert values["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
