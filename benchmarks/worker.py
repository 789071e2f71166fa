"""The process of one system: reads one command a line, answers with one line of JSON, computes only when asked.

Started by `pool.Worker`, which sets the thread counts in the environment before this interpreter begins.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
import traceback
from dataclasses import replace
from importlib import import_module
from typing import Any

import check
import workloads
from systems import SYSTEMS
from systems.base import NotMeasured, System
from workloads import Workload


def pin(threads: int) -> None:
    """Confine this process to `threads` processors, on different cores where there are enough of them.

    Not every library can be told a number of threads; all of them are bound by this.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    first: list[int] = []
    rest: list[int] = []
    seen: set[str] = set()
    for cpu in sorted(os.sched_getaffinity(0)):
        try:
            with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") as file:
                core = file.read()
        except OSError:
            core = str(cpu)
        (rest if core in seen else first).append(cpu)
        seen.add(core)
    os.sched_setaffinity(0, (first + rest)[:threads])


def peak_memory() -> int:
    """The largest resident memory that this process had, in bytes."""
    try:
        # Not getrusage: a child inherits its parent's peak there when it is started.
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


class Session:
    """The commands. Each takes JSON values and returns them."""

    def __init__(self, name: str, threads: int, tf32: bool) -> None:
        entry = SYSTEMS[name]
        module = import_module(f"systems.{entry.module}")
        self.system: System = getattr(module, entry.factory)(threads, tf32, **entry.options)

    def hello(self) -> dict[str, Any]:
        """Versions of what this process measures."""
        return {"versions": {"python": sys.version.split()[0], **self.system.versions()}}

    def load(self, workload: dict[str, Any], seed: int = 0, budget: float = 0.3) -> dict[str, Any]:
        """Data, network, compilation, `budget` seconds of warm-up. Return what differs, and a sample's `steps`.

        These are as many as take about `budget` seconds, rounded to whole units: of steps beyond them a system would do
        none, and they would be counted all the same.
        """
        wanted, note = self.system.adapt(Workload.from_json(workload))
        x, t = workloads.training_data(wanted)
        start = time.perf_counter()
        self.system.load(wanted, x, t, workloads.initial_weights(wanted, seed), seed)
        del x, t
        self.system.run(self.system.unit)
        first = time.perf_counter() - start
        unit, step = self.system.unit, self._pace(budget)
        return {"note": note, "first_run": first, "steps": max(1, round(budget / (step * unit))) * unit}

    def _pace(self, budget: float) -> float:
        """Run for `budget` seconds or more; return seconds a step in the last, longest run."""
        steps = self.system.unit
        while True:
            seconds = self.time(steps)["seconds"]
            if seconds >= budget / 2:
                return float(seconds / steps)
            steps *= 2

    def time(self, steps: int, rate: float | None = None) -> dict[str, Any]:
        """Seconds for `steps` training steps, at learning rate `rate` from here on if there is one."""
        start = time.perf_counter()
        if rate is not None:
            self.system.set_rate(rate)
        self.system.run(steps)
        return {"seconds": time.perf_counter() - start}

    def load_predict(self, prediction: str, rows: int) -> dict[str, Any]:
        """Make `rows` rows resident and find the system's best number of rows at a time."""
        asked = workloads.PREDICTIONS[prediction]
        wanted, note = self.system.adapt(replace(workloads.STEPS[asked.step], batches=1))
        x, t = workloads.training_data(wanted)
        self.system.load(wanted, x, t, workloads.initial_weights(wanted), 0)
        self._rows = self.system.put(asked.data(rows))
        paces = {}
        for chunk in (c for c in asked.chunks if c <= rows):
            self.system.predict(self._rows, chunk)
            paces[chunk] = min(self.predict(chunk)["seconds"] for _ in range(2))
        best = min(paces, key=paces.__getitem__)
        self.system.predict(self._rows, best)  # again, for those that compile for the last size only
        return {"note": note, "chunk": best, "pass": paces[best]}

    def predict(self, chunk: int, passes: int = 1) -> dict[str, Any]:
        """Seconds for `passes` forward passes over all resident rows."""
        start = time.perf_counter()
        for _ in range(passes):
            self.system.predict(self._rows, chunk)
        return {"seconds": time.perf_counter() - start}

    def learn(
        self, workload: dict[str, Any], seed: int, target: float, max_epochs: int, budget: float
    ) -> dict[str, Any]:
        """Train from new weights until the test accuracy reaches `target`; the clock stands still while it is tested.

        Before the clock starts the system trains other weights for `budget` seconds, and compiles what it compiles.
        """
        wanted = Workload.from_json(workload)
        system, weights = self.system, workloads.initial_weights(wanted, seed)
        x, t = workloads.training_data(wanted)
        system.load(wanted, x, t, weights, seed)
        del x, t
        images, labels = workloads.mnist("t10k")
        test = system.put(images)
        self._pace(budget)
        system.accuracy(test, labels)
        system.reset(weights)
        seconds: list[float] = []
        accuracy: list[float] = []
        while len(accuracy) < max_epochs and not (accuracy and accuracy[-1] >= target):
            rate = wanted.learning_rate * wanted.decay ** len(accuracy)
            seconds.append(self.time(wanted.batches, rate)["seconds"])
            accuracy.append(system.accuracy(test, labels))
        return {"epoch_seconds": seconds, "accuracy": accuracy, "reached": accuracy[-1] >= target}

    def memory(self, workload: dict[str, Any]) -> dict[str, Any]:
        """Peak resident memory of one epoch of training and a test; meaningful in a process that did nothing else."""
        wanted, note = self.system.adapt(Workload.from_json(workload))
        x, t = workloads.training_data(wanted)
        self.system.load(wanted, x, t, workloads.initial_weights(wanted), 0)
        del x, t
        self.system.run(wanted.batches)
        try:
            if wanted.shape:
                self.system.predict(self.system.put(workloads.training_data(wanted)[0]), wanted.batch)
            else:
                images, labels = workloads.mnist("t10k")
                self.system.accuracy(self.system.put(images), labels)
        except NotMeasured:
            note = "products only"
        return {"note": note, "peak": peak_memory()}

    def check(self, workload: dict[str, Any], steps: int, budget: float) -> dict[str, Any]:
        """Compare a few steps with the reference."""
        return check.same_steps(self.system, Workload.from_json(workload), steps, budget)

    def check_picks(self) -> dict[str, Any]:
        """Find out which rows went into which batch."""
        return check.picked_rows(self.system)


def main() -> None:
    """Answer commands until the input ends."""
    name, threads, tf32 = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "tf32"
    # Libraries may print: their output goes to the error stream, only answers go to the parent.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    pin(threads)
    session: Session | None = None
    for line in sys.stdin:
        command, arguments = json.loads(line)
        try:
            if session is None:
                session = Session(name, threads, tf32)
            gc.collect()
            answer = getattr(session, command)(**arguments)
        except NotMeasured as reason:
            answer = {"not_measured": str(reason)}
        except Exception as error:
            traceback.print_exc()
            answer = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
