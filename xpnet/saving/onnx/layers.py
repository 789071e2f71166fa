"""Which operators of the standard a layer is, outside of training: a few lines for each.

Images and signals have their channels last here, and first in the standard. A layer that treats every number alone, or
adds, takes them as they come; so what stands between two convolutions turns nothing round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from xpnet import layers
from xpnet.layers import Layer
from xpnet.layers.base import under
from xpnet.layers.windows import Windows
from xpnet.saving.onnx import shaping
from xpnet.saving.onnx.graph import Graph, Value
from xpnet.typing import Shape


@dataclass(frozen=True)
class Site:
    """A layer where it stands in a graph.

    Attributes
    ----------
    g : Graph
    layer : Layer
    place : str
        Such as "3.0".
    x : Value
        Its input.
    first : bool
        Whether the channels of the input are its second axis and not its last.
    before : tuple of int
        The shape of one sample of the input, channels last.
    parameters, state : dict of Value
    write : callable
        Writes a layer to the graph.
    """

    g: Graph
    layer: Any
    place: str
    x: Value
    first: bool
    before: Shape
    parameters: Mapping[str, Value]
    state: Mapping[str, Value]
    write: Callable[[Site], Site]

    def channels_last(self) -> Value:
        """Return the input as xpnet has it."""
        axes = len(self.before)
        return shaping.transpose(self.g, self.x, [0, *range(2, axes + 1), 1]) if self.first else self.x

    def channels_first(self) -> Value:
        """Return the input as the standard's operators take images."""
        axes = len(self.before)
        turns = not self.first and axes > 1
        return shaping.transpose(self.g, self.x, [0, axes, *range(1, axes)]) if turns else self.x

    def node(self, op: str, *inputs: Value, first: bool | None = None, shape: Any = None, **attributes: Any) -> Site:
        """Return the layer behind this one, whose input is what an operator makes of the inputs."""
        first, x = self.first if first is None else first, inputs[0]
        made = self.g.node(op, inputs, x.shape if shape is None else shape, x.dtype, **attributes)
        return replace(self, x=made, first=first)

    def along(self, name: str) -> Site:
        """Go through the layers of a chain inside of this layer."""
        site = self
        for k, layer in enumerate(self.layer.chains[name]):
            inner = f"{name}{k}"
            here = replace(
                site, layer=layer, place=f"{self.place}.{inner}", parameters=under(inner, self.parameters),
                state=under(inner, self.state),
            )  # fmt: skip
            site = replace(self.write(here), before=layer.output_shape(site.before))
        return replace(site, layer=self.layer, place=self.place, parameters=self.parameters, state=self.state)


Operator = Callable[[Site], Site]


def nothing(site: Site) -> Site:
    """Of a layer that does nothing outside of training."""
    return site


def alone(op: str, **fields: str) -> Operator:
    """Of a function of each number alone; the operator's attributes are fields of the layer."""

    def operator(site: Site) -> Site:
        return site.node(op, site.x, **{name: getattr(site.layer, field) for name, field in fields.items()})

    return operator


def linear(site: Site) -> Site:
    """Of `Linear`."""
    own = site.parameters
    inputs = [site.channels_last(), own["W"], *([own["b"]] if "b" in own else [])]
    return site.node("Gemm", *inputs, shape=(site.x.shape[0], site.layer.outputs), first=False)


def silu(site: Site) -> Site:
    """Of `SiLU`."""
    return site.node("Mul", site.x, site.node("Sigmoid", site.x).x)


def softmax(site: Site) -> Site:
    """Of `Softmax`: along the first axis of a sample."""
    return site.node("Softmax", site.channels_last(), first=False, axis=1)


def reshape(site: Site) -> Site:
    """Of `Reshape` and `Flatten`."""
    after = site.layer.output_shape(site.before)
    return replace(site, x=shaping.reshape(site.g, site.channels_last(), (site.x.shape[0], *after)), first=False)


def convolution(site: Site) -> Site:
    """Of `Conv2D` and `Conv1D`: the weights of an output channel stand together."""
    W, axes = site.parameters["W"], len(site.before) - 1
    inputs = [shaping.transpose(site.g, W, [axes + 1, axes, *range(axes)])]
    inputs += [site.parameters["b"]] if site.layer.bias else []
    return _windows(site, "Conv", site.layer.windows(site.before), inputs)


def pool(op: str) -> Operator:
    """Of a pool over windows."""
    return lambda site: _windows(site, op, site.layer.windows(site.before), [])


def _windows(site: Site, op: str, windows: Windows, inputs: list[Value]) -> Site:
    x, channels = site.channels_first(), inputs[0].shape[0] if inputs else site.before[-1]
    ends = [max((a.windows - 1) * a.stride + a.size - a.inputs - a.before, 0) for a in windows.axes]
    return site.node(
        op, x, *inputs, first=True, shape=(x.shape[0], channels, *windows.shape),
        kernel_shape=tuple(a.size for a in windows.axes), strides=tuple(a.stride for a in windows.axes),
        **({"pads": (*(a.before for a in windows.axes), *ends)} if op == "Conv" else {}),
    )  # fmt: skip


def mean_over_places(site: Site) -> Site:
    """Of `GlobalAveragePool2D` and its twin."""
    x = site.channels_first()
    means = site.node("GlobalAveragePool", x, shape=(*x.shape[:2], *(1 for _ in x.shape[2:])))
    return replace(means, x=shaping.reshape(site.g, means.x, x.shape[:2]), first=False)


def batch_norm(site: Site) -> Site:
    """Of `BatchNorm`, with its running statistics."""
    own = [site.parameters["gamma"], site.parameters["beta"], site.state["mean"], site.state["variance"]]
    turned = len(site.before) > 1
    return site.node("BatchNormalization", site.channels_first(), *own, first=turned, epsilon=site.layer.eps)


def by_place(op: str) -> Operator:
    """Of a normalisation over the channels of each place."""

    def operator(site: Site) -> Site:
        own = [site.parameters[name] for name in site.layer.names]
        return site.node(op, site.channels_last(), *own, first=False, axis=-1, epsilon=site.layer.eps)

    return operator


def group_norm(site: Site) -> Site:
    """Of `GroupNorm`."""
    own = [site.parameters["gamma"], site.parameters["beta"]]
    turned, groups = len(site.before) > 1, site.layer.groups
    return site.node(
        "GroupNormalization", site.channels_first(), *own, first=turned, num_groups=groups, epsilon=site.layer.eps
    )


def sequence(site: Site) -> Site:
    """Of `Sequence`."""
    return site.along("")


def residual(site: Site) -> Site:
    """Of `Residual`."""
    f, s = site.along(""), site.along("shortcut.")
    if f.first == s.first:
        return f.node("Add", f.x, s.x)
    return f.node("Add", f.channels_last(), s.channels_last(), first=False)


OPERATORS: dict[type[Layer], Operator] = {
    **dict.fromkeys((layers.Identity, layers.Dropout), nothing),
    **dict.fromkeys((layers.RandomFlip, layers.RandomShift, layers.RandomCutout), nothing),
    layers.Linear: linear,
    layers.ReLU: alone("Relu"),
    layers.LeakyReLU: alone("LeakyRelu", alpha="slope"),
    layers.ELU: alone("Elu", alpha="alpha"),
    layers.Sigmoid: alone("Sigmoid"),
    layers.Tanh: alone("Tanh"),
    layers.Softplus: alone("Softplus"),
    layers.SiLU: silu,
    layers.GELU: alone("Gelu", approximate="approximate"),
    layers.Softmax: softmax,
    **dict.fromkeys((layers.Reshape, layers.Flatten), reshape),
    **dict.fromkeys((layers.Conv1D, layers.Conv2D), convolution),
    **dict.fromkeys((layers.MaxPool1D, layers.MaxPool2D), pool("MaxPool")),
    **dict.fromkeys((layers.AveragePool1D, layers.AveragePool2D), pool("AveragePool")),
    **dict.fromkeys((layers.GlobalAveragePool1D, layers.GlobalAveragePool2D), mean_over_places),
    layers.BatchNorm: batch_norm,
    layers.LayerNorm: by_place("LayerNormalization"),
    layers.RMSNorm: by_place("RMSNormalization"),
    layers.GroupNorm: group_norm,
    layers.Sequence: sequence,
    layers.Residual: residual,
}
"""The layers that are operators of the standard; a subclass is another layer."""

SINCE: dict[type[Layer], int] = {layers.GELU: 20, layers.GroupNorm: 21, layers.RMSNorm: 23}
"""The version of the standard in which a layer's operator came."""

SINGLE: tuple[type[Layer], ...] = (
    *(layers.LeakyReLU, layers.ELU, layers.Softplus, layers.GELU, layers.Conv1D, layers.Conv2D),
    *(layers.AveragePool1D, layers.AveragePool2D, layers.GlobalAveragePool1D, layers.GlobalAveragePool2D),
    *(layers.LayerNorm, layers.RMSNorm, layers.GroupNorm),
)
"""Layers whose operators onnxruntime does not compute in float64, or not all of them, though the standard says so."""


def find(layer: Layer, opset: int, dtype: str) -> Operator | None:
    """Return what writes a layer as operators of the standard; None if it is none that onnxruntime has."""
    if opset < SINCE.get(type(layer), 0) or (dtype == "float64" and isinstance(layer, SINGLE)):
        return None
    return OPERATORS.get(type(layer))
