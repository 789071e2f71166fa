"""A trained network as a graph: what it says of samples."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from xpnet.backends.tape.record import CannotRecord
from xpnet.errors import DTypeError, ExportError
from xpnet.layers import Context, Layer
from xpnet.layers.base import ALL_AT_ONCE, joined, under
from xpnet.losses import BinaryCrossEntropy, CrossEntropy, Loss
from xpnet.model.build import DTYPES
from xpnet.model.core import Model
from xpnet.saving.onnx import shaping
from xpnet.saving.onnx.functions import NoOperator
from xpnet.saving.onnx.graph import Graph, Value
from xpnet.saving.onnx.layers import Operator, Site, find
from xpnet.saving.onnx.model import write
from xpnet.saving.onnx.package import USUAL, check_opset
from xpnet.saving.onnx.tracing import trace
from xpnet.typing import HostArray
from xpnet.validation import check_flag, check_size


def to_onnx(
    net: Model, path: str | os.PathLike[str], batch: int | None = None, dtype: str | None = None, opset: int = USUAL,
    parameters_as_input: bool = False, classes: HostArray | None = None, name: str = "x",
) -> None:  # fmt: skip
    """Write a network to an ONNX file; see `Network.to_onnx`.

    `classes` are the labels in the order of the outputs, by default their numbers; `name` is the input's.
    """
    opset = check_opset(opset)
    dtype = net.dtype if dtype is None else dtype
    if dtype not in DTYPES:
        raise DTypeError(f"dtype must be one of {', '.join(DTYPES)}, or None for the network's own, got {dtype!r}")
    samples = "batch" if batch is None else check_size("batch", batch)
    classes = net.labels if classes is None else classes
    if classes is None and net.loss.kind == "classification":
        classes = np.arange(net.output_shape[0])
    g = graph(net, samples, dtype, opset, check_flag("parameters_as_input", parameters_as_input), name)
    g.outputs = predictions(g, net.loss, g.outputs["y"], classes) | g.outputs
    about = (
        "What an xpnet network says of samples. To make it again: load the network of the metadata, or build and "
        "train it with the same seed, and call its to_onnx."
    )
    metadata = {"network": repr(net), "seed": net.seed, "input": f"{name} {[samples, *net.input_shape]} of {dtype}"}
    write(g, path, about, metadata | ({} if classes is None else {"classes": classes.tolist()}))


def graph(net: Model, samples: int | str, dtype: str, opset: int, parameters_as_input: bool, name: str) -> Graph:
    """Return the graph of a network, from its input to the last layer's output "y"."""
    g, to_numpy = Graph(opset), net.backend.to_numpy
    x = g.input(name, (samples, *net.input_shape), dtype)
    state = {key: to_numpy(value) for key, value in net.state.items()}
    if parameters_as_input:
        parameters = _of_inputs(g, net, dtype)
        statistics = {key: g.input(f"state.{key}", value.shape, dtype) for key, value in state.items()}
    else:
        parameters = {key: g.constant(to_numpy(v).astype(dtype), key) for key, v in net.parameters.items()}
        statistics = {key: g.constant(value.astype(dtype), key) for key, value in state.items()}

    def written(site: Site) -> Site:
        return write_layer(site, find(site.layer, opset, dtype))

    site = Site(g, None, "", x, False, net.input_shape, {}, {}, written)
    for k, layer in enumerate(net.layers):
        own, running = under(str(k), parameters), under(str(k), statistics)
        here = replace(site, layer=layer, place=str(k), parameters=own, state=running)
        site = replace(written(here), before=layer.output_shape(site.before))
    g.outputs = {"y": site.channels_last()}
    return g


def _of_inputs(g: Graph, net: Model, dtype: str) -> dict[str, Value]:
    """Return the parameters as parts of an input theta, laid out as the network's."""
    theta = g.input("theta", (net.layout.size,), dtype)
    parts = {p.key: shaping.part(g, theta, [slice(p.start, p.stop, 1)]) for p in net.layout.places}
    return {p.key: shaping.reshape(g, parts[p.key], p.shape) for p in net.layout.places}


def write_layer(site: Site, found: Operator | None) -> Site:
    """Write a layer as the operators that it is, or, if there are none, as its traced forward pass."""
    layer: Layer = site.layer
    if found is not None:
        return found(site)
    named = {"x": site.channels_last()}
    named |= joined({"parameters": dict(site.parameters), "state": dict(site.state)})

    def forward(xp: Any, a: Mapping[str, Any]) -> Any:
        context = Context(state=under("state", a), place=site.place, at_once=ALL_AT_ONCE)
        return layer.forward(xp, under("parameters", a), a["x"], context)[0]

    try:
        y = trace(site.g, forward, named, (site.x.shape[0], *layer.output_shape(site.before)))
    except (CannotRecord, NoOperator) as error:
        other = "; or export it with dtype='float32'" if site.x.dtype == np.float64 else ""
        raise ExportError(
            f"layers[{site.place}] {layer} cannot be exported: it is no operator that onnxruntime has for "
            f"{site.x.dtype.name} in opset {site.g.opset}, and its forward pass cannot be written as some: "
            f"{error}{other}"
        ) from None
    return replace(site, x=y, first=False)


def predictions(g: Graph, loss: Loss, y: Value, classes: HostArray | None) -> dict[str, Value]:
    """Return what the loss makes of the last layer's output, by the names that scikit-learn's converters use."""
    samples, outputs = y.shape
    if loss.kind == "regression":
        return {"variable": _predicted(g, loss, y)}
    p = _predicted(g, loss, y)
    if loss.kind == "classification":
        label = g.node("ArgMax", [y], (samples,), np.int64, axis=1, keepdims=0)
    else:
        yes = g.node("Greater", [y, g.constant(np.zeros((), y.dtype))], y.shape, bool)
        label = shaping.cast(g, yes, np.int64)
        if outputs == 1:
            label = shaping.reshape(g, label, (samples,))
            no = g.node("Sub", [g.constant(np.ones((1, 1), p.dtype)), p], p.shape, p.dtype)
            p = g.node("Concat", [no, p], (samples, 2), p.dtype, axis=1)
    if classes is not None and not np.array_equal(classes, np.arange(len(classes))):
        label = g.node("Gather", [_labels(g, classes), label], (samples,), _labels(g, classes).dtype, axis=0)
    return {"label": label, "probabilities": p}


def _predicted(g: Graph, loss: Loss, y: Value) -> Value:
    if type(loss) is CrossEntropy:
        return g.node("Softmax", [y], y.shape, y.dtype, axis=1)
    if type(loss) is BinaryCrossEntropy:
        return g.node("Sigmoid", [y], y.shape, y.dtype)
    if type(loss).predict is Loss.predict:
        return y
    try:
        shape = y.shape[0], y.shape[1] // loss.per_target
        return trace(g, lambda xp, a: loss.predict(xp, a["x"]), {"x": y}, shape)
    except (CannotRecord, NoOperator) as error:
        raise ExportError(f"what {loss} predicts cannot be exported: {error}") from None


def _labels(g: Graph, classes: HostArray) -> Value:
    """Return labels as the standard has them: int64, real numbers, or words."""
    if classes.dtype.kind in "iub":
        return g.constant(classes.astype(np.int64))
    return g.constant(
        classes if classes.dtype.kind == "f" else np.asarray([str(c) for c in classes], object), "classes"
    )
