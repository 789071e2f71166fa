"""Networks as ONNX files: onnxruntime finds what xpnet finds, and standard layers are standard operators."""

import json
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from cases import LAYERS, LOSSES
from labels import label
from onnx_files import File, far

import xpnet
from xpnet.errors import BackendUnavailableError, CheckpointIOError, ConfigError, DTypeError, ExportError
from xpnet.layers import LAYERS as KNOWN
from xpnet.saving.onnx import inference, layers

CASES = [case for case in LAYERS if not case.training]
OPERATORS = {
    "Linear": "Gemm", "Identity": "", "ReLU": "Relu", "LeakyReLU": "LeakyRelu", "ELU": "Elu", "Sigmoid": "Sigmoid",
    "Tanh": "Tanh", "Softplus": "Softplus", "SiLU": "Sigmoid Mul", "GELU": "Gelu", "Softmax": "Softmax",
    "Dropout": "", "RandomFlip": "", "RandomShift": "", "RandomCutout": "", "Reshape": "Reshape", "Flatten": "Reshape",
    "Conv1D": "Conv", "Conv2D": "Conv", "MaxPool1D": "MaxPool", "MaxPool2D": "MaxPool", "AveragePool1D": "AveragePool",
    "AveragePool2D": "AveragePool", "GlobalAveragePool1D": "GlobalAveragePool",
    "GlobalAveragePool2D": "GlobalAveragePool", "BatchNorm": "BatchNormalization", "LayerNorm": "LayerNormalization",
    "RMSNorm": "RMSNormalization", "GroupNorm": "GroupNormalization",
}  # fmt: skip
"""What each layer is in opset 23, but for axes and shapes."""
SHAPES = {"Identity", "Reshape", "Transpose"}


def shaken(net, seed=0):
    """Return a network with numbers everywhere, as after a training."""
    rng = np.random.default_rng(seed)
    net.theta[...] += 0.2 * rng.normal(size=net.theta.shape)
    for value in net.state.values():
        value[...] = rng.uniform(0.5, 1.5, value.shape)
    return net


def network(layer, shape, dtype="float32", loss="mean_squared_error"):
    flat = [] if len(layer.output_shape(shape)) == 1 else [xpnet.Flatten()]
    return shaken(xpnet.Network([layer, *flat], loss, input_shape=shape, dtype=dtype))


def samples(net, count, seed=1):
    return np.random.default_rng(seed).normal(size=(count, *net.input_shape)).astype(net.dtype)


def agrees(net, path, counts=(1, 5), tolerance=1e-5, **options):
    """Export, and compare what onnxruntime says of some samples with what xpnet says; return the file."""
    net.to_onnx(path, **options)
    file = File(path)
    for count in counts:
        x = samples(net, count)
        found = file(x=x)
        assert far(found["y"], net.forward(x)) < tolerance
        if net.loss.kind == "regression":
            assert far(found["variable"], net.predict(x)) < tolerance
        else:
            assert (found["label"] == net.predict(x)).all()
            assert far(found["probabilities"], net.predict_proba(x)) < tolerance
    return file


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.onnx"


# ---------------------------------------------------------------------------------------------- layers


@pytest.mark.parametrize("case", CASES, ids=label)
@pytest.mark.parametrize("opset", [18, 23])
def test_a_layer_is_what_onnxruntime_computes(case, opset, path):
    net = network(case.layer, case.shape)
    operators = agrees(net, path, opset=opset).operators
    name = type(case.layer).__name__
    if opset == 23 and name in OPERATORS:
        wanted = set(OPERATORS[name].split())
        assert set(operators) - SHAPES == wanted - SHAPES
        assert wanted <= set(operators) | {"Reshape"}


@pytest.mark.parametrize("case", CASES, ids=label)
def test_an_operator_computes_what_the_trace_of_the_layer_does(case, path, monkeypatch):
    net = network(case.layer, case.shape)
    x = samples(net, 3)
    by_operator = agrees(net, path, opset=23)(x=x)["y"]
    monkeypatch.setattr(inference, "find", lambda *_: None)
    assert far(agrees(net, path, counts=(3,), batch=3)(x=x)["y"], by_operator) < 1e-5


@pytest.mark.parametrize("case", CASES, ids=label)
def test_a_layer_of_float64_is_exact(case, path):
    convolution = isinstance(case.layer, xpnet.Conv1D | xpnet.Conv2D)  # no operator of float64: its array code
    options, counts = ({"batch": 4}, (4,)) if convolution else ({}, (1, 5))
    agrees(network(case.layer, case.shape, "float64"), path, counts, 1e-12, **options)


def test_every_layer_that_is_an_operator_is_listed_here():
    assert {layer.__name__ for layer in layers.OPERATORS} == {*OPERATORS, "Sequence", "Residual"}
    assert set(layers.OPERATORS) <= set(KNOWN.values())


def random_network(seed):
    """Return a network of some layers, of images or of rows, from simple ones to blocks."""
    rng = np.random.default_rng(seed)
    options = {"seed": seed, "loss": ["cross_entropy", "mean_squared_error", "poisson"][seed % 3]}
    acts = [xpnet.ReLU(), xpnet.ELU(0.7), xpnet.SiLU(), xpnet.GELU(), xpnet.Tanh(), xpnet.Softplus(), SINE]

    def act():
        return acts[rng.integers(len(acts))]

    if seed % 2:
        width = int(rng.integers(2, 7))
        block = xpnet.Residual([xpnet.Linear(width, width), act(), xpnet.Dropout(0.3)])
        norm = [xpnet.BatchNorm(width), xpnet.LayerNorm(width), xpnet.RMSNorm(width)][rng.integers(3)]
        return xpnet.Network([xpnet.Linear(4, width), norm, act(), block, xpnet.Linear(width, 3)], **options)
    C, K = (int(n) for n in rng.integers(1, 5, 2))
    shape = (*(int(n) for n in rng.integers(5, 9, 2)), C)
    conv = xpnet.Conv2D(C, 4, size=K, stride=int(rng.integers(1, 3)), padding=["same", "valid", 1][rng.integers(3)])
    shortcut = [xpnet.Conv2D(4, 2, size=1)]
    block = xpnet.Residual([xpnet.Conv2D(4, 2), xpnet.GroupNorm(2, 2), act()], shortcut)
    pool = [xpnet.MaxPool2D(2, 1), xpnet.AveragePool2D(2, 1), xpnet.Identity()][rng.integers(3)]
    body = [conv, xpnet.BatchNorm(4), act(), pool, block, xpnet.RandomFlip()]
    return xpnet.Network([*body, xpnet.GlobalAveragePool2D(), xpnet.Linear(2, 3)], input_shape=shape, **options)


SINE = xpnet.Activation(lambda xp, x: xp.sin(x), lambda xp, x: xp.cos(x), name="sine")


def test_a_hundred_random_networks(path):
    for seed in range(100):
        agrees(shaken(random_network(seed), seed), path, counts=(3,))


def test_between_two_convolutions_nothing_is_turned_round(path):
    body = [xpnet.Conv2D(1, 3), xpnet.BatchNorm(3), SINE_LIKE, xpnet.MaxPool2D(), xpnet.Conv2D(3, 4), xpnet.ReLU()]
    net = xpnet.Network(
        [*body, xpnet.GlobalAveragePool2D(), xpnet.Linear(4, 2)], "cross_entropy", input_shape=(8, 8, 1)
    )
    operators = agrees(shaken(net), path).operators
    assert operators["Transpose"] == 0  # one channel turns by a Reshape
    assert operators["Reshape"] == 2


SINE_LIKE = xpnet.Residual([xpnet.SiLU()])


# --------------------------------------------------------------------------------------- one's own things


TABLE = np.asarray([1.0, -2.0, 3.0, 0.5], np.float32)


@dataclass(frozen=True)
class Scaled(xpnet.Layer):
    """A layer of one's own, with parameters, an array of its own, and parts."""

    def init(self, rng):
        return {"a": rng.normal(size=4)}

    def forward(self, xp, params, x, context=None):
        y = xp.zeros_like(x)
        y[:, ::2] = x[:, ::-2] * params["a"][:2]
        y[:, 1::2] += xp.take(TABLE, xp.argmax(x, axis=1), axis=0)[:, None]
        return xp.where(y > 0, y, xp.mean(x, axis=1, keepdims=True) + xp.log1p(xp.exp(y))), None

    def backward(self, xp, params, cache, dy, context=None, need_dx=True):
        return dy, {"a": params["a"]}


def test_a_layer_of_ones_own_is_its_recorded_forward_pass(path):
    net = shaken(xpnet.Network([xpnet.Linear(3, 4), Scaled(), xpnet.Linear(4, 2)], "cross_entropy"))
    assert "Where" in agrees(net, path, counts=(1, 7)).operators


@dataclass(frozen=True)
class RowsTurned(xpnet.Layer):
    """Images with rows for columns, by way of one long list of rows."""

    def output_shape(self, shape):
        return (shape[1], shape[0], shape[2])

    def forward(self, xp, params, x, context=None):
        B, H, W, C = x.shape
        rows = xp.reshape(xp.sin(xp.reshape(x, (B * H, W * C))), (B * H * W, C))
        return xp.permute_dims(xp.reshape(rows, (B, H, W, C)), (0, 2, 1, 3)), None


@pytest.mark.parametrize("after", [xpnet.Flatten(), xpnet.Conv2D(2, 3), xpnet.MaxPool2D(2, 1), RowsTurned()], ids=label)
def test_what_comes_after_a_layer_of_ones_own_may_turn_it_round_again(after, path):
    flat = [] if isinstance(after, xpnet.Flatten) else [xpnet.Flatten()]
    net = xpnet.Network([RowsTurned(), after, *flat], "mean_squared_error", input_shape=(3, 4, 2))
    file = agrees(net, path, counts=(1, 5))
    assert [d.dim_param for d in file.model.graph.output[0].type.tensor_type.shape.dim] == ["batch", ""]


class Other(xpnet.ReLU):
    def forward(self, xp, params, x, context=None):
        return xp.maximum(x, 0.1), None


def test_a_subclass_is_not_taken_for_the_layer_that_it_is_made_of(path):
    assert "Relu" not in agrees(network(Other(), (3,)), path).operators


@pytest.mark.parametrize("loss", [loss for loss, _ in LOSSES], ids=label)
def test_what_a_loss_makes_of_the_output(loss, path):
    agrees(network(xpnet.Linear(3, 2 * loss.per_target), (3,), loss=loss), path)


def test_one_yes_or_no_has_two_probabilities(path):
    agrees(network(xpnet.Linear(3, 1), (3,), loss="binary_cross_entropy"), path)


def test_labels_of_the_network_are_those_of_the_file(path):
    for outputs, loss, labels in ((3, "cross_entropy", ["x", "y", "z"]), (1, "binary_cross_entropy", [7, 3])):
        net = network(xpnet.Linear(3, outputs), (3,), loss=loss)
        net.labels = labels
        agrees(net, path)


def test_parameters_may_be_an_input(path):
    body = [xpnet.Conv2D(2, 3), xpnet.BatchNorm(3), xpnet.Flatten(), xpnet.Linear(60, 3)]
    net = shaken(xpnet.Network(body, "cross_entropy", input_shape=(4, 5, 2)))
    net.to_onnx(path, parameters_as_input=True)
    file, x = File(path), samples(net, 3)
    for factor in (1.0, 0.5):
        net.theta[...] *= factor
        state = {f"state.{name}": value for name, value in net.state.items()}
        assert far(file(x=x, theta=net.theta, **state)["y"], net.forward(x)) < 1e-5


def test_a_file_says_where_it_comes_from(path):
    file = agrees(network(xpnet.Linear(3, 2), (3,), loss="cross_entropy"), path)
    assert file.model.producer_name == "xpnet"
    assert file.metadata["xpnet"] == file.model.producer_version == xpnet.__version__
    assert json.loads(file.metadata["classes"]) == [0, 1]
    assert file.metadata["network"].startswith("Network([Linear(inputs=3")
    assert "to_onnx" in file.model.graph.doc_string
    assert [d.dim_param for d in file.model.graph.input[0].type.tensor_type.shape.dim] == ["batch", ""]


# -------------------------------------------------------------------------------------------- refusals


@dataclass(frozen=True)
class ReadsBack(xpnet.Layer):
    def forward(self, xp, params, x, context=None):
        return x * float(xp.max(x)), None


@dataclass(frozen=True)
class ByBatch(xpnet.Layer):
    def forward(self, xp, params, x, context=None):
        return x * xp.arange(x.shape[0], dtype=x.dtype)[:, None], None


@dataclass(frozen=True)
class Sorts(xpnet.Layer):
    def forward(self, xp, params, x, context=None):
        return xp.sort(x, axis=1), None


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (ReadsBack(), "a value is read back to the host"),
        (ByBatch(), r"depends on the number of samples; fix that number: batch=1"),
        (Sorts(), r"xp\.sort has no form here"),
    ],
    ids=label,
)
def test_a_layer_that_cannot_be_exported_names_itself_its_place_and_what_is_missing(layer, why, path):
    net = xpnet.Network([xpnet.Linear(3, 3), xpnet.Sequence([xpnet.Tanh(), layer])], "mean_squared_error")
    with pytest.raises(ExportError, match=rf"layers\[1\.1\] {type(layer).__name__}\(\) cannot be exported: .*{why}"):
        net.to_onnx(path)
    assert not path.exists()


def test_a_layer_that_depends_on_the_number_of_samples_can_be_exported_for_one(path):
    agrees(network(ByBatch(), (3,)), path, counts=(4,), batch=4)


def test_options_that_are_not_there(path):
    net = xpnet.mlp([2, 2])
    with pytest.raises(ConfigError, match=r"opset must be an integer from 18 to .*, got 17"):
        net.to_onnx(path, opset=17)
    with pytest.raises(ConfigError, match="got 1000"):
        net.to_onnx(path, opset=1000)
    with pytest.raises(DTypeError, match=r"dtype must be one of float32, float64, or None .*, got 'float16'"):
        net.to_onnx(path, dtype="float16")
    with pytest.raises(ConfigError, match="batch"):
        net.to_onnx(path, batch=0)
    with pytest.raises(CheckpointIOError):
        net.to_onnx(path / "nowhere" / "net.onnx")


def test_a_missing_package_is_named_with_the_command(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BackendUnavailableError, match=r'Install it: pip install "xpnet\[onnx\]"'):
        xpnet.mlp([2, 2]).to_onnx(path)
