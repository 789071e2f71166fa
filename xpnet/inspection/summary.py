"""The layers of a network in a table."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from xpnet.inspection.equations import size
from xpnet.layers import Activation, Layer
from xpnet.layers.shapes import every_layer
from xpnet.model.core import Model
from xpnet.tables import html_table, text_table


def summary(net: Model) -> str:
    """Return the layers, their output shapes and parameters as text; those inside of another layer stand under it."""
    rows = [("layer", "", "output", "parameters"), *_rows(net, lambda layer: type(layer).__name__)]
    return "\n".join([*text_table(rows, right=(3,)), _total(net)])


def summary_html(net: Model) -> str:
    """Return the same for notebooks, with the layers' hyper-parameters."""
    return html_table([("", "layer", "output", "parameters"), *_rows(net, _title)], [_total(net)], right=[3])


def _rows(net: Model, name: Callable[[Layer], str]) -> list[tuple[str, ...]]:
    return [
        (f"{'  ' * item.depth}{item.place}", "  " * item.depth + name(item.layer), size(item.after), f"{count:,}")
        for item in every_layer(net.layers, net.input_shape)
        for count in [sum(map(prod, item.layer.parameter_shapes().values()))]
    ]


def _title(layer: Layer) -> str:
    """Return a layer as it was made; a function without a name would be shown by its address."""
    if isinstance(layer, Activation):
        return f"Activation(name={layer.name!r})"
    return type(layer).__name__ if layer.chains else repr(layer)


def _total(net: Model) -> str:
    count, bytes_each = net.parameter_count, np.dtype(net.dtype).itemsize
    return (
        f"{type(net.loss).__name__}; {count:,} parameters, {count * bytes_each:,} bytes in {net.dtype}, on "
        f"{net.backend.name}"
    )
