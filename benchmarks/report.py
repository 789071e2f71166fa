"""The results as a table, as JSON and as a picture."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from measure import Result
from systems import SYSTEMS

SCALES = {"s": 1.0, "ms": 1e-3, "µs": 1e-6}


def quantity(value: float, unit: str) -> str:
    """`value` with three digits and a fitting unit: 0.0123 s/step -> "12.3 ms"."""
    if unit == "bytes":
        return f"{value / 2**20:.0f} MiB"
    scale = next((name for name, factor in SCALES.items() if value >= factor), "µs")
    return f"{float(f'{value / SCALES[scale]:.3g}'):g} {scale}"


def ratios(result: Result, name: str, to: str | None) -> list[float]:
    """A system's figures over another's, each pair from the same round, so that a slow minute cancels."""
    if to is None or to not in result.samples:
        return []
    return [a / b for a, b in zip(result.samples[name], result.samples[to], strict=True)]


def own(result: Result, name: str) -> str | None:
    """The fastest xpnet of the workload on the same kind of device as system `name`."""
    same = [k for k in result.samples if k.startswith("xpnet") and SYSTEMS[k].gpu == SYSTEMS[name].gpu]
    return min(same, key=lambda k: median(result.samples[k]), default=None)


def _cell(values: list[float]) -> str:
    return f"{median(values):.2f}" if values else ""


def table(result: Result) -> str:
    """A Markdown table of one workload, the fastest first; then what was not measured, and why."""
    lines = [
        f"### {result.workload}",
        "",
        "| system | steps from | median | lowest to highest | / floor | / xpnet | |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for name in sorted(result.samples, key=lambda k: median(result.samples[k])):
        values = result.samples[name]
        spread = f"{quantity(min(values), result.unit)} to {quantity(max(values), result.unit)}"
        cells = [
            name,
            {"python": "Python", "compiled": "compiled loop"}[SYSTEMS[name].loop],
            quantity(median(values), result.unit),
            spread if len(values) > 1 else "one run",
            _cell(ratios(result, name, "floor")),
            _cell(ratios(result, name, own(result, name))),
            result.notes.get(name, ""),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    shares = [s for each in result.details.get("other_programs", {}).values() for s in each if s is not None]
    if shares and max(shares) > 0.2:
        lines.append(f"- DISTURBED: other programs kept up to {max(shares):.1f} processors busy during a sample")
    lines += [f"- {name}: not measured: {why}" for name, why in result.not_measured.items()]
    lines += [f"- {name}: FAILED: {why}" for name, why in result.failed.items()]
    return "\n".join(lines) + "\n"


def text(results: Iterable[Result], setting: dict[str, Any]) -> str:
    """All tables, below what they were measured with."""
    head = [f"- {key}: {', '.join(map(str, v)) if isinstance(v, list) else v}" for key, v in setting["machine"].items()]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(setting["versions"].items()))
    options = ", ".join(f"{key} {value}" for key, value in setting["options"].items())
    return "\n".join(["# Measured", "", *head, f"- versions: {versions}", f"- {options}", "", *map(table, results)])


def write_json(results: Iterable[Result], setting: dict[str, Any], path: Path) -> None:
    """Every sample, with all that is needed to read it."""
    content = {**setting, "results": [asdict(result) for result in results]}
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def read_json(path: Path) -> tuple[list[Result], dict[str, Any]]:
    """The inverse of `write_json`."""
    content = json.loads(path.read_text())
    return [Result(**fields) for fields in content.pop("results")], content


def picture(results: list[Result], setting: dict[str, Any], path: Path) -> None:
    """One panel a workload: the medians, and whiskers from the lowest to the highest sample."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [result for result in results if result.samples]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(5.2 * columns, 0.8 + 3.4 * rows), layout="constrained")
    for i, result in enumerate(shown):
        axes = figure.add_subplot(rows, columns, i + 1)
        relative = "floor" in result.samples and result.unit != "bytes"
        divisor = {"bytes": 2.0**20}.get(result.unit, 1.0)
        values = {
            name: ratios(result, name, "floor") if relative else [v / divisor for v in samples]
            for name, samples in result.samples.items()
        }
        names = sorted(values, key=lambda k: -median(values[k]))
        for row, name in enumerate(names):
            middle, low, high = median(values[name]), min(values[name]), max(values[name])
            colour = "C3" if name.startswith("xpnet") else "0.5" if name == "floor" else "C0"
            axes.errorbar(middle, row, xerr=[[middle - low], [high - middle]], fmt="o", color=colour, capsize=3)
            axes.annotate(f"{middle:.3g}", (middle, row + 0.18), ha="center", fontsize=7, color=colour)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_ylim(-0.5, len(names) - 0.2)
        axes.set_xscale("log")
        axes.grid(axis="x", which="both", alpha=0.25)
        axes.set_xlabel("multiple of the floor" if relative else {"bytes": "MiB"}.get(result.unit, result.unit))
        axes.set_title(result.workload)
    machine, options = setting["machine"], setting["options"]
    gpus = "; ".join(machine["gpus"])
    where = f"{machine['cpu']}, {options['threads']} threads" + (f"; {gpus}" if gpus else "")
    figure.suptitle(f"Smaller is better. {where}, {options['precision']}, {machine['date'][:10]}", fontsize=9)
    FigureCanvasAgg(figure).print_figure(path, dpi=130)
