"""What a trace holds, prints and finds; what explain writes: it is executed and compared with the gradients."""

import re

import numpy as np
import pytest
from explained import run
from labels import label

import xpnet
from xpnet.inspection.explain import explain
from xpnet.inspection.latex import latex
from xpnet.inspection.numbers import Statistics, measure
from xpnet.inspection.trace import _percent

RNG = np.random.default_rng(7)
X = RNG.normal(size=(32, 5)).astype(np.float32)
CLASSES = RNG.integers(0, 3, 32)
HIDDEN = [
    *(xpnet.Linear(5, 8), xpnet.ReLU()),
    *(xpnet.Linear(8, 8), xpnet.GELU(), xpnet.Identity()),
    *(xpnet.Linear(8, 6, bias=False), xpnet.GELU(approximate="tanh"), xpnet.Dropout(0.25)),
    *(xpnet.Linear(6, 6), xpnet.LeakyReLU(0.2), xpnet.ELU(1.3), xpnet.SiLU(), xpnet.Softplus(), xpnet.Softmax()),
    *(xpnet.Linear(6, 3), xpnet.Sigmoid(), xpnet.Tanh()),
    xpnet.Linear(3, 3),
]
LOSSES = {
    xpnet.CrossEntropy(): np.eye(3)[CLASSES],
    xpnet.BinaryCrossEntropy(): RNG.integers(0, 2, (32, 3)),
    xpnet.MeanSquaredError(): RNG.normal(size=(32, 3)),
    xpnet.SumSquaredError(): RNG.normal(size=(32, 3)),
    xpnet.MeanAbsoluteError(): RNG.normal(size=(32, 3)),
    xpnet.Huber(0.7): RNG.normal(size=(32, 3)),
    xpnet.Quantile(): RNG.normal(size=(32, 1)),
    xpnet.Poisson(): RNG.integers(0, 4, (32, 3)),
}


def small(backend="numpy", **options):
    return xpnet.mlp([5, 8, 3], activation="tanh", backend=backend, seed=3, **options)


# --------------------------------------------------------------------------------------- statistics


def expected(a):
    """Return the statistics by another way, from the finite entries alone."""
    kept = a[np.isfinite(a)].astype(np.float64)
    rms = np.sqrt(np.mean(kept**2))
    return kept.mean(), kept.std(), rms, np.abs(kept).max(), np.mean(a == 0), np.mean(~np.isfinite(a))


@pytest.mark.parametrize("bad", [[], [np.nan], [np.inf, -np.inf, np.nan]])
def test_measure(backend, bad):
    a = RNG.normal(2.0, 3.0, (7, 11)).astype(np.float32)
    a[0, :4] = 0.0
    a[3, 2 : 2 + len(bad)] = bad
    numbers = backend.to_numpy(measure(backend.xp, backend.asarray(a)))
    np.testing.assert_allclose(numbers, expected(a), rtol=1e-12)


def test_measure_of_nothing_finite(backend):
    numbers = backend.to_numpy(measure(backend.xp, backend.asarray(np.full((2, 3), np.nan, np.float32))))
    assert Statistics(*numbers.tolist()) == Statistics(0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def test_a_full_array_has_no_share_of_nonfinite_entries():
    # 1 - count / size is not 0 for some sizes, if the division is done as a product
    for size in range(1, 400):
        assert measure(np, np.ones(size)).tolist() == [1.0, 0.0, 1.0, 1.0, 0.0, 0.0]


# -------------------------------------------------------------------------------------------- trace


def test_a_trace_has_the_deltas_and_the_gradients(backend):
    net = small(backend)
    trace = net.trace(X, CLASSES)
    loss, gradients = net.gradients(X, CLASSES)
    assert trace.loss == pytest.approx(loss)
    for name, gradient in gradients.items():
        k, short = name.split(".")
        got = backend.to_numpy(trace[int(k)].gradients[short])
        np.testing.assert_array_equal(got, backend.to_numpy(gradient))
    for before, after in zip(trace.layers, trace.layers[1:], strict=False):
        assert before.y is after.x
        assert before.delta is after.dx
    assert [item.name for item in trace] == ["0 Linear", "1 Tanh", "2 Linear"]
    assert len(trace) == 3


@pytest.mark.parametrize("penalties", [{"l1": 0.3}, {"l2": 0.7}, {"l1": 0.3, "l2": 0.7}], ids=str)
@pytest.mark.parametrize("biases", [False, True])
def test_the_loss_of_a_trace_is_the_objective(penalties, biases):
    net = small(dtype="float64", penalize_biases=biases, **penalties)
    net.set_parameters({"0.b": RNG.normal(size=8), "2.b": RNG.normal(size=3)})
    weight = RNG.uniform(0.5, 2.0, 32)
    loss = net.trace(X, CLASSES, weight).loss
    assert loss == net.gradients(X, CLASSES, weight)[0]
    penalized = [value for name, value in net.parameters.items() if biases or name.endswith("W")]
    expected = sum(penalties.get("l1", 0) * abs(a).sum() + penalties.get("l2", 0) / 2 * (a**2).sum() for a in penalized)
    assert loss - net.evaluate(X, CLASSES, weight)["loss"] == pytest.approx(expected, rel=1e-12)


def test_statistics_of_a_trace(backend):
    trace = small(backend).trace(X, CLASSES)
    for item, numbers in zip(trace, trace.statistics, strict=True):
        assert list(numbers) == ["x", "y", "delta", *(f"d{name}" for name in item.parameters)]
        arrays = {"x": item.x, "y": item.y, "delta": item.delta}
        arrays |= {f"d{name}": a for name, a in item.gradients.items()}
        for name, statistics in numbers.items():
            np.testing.assert_allclose(statistics, expected(backend.to_numpy(arrays[name])), rtol=1e-9, atol=1e-12)


def test_what_is_printed(backend):
    inputs = X * (np.arange(5) != 2)  # a fifth of the numbers are zeros
    trace = small(backend).trace(inputs, CLASSES)
    text = str(trace)
    lines = text.splitlines()
    assert lines[0].split() == ["shape", "mean", "spread", "largest", "zeros", "not", "finite"]
    labels = [line.split("  ")[1] for line in lines if line.startswith("  ")]
    assert [label for label in labels if label] == [
        *("x", "z = y0", "delta0 = dL/dy0", "dW0", "db0"),
        *("y1", "delta1 = dL/dy1"),
        *("y2", "delta2 = dL/dy2", "dW2", "db2"),
    ]
    assert "0 Linear  y0 = x @ W0 + b0" in lines
    assert "1 Tanh  y1 = tanh(y0)" in lines
    assert max(map(len, lines)) <= 96
    assert f"loss {trace.loss:.6g}" in lines
    assert lines[-1].startswith("Nothing is amiss")
    x = next(line for line in lines if line.startswith("  x "))
    sizes = [f"{number:.3g}" for number in (inputs.mean(), inputs.std(), np.abs(inputs).max())]
    assert x.split()[1:] == ["(32,", "5)", *sizes, "20%", "0%"]
    assert repr(trace) == f"<Trace of 3 layers, loss {trace.loss:.6g}>"
    assert "array" not in repr(trace[0])


def test_a_trace_names_things_as_the_explanation_does():
    sine = xpnet.Activation(lambda xp, x: np.sin(x), lambda xp, x: np.cos(x), name="sine")
    layers = [xpnet.Linear(5, 3), sine, xpnet.Softmax(), xpnet.Dropout(0.5), xpnet.Linear(3, 2), xpnet.SiLU()]
    net = xpnet.Network(layers, loss="mean_squared_error", dtype="float64")
    explained = explain(net).split("# Loss")[0].splitlines()
    for row in net.trace(X, np.zeros((32, 2))).rows:
        if len(row) == 2:
            for equation in row[1].split("; "):
                assert any(line.startswith(f"{equation}  ") for line in explained), equation


@pytest.mark.parametrize(("share", "text"), [(0, "0%"), (1e-6, "<1%"), (0.25, "25%"), (0.999, ">99%"), (1, "100%")])
def test_a_few_are_not_none(share, text):
    assert _percent(share) == text


def test_html_of_a_trace():
    page = small().trace(X, CLASSES)._repr_html_()
    assert page.count("<tr>") == page.count("</tr>") == 1 + 3 + 11
    assert "z = y0" in page
    cells = re.findall(r'<td( colspan="6")? style="text-align: (\w+); [^"]+">([^<]+)</td>', page)
    assert (' colspan="6"', "left", "y0 = x @ W0 + b0") in cells
    assert ("", "left", "delta2 = dL/dy2") in cells
    assert ("", "left", "(32, 3)") in cells
    assert {side for _, side, text in cells if text.endswith("%")} == {"right"}


def test_a_layer_without_a_formula_is_printed_too():
    class Half(xpnet.Layer):
        """Half of it."""

        def forward(self, xp, params, x, context=None):
            return 0.5 * x, None

        def backward(self, xp, params, cache, dy, context=None, need_dx=True):
            return 0.5 * dy, {}

    net = xpnet.Network([xpnet.Linear(5, 3), Half()], loss="mean_squared_error")
    assert "1 Half" in [line.strip() for line in str(net.trace(X, np.zeros((32, 3)))).splitlines()]
    assert "# y1 is computed by Half, whose docstring has no formula" in explain(net)
    assert "# delta0 is computed by Half, whose docstring has no formula" in explain(net)


# ----------------------------------------------------------------------------------------- findings


def kinds(trace):
    return [sentence.split(":")[0] for sentence in trace.findings]


def test_dead_units(backend):
    net = xpnet.mlp([5, 8, 3], activation="relu")
    net.set_parameters({"0.b": [-100, 0, 0, 100, -100, 0, 0, 0]})
    net = net.to(backend)
    trace = net.trace(X, CLASSES)
    assert kinds(trace) == ["Dead units"]
    assert "2 of 8 units of layer 1 ReLU give 0 for all 32 samples" in trace.findings[0]
    assert trace.findings[0] in " ".join(str(trace).split())
    assert max(map(len, str(trace).splitlines())) <= 96
    assert net.trace(X[:15], CLASSES[:15]).findings == ()  # so few samples may all be on one side


def test_dropped_units_are_not_dead():
    net = xpnet.Network([xpnet.Linear(5, 400), xpnet.Dropout(0.9), xpnet.Linear(400, 3)], loss="cross_entropy")
    assert net.trace(X[:16], CLASSES[:16], training=True).findings == ()


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_saturation(backend, activation):
    law = xpnet.initializers.normal(20.0)
    net = xpnet.Network(
        [xpnet.Linear(5, 8, weight_init=law), xpnet.layers.ACTIVATIONS[activation](), xpnet.Linear(8, 3)],
        loss="cross_entropy",
        backend=backend,
    )
    assert kinds(net.trace(X, CLASSES)) == ["Saturation"]
    assert re.search(rf"\d+% of the outputs of layer 1 {activation.title()} ", net.trace(X, CLASSES).findings[0])
    assert xpnet.mlp([5, 8, 3], activation=activation, backend=backend).trace(X, CLASSES).findings == ()


def test_saturated_is_where_the_slope_is_below_a_twentieth_of_the_largest():
    for layer, slope in ((xpnet.Tanh(), lambda y: 1 - y**2), (xpnet.Sigmoid(), lambda y: 4 * y * (1 - y))):
        # One unit just inside the bound, one just outside of it: half of the outputs are not more than half.
        points = np.linspace(0.0, 10.0, 100001)
        y = layer.forward(np, {}, points)[0]
        bound = points[np.argmax(slope(y) < 0.05)]
        net = xpnet.Network([xpnet.Linear(1, 3), layer], loss="mean_squared_error", dtype="float64")
        for values, found in (([1.001, 1.001, 0.999], True), ([1.001, 0.999, 0.999], False)):
            net.set_parameters({"0.W": np.zeros((1, 3)), "0.b": bound * np.asarray(values)})
            assert bool(net.trace(np.ones((20, 1)), np.zeros((20, 3))).findings) == found


def deep(**options):
    return xpnet.mlp([5, *[20] * 8, 3], dtype="float64", **options)


def test_vanishing_and_exploding_deltas():
    vanishing = deep(activation="sigmoid").trace(X, CLASSES)
    assert kinds(vanishing) == ["Vanishing deltas"]
    assert "at layer 16 Linear to " in vanishing.findings[0]
    exploding = deep(activation="leaky_relu", weight_init=xpnet.initializers.normal(1.5)).trace(X, CLASSES)
    assert kinds(exploding) == ["Exploding deltas"]
    assert deep(activation="leaky_relu").trace(X, CLASSES).findings == ()


def test_no_delta_at_all():
    net = xpnet.mlp([5, 8, 3], activation="relu")
    net.set_parameters({"0.b": np.full(8, -100.0)})
    trace = net.trace(X, CLASSES)
    assert kinds(trace) == ["Dead units", "Vanishing deltas"]
    assert "falls to nothing" in trace.findings[1]


def test_not_finite(backend):
    net = xpnet.mlp([5, 8, 3], backend=backend, weight_init=xpnet.initializers.normal(1e30))
    trace = net.trace(X, CLASSES)
    count = int((~np.isfinite(backend.to_numpy(trace[2].y))).sum())
    assert count > 10
    assert kinds(trace) == ["Not finite"]
    place = f"the output of layer 2 Linear is the first with NaN or infinities: {count} of its 96 entries"
    assert place in trace.findings[0]


def test_a_delta_that_is_not_finite():
    class Bad(xpnet.Layer):
        def forward(self, xp, params, x, context=None):
            return x, x

        def backward(self, xp, params, cache, dy, context=None, need_dx=True):
            return dy * np.where(np.arange(3) == 1, np.nan, 1.0), {}

    net = xpnet.Network([xpnet.Linear(5, 3), xpnet.Tanh(), Bad()], loss="mean_squared_error")
    (sentence,) = net.trace(X, np.zeros((32, 3))).findings
    assert "the delta of layer 1 Tanh is the first with NaN or infinities: 32 of its 96 entries" in sentence


# ------------------------------------------------------------------------------------------ explain


@pytest.mark.parametrize("loss", LOSSES, ids=label)
def test_the_explanation_computes_the_gradients(loss):
    sine = xpnet.Activation(lambda xp, x: xp.sin(x), lambda xp, x: xp.cos(x), name="sine")
    net = xpnet.Network([sine, *HIDDEN, sine], loss=loss, dtype="float64", l1=1e-3, l2=1e-5, seed=1)
    net.set_parameters({name: RNG.normal(0.0, 0.7, a.shape) for name, a in net.parameters.items()})
    weight, t = RNG.uniform(size=32), LOSSES[loss].astype(float)
    x = X.astype(np.float64)
    names = run(net, explain(net), x, t, weight / weight.sum())
    value, gradients = net.gradients(x, t, weight)
    assert names["L"] == pytest.approx(value, rel=1e-13)
    for name, gradient in gradients.items():
        k, short = name.split(".")
        np.testing.assert_allclose(names[f"d{short}{k}"], gradient, rtol=1e-9, atol=1e-13 * np.abs(gradient).max())
    trace = net.trace(x, t, weight)
    for k in range(1, len(net.layers)):
        np.testing.assert_allclose(names[f"y{k}"], trace[k].y, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(names[f"delta{k}"], trace[k].delta, rtol=1e-9, atol=1e-15)


def test_the_shapes_in_the_explanation_are_right():
    net = small(dtype="float64")
    text = explain(net)
    names = run(net, text, X, np.eye(3)[CLASSES], np.full(32, 1 / 32))
    checked = 0
    for line in text.splitlines():
        if not line.startswith("#"):
            equation, shapes = line.split("  # ")
            left = shapes.replace("B", "32").split(" = ")[0]
            assert str(np.shape(names[equation.split(" = ")[0]])) == left
            checked += 1
    assert checked == 14


def test_the_explanation_computes_no_delta_that_nobody_reads():
    assert "dx" not in explain(small())
    assert "\ndelta0 =" in explain(small())
    assert "\ndelta0 =" not in explain(xpnet.Network([xpnet.Tanh(), xpnet.Linear(5, 3)], loss="cross_entropy"))


LATEX = {
    "x @ W + b": r"x \, W + b",
    "dy * (y > 0)": r"dy \odot \left[y > 0\right]",
    "dy * ((y > 0) + (y <= 0) * a)": r"dy \odot \left(\left[y > 0\right] + \left[y \le 0\right] \odot a\right)",
    "(a + b) / c": r"\frac{a + b}{c}",
    "a - (b + c)": r"a - \left(b + c\right)",
    "a - b - c": r"a - b - c",
    "-(a + b) * c": r"\left(-\left(a + b\right)\right) \odot c",
    "2 * w * (y - t)": r"2 \, w \odot \left(y - t\right)",
    "x.T @ dy": r"x^{\top} \, dy",
    "(a @ b).T": r"\left(a \, b\right)^{\top}",
    "(a + b) ** 2": r"\left(a + b\right)^{2}",
    "sum(dy, axis=0)": r"\sum_{\text{samples}} dy",
    "sum(a, axis=1) - a": r"\left(\sum_{\text{outputs}} a\right) - a",
    "a - max(a, axis=1)": r"a - \max_{\text{outputs}} a",
    "sum(w * (a + b))": r"\sum w \odot \left(a + b\right)",
    "sum(a + b)": r"\sum\left(a + b\right)",
    "exp(-abs(x))": r"e^{-\left|x\right|}",
    "log1p(e) + expm1(e)": r"\log\left(1 + e\right) + \left(e^{e} - 1\right)",
    "maximum(x, 0)": r"\max\left(x, 0\right)",
    "sqrt(2 / pi) * x": r"\sqrt{\frac{2}{\pi}} \, x",
    "3 * 0.5 * x": r"3 \cdot 0.5 \, x",
    "1e-05 * x": r"1 \cdot 10^{-5} \, x",
    "f(xp, x)": r"\operatorname{f}\left(x\right)",
    "normal_cdf(x)": r"\Phi\left(x\right)",
    "x[0]": r"\texttt{x[0]}",
    "1.0 * (x > 0) - 1.0 * (x < 0)": r"\left[x > 0\right] - \left[x < 0\right]",
    "x * (x != 0)": r"x \odot \left[x \ne 0\right]",
    "x % x_2": r"\texttt{x \% x\_2}",
}


@pytest.mark.parametrize("expression", LATEX)
def test_latex(expression):
    assert latex(expression, {}) == LATEX[expression]


def test_markdown_and_latex():
    net = small(l2=1e-3)
    markdown, tex = explain(net, "markdown"), explain(net, "latex")
    equations = sum(not line.startswith("#") for line in explain(net).splitlines())
    assert markdown.count("$$") == 2 * equations
    assert tex.count("&=") + tex.count(r"&\leftarrow") == equations
    assert tex.count(r"\leftarrow") == markdown.count(r"\leftarrow") == 4  # a penalty adds to what is there already
    assert r"L &\leftarrow L + 0.0005 \, \left(\sum W_{0}^{2}\right)" in tex
    for text in (markdown, tex):
        assert r"\delta_{0}" in text
        assert r"\frac{\partial L}{\partial W_{0}}" in text
        assert r"\frac{\partial L}{\partial b_{2}}" in text
        assert text.count("{") == text.count("}")
        assert len(re.findall(r"\\left(?!arrow)", text)) == text.count(r"\right")
        assert not re.search(r"(?<!\\)\b(delta|dW|db)\d", text)
    assert r"\delta_{1} = \delta_{2} \, W_{2}^{\top}" in markdown
    assert tex.count(r"\begin{align*}") == tex.count(r"\end{align*}") == 9
    with pytest.raises(xpnet.errors.ConfigError, match=r"got 'latx'\. Did you mean 'latex'"):
        explain(net, "latx")


def test_the_explanation_says_what_its_names_mean():
    wave = xpnet.Activation(np.sin, np.cos, name="a_wave")
    net = xpnet.Network([xpnet.Linear(5, 3), wave, xpnet.Dropout(0.25)], loss="mean_squared_error")
    assert "# f1 is the function 'a_wave', and df1 is its derivative\n" in explain(net)
    assert "# m2 is 0 with probability 0.25 and else 1.333; outside of training 1\n" in explain(net)
    assert r"$f_{1}$ is the function 'a\_wave', and $f'_{1}$ is its derivative." in explain(net, "latex")
    assert "$m_{2}$ is 0 with probability 0.25 and else 1.333; outside of training 1." in explain(net, "markdown")


def test_a_mean_over_one_output_divides_by_nothing():
    net = xpnet.Network([xpnet.Linear(5, 1)], loss="mean_squared_error")
    assert "\nL = sum(w * (y0 - t) ** 2)  " in explain(net)
    assert "\ndelta0 = 2 * w * (y0 - t)  " in explain(net)


def test_latex_shows_names_as_they_are():
    class My_Half(xpnet.layers.Identity):
        """A name that LaTeX would trip over."""

    net = xpnet.Network([xpnet.Linear(5, 3), My_Half()], loss="mean_squared_error")
    assert r"\paragraph{Layer 1, My\_Half}" in explain(net, "latex")
    assert "**Layer 1, My_Half**" in explain(net, "markdown")


def test_html_of_a_network():
    net = small()
    page = net._repr_html_()
    assert page.count("<tr>") == 4
    cells = re.findall(r'text-align: (\w+); [^"]+">([^<]*)</td>', page)
    assert cells[2:4] == [("left", "(B, 8)"), ("right", "48")]
    assert page.endswith("<p>CrossEntropy; 75 parameters, 300 bytes in float32, on numpy</p>")
    named = xpnet.Network([xpnet.Linear(5, 3), xpnet.Activation(np.sin, np.cos, name="<b>")], loss="mean_squared_error")
    assert "Activation(name=&#x27;&lt;b&gt;&#x27;)</td>" in named._repr_html_()
    assert "<b>" not in named._repr_html_()


def test_a_network_explains_itself():
    net = small()
    assert net.explain() == explain(net)
    assert net.explain("latex") == explain(net, "latex") != net.explain("markdown")


def test_a_function_of_ones_own_is_named_as_it_was_named():
    sine = xpnet.Activation(lambda xp, x: xp.sin(x), lambda xp, x: xp.cos(x), name="sine")
    net = xpnet.Network([xpnet.Linear(2, 3), sine, xpnet.Linear(3, 1)], "huber")
    assert "1 Activation sine " in str(net.trace([[1.0, 2.0]], [[1.0]]))
