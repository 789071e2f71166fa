"""How a training step scales over threads and processes, and what the exchange costs beside MPI's own.

    python benchmarks/scaling.py                  three minutes on two cores; results/scaling.{json,md,png}
    python benchmarks/scaling.py --quick          a smoke run; its figures mean little

Strong scaling keeps the batch, weak scaling the rows a worker. Each number of processes is one start of mpiexec; over
processes the step is cut into slices and each has one thread, over threads it is the ordinary step of one process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from shutil import which
from typing import Any

import scaling_report

RESULTS = Path(__file__).resolve().with_name("results") / "scaling"
BATCHES = {"mlp": (256, 2048, 8192), "wide": (256, 2048), "cnn": (256,)}
"""For strong scaling; the first is that of one worker in weak scaling."""
WORKERS = (1, 2, 4)
LENGTHS = (1_000, 670_000, 5_800_000)
"""Of what is exchanged: latency, and the parameters of mlp and wide."""


def make(name: str, threads: int) -> tuple[Any, tuple[int, ...]]:
    """Return a network and the shape of a sample."""
    import xpnet

    backend = xpnet.backends.get("numpy", threads=threads)
    if name == "cnn":
        layers = [
            xpnet.Conv2D(1, 16, 3), xpnet.ReLU(), xpnet.MaxPool2D(2), xpnet.Conv2D(16, 32, 3), xpnet.ReLU(),
            xpnet.MaxPool2D(2), xpnet.Flatten(), xpnet.Linear(1568, 10),
        ]  # fmt: skip
        return xpnet.Network(layers, "cross_entropy", backend, input_shape=(28, 28, 1), seed=0), (28, 28, 1)
    width = {"mlp": 512, "wide": 2048}[name]
    return xpnet.mlp([784, width, width, 10], backend=backend, seed=0), (784,)


def step_seconds(name: str, batch: int, threads: int, workers: Any, seconds: float) -> float:
    """Return the median time of a step; it is compiled before the clock starts."""
    import numpy as np

    import xpnet
    from xpnet.backends.cpu.replay import Replay
    from xpnet.training.objective import Objective
    from xpnet.training.samples import check_samples, resident
    from xpnet.training.trainer import Trainer

    Replay.patience, Replay.standstill = 0.0, inf
    net, shape = make(name, threads)
    rng, rows = np.random.default_rng(0), 4 * batch
    x = rng.normal(size=(rows, *shape)).astype("float32")
    objective = Objective(net)
    feed = resident(net, objective, check_samples(net, x, rng.integers(0, 10, rows), None, None), batch, True)
    trainer = Trainer.of(net, xpnet.Adam(1e-3), feed, objective, None, workers)
    decide = (lambda value: value) if workers is None else workers.decide
    return repeated(lambda: trainer.run(4), decide, seconds) / 4  # an epoch: what comes before and after it counts


def repeated(work: Callable[[], Any], decide: Callable[[Any], Any], seconds: float) -> float:
    """Return the median time of `work`, warm; as often as process 0 says, on all of them."""
    work()
    samples: list[float] = []
    begin = time.perf_counter()
    while decide(time.perf_counter() - begin < seconds or len(samples) < 3):
        start = time.perf_counter()
        work()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples)


def over_threads(threads: int, seconds: float) -> dict[str, float]:
    """Return the seconds of ordinary steps on so many threads, by names."""
    found = {}
    for name, batches in BATCHES.items():
        for batch in sorted({*batches, batches[0] * threads}):
            found[f"{name}, {batch} rows"] = step_seconds(name, batch, threads, None, seconds)
    return found


def over_processes(seconds: float) -> dict[str, float]:
    """Return the seconds of steps in slices, and of exchanges, on this number of processes, by names."""
    import numpy as np
    from mpi4py import MPI as module

    import xpnet
    from xpnet.parallel import MPI

    workers, found = MPI(), {}
    for name, batches in BATCHES.items():
        for batch in sorted({*batches, batches[0] * workers.size}):
            found[f"{name}, {batch} rows"] = step_seconds(name, batch, 1, workers, seconds)
    backend = xpnet.backends.get("numpy")
    for length in LENGTHS if workers.size > 1 else ():
        part = np.zeros(length, np.float32)  # which stay zeros, however often they are added up
        total, target = part.copy(), part.copy()
        ours: Callable[[], Any] = lambda part=part: workers.total(part, backend)  # type: ignore[misc]  # noqa: E731
        theirs: Callable[[], Any] = lambda a=total, b=target: module.COMM_WORLD.Allreduce(a, b)  # type: ignore[misc]  # noqa: E731
        found[f"exchange of {length} numbers"] = repeated(ours, workers.decide, seconds)
        found[f"Allreduce of {length} numbers"] = repeated(theirs, workers.decide, seconds)
    return found if workers.rank == 0 else {}


def started(command: list[str], threads: int) -> dict[str, float]:
    """Return what a run of this program on other processes, of so many threads each, has found."""
    environment = os.environ | {name: str(threads) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS, help="without an ending")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    seconds = 0.01 if args.quick else 0.7
    if args.run is not None:
        kind, count = args.run
        found = over_threads(int(count), seconds) if kind == "threads" else over_processes(seconds)
        if found:
            print(json.dumps(found))
        return
    beside = Path(sys.executable).with_name("mpiexec")
    launcher = str(beside) if beside.exists() else which("mpiexec")
    if launcher is None:
        sys.exit('there is no mpiexec. Install one: pip install "xpnet[mpi]" mpich')
    own = [sys.executable, __file__, *(["--quick"] if args.quick else []), "--run"]
    from machine import describe

    found: dict[str, Any] = {"machine": describe(), "quick": args.quick, "cores": os.cpu_count()}
    found["threads"] = {n: started([*own, "threads", str(n)], n) for n in WORKERS if n <= (os.cpu_count() or 1)}
    found["processes"] = {n: started([launcher, "-n", str(n), *own, "processes", str(n)], 1) for n in WORKERS}
    args.output.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    print(scaling_report.write(args.output))


if __name__ == "__main__":
    main()
