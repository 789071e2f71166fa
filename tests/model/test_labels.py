"""What the classes of a network are called."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import xpnet
from xpnet.errors import CheckpointError, ConfigError
from xpnet.files.tensors import read_tensors, write_tensors

X = np.random.default_rng(0).normal(size=(20, 2)).astype("float32")


@pytest.mark.parametrize(
    ("outputs", "loss", "labels"),
    [(3, "cross_entropy", ["x", "yes", "z"]), (1, "binary_cross_entropy", [7, 3]), (2, "cross_entropy", [0.5, 1.5])],
)
def test_predictions_are_labels(tmp_path, outputs, loss, labels):
    net = xpnet.mlp([2, outputs], loss=loss)
    numbers = net.predict(X)
    net.labels = labels
    assert_array_equal(net.predict(X), np.asarray(labels)[numbers])
    net.save(tmp_path / "net")
    again = xpnet.load(tmp_path / "net")
    assert_array_equal(again.labels, labels)
    assert again.labels.dtype == np.asarray(labels).dtype
    assert_array_equal(again.predict(X), net.predict(X))
    with pytest.raises(ConfigError, match=r"set net\.labels = None before"):
        net.predict(X, allow_nonfinite=True)
    net.labels = None
    assert_array_equal(net.predict(X), numbers)


@pytest.mark.parametrize("labels", [["a"], ["a", "a", "b"], [["a"], ["b"], ["c"]], "abc", 3])
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(ConfigError, match="labels must be 3 different ones"):
        xpnet.mlp([2, 3]).labels = labels


@pytest.mark.parametrize(("outputs", "loss"), [(3, "huber"), (3, "binary_cross_entropy")])
def test_only_classes_have_labels(outputs, loss):
    with pytest.raises(ConfigError, match="labels are for one class out of several"):
        xpnet.mlp([2, outputs], loss=loss).labels = ["a", "b", "c"]


@pytest.mark.parametrize(
    "labels",
    [
        {"dtype": "<U1", "values": ["a", "b"]},
        {"dtype": "<U1", "values": ["a", "b", "b"]},
        {"dtype": "<U1", "values": ["a", "b", 3]},
        {"dtype": "|O", "values": [["a"], ["b"], ["c"]]},
        {"dtype": "|V8", "values": ["a", "b", "c"]},
        {"dtype": "<i8", "values": ["a", "b", "c"]},
        {"dtype": "<i4,<i4", "values": [1, 2, 3]},
        {"dtype": "|i1", "values": [1, 2, 300]},
        {"dtype": "<i9", "values": [1, 2, 3]},
        {"dtype": 3, "values": [1, 2, 3]},
        {"values": [1, 2, 3]},
        "abc",
        None,
    ],
    ids=str,
)
def test_a_strangers_labels_are_checked(tmp_path, labels):
    net = xpnet.mlp([2, 3])
    net.labels = ["a", "b", "c"]
    net.save(tmp_path / "net")
    tensors, description = read_tensors(tmp_path / "net")
    description["network"]["labels"] = labels
    write_tensors(tmp_path / "net", tensors, description)
    with pytest.raises(CheckpointError, match="net"):
        xpnet.load(tmp_path / "net")


def test_labels_that_a_file_cannot_describe_are_refused(tmp_path):
    net = xpnet.mlp([2, 2])
    net.labels = np.asarray(["2020-01-01", "2021-01-01"], dtype="datetime64[D]")
    with pytest.raises(CheckpointError, match=r"words and numbers only, or net\.labels = None"):
        net.save(tmp_path / "net")
