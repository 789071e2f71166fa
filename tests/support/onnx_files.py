"""ONNX files as other programs see them: through onnx and onnxruntime, and nothing of xpnet's."""

from collections import Counter

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason='the package onnx is not installed: pip install "xpnet[onnx]"')
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime, which runs the files, is not installed")


class File:
    """A file that the checker of the standard accepts, and a session of onnxruntime that runs it."""

    def __init__(self, path):
        self.model = onnx.load(path)
        onnx.checker.check_model(self.model, full_check=True)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.inputs = {i.name: i for i in self.session.get_inputs()}

    def __call__(self, **feeds):
        return dict(zip(self.outputs, self.session.run(None, feeds), strict=True))

    @property
    def operators(self):
        """How many nodes there are of each operator; all are the standard's own."""
        assert {node.domain for node in self.model.graph.node} == {""}
        return Counter(node.op_type for node in self.model.graph.node)

    @property
    def metadata(self):
        return {p.key: p.value for p in self.model.metadata_props}


def far(a, b):
    """Return the largest difference, measured by the largest number if that is above 1."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape
    return np.abs(a - b).max(initial=0.0) / max(1.0, np.abs(b).max(initial=0.0))
