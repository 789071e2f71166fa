"""The text and the picture of what `scaling.py` has measured, from its JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

STRONG = {"mlp": 2048, "wide": 2048, "cnn": 256}
"""Rows of the batch that the picture shows."""
PARAMETERS = {"mlp": 670_000, "wide": 5_800_000}
MACHINES = (1, 2, 4, 8, 16, 32)
NETWORKS = {
    "memory of one machine, as measured": None,
    "a network of 1.25 GB/s and 50 µs, assumed": (50e-6, 4 / 1.25e9),
}
"""Seconds of latency, and seconds a number of four bytes."""

Runs = dict[str, dict[str, float]]  # by number of workers, seconds by name


def modelled(name: str, runs: Runs, network: tuple[float, float] | None) -> list[float]:
    """Return how many times faster P machines are, by a model: a share of the work each, and the exchange.

    t(P) = t(1) / P + latency + 2 N (P - 1) / P times the seconds a number.
    """
    alone, length = runs["1"][f"{name}, {STRONG[name]} rows"], PARAMETERS[name]
    if network is None:
        latency = runs["2"]["exchange of 1000 numbers"]
        network = latency, (runs["2"]["exchange of 5800000 numbers"] - latency) / 5.8e6  # on 2, where N travel
    latency, rate = network
    times = [alone / P + (P > 1) * latency + 2 * length * (P - 1) / P * rate for P in MACHINES]
    return [alone / t for t in times]


def milliseconds(found: dict[str, Any]) -> list[str]:
    """Return the lines of a table of all steps and exchanges."""
    columns = [(f"{n} threads", runs) for n, runs in found["threads"].items()]
    columns += [(f"{n} processes", runs) for n, runs in found["processes"].items()]
    names = list(dict.fromkeys(name for _, runs in columns for name in runs))
    lines = [f"| milliseconds | {' | '.join(title for title, _ in columns)} |", "| --- |" + " ---: |" * len(columns)]
    for name in names:
        cells = (f"{1e3 * runs[name]:.3g}" if name in runs else "" for _, runs in columns)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def not_worth(found: dict[str, Any]) -> str:
    """Return for which steps two processes are slower than one, with its two threads and with one thread."""
    threads, two = found["threads"], found["processes"]["2"]
    said = []
    for count in threads:
        slower = [name for name, t in threads[count].items() if name in two and two[name] > t]
        said.append(f"slower than one of {count} threads: {', '.join(slower) or 'none'}")
    return f"Where it does not pay: two processes of one thread are {'; '.join(said)}."


def text(found: dict[str, Any], picture: str) -> str:
    """Return the whole as Markdown."""
    machine, processes = found["machine"], found["processes"]
    quick = " A smoke run: these figures mean little." if found["quick"] else ""
    lines = [
        "## Scaling over threads and processes", "",
        f"{machine['cpu']}, {found['cores']} cores, {machine['date'][:10]}; `python benchmarks/scaling.py`.{quick} "
        "A step over threads is the ordinary one; over processes it is cut into 4 slices, and each process has one "
        f"thread. More processes than {found['cores']} share cores. `mlp` is 784-512-512-10, `wide` 784-2048-2048-10, "
        "`cnn` two convolutions of 28 x 28 images, each with Adam.", "",
        *milliseconds(found), "", not_worth(found), "",
    ]  # fmt: skip
    lines += ["A model, not measured, of P machines with what a core does here:", ""]
    lines += [
        f"| times faster on P machines | {' | '.join(map(str, MACHINES))} |",
        "| --- |" + " ---: |" * len(MACHINES),
    ]
    for name in PARAMETERS:
        for title, network in NETWORKS.items():
            cells = " | ".join(f"{value:.2g}" for value in modelled(name, processes, network))
            lines.append(f"| {name}, {STRONG[name]} rows, {title} | {cells} |")
    words = "Steps over threads and processes, the exchange beside Allreduce, and a model of more machines"
    return "\n".join([*lines, "", f"![{words}]({picture})", ""])


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw strong scaling, weak scaling, the exchange, and the model."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.5), layout="constrained")
    strong, weak, exchange, model = figure.subplots(2, 2).flat
    for colour, (name, rows) in zip(("C0", "C1", "C2"), STRONG.items(), strict=True):
        first = min(int(key.split()[1]) for key in found["threads"]["1"] if key.startswith(name))
        for kind, line in (("threads", "-"), ("processes", "--")):
            runs, base = found[kind], found["threads"]["1"]
            counts = [int(n) for n in runs]
            style = {"color": colour, "linestyle": line, "marker": "o", "label": f"{name}, {kind}"}
            strong.plot(
                counts, [base[f"{name}, {rows} rows"] / runs[str(n)][f"{name}, {rows} rows"] for n in counts], **style
            )
            alone = base[f"{name}, {first} rows"]
            weak.plot(counts, [alone / runs[str(n)][f"{name}, {first * n} rows"] for n in counts], **style)
        if name in PARAMETERS:
            for (title, network), line in zip(NETWORKS.items(), ("--", ":"), strict=True):
                speed = modelled(name, found["processes"], network)
                model.plot(MACHINES, speed, line, color=colour, label=f"{name}: {title}")
    for colour, (count, runs) in zip(("C0", "C1"), list(found["processes"].items())[1:], strict=True):
        for what, line in (("exchange", "-"), ("Allreduce", ":")):
            points = {int(key.split()[2]): t for key, t in runs.items() if key.startswith(what)}
            exchange.loglog(
                [*points], [1e3 * t for t in points.values()], line, marker="o", color=colour,
                label=f"{what} on {count} processes",
            )  # fmt: skip
    strong.axhline(1, color="0.7", linewidth=0.8)
    for axes, title, x, y in (
        (strong, "Strong scaling: one batch", "workers", "times faster than one thread"),
        (weak, "Weak scaling: 256 rows a worker", "workers", "time of one thread / time"),
        (exchange, "The exchange beside MPI's Allreduce", "numbers", "milliseconds"),
        (model, "A model, not measured: one batch", "machines of one core", "times faster than one"),
    ):
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=7)
    mark = "a smoke run, " if found["quick"] else ""
    figure.suptitle(
        f"{found['machine']['cpu']}, {found['cores']} cores, {mark}{found['machine']['date'][:10]}", fontsize=9
    )
    FigureCanvasAgg(figure).print_figure(path, dpi=110)


def write(place: Path) -> str:
    """Write the text and the picture beside the JSON, and return the text."""
    found = json.loads(place.with_suffix(".json").read_text())
    draw(found, place.with_suffix(".png"))
    said = text(found, place.with_suffix(".png").name)
    place.with_suffix(".md").write_text(said)
    return said
