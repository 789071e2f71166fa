"""The network that the docs do by hand, number by number, and a training run whose losses are kept."""

import contextlib
import io

import numpy as np
import pytest

import xpnet

from . import pages, reference

PAGE = "worked_example.md"
CONFIG = {
    "layers": [
        {"kind": "Linear", "inputs": 2, "outputs": 2, "bias": True},
        {"kind": "Sigmoid"},
        {"kind": "Linear", "inputs": 2, "outputs": 2, "bias": True},
    ],
    "loss": {"kind": "CrossEntropy"},
    "l1": 0.0,
    "l2": 0.0,
    "penalize_biases": False,
}


@pytest.fixture
def page():
    return pages.arrays(PAGE)


def network(page):
    net = xpnet.Network(
        [xpnet.Linear(2, 2), xpnet.Sigmoid(), xpnet.Linear(2, 2)], loss="cross_entropy", dtype="float64"
    )
    net.set_parameters({"0.W": page["W0"], "0.b": page["b0"], "2.W": page["W2"], "2.b": page["b2"]})
    return net


def assert_digits(actual, expected):
    assert np.abs(np.asarray(actual) - expected).max() <= 1e-15


NAMES = "x W0 b0 W2 b2 t y0 y1 y2 p l L delta2 dW2 db2 delta1 delta0 dW0 db0 dx new_W0 new_b0 new_W2 new_b2 new_L"


@pytest.mark.worked_example
def test_the_page_has_every_number(page):
    assert " ".join(page) == NAMES


@pytest.mark.worked_example
def test_trace(page):
    net = network(page)
    trace = net.trace(page["x"], page["t"])
    for k in range(3):
        assert_digits(trace[k].y, page[f"y{k}"])
        assert_digits(trace[k].delta, page[f"delta{k}"])
    assert_digits(trace[0].dx, page["dx"])
    for k in (0, 2):
        assert_digits(trace[k].gradients["W"], page[f"dW{k}"])
        assert_digits(trace[k].gradients["b"], page[f"db{k}"])
    assert_digits(trace.loss, page["L"])
    assert_digits(net.predict_proba(page["x"]), page["p"])
    value, grads = net.gradients(page["x"], page["t"])
    assert_digits(value, page["L"])
    for name, g in grads.items():
        assert_digits(g, page[f"d{name[2]}{name[0]}"])


@pytest.mark.worked_example
def test_one_step(page):
    net = network(page)
    net.fit(page["x"], page["t"], optimizer=xpnet.SGD(0.5), epochs=1, batch_size=2, verbose=False)
    for name, value in net.parameters.items():
        assert_digits(value, page[f"new_{name[2]}{name[0]}"])
    assert_digits(net.evaluate(page["x"], page["t"])["loss"], page["new_L"])


@pytest.mark.worked_example
def test_the_page_without_xpnet(page):
    params = {"0.W": page["W0"], "0.b": page["b0"], "2.W": page["W2"], "2.b": page["b2"]}
    for k, y in enumerate(reference.forward(CONFIG, params, page["x"])):
        assert_digits(y, page[f"y{k}"])
    assert_digits(reference.objective(CONFIG, params, page["x"], page["t"]), page["L"])
    grads = reference.gradients(CONFIG, params, page["x"], page["t"])
    assert_digits(grads.pop("x"), page["dx"])
    for name, g in grads.items():
        assert_digits(g, page[f"d{name[2]}{name[0]}"])
        assert_digits(params[name] - 0.5 * g, page[f"new_{name[2]}{name[0]}"])


@pytest.mark.worked_example
def test_the_code_on_the_page_prints_what_it_says(page):
    (code,) = [text for language, label, text in pages.blocks(PAGE) if label == "run"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {name: value.tolist() for name, value in page.items()})
    numbers = np.array(printed.getvalue().replace("[", " ").replace("]", " ").split(), dtype=float)
    assert numbers[:4] == pytest.approx(page["dW0"].ravel(), abs=1e-8)  # as NumPy prints arrays
    assert_digits(numbers[4], page["new_L"])
