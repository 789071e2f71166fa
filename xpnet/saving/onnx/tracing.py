"""Array code as operators, whatever it is: recorded, and translated, for one number of samples or for any."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from xpnet.backends.numpy import NumpyBackend
from xpnet.backends.tape.record import record
from xpnet.saving.onnx.functions import NoOperator
from xpnet.saving.onnx.graph import Dims, Graph, Value
from xpnet.saving.onnx.tape import Translator

FEW, MORE = 101, 103
"""Two numbers of samples, which are no other lengths: what differs between them depends on the number of samples."""

Function = Callable[[Any, Mapping[str, Any]], Any]


def trace(g: Graph, f: Function, named: Mapping[str, Value], shape: Dims) -> Value:
    """Return ``f(xp, arrays)`` of the values `named`, as nodes of the graph.

    `shape` is the outcome's. A number of samples that is a name is any number.
    """
    batch = shape[0]
    if isinstance(batch, int):
        return g.adopt(_recorded(g.opset, f, named, shape, batch), named, {})["y"]
    sub = _recorded(g.opset, f, named, shape, FEW)
    generalize(sub, _recorded(g.opset, f, named, shape, MORE))
    return g.adopt(sub, named, {FEW: batch})["y"]


def _recorded(opset: int, f: Function, named: Mapping[str, Value], shape: Dims, batch: int) -> Graph:
    """Return the graph of `f` for so many samples."""

    def step(xp: Any, a: Mapping[str, Any]) -> None:
        y = a["y"]
        y[...] = f(xp, a)

    def zeros(shape: Dims, dtype: Any) -> Any:
        return np.zeros([n if isinstance(n, int) else batch for n in shape], dtype)

    arrays = {name: zeros(value.shape, value.dtype) for name, value in named.items()}
    arrays["y"] = zeros(shape, next(iter(named.values())).dtype)
    tape, g = record(step, NumpyBackend().xp, arrays), Graph(opset)
    given = {name: g.input(name, arrays[name].shape, arrays[name].dtype) for name in named}
    g.outputs = {"y": Translator(g, tape, given)["y"]}
    return g


def generalize(g: Graph, other: Graph) -> None:
    """Let a graph for `FEW` samples be one for any number, given the same for `MORE`."""
    ours, theirs = g.needed(), other.needed()
    same = {name: name for name in g.inputs}
    if len(ours) != len(theirs):
        raise NoOperator(_depends("what is computed"))
    for a, b in zip(ours, theirs, strict=True):
        if (a.op, a.attributes, len(a.inputs)) != (b.op, b.attributes, len(b.inputs)):
            raise NoOperator(_depends(f"what is computed ({a.op}, {b.op})"))
        for position, (x, y) in enumerate(zip(a.inputs, b.inputs, strict=True)):
            if x in g.constants and y in other.constants:
                if a.op == "Reshape" and position == 1:
                    g.constants[x] = _any_shape(g.constants[x], other.constants[y])
                elif not _equal(g.constants[x], other.constants[y]):
                    raise NoOperator(_depends(f"a number or shape ({a.op})"))
            elif same.get(x) != y:
                raise NoOperator(_depends("what is computed with what"))
        same |= dict(zip(a.outputs, b.outputs, strict=True))


def _any_shape(shape: Any, other: Any) -> Any:
    """Return a shape whose length that goes with the number of samples is left open."""
    if _equal(shape, other) or -1 in shape:
        return shape
    open_ = np.flatnonzero(shape != other)
    if len(open_) > 1 or (shape[open_] * MORE != other[open_] * FEW).any():
        raise NoOperator(_depends("a shape"))
    general = shape.copy()
    general[open_] = -1
    return general


def _equal(a: Any, b: Any) -> bool:
    return bool(a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes())


def _depends(what: str) -> str:
    return f"{what} depends on the number of samples; fix that number: batch=1"
