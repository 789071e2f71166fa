"""A training step as an ONNX file: after 100 steps in onnxruntime the parameters are xpnet's."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from cases import LAYERS, LOSSES, OPTIMIZERS
from labels import label
from onnx_files import File, far

import xpnet
from xpnet import schedules
from xpnet.errors import ConfigError, ExportError
from xpnet.saving import export_training

SCHEDULES = [
    schedules.StepDecay(0.1, 20), schedules.ExponentialDecay(0.1, 50), schedules.PolynomialDecay(0.1, 60, 0.01, 2.0),
    schedules.CosineDecay(0.1, 70), schedules.WarmUp(10, schedules.CosineDecay(0.1, 40)), schedules.OneCycle(0.2, 90),
]  # fmt: skip
BATCH, STEPS = 6, 100


def trained_elsewhere(file, net, x, t, steps):
    """Return the parameters, and all else that is handed from step to step, after some steps in onnxruntime."""
    state = {name: np.zeros_like(net.theta) for name in file.inputs if name.startswith("slot.")}
    state |= {"theta": net.theta.copy()} | {f"state.{name}": value for name, value in net.state.items()}
    losses = []
    for k in range(steps):
        rows = slice(k * BATCH % len(x), k * BATCH % len(x) + BATCH)
        feeds = {**state, "x": x[rows], "t": t[rows], "step": np.asarray([k])}
        made = file(**{name: value for name, value in feeds.items() if name in file.inputs})
        state = {name: made[f"next.{name}"] for name in state}
        losses.append(made["loss"][0])
    return state, losses


def agree(net, optimizer, t, path, steps=STEPS, tolerance=1e-5, seed=0):
    """Train with xpnet and elsewhere, and compare parameters and statistics; return the file."""
    x = np.random.default_rng(seed).normal(size=(len(t), *net.input_shape)).astype(net.dtype)
    t = np.asarray(t) if net.loss.kind == "classification" else np.asarray(t, net.dtype)
    export_training(net, optimizer, path, batch_size=BATCH, steps=steps)
    file = File(path)
    state, losses = trained_elsewhere(file, net, x, t, steps)
    trainer = xpnet.Trainer(net, optimizer, x, t, batch_size=BATCH, shuffle=False)
    trainer.run(steps)
    assert far(state["theta"], net.theta) < tolerance
    for name, value in net.state.items():
        assert far(state[f"state.{name}"], value) < tolerance
    assert np.isfinite(losses).all()
    return file


def by_case(case, dtype):
    """Return a network in whose middle the layer of a case is."""
    first = [] if len(case.shape) > 1 else [xpnet.Linear(case.shape[0], case.shape[0])]
    outputs = int(np.prod(case.layer.output_shape(case.shape)))
    layers = [*first, case.layer, xpnet.Flatten(), xpnet.Linear(outputs, 3)]
    return xpnet.Network(layers, "cross_entropy", input_shape=case.shape, dtype=dtype)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "step.onnx"


@pytest.mark.parametrize("case", {repr(case.layer): case for case in LAYERS}.values(), ids=label)
def test_every_layer(case, path):
    """In float64, where rounding cannot hide a mistake, and in float32, where data types may be mixed up."""
    t = np.random.default_rng(0).integers(0, 3, 24)
    agree(by_case(case, "float64"), xpnet.SGD(0.05, momentum=0.9), t, path, tolerance=1e-9)
    # By smaller steps: a normalisation of nearly equal numbers makes much of little, and roundings would grow with it.
    agree(by_case(case, "float32"), xpnet.SGD(0.01), t, path)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("loss", "targets"), LOSSES, ids=label)
def test_every_loss(loss, targets, dtype, path):
    t = targets(np.random.default_rng(0), 24, 3)
    if loss.kind == "classification" and t.ndim == 2:
        t = t.argmax(axis=1)
    net = xpnet.Network([xpnet.Linear(4, 5), xpnet.Tanh(), xpnet.Linear(5, 3 * loss.per_target)], loss, dtype=dtype)
    agree(net, xpnet.SGD(0.05), t, path, tolerance=1e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize(
    "optimizer",
    [*OPTIMIZERS, xpnet.AdamW(0.01, factors={"b": 2.0, "0.W": 0.5}), *map(xpnet.SGD, SCHEDULES)],
    ids=label,
)
def test_every_optimizer_and_schedule(optimizer, path):
    t = np.random.default_rng(0).integers(0, 3, 24)
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-5)):
        net = xpnet.Network(
            [xpnet.Linear(4, 5), xpnet.Tanh(), xpnet.Linear(5, 3)], "cross_entropy", dtype=dtype, l1=1e-4, l2=1e-3
        )
        agree(net, optimizer, t, path, tolerance=tolerance)


def test_every_schedule_is_tried():
    assert {type(schedule) for schedule in SCHEDULES} == set(schedules.SCHEDULES.values())


class Weighed(xpnet.Loss):
    """The sum of the outputs, each times its target."""

    def __call__(self, xp, y, t, weight):
        return xp.sum(y * t), t * weight[:, None]


def test_masks_of_dropout_are_the_same_bits(path):
    """Each number of a row has a power of two of its own in the loss, so that a wrong bit of the mask is seen."""
    net = xpnet.Network([xpnet.Linear(3, 40), xpnet.Dropout(0.5)], Weighed(), dtype="float64", seed=3)
    net.set_parameters({"0.W": np.zeros((3, 40)), "0.b": np.full(40, 0.5)})
    x, t = np.zeros((BATCH, 3)), 2.0 ** np.arange(40) * np.ones((BATCH, 1))
    export_training(net, xpnet.SGD(1.0), path, batch_size=BATCH)
    file, losses = File(path), set()
    for k in (0, 1, 2**31, 2**32 - 1):
        for row in range(BATCH):
            target = t * (np.arange(BATCH) == row)[:, None]
            made = file(theta=net.theta, x=x, t=target, step=np.asarray([k]))["loss"][0]
            assert made == net.gradients(x, target, training=True, step=k)[0]
            losses.add(made)
    assert len(losses) == 4 * BATCH  # no two masks are alike


def test_the_tutorial_network_with_adam_is_64_nodes_of_the_standard_at_most(path):
    net = xpnet.mlp([784, 512, 512, 10], seed=0)
    export_training(net, "adam", path, batch_size=100)
    file = File(path)
    assert sum(file.operators.values()) <= 64
    assert not {"If", "Loop", "Scan"} & set(file.operators)
    assert file.model.opset_import[0].version >= 17
    assert path.stat().st_size < 1e6  # no parameters in it


def test_a_file_says_where_each_parameter_lies_and_how_it_came_about(path):
    net = xpnet.mlp([3, 4, 2])
    export_training(net, xpnet.Adam(0.01), path, batch_size=5)
    facts = File(path).metadata
    for name, (start, stop, shape) in json.loads(facts["parameters"]).items():
        assert (net.theta[start:stop].reshape(shape) == net.parameters[name]).all()
    assert facts["network"] == repr(net)
    assert facts["optimizer"] == repr(xpnet.Adam(0.01))
    assert facts["xpnet"] == xpnet.__version__


def test_after_the_last_row_of_the_table_the_last_rate_stays(path):
    net = xpnet.mlp([3, 4, 2], dtype="float64")
    optimizer = xpnet.SGD(lambda step: 0.1 / (1 + min(step, 7)))
    t = np.random.default_rng(0).integers(0, 2, 24)
    file = agree(net, optimizer, t, path, steps=30, tolerance=1e-12)
    assert json.loads(file.metadata["steps"]) == 8


@dataclass(frozen=True)
class Odd(xpnet.Layer):
    """A layer that does something odd on the way forward, or back."""

    forwards: bool
    reads: bool

    def odd(self, xp, x):
        return x * float(xp.max(x)) if self.reads else xp.sort(x, axis=1)

    def forward(self, xp, params, x, context=None):
        return (self.odd(xp, x) if self.forwards else xp.sin(x)), x

    def backward(self, xp, params, cache, dy, context=None, need_dx=True):
        return dy if self.forwards else self.odd(xp, dy), {}


@pytest.mark.parametrize("forwards", [True, False])
@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("place", ["1", "2.0", "2.shortcut.1"])
def test_a_layer_that_cannot_be_exported_is_named_with_its_place(forwards, reads, place, path):
    layers = {name: [xpnet.Tanh(), xpnet.Linear(3, 3)] for name in ("", "2.", "2.shortcut.")}
    chain, _, k = place.rpartition(".")
    layers[f"{chain}." if chain else ""][int(k)] = Odd(forwards, reads)
    net = xpnet.Network(
        [*layers[""], xpnet.Residual(layers["2."], layers["2.shortcut."])], "mean_squared_error", input_shape=(3,)
    )
    if place == "1":
        net = xpnet.Network([xpnet.Linear(3, 3), *net.layers[1:]], "mean_squared_error")
    why = "a value is read back" if reads else r"xp\.sort has no form here"
    with pytest.raises(ExportError, match=rf"layers\[{place}\] Odd\({forwards=}, {reads=}\): {why}"):
        export_training(net, "adam", path, batch_size=4)


class OwnLoss(xpnet.Loss):
    def __call__(self, xp, y, t, weight):
        return xp.sum(y) * float(xp.max(y)), y


def test_what_cannot_be_exported_says_why(path):
    net = xpnet.Network([xpnet.Linear(2, 2)], OwnLoss())
    with pytest.raises(ExportError, match="has no form as an ONNX graph: a value is read back to the host"):
        export_training(net, "adam", path, batch_size=2)
    with pytest.raises(ConfigError, match="batch_size"):
        export_training(xpnet.mlp([2, 2]), "adam", path, batch_size=0)
    with pytest.raises(ConfigError, match="optimizer"):
        export_training(xpnet.mlp([2, 2]), "adamm", path, batch_size=2)
    assert not path.exists()
