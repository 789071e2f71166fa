"""How parameters, deltas and updates change during training, from what a `Recorder` has."""

from __future__ import annotations

import numpy as np

from xpnet.inspection.recorder import Recorder
from xpnet.keywords import named
from xpnet.plots.style import COLORS, Axes, axes, color, line
from xpnet.typing import HostArray


@named
def evolution(recorder: Recorder, name: str, ax: Axes | None = None, *, most: int = 60) -> Axes:
    """Draw how one quantity went: weights, biases, deltas, gradients or outputs.

    A parameter whose values the recorder kept (``Recorder(parameters=True)``) has a line for each of its entries, with
    a legend if they are few; else the three that are largest in the end have their index beside them. Anything else has
    its mean, a band of one standard deviation to both sides, and the largest absolute value.

    Parameters
    ----------
    recorder : Recorder
    name : str
        The quantity, such as "0.W", "2.b", "0.delta" or "1.y"; see `Recorder`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.
    most : int
        So many entries at most have a line, spread evenly over the array.
    """
    curves, steps = recorder[name], recorder.steps
    ax = axes(ax)
    ax.axhline(0.0, color="0.7", linewidth=0.8)
    if recorder.keep_parameters and name in recorder.net.parameters:
        values = recorder.parameters(name).reshape(len(steps), -1)
        chosen = np.unique(np.linspace(0, values.shape[1] - 1, min(most, values.shape[1])).round().astype(int))
        few = len(chosen) <= len(COLORS)
        shape = tuple(recorder.net.parameters[name].shape)
        for k, entry in enumerate(chosen):
            style = line(k) if few else {"color": color(k, len(chosen)), "linewidth": 0.8}
            ax.plot(steps, values[:, entry], label=f"{name}[{_index(entry, shape)}]" if few else None, **style)
        if not few:
            _name_largest(ax, values[-1], chosen, shape)
        part = "" if len(chosen) == values.shape[1] else f" ({len(chosen)} of {values.shape[1]} entries)"
        ax.set_ylabel(f"value of {name}{part}")
    else:
        ax.plot(steps, curves.mean, label="mean", **line(0))
        band = (curves.mean - curves.spread, curves.mean + curves.spread)
        ax.fill_between(steps, *band, color=COLORS[0], alpha=0.25, label="mean ± spread")
        for sign in (1.0, -1.0):
            ax.plot(steps, sign * curves.largest, label="± largest" if sign > 0 else None, **line(1))
        ax.set_ylabel(f"entries of {name}")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize="small")
    ax.set_xlabel("training step")
    return ax


def _index(entry: int, shape: tuple[int, ...]) -> str:
    return ", ".join(str(int(i)) for i in np.unravel_index(entry, shape))


def _name_largest(ax: Axes, last: HostArray, chosen: HostArray, shape: tuple[int, ...]) -> None:
    """Put the indices of up to three entries beside the ends of their lines, the largest first, where there is room."""
    places: list[float] = []
    room = 0.05 * float(np.ptp(ax.get_ylim()))
    for entry in chosen[np.argsort(-np.abs(last[chosen]))][:3]:
        value = float(last[entry])
        if all(abs(value - place) > room for place in places):
            text = f"[{_index(entry, shape)}]"
            ax.text(1.01, value, text, transform=ax.get_yaxis_transform(), va="center", fontsize="small")
            places.append(value)


@named
def update_ratios(recorder: Recorder, ax: Axes | None = None) -> Axes:
    """Draw how much of each weight matrix one step changes: |update| / |W|, over the steps, on a logarithmic scale.

    About a thousandth is usual; much more makes training unsteady, much less slow. Biases are left out, since they
    begin at zero.

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
    >>> ax = plots.update_ratios(recorder)
    >>> ax.get_xlabel()
    'training step'
    """
    ax = axes(ax)
    names = [name for name in recorder.net.parameters if name.endswith(".W")]
    for k, name in enumerate(names):
        ax.plot(recorder.steps, recorder.update_ratio(name), label=name, **line(k))
    ax.axhline(1e-3, color="0.5", linewidth=0.8)
    ax.set(yscale="log", xlabel="training step", ylabel="|update| / |W| of one step")
    ax.legend()
    return ax
