"""What traces, findings, explanations, recorders, tables and pictures make of layers inside of layers."""

import re

import numpy as np
import pytest
from explained import run, variable
from nested import T, X, network

import xpnet
from xpnet import Activation, Linear, ReLU, Residual, Sequence, Tanh
from xpnet.inspection.explain import explain
from xpnet.layers.shapes import every_layer

PLACES = [
    *("0.0", "0.1.0", "0.1.1", "0.1.2", "0.1", "0.2", "0.shortcut.0", "0"),
    *("1.0.0.0", "1.0.0.1", "1.0.0", "1.0", "1.1", "1", "2.0", "2", "3"),
]
"""Of the network of these tests, in the order in which outputs are computed."""


def sine(xp, x):
    return xp.sin(x)


def cosine(xp, x):
    return xp.cos(x)


# ------------------------------------------------------------------------------------------------------- trace


def test_a_trace_has_the_layers_inside_in_the_order_of_their_outputs(backend):
    net = network(backend)
    trace = net.trace(X, T)
    assert [item.place for item in trace] == PLACES
    assert trace["0.1.0"].name == "0.1.0 Linear"
    assert trace[3] is trace["3"] is trace[-1]
    assert trace[1] is trace["1"]
    with pytest.raises(KeyError, match=r"no layer is at '0\.7'; places are 0\.0, 0\.1\.0"):
        trace["0.7"]
    _, gradients = net.gradients(X, T)
    for name, gradient in gradients.items():
        place, _, short = name.rpartition(".")
        np.testing.assert_array_equal(
            backend.to_numpy(trace[place].gradients[short]), backend.to_numpy(gradient), err_msg=name
        )
        np.testing.assert_array_equal(
            backend.to_numpy(trace[place].parameters[short]), backend.to_numpy(net.parameters[name])
        )
    assert trace["0"].parameters == trace["0"].gradients == {}
    assert trace["0.1"].y is trace["0.2"].x
    assert trace["0.shortcut.0"].x is trace["0.0"].x
    assert trace["0.shortcut.0"].delta is trace["0.2"].delta is trace["0"].delta
    total = backend.to_numpy(trace["1.0"].dx) + backend.to_numpy(trace["1"].delta)
    np.testing.assert_allclose(backend.to_numpy(trace["0"].delta), total, rtol=1e-6, atol=1e-9)


def test_a_printed_trace_reads_as_the_computation():
    lines = str(network().trace(X, T)).splitlines()
    assert "0.1.1 ReLU  y0_1_1 = maximum(y0_1_0, 0)" in lines
    assert "0 Residual  y0 = y0_2 + y0_shortcut_0" in lines
    assert "2 Residual  y2 = y2_0 + y1" in lines
    at = lines.index("0.1 Sequence  y0_1 = y0_1_2")
    assert lines[at + 1].startswith("0.2 Linear")  # its numbers stand above, at the last layer inside
    labels = [line.split("  ")[1] for line in lines if line.startswith("  ")]
    assert labels[1:4] == ["x", "y0_0", "delta0_0 = dL/dy0_0"]
    assert {"z = y0_1_0", "dW0_1_0", "db0_1_0", "dW0_shortcut_0", "y0", "delta0 = dL/dy0", "y0_2"} <= set(labels)
    assert labels.count("x") == 1


def test_findings_name_the_layer_inside():
    net = network(dropout=0.0)
    net.set_parameters({"0.1.0.b": np.full(6, -100.0)})
    sentence, _ = net.trace(X, T).findings
    assert sentence.startswith("Dead units: 6 of 6 units of layer 0.1.1 ReLU give 0 for all 40 samples")
    net = xpnet.Network([Linear(5, 4), Sequence([ReLU()]), Linear(4, 3)], "cross_entropy")
    net.set_parameters({"0.b": [-100.0, 0.0, 0.0, 0.0]})
    assert "Dead units: 1 of 4 units of layer 1.0 ReLU give 0" in net.trace(X, T).findings[0]  # not of layer 1 as well
    net = xpnet.Network([Linear(5, 4), Residual([Tanh(), Residual([Linear(4, 4)])]), Linear(4, 3)], "cross_entropy")
    net.set_parameters({"1.1.0.W": np.full((4, 4), 3e38)})
    (sentence,) = net.trace(X, T).findings
    assert sentence.startswith("Not finite: the output of layer 1.1.0 Linear is the first with NaN")


def test_findings_compare_the_deltas_of_the_first_and_the_last_parameters_inside():
    block = Sequence([Linear(5, 20), *[layer for _ in range(8) for layer in (xpnet.Sigmoid(), Linear(20, 20))]])
    net = xpnet.Network([block, Sequence([Linear(20, 3)])], "cross_entropy")
    (sentence,) = net.trace(X, T).findings
    assert re.search(r"Vanishing.* at layer 1\.0 Linear to .* at layer 0\.0 Linear", sentence)


# ----------------------------------------------------------------------------------------------------- explain


@pytest.mark.parametrize("first", [[], [Linear(5, 5)]])
def test_the_explanation_computes_the_gradients(first):
    wave = Activation(sine, cosine, name="wave")
    inner = Residual([wave, Linear(5, 4)], shortcut=[Linear(5, 4, bias=False)])
    layers = [
        *first,
        Residual([xpnet.Identity()]),
        Residual([xpnet.Softplus(), inner], shortcut=[Linear(5, 4)]),
        Sequence([Sequence([ReLU()]), Linear(4, 3)]),
        Residual([Tanh()]),
    ]
    net = xpnet.Network(layers, "huber", dtype="float64", l1=1e-3, l2=0.1)
    rng = np.random.default_rng(4)
    net.set_parameters({name: rng.normal(0.0, 0.7, a.shape) for name, a in net.parameters.items()})
    x, t, weight = X.astype(float), rng.normal(size=(40, 3)), rng.uniform(size=40)
    text = explain(net)
    names = run(net, text, x, t, weight / weight.sum())
    value, gradients = net.gradients(x, t, weight)
    assert names["L"] == pytest.approx(value, rel=1e-13)
    for name, gradient in gradients.items():
        found = names[f"d{variable(name)}"]
        np.testing.assert_allclose(found, gradient, rtol=1e-9, atol=1e-13 * np.abs(gradient).max())
    trace = net.trace(x, t, weight)
    for item in every_layer(net.layers, net.input_shape):
        y, delta = variable(f"{item.place}.y"), variable(f"{item.place}.delta")
        np.testing.assert_allclose(names[y], trace[item.place].y, rtol=1e-10, atol=1e-13)
        assert (delta in names) == item.reached  # no delta that nobody reads
        if item.reached:
            np.testing.assert_allclose(names[delta], trace[item.place].delta, rtol=1e-9, atol=1e-15)
    assert "dx" not in names
    assert "has no formula" not in text
    for line in text.splitlines():
        if not line.startswith("#"):
            equation, shapes = re.split(r"  +# ", line)
            assert str(np.shape(names[equation.split(" = ")[0]])) == shapes.replace("B", "40").split(" = ")[0]


def test_the_equations_of_ways():
    text = explain(network(l2=0.1))
    for line in (
        "y0_1_0 = y0_0 @ W0_1_0 + b0_1_0",
        "y0_1 = y0_1_2",
        "y0_shortcut_0 = x @ W0_shortcut_0",
        "y0 = y0_2 + y0_shortcut_0",
        "y2 = y2_0 + y1",
        "delta0_shortcut_0 = delta0",
        "dx1_0_0_0 = delta1_0_0_0 @ W1_0_0_0.T",
        "dx1_0_0 = dx1_0_0_0 + delta1_0_0",
        "dx1_0 = dx1_0_0",
        "delta0 = dx1_0 + delta1",
        "dW0_1_0 = dW0_1_0 + 0.1 * W0_1_0",
    ):
        assert f"\n{line}  " in text, line
    assert "delta0_0" not in explain(xpnet.Network([Residual([Tanh()], shortcut=[Linear(3, 3)])], "huber"))
    assert "# Layer 0.shortcut.0, Linear\n" in text
    assert "# m0_1_2 is 0 with probability 0.3 and else" in text
    assert "dx0" not in text


def test_the_explanation_of_normalisation_is_that_of_training():
    norms = [xpnet.BatchNorm(4), xpnet.LayerNorm(4), xpnet.RMSNorm(4)]
    layers = [Linear(5, 4), Residual([norms[0], Tanh(), norms[1]]), norms[2], Linear(4, 3)]
    net = xpnet.Network(layers, "huber", dtype="float64")
    rng = np.random.default_rng(5)
    net.set_parameters({name: rng.normal(size=a.shape) for name, a in net.parameters.items()})
    x, t = X.astype(float), rng.normal(size=(40, 3))
    text = explain(net)
    assert "# in training; outside of it mu1_0 and var1_0 are constants, the running mean and variance\n" in text
    assert text.count("# M counts the samples or, of images, the places of all samples\n") == 1
    names = run(net, text, x, t, np.full(40, 1 / 40))
    for name, gradient in net.gradients(x, t, training=True)[1].items():
        np.testing.assert_allclose(names[f"d{variable(name)}"], gradient, rtol=1e-9, atol=1e-12)


def test_the_same_numbers_in_another_shape_are_explained():
    layers = [xpnet.Reshape((5, 1, 1)), Tanh(), xpnet.Flatten(), Linear(5, 3)]
    net = xpnet.Network(layers, "huber", dtype="float64", input_shape=(5,))
    text = explain(net)
    assert re.search(r"\ny0 = reshape\(x, \(-1, 5, 1, 1\)\) +# \(B, 5, 1, 1\)\n", text)
    assert re.search(r"\ny2 = reshape\(y1, \(-1, 5\)\) +# \(B, 5\)\n", text)
    names = run(net, text, X.astype(float), np.ones((40, 3)), np.full(40, 1 / 40))
    gradient = net.gradients(X.astype(float), np.ones((40, 3)))[1]["3.W"]
    np.testing.assert_allclose(names["dW3"], gradient, rtol=1e-12)
    net = xpnet.Network([Linear(5, 6), xpnet.Reshape((3, 2)), xpnet.Flatten(), Linear(6, 3)], "huber")
    assert re.search(r"\ndelta1 = reshape\(delta2, \(-1, 3, 2\)\) +# \(B, 3, 2\)\n", explain(net))


def test_the_equations_of_images():
    layers = [xpnet.Conv2D(1, 4), xpnet.ReLU(), xpnet.MaxPool2D(2), xpnet.Conv2D(4, 8, bias=False), xpnet.Flatten()]
    net = xpnet.Network([*layers, Linear(72, 3)], "cross_entropy", input_shape=(6, 6, 1))
    text = explain(net)
    for equation, shape in {
        "y0 = P0 @ W0 + b0": "(B, M, 4) = (B, M, K) @ (K, 4) + (4,)",
        "y1 = maximum(y0, 0)": "(B, 6, 6, 4)",
        "y2 = max(P2, axis=2)": "(B, M, 4)",
        "y4 = reshape(y3, (-1, 72))": "(B, 72)",
        "delta3 = reshape(delta4, (-1, 3, 3, 8))": "(B, 3, 3, 8)",
        "delta2 = add_patches(dP3)": "(B, 3, 3, 4)",
    }.items():
        assert re.search(rf"\n{re.escape(equation)} +# {re.escape(shape)}\n", text), equation
    for sentence in ("# patches has a row for each of a sample's M windows", "# windows has the K places of each"):
        assert text.count(sentence) == 1
    assert "\n1 ReLU  y1 = maximum(y0, 0)\n" in str(net.trace(np.ones((2, 6, 6, 1)), [0, 1]))


def test_long_formulas_are_not_all_in_a_trace():
    lines = str(xpnet.Network([Linear(5, 3), xpnet.BatchNorm(3)], "huber").trace(X, np.zeros((40, 3)))).splitlines()
    assert "1 BatchNorm  y1 = gamma1 * (y0 - mu1) / s1 + beta1" in lines
    assert max(map(len, lines)) <= 96


def test_a_residual_of_ones_own_explains_itself():
    class Halved(Residual):
        def forward(self, xp, params, x, context=None):
            """Half of it.

            y = (f(x) + s(x)) / 2          (B, O)     (1)
            """

        def backward(self, xp, params, cache, dy, context=None, need_dx=True):
            """No formula."""

    text = explain(xpnet.Network([Linear(5, 3), Halved([Tanh()])], "huber"))
    assert "\ny1 = (f(y0) + s(y0)) / 2  " in text
    assert "# delta0 is computed by Halved, whose docstring has no formula" in text


def test_markdown_and_latex_of_layers_inside():
    net = network()
    for format in ("markdown", "latex"):
        text = explain(net, format)
        assert r"\frac{\partial L}{\partial W_{0.\mathrm{shortcut}.0}}" in text
        assert r"y_{0.2} + y_{0.\mathrm{shortcut}.0}" in text
        assert r"\delta_{0.1.1}" in text
        assert r"\frac{\partial L}{\partial x_{1.0.0.0}}" in text
        assert "$m_{0.1.2}$ is 0 with probability 0.3" in text
        assert text.count("{") == text.count("}")
        assert not re.search(r"(?<!\\)\b(delta|dW|db|dx)\d", text)
    assert "**Layer 0.1.0, Linear**" in explain(net, "markdown")
    assert r"\paragraph{Layer 0.1.0, Linear}" in explain(net, "latex")


def test_names_from_a_file_are_shown_as_they_are(tmp_path):
    name = "<script>alert(1)</script> [a](b) $x$ *_|`\\ \\input{/f} x is "
    layers = [Linear(5, 3), Sequence([Activation(sine, cosine, name=name)])]
    xpnet.Network(layers, "huber").save(tmp_path / "f")
    net = xpnet.load(tmp_path / "f", classes=[sine, cosine])
    text = explain(net, "markdown")
    assert "<" not in text.replace(r"\left", "")
    assert r"'&lt;script&gt;alert(1)&lt;/script&gt; \[a\](b) \$x\$ \*\_\|\`\\\\" in text
    assert repr(name) in explain(net)
    tex = explain(net, "latex")
    assert r"\$x\$ *\_|`\textbackslash{}\textbackslash{}" in tex
    assert r"\input" not in tex.replace(r"\textbackslash{}\textbackslash{}input\{/f\}", "")
    assert r"\\input\{/f\}" in text
    assert text.replace(r"\$", "").count("$") % 2 == tex.replace(r"\$", "").count("$") % 2 == 0
    for page in (net._repr_html_(), net.trace(X, np.zeros((40, 3)))._repr_html_()):
        assert "<script>" not in page


# ---------------------------------------------------------------------------------------------------- recorder


def test_a_recorder_has_the_quantities_of_layers_inside(training_backend):
    net, recorder = network(training_backend, dtype="float64"), xpnet.Recorder(2, parameters=True)
    net.fit(X.astype(float), T, epochs=3, batch_size=40, shuffle=False, callbacks=[recorder], verbose=False)
    assert {"0.1.0.W", "0.1.0.dW", "0.shortcut.0.dW", "1.0.0.1.delta", "2.0.y"} <= set(recorder.names)
    assert not {"0.0.delta", "0.1.1.W", "0.W", "0.0.W", "0.shortcut.0.b"} & set(recorder.names)
    for r in range(2):
        trace = recorder.network(r).trace(X.astype(float), T, training=True, step=2 * r)
        for name in recorder:
            place, _, short = name.rpartition(".")
            item = trace[place]
            arrays = {"y": item.y, "delta": item.delta, **item.parameters}
            arrays |= {f"d{p}": gradient for p, gradient in item.gradients.items()}
            a = training_backend.to_numpy(arrays[short])
            np.testing.assert_allclose(
                recorder[name].rms[r], np.sqrt(np.mean(a**2)), rtol=1e-9, atol=1e-12, err_msg=name
            )
    assert recorder.parameters("0.1.0.W").shape == (2, 5, 6)
    assert np.isfinite(recorder.update_ratio("0.shortcut.0.W")).all()


# ---------------------------------------------------------------------------------------- tables and pictures


def test_layers_inside_stand_under_theirs_in_the_table():
    assert network().summary().splitlines()[:9] == [
        "layer                         output  parameters",
        "0               Residual      (B, 4)          84",
        "  0.0             Tanh        (B, 5)           0",
        "  0.1             Sequence    (B, 6)          36",
        "    0.1.0           Linear    (B, 6)          36",
        "    0.1.1           ReLU      (B, 6)           0",
        "    0.1.2           Dropout   (B, 6)           0",
        "  0.2             Linear      (B, 4)          28",
        "  0.shortcut.0    Linear      (B, 4)          20",
    ]
    page = network()._repr_html_()
    assert page.count("<tr>") == 1 + len(PLACES)
    assert "Linear(inputs=5, outputs=6" in page
    assert ">Residual<" in page


def test_pictures_of_layers_inside():
    pytest.importorskip("matplotlib", reason="pictures need matplotlib").use("agg")
    from xpnet import plots

    net, recorder = network(), xpnet.Recorder(1, parameters=True)
    net.fit(X, T, epochs=2, callbacks=[recorder], verbose=False)
    assert plots.weights(net, "0.shortcut.0.W").get_title() == "0.shortcut.0.W: Linear of layer 0.shortcut.0"
    ticks = [label.get_text() for label in plots.delta_history(recorder).get_yticklabels()]
    assert "0.1.0 Linear" in ticks
    assert "0.0 Tanh" not in ticks  # no delta is computed there
    assert "1.0.0.0 Linear" in [label.get_text() for label in plots.delta_flow(net.trace(X, T)).get_xticklabels()]
    assert "0.1.0.W" in [line.get_label() for line in plots.update_ratios(recorder).get_lines()]
    plots.evolution(recorder, "0.1.0.W")
