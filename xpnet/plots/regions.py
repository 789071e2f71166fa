"""What a network with two inputs decides where, and how that changes during training."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.errors import ShapeError
from xpnet.inspection.recorder import Recorder
from xpnet.keywords import named
from xpnet.network import Network
from xpnet.plots.style import MARKERS, SEQUENTIAL, Axes, axes, color
from xpnet.typing import HostArray

Extent = tuple[float, float, float, float]


def extent_of(x: Any, margin: float = 0.1) -> Extent:
    """Return left, right, bottom and top of points (B, 2), with a margin."""
    points = np.asarray(x, dtype=np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    wider = margin * np.where(high > low, high - low, 1.0)
    (left, bottom), (right, top) = low - wider, high + wider
    return float(left), float(right), float(bottom), float(top)


def region_colors(net: Network, extent: Extent, size: int = 200) -> HostArray:
    """Return (size, size, 3) red, green and blue: each class's colour, the paler the less sure the network is.

    The first row is the bottom. Under a regression loss the first output is returned instead, (size, size).
    """
    if net.input_shape != (2,):
        raise ShapeError(f"regions need a network with 2 inputs, got one with samples of shape {net.input_shape}")
    left, right, bottom, top = extent
    step = np.asarray([(right - left) / size, (top - bottom) / size])
    columns, rows = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    points = np.stack([columns, rows], axis=-1).reshape(-1, 2) * step + [left, bottom]
    points = points.astype(net.dtype)
    if net.loss.kind == "regression":
        return np.asarray(net.predict(points)[:, 0]).reshape(size, size)
    from matplotlib.colors import to_rgb

    probabilities = np.asarray(net.predict_proba(points), dtype=np.float64)
    classes = probabilities.shape[1]
    palette = np.asarray([to_rgb(color(k, classes)) for k in range(classes)])
    best = probabilities.argmax(axis=1)
    sure = (probabilities.max(axis=1) * classes - 1.0) / (classes - 1)  # 0: all classes alike, 1: certain
    strength = 0.15 + 0.5 * sure[:, None]
    return np.asarray(1.0 - strength * (1.0 - palette[best])).reshape(size, size, 3)


@named
def regions(net: Network, x: Any, t: Any = None, ax: Axes | None = None, *, size: int = 200, points: int = 500) -> Axes:
    """Draw what a network with two inputs says in the rectangle around the points `x`.

    Each class has a colour, paler where the network is less sure; the points have the colours and the markers of
    their targets. Under a regression loss colours are the first output's values.

    Parameters
    ----------
    net : Network
        With two inputs, and as its loss a cross-entropy (classes, or one yes-or-no output), or a regression loss.
    x : array (B, 2)
    t : array (B,), optional
        The targets: classes, or under a regression loss values.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.
    size : int
        The picture is computed at size x size points.
    points : int
        Of more points than this only so many are drawn, the first ones.
    """
    extent = extent_of(x)
    ax = axes(ax, 5.0, 4.5)
    colors = region_colors(net, extent, size)
    picture = ax.imshow(colors, extent=extent, origin="lower", aspect="auto", cmap=SEQUENTIAL, interpolation="nearest")
    if net.loss.kind == "regression":
        ax.figure.colorbar(picture, ax=ax, label="output of the network")
    if t is not None:
        _points(net, np.asarray(x)[:points], np.asarray(t)[:points], ax, picture)
    ax.set(xlabel="input 0", ylabel="input 1", xlim=extent[:2], ylim=extent[2:])
    return ax


def _points(net: Network, x: HostArray, t: HostArray, ax: Axes, picture: Any) -> None:
    if net.loss.kind == "regression":
        style = {"cmap": SEQUENTIAL, "norm": picture.norm}
        ax.scatter(x[:, 0], x[:, 1], c=t.reshape(len(t), -1)[:, 0], edgecolors="white", s=25, linewidths=0.7, **style)
        return
    labels = t.argmax(axis=1) if t.ndim == 2 and t.shape[1] > 1 else t.reshape(-1).astype(int)
    classes = max(2, net.output_shape[0])
    for k in range(classes):
        chosen = x[labels == k]
        marker = {"marker": MARKERS[k % len(MARKERS)], "color": color(k, classes)}
        ax.scatter(chosen[:, 0], chosen[:, 1], label=f"class {k}", s=18, edgecolors="white", linewidths=0.5, **marker)
    ax.legend(fontsize="small", loc="upper right")


@named
def animate_regions(
    recorder: Recorder, x: Any, t: Any = None, ax: Axes | None = None, *, size: int = 100, interval: int = 200
) -> Any:
    """Return an animation of `regions` over the training that a recorder has watched.

    Save it with ``animation.save("learning.gif", writer="pillow")``; notebooks show ``animation.to_jshtml()``.

    Parameters
    ----------
    recorder : Recorder
        With ``parameters=True``.
    x, t, ax, size
        As for `regions`.
    interval : int
        Milliseconds from one record to the next.

    Returns
    -------
    matplotlib.animation.FuncAnimation
    """
    ax = regions(recorder.network(0), x, t, ax, size=size)
    from matplotlib.animation import FuncAnimation

    picture, extent = ax.images[0], extent_of(x)

    def draw(record: int) -> list[Any]:
        picture.set_data(region_colors(recorder.network(record), extent, size))
        if recorder.net.loss.kind == "regression":
            picture.autoscale()
        return [picture, ax.set_title(f"after {recorder.steps[record]:,} training steps")]

    draw(0)
    return FuncAnimation(ax.figure, draw, frames=len(recorder.steps), interval=interval)
