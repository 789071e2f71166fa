"""The delta rule of one network, layer by layer: the formulas of its layers' docstrings with its own names put in."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from math import prod
from types import MappingProxyType
from typing import Any, NamedTuple

from xpnet.errors import ConfigError, closest
from xpnet.inspection.formulas import Formula, formulas, rename
from xpnet.inspection.latex import escaped, latex
from xpnet.inspection.tables import html_table
from xpnet.layers import Activation, Dropout
from xpnet.layers.base import Layer
from xpnet.model.core import Model
from xpnet.typing import Shape

FORMATS = ("text", "markdown", "latex")
TARGETS = {
    "classification": "t has a row of probabilities for each sample: 1 for its class, 0 elsewhere",
    "binary": "t has a row of zeros and ones, or probabilities, for each sample",
    "regression": "t has a row of target values for each sample",
}


class Line(NamedTuple):
    """One equation; or, without a left side, a sentence."""

    left: str
    right: str
    shapes: str
    symbols: Mapping[str, str]


class Section(NamedTuple):
    """A title and the lines under it; without lines, the title of a chapter."""

    title: str
    lines: list[Line]


def explain(net: Model, format: str = "text") -> str:
    """Return the forward and the backward pass of a network as equations, layer by layer.

    ``y0`` is the output of layer 0, ``delta0`` = dL/dy0 its delta, ``W0`` and ``b0`` are its parameters. The equations
    are those of the layers' and the loss's docstrings, which tests execute, with this network's names, sizes and
    numbers put in. A layer of one's own is explained by the numbered formulas of its docstring, if it has some.

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
    if format not in FORMATS:
        raise ConfigError(f"format must be one of {', '.join(FORMATS)}, got {format!r}.{closest(str(format), FORMATS)}")
    return {"text": _text, "markdown": _markdown, "latex": _latex}[format](list(_sections(net)))


# ------------------------------------------------------------------------------------- what is said


def _sections(net: Model) -> Iterator[Section]:
    shapes = [net.input_shape]
    for layer in net.layers:
        shapes.append(layer.output_shape(shapes[-1]))
    last, first = len(net.layers) - 1, net.layout.first
    yield Section(f"Forward: x is {_size(shapes[0])}, a row a sample; y0, y1, ... are the outputs of the layers", [])
    for k, layer in enumerate(net.layers):
        title, lines = _layer_section(k, layer, formulas(layer, layer.forward), shapes, f"y{k}")
        yield Section(title, [*lines, *_remarks(k, layer)])
    name = type(net.loss).__name__
    found = _substituted(net.loss, formulas(net.loss, net.loss.__call__), last, shapes[-2], shapes[-1], {})
    yield Section(
        f"Loss, {name}",
        [
            _sentence(TARGETS[net.loss.kind]),
            _sentence("w (B, 1) weighs the samples and sums to 1; it is 1 / B unless samples are weighted"),
            *([line for line in found if line.left != f"delta{last}"] or [_sentence(_unknown("L", name))]),
        ],
    )
    yield Section("Backward: delta0, delta1, ... are dL/dy0, dL/dy1, ..., of the shapes of y0, y1, ...", [])
    delta = [line for line in found if line.left == f"delta{last}"]
    yield Section("", delta or [_sentence(_unknown(f"delta{last}", name))])
    for k in range(last, first - 1, -1):
        # Nobody reads the delta of the input, nor one below the first parameters.
        found_k = [f for f in formulas(net.layers[k], net.layers[k].backward) if k > first or f.left != "dx"]
        yield _layer_section(k, net.layers[k], found_k, shapes, f"delta{k - 1}")
    if net.l1 or net.l2:
        yield Section("Penalties", list(_penalties(net)))


def _sentence(text: str) -> Line:
    return Line("", text, "", {})


def _unknown(what: str, owner: str) -> str:
    return f"{what} is computed by {owner}, whose docstring has no formula"


def _size(shape: Shape) -> str:
    return f"(B, {', '.join(map(str, shape))})"


def _layer_section(k: int, layer: Layer, found: list[Formula], shapes: list[Shape], result: str) -> Section:
    lines = equations(k, layer, found, shapes[k], shapes[k + 1])
    return Section(f"Layer {k}, {type(layer).__name__}", lines or [_sentence(_unknown(result, type(layer).__name__))])


def _remarks(k: int, layer: Layer) -> Iterator[Line]:
    """Yield what a layer's formulas do not say about their names."""
    if isinstance(layer, Dropout):
        yield _sentence(
            f"m{k} is 0 with probability {layer.rate!r} and else {1 / (1 - layer.rate):.4g}; outside of training 1"
        )
    if isinstance(layer, Activation):
        yield _sentence(f"f{k} is the function {layer.name!r}, and df{k} is its derivative")


def equations(k: int, layer: Layer, found: list[Formula], before: Shape, after: Shape) -> list[Line]:
    """Return the formulas `found` of layer k, with its names and numbers; a sample has these shapes around it."""
    names = {"x": f"y{k - 1}" if k else "x", "dx": f"delta{k - 1}" if k else "dx"}
    for p in layer.parameter_shapes():
        names |= {p: f"{p}{k}", f"d{p}": f"d{p}{k}"}
    return _substituted(layer, found, k, before, after, names)


def _substituted(
    item: Any, found: list[Formula], k: int, before: Shape, after: Shape, own: Mapping[str, str]
) -> list[Line]:
    """Return the formulas of layer k, or of the loss behind it, with this network's names and numbers put in."""
    suffix = str(k) if isinstance(item, Layer) else ""
    sizes = {"I": prod(before), "O": prod(after), "N": prod(after)}
    names = {"y": f"y{k}", "dy": f"delta{k}", "O": str(sizes["O"]), **own}
    for name, value in vars(item).items():  # hyper-parameters
        names[name] = repr(value) if isinstance(value, int | float) else f"{name}{suffix}"
    gradients = {new: old[1:] for old, new in own.items() if old[0] == "d" and old != "dx"}
    lines = []
    for formula in found:
        nodes = list(ast.walk(ast.parse(formula.right, mode="eval")))
        functions = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        used = {node.id for node in nodes if isinstance(node, ast.Name)} - functions - {"pi", "xp"}
        for name in {*used, formula.left} - set(names):
            names[name] = name if name in ("t", "w", "L") else f"{name}{suffix}"
        symbols = {name: _symbol(name, gradients) for name in names.values() if name.isidentifier()}
        sized = re.sub(r"[A-Z]", lambda m: str(sizes.get(m[0], m[0])), formula.shapes)
        right = rename(formula.right, names).removesuffix(" / 1")  # a mean over one output
        lines.append(Line(names[formula.left], right, sized, symbols))
    return lines


def _symbol(name: str, gradients: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return LaTeX for a name such as y0, delta12, f1 or x; `gradients` are the names that mean dL/d(parameter)."""
    letters = name.rstrip("0123456789")
    index = name[len(letters) :]
    if name in gradients:
        return rf"\frac{{\partial L}}{{\partial {_symbol(gradients[name] + index)}}}"
    if name == "dx":
        return r"\frac{\partial L}{\partial x}"
    known = {"delta": r"\delta", "df": "f'", "gamma": r"\gamma", "beta": r"\beta"}
    base = known.get(letters, letters if len(letters) == 1 else rf"\mathit{{{letters.replace('_', chr(92) + '_')}}}")
    return base + (f"_{{{index}}}" if index else "")


def _penalties(net: Model) -> Iterator[Line]:
    for place in net.layout.places:
        if place.stop > net.layout.decayed:
            continue
        W, dW = f"{place.name}{place.layer}", f"d{place.name}{place.layer}"
        symbols = {W: _symbol(W), dW: _symbol(dW, {dW: place.name})}
        if net.l2:
            yield Line("L", f"L + {net.l2 / 2!r} * sum({W} ** 2)", "()", symbols)
            yield Line(dW, f"{dW} + {net.l2!r} * {W}", str(place.shape), symbols)
        if net.l1:
            yield Line("L", f"L + {net.l1!r} * sum(abs({W}))", "()", symbols)
            yield Line(dW, f"{dW} + {net.l1!r} * (1.0 * ({W} > 0) - 1.0 * ({W} < 0))", str(place.shape), symbols)


# ---------------------------------------------------------------------------------- how it is written


def _text(sections: list[Section]) -> str:
    """Python, with the shapes as comments."""
    equations = [f"{line.left} = {line.right}" for section in sections for line in section.lines if line.left]
    width = min(max(map(len, equations)), 70) + 6
    out = []
    for title, lines in sections:
        if title:
            out.append(f"# {title}" if lines else f"# ---- {title}")
        for line in lines:
            out.append(f"{f'{line.left} = {line.right}  ':<{width}}# {line.shapes}" if line.left else f"# {line.right}")
    return "\n".join(out)


def _mathematics(text: str) -> str:
    """Set the names in a title or sentence as LaTeX between dollars."""
    text = text.replace("dL/dy0, dL/dy1, ...", r"$\partial L/\partial y_0, \partial L/\partial y_1, \dots$")
    for name, symbol in (("delta", r"\delta"), ("y", "y")):
        text = text.replace(f"{name}0, {name}1, ...", f"${symbol}_0, {symbol}_1, \\dots$")
    return re.sub(r"\b([twxL]|(?:d?[fm]|y|delta)\d+) (?=is |has |weighs |\(B)", lambda m: f"${_symbol(m[1])}$ ", text)


def _equation(line: Line, relation: str) -> str:
    """Return a line as LaTeX; one that changes its own left side is no equation but an assignment."""
    left = line.symbols.get(line.left, line.left)
    arrow = r"\leftarrow" if re.search(rf"\b{line.left}\b", line.right) else "="
    return f"{left} {relation}{arrow} {latex(line.right, line.symbols)}"


def _markdown(sections: list[Section]) -> str:
    out = []
    for title, lines in sections:
        if title:
            out.append(f"**{title}**" if lines else f"### {_mathematics(title)}")
        for line in lines:
            if line.left:
                shapes = "" if line.shapes == "()" else rf" \qquad \text{{{line.shapes}}}"
                out.append(f"$${_equation(line, '')}{shapes}$$")
            else:
                out.append(f"{_mathematics(line.right)}.")
    return "\n\n".join(out)


def _latex(sections: list[Section]) -> str:
    out = []
    for title, lines in sections:
        if title:
            out.append((r"\paragraph" if lines else r"\subsection*") + f"{{{_mathematics(escaped(title))}}}")
        out += [_mathematics(escaped(line.right)) + "." for line in lines if not line.left]
        rows = [
            f"  {_equation(line, '&')}" + ("" if line.shapes == "()" else rf" && \text{{{line.shapes}}}")
            for line in lines
            if line.left
        ]
        if rows:
            out.append("\\begin{align*}\n" + " \\\\\n".join(rows) + "\n\\end{align*}")
    return "\n".join(out)


def summary_html(net: Model, total: str) -> str:
    """Return `Network.summary` for notebooks, the line `total` below it."""
    shape, rows = net.input_shape, [("", "layer", "output", "parameters")]
    for k, layer in enumerate(net.layers):
        shape = layer.output_shape(shape)
        count = sum(prod(s) for s in layer.parameter_shapes().values())
        # Functions without a name would be shown by their addresses.
        name = f"Activation(name={layer.name!r})" if isinstance(layer, Activation) else repr(layer)
        rows.append((str(k), name, _size(shape), f"{count:,}"))
    return html_table(rows, [total], right=[3])
