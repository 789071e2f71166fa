"""The numbered formulas of a docstring, as text and as something to execute.

A formula is a line `name = expression      shapes     (number)`, for instance

    dx = dy @ W.T          (B, I) = (B, O) @ (O, I)     (2)

The expression is Python, with the functions of an array library; the shapes are checked, too. A number with a prime
belongs to a variant (Nesterov's, GELU's approximation) and takes the place of the formula for the same name.
"""

import inspect
import re
from dataclasses import dataclass

import loops
import numpy as np
import scipy.special

SHAPE = r"\((?:[A-Z1](?:, ?[A-Z1])*,?)?\)"
LINE = re.compile(rf"^\s*(\w+) = (.+?)\s+({SHAPE}(?: = {SHAPE}(?: [@+*] {SHAPE})*)?)\s+\((\d+)('?)\)$")

NAMES = "abs argmax concat exp expm1 log log1p max maximum mean minimum ones_like pi repeat sqrt sum tanh tile"
FUNCTIONS = {name: getattr(np, name) for name in NAMES.split()}
FUNCTIONS |= {"normal_cdf": scipy.special.ndtr, "len": len}


@dataclass(frozen=True)
class Formula:
    name: str
    expression: str
    shapes: str
    number: int
    variant: bool


def formulas(method):
    """Return the formulas in a method's docstring. A line that looks like one must be one."""
    found = []
    for line in (inspect.getdoc(method) or "").splitlines():
        match = LINE.match(line)
        if match:
            name, expression, shapes, number, prime = match.groups()
            found.append(Formula(name, expression, shapes, int(number), bool(prime)))
        else:
            assert not re.search(r"\(\d+'?\)$", line), f"{method.__qualname__}: no formula in {line.strip()!r}"
    return found


def execute(found, names, variant=False, sizes=None):
    """Evaluate formulas in order; each result is a name for the next. Check every shape on the way."""
    names, sizes = dict(names), {} if sizes is None else sizes
    replaced = {formula.name for formula in found if formula.variant} if variant else set()
    for formula in found:
        if formula.variant != variant and (formula.variant or formula.name in replaced):
            continue
        space = {**FUNCTIONS, **names, "__builtins__": {}}
        value = eval(formula.expression, space)
        left, _, right = formula.shapes.partition(" = ")
        check_shape(left, np.shape(value), sizes, formula)
        if right:
            shapes, operands = re.split(r" [@+*] ", right), re.split(r" [@+*] ", formula.expression)
            assert len(shapes) == len(operands), formula
            for shape, operand in zip(shapes, operands, strict=True):
                check_shape(shape, np.shape(eval(operand, space)), sizes, formula)
        names[formula.name] = value
    return names


def check_shape(text, actual, sizes, formula):
    """Compare "(B, O)" with a shape; a letter stands for one size throughout."""
    letters = re.findall(r"[A-Z1]", text)
    assert len(letters) == len(actual), f"{formula}: {text} against {actual}"
    for letter, size in zip(letters, actual, strict=True):
        expected = 1 if letter == "1" else sizes.setdefault(letter, size)
        assert size == expected, f"{formula}: {text} against {actual}"


def of_windows(shape, size, stride, padding):
    """Return the functions that formulas of windows speak of, by plain loops over a batch of `shape`.

    The M windows of a sample are one axis, and so are the K places of a window.
    """
    axes = loops.axes_of(shape[1:], size, stride, padding)
    sizes = [tuple(windows for *_, windows in axes), tuple(k for k, *_ in axes), shape[1:-1]]
    sights = [
        [np.ravel_multi_index(index, many) for index, many in zip(found, sizes, strict=True)]
        for found in loops.sights(shape[1:], size, stride, padding)
    ]
    B, M, K, C = shape[0], np.prod(sizes[0]), np.prod(sizes[1]), shape[-1]

    def windows(x):
        P = np.zeros((B, M, K, C))
        for window, place, pixel in sights:
            P[:, window, place] = x.reshape(B, -1, C)[:, pixel]
        return P

    def add_windows(dP):
        dx = np.zeros((B, np.prod(sizes[2]), C))
        for window, place, pixel in sights:
            dx[:, pixel] += dP[:, window, place]
        return dx.reshape(B, -1)

    return {
        "windows": windows,
        "add_windows": add_windows,
        "patches": lambda x: windows(x).reshape(B, M, -1),
        "add_patches": lambda dP: add_windows(dP.reshape(B, M, K, C)),
        "one_hot": lambda place: np.moveaxis(np.eye(K)[place], -1, 2),
    }
