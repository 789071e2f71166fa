"""How large deltas are through the depth of a network, and over time."""

from __future__ import annotations

import numpy as np

from xpnet.inspection.recorder import Recorder
from xpnet.inspection.trace import Trace
from xpnet.keywords import named
from xpnet.layers.shapes import every_layer
from xpnet.plots.style import COLORS, SEQUENTIAL, Axes, axes, thinned


@named
def delta_flow(trace: Trace, ax: Axes | None = None) -> Axes:
    """Draw how large the deltas of one batch are, layer by layer: the typical size and the largest one.

    Parameters
    ----------
    trace : Trace
        From `Network.trace`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Examples
    --------
    >>> import xpnet
    >>> from xpnet import plots
    >>> x, t = xpnet.datasets.spirals(200, seed=0)
    >>> net = xpnet.mlp([2, 8, 3], activation="tanh")
    >>> ax = plots.delta_flow(net.trace(x, t))
    >>> ax.get_yscale()
    'log'
    """
    ax = axes(ax)
    depth = np.arange(len(trace))
    typical = np.asarray([numbers["delta"].rms for numbers in trace.statistics])
    largest = np.asarray([numbers["delta"].largest for numbers in trace.statistics])
    shown = {"typical (root mean square)": (typical, "o"), "largest": (largest, "^")}
    for k, (label, (sizes, marker)) in enumerate(shown.items()):
        ax.plot(depth, np.where(sizes > 0, sizes, np.nan), marker=marker, color=COLORS[k], label=label)
    ax.set_yscale("log")
    ax.set_xticks(depth, thinned([item.name for item in trace]), rotation=45, ha="right")
    ax.set(xlabel="layer (deltas flow from right to left)", ylabel="size of delta = dL/dy")
    ax.grid(alpha=0.3)
    ax.legend()
    return ax


@named
def delta_history(recorder: Recorder, ax: Axes | None = None) -> Axes:
    """Draw how large the deltas are through depth and time: a row a layer, a column a record, colours for sizes.

    Parameters
    ----------
    recorder : Recorder
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Examples
    --------
    >>> import xpnet
    >>> from xpnet import plots
    >>> x, t = xpnet.datasets.spirals(200, seed=0)
    >>> net = xpnet.mlp([2, 8, 3], activation="tanh")
    >>> recorder = xpnet.Recorder(every=5)
    >>> history = net.fit(x, t, epochs=3, callbacks=recorder)
    >>> ax = plots.delta_history(recorder)
    >>> ax.get_xlabel()
    'training step'
    """
    ax = axes(ax)
    found = {item.place: item.layer for item in every_layer(recorder.net.layers, recorder.net.input_shape)}
    layers = [place for place in found if f"{place}.delta" in recorder]
    sizes = np.stack([recorder[f"{place}.delta"].rms for place in layers])
    sizes = np.ma.masked_where(~(sizes > 0), sizes)  # has no place on a logarithmic scale
    steps = recorder.steps
    edges = np.concatenate([[steps[0]], (steps[1:] + steps[:-1]) / 2, [steps[-1] + (len(steps) == 1)]])
    picture = ax.pcolormesh(edges, np.arange(len(layers) + 1), sizes, cmap=SEQUENTIAL, norm="log")
    ax.figure.colorbar(picture, ax=ax, label="typical size of delta = dL/dy (rms)")
    names = [f"{place} {type(found[place]).__name__}" for place in layers]
    ax.set_yticks(np.arange(len(layers)) + 0.5, thinned(names))
    ax.set(xlabel="training step", ylabel="layer")
    return ax
