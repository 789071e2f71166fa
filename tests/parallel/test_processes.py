"""Processes that MPI starts: the same bits for any number of them, and an end to whatever happens to one."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from shutil import which

import pytest
import shared_faults
from shared_faults import mpiexec

import xpnet

NONE = which("mpiexec") is None and not Path(sys.executable).with_name("mpiexec").exists()
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("mpi4py") is None, reason="mpi4py is not installed"),
    pytest.mark.skipif(NONE, reason="there is no mpiexec"),
]
ENVIRONMENT = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(Path(xpnet.__file__).parents[1])}
ROOT = Path(__file__).parents[2]
PROGRAM = str(Path(shared_faults.__file__).with_name("shared_trainings.py"))


def run(command, seconds=60):
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=ENVIRONMENT)


def test_the_programs_of_the_page_run(tmp_path):
    page = (ROOT / "docs" / "howto" / "processes.md").read_text(encoding="utf-8")
    first, sharded, on_devices = re.findall(r"(?ms)^```python\n(.*?)^```$", page)
    on_devices = on_devices.replace("784, 512, 10", "2, 32, 3").replace('f"cupy:{workers.local_rank}"', '"numpy"')
    assert "cupy" not in on_devices
    (tmp_path / "train.py").write_text(first + sharded + on_devices)
    done = run([*mpiexec(2)[:-1], str(tmp_path / "train.py")])
    assert done.returncode == 0, done.stderr


def test_trainings_of_everything_end_with_the_same_bits_for_any_number_of_processes_and_threads(tmp_path):
    found = []
    for ranks, threads in ((1, 4), (2, 2), (4, 1)):  # all nine: python tests/support/shared_trainings.py whole 1 2 4
        done = run(mpiexec(ranks, f"{tmp_path}/{ranks}", str(threads), file=PROGRAM), 300)
        assert done.returncode == 0, done.stderr
        found += [json.loads((tmp_path / f"{ranks}.{rank}").read_text()) for rank in range(ranks)]
    assert all(hashes == found[0] for hashes in found)
    assert len(found[0].pop("usual")) > 90
    written, replayed, compiled = found[0].values()
    assert written == replayed == compiled
    assert len(written) > 6


def test_a_training_goes_on_with_another_number_of_processes_to_the_bit(tmp_path):
    file = str(tmp_path / "run.safetensors")
    for ranks, step in ((4, 10), (2, 17), (1, 26)):
        assert run(mpiexec(ranks, "until", file, str(step))).returncode == 128 + signal.SIGTERM
    done = run(mpiexec(4, "until", file, "1000"))
    assert done.returncode == 0, done.stderr
    undisturbed = run([sys.executable, shared_faults.__file__, "until", str(tmp_path / "other"), "1000"])
    assert done.stdout.split() == undisturbed.stdout.split() * 4 != []


def test_a_training_whose_processes_are_killed_comes_through_to_the_bit():
    done = run([sys.executable, shared_faults.__file__, "kills", "3"], 120)
    assert "3 kills" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raise", "process 1 of 2 on .*: Traceback.*ZeroDivisionError: division by zero"),
        ("exit", "process 1 of 2 on .*: Traceback.*SystemExit: 7"),
        ("kill", ""),  # it cannot say anything, and the launcher says what it likes
        ("stall", "process 0 of 2 on .*: waited 2 s for process 1"),
        ("absent", "process 0 of 2 on .*: waited 2 s for process 1"),
        ("full", "process 0 of 2 on .*: .*CheckpointIOError: cannot write .*No space left on device"),
    ],
)
def test_what_happens_to_one_process_ends_all_with_a_message(fault, message, tmp_path):
    file = tmp_path / "run.safetensors"
    done = run(mpiexec(2, fault, str(file)), 30)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr.partition("ends the training on all")[0]
    assert re.search(message, done.stderr, re.DOTALL), done.stderr
    if fault != "absent":
        assert xpnet.load(file).parameters


def test_a_checkpoint_that_cannot_be_written_ends_all_before_the_first_step(tmp_path):
    done = run(mpiexec(2, "raise", str(tmp_path / "nowhere" / "run.safetensors")), 30)
    assert done.returncode != 0
    assert "process 0 of 2" in done.stderr
    assert "nowhere" in done.stderr
    assert "ZeroDivisionError" not in done.stderr


def test_what_differs_between_processes_is_named_on_all_of_them(tmp_path):
    done = run(mpiexec(2, "differences", ""))
    said = done.stdout
    for case, words in {
        "data": "data: '", "samples": "samples: 200 on process 0, 199 on process 1", "epochs": "epochs: 3 on",
        "optimizer": "'learning_rate': 0.1", "every": "callbacks: [] on process 0, [3] on", "seed": "network, seed: 3",
        "layers": "network, l2: 0.1 on process 0, 0.2 on process 1", "library": "array library: 'numpy'",
        "version": f"version of xpnet: '{xpnet.__version__}' on process 0, '{xpnet.__version__}.dev1'",
        "meddled": "numbers after an epoch, which they need: theta: '", "diverge": "epoch 1, step 2: the output of",
    }.items():  # fmt: skip
        for rank in (0, 1):
            line = next(line for line in said.splitlines() if line.startswith(f"{case} on {rank}: "))
            assert words in line
    last, other = (line.split()[-1] for line in said.splitlines() if line.startswith("after it all"))
    assert last == other, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_launcher_ends_all_after_a_whole_step(number, tmp_path):
    file = tmp_path / "run.safetensors"
    process = subprocess.Popen(
        mpiexec(2, "forever", str(file)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT
    )
    latest = time.monotonic() + 30
    while not file.exists() and process.poll() is None and time.monotonic() < latest:
        time.sleep(0.02)
    process.send_signal(number)
    said, _ = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "ends the training on all" not in said  # none had to be ended by another
    assert xpnet.load(file).parameters
