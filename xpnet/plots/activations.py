"""An activation and its derivative."""

from __future__ import annotations

import numpy as np

from xpnet.backends import get
from xpnet.errors import ConfigError
from xpnet.keywords import named
from xpnet.layers import ACTIVATIONS, Dropout, Layer, Softmax
from xpnet.plots.style import Axes, axes, line
from xpnet.validation import named as by_name


@named
def activation(layer: Layer | str, ax: Axes | None = None, *, low: float = -4.0, high: float = 4.0) -> Axes:
    """Draw an activation and its derivative, as the layer's `forward` and `backward` compute them.

    Parameters
    ----------
    layer : Layer or str
        A layer without parameters that acts on each number alone, one's own too, or the name of one.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.
    low, high : float
        The range of the input.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Examples
    --------
    >>> import xpnet
    >>> from xpnet import plots
    >>> ax = plots.activation(xpnet.Tanh())
    >>> ax.get_xlabel()
    'input x'
    """
    layer = by_name("activation", layer, ACTIVATIONS, Layer)
    if isinstance(layer, Softmax | Dropout) or layer.parameter_shapes():
        raise ConfigError(f"activation draws layers without parameters that act on each number alone, got {layer!r}")
    ax = axes(ax)
    backend = get("numpy")
    x = np.linspace(low, high, 801)[:, None]
    with backend.active():
        y, cache = layer.forward(backend.xp, {}, x)
        slope, _ = layer.backward(backend.xp, {}, cache, np.ones_like(x))
    name = getattr(layer, "name", type(layer).__name__)
    ax.axhline(0.0, color="0.7", linewidth=0.8)
    ax.axvline(0.0, color="0.7", linewidth=0.8)
    ax.plot(x[:, 0], y[:, 0], label=f"{name}: y = f(x)", **line(0))
    ax.plot(x[:, 0], np.asarray(slope)[:, 0], label="derivative f'(x)", **line(1))
    ax.set(xlabel="input x", ylabel="output y, derivative dy/dx")
    ax.legend()
    return ax
