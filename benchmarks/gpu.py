"""What a training step costs on this GPU, and against whom: `python benchmarks/gpu.py` writes one JSON.

The same step by PyTorch (eager, whole in one CUDA graph) and JAX (scan), the largest networks first; samples per second
over width and batch size beside the CPU; the time of whole steps fused, as written, in float32, TF32 and halves; and of
every unit of a step. Each result is printed and written as soon as it is known, so that `--seconds 240` gives what
there is time for. It needs an NVIDIA GPU. First let `python -m xpnet prove --backend cupy` say that the numbers are
right.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import crossover
import machine
import numpy as np
from pool import HERE
from workloads import STEPS, Workload

import xpnet
from xpnet.backends.cuda.graph import CapturedStep
from xpnet.backends.cuda.program import FusedStep

PRECISIONS: dict[str, dict[str, Any]] = {
    "float32": {}, "tf32": {"tf32": True}, "float16": {"precision": "float16"}, "bfloat16": {"precision": "bfloat16"},
}  # fmt: skip
NETWORKS = {
    "mlp": ((784, 512, 512, 10), 128), "wide": ((784, 2048, 2048, 10), 1024), "huge": ((784, 4096, 4096, 10), 8192),
}  # fmt: skip
"""Sizes of the layers, and of a batch; all with ReLU, cross-entropy and Adam."""
PARTS = ("peers", "crossover", "steps", "units")
PEERS = ("xpnet-cupy", "torch-eager-cuda", "torch-graph-cuda", "jax-scan-cuda")
BY_WORTH = ("wide", "huge", "mlp")
"""The networks in the order in which they are measured beside others."""
THREADS = 2
"""Of each system's process, on the CPU."""
REPEATS, ENOUGH = 200, 2000.0
"""Launches of one unit in a graph at most, and the microseconds of fewer that are enough: one may be a clock's tick."""


def microseconds(cupy: Any, f: Callable[[], Any], times: int = 20) -> float:
    """Microseconds that the device needs for what `f` starts on the current stream: the median of several times."""
    f()
    found = []
    for _ in range(times):
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        f()
        end.record()
        end.synchronize()
        found.append(1e3 * cupy.cuda.get_elapsed_time(start, end))
    return median(found)


def trainer(sizes: tuple[int, ...], batch: int, backend: Any, precision: str | None = None) -> xpnet.Trainer:
    """A training of a network with random data, a few batches of it."""
    rng = np.random.default_rng(0)
    x, t = rng.random((4 * batch, sizes[0])).astype(np.float32), rng.integers(0, sizes[-1], 4 * batch)
    net = xpnet.mlp(list(sizes), backend=backend, seed=0)
    return xpnet.Trainer(net, xpnet.Adam(), x, t, batch_size=batch, precision=precision)


def units(
    backend: Any, sizes: tuple[int, ...], batch: int, precision: str | None = None, fused: bool = True
) -> list[dict[str, Any]]:
    """What each unit of a step does, fused or one operation each, and how many microseconds it takes by itself."""
    cupy, made = backend._cupy, trainer(sizes, batch, backend, precision)
    apart: dict[int, str] = {} if fused else dict.fromkeys(range(100_000), "as it is written")
    found = []
    with backend.active():
        program = FusedStep(cupy, backend.xp, made.make_step(batch), made.arrays, apart)
        for k, (unit, call) in enumerate(zip(program.units, program.calls, strict=True)):
            alone = CapturedStep(cupy, backend.xp.matmul.lane(), call, [])
            count = max(1, min(REPEATS, int(ENOUGH / max(1.0, microseconds(cupy, alone, 3)))))
            alone.unroll = count
            taken = microseconds(cupy, lambda alone=alone, count=count: alone(count)) / count
            what = program.kernels[k].name if k in program.kernels else unit[0].kind
            shapes = [list(op.target.shape) for op in unit][-1]
            found.append({"unit": what, "operations": len(unit), "last shape": shapes, "microseconds": taken})
    return found


def step(
    backend: Any, sizes: tuple[int, ...], batch: int, precision: str | None = None, fused: bool = True
) -> dict[str, Any]:
    """Microseconds of a step, one at a time and as many in a launch as the program likes, and what it consists of."""
    made, backend.fusion = trainer(sizes, batch, backend, precision), fused
    try:
        with backend.active():
            made._begin_epoch()
            program = made._program(batch)
            many = microseconds(backend._cupy, lambda: program(program.unroll), 8) / program.unroll
            return {"microseconds": many, "alone": microseconds(backend._cupy, program, 8), "step": backend.compiled}
    finally:
        backend.fusion = True


def everywhere(get: Callable[..., Any], measured: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    """What `measured` finds of every network in every precision, fused and as it is written; if it cannot, why."""
    found: dict[str, Any] = {}
    for name, (sizes, batch) in NETWORKS.items():
        for label, options in PRECISIONS.items():
            for fused in (True, False):
                key = f"{name}, {label}, {'fused' if fused else 'as written'}"
                try:
                    backend = get("cupy", tf32=options.get("tf32", False))
                    found[key] = shown = measured(backend, sizes, batch, options.get("precision"), fused)
                    if isinstance(shown, list):
                        shown = f"{sum(unit['microseconds'] for unit in shown):.4g} us in all units"
                except Exception as error:  # one that fails does not end the others, and belongs in the report
                    found[key] = shown = failure(error)
                print(f"{key}: {shown}", flush=True)
                gc.collect()
                with contextlib.suppress(Exception):  # after some failures the device does nothing more
                    backend.release_memory()
                yield found


def failure(error: Exception) -> dict[str, str]:
    """What the report says in place of a result."""
    return {"failed": f"{type(error).__name__}: {error}"}


def peers(rounds: int, seconds: float, until: float) -> Iterator[dict[str, Any]]:
    """The networks beside those of other libraries, all in float32 first, and then with TF32."""
    found: dict[str, Any] = {}
    networks = [STEPS[name] for name in BY_WORTH]
    for label, tf32 in (("float32", False), ("tf32", True)):
        for rates in crossover.measure(networks, PEERS, THREADS, rounds, seconds, tf32, until):
            found[label] = rates
            yield found
        if time.monotonic() >= until:
            return


def sizes_beside_the_cpu(rounds: int, seconds: float, until: float) -> Iterator[dict[str, Any]]:
    """Networks over width and batch size, those of little work first: where the GPU overtakes is among them."""
    points = sorted((crossover.workload(w, b) for w in crossover.WIDTHS for b in crossover.BATCHES), key=_work)
    return crossover.measure(points, (crossover.CPU, crossover.GPU), THREADS, rounds, seconds, False, until)


def _work(point: Workload) -> int:
    return point.batch * point.sizes[1]


def main(given: list[str] | None = None) -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sample", type=float, default=0.5, help="at least so many seconds a sample")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for everything; what is known is kept")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "gpu.json")
    o = parser.parse_args(given)
    until = time.monotonic() + o.seconds
    os.environ.pop("NVIDIA_TF32_OVERRIDE", None)  # it overrules what is asked for of TF32
    reason = xpnet.backends.missing("cupy")
    if reason is not None:
        print(f"benchmarks/gpu.py measures on an NVIDIA GPU, and there is none that can be used here: {reason}")
        return 1
    get = xpnet.backends.get
    found: dict[str, Any] = {
        "machine": machine.describe(),
        "device": get("cupy").describe(),
        "xpnet": xpnet.__version__,
        "options": {"rounds": o.rounds, "sample": o.sample, "threads": THREADS},
    }
    parts: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        "peers": lambda: peers(o.rounds, o.sample, until),
        "crossover": lambda: sizes_beside_the_cpu(o.rounds, o.sample, until),
        "steps": lambda: everywhere(get, step),
        "units": lambda: everywhere(get, units),
    }

    def write() -> None:
        o.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

    o.output.parent.mkdir(parents=True, exist_ok=True)
    write()
    for name in o.parts:
        if time.monotonic() >= until:
            break
        print(name, file=sys.stderr, flush=True)
        try:
            with contextlib.closing(parts[name]()) as results:  # type: ignore[type-var]
                for found[name] in results:
                    write()
                    if time.monotonic() >= until:
                        break
        except Exception as error:  # the other parts may work all the same
            traceback.print_exc()
            found[name] = found.get(name, {}) | failure(error)
            write()
    print(f"written to {o.output}")
    return 1 if any("failed" in found.get(name, {}) for name in o.parts) else 0


if __name__ == "__main__":
    sys.exit(main())
