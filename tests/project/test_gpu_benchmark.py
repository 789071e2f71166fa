"""The measurements on a GPU: without one they end with a sentence, and on a stand-in for one every part runs."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cuda_c
import cuda_host
import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        patch.setattr(sys, "modules", dict(sys.modules))
        yield importlib.import_module("gpu")


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
def test_units_and_steps_are_measured_on_whatever_stands_in_for_a_gpu(bench: Any) -> None:
    with np.errstate(all="ignore"):
        found = bench.units(cuda_host.HostCupy(), (20, 18, 10), 8, repeats=2)
        written = bench.units(cuda_host.HostCupy(), (20, 18, 10), 8, "float16", fused=False, repeats=2)
        assert 5 < len(found) < 0.3 * len(written)
        assert {row["operations"] for row in written} == {1}
        assert {"matmul"} < {row["unit"] for row in found}
        assert all(row["microseconds"] > 0 and row["operations"] > 0 for row in found)
        on = cuda_host.HostCupy()
        steps = bench.steps(lambda name, tf32: on, {"small": ((20, 18, 10), 8)})
    assert len(steps) == 8
    assert " kernels, " in steps["small, float16, fused"]["step"]
    assert steps["small, tf32, as written"]["step"] == "as it is written, since fusion is switched off"
    assert steps["small, float32, fused"]["microseconds"] > 0


def test_every_peer_is_a_system(bench: Any) -> None:
    assert set(bench.PEERS) <= set(importlib.import_module("systems").SYSTEMS)
    assert min(bench.crossover.workload(16, batch).batches for batch in bench.crossover.BATCHES) >= 64
