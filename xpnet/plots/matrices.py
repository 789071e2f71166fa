"""Weights as pictures: matrices, and the first layer's weights as the images that they look for."""

from __future__ import annotations

import numpy as np

from xpnet.errors import ShapeError
from xpnet.keywords import named
from xpnet.layers.shapes import every_layer
from xpnet.network import Network
from xpnet.plots.style import SIGNED, Axes, axes, signed_limit, tiles
from xpnet.typing import HostArray


def parameter(net: Network, name: str) -> HostArray:
    """Return the values of a parameter on the host."""
    return net.backend.to_numpy(net.parameters[name]).astype(np.float64)


@named
def weights(net: Network, name: str = "0.W", ax: Axes | None = None) -> Axes:
    """Draw a parameter as a matrix of colours: a row for each input, a column for each output; a bias is one row.

    The weights of a convolution have a row for each place in its window and each channel there.

    Parameters
    ----------
    net : Network
    name : str
        The parameter's name, such as "0.W", "2.b" or "3.0.W".
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
    >>> ax = plots.weights(net, "0.W")
    >>> ax.images[0].get_array().shape
    (2, 8)
    """
    values = parameter(net, name)
    values = values.reshape(-1, values.shape[-1])
    place = name.rpartition(".")[0]
    layer = next(item.layer for item in every_layer(net.layers, net.input_shape) if item.place == place)
    ax = axes(ax)
    picture = ax.imshow(values, cmap=SIGNED, aspect="auto", interpolation="nearest", **signed_limit(values))
    ax.figure.colorbar(picture, ax=ax, label=f"value of {name}")
    ax.set(xlabel="output", ylabel="input", title=f"{name}: {type(layer).__name__} of layer {place}")
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_major_locator().set_params(integer=True)
    if values.shape[0] == 1:
        ax.set(yticks=[], ylabel="")
    return ax


@named
def weight_images(
    net: Network, shape: tuple[int, int], ax: Axes | None = None, *, name: str = "0.W", count: int = 64
) -> Axes:
    """Draw what each unit of a layer looks for: its weights, arranged as an image of the input.

    The colours end where 99.5 % of the weights lie, so that a few large ones do not make all the others pale.

    Parameters
    ----------
    net : Network
    shape : (int, int)
        Height and width of the image, e.g. ``(28, 28)``; their product is the layer's number of inputs.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.
    name : str
        The weights, (I, O).
    count : int
        How many units are drawn at most, the first ones.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Examples
    --------
    >>> import xpnet
    >>> from xpnet import plots
    >>> ax = plots.weight_images(xpnet.mlp([64, 16, 10]), (8, 8))
    """
    values = parameter(net, name)
    if values.ndim != 2 or values.shape[0] != shape[0] * shape[1]:
        raise ShapeError(f"{name} has shape {values.shape}; images of {shape} need {shape[0] * shape[1]} inputs")
    shown = values.T[:count].reshape(-1, *shape)
    ax = axes(ax, 6.0, 5.5)
    picture = ax.imshow(tiles(shown), cmap=SIGNED, interpolation="nearest", **signed_limit(shown, 0.995))
    ax.figure.colorbar(picture, ax=ax, label=f"value of {name}", extend="both")
    title = f"weights of units 0 to {len(shown) - 1} of {values.shape[1]}, as images of the input"
    ax.set(xticks=[], yticks=[], title=title)
    return ax
