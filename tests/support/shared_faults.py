"""A training that processes share, in which something goes wrong; one of these processes:

mpiexec -n 2 python tests/support/shared_faults.py KIND FILE

Checkpoints go to FILE. KIND is one of `FAULTS`; or "until", with the step after which a SIGTERM comes; or
"killed", with the process and the seconds after which it is killed; or "differences" between the processes.

python tests/support/shared_faults.py kills 100     kill a process at a random time, again and again
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
from fault_injection import Calls

import xpnet
from xpnet.errors import XpnetError
from xpnet.parallel import MPI

SAMPLES = 200
RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(SAMPLES, 6)).astype("float32"), RNG.integers(0, 3, SAMPLES)
FULL = Calls(fail_at=0, error=errno.ENOSPC)
FULL.forever = True
full = FULL.watching()

FAULTS = {
    "raise": lambda: 1 / 0,
    "exit": lambda: sys.exit(7),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stall": lambda: time.sleep(1000),
    "absent": lambda: None,
    "full": full.__enter__,
    "forever": lambda: None,
}


class Fault(xpnet.Callback):
    """Something goes wrong on one process after a step, at the earliest after 12."""

    every = 3

    def __init__(self, rank: int, step: int, fault: Any) -> None:
        self.rank, self.step, self.fault = rank, step, fault

    def on_steps(self, run: Any) -> None:
        if run.step >= self.step and self.rank == run.trainer.workers.rank:
            self.fault()


def network(**options: Any) -> Any:
    layers = [xpnet.Linear(6, 12), xpnet.BatchNorm(12), xpnet.ReLU(), xpnet.Dropout(0.2), xpnet.Linear(12, 3)]
    return xpnet.Network(layers, "cross_entropy", **{"seed": 1, "l2": 1e-3} | options)


def train(net: Any, file: str | None, workers: MPI, x: Any = X, t: Any = T, **options: Any) -> str:
    """Train for 6 epochs of 7 steps, or go on with it, and return the hash of what comes out."""
    stored = {} if file is None else {"checkpoint": file, "checkpoint_every": 5, "resume": True}
    fit = {"epochs": 6, "batch_size": 30, "optimizer": "adam", "averaging": 0.9, "verbose": False}
    net.fit(x, t, parallel=workers, **fit | stored | options)
    return hashlib.sha256(net.theta.tobytes() + b"".join(a.tobytes() for a in net.state.values())).hexdigest()


def say(text: str) -> None:
    """Print a line in one piece, which those of other processes do not part."""
    sys.stdout.write(f"{text}\n")


def differences(workers: MPI) -> None:
    """Print what is said where this process or another one is told something else; process 1 is the odd one."""
    odd = workers.rank == 1
    cases: dict[str, dict[str, Any]] = {
        "data": {"x": X + odd}, "samples": {"x": X[odd:], "t": T[odd:]}, "epochs": {"epochs": 3 + odd},
        "optimizer": {"optimizer": xpnet.SGD(0.1 + odd)}, "every": {"callbacks": [Fault(9, 9, None)] * odd},
        "seed": {"net": network(seed=3 + odd)}, "layers": {"net": network(l2=0.1 * (1 + odd))},
    }  # fmt: skip
    library = network()
    library.backend = type("Other", (type(library.backend),), {"name": "other" if odd else "numpy"})()
    cases["library"] = {"net": library}

    def told(case: str) -> None:
        try:
            train(**{"net": network(), "file": None, "workers": workers} | cases[case])
        except XpnetError as error:
            say(f"{case} on {workers.rank}: {error}")

    for case in cases:
        told(case)
    version, cases["version"] = xpnet.__version__, {}
    xpnet.__version__ += odd * ".dev1"
    told("version")
    xpnet.__version__ = version
    net = network()

    def meddle(run: Any) -> None:
        net.theta[0] += odd

    cases["meddled"] = {"net": net, "callbacks": [meddle]}
    told("meddled")
    cases["diverge"] = {"optimizer": xpnet.SGD(1e38)}
    told("diverge")
    say(f"after it all on {workers.rank}: {train(network(), None, workers)}")


def mpiexec(ranks: int, *arguments: str, file: str = __file__) -> list[str]:
    """Return the command that starts this file, or another one."""
    beside = Path(sys.executable).with_name("mpiexec")
    launcher = str(beside) if beside.exists() else which("mpiexec")
    return [str(launcher), "-n", str(ranks), sys.executable, "-u", "-W", "error", file, *arguments]


def kills(count: int) -> str:
    """Kill a random process at a random time, `count` times, and go on with another number of processes.

    Each training that comes to its end must be the one that nobody disturbed; then another one begins.
    """
    draw, whole, done, through = random.Random(count), train(network(), None, MPI()), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "run.safetensors")
        while done < count or file.exists():
            ranks = draw.choice([1, 2, 4])
            seconds = draw.uniform(0.0, 0.8) if done < count else 1000.0
            command = mpiexec(ranks, "killed", str(file), str(draw.randrange(ranks)), str(seconds))
            result = subprocess.run(command, capture_output=True, text=True, timeout=60)
            if result.returncode:
                if "(signal 9)" not in result.stdout + result.stderr or "Traceback" in result.stderr:
                    raise AssertionError(f"after {done} kills: {result}")
                done += 1
                continue
            if {*result.stdout.split()} != {whole}:
                raise AssertionError(f"after {done} kills: {result.stdout}, not {whole}")
            through += 1
            file.unlink()
    return f"{done} kills, {through} trainings came through, all equal"


if __name__ == "__main__":
    kind, place, *numbers = sys.argv[1:]
    if kind == "kills":
        print(kills(int(place)))
        sys.exit()
    workers = MPI(timeout=2.0 if kind in ("stall", "absent") else 60.0)
    if kind == "differences":
        differences(workers)
    elif kind == "until":
        end = Fault(workers.size - 1, int(numbers[0]), lambda: os.kill(os.getpid(), signal.SIGTERM))
        say(train(network(), place, workers, callbacks=[end]))
    elif kind == "killed":
        victim, seconds = int(numbers[0]), float(numbers[1])
        timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        if workers.rank == victim:
            timer.start()
        say(train(network(), place, workers))
    elif kind != "absent" or workers.rank == 0:
        fault = Fault(0 if kind == "full" else 1, 12, FAULTS[kind])
        train(network(), place, workers, callbacks=[fault], epochs=10**6 if kind == "forever" else 6)
