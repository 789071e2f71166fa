"""The convolution that the docs do by hand, number by number."""

import contextlib
import io

import numpy as np
import pytest

import xpnet

from . import pages, reference
from .test_worked_example import assert_digits

pytestmark = pytest.mark.worked_example

PAGE = "convolution.md"
NAMES = "x W0 b0 W3 b3 t P y0 y2 y3 L delta3 dW3 db3 delta2 delta0 dW0 db0 dP dx new_W0 new_b0 new_L"
CONFIG = {
    "shape": (3, 3, 1),
    "layers": [
        {"kind": "Conv2D", "inputs": 1, "outputs": 1, "size": (2, 2), "stride": 1, "padding": "valid", "bias": True},
        {"kind": "ReLU"},
        {"kind": "Flatten"},
        {"kind": "Linear", "inputs": 4, "outputs": 1, "bias": True},
    ],
    "loss": {"kind": "SumSquaredError"},
    "l1": 0.0,
    "l2": 0.0,
    "penalize_biases": False,
}


@pytest.fixture
def page():
    return pages.arrays(PAGE)


def parameters(page):
    return {"0.W": page["W0"].reshape(2, 2, 1, 1), "0.b": page["b0"], "3.W": page["W3"], "3.b": page["b3"]}


def test_the_page_has_every_number(page):
    assert " ".join(page) == NAMES


def test_trace_and_one_step(page):
    layers = [xpnet.Conv2D(1, 1, size=2, padding="valid"), xpnet.ReLU(), xpnet.Flatten(), xpnet.Linear(4, 1)]
    net = xpnet.Network(layers, "sum_squared_error", dtype="float64", input_shape=(3, 3, 1))
    net.set_parameters(parameters(page))
    image = page["x"].reshape(1, 3, 3, 1)
    trace = net.trace(image, page["t"])
    for k in (0, 2, 3):
        assert_digits(np.squeeze(trace[k].y), np.squeeze(page[f"y{k}"]))
        assert_digits(np.squeeze(trace[k].delta), np.squeeze(page[f"delta{k}"]))
    assert_digits(np.squeeze(trace[0].dx), page["dx"])
    for k in (0, 3):
        assert_digits(np.squeeze(trace[k].gradients["W"]), np.squeeze(page[f"dW{k}"]))
        assert_digits(trace[k].gradients["b"], page[f"db{k}"])
    assert_digits(trace.loss, page["L"])
    net.fit(image, page["t"], optimizer=xpnet.SGD(0.01), epochs=1, batch_size=1, verbose=False)
    assert_digits(np.squeeze(net.parameters["0.W"]), page["new_W0"])
    assert_digits(net.parameters["0.b"], page["new_b0"])
    assert_digits(net.evaluate(image, page["t"])["loss"], page["new_L"])


def test_the_page_without_xpnet(page):
    params, x = parameters(page), page["x"].reshape(1, 3, 3, 1)
    windows = [page["x"][i : i + 2, j : j + 2].ravel() for i in range(2) for j in range(2)]
    assert_digits(page["P"], windows)
    assert_digits(page["dP"], np.outer(page["delta0"], page["W0"]))
    assert_digits(reference.objective(CONFIG, params, x, page["t"]), page["L"])
    grads = reference.gradients(CONFIG, params, x, page["t"])
    assert_digits(np.squeeze(grads["x"]), page["dx"])
    for name in ("0.W", "0.b", "3.W", "3.b"):
        assert_digits(np.squeeze(grads[name]), np.squeeze(page[f"d{name[2]}{name[0]}"]))
    for name in ("W", "b"):
        assert_digits(page[f"new_{name}0"], page[f"{name}0"] - 0.01 * page[f"d{name}0"])


def test_the_code_on_the_page_prints_what_it_says(page):
    (code,) = [text for language, label, text in pages.blocks(PAGE) if label == "run"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {name: value.tolist() for name, value in page.items()})
    numbers = np.array(printed.getvalue().replace("[", " ").replace("]", " ").split(), dtype=float)
    assert numbers[:9] == pytest.approx(page["dx"].ravel(), abs=1e-8)  # as NumPy prints arrays
    assert_digits(numbers[9], page["new_L"])
