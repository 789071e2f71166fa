"""A graph as a file of the standard: nodes, numbers, names of what goes in and out, and how it came about."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import numpy as np

from xpnet.files.atomic import write_atomically
from xpnet.saving.onnx.graph import Graph, Node, Value
from xpnet.saving.onnx.package import load


def write(g: Graph, path: str | os.PathLike[str], about: str, facts: Mapping[str, Any]) -> None:
    """Write a graph to a file, whole or not at all.

    Parameters
    ----------
    g : Graph
    path : str or path
    about : str
        What the file is, in a sentence.
    facts : mapping
        Kept in the file: strings as they are, all else as JSON.
    """
    write_atomically(path, [made(g, about, facts).SerializeToString()])


def made(g: Graph, about: str, facts: Mapping[str, Any]) -> Any:
    """Return the model, checked against the standard."""
    onnx, version = load(), metadata.version("xpnet")
    helper, nodes = onnx.helper, g.written()
    names = {value.name: name for name, value in g.outputs.items() if value.name in g.makers}
    later = [Node("Identity", (v.name,), (k,), ()) for k, v in g.outputs.items() if names.get(v.name) != k]

    def name(inner: str) -> str:
        return names.get(inner, inner)

    def info(outer: str, value: Value) -> Any:
        return helper.make_tensor_value_info(outer, _type(onnx, value.dtype), list(value.shape))

    read = {inner for node in (*nodes, *later) for inner in node.inputs}
    graph = helper.make_graph(
        [
            helper.make_node(node.op, [*map(name, node.inputs)], [*map(name, node.outputs)], name(node.outputs[0]),
                             **_attributes(onnx, node))
            for node in (*nodes, *later)
        ],
        "xpnet",
        [info(outer, value) for outer, value in g.inputs.items()],
        [info(outer, value) for outer, value in g.outputs.items()],
        [onnx.numpy_helper.from_array(array, inner) for inner, array in g.constants.items() if inner in read],
        doc_string=about,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", g.opset)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="xpnet", producer_version=version)
    model.ir_version = helper.find_min_ir_version_for(opsets)
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in facts.items()}
    helper.set_model_props(model, {"xpnet": version} | texts)
    onnx.checker.check_model(model, full_check=True)
    return model


def _type(onnx: Any, dtype: np.dtype[Any]) -> int:
    number: int = onnx.TensorProto.STRING if dtype.kind in "OU" else onnx.helper.np_dtype_to_tensor_dtype(dtype)
    return number


def _attributes(onnx: Any, node: Node) -> dict[str, Any]:
    own = dict(node.attributes)
    return own | {"to": _type(onnx, np.dtype(own["to"]))} if node.op == "Cast" else own
