"""Networks in files: what is saved is loaded to the bit, and a stranger's file runs nothing and changes nothing."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import array_backends
import cases
import numpy as np
import pytest
from fault_injection import Calls, same, try_mutations
from labels import label
from malformed import MIB

import xpnet
from xpnet import initializers, schedules
from xpnet.errors import CheckpointError, CheckpointIOError, ConfigError
from xpnet.files.tensors import read_tensors, write_tensors
from xpnet.initializers import INITIALIZERS
from xpnet.layers import LAYERS
from xpnet.losses import LOSSES
from xpnet.optimizers import OPTIMIZERS
from xpnet.saving.description import CLASSES, FUNCTIONS, build, describe, own_names
from xpnet.schedules import SCHEDULES

RNG = np.random.default_rng(0)


def small_net(**options: Any) -> xpnet.Network:
    layers = [xpnet.Linear(3, 4), xpnet.Tanh(), xpnet.Dropout(0.25), xpnet.Linear(4, 2)]
    return xpnet.Network(layers, xpnet.CrossEntropy(), **options)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    small_net().save(tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def rewrite(path: Path, change: Callable[[dict, dict], Any]) -> None:
    """Change what a file holds, and write it with checksums that fit, as a stranger may."""
    tensors, description = read_tensors(path)
    change(tensors, description)
    write_tensors(path, tensors, description)


def assert_equal(a: xpnet.Network, b: xpnet.Network) -> None:
    assert repr((a.layers, a.loss)) == repr((b.layers, b.loss))
    assert (a.layers, a.loss, a.dtype, a.seed) == (b.layers, b.loss, b.dtype, b.seed)
    assert (a.l1, a.l2, a.penalize_biases) == (b.l1, b.l2, b.penalize_biases)
    assert list(a.parameters) == list(b.parameters)
    assert a.backend.to_numpy(a.theta).tobytes() == b.backend.to_numpy(b.theta).tobytes()
    assert a.state.keys() == b.state.keys()
    for name in a.state:
        assert a.backend.to_numpy(a.state[name]).tobytes() == b.backend.to_numpy(b.state[name]).tobytes()


# ---------------------------------------------------------------------------------------- classes of one's own


@dataclasses.dataclass(frozen=True)
class Scale(xpnet.Layer):
    """A layer with a parameter that does not declare its shape beforehand."""

    features: int
    options: tuple = (1, (2.5, None))

    def init(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"a": rng.normal(size=self.features)}

    def init_state(self) -> dict[str, np.ndarray]:
        return {"mean": np.zeros(self.features), "count": np.ones(())}

    def forward(self, xp, params, x, context=None):
        return x * params["a"], x


class Double(xpnet.Layer):
    """A layer without fields need not be a dataclass."""

    def forward(self, xp, params, x, context=None):
        return 2.0 * x, None


@dataclasses.dataclass(frozen=True)
class ReLU(xpnet.Layer):
    """Has the name of a layer of xpnet, and is another."""

    threshold: float = 0.5

    def forward(self, xp, params, x, context=None):
        return xp.maximum(x, self.threshold), x


@dataclasses.dataclass(frozen=True)
class FourthPower(xpnet.losses.Loss):
    weight: float = 2.0


def cube(xp, x):
    return x * x * x


def cube_slope(xp, x):
    return 3 * x * x


def constant_weights(rng, shape, fan_in, fan_out):
    return np.full(shape, 0.5)


# ------------------------------------------------------------------------------------------------- round trip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", [0, 7, 2**127 + 1])
def test_a_network_comes_back_to_the_bit(tmp_path: Path, dtype: str, seed: int) -> None:
    net = small_net(dtype=dtype, seed=seed, l1=0.1, l2=1e-3, penalize_biases=True)
    net.theta[...] = RNG.normal(size=net.parameter_count)
    net.save(tmp_path / "f")
    again = xpnet.load(tmp_path / "f")
    assert_equal(net, again)
    x, t = RNG.normal(size=(5, 3)).astype(dtype), RNG.integers(0, 2, 5)
    assert (net.predict_proba(x) == again.predict_proba(x)).all()
    assert net.gradients(x, t, training=True, step=3)[0] == again.gradients(x, t, training=True, step=3)[0]
    assert os.listdir(tmp_path) == ["f"]


def test_a_loaded_network_is_one_of_its_own_and_can_be_trained(saved: Path) -> None:
    a, b = xpnet.load(saved), xpnet.load(str(saved))
    x, t = RNG.normal(size=(8, 3)).astype("float32"), RNG.integers(0, 2, 8)
    a.fit(x, t, epochs=1, batch_size=4, verbose=False)
    assert not np.array_equal(a.theta, b.theta)
    assert_equal(b, small_net())


@pytest.mark.parametrize("name", array_backends.NAMES)
def test_from_any_backend_to_any_other(tmp_path: Path, name: str) -> None:
    net = small_net(backend=array_backends.make(name))
    net.save(tmp_path / "f")
    for other in array_backends.NAMES:
        again = xpnet.load(tmp_path / "f", backend=array_backends.make(other))
        assert again.backend.name == array_backends.make(other).name
        assert_equal(net, again)
        again.save(tmp_path / "g")
        assert (tmp_path / "g").read_bytes() == (tmp_path / "f").read_bytes()


def test_from_one_process_to_another(tmp_path: Path) -> None:
    net = small_net(seed=3)
    net.save(tmp_path / "f")
    script = "import sys, xpnet; net = xpnet.load(sys.argv[1]); net.save(sys.argv[2]); print(net.theta.tobytes().hex())"
    command = [sys.executable, "-c", script, str(tmp_path / "f"), str(tmp_path / "g")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == net.theta.tobytes().hex()
    assert (tmp_path / "g").read_bytes() == (tmp_path / "f").read_bytes()


@pytest.mark.parametrize(
    "value", [*[case.layer for case in cases.LAYERS], *[loss for loss, *_ in cases.LOSSES]], ids=label
)
def test_every_layer_and_loss_can_be_described(value: Any) -> None:
    functions = {f"value.{key}": item for key, item in vars(value).items() if callable(item)}
    data = json.loads(json.dumps(describe(value, "value")))
    again = build(data, "value", functions)
    assert again == value
    assert repr(again) == repr(value)


def test_every_class_of_xpnet_can_be_named() -> None:
    registries = (LAYERS, LOSSES, OPTIMIZERS, SCHEDULES)
    for cls in [cls for registry in registries for cls in registry.values()]:
        assert CLASSES[cls.__name__] is cls
    assert len(CLASSES) == sum(map(len, registries)) + 2  # no two have one name; `Activation` and `normal` besides
    public = [value for name in xpnet.__all__ if isinstance(value := getattr(xpnet, name), type)]
    wanted = [cls for cls in public if issubclass(cls, xpnet.Layer | xpnet.losses.Loss | xpnet.optimizers.Optimizer)]
    assert {cls.__name__ for cls in wanted} - CLASSES.keys() == {"Layer", "Loss", "Optimizer"}
    assert FUNCTIONS == initializers.INITIALIZERS


@pytest.mark.parametrize(
    "value",
    [
        xpnet.SGD(0.1, momentum=0.9, nesterov=True, clip_norm=1.0),
        xpnet.Adagrad(),
        xpnet.RMSProp(decay=0.5),
        xpnet.AdamW(schedules.WarmUp(10, schedules.CosineDecay(0.1, 100)), clip_value=2),
        xpnet.Adam(schedules.OneCycle(0.1, 50)),
        xpnet.SGD(schedules.StepDecay(0.1, 5)),
        schedules.ExponentialDecay(0.1, 7),
        schedules.PolynomialDecay(1, 9, 0.5, 2.0),
        xpnet.Linear(2, 3, weight_init=initializers.orthogonal, bias_init=initializers.normal(0.1)),
        [1, (2, [3.5, None], ()), "x", True],
    ],
    ids=label,
)
def test_other_objects_can_be_described(value: Any) -> None:
    again = build(json.loads(json.dumps(describe(value, "value"))), "value", {})
    assert again == value
    assert repr(again) == repr(value)


def test_numbers_of_numpy_become_those_of_python() -> None:
    value = xpnet.Linear(np.int64(3), np.int32(2), weight_init=np.str_("zeros"))
    data = describe(value, "value")
    assert {type(item) for item in data.values()} == {str, int, bool}
    assert build(data, "value", {}) == value
    assert describe(xpnet.LeakyReLU(np.float32(0.1)), "value")["slope"] == float(np.float32(0.1))


def test_classes_and_functions_of_ones_own(tmp_path: Path) -> None:
    layers = [
        xpnet.Linear(3, 3, weight_init=constant_weights),
        Scale(3),
        Double(),
        ReLU(0.25),
        xpnet.ReLU(),
        xpnet.Activation(cube, cube_slope, name="cube"),
    ]
    net = xpnet.Network(layers, FourthPower(3.0))
    net.state["1.mean"][...] = [1, 2, 3]
    net.save(tmp_path / "f")
    own = [Scale, Double, ReLU, FourthPower, cube, cube_slope, constant_weights]
    again = xpnet.load(tmp_path / "f", classes=own)
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in layers]
    assert again.layers[:2] == net.layers[:2]
    assert again.layers[3:] == net.layers[3:]
    assert again.loss == net.loss
    assert again.theta.tobytes() == net.theta.tobytes()
    assert again.state["1.mean"].tolist() == [1, 2, 3]
    assert again.state["1.count"].shape == ()
    x = RNG.normal(size=(4, 3)).astype("float32")
    assert (again.forward(x) == net.forward(x)).all()
    for missing in own:
        name = missing.__name__
        with pytest.raises(
            CheckpointError, match=rf"unknown \w+ type '{name}' is not xpnet's own; pass it: .*\[{name}\]"
        ):
            xpnet.load(tmp_path / "f", classes=[item for item in own if item is not missing])


def test_functions_without_a_name_are_known_by_their_place(tmp_path: Path) -> None:
    def scale(factor: float) -> Callable:
        def times(xp, x):
            return factor * x

        return times

    sine = xpnet.Activation(lambda xp, x: xp.sin(x), lambda xp, x: xp.cos(x))
    net = xpnet.Network([xpnet.Linear(2, 2), sine, xpnet.Activation(scale(2.0), scale(3.0))], "mean_squared_error")
    net.save(tmp_path / "f")
    own = {"layers[1].f": sine.f, "layers[1].df": sine.df, "times": net.layers[2].f, "layers[2].df": net.layers[2].df}
    again = xpnet.load(tmp_path / "f", classes=own)
    assert again.layers == net.layers
    del own["layers[1].df"]
    with pytest.raises(CheckpointError, match=r"pass it: load\(..., classes=\{'layers\[1\].df': ...\}\)"):
        xpnet.load(tmp_path / "f", classes=own)


def test_functions_of_one_name_in_a_layer_and_in_the_loss(tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Own(xpnet.losses.Loss):
        f: Callable

    def cube(xp, x):  # the other one stands above
        return x

    act = xpnet.Activation(globals()["cube"], cube_slope)
    net = xpnet.Network([xpnet.Linear(2, 2), act], Own(cube))
    net.save(tmp_path / "f")
    again = xpnet.load(tmp_path / "f", classes={"cube": act.f, "cube_slope": cube_slope, "Own": Own, "loss.f": cube})
    assert again.layers == net.layers
    assert again.loss == net.loss


@pytest.mark.parametrize("classes", [3, "Scale", [3], ["Scale"], {"Scale": 3}, {3: Scale}, [None]])
def test_what_classes_may_be(saved: Path, classes: Any) -> None:
    with pytest.raises(ConfigError, match=r"classes must be classes and functions, as classes=\[MyLayer\]"):
        xpnet.load(saved, classes=classes)


# --------------------------------------------------------------------------------------- what cannot be saved


def test_a_layer_that_a_file_cannot_hold_is_not_saved(saved: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Table(xpnet.Layer):
        table: Any

    before = saved.read_bytes()
    for layer, message in (
        (Table(np.zeros(2)), r"layers\[1\].table is array"),
        (Table({"a": 1}), r"layers\[1\].table is \{'a': 1\}"),
        (Table(1j), r"layers\[1\].table is 1j"),
        (Table(float("inf")), r"layers\[1\].table is inf; a file can describe finite numbers only"),
        (Table(b"x"), r"layers\[1\].table is b'x'"),
    ):
        net = xpnet.Network([xpnet.Linear(2, 2), layer], "mean_squared_error")
        with pytest.raises(CheckpointError, match=message):
            net.save(saved)
        assert saved.read_bytes() == before


def test_not_a_number_is_saved_with_a_warning(tmp_path: Path) -> None:
    net = small_net()
    bits = np.array([0x7FC00001, 0xFF800000, 0x7F812345, 0x80000000], np.uint32)
    net.theta[:4] = bits.view(np.float32)
    with pytest.warns(RuntimeWarning, match=r"^0.W have NaN or infinities and are saved with them") as caught:
        net.save(tmp_path / "f")
    assert caught[0].filename == __file__
    assert (xpnet.load(tmp_path / "f").theta[:4].view(np.uint32) == bits).all()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_whichever_call_fails_the_old_network_is_there(saved: Path, error: int) -> None:
    before = saved.read_bytes()
    net = small_net(seed=5)
    theta = net.theta.tobytes()
    with Calls().watching() as calls:
        net.save(saved.with_name("other"))
    for k in range(len(calls.log) + 1):  # one more: the link to the old file
        with (
            Calls(fail_at=k, error=error).watching(),
            pytest.raises(CheckpointIOError, match=os.strerror(error)) as caught,
        ):
            net.save(saved)
        assert str(saved) in str(caught.value)
        assert saved.read_bytes() == before
        assert sorted(os.listdir(saved.parent)) == ["net.safetensors", "other"]
        assert net.theta.tobytes() == theta
    assert_equal(xpnet.load(saved), small_net())


@pytest.mark.parametrize(
    ("target", "text"), [("missing/f", "No such file"), ("net.safetensors/f", "Not a dir"), ("", "Is a dir")]
)
def test_an_impossible_path(saved: Path, target: str, text: str) -> None:
    with pytest.raises(CheckpointIOError, match=text):
        small_net().save(saved.parent / target)
    with pytest.raises(CheckpointIOError, match=text):
        xpnet.load(saved.parent / target)
    assert os.listdir(saved.parent) == ["net.safetensors"]


# ----------------------------------------------------------------------------------------- files from strangers

NAMES = [
    "os.system",
    "../../x",
    "__class__",
    "Linear\0",
    "Linear\n",
    "\u202eraeniL",
    "linear",
    "xpnet.Linear",
    "builtins.eval",
    "CrossEntropy",
    "Adam",
    "normal",
    "Layer",
    "",
    "own.os.system",
    "own.",
    "x" * 4000,
]


@pytest.mark.parametrize("name", NAMES)
def test_unknown_layers(saved: Path, name: str) -> None:
    def change(tensors: dict, description: dict) -> None:
        description["network"]["layers"][1]["class"] = name

    rewrite(saved, change)
    with pytest.raises(CheckpointError, match=r"layers\[1\]: unknown layer type") as caught:
        xpnet.load(saved, classes=[Scale])
    assert str(saved) in str(caught.value)
    assert repr(name)[:100] in str(caught.value) or repr(name.removeprefix("own."))[:100] in str(caught.value)
    assert str(caught.value).isprintable()
    assert ("known are Linear, Sequence, " in str(caught.value)) != ("pass it: load" in str(caught.value))


DESCRIPTIONS = {
    "no layers": ("layers", [], "'0.W' (3, 4) is not known"),
    "layers not a list": ("layers", {"class": "ReLU"}, "layers must be a list"),
    "other layers": ("layers", [{"class": "ReLU"}], "'0.W' (3, 4) is not known"),
    "a number as laye": ("layers", [3], "layers[0] must be a layer, got 3"),
    "a list as laye": ("layers", [[]], "layers[0] must be a layer"),
    "an object without class": ("layers", [{"inputs": 3}], "expected a class, a function or a tuple"),
    "a function as laye": ("layers", [{"function": "zeros"}], "must be a layer, got <function zeros"),
    "class not a string": ("layers", [{"class": 3}], "unknown layer type 3"),
    "class a list": ("layers", [{"class": ["ReLU"]}], "unknown layer type"),
    "class null": ("layers", [{"class": None}], "unknown layer type None"),
    "a loss as laye": ("layers", [{"class": "CrossEntropy"}], "unknown layer type 'CrossEntropy'"),
    "unknown field": ("layers", [{"class": "ReLU", "more": 1}], "unknown are ['more']"),
    "field with underscores": ("layers", [{"class": "ReLU", "__class__": 1}], "unknown are ['__class__']"),
    "missing field": ("layers", [{"class": "Dropout"}], "missing are ['rate']"),
    "refused value": ("layers", [{"class": "Dropout", "rate": 2}], "'Dropout' refuses its values: Dropout: rate"),
    "value of another type": ("layers", [{"class": "Dropout", "rate": "x"}], "refuses its values"),
    "true as numbe": ("layers", [{"class": "Dropout", "rate": True}], "refuses its values"),
    "unknown function": (
        "layers",
        [{"class": "Activation", "f": {"function": "eval"}, "df": 1, "name": ""}],
        "type 'eval'",
    ),
    "function not a string": (
        "layers",
        [{"class": "Activation", "f": {"function": {}}, "df": 1, "name": ""}],
        "unknown function",
    ),
    "a layer as function": (
        "layers",
        [{"class": "Activation", "f": {"class": "ReLU"}, "df": 1, "name": ""}],
        "layers[0].f is ReLU(), which is no function of an activation",
    ),
    **{
        f"a {name} as a function": (
            "layers",
            [{"class": "Activation", "f": item, "df": item, "name": ""}],
            "which is no function of an activation",
        )
        for name, item in {
            "law": {"function": "zeros"},
            "law with a number": {"class": "normal", "std": 0.1},
            "schedule": {"class": "ExponentialDecay", "initial": 0.1, "steps": 9, "factor": 0.5},
        }.items()
    },
    "unknown loss": ("loss", {"class": "os.system"}, "loss: unknown loss type 'os.system'"),
    "a layer as loss": ("loss", {"class": "ReLU"}, "unknown loss type 'ReLU'"),
    "loss null": ("loss", None, "loss must be a loss, got None"),
    "loss a name": ("loss", "cross_entropy", "loss must be a loss"),
    "dtype": ("dtype", "float16", "dtype must be one of float32, float64, got 'float16'"),
    "dtype a list": ("dtype", ["float32"], "dtype must be one of"),
    "dtype a class": ("dtype", "__class__", "dtype must be one of"),
    "seed negative": ("seed", -1, "seed must be"),
    "seed a float": ("seed", 1.5, "seed must be"),
    "l1 negative": ("l1", -1.0, "l1 must be"),
    "l2 a string": ("l2", "0", "l2 must be"),
    "l2 a list": ("l2", [], "l2 must be"),
    "penalize_biases a numbe": ("penalize_biases", 1, "penalize_biases must be"),
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_impossible_descriptions(saved: Path, name: str) -> None:
    field, value, message = DESCRIPTIONS[name]
    rewrite(saved, lambda tensors, description: description["network"].update({field: value}))
    with pytest.raises(CheckpointError) as caught:
        xpnet.load(saved)
    assert str(saved) in str(caught.value)
    assert message in str(caught.value)


def test_no_layers_and_no_inputs(tmp_path: Path) -> None:
    for layers, message in (([], "layers is empty"), ([{"class": "ReLU"}], "no layer says how many inputs")):
        small_net().save(tmp_path / "f")
        rewrite(tmp_path / "f", lambda t, d, layers=layers: (t.clear(), d["network"].update(layers=layers)))
        with pytest.raises(CheckpointError, match=message):
            xpnet.load(tmp_path / "f")


@pytest.mark.parametrize(
    "description",
    [None, 3, "x", [], {}, {"network": None}, {"network": []}, {"network": {}}, {"net": {}}, {"network": {}, "x": 1}],
)
def test_a_description_of_another_form(tmp_path: Path, description: Any) -> None:
    write_tensors(tmp_path / "f", {}, description)
    with pytest.raises(CheckpointError, match="expected a description with "):
        xpnet.load(tmp_path / "f")


def test_all_differences_are_listed_at_once(saved: Path) -> None:
    def change(tensors: dict, description: dict) -> None:
        tensors["0.weight"] = tensors.pop("0.W")
        tensors["0.b"] = tensors["0.b"].astype("float64")
        tensors["3.W"] = tensors["3.W"].T
        tensors["state.0.mean"] = np.zeros(3)
        del tensors["3.b"]

    rewrite(saved, change)
    with pytest.raises(CheckpointError) as caught:
        xpnet.load(saved)
    for text in (
        "'0.W' (3, 4) is missing",
        "'0.b' has dtype float64, expected float32",
        "'3.W' has shape (2, 4), expected (4, 2) (transposed?)",
        "'3.b' (2,) is missing",
        "'0.weight' (3, 4) is not known",
    ):
        assert text in str(caught.value)
    assert repr(str(saved)) in str(caught.value)


def test_statistics_that_do_not_fit(tmp_path: Path) -> None:
    net = xpnet.Network([xpnet.Linear(3, 3), Scale(3)], "mean_squared_error")
    net.save(tmp_path / "f")

    def change(tensors: dict, description: dict) -> None:
        del tensors["state.1.count"]
        tensors["state.1.mean"] = np.zeros(4, "float32")
        tensors["1.a"] = np.zeros((3, 1), "float32")
        tensors["state.x"] = np.zeros(3, "float32")

    rewrite(tmp_path / "f", change)
    with pytest.raises(CheckpointError) as caught:
        xpnet.load(tmp_path / "f", classes=[Scale])
    for text in (
        "'state.1.count' () is missing",
        "'state.1.mean' has shape (4,)",
        "'1.a' has shape (3, 1)",
        "'state.x' (3,) is not known",
    ):
        assert text in str(caught.value)


def test_many_differences_are_counted(tmp_path: Path) -> None:
    net = xpnet.mlp([2] * 16, loss="mean_squared_error")
    net.save(tmp_path / "f")
    rewrite(tmp_path / "f", lambda tensors, description: tensors.clear())
    with pytest.raises(CheckpointError, match="and 10 more"):
        xpnet.load(tmp_path / "f")


@pytest.mark.parametrize("size", [10**5, 10**12, 2**62, 10**300])
def test_a_small_file_that_speaks_of_large_layers_costs_little_memory(saved: Path, size: int) -> None:
    rewrite(saved, lambda tensors, description: description["network"]["layers"][0].update(inputs=size, outputs=size))
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=r"'0\.W' has shape"):
            xpnet.load(saved)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= saved.stat().st_size + MIB


LAWS = [*INITIALIZERS, *INITIALIZERS.values(), initializers.normal(0.5), constant_weights]


@pytest.mark.parametrize("law", LAWS, ids=label)
def test_loading_draws_no_initial_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, law: Any) -> None:
    inner = [xpnet.Conv2D(2, 2, weight_init=law, bias_init=law), xpnet.BatchNorm(2)]
    last = xpnet.Linear(32, 2, weight_init=law, bias_init=law)
    net = xpnet.Network([xpnet.Residual(inner), xpnet.Flatten(), last], "huber", input_shape=(4, 4, 2))
    net.save(tmp_path / "f")
    drawn = []
    initialize = xpnet.layers.linear.initialize

    def counted(*args: Any) -> Any:
        drawn.append(args[0])
        return initialize(*args)

    for module in (xpnet.layers.linear, xpnet.layers.convolution, xpnet.layers.normalization):
        if hasattr(module, "initialize"):
            monkeypatch.setattr(module, "initialize", counted)
    assert_equal(xpnet.load(tmp_path / "f", classes=[constant_weights]), net)
    assert not drawn
    net.layers[-1].init(np.random.default_rng(0))
    assert len(drawn) == 2  # they would have been counted


def network_content_of(path: Path) -> tuple[dict[str, np.ndarray], Any]:
    net = xpnet.load(path)
    return dict(net.parameters), (net.layers, net.loss, net.dtype, net.seed, net.l1, net.l2, net.penalize_biases)


def test_two_thousand_random_mutations_of_a_network(tmp_path: Path, saved: Path) -> None:
    found = try_mutations(tmp_path, saved.read_bytes(), 2000, seed=3, read=network_content_of)
    assert found["refused"] > 1900


VALUES = [
    None,
    True,
    0,
    -1,
    3,
    1.5,
    1e300,
    2**70,
    "",
    "x",
    "Linear",
    "own.x",
    "__class__",
    [],
    [[]],
    {},
    {"tuple": [1]},
]
VALUES += [
    {"tuple": 1},
    {"function": "zeros"},
    {"function": None},
    {"class": "ReLU"},
    {"class": {}},
    {"class": "WarmUp"},
]
VALUES += [
    {"class": "WarmUp", "steps": 3, "after": 0.1},
    {"class": "normal", "std": 1.0},
    {"class": "normal", "std": 1e308},
]


def scramble(data: Any, rng: random.Random) -> None:
    """Replace, remove, double or rename one value somewhere in a JSON tree."""
    places = []

    def visit(node: Any) -> None:
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            places.append((node, key))
            visit(node[key])

    visit(data)
    if not places:
        return
    node, key = rng.choice(places)
    kind = rng.randrange(4)
    if kind == 0 and isinstance(node, dict):
        node[rng.choice(["class", "function", "tuple", "x", "inputs", "rate"])] = node.pop(key)
    elif kind == 1:
        del node[key]
    elif kind == 2 and isinstance(node, list):
        node.insert(key, node[key])
    else:
        node[key] = json.loads(json.dumps(rng.choice(VALUES)))


def test_a_thousand_scrambled_descriptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # These files need not outlive a loss of power.
    write = lambda path, chunks: Path(path).write_bytes(b"".join(chunks))  # noqa: E731
    monkeypatch.setattr("xpnet.files.tensors.write_atomically", write)
    rng, path, found = random.Random(0), tmp_path / "f", {"refused": 0, "loaded": 0}
    layers = [xpnet.Linear(3, 2, weight_init=initializers.normal(0.1)), xpnet.ELU(0.5), xpnet.Linear(2, 2)]
    xpnet.Network(layers, xpnet.Huber(2.0), l2=0.1).save(path)
    tensors, description = read_tensors(path)
    for _ in range(1000):
        other = json.loads(json.dumps(description))
        for _ in range(rng.choice((1, 1, 2, 3))):
            scramble(other, rng)
        path.unlink()
        write_tensors(path, tensors, other)
        try:
            net = xpnet.load(path)
        except CheckpointError as error:
            found["refused"] += 1
            if str(path) not in str(error):
                raise AssertionError(f"no path in {error}") from error
            continue
        found["loaded"] += 1
        assert same({name: np.asarray(value) for name, value in net.parameters.items()}, tensors)
    assert found["refused"] > 700
    assert found["loaded"] > 10


def test_loading_imports_and_runs_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    small_net().save(folder / "valid")
    for k, name in enumerate(NAMES):
        small_net().save(folder / f"{k}")

        def change(tensors: dict, description: dict, name: str = name) -> None:
            description["network"]["layers"][1]["class"] = name

        rewrite(folder / f"{k}", change)
    for k, (field, value, _) in enumerate(DESCRIPTIONS.values()):
        small_net().save(folder / f"d{k}")
        rewrite(folder / f"d{k}", lambda t, d, field=field, value=value: d["network"].update({field: value}))
    script = """
import os, sys
import xpnet, xpnet.making
xpnet.backends.get()
events, active = [], False
FORBIDDEN = ("import", "exec", "compile", "marshal", "pickle", "subprocess", "socket", "ctypes", "os.", "code.")
sys.addaudithook(lambda event, args: events.append((event, args)) if active and event.startswith(FORBIDDEN) else None)
loaded, names = 0, os.listdir(sys.argv[1])
active = True
for name in names:
    try:
        xpnet.load(os.path.join(sys.argv[1], name))
        loaded += 1
    except xpnet.errors.CheckpointError:
        pass
active = False
print(len(names), loaded, events)
"""
    command = [sys.executable, "-c", script, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{len(NAMES) + len(DESCRIPTIONS) + 1} 1 []"]


def test_names_of_ones_own() -> None:
    assert own_names([Scale, cube]) == {"Scale": Scale, "cube": cube}
    assert own_names({"x": cube}) == {"x": cube}
    assert own_names(()) == {}
