"""Measure xpnet and its peers in one run: `python benchmarks/run.py`. The method is in README.md beside this file."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

import check
import machine
import report
from measure import Bench, all_results, say
from pool import HERE, Failed, Unavailable, cuda_devices
from systems import SYSTEMS
from workloads import MNIST, PREDICTIONS, SEEING, STEPS, Grid

WORKLOADS = (*STEPS, *PREDICTIONS, "mnist", "memory", *(f"memory-{name}" for name in SEEING))
QUICK_WORKLOADS = ("tutorial", "tiny", "predict")


def choice(known: tuple[str, ...]) -> Any:
    """An argument type: a comma-separated selection of `known`; what is no name may be the beginning of several."""

    def parse(text: str) -> tuple[str, ...]:
        parts = text.split(",")
        found = tuple(n for n in known if any(n == p if p in known else n.startswith(p) for p in parts))
        unknown = [part for part in parts if not any(name.startswith(part) for name in known)]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return found

    return parse


def positive(kind: type) -> Any:
    """An argument type: a number above zero."""

    def parse(text: str) -> Any:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not above zero")
        return value

    return parse


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only check that all systems compute the same")
    parser.add_argument("--quick", action="store_true", help="a smoke run: few, short samples; its figures mean little")
    parser.add_argument("--systems", type=choice(tuple(SYSTEMS)), default=tuple(SYSTEMS), help=", ".join(SYSTEMS))
    parser.add_argument("--workloads", type=choice(WORKLOADS), default=None, help=", ".join(WORKLOADS))
    parser.add_argument("--threads", type=positive(int), default=2, help="processors for each system (default 2)")
    parser.add_argument("--rounds", type=positive(int), default=None, help="samples a system (default 7; mnist: runs)")
    parser.add_argument("--seconds", type=positive(float), default=None, help="at least this long a sample (default 1)")
    parser.add_argument("--neighbour", action="store_true", help="with a busy program bound to one of the processors")
    parser.add_argument("--tf32", action="store_true", help="TF32 for the products of all GPU systems (default: none)")
    parser.add_argument("--output", type=Path, default=None, help="where to write, without a suffix (.json .md .png)")
    return parser.parse_args(given)


def run_check(bench: Bench, workloads: tuple[str, ...]) -> bool:
    """Print a line a system and workload; return whether all agree with the reference."""
    good = True
    for name in (n for n in bench.systems if n != "floor"):
        try:
            with bench.start(name) as worker:
                for workload in (STEPS[w] for w in workloads if w in STEPS):
                    if workload.gpu_only and not SYSTEMS[name].gpu:
                        continue
                    answer = worker.ask("check", workload=workload.to_json(), steps=4, budget=bench.seconds)
                    errors = ", ".join(f"{key} {value:.1e}" for key, value in answer["errors"].items())
                    verdict = "same" if answer["ok"] else "DIFFERENT"
                    note = f" [{answer['note']}]" if answer["note"] else ""
                    print(f"{name:20} {workload.name:10} {verdict}: {errors}{note}", flush=True)
                    good &= answer["ok"]
                answer = worker.ask("check_picks")
                print(f"{name:20} {'batches':10} {'shuffled epochs' if answer['ok'] else 'WRONG: ' + answer['why']}")
                good &= answer["ok"]
        except Unavailable as reason:
            print(f"{name:20} not checked: {reason}")
        except Failed as error:
            print(f"{name:20} FAILED: {error}")
            good = False
    for of, tolerances in (("", check.TOLERANCES), (" of images and signals", check.TOLERANCES_OF_IMAGES)):
        print(f"accepted relative errors{of}: {', '.join(f'{key} {value:g}' for key, value in tolerances.items())}")
    return good


def main(given: list[str] | None = None) -> int:
    """Run; the exit status is 0 when nothing failed."""
    options = arguments(given)
    if not MNIST.is_dir():
        say("the MNIST files are missing: examples/data/mnist of the source checkout")
        return 2
    pause = 0.05 if options.quick else 0.3
    rounds, seconds = options.rounds or (2 if options.quick else 7), options.seconds or (0.1 if options.quick else 1.0)
    workloads = options.workloads or (QUICK_WORKLOADS if options.quick else WORKLOADS)
    bench = Bench(options.systems, options.threads, options.tf32, rounds, seconds, cuda_devices(), pause)
    if options.check:
        return 0 if run_check(bench, workloads) else 1
    where = machine.describe()
    if where["load average"] and where["load average"][0] > 0.5:
        say(f"this machine is busy (load average {where['load average'][0]:.2f}): expect noise")
    quick = Grid(batches=(240,), learning_rates=(2e-3,), target=0.85, max_epochs=2, rows=12_000)
    grid = quick if options.quick else Grid()
    neighbour = machine.neighbour() if options.neighbour else None
    try:
        results = all_results(bench, workloads, 20 if options.quick else 1, grid)
    finally:
        bench.close()
        if neighbour is not None:
            neighbour.kill()
    setting = {
        "machine": where,
        "versions": bench.versions,
        "options": {
            "threads": options.threads,
            "precision": "float32, TF32 products on GPUs" if options.tf32 else "float32",
            "rounds": rounds,
            "seconds": seconds,
            "quick": options.quick,
            "neighbour": options.neighbour,
        },
    }
    print(report.text(results, setting))
    output = options.output or HERE / "results" / ("quick" if options.quick else "latest")
    output.parent.mkdir(parents=True, exist_ok=True)
    report.write_json(results, setting, output.with_suffix(".json"))
    output.with_suffix(".md").write_text(report.text(results, setting))
    if importlib.util.find_spec("matplotlib") is None:
        say("no picture: matplotlib is not installed")
    elif any(result.samples for result in results):
        report.picture(results, setting, output.with_suffix(".png"))
    return 1 if any(result.failed for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
