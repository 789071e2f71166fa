"""What the pictures share: axes, colours, scales."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.errors import ConfigError, needs
from xpnet.typing import HostArray

Axes = Any  # matplotlib.axes.Axes, which may not be installed

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
"""Colours that people with any kind of colour blindness can tell apart (Okabe and Ito, 2008; yellow is replaced)."""
LINES = ("-", "--", "-.", ":")
MARKERS = "os^Dv*Pp<>"
SIGNED = "PuOr_r"
"""Colour map for numbers of both signs: blue-violet below zero, orange above."""
SEQUENTIAL = "cividis"
"""Colour map for sizes, from dark to light, also in grey."""


def axes(ax: Axes | None, width: float = 6.0, height: float = 4.0) -> Axes:
    """Return `ax`, or the axes of a new figure of so many inches."""
    if ax is not None:
        if not hasattr(ax, "plot"):
            raise ConfigError(f"ax must be an Axes of matplotlib, got {ax!r}; leave it out for a new picture")
        return ax
    with needs("xpnet.plots", "matplotlib", "plot"):
        from matplotlib import pyplot
    return pyplot.subplots(figsize=(width, height), layout="constrained")[1]


def color(k: int, count: int = 0) -> Any:
    """Return the colour of the k-th of `count` things."""
    if count <= len(COLORS):
        return COLORS[k % len(COLORS)]
    from matplotlib import colormaps

    return colormaps["viridis"](0.85 * k / (count - 1))  # its end, yellow, would hardly be seen on white


def thinned(labels: list[str], most: int = 20) -> list[str]:
    """Return the labels, some of them empty if there are so many that they would cover each other."""
    every = -(-len(labels) // most)
    return [label if k % every == 0 else "" for k, label in enumerate(labels)]


def line(k: int) -> dict[str, Any]:
    """Return the colour and dashes of the k-th line."""
    return {"color": COLORS[k % len(COLORS)], "linestyle": LINES[k % len(LINES)]}


def signed_limit(values: HostArray, share: float = 1.0) -> dict[str, float]:
    """Return limits of a colour map in which zero is in the middle, and within which this share of the values lies."""
    sizes = np.abs(values[np.isfinite(values)])
    largest = float(np.quantile(sizes, share, method="higher")) if sizes.size else 0.0
    return {"vmin": -(largest or 1.0), "vmax": largest or 1.0}


def tiles(images: HostArray, gap: int = 1) -> HostArray:
    """Return images (N, H, W) side by side in about as many columns as rows, NaN between them and in empty places."""
    count, height, width = images.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    result = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    for k, image in enumerate(images):
        top, left = k // columns * (height + gap), k % columns * (width + gap)
        result[top : top + height, left : left + width] = image
    return result
