"""The formulas in the docstrings say what the methods do: both are executed and compared."""

import re

import numpy as np
import pytest

import xpnet
import xpnet.layers

from . import formulas

pytestmark = pytest.mark.formulas

xp = xpnet.backends.get("numpy").xp
LAYERS = [
    xpnet.Linear(4, 3),
    xpnet.Identity(),
    xpnet.ReLU(),
    xpnet.LeakyReLU(0.3),
    xpnet.ELU(1.4),
    xpnet.Sigmoid(),
    xpnet.Tanh(),
    xpnet.Softplus(),
    xpnet.SiLU(),
    xpnet.GELU(),
    xpnet.GELU(approximate="tanh"),
    xpnet.Softmax(),
    xpnet.Activation(lambda xp, x: xp.sin(x), lambda xp, x: xp.cos(x)),
    xpnet.Dropout(0.4),
    xpnet.Sequence([xpnet.Linear(4, 3), xpnet.Tanh()]),
    xpnet.Residual([xpnet.Tanh(), xpnet.Linear(4, 4)]),
    xpnet.Residual([xpnet.Linear(4, 3), xpnet.Tanh()], shortcut=[xpnet.Softplus(), xpnet.Linear(4, 3)]),
    xpnet.BatchNorm(4),
    xpnet.LayerNorm(4),
    xpnet.RMSNorm(4),
    xpnet.GroupNorm(2, 4),
    xpnet.RandomFlip(),
    xpnet.RandomShift(1),
    xpnet.RandomCutout(2),
]
IMAGE, SIGNAL = (5, 6, 4, 2), (5, 7, 3)
WINDOWED = [  # on images and signals
    (xpnet.Reshape((6, 8)), IMAGE),
    (xpnet.Flatten(), IMAGE),
    (xpnet.Conv2D(2, 3, size=(3, 2), stride=(2, 1)), IMAGE),
    (xpnet.Conv1D(3, 2, size=4, stride=3, padding=1), SIGNAL),
    (xpnet.MaxPool2D(size=(3, 2), stride=(2, 1)), IMAGE),
    (xpnet.MaxPool1D(), SIGNAL),
    (xpnet.AveragePool2D(), IMAGE),
    (xpnet.AveragePool1D(size=3, stride=2), SIGNAL),
    (xpnet.GlobalAveragePool2D(), IMAGE),
    (xpnet.GlobalAveragePool1D(), SIGNAL),
]
LOSSES = [
    xpnet.MeanSquaredError(),
    xpnet.SumSquaredError(),
    xpnet.HalfSquaredError(),
    xpnet.MeanAbsoluteError(),
    xpnet.Huber(0.6),
    xpnet.Poisson(),
    xpnet.PoissonDeviance(),
    xpnet.Quantile([0.2, 0.7]),
    xpnet.Gaussian(),
    xpnet.BinaryCrossEntropy(),
    xpnet.CrossEntropy(),
    xpnet.CrossEntropy(label_smoothing=0.2),
]
OPTIMIZERS = [
    xpnet.SGD(),
    xpnet.SGD(momentum=0.7),
    xpnet.SGD(momentum=0.7, nesterov=True),
    xpnet.Adagrad(eps=1e-3),
    xpnet.RMSProp(decay=0.8, eps=1e-3),
    xpnet.Adam(beta1=0.6, beta2=0.7, eps=1e-3),
    xpnet.AdamW(beta1=0.6, beta2=0.7, eps=1e-3),
]


def label(item):
    """Name a case in the same way in every process."""
    return re.sub(r"<function .*? at 0x\w+>", "f", repr(item))


def hyperparameters(item):
    return dict(vars(item))


def assert_equal(actual, expected, what):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, what
    assert np.abs(actual - expected).max() <= 1e-14 * np.abs(expected).max(), what


def numbers_of(*methods):
    """Return the formulas' numbers, which must run from 1 without a gap."""
    found = [formula for method in methods for formula in formulas.formulas(method)]
    numbers = [formula.number for formula in found if not formula.variant]
    assert numbers == list(range(1, len(numbers) + 1)), [method.__qualname__ for method in methods]
    return found


def test_everything_public_is_here():
    assert {type(layer) for layer in [*LAYERS, *(layer for layer, _ in WINDOWED)]} == {
        *xpnet.layers.LAYERS.values(),
        xpnet.Activation,
    }
    assert {type(loss) for loss in LOSSES} == set(xpnet.losses.LOSSES.values())
    assert {type(optimizer) for optimizer in OPTIMIZERS} == set(xpnet.optimizers.OPTIMIZERS.values())


def sample_shape(layer):
    """Return the shape of one sample for the layer: four numbers, at each of some places where there must be such."""
    places = {"GroupNorm": (3,), "RandomFlip": (3, 4), "RandomShift": (3, 4), "RandomCutout": (3, 4)}
    return (*places.get(type(layer).__name__, ()), 4)


def passes(layer, params, x):
    """Return f and df of a composite layer's formulas, and s and ds: each chain's passes, layer by layer."""
    names = {}
    for way, (prefix, chain) in zip("fs", getattr(layer, "chains", {}).items(), strict=False):
        steps, y = [], x
        for k, inner in enumerate(chain):
            own = {name: params[f"{prefix}{k}.{name}"] for name in inner.parameter_shapes()}
            y, cache = inner.forward(xp, own, y)
            steps.insert(0, (inner, own, cache))

        def back(delta, steps=steps):
            for inner, own, cache in steps:
                delta, _ = inner.backward(xp, own, cache, delta)
            return delta

        names |= {way: lambda x, y=y: y, f"d{way}": back}
    return names


def in_groups(layer, a):
    """Return an array in the shape that the formulas speak of: GroupNorm's have an axis for the groups."""
    return a.reshape(*a.shape[:-1], layer.groups, -1) if isinstance(layer, xpnet.GroupNorm) else a


def shifted(x, i, j):
    """Move each image b down by i[b] and right by j[b]."""
    y = np.zeros_like(x)
    for b, h, w in np.ndindex(x.shape[:3]):
        source = h - i[b, 0], w - j[b, 0]
        if 0 <= source[0] < x.shape[1] and 0 <= source[1] < x.shape[2]:
            y[b, h, w] = x[b, *source]
    return y


@pytest.mark.parametrize(
    ("layer", "training"), [*((layer, True) for layer in LAYERS), (xpnet.BatchNorm(4), False)], ids=label
)
def test_layer(layer, training, rng):
    forward, backward, update = type(layer).forward, type(layer).backward, type(layer).update_state
    assert numbers_of(forward, backward, update)
    variant = getattr(layer, "approximate", "none") != "none" or not training
    x = rng.normal(0, 2, (5, *sample_shape(layer)))
    params = {name: rng.normal(size=shape) for name, shape in layer.parameter_shapes().items()}
    state = {name: rng.uniform(1, 2, value.shape) for name, value in layer.init_state().items()}
    context = xpnet.Context(training, 99, np.array([7], dtype=np.uint32), state)
    y, cache = layer.forward(xp, params, x, context)
    dy = rng.normal(size=y.shape)
    dx, grads = layer.backward(xp, params, cache, dy, context)
    names = {name: in_groups(layer, a) for name, a in {**params, "x": x}.items()}
    names |= {**hyperparameters(layer), **{f"running_{name}": value for name, value in state.items()}, "xp": xp}
    names |= passes(layer, params, x)
    if isinstance(layer, xpnet.Dropout | xpnet.RandomCutout):
        names["m"] = layer.mask(xp, x, context)
    if isinstance(layer, xpnet.RandomFlip):
        names["f"] = layer.flips(xp, x, context)
    if isinstance(layer, xpnet.RandomShift):
        names["i"], names["j"] = layer.shifts(xp, x, context)
        names["shifted"] = shifted
    sizes = {}
    names = formulas.execute(formulas.formulas(forward), names, variant, sizes)
    assert_equal(in_groups(layer, y), names["y"], "y")
    names = formulas.execute(formulas.formulas(backward), {**names, "dy": in_groups(layer, dy)}, variant, sizes)
    assert sizes.get("B", sizes.get("M")) == 5  # rows: samples, or their places
    for name, value in {**grads, "x": dx}.items():
        if "." in name:
            continue  # the layer inside has a formula for it
        assert_equal(in_groups(layer, value), names[f"d{name}"], f"d{name}")
    names = formulas.execute(formulas.formulas(update), {**names, **state, "M": 5}, sizes=sizes)
    for name, value in layer.update_state(xp, state, cache).items():
        assert_equal(value, names[name], name)


@pytest.mark.parametrize(("layer", "shape"), WINDOWED, ids=label)
def test_layer_of_images(layer, shape, rng):
    """All places of a sample are one axis in these formulas; where a sample is a row, all of its numbers are."""
    forward, backward = type(layer).forward, type(layer).backward
    assert numbers_of(forward, backward)
    x = rng.normal(size=shape)
    params = {name: rng.normal(size=size) for name, size in layer.parameter_shapes().items()}
    y, cache = layer.forward(xp, params, x)
    dy = rng.normal(size=y.shape)
    dx, grads = layer.backward(xp, params, cache, dy)
    names = {"x": x, **params}
    if hasattr(layer, "windows"):
        stride = layer.size if layer.stride is None else layer.stride
        names |= formulas.of_windows(shape, layer.size, stride, getattr(layer, "padding", "valid"))
        names |= {"dy": dy.reshape(shape[0], -1, dy.shape[-1])}
    else:
        form = (shape[0], -1) if isinstance(layer, xpnet.Flatten | xpnet.Reshape) else (shape[0], -1, shape[-1])
        names |= {"x": x.reshape(form), "dy": dy.reshape(shape[0], -1)}
    if "W" in params:
        names["W"] = params["W"].reshape(-1, layer.outputs)
    sizes = {}
    names = formulas.execute(formulas.formulas(forward), names, sizes=sizes)
    assert_equal(y, names["y"].reshape(y.shape), "y")
    names = formulas.execute(formulas.formulas(backward), names, sizes=sizes)
    assert sizes["B"] == shape[0]
    for name, value in {**grads, "x": dx}.items():
        assert_equal(value, names[f"d{name}"].reshape(value.shape), f"d{name}")


@pytest.mark.parametrize("loss", LOSSES, ids=label)
def test_loss(loss, rng):
    call = type(loss).__call__
    assert numbers_of(call)
    outputs = 3 * loss.per_target
    y, weight = rng.normal(0, 1.5, (6, outputs)), rng.dirichlet(np.ones(6))
    t = rng.uniform(0, 1, (6, 3))  # rows that do not sum to 1, too
    targets = [(t, t)]
    if isinstance(loss, xpnet.CrossEntropy):
        classes = rng.integers(0, 3, 6)
        targets.append((classes, np.eye(3)[classes]))
    for given, rows in targets:
        sizes = {}
        names = {**hyperparameters(loss), "y": y, "t": rows, "w": weight[:, None], "O": outputs, "T": 3}
        names = formulas.execute(formulas.formulas(call), names, sizes=sizes)
        value, dy = loss(xp, y, given, weight)
        assert_equal(value, names["L"], "L")
        assert_equal(dy, names["dy"], "dy")
        assert sizes["B"] == 6
        assert sizes["O"] == outputs


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=label)
def test_optimizer(optimizer, rng):
    scalars, update = type(optimizer).scalars, type(optimizer).update
    found = [formula for method in (scalars, update) for formula in formulas.formulas(method)]
    assert numbers_of(scalars, update)
    variant = getattr(optimizer, "nesterov", False)
    theta = rng.normal(size=9)
    slots = {name: np.zeros(9) for name in optimizer.slots}
    names = {**hyperparameters(optimizer), "v": np.zeros(9), **slots, "theta": theta.copy()}
    for t in range(1, 6):
        g, rate = rng.normal(size=9), 0.1 / t
        names = formulas.execute(found, {**names, "g": g, "t": float(t), "rate": rate}, variant)
        numbers = optimizer.scalars(np.array([float(t)]), np.array([rate]))
        optimizer.update(xp, theta, g, *slots.values(), *numbers.values())
        assert_equal(theta, names["theta"], f"theta after step {t}")
        for name, slot in slots.items():
            assert_equal(slot, names[name], f"{name} after step {t}")


def test_a_wrong_formula_is_found():
    def forgotten_transpose():
        """Something.

        dx = dy @ W          (B, I) = (B, O) @ (O, I)     (1)
        """

    def wrong_shapes():
        """Something.

        dx = dy @ W.T          (B, I) = (B, O) @ (I, O)     (1)
        """

    def no_shape():
        """Something.

        dx = dy @ W.T     (1)
        """

    names = {"dy": np.ones((2, 3)), "W": np.ones((4, 3))}
    with pytest.raises(ValueError, match="matmul"):
        formulas.execute(formulas.formulas(forgotten_transpose), names)
    with pytest.raises(AssertionError, match="against"):
        formulas.execute(formulas.formulas(wrong_shapes), names)
    with pytest.raises(AssertionError, match="no formula"):
        formulas.formulas(no_shape)
