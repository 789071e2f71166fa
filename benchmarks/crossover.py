"""When is a GPU worth it? Samples per second over width and batch size: `python benchmarks/crossover.py`."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import machine
from pool import HERE, Failed, Unavailable, Worker, cuda_devices, why_unavailable
from workloads import Workload

CPU = "xpnet-numpy" if why_unavailable("xpnet-fast", 0) else "xpnet-fast"
GPU = "xpnet-cupy"
WIDTHS = (16, 64, 256, 1024, 4096)
BATCHES = (1, 16, 128, 1024, 8192)
Rates = dict[str, dict[str, list[float]]]  # system -> "width x batch" -> samples per second, one a round


def workload(width: int, batch: int) -> Workload:
    """784-width-width-10 with ReLU, cross-entropy and plain SGD; at least 8,192 rows, and at least 64 batches.

    An epoch's own work, such as drawing an order and looking at the loss, would else be measured in place of the step.
    Batches of more than 2,048 rows are fewer, so that all of them are 131,072 rows, 411 MB; but 16 at least.
    """
    sizes, batches = (784, width, width, 10), max(8192 // batch, min(64, max(16, 2**17 // batch)))
    name = f"width {width}, batch {batch}"
    return Workload(name, sizes, "relu", "identity", batch, "sgd", 0.001, "cross_entropy", batches)


def measure(
    points: list[Workload], systems: tuple[str, ...], threads: int, rounds: int, seconds: float, tf32: bool,
    until: float = float("inf"),
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Samples per second of training for every workload, the systems in turns; and why one is missing.

    What is known is yielded after each workload, until a time of `time.monotonic`. Each system is imported once, all at
    the same time. One that cannot be imported is left out. One that fails at a workload is not asked for it again, and
    has a new process for the next: what is left of the old one may be broken.
    """
    rates: Rates = {}
    missing = {name: reason for name in systems if (reason := why_unavailable(name, cuda_devices()))}
    steps: dict[str, dict[str, int]] = {}  # of a sample, like `rates`
    found: dict[str, Any] = {"rates": rates, "missing": missing, "versions": {}, "steps": steps}
    workers: dict[str, Worker] = {}

    def attempt(name: str, what: str, act: Callable[[Worker], Any]) -> Any:
        """Return what `act` returns, or None and why `what` is missing."""
        worker = workers[name]
        worker.timeout = max(1.0, min(900.0, until - time.monotonic()))
        try:
            return act(worker)
        except (Unavailable, Failed) as error:
            missing[what] = str(error)
            workers.pop(name).close(1.0)
            return None

    def while_there_is_time() -> Iterator[str]:
        """The systems that have a process, in turns."""
        for name in [*workers]:
            if time.monotonic() < until:
                yield name

    try:
        for point in points:
            key, new = f"{point.sizes[1]} x {point.batch}", [n for n in systems if n not in {*missing, *workers}]
            for name in new:
                workers[name] = Worker(name, threads, tf32)
                attempt(name, name, partial(Worker.tell, command="hello"))
            for name in [name for name in new if name in workers]:
                answer = attempt(name, name, partial(Worker.answer, command="hello"))
                found["versions"] |= answer["versions"] if answer else {}
            for name in while_there_is_time():
                load = partial(Worker.ask, command="load", workload=point.to_json(), budget=seconds)
                loaded = attempt(name, f"{name}, {key}", load)
                if loaded is not None:
                    steps.setdefault(name, {})[key] = loaded["steps"]
            for _ in range(rounds):
                for name in while_there_is_time():
                    time.sleep(0.1)
                    count = steps[name][key]
                    timed = attempt(name, f"{name}, {key}", partial(Worker.ask, command="time", steps=count))
                    if timed is not None:
                        rate = point.batch * count / timed["seconds"]
                        rates.setdefault(name, {}).setdefault(key, []).append(rate)
            shown = ", ".join(f"{n} {median(of[key]):.4g}/s" for n, of in rates.items() if key in of)
            print(f"{point.name}{', TF32' if tf32 else ''}: {shown or missing}", flush=True)
            yield found
            if time.monotonic() >= until:
                return
    finally:
        for worker in workers.values():
            worker.close(min(10.0, max(0.0, until - time.monotonic())))


def table(found: dict[str, Any], widths: list[int], batches: list[int]) -> str:
    """Samples per second on the CPU, on the GPU, and their ratio, as Markdown; nothing where one was not measured."""
    lines = ["| width | batch | CPU samples/s | GPU samples/s | GPU / CPU |", "| ---: | ---: | ---: | ---: | ---: |"]
    for width in widths:
        for batch in batches:
            key = f"{width} x {batch}"
            samples = [found["rates"].get(name, {}).get(key) for name in (CPU, GPU)]
            cpu, gpu = (median(of) if of else None for of in samples)
            cells = [f"{v:,.0f}" if v is not None else "" for v in (cpu, gpu)]
            ratio = f"{gpu / cpu:.2f}" if cpu is not None and gpu is not None else ""
            lines.append(f"| {width} | {batch} | {cells[0]} | {cells[1]} | {ratio} |")
    return "\n".join([*lines, "", *(f"- {name}: not measured: {why}" for name, why in found["missing"].items())]) + "\n"


def picture(found: dict[str, Any], widths: list[int], batches: list[int], path: Path) -> None:
    """Two panels, CPU and GPU: samples per second over the width, a line a batch size."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name, device in zip(panels, (CPU, GPU), ("CPU", "GPU"), strict=True):
        axes.set_title(f"{device} ({name})")
        axes.set_xlabel("width of the two hidden layers")
        if name not in found["rates"]:
            axes.set_xticks([])
            why = found["missing"].get(name, "see the table")
            axes.text(0.5, 0.5, f"not measured:\n{why}", ha="center", transform=axes.transAxes)
            continue
        of = found["rates"][name]
        for i, batch in enumerate(batches):
            measured = [width for width in widths if f"{width} x {batch}" in of]
            middle = [median(of[f"{width} x {batch}"]) for width in measured]
            axes.plot(measured, middle, "o-", color=f"C{i}", label=f"batch {batch}")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
    panels[0].set_ylabel("samples per second (more is better)")
    where = found["machine"]
    figure.suptitle("; ".join([where["cpu"], *where["gpus"], where["date"][:10]]), fontsize=9)
    FigureCanvasAgg(figure).print_figure(path, dpi=130)


def main(given: list[str] | None = None) -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=list(WIDTHS))
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="at least this long a sample")
    parser.add_argument("--tf32", action="store_true")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "crossover")
    o = parser.parse_args(given)
    where = machine.describe()
    points = [workload(w, b) for w in o.widths for b in o.batches]
    *_, found = measure(points, (CPU, GPU), o.threads, o.rounds, o.seconds, o.tf32)
    found |= {"machine": where, "options": {"threads": o.threads, "rounds": o.rounds, "tf32": o.tf32}}
    o.output.parent.mkdir(parents=True, exist_ok=True)
    o.output.with_suffix(".json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    o.output.with_suffix(".md").write_text(table(found, o.widths, o.batches))
    print(table(found, o.widths, o.batches))
    if importlib.util.find_spec("matplotlib") is not None:
        picture(found, o.widths, o.batches, o.output.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
