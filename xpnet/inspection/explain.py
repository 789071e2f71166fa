"""The delta rule of one network, layer by layer: the formulas of its layers' docstrings with its own names put in."""

from __future__ import annotations

from collections.abc import Iterator

from xpnet.errors import ConfigError, closest
from xpnet.inspection import writing
from xpnet.inspection.equations import (
    COMPOSITES,
    Line,
    at,
    equations,
    passed_back,
    passed_on,
    size,
    spread,
    substituted,
    symbol,
)
from xpnet.inspection.formulas import formulas, needed
from xpnet.inspection.writing import Section
from xpnet.layers import Activation, BatchNorm, Dropout, RandomCutout
from xpnet.layers.shapes import Inner, every_layer
from xpnet.model.core import Model

FORMATS = {"text": writing.text, "markdown": writing.markdown, "latex": writing.tex}
TARGETS = {
    "classification": "t has a row of probabilities for each sample: 1 for its class, 0 elsewhere",
    "binary": "t has a row of zeros and ones, or probabilities, for each sample",
    "regression": "t has a row of target values for each sample",
}


WORDS = {
    "patches(": "patches has a row for each of a sample's M windows, its K numbers; add_patches adds them up again",
    "windows(": "windows has the K places of each of a sample's M windows; add_windows adds them up again",
    "(B, N, G, K)": "N counts a sample's places, and G its groups of K channels each",
    "[:, :, ::-1, :]": "f is 1 for each image that is mirrored and else 0; outside of training 0",
    "shifted(": "shifted moves each image down by i and right by j, zeros come in; outside of training both are 0",
    "(M, ": "M counts the samples or, of images, the places of all samples",
}
"""What stands in formulas of layers for images, and what it means; it is said once."""


class Explanation(str):
    """Equations as a text, which notebooks show as formulas and a prompt as it is printed."""

    markdown: str | None = None

    def __repr__(self) -> str:
        return str(self)

    def _repr_markdown_(self) -> str | None:
        return self.markdown


def explain(net: Model, format: str = "text") -> Explanation:
    """Return the forward and the backward pass of a network as equations, layer by layer.

    ``y0`` is the output of layer 0, ``delta0`` = dL/dy0 its delta, ``W0`` and ``b0`` are its parameters; ``y3_0`` is
    the output of the first layer inside of layer 3. The equations are those of the layers' and the loss's docstrings,
    which tests execute, with this network's names, sizes and numbers put in. A layer of one's own is explained by the
    numbered formulas of its docstring, if it has some.

    Parameters
    ----------
    net : Model
    format : "text", "markdown" or "latex"
        Text is valid Python for an array library's functions, with the shapes as comments: run on a batch, it gives
        `Network.gradients`. Markdown has LaTeX between double dollars, as notebooks show it; LaTeX has paragraphs
        and align* environments, for the package amsmath.

    Raises
    ------
    ConfigError
        Another format.

    Examples
    --------
    >>> import xpnet
    >>> print(xpnet.mlp([2, 1], loss="sum_squared_error").explain())
    # ---- Forward: x is (B, 2), a row a sample; y0, y1, ... are the outputs of the layers
    # Layer 0, Linear
    y0 = x @ W0 + b0                 # (B, 1) = (B, 2) @ (2, 1) + (1,)
    # Loss, SumSquaredError
    # t has a row of target values for each sample
    # w (B, 1) weighs the samples and sums to 1; it is 1 / B unless samples are weighted
    L = sum(w * (y0 - t) ** 2)       # ()
    # ---- Backward: delta0, delta1, ... are dL/dy0, dL/dy1, ..., of the shapes of y0, y1, ...
    delta0 = 2 * w * (y0 - t)        # (B, 1)
    # Layer 0, Linear
    dW0 = x.T @ delta0               # (2, 1) = (2, B) @ (B, 1)
    db0 = sum(delta0, axis=0)        # (1,)
    """
    if not isinstance(format, str) or format not in FORMATS:
        raise ConfigError(f"format must be one of {', '.join(FORMATS)}, got {format!r}.{closest(str(format), FORMATS)}")
    sections = list(_sections(net))
    text = Explanation(FORMATS[format](sections))
    # LaTeX is asked for to be pasted into a document: a notebook shows its source.
    text.markdown = None if format == "latex" else writing.markdown(sections)
    return text


def _sections(net: Model) -> Iterator[Section]:
    found = list(every_layer(net.layers, net.input_shape))
    x, last = size(net.input_shape), [item for item in found if not item.depth][-1]
    yield Section(f"Forward: x is {x}, a row a sample; y0, y1, ... are the outputs of the layers", [])
    words = dict(WORDS)
    done = [item for item, leaving in _visits(found) if leaving]  # what is inside of a layer comes before its output
    for item in done:
        lines = equations(item.place, item.layer, formulas(item.layer, item.layer.forward), item.before, item.after)
        yield Section(
            _title(item), [*(lines or [_unknown(at("y", item.place), item.layer)]), *_remarks(item, lines, words)]
        )
    loss, delta = net.loss, at("delta", last.place)
    lines = substituted(loss, formulas(loss, loss.__call__), last.place, last.before, last.after, {})
    yield Section(
        f"Loss, {type(loss).__name__}",
        [
            _sentence(TARGETS[loss.kind]),
            _sentence("w (B, 1) weighs the samples and sums to 1; it is 1 / B unless samples are weighted"),
            *([line for line in lines if line.left != delta] or [_unknown("L", loss)]),
        ],
    )
    yield Section("Backward: delta0, delta1, ... are dL/dy0, dL/dy1, ..., of the shapes of y0, y1, ...", [])
    yield Section("", [line for line in lines if line.left == delta] or [_unknown(delta, loss)])
    for item, leaving in _visits(done[::-1]):
        if item.reached and (lines := _backward(item, leaving)):
            yield Section(_title(item), lines)
    if net.l1 or net.l2:
        yield Section("Penalties", list(_penalties(net)))


def _visits(items: list[Inner]) -> Iterator[tuple[Inner, bool]]:
    """Yield each layer when it is come to, and once more, with True, when those inside of it are done."""
    inside: list[Inner] = []
    for item in items:
        while inside and inside[-1].depth >= item.depth:
            yield inside.pop(), True
        yield item, False
        inside.append(item)
    for item in inside[::-1]:
        yield item, True


def _backward(item: Inner, leaving: bool) -> list[Line]:
    """Return a layer's part of the backward pass; nobody reads the delta of the input, nor one below all parameters."""
    layer = item.layer
    if type(layer) in COMPOSITES:
        return list(spread(item)) if not leaving else [passed_on(item)] if item.need_dx else []
    if leaving:
        return []
    asked = {f"d{name}" for name in layer.parameter_shapes()} | ({"dx"} if item.need_dx else set())
    found = needed(formulas(layer, layer.backward), asked)
    return equations(item.place, layer, found, item.before, item.after) or [_unknown(passed_back(item.place), layer)]


def _title(item: Inner) -> str:
    return f"Layer {item.place}, {type(item.layer).__name__}"


def _sentence(text: str) -> Line:
    return Line("", text, "", {})


def _unknown(what: str, owner: object) -> Line:
    return _sentence(f"{what} is computed by {type(owner).__name__}, whose docstring has no formula")


def _remarks(item: Inner, lines: list[Line], words: dict[str, str]) -> Iterator[Line]:
    """Yield what a layer's formulas do not say about their names, and take what is said from `words`."""
    layer, place = item.layer, item.place
    if isinstance(layer, Dropout):
        m, scale = at("m", place), f"{1 / (1 - layer.rate):.4g}"
        yield _sentence(f"{m} is 0 with probability {layer.rate!r} and else {scale}; outside of training 1")
    if isinstance(layer, RandomCutout):
        side, m = layer.size, at("m", place)
        yield _sentence(f"{m} is 0 in a square of {side} by {side} places and else 1; outside of training 1")
    if isinstance(layer, Activation):
        yield _sentence(f"{at('f', place)} is the function {layer.name!r}, and {at('df', place)} is its derivative")
    if isinstance(layer, BatchNorm):
        mu, var = at("mu", place), at("var", place)
        yield _sentence(f"in training; outside of it {mu} and {var} are constants, the running mean and variance")
    for word in [word for word in words if any(word in f"{line.right} {line.shapes}" for line in lines)]:
        yield _sentence(words.pop(word))


def _penalties(net: Model) -> Iterator[Line]:
    for place in net.layout.places:
        if place.stop > net.layout.decayed:
            continue
        inner, _, name = place.key.rpartition(".")
        W, dW = at(name, inner), at(f"d{name}", inner)
        symbols = {W: symbol(W), dW: symbol(dW, {dW: name})}
        if net.l2:
            yield Line("L", f"L + {net.l2 / 2!r} * sum({W} ** 2)", "()", symbols)
            yield Line(dW, f"{dW} + {net.l2!r} * {W}", str(place.shape), symbols)
        if net.l1:
            yield Line("L", f"L + {net.l1!r} * sum(abs({W}))", "()", symbols)
            yield Line(dW, f"{dW} + {net.l1!r} * (1.0 * ({W} > 0) - 1.0 * ({W} < 0))", str(place.shape), symbols)
