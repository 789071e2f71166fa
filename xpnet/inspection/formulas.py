"""The numbered formulas in the docstrings of layers and losses, read back.

A formula is a line ``name = expression      shapes     (number)``; the expression is Python and a test executes it
against the method that it describes. So whatever is built from these lines says what the code does.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from xpnet.layers import GELU

_SHAPE = r"\((?:[A-Z1](?:, ?[A-Z1])*,?)?\)"
_LINE = re.compile(rf"\s*(\w+) = (.+?)\s+({_SHAPE}(?: = {_SHAPE}(?: [@+*] {_SHAPE})*)?)\s+\(\d+('?)\)$")


class Formula(NamedTuple):
    """``left = right``, both Python, and the shapes as the docstring gives them."""

    left: str
    right: str
    shapes: str


def formulas(owner: Any, method: Callable[..., Any]) -> list[Formula]:
    """Return the formulas of a method that hold for the object `owner`, in order; none if there are none.

    A number with a prime belongs to a variant, which takes the place of the formulas for the same names and of those
    that it makes superfluous; GELU's approximation is the one layer that has such. Without a bias, b is left out,
    and without smoothing the smoothed targets are.
    """
    variant = isinstance(owner, GELU) and owner.approximate == "tanh"
    found = [_LINE.match(line) for line in (inspect.getdoc(method) or "").splitlines()]
    lines = [m for m in found if m]
    chosen = [m for m in lines if bool(m[4]) == variant] or [m for m in lines if not m[4]]
    result = [Formula(m[1], m[2], m[3]) for m in chosen]
    if not getattr(owner, "label_smoothing", True):
        result = [f for f in result if f.left != "t"]
    if getattr(owner, "bias", True):
        return result
    kept = [f for f in result if f.left != "db"]
    return [Formula(f.left, f.right.removesuffix(" + b"), f.shapes.removesuffix(" + (O,)")) for f in kept]


def needed(found: list[Formula], asked: set[str]) -> list[Formula]:
    """Return the formulas without those that nothing that is asked for depends on."""
    kept: list[Formula] = []
    for formula in reversed(found):
        if formula.left in asked:
            kept.append(formula)
            asked = asked | {node.id for node in ast.walk(ast.parse(formula.right)) if isinstance(node, ast.Name)}
    return kept[::-1]


class _Rename(ast.NodeTransformer):
    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.parse(self.names.get(node.id, node.id), mode="eval").body


def rename(expression: str, names: Mapping[str, str]) -> str:
    """Return the Python expression with names replaced by other names, numbers or expressions."""
    return ast.unparse(_Rename(names).visit(ast.parse(expression, mode="eval")))
