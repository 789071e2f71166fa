"""How a training step scales over processes and threads, and what the exchange costs beside MPI's own.

    python benchmarks/scaling.py                  two minutes or three; a table, and results/scaling.json
    python benchmarks/scaling.py --quick          a smoke run; its figures mean little

Strong scaling keeps the batch, weak scaling the rows a process. Each number of processes is one start of mpiexec, with
`--threads` threads a process. The ordinary step, without slices, is measured on one process.
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
from pathlib import Path
from shutil import which
from typing import Any

RESULTS = Path(__file__).resolve().with_name("results") / "scaling.json"
BATCHES = {"mlp": (256, 2048), "wide": (256, 2048), "cnn": (256,)}
"""For strong scaling; the first is that of one process in weak scaling."""


def make(name: str) -> tuple[Any, tuple[int, ...]]:
    """Return a network and the shape of a sample."""
    import xpnet

    if name == "cnn":
        layers = [
            xpnet.Conv2D(1, 16, 3), xpnet.ReLU(), xpnet.MaxPool2D(2), xpnet.Conv2D(16, 32, 3), xpnet.ReLU(),
            xpnet.MaxPool2D(2), xpnet.Flatten(), xpnet.Linear(1568, 10),
        ]  # fmt: skip
        return xpnet.Network(layers, "cross_entropy", input_shape=(28, 28, 1), seed=0), (28, 28, 1)
    width = {"mlp": 512, "wide": 2048}[name]
    return xpnet.mlp([784, width, width, 10], seed=0), (784,)


def step_seconds(name: str, batch: int, workers: Any, seconds: float) -> float:
    """Return the median time of a step."""
    import numpy as np

    import xpnet
    from xpnet.training.objective import Objective
    from xpnet.training.samples import check_samples, resident
    from xpnet.training.trainer import Trainer

    net, shape = make(name)
    rng, rows = np.random.default_rng(0), 8 * batch
    x = rng.normal(size=(rows, *shape)).astype("float32")
    objective = Objective(net)
    feed = resident(net, objective, check_samples(net, x, rng.integers(0, 10, rows), None, None), batch, True)
    trainer = Trainer.of(net, xpnet.Adam(1e-3), feed, objective, None, workers)
    decide = (lambda value: value) if workers is None else workers.decide
    return repeated(lambda: trainer.run(1), decide, seconds)


def repeated(work: Callable[[], Any], decide: Callable[[Any], Any], seconds: float) -> float:
    """Return the median time of `work`, warm; as often as process 0 says, on all of them."""
    begin = time.perf_counter()
    while decide(time.perf_counter() - begin < seconds):
        work()
    samples: list[float] = []
    begin = time.perf_counter()
    while decide(time.perf_counter() - begin < seconds or len(samples) < 5):
        start = time.perf_counter()
        work()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples)


def measure(seconds: float) -> dict[str, Any]:
    """Return the figures of this number of processes: names, and seconds."""
    import numpy as np
    from mpi4py import MPI as module

    import xpnet
    from xpnet.parallel import MPI

    workers, found = MPI(), {}
    for name, batches in BATCHES.items():
        if workers.size == 1:
            found[f"{name}, {batches[0]} rows, without slices"] = step_seconds(name, batches[0], None, seconds)
        for batch in sorted({*batches, batches[0] * workers.size}):
            found[f"{name}, {batch} rows"] = step_seconds(name, batch, workers, seconds)
    backend = xpnet.backends.get("numpy")
    for length in (1_000, 670_000, 5_800_000) if workers.size > 1 else ():
        part = np.zeros(length, np.float32)  # which stay zeros, however often they are added up
        total, target = part.copy(), part.copy()
        ours: Callable[[], Any] = lambda part=part: workers.total(part, backend)  # type: ignore[misc]  # noqa: E731
        theirs: Callable[[], Any] = lambda a=total, b=target: module.COMM_WORLD.Allreduce(a, b)  # type: ignore[misc]  # noqa: E731
        found[f"exchange of {length} numbers"] = repeated(ours, workers.decide, seconds)
        found[f"Allreduce of {length} numbers"] = repeated(theirs, workers.decide, seconds)
    return found if workers.rank == 0 else {}


def table(figures: dict[int, dict[str, float]]) -> str:
    """Return milliseconds by number of processes."""
    names = list(dict.fromkeys(name for found in figures.values() for name in found))
    lines = [f"| milliseconds | {' | '.join(f'{size} processes' for size in figures)} |", "| --- " * 4 + "|"]
    for name in names:
        cells = (f"{1e3 * found[name]:.3g}" if name in found else "" for found in figures.values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def model(figures: dict[int, dict[str, float]]) -> str:
    """Return what a model says past this machine: a share of the work each, and the exchange as measured on 2."""
    latency = figures[2]["exchange of 1000 numbers"]
    rate = (figures[2]["exchange of 5800000 numbers"] - latency) / 5.8e6  # seconds a number on 2, where N travel
    lines = ["A model, not measured: t(P) = t(1) / P + latency + 2 N (P - 1) / P numbers at the pace of 2 processes."]
    for name, length, batch in (("mlp", 670_000, 2048), ("wide", 5_800_000, 2048)):
        alone = figures[1][f"{name}, {batch} rows"]
        times = {P: alone / P + latency + 2 * length * (P - 1) / P * rate for P in (2, 4, 8, 16)}
        said = ", ".join(f"{P}: {alone / t:.2f}" for P, t in times.items())
        lines.append(f"{name}, {batch} rows, times faster on P machines: {said}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=1, help="threads a process; 1 by default")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--worker", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker is not None:
        found = measure(args.worker)
        if found:
            print(json.dumps(found))
        return
    beside = Path(sys.executable).with_name("mpiexec")
    launcher = str(beside) if beside.exists() else which("mpiexec")
    if launcher is None:
        sys.exit('there is no mpiexec. Install one: pip install "xpnet[mpi]" mpich')
    environment = os.environ | {name: str(args.threads) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}
    figures = {}
    for size in (1, 2, 4):
        command = [launcher, "-n", str(size), sys.executable, __file__, "--worker", "0.01" if args.quick else "1.0"]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        figures[size] = json.loads(done.stdout)
    args.output.write_text(json.dumps({"threads": args.threads, "cores": os.cpu_count(), "seconds": figures}, indent=1))
    print(f"{args.threads} threads a process, {os.cpu_count()} cores\n\n{table(figures)}\n\n{model(figures)}")


if __name__ == "__main__":
    main()
