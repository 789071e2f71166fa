"""What a network of images looks at: filters, what they find in an image, and the pixels that an output depends on."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.errors import ConfigError, ShapeError, closest
from xpnet.keywords import named
from xpnet.layers import forward_pass
from xpnet.model.data import check_inputs
from xpnet.network import Network
from xpnet.plots.matrices import parameter
from xpnet.plots.style import SEQUENTIAL, SIGNED, Axes, axes, signed_limit, tiles
from xpnet.typing import Array, HostArray


def _blank(ax: Axes | None, width: float, height: float) -> Axes:
    ax = axes(ax, width, height)
    ax.set_xticks([])
    ax.set_yticks([])
    return ax


def _row(images: HostArray) -> HostArray:
    """Return images (N, H, W) side by side, a column of zeros after each."""
    return np.concatenate(list(np.pad(images, ((0, 0), (0, 0), (0, 1)))), axis=1)


@named
def filters(net: Network, name: str = "0.W", ax: Axes | None = None, *, channel: int = 0, count: int = 64) -> Axes:
    """Draw the filters of a convolution: the weights with which each output sees one channel of its window.

    Parameters
    ----------
    net : Network
    name : str
        The weights (K, K, C, O) of a `Conv2D`, such as "1.W" or "3.0.W".
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.
    channel : int
        The channel of the input, from 0 to C - 1.
    count : int
        How many outputs are drawn at most, the first ones.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Examples
    --------
    >>> import numpy as np
    >>> import xpnet
    >>> from xpnet import plots
    >>> layers = [xpnet.Conv2D(1, 4), xpnet.ReLU(), xpnet.Flatten(), xpnet.Linear(256, 10)]
    >>> net = xpnet.Network(layers, loss="cross_entropy", input_shape=(8, 8, 1))
    >>> ax = plots.filters(net, "0.W")
    """
    values = parameter(net, name)
    if values.ndim != 4:
        raise ShapeError(f"{name} has shape {values.shape}; the weights of a Conv2D, (K, K, C, O), can be drawn")
    if not 0 <= channel < values.shape[2]:
        raise ConfigError(f"channel must be from 0 to {values.shape[2] - 1}, got {channel}")
    shown = np.moveaxis(values[:, :, channel, :count], -1, 0)
    ax = _blank(ax, 6.0, 5.5)
    picture = ax.imshow(tiles(shown), cmap=SIGNED, interpolation="nearest", **signed_limit(shown))
    ax.figure.colorbar(picture, ax=ax, label=f"value of {name}")
    ax.set_title(f"filters 0 to {len(shown) - 1} of {values.shape[3]}, channel {channel} of {values.shape[2]}")
    return ax


@named
def feature_maps(net: Network, x: Any, place: str, ax: Axes | None = None, *, count: int = 64) -> Axes:
    """Draw what a layer makes of one image: each channel of its output as an image.

    Parameters
    ----------
    net : Network
    x : array
        One sample, of the network's input shape.
    place : str
        The layer's place, such as "3", or "3.0" for the first one inside of layer 3.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.
    count : int
        How many channels are drawn at most, the first ones.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Examples
    --------
    >>> import numpy as np
    >>> import xpnet
    >>> from xpnet import plots
    >>> layers = [xpnet.Conv2D(1, 4), xpnet.ReLU(), xpnet.Flatten(), xpnet.Linear(256, 10)]
    >>> net = xpnet.Network(layers, loss="cross_entropy", input_shape=(8, 8, 1))
    >>> ax = plots.feature_maps(net, np.zeros((8, 8, 1)), "1")
    """
    outputs: dict[str, Array] = {}

    def watch(at: str, name: str, array: Array) -> None:
        if name == "y":
            outputs[at] = array

    backend, xp = net.backend, net.backend.xp
    with backend.active():
        rows = check_inputs(np.asarray(x)[None], net.input_shape, backend, net.dtype)
        forward_pass(xp, net.layers, net.layout.split(xp, net.theta), rows, net.contexts(watch=watch))
    if place not in outputs:
        raise ConfigError(f"no layer has the place {place!r}.{closest(place, outputs)}")
    maps = backend.to_numpy(outputs[place])[0]
    if maps.ndim != 3:
        raise ShapeError(f"layer {place} gives {maps.shape} for a sample; images (H, W, C) can be drawn")
    shown = np.moveaxis(maps[:, :, :count], -1, 0).astype(np.float64)
    signed = bool((shown < 0).any())
    style = {"cmap": SIGNED, **signed_limit(shown)} if signed else {"cmap": SEQUENTIAL}
    ax = _blank(ax, 6.0, 5.5)
    picture = ax.imshow(tiles(shown), interpolation="nearest", **style)
    ax.figure.colorbar(picture, ax=ax, label=f"output of layer {place}")
    ax.set_title(f"channels 0 to {len(shown) - 1} of {maps.shape[2]} of layer {place}")
    return ax


@named
def pixels(net: Network, x: Any, output: int, shape: tuple[int, int], ax: Axes | None = None) -> Axes:
    """Draw which pixels one output depends on: samples in grey, and under each the derivative of the output by them.

    Where the derivative is positive, more grey level raises the output; where it is negative, less.

    Parameters
    ----------
    net : Network
    x : array (B, I) or (B, H, W, 1)
        The samples, side by side.
    output : int
        The number of the output, such as the logit of a class.
    shape : (int, int)
        Height and width of an image; their product is I.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Examples
    --------
    >>> import numpy as np
    >>> import xpnet
    >>> from xpnet import plots
    >>> layers = [xpnet.Conv2D(1, 4), xpnet.ReLU(), xpnet.Flatten(), xpnet.Linear(256, 10)]
    >>> net = xpnet.Network(layers, loss="cross_entropy", input_shape=(8, 8, 1))
    >>> ax = plots.pixels(net, np.zeros((2, 8, 8, 1)), output=3, shape=(8, 8))
    """
    images = np.asarray(x, dtype=np.float64)
    if images.shape not in ((len(images), shape[0] * shape[1]), (len(images), *shape, 1)):
        raise ShapeError(f"x has shape {images.shape}, expected {(len(images), shape[0] * shape[1])}: a row an image")
    slopes = net.backend.to_numpy(net.input_gradients(x, output=output)).astype(np.float64)
    above, below = (_row(a.reshape(-1, *shape)) for a in (images, slopes))
    height, width = above.shape
    ax = _blank(ax, 1.5 * len(images) + 1.0, 3.5)
    ax.imshow(above, cmap="gray_r", interpolation="nearest", extent=(0, width, height, 0))
    limits = signed_limit(below, 0.995)
    extent = (0, width, 2 * height + 1, height + 1)
    picture = ax.imshow(below, cmap=SIGNED, interpolation="nearest", extent=extent, **limits)
    ax.set_ylim(2 * height + 1, 0)
    ax.figure.colorbar(picture, ax=ax, label=f"derivative of output {output}", extend="both", shrink=0.8)
    ax.set_title(f"what output {output} depends on")
    return ax
