"""Defaults, and which values of hyper-parameters are taken: both ends of every range."""

import dataclasses

import numpy as np
import pytest

import xpnet
from xpnet.errors import ConfigError, ShapeError

from .reference_optimizers import COMMON, DEFAULTS

ANYTHING_ELSE = [float("nan"), float("inf"), "1", None, True, [0.5]]
# name: values at and just inside the ends of the range, and just outside
RANGES = [
    (lambda v: xpnet.LeakyReLU(slope=v), "LeakyReLU: slope", [0.0, 0.999999], [-1e-9, 1.0]),
    (lambda v: xpnet.ELU(alpha=v), "ELU: alpha", [1e-9, 1e6], [0.0, -1.0]),
    (lambda v: xpnet.Dropout(v), "Dropout: rate", [0.0, 0.999999], [-1e-9, 1.0]),
    (lambda v: xpnet.Huber(v), "Huber: delta", [1e-9, 1e6], [0.0, -1.0]),
    (lambda v: xpnet.SGD(0.1, momentum=v), "SGD: momentum", [0.0, 0.999999], [-1e-9, 1.0]),
    (lambda v: xpnet.Adagrad(eps=v), "Adagrad: eps", [1e-300, 2.0], [0.0, -1.0]),
    (lambda v: xpnet.RMSProp(eps=v), "RMSProp: eps", [1e-300, 2.0], [0.0, -1.0]),
    (lambda v: xpnet.RMSProp(decay=v), "RMSProp: decay", [0.0, 0.999999], [-1e-9, 1.0]),
    (lambda v: xpnet.Adam(beta1=v), "Adam: beta1", [0.0, 0.999999], [-1e-9, 1.0]),
    (lambda v: xpnet.Adam(beta2=v), "Adam: beta2", [0.0, 0.999999], [-1e-9, 1.0]),
    (lambda v: xpnet.Adam(eps=v), "Adam: eps", [1e-300, 2.0], [0.0, -1.0]),
    (lambda v: xpnet.AdamW(beta1=v), "AdamW: beta1", [0.0], [1.0]),
    *(
        (lambda v, kind=kind: getattr(xpnet, kind)(learning_rate=v), f"{kind}: learning_rate", [1e-300, 9.0], [0.0, -1])
        for kind in DEFAULTS
    ),
    *(
        (lambda v, kind=kind: getattr(xpnet, kind)(weight_decay=v), f"{kind}: weight_decay", [0.0, 9.0], [-1e-9])
        for kind in DEFAULTS
    ),
    *(
        (lambda v, kind=kind, n=n: getattr(xpnet, kind)(**{n: v}), f"{kind}: {n}", [1e-300, 9.0], [0.0, -1.0])
        for kind in DEFAULTS
        for n in ("clip_norm", "clip_value")
    ),
]


@pytest.mark.parametrize(("make", "name", "good", "bad"), RANGES, ids=[entry[1] for entry in RANGES])
def test_ranges(make, name, good, bad):
    for value in good:
        make(value)
    for value in [*bad, *ANYTHING_ELSE]:
        if value is None and "clip" in name:
            continue  # no clipping
        with pytest.raises(ConfigError, match=f"^{name} must be"):
            make(value)


def test_sizes_and_flags():
    xpnet.Linear(1, 1)
    for arguments in ((0, 1), (1, 0), (1.5, 1), (True, 1), (1, "2"), (-1, 1)):
        with pytest.raises(ConfigError, match=r"^Linear: (inputs|outputs) must be an integer >= 1"):
            xpnet.Linear(*arguments)
    with pytest.raises(ConfigError, match=r"^Linear: bias must be True or False"):
        xpnet.Linear(1, 1, bias=1)
    with pytest.raises(ConfigError, match=r"^SGD: nesterov must be True or False"):
        xpnet.SGD(0.1, momentum=0.5, nesterov=1)
    with pytest.raises(ConfigError, match=r"needs momentum > 0"):
        xpnet.SGD(0.1, nesterov=True)
    for law in ("weight_init", "bias_init"):
        with pytest.raises(ConfigError, match="unknown initializer 'he'"):
            xpnet.Linear(1, 1, **{law: "he"})
    with pytest.raises(ConfigError, match="approximate must be 'none' or 'tanh'"):
        xpnet.GELU(approximate="erf")
    for arguments, label in (((1, np.cos), "f"), ((np.sin, 1), "df")):
        with pytest.raises(ConfigError, match=f"^Activation: {label} must be a function"):
            xpnet.Activation(*arguments)
    with pytest.raises(ShapeError, match=r"takes samples of shape \(3,\), got \(4,\)"):
        xpnet.Linear(3, 2).output_shape((4,))


@pytest.mark.parametrize("kind", DEFAULTS)
def test_defaults_of_optimizers(kind):
    made = getattr(xpnet, kind)()
    assert dataclasses.asdict(made) == {**COMMON, **DEFAULTS[kind]}


def test_defaults_of_every_optimizer():
    assert {field.name: field.default for field in dataclasses.fields(xpnet.Optimizer)} == {
        **COMMON,
        "learning_rate": 0.01,
    }


def test_other_defaults():
    assert xpnet.Linear(2, 3) == xpnet.Linear(2, 3, True, "glorot_uniform", "zeros")
    assert xpnet.LeakyReLU() == xpnet.LeakyReLU(0.01)
    assert xpnet.ELU() == xpnet.ELU(1.0)
    assert xpnet.GELU() == xpnet.GELU("none")
    assert xpnet.Dropout() == xpnet.Dropout(0.5)
    assert xpnet.Huber() == xpnet.Huber(1.0)
    assert xpnet.Activation(np.sin, np.cos).name == "activation"
    context = xpnet.Context()
    assert (context.training, context.key, context.step, dict(context.state)) == (False, 0, None, {})


def test_hyperparameters_stay():
    """Layers, losses and optimizers are values: they compare, hash, and cannot be changed."""
    for made in (
        xpnet.Linear(2, 3),
        xpnet.ELU(),
        xpnet.GELU(),
        xpnet.Huber(),
        xpnet.SGD(),
        xpnet.Adam(),
        xpnet.Context(),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            made.learning_rate = made.slope = 3.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.1])
def test_what_schedules_return(bad):
    rates = xpnet.SGD(lambda step: bad if step == 7 else 0.1).rates
    assert rates(range(3, 7)).tolist() == [0.1] * 4
    with pytest.raises(ConfigError, match=r"^SGD: learning_rate\(7\) returned"):
        rates(range(5, 10))
    assert xpnet.SGD(lambda step: 0.0).rates(range(2)).tolist() == [0.0, 0.0]
    assert xpnet.SGD(0.3).rates(range(4, 6)).tolist() == [0.3, 0.3]


def test_names():
    assert list(xpnet.optimizers.OPTIMIZERS) == ["sgd", "adagrad", "rmsprop", "adam", "adamw"]
    assert set(xpnet.losses.LOSSES) == {
        "mean_squared_error",
        "sum_squared_error",
        "half_squared_error",
        "mean_absolute_error",
        "huber",
        "poisson",
        "poisson_deviance",
        "quantile",
        "gaussian",
        "binary_cross_entropy",
        "cross_entropy",
    }
    activations = "identity relu leaky_relu elu sigmoid tanh softplus silu gelu softmax"
    assert set(xpnet.layers.ACTIVATIONS) == set(activations.split())
    for registry in (xpnet.losses.LOSSES, xpnet.layers.ACTIVATIONS, xpnet.optimizers.OPTIMIZERS):
        for name, kind in registry.items():
            assert kind.__name__.lower() == name.replace("_", "")
    assert {name: kind.__name__ for name, kind in xpnet.layers.LAYERS.items()} == {n: n for n in xpnet.layers.LAYERS}


def test_slots_are_named_as_in_the_formulas():
    slots = {kind: getattr(xpnet, kind)().slots for kind in DEFAULTS}
    assert slots == {"SGD": (), "Adagrad": ("s",), "RMSProp": ("s",), "Adam": ("m", "v"), "AdamW": ("m", "v")}
    assert xpnet.SGD(0.1, momentum=0.5).slots == ("v",)


def test_positional_arguments():
    assert xpnet.SGD(0.1, 0.9, True) == xpnet.SGD(learning_rate=0.1, momentum=0.9, nesterov=True)
    assert xpnet.Adam(0.1, 0.8, 0.7, 0.6) == xpnet.Adam(learning_rate=0.1, beta1=0.8, beta2=0.7, eps=0.6)
    with pytest.raises(TypeError, match="by position"):
        xpnet.Adam(0.1, 0.8, 0.7, 0.6, 0.5)  # weight decay and clipping by name only


def test_kinds_of_losses():
    """What targets a loss takes, and whether it wants logits."""
    kinds = {name: (kind.kind, kind.takes_logits) for name, kind in xpnet.losses.LOSSES.items()}
    assert kinds.pop("cross_entropy") == ("classification", True)
    assert kinds.pop("binary_cross_entropy") == ("binary", True)
    assert set(kinds.values()) == {("regression", False)}


def test_what_is_predicted():
    xp = xpnet.backends.get("numpy").xp
    y = np.array([[0.0, 2.0], [-800.0, 1700.0]])
    assert xpnet.MeanSquaredError().predict(xp, y) is y
    with np.errstate(over="ignore"):
        assert xpnet.Poisson().predict(xp, y[:1]) == pytest.approx(np.exp(y[:1]))
    logistic = xpnet.BinaryCrossEntropy().predict(xp, y)
    assert logistic == pytest.approx(np.array([[0.5, 1 / (1 + np.exp(-2))], [0.0, 1.0]]))
    shares = xpnet.CrossEntropy().predict(xp, y)
    assert shares == pytest.approx(np.array([[1 / (1 + np.e**2), np.e**2 / (1 + np.e**2)], [0.0, 1.0]]))


def test_only_weights_decay():
    assert xpnet.Linear.decayed == ("W",)
    assert all(layer.decayed == () for layer in xpnet.layers.ACTIVATIONS.values())


def test_laws_of_initial_values_are_asked_for_the_right_shapes(rng):
    asked = []

    def law(rng, shape, fan_in, fan_out):
        asked.append((shape, fan_in, fan_out))
        return rng.normal(size=shape)

    params = xpnet.Linear(2, 3, weight_init=law, bias_init=law).init(rng)
    assert asked == [((2, 3), 2, 3), ((3,), 1, 3)]
    assert {name: value.shape for name, value in params.items()} == {"W": (2, 3), "b": (3,)}
