"""A graph of operators while it is written: each value is made once, and what nobody reads is left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from xpnet.typing import HostArray

Dims = tuple[Any, ...]
"""A shape; the number of samples may be a name."""


class Value(NamedTuple):
    """An array of the graph."""

    name: str
    shape: Dims
    dtype: np.dtype[Any]


class Node(NamedTuple):
    """An operator, what it reads, and what it makes."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[tuple[str, Any], ...]


class Graph:
    """Nodes in their order, and the numbers that they read.

    Parameters
    ----------
    opset : int
        The version of the standard's operators.

    Attributes
    ----------
    inputs, outputs : dict of Value
        By the names under which they are known outside.
    nodes : list of Node
    constants : dict of arrays
        By the names of their values.
    values, makers : dict of Value, dict of Node
        Every value by its name, and which node makes it.
    """

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.inputs: dict[str, Value] = {}
        self.outputs: dict[str, Value] = {}
        self.nodes: list[Node] = []
        self.constants: dict[str, HostArray] = {}
        self.makers: dict[str, Node] = {}
        self.values: dict[str, Value] = {}
        self._known: dict[Any, Value] = {}

    def input(self, name: str, shape: Dims, dtype: Any) -> Value:
        """Return a new input."""
        self.inputs[name] = self.values[name] = value = Value(name, shape, np.dtype(dtype))
        return value

    def constant(self, array: Any, name: str | None = None) -> Value:
        """Return a value that is known beforehand."""
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        key = array.tobytes(), array.shape, array.dtype
        if name is None and key in self._known:
            return self._known[key]
        value = Value(name or f"constant_{len(self.constants)}", array.shape, array.dtype)
        self._known[key] = self.values[value.name] = value
        self.constants[value.name] = array
        return value

    def integers(self, numbers: Iterable[int]) -> Value:
        """Return a shape, axes and the like, as operators take them."""
        return self.constant(np.asarray([*numbers], np.int64))

    def node(self, op: str, inputs: Sequence[Value], shape: Dims, dtype: Any, **attributes: Any) -> Value:
        """Return the value that an operator makes; the same as before if it is asked for again."""
        names, dtype = tuple(value.name for value in inputs), np.dtype(dtype)
        key = op, names, repr(sorted(attributes.items()))
        if key not in self._known:
            name = f"{op}_{len(self.nodes)}"
            self._known[key] = self.values[name] = Value(name, shape, dtype)
            self.makers[name] = Node(op, names, (name,), tuple(attributes.items()))
            self.nodes.append(self.makers[name])
        return self._known[key]

    def maker(self, value: Value, op: str) -> Node | None:
        """Return the node that makes a value, if it is of this kind."""
        node = self.makers.get(value.name)
        return node if node is not None and node.op == op else None

    def number(self, value: Value) -> Any:
        """Return the number of which a constant consists, or None."""
        array = self.constants.get(value.name)
        return array.flat[0] if array is not None and array.size == 1 else None

    def needed(self) -> list[Node]:
        """Return the nodes on which the outputs depend."""
        wanted, kept = {value.name for value in self.outputs.values()}, []
        for node in reversed(self.nodes):
            if wanted & set(node.outputs):
                wanted |= set(node.inputs)
                kept.append(node)
        return kept[::-1]

    def written(self) -> list[Node]:
        """Return the same with one operator that cuts an array to its pieces, where each is cut off alone."""
        nodes = self.needed()
        cuts: dict[tuple[str, int], dict[int, str]] = {}
        for node in nodes:
            if node.op == "Slice":
                start, _, axis, step = (self.constants[name].tolist() for name in node.inputs[1:])
                if step == [1]:
                    cuts.setdefault((node.inputs[0], axis[0]), {})[start[0]] = node.outputs[0]
        splits: dict[str, Node] = {}
        for (source, axis), parts in cuts.items():
            pieces = tuple(parts[start] for start in sorted(parts))
            lengths = [self.values[piece].shape[axis] for piece in pieces]
            if len(pieces) > 1 and [0, *np.cumsum(lengths)] == [*sorted(parts), self.values[source].shape[axis]]:
                inputs = source, self.integers(lengths).name
                splits |= dict.fromkeys(pieces, Node("Split", inputs, pieces, (("axis", axis),)))
        return [*dict.fromkeys(splits.get(node.outputs[0], node) for node in nodes)]

    def adopt(self, other: Graph, named: Mapping[str, Value], lengths: Mapping[int, Any]) -> dict[str, Value]:
        """Take over the nodes of another graph, whose inputs are the values `named`, and return its outputs.

        `lengths` says what axes of some lengths have here: the name of the number of samples.
        """
        own = dict(named)
        for node in other.needed():
            for name in node.inputs:
                if name in other.constants and name not in own:
                    own[name] = self.constant(other.constants[name])
            made = other.values[node.outputs[0]]
            inputs, shape = [own[name] for name in node.inputs], tuple(lengths.get(n, n) for n in made.shape)
            own[made.name] = self.node(node.op, inputs, shape, made.dtype, **dict(node.attributes))
        for value in other.outputs.values():
            if value.name in other.constants:
                own[value.name] = self.constant(other.constants[value.name])
        return {name: own[value.name] for name, value in other.outputs.items()}
