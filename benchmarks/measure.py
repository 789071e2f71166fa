"""The measurements. In each of them the systems take turns, round after round, and one process computes at a time."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from machine import Intruders
from pool import Failed, Unavailable, Worker, import_seconds, why_unavailable
from systems import SYSTEMS
from workloads import PREDICTIONS, STEPS, Grid, Workload, mnist_workload

Samples = dict[str, list[float]]  # system -> one figure a round


def say(text: str) -> None:
    """Progress goes to the error stream, results to the output."""
    print(text, file=sys.stderr, flush=True)


@dataclass
class Result:
    """One workload's figures: `samples` a system, in `unit`, smaller is better unless the unit is a rate."""

    workload: str
    unit: str
    samples: Samples = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class Bench:
    """What is measured, for how long, and the processes of the systems."""

    systems: tuple[str, ...]
    threads: int
    tf32: bool
    rounds: int
    seconds: float  # at least this long a sample
    gpus: int
    pause: float = 0.3  # seconds between turns, in which the threads of the last system fall asleep
    workers: dict[str, Worker] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def turns(self, systems: Iterable[str], round_: int) -> list[str]:
        """The systems in this round's order: shuffled, so that none always follows the same one."""
        order = list(systems)
        random.Random(round_).shuffle(order)
        return order

    def start(self, name: str) -> Worker:
        """A new process for the system. Raises `Unavailable` or `Failed`."""
        reason = why_unavailable(name, self.gpus)
        if reason:
            raise Unavailable(reason)
        worker = Worker(name, self.threads, self.tf32)
        try:
            self.versions.update(worker.ask("hello")["versions"])
        except (Unavailable, Failed):
            worker.close()
            raise
        return worker

    def worker(self, name: str) -> Worker:
        """The system's process, started when it is first needed."""
        if name not in self.workers:
            self.workers[name] = self.start(name)
        return self.workers[name]

    def attempt(self, result: Result, name: str, act: Callable[[], object]) -> bool:
        """Do something with a system; note in `result` why it could not be done, and drop what had been measured."""
        try:
            act()
        except Unavailable as reason:
            result.not_measured[name] = str(reason)
        except Failed as error:
            result.failed[name] = str(error)
            say(f"  {name} failed: {error}")
            if name in self.workers:
                self.workers.pop(name).close()
        else:
            return True
        result.samples.pop(name, None)
        return False

    def rounds_of(self, result: Result, active: list[str], sample: Callable[[str], float], rounds: int) -> None:
        """Take `rounds` samples of each active system, in turns."""
        for round_ in range(rounds):
            for name in self.turns(list(active), round_):
                time.sleep(self.pause)

                def act(name: str = name) -> None:
                    watch = Intruders([os.getpid(), *(w.pid for w in self.workers.values())])
                    figure = sample(name)
                    result.samples.setdefault(name, []).append(figure)
                    result.details.setdefault("other_programs", {}).setdefault(name, []).append(watch.share())

                if not self.attempt(result, name, act):
                    active.remove(name)

    def close(self) -> None:
        """End all processes."""
        for worker in self.workers.values():
            worker.close()
        self.workers.clear()


def steps(bench: Bench, workload: Workload) -> Result:
    """Seconds a training step."""
    result, counts, active = Result(workload.name, "s/step"), {}, []
    result.details["definition"] = workload.to_json()
    for name in bench.systems:

        def prepare(name: str = name) -> None:
            if workload.gpu_only and not SYSTEMS[name].gpu:
                raise Unavailable("this workload is for GPUs")
            time.sleep(bench.pause)
            ready = bench.worker(name).ask("load", workload=workload.to_json(), budget=bench.seconds)
            if ready["note"]:
                result.notes[name] = ready["note"]
            counts[name] = ready["steps"]
            result.details.setdefault("first_run_seconds", {})[name] = ready["first_run"]

        if bench.attempt(result, name, prepare):
            active.append(name)
    result.details["steps_a_sample"] = counts

    def sample(name: str) -> float:
        return float(bench.worker(name).ask("time", steps=counts[name])["seconds"] / counts[name])

    bench.rounds_of(result, active, sample, bench.rounds)
    return result


def predict(bench: Bench, workload: str, part: int) -> Result:
    """Seconds for one forward pass over resident rows, each system at its best number of rows at a time."""
    result, rows = Result(workload, "s/pass"), PREDICTIONS[workload].rows // part
    chunks, passes, active = {}, {}, []
    for name in bench.systems:

        def prepare(name: str = name) -> None:
            time.sleep(bench.pause)
            ready = bench.worker(name).ask("load_predict", prediction=workload, rows=rows)
            chunks[name], passes[name] = ready["chunk"], max(1, round(bench.seconds / ready["pass"]))

        if bench.attempt(result, name, prepare):
            active.append(name)
    result.details.update(rows=rows, rows_at_a_time=chunks, passes_a_sample=passes)

    def sample(name: str) -> float:
        answer = bench.worker(name).ask("predict", chunk=chunks[name], passes=passes[name])
        return float(answer["seconds"] / passes[name])

    bench.rounds_of(result, active, sample, bench.rounds)
    return result


def accuracy(bench: Bench, grid: Grid) -> Result:
    """Seconds of training until the test accuracy on MNIST reaches the grid's target.

    Every system tries every point of the grid once, takes its fastest, and repeats that from other initial weights.
    """
    result = Result("mnist", "s")
    names = [name for name in bench.systems if name != "floor"]
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {name: {} for name in names}

    def learn(name: str, point: Workload, seed: int) -> None:
        time.sleep(bench.pause)
        limits = {"target": grid.target, "max_epochs": grid.max_epochs, "budget": bench.seconds}
        run = bench.worker(name).ask("learn", workload=point.to_json(), seed=seed, **limits)
        runs[name].setdefault(point.name, []).append(run)
        total, last = sum(run["epoch_seconds"]), run["accuracy"][-1]
        say(f"  {name}: {point.name}: {last:.4f} after {len(run['accuracy'])} epochs, {total:.2f} s")

    active = list(names)
    for i, point in enumerate(grid.points()):
        for name in bench.turns(list(active), i):
            if not bench.attempt(result, name, partial(learn, name, point, 0)):
                active.remove(name)
    points, best = {p.name: p for p in grid.points()}, {}
    for name in list(active):
        reached = {key: sum(r[0]["epoch_seconds"]) for key, r in runs[name].items() if r[0]["reached"]}
        if reached:
            best[name] = min(reached, key=reached.__getitem__)
        else:
            result.not_measured[name] = f"{grid.target:.0%} not reached in {grid.max_epochs} epochs at any point"
            active.remove(name)
    for seed in range(1, bench.rounds):
        for name in bench.turns(list(active), seed):
            if not bench.attempt(result, name, partial(learn, name, points[best[name]], seed)):
                active.remove(name)
    for name in active:
        found = runs[name][best[name]]
        result.notes[name] = best[name].removeprefix("mnist, ")
        if all(run["reached"] for run in found):
            result.samples[name] = [sum(run["epoch_seconds"]) for run in found]
        else:
            missed = sum(not run["reached"] for run in found)
            result.not_measured[name] = f"{missed} of {len(found)} runs did not reach {grid.target:.0%}"
    result.details.update(runs=runs, best=best)
    return result


def memory(bench: Bench, name: str, point: Workload) -> Result:
    """Peak resident memory, in bytes, of one epoch of a workload and a test, each in a process of its own."""
    bench.close()
    result = Result(name, "bytes")
    for name in bench.systems:

        def act(name: str = name) -> None:
            with bench.start(name) as worker:
                answer = worker.ask("memory", workload=point.to_json())
            result.samples[name] = [answer["peak"]]
            if answer["note"]:
                result.notes[name] = answer["note"]

        bench.attempt(result, name, act)
    return result


def imports(bench: Bench) -> Result:
    """Seconds that each system's import takes in a new interpreter."""
    result = Result("import", "s")
    names: dict[tuple[str, bool], str] = {}
    for name in bench.systems:
        reason = why_unavailable(name, bench.gpus)
        if reason:
            result.not_measured[name] = reason
        else:
            first = names.setdefault((SYSTEMS[name].imports, SYSTEMS[name].gpu), name)
            result.notes[first] = f"import {SYSTEMS[name].imports}"
    # The first import of a round-robin warms the file cache, and is dropped.
    active = [name for name in names.values() if bench.attempt(result, name, partial(_import, bench, name))]
    bench.rounds_of(result, active, partial(_import, bench), bench.rounds)
    return result


def _import(bench: Bench, name: str) -> float:
    return import_seconds(name, bench.threads)


def all_results(bench: Bench, workloads: Iterable[str], part: int, grid: Grid) -> list[Result]:
    """Measure the named workloads, and predict one part of so many of the rows."""
    results = []
    for name in workloads:
        say(f"{name} ...")
        if name in STEPS:
            results.append(steps(bench, STEPS[name]))
        elif name in PREDICTIONS:
            results.append(predict(bench, name, part))
        elif name == "mnist":
            results.append(accuracy(bench, grid))
        elif name == "memory":
            results.append(memory(bench, name, mnist_workload(240, 1e-3, grid.rows)))
            results.append(imports(bench))
        elif name.startswith("memory-"):
            results.append(memory(bench, name, STEPS[name.removeprefix("memory-")]))
    return results
