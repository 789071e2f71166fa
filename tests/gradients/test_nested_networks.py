"""Random networks of layers inside of layers, against another forward pass with automatic differentiation.

A layer is a dict such as `{"kind": "Residual", "layers": [...], "shortcut": [...]}`.
"""

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import value_and_grad
from hypothesis import strategies as st

import xpnet
from xpnet.layers import Context, Residual
from xpnet.layers.shapes import every_layer

from . import library, oracle_autograd, strategies

pytestmark = pytest.mark.oracle

WIDTHS = st.integers(1, 5)
SMOOTH = ("Identity", "Sigmoid", "Tanh", "Softplus", "SiLU", "GELU", "Softmax")


def linear(draw, inputs, outputs):
    return {"kind": "Linear", "inputs": inputs, "outputs": outputs, "bias": draw(st.booleans())}


def chain(draw, inputs, outputs, depth):
    """Draw layers that take `inputs` numbers and give `outputs`, with composite layers up to `depth` inside."""
    layers = []
    for _ in range(draw(st.integers(0 if inputs == outputs else 1, 3))):
        kind = draw(st.sampled_from(["activation", "Dropout", "Linear", "Sequence", "Residual"][: 5 if depth else 3]))
        if kind == "activation":
            layers.append({"kind": draw(st.sampled_from([*SMOOTH, "ReLU", "ELU"]))})
        elif kind == "Dropout":
            layers.append({"kind": kind, "rate": draw(st.sampled_from([0.1, 0.5]))})
        else:
            width = draw(WIDTHS)
            if kind == "Linear":
                layers.append(linear(draw, inputs, width))
            elif kind == "Sequence":
                inner = chain(draw, inputs, width, depth - 1)
                layers.append({"kind": kind, "layers": inner or [{"kind": "Identity"}]})
            else:
                inner, around = chain(draw, inputs, width, depth - 1), chain(draw, inputs, width, depth - 1)
                layers.append({"kind": kind, "layers": inner or [{"kind": "Tanh"}], "shortcut": around})
            inputs = width
    return layers if inputs == outputs else [*layers, linear(draw, inputs, outputs)]


@st.composite
def nested(draw):
    inputs, outputs = draw(WIDTHS), draw(WIDTHS)
    inner = chain(draw, inputs, outputs, 2)
    return {
        "layers": [*inner, linear(draw, outputs, outputs)],
        "inputs": inputs,
        "loss": {"kind": draw(st.sampled_from(["SumSquaredError", "Poisson", "BinaryCrossEntropy"]))},
        "l1": draw(st.sampled_from([0.0, 0.1])),
        "l2": draw(st.sampled_from([0.0, 0.3])),
        "batch": draw(st.integers(1, 5)),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


def make(layer):
    options = {name: [make(x) for x in v] if isinstance(v, list) else v for name, v in layer.items() if name != "kind"}
    return getattr(xpnet, layer["kind"])(**options)


def build(config):
    """Return the network of a dict, the inputs and the targets."""
    rng = np.random.default_rng(config["seed"])
    net = xpnet.Network(
        [make(layer) for layer in config["layers"]], getattr(xpnet, config["loss"]["kind"])(), dtype="float64",
        seed=config["seed"], l1=config["l1"], l2=config["l2"], input_shape=(config["inputs"],),
    )  # fmt: skip
    net.set_parameters({name: rng.normal(0.0, 0.7, p.shape) for name, p in net.parameters.items()})
    x = rng.normal(size=(config["batch"], config["inputs"]))
    return net, x, strategies.targets(rng, config["loss"], config["batch"], net.output_shape[0])


def masks(net, rows):
    """Return the mask of every dropout layer by its place, read off what the layer does to ones."""
    found = {}
    for item in every_layer(net.layers, net.input_shape):
        if isinstance(item.layer, xpnet.Dropout):
            k, _, rest = item.place.partition(".")
            context = library.contexts(net)[int(k)]
            context = context.child(rest) if rest else context
            found[item.place] = item.layer.forward(np, {}, np.ones((rows, *item.before)), context)[0] > 0
    return found


def forward(layers, h, arrays, masks, prefix=""):
    for k, layer in enumerate(layers):
        place, kind = f"{prefix}{k}", layer["kind"]
        if kind == "Linear":
            h = anp.dot(h, arrays[f"{place}.W"]) + (arrays[f"{place}.b"] if layer["bias"] else 0.0)
        elif kind == "Dropout":
            h = h * masks[place] / (1.0 - layer["rate"])
        elif kind == "Sequence":
            h = forward(layer["layers"], h, arrays, masks, f"{place}.")
        elif kind == "Residual":
            around = forward(layer["shortcut"], h, arrays, masks, f"{place}.shortcut.")
            h = forward(layer["layers"], h, arrays, masks, f"{place}.") + around
        else:
            h = oracle_autograd.activate(kind, h, layer)
    return h


def oracle(config, net, x, t):
    """Return the objective and every gradient, the input's under the name "x"."""
    drawn = masks(net, len(x))

    def objective(arrays):
        y = forward(config["layers"], arrays["x"], arrays, drawn)
        weights = [a for name, a in arrays.items() if name.endswith(".W")]
        penalty = sum(config["l1"] * anp.sum(anp.abs(W)) + config["l2"] / 2 * anp.sum(W * W) for W in weights)
        return penalty + anp.mean(oracle_autograd.sample_losses(config["loss"]["kind"], y, t, {}))

    return value_and_grad(objective)({"x": x, **{name: np.array(p) for name, p in net.parameters.items()}})


def agree(config):
    """Compare the network's value and gradients with the other ones."""
    net, x, t = build(config)
    value, found = library.gradients(net, x, t)
    expected_value, expected = oracle(config, net, x, t)
    assert value == pytest.approx(expected_value, rel=1e-12)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = np.abs(gradient).max() + 1e-3
        np.testing.assert_allclose(found[name], gradient, rtol=0, atol=1e-11 * scale, err_msg=name)


@strategies.architectures(nested())
def test_autograd(config):
    agree(config)


@pytest.mark.central
@strategies.architectures(nested(), part=0.15)
def test_central_differences(config):
    net, x, t = build(config)
    report = xpnet.check_gradients(net, x, t, training=True, jitter=0.0)
    assert not report.findings, report
    assert all(row.verdict != "WRONG" for part in (report, *report.parts) for row in part.arrays), report


def test_the_networks_are_nested_and_differ():
    seen = []

    @strategies.architectures(nested())
    def collect(config):
        seen.append([item.place for item in every_layer(build(config)[0].layers, (config["inputs"],))])

    collect()
    depths = [max(sum(part.isdigit() for part in place.split(".")) for place in places) for places in seen]
    assert {1, 2, 3} <= set(depths)
    assert np.mean(np.asarray(depths) == 3) > 0.05
    assert any("shortcut" in place for places in seen for place in places)


# ----------------------------------------------------------------------------------------- planted mistakes


EXAMPLE = {
    "layers": [
        {"kind": "Linear", "inputs": 3, "outputs": 4, "bias": True},
        {
            "kind": "Residual",
            "layers": [
                {"kind": "Dropout", "rate": 0.5},
                {"kind": "Linear", "inputs": 4, "outputs": 4, "bias": True},
                {"kind": "Sequence", "layers": [{"kind": "Tanh"}, {"kind": "Dropout", "rate": 0.5}]},
                {"kind": "Linear", "inputs": 4, "outputs": 4, "bias": True},
            ],
            "shortcut": [{"kind": "Linear", "inputs": 4, "outputs": 4, "bias": False}],
        },
        {
            "kind": "Residual",
            "layers": [{"kind": "Residual", "layers": [{"kind": "Identity"}], "shortcut": []}],
            "shortcut": [],
        },
        {"kind": "Linear", "inputs": 4, "outputs": 2, "bias": True},
    ],
    "inputs": 3, "loss": {"kind": "SumSquaredError"}, "l1": 0.1, "l2": 0.3, "batch": 4, "seed": 1,
}  # fmt: skip


HONEST = Residual.backward


def shortcut_forgotten(self, xp, params, cache, dy, context=None, need_dx=True):
    dx, grads = HONEST(self, xp, params, cache, dy, context, need_dx)
    return (dx - dy if dx is not None and not self.shortcut else dx), grads


def added_in_place(self, xp, params, cache, dy, context=None, need_dx=True):
    """`df += ds` where df may be dy itself, of a branch that is the identity."""
    caches, others = cache[: len(self.layers)], cache[len(self.layers) :]
    df, grads = self.back_along("", xp, params, caches, dy, context, need_dx)
    ds, more = self.back_along("shortcut.", xp, params, others, dy, context, need_dx)
    if df is not None:
        df += ds
    return df, grads | more


def names_exchanged(self, xp, params, cache, dy, context=None, need_dx=True):
    dx, grads = HONEST(self, xp, params, cache, dy, context, need_dx)
    swapped = {"1.W": "3.W", "3.W": "1.W", "1.b": "3.b", "3.b": "1.b"}
    return dx, {swapped.get(name, name): gradient for name, gradient in grads.items()}


MISTAKES = [shortcut_forgotten, added_in_place, names_exchanged]


def test_the_example_is_right():
    agree(EXAMPLE)
    net, x, t = build(EXAMPLE)
    report = xpnet.check_gradients(net, x, t, training=True)
    assert report.passed, report
    assert "1.shortcut.0.W" in str(report)


@pytest.mark.planted
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_residual_is_caught_and_named(monkeypatch, mistake):
    monkeypatch.setattr(Residual, "backward", mistake)
    with pytest.raises(AssertionError):
        agree(EXAMPLE)
    net, x, t = build(EXAMPLE)
    report = xpnet.check_gradients(net, x, t, training=True)
    assert not report.passed
    assert report.failures[0].startswith("layer 1 (Residual)" if mistake is names_exchanged else "layer 2.0 (Residual)")
    for part in report.parts:
        assert "(Residual)" in part.target  # no layer inside is blamed


@pytest.mark.planted
def test_a_mask_that_layers_share_is_caught(monkeypatch):
    honest = Context.child

    def share(self, name):
        return xpnet.Context(**{**vars(honest(self, name)), "key": 7})

    net = build(EXAMPLE)[0]
    assert len({mask.tobytes() for mask in masks(net, 50).values()}) == 2
    monkeypatch.setattr(Context, "child", share)
    assert len({mask.tobytes() for mask in masks(net, 50).values()}) == 1


@pytest.mark.planted
def test_a_mistake_inside_is_blamed_on_the_layer_inside(monkeypatch):
    honest = xpnet.Tanh.backward
    monkeypatch.setattr(xpnet.Tanh, "backward", lambda self, *args, **options: (1.5 * honest(self, *args)[0], {}))
    net, x, t = build(EXAMPLE)
    report = xpnet.check_gradients(net, x, t, training=True)
    assert [part.target for part in report.parts] == ["layer 1.2.0 (Tanh)"]
    assert report.failures[0].startswith("layer 1.2.0 (Tanh), dx at")
    assert "1.5 times the right one" in report.failures[0]
