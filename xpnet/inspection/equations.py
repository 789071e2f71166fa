"""The formulas of docstrings with the names, sizes and numbers of one network put in.

The output of layer 3 is y3, its delta is delta3, and its parameter W is W3; those of the first layer inside of it are
y3_0, delta3_0 and W3_0.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from math import prod
from types import MappingProxyType
from typing import Any, NamedTuple

from xpnet.inspection.formulas import Formula, rename
from xpnet.layers import Layer, Residual, Sequence
from xpnet.layers.shapes import Inner
from xpnet.typing import Shape

COMPOSITES = (Sequence, Residual)
"""Layers whose equations say how their ways begin and end; those of the layers inside stand by themselves."""
INDEX = r"\d+(?:_(?:\d+|shortcut))*"
"""A layer's place at the end of a name."""


class Line(NamedTuple):
    """One equation; or, without a left side, a sentence."""

    left: str
    right: str
    shapes: str
    symbols: Mapping[str, str]


def size(shape: Shape) -> str:
    """Return the shape of an array of samples."""
    return f"(B, {', '.join(map(str, shape))})"


# ---------------------------------------------------------------------------------------------- names


def at(name: str, place: str) -> str:
    """Return the name of something of the layer at a place, such as y3_0."""
    return name + place.replace(".", "_")


def before(place: str) -> str:
    """Return the place of the layer whose output goes into another one; of the first layer inside of one, nothing."""
    outer, _, number = place.rpartition(".")
    return f"{outer}.{int(number) - 1}".lstrip(".") if number != "0" else ""


def source(place: str) -> str:
    """Return the name of a layer's input."""
    while place and not before(place):  # the first layer inside of another one has that one's input
        place = re.sub(r"(?:^|\.)[^\d.]*\.?\d+$", "", place)
    return at("y", before(place)) if place else "x"


def passed_back(place: str) -> str:
    """Return the name of a layer's dL/dx: the delta of the layer before, if that is its output alone."""
    return at("delta", before(place)) if before(place) else "dx" if place == "0" else at("dx", place)


def symbol(name: str, gradients: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return LaTeX for a name such as y0, delta1_2, f1 or x; `gradients` are the names that mean dL/d(parameter)."""
    found = re.search(rf"{INDEX}$", name)
    letters, index = (name[: found.start()], found[0]) if found else (name, "")
    if name in gradients:
        return rf"\frac{{\partial L}}{{\partial {symbol(gradients[name] + index)}}}"
    if letters == "dx":
        return rf"\frac{{\partial L}}{{\partial {symbol('x' + index)}}}"
    known = {"delta": r"\delta", "df": "f'", "gamma": r"\gamma", "beta": r"\beta", "mu": r"\mu", "xhat": r"\hat{x}"}
    base = known.get(letters, letters if len(letters) == 1 else rf"\mathit{{{letters.replace('_', chr(92) + '_')}}}")
    index = index.replace("_", ".").replace("shortcut", r"\mathrm{shortcut}")
    return base + (f"_{{{index}}}" if index else "")


# ------------------------------------------------------------------------------------------ equations


def equations(place: str, layer: Layer, found: list[Formula], before: Shape, after: Shape) -> list[Line]:
    """Return the formulas `found` of the layer at a place, with its names and numbers; these are its samples' shapes.

    The output of a sequence is that of its last layer, and with a way around it a sum.
    """
    if type(layer) in COMPOSITES:
        return [gathered(place, layer, after)]
    names = {"x": source(place), "dx": passed_back(place)}
    for p in layer.parameter_shapes():
        names |= {p: at(p, place), f"d{p}": at(f"d{p}", place)}
    return substituted(layer, found, place, before, after, names)


def gathered(place: str, layer: Layer, after: Shape) -> Line:
    """Return the output of a sequence as the sum of its ways."""
    ends = [
        at("y", f"{place}.{name}{len(chain) - 1}") if chain else source(place) for name, chain in layer.chains.items()
    ]
    return _sum(at("y", place), ends, after)


def spread(item: Inner) -> Iterator[Line]:
    """Yield the deltas with which the ways through a sequence begin on the way back."""
    place, need_dx = item.place, item.need_dx
    for name, chain in item.layer.chains.items():
        if chain and (need_dx or any(layer.parameter_shapes() for layer in chain)):
            yield _sum(at("delta", f"{place}.{name}{len(chain) - 1}"), [at("delta", place)], item.after)


def passed_on(item: Inner) -> Line:
    """Return the delta that a sequence passes back as the sum of those of its ways."""
    place = item.place
    ends = [
        passed_back(f"{place}.{name}0") if chain else at("delta", place) for name, chain in item.layer.chains.items()
    ]
    return _sum(passed_back(place), ends, item.before)


def _sum(left: str, terms: list[str], shape: Shape) -> Line:
    return Line(left, " + ".join(terms), size(shape), {name: symbol(name) for name in (left, *terms)})


def substituted(
    item: Any, found: list[Formula], place: str, before: Shape, after: Shape, own: Mapping[str, str]
) -> list[Line]:
    """Return the formulas of a layer, or of the loss behind it, with this network's names and numbers put in."""
    suffix = place if isinstance(item, Layer) else ""
    sizes = {"I": prod(before), "O": after[-1], "C": after[-1], "T": after[-1] // getattr(item, "per_target", 1)}
    names = {"y": at("y", place), "dy": at("delta", place), "O": str(sizes["O"]), "T": str(sizes["T"]), **own}
    for name, value in vars(item).items():  # hyper-parameters
        names[name] = repr(value) if isinstance(value, int | float | tuple) else at(name, suffix)
    gradients = {new: old[1:] for old, new in own.items() if old[0] == "d" and old != "dx"}
    lines = []
    for formula in found:
        nodes = list(ast.walk(ast.parse(formula.right, mode="eval")))
        functions = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        used = {node.id for node in nodes if isinstance(node, ast.Name)} - functions - {"pi", "xp"}
        for name in {*used, formula.left} - set(names):
            names[name] = name if name in ("t", "w", "L") else at(name, suffix)
        symbols = {name: symbol(name, gradients) for name in names.values() if name.isidentifier()}
        shape = before if formula.left == "dx" else after
        sized = formula.shapes.replace("(B, N)", size(shape)).replace("(B, I)", size(before))
        sized = re.sub(r"[A-Z]", lambda m: str(sizes.get(m[0], m[0])), sized)
        right = rename(formula.right, names).removesuffix(" / 1")  # a mean over one output
        if before != after and formula.right in ("x", "dy"):  # the same numbers in another shape
            right = f"reshape({right}, {(-1, *shape)})"
        lines.append(Line(names[formula.left], right, sized, symbols))
    return lines
