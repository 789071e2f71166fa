"""`xpnet.check_gradients`: what is right passes, what is wrong is found and named."""

import contextlib
import dataclasses
import io
import re

import array_backends
import numpy as np
import pytest

import xpnet
import xpnet.layers
from xpnet.errors import ConfigError, GradientError

from . import devices, library, pages, strategies, strategies_normal
from .test_formulas import LAYERS, LOSSES, label, sample_shape

pytestmark = pytest.mark.gradcheck


def targets_for(loss, rng):
    if isinstance(loss, xpnet.CrossEntropy):
        return rng.integers(0, 3, 5)
    return rng.uniform(0, 1, (5, 3))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("layer", LAYERS, ids=label)
def test_every_layer_passes(layer, training, rng):
    x = rng.normal(0, 2, (6, *sample_shape(layer)))
    report = xpnet.check_gradients(layer, x, training=training, strict=True)
    assert report.passed
    assert [row.name for row in report.arrays] == ["x", *layer.parameter_shapes()]
    assert max(row.error for row in report.arrays) < 1e-9


@pytest.mark.parametrize("loss", LOSSES, ids=label)
def test_every_loss_passes(loss, rng):
    y = rng.normal(size=(5, 3 * loss.per_target))
    report = xpnet.check_gradients(loss, y, targets_for(loss, rng))
    assert report.passed
    assert [row.shape for row in report.arrays] == [y.shape]


@pytest.mark.parametrize("training", [False, True])
def test_no_false_alarm_on_random_networks(training):
    @strategies.architectures(part=0.1)
    def check(config):
        _, x, t, weight = strategies.numbers(config)
        net = library.build(config, dtype="float32" if config["seed"] % 2 else "float64")
        report = xpnet.check_gradients(net, x, t, sample_weight=weight, training=training, seed=config["seed"])
        assert not any("WRONG" in str(part) for part in (report, *report.parts)), report

    check()


def with_batch_norm(layer):
    """Return a layer whose normalisations are BatchNorm, with the eps that everybody uses."""
    if layer["kind"] == "Residual":
        return {**layer, "layers": [with_batch_norm(inner) for inner in layer["layers"]]}
    return {"kind": "BatchNorm", "features": layer["features"], "eps": 1e-5} if "features" in layer else layer


@pytest.mark.parametrize("training", [False, True])
def test_no_false_alarm_on_random_networks_of_images_with_batch_norm(training):
    """With the eps that everybody uses; `--architectures 20000` tries 300 networks."""

    @strategies.architectures(strategies_normal.images, part=0.015)
    def check(config):
        config = {**config, "layers": [with_batch_norm(layer) for layer in config["layers"]]}
        _, x, t, weight = strategies.numbers(config)
        net = library.build(config, dtype="float32" if config["seed"] % 2 else "float64")
        report = xpnet.check_gradients(net, x, t, sample_weight=weight, training=training, seed=config["seed"])
        assert not any("WRONG" in str(part) for part in (report, *report.parts)), report

    check()


@pytest.mark.parametrize("name", devices.NAMES)
def test_other_backends(name, rng):
    backend = devices.get(name)
    net = xpnet.mlp([3, 4, 2], "gelu", dropout=0.2, backend=backend, l1=0.01)
    assert xpnet.check_gradients(net, rng.normal(size=(4, 3)), [0, 1, 1, 0], training=True).passed
    assert xpnet.check_gradients(xpnet.Linear(3, 4), backend=backend).passed
    assert xpnet.check_gradients(xpnet.Huber(), np.ones((2, 2)), np.zeros((2, 2)), backend=backend).passed


def test_the_network_is_left_alone(rng):
    net = xpnet.mlp([3, 4, 2], seed=5)
    theta = net.theta.copy()
    assert xpnet.check_gradients(net, rng.normal(size=(4, 3)), [0, 1, 1, 0]).passed
    assert (net.theta == theta).all()
    assert net.dtype == net.theta.dtype == "float32"


# Mistakes, and what has to be said about each.


class Wrong(xpnet.Linear):
    """A Linear layer whose results `change` spoils."""

    @staticmethod
    def change(dx, grads, x, dy, params):
        return dx, grads

    def backward(self, xp, params, cache, dy, context=None, need_dx=True):
        dx, grads = super().backward(xp, params, cache, dy)
        return type(self).change(dx, grads, cache, dy, params)


def spoiled(change, size=3):
    return type("Mine", (Wrong,), {"change": staticmethod(change)})(size, size)


MISTAKES = {
    "It is the transpose": lambda dx, g, x, dy, p: (dx, {**g, "W": g["W"].T}),
    "It is right for W.T in the place of W": lambda dx, g, x, dy, p: (dy @ p["W"], g),
    "It is dy itself": lambda dx, g, x, dy, p: (dy, g),
    "It is only the Jacobian's diagonal": lambda dx, g, x, dy, p: (dy * np.diag(p["W"]), g),
    "Its sign is wrong": lambda dx, g, x, dy, p: (-dx, g),
    "It is 6 times too small, the number of rows: it is divided": lambda dx, g, x, dy, p: (dx, {**g, "b": g["b"] / 6}),
    "It is 6 times too large, the number of rows: a mean": lambda dx, g, x, dy, p: (dx, {**g, "W": g["W"] * 6}),
    "It is 1.5 times the right one": lambda dx, g, x, dy, p: (1.5 * dx, g),
    "It is zero everywhere": lambda dx, g, x, dy, p: (dx, {**g, "b": 0 * g["b"]}),
    "It is not finite": lambda dx, g, x, dy, p: (dx * np.nan, g),
    "Wrong are 3 of 18 elements: [5, 0], [5, 1], [5, 2].": lambda dx, g, x, dy, p: (
        dx * np.where(np.arange(6) < 5, 1, 0)[:, None],
        g,
    ),
    "dW has shape (3, 2), but W has shape (3, 3)": lambda dx, g, x, dy, p: (dx, {**g, "W": g["W"][:, :2]}),
    "dx has shape (5, 3), but x has shape (6, 3)": lambda dx, g, x, dy, p: (dx[:5], g),
    "db is float32": lambda dx, g, x, dy, p: (dx, {**g, "b": g["b"].astype("float32")}),
    "returns no gradient for the parameter 'b'": lambda dx, g, x, dy, p: (dx, {"W": g["W"]}),
    "returns a gradient for 'c', which is no parameter": lambda dx, g, x, dy, p: (dx, {**g, "c": g["b"]}),
    "returns no dx": lambda dx, g, x, dy, p: (None, g),
}


def test_the_honest_copy_passes():
    assert xpnet.check_gradients(spoiled(Wrong.change)).passed


@pytest.mark.parametrize("hint", MISTAKES)
def test_mistakes_are_named(hint):
    with np.errstate(invalid="ignore"):
        report = xpnet.check_gradients(spoiled(MISTAKES[hint]))
    assert not report.passed
    assert any(hint in failure for failure in report.failures), report
    assert str(report).splitlines()[-1 - len(report.failures)].startswith("FAILED")
    with pytest.raises(GradientError, match=re.escape(hint)):
        report.raise_if_failed()
    with pytest.raises(AssertionError, match="Mine"), np.errstate(invalid="ignore"):
        xpnet.check_gradients(spoiled(MISTAKES[hint]), strict=True)


def changes_dy(dx, g, x, dy, p):
    dy *= 2
    return dx, g


def test_changed_arguments_are_named():
    assert xpnet.check_gradients(spoiled(changes_dy)).failures[0] == "Mine: dy was changed in place."


def test_a_failure_names_layer_parameter_index_and_values(rng):
    def wrong_in_one_place(dx, grads, x, dy, params):
        W = grads["W"].copy()
        W[1, 2] += 1.0
        return dx, {**grads, "W": W}

    layer = spoiled(wrong_in_one_place)
    net = xpnet.Network([xpnet.Linear(2, 3), xpnet.Tanh(), layer], loss="sum_squared_error")
    report = xpnet.check_gradients(net, rng.normal(size=(4, 2)), rng.normal(size=(4, 3)))
    (part,) = report.parts
    (row,) = [row for row in part.arrays if row.verdict == "WRONG"]
    assert (row.owner, row.name, row.index) == ("layer 2 (Mine)", "W", (1, 2))
    assert row.analytic - row.numeric == pytest.approx(1.0, abs=1e-9)
    message = report.failures[0]
    for text in ("layer 2 (Mine)", "dW", "[1, 2]", f"{row.analytic:.12g}", f"{row.numeric:.12g}"):
        assert text in message
    assert report.failures[-1] == "So the network's d2.W are wrong, too."


def test_a_layer_that_remembers_its_input_is_found():
    class Remembers(xpnet.Tanh):
        def forward(self, xp, params, x, context=None):
            type(self).last = x
            return xp.tanh(x), None

        def backward(self, xp, params, cache, dy, context=None, need_dx=True):
            return dy * (1 - xp.tanh(self.last) ** 2), {}

    assert not xpnet.check_gradients(Remembers()).passed


def test_exceptions_in_backward(rng):
    class Raises(xpnet.Linear):
        def backward(self, xp, params, cache, dy, context=None, need_dx=True):
            return xp.matmul(dy, params["W"]), {}

    net = xpnet.Network([xpnet.Linear(2, 4), Raises(4, 3)], loss="cross_entropy")
    with pytest.raises(GradientError, match=r"layer 1 \(Raises\): backward raised ValueError for a delta of shape"):
        xpnet.check_gradients(net, rng.normal(size=(4, 2)), [0, 1, 2, 0])
    with pytest.raises(GradientError, match=r"must return the pair \(dx, {name: gradient}\), got NoneType"):
        xpnet.check_gradients(spoiled(lambda *args: None))


def test_findings_of_a_layer_in_a_network(rng):
    layer = spoiled(MISTAKES["returns no gradient for the parameter 'b'"])
    report = xpnet.check_gradients(xpnet.Network([layer], "cross_entropy"), rng.normal(size=(4, 3)), [0, 1, 2, 0])
    assert report.failures == ("layer 0 (Mine): backward returns no gradient for the parameter 'b'.",)
    assert not report.passed


def test_losses_that_are_wrong(rng):
    class Rows(xpnet.MeanSquaredError):
        def __call__(self, xp, y, t, weight):
            return weight * xp.sum((y - t) ** 2, axis=1), 2 * weight[:, None] * (y - t)

    class Forgets(xpnet.SumSquaredError):
        def __call__(self, xp, y, t, weight):
            value, dy = super().__call__(xp, y, t, weight)
            return value, dy / weight[:, None]

    y, t = rng.normal(size=(4, 2)), rng.normal(size=(4, 2))
    assert "the value has shape (4,)" in xpnet.check_gradients(Rows(), y, t).failures[0]
    assert "The samples' weights (1/B each) are missing" in xpnet.check_gradients(Forgets(), y, t).failures[0]


def test_kinks_are_skipped_and_counted():
    x = np.array([[0.0, 1.0, -1.0], [2e-6, -3e-7, 4e-8]])
    (row,) = xpnet.check_gradients(xpnet.ReLU(), x).arrays
    assert (row.checked, row.skipped, row.verdict) == (4, 2, "ok")  # 4e-8 is nearer than the smallest step
    report = xpnet.check_gradients(xpnet.ReLU(), np.zeros((2, 2)))
    assert not report.passed
    assert "incomplete" in str(report)
    assert "sit on kinks" in report.failures[0]
    net = xpnet.mlp([2, 4, 1], loss="mean_squared_error", dtype="float64")
    zeros = np.zeros((3, 2)), np.ones((3, 1))
    assert xpnet.check_gradients(net, *zeros).passed  # moved off the kinks
    rows = {row.name: row for row in xpnet.check_gradients(net, *zeros, jitter=0.0).arrays}
    assert rows["0.b"].skipped == 4
    assert rows["2.b"].verdict == "ok"


def test_a_kink_excuses_no_wrong_gradient():
    class Wrong(xpnet.ReLU):
        def backward(self, xp, params, cache, dy, context=None, need_dx=True):
            return dy * (cache > 0) * 1.01, {}

    (row,) = xpnet.check_gradients(Wrong(), np.array([[0.0, 1.0, 1e-6, -1.0]])).arrays
    assert row.verdict == "WRONG"
    assert row.skipped == 1


def test_sharp_bends_need_a_smaller_step():
    steep = xpnet.Activation(lambda xp, x: xp.tanh(300 * x), lambda xp, x: 300 / xp.cosh(300 * x) ** 2)
    assert xpnet.check_gradients(steep, np.linspace(-0.01, 0.01, 9)[:, None]).passed


def test_large_arrays_are_sampled_and_moved_as_a_whole(rng):
    report = xpnet.check_gradients(xpnet.Linear(30, 20), rng.normal(size=(2, 30)), max_elements=50)
    rows = [(row.name, row.checked, row.place == "direction") for row in report.arrays]
    assert rows == [("x", 50, False), ("x", 1, True), ("W", 50, False), ("W", 1, True), ("b", 20, False)]
    assert report.passed

    def wrong_somewhere(dx, grads, x, dy, params):
        W = grads["W"].copy()
        W[11, 13] *= 1.5  # one of 900, which is hardly among the sampled
        return dx, {**grads, "W": W}

    report = xpnet.check_gradients(spoiled(wrong_somewhere, 30), rng.normal(size=(3, 30)), max_elements=20)
    verdicts = [row.verdict for row in report.arrays if row.name == "W"]
    assert verdicts == ["ok", "WRONG"]


def test_what_it_does_not_take():
    for target in (lambda x: x, xpnet.ReLU, "relu", None):
        with pytest.raises(ConfigError, match="takes a Network, a Layer or a Loss"):
            xpnet.check_gradients(target)
    with pytest.raises(ConfigError, match="a network needs x and t"):
        xpnet.check_gradients(xpnet.mlp([2, 2]), [[1.0, 2.0]])
    with pytest.raises(ConfigError, match="MeanSquaredError needs t"):
        xpnet.check_gradients(xpnet.MeanSquaredError(), [[1.0]])
    with pytest.raises(ConfigError, match="Huber needs y"):
        xpnet.check_gradients(xpnet.Huber())


def test_a_forward_pass_that_is_not_finite():
    log = xpnet.Activation(lambda xp, x: xp.log(x), lambda xp, x: 1 / x, name="log")
    with np.errstate(all="ignore"):
        report = xpnet.check_gradients(log, [[1.0, -1.0]])
    assert report.failures == ("Activation 'log': the forward pass is not finite at this point.",)


def test_reports_are_plain_data():
    report = xpnet.check_gradients(xpnet.Tanh())
    assert dataclasses.is_dataclass(report)
    report.raise_if_failed()
    header, first = str(report).splitlines()[1:3]
    for heading in ("array", "shape", "checked", "skipped", "largest error", "at", "analytic", "numeric", "verdict"):
        assert heading in header
    assert first.endswith("ok")


def assert_prints(printed, expected):
    """Compare what a page says with what its code prints: of rows that are right, not where the rounding is largest."""
    printed, expected = printed.rstrip().splitlines(), expected.rstrip().splitlines()
    assert len(printed) == len(expected)
    for got, want in zip(printed, expected, strict=True):
        if want.endswith(" ok"):
            cut = [re.split(r"  +", line) for line in (got, want)]
            assert cut[0][:5] + cut[0][-1:] == cut[1][:5] + cut[1][-1:]
            assert float(cut[0][5]) < 1e-9
            continue
        number = r"-?\d+\.\d+(?:e-?\d+)?"
        assert re.sub(number, "#", got).split() == re.sub(number, "#", want).split()
        for a, b in zip(re.findall(number, got), re.findall(number, want), strict=True):
            assert float(a) == pytest.approx(float(b), rel=1e-7)


def test_tutorial():
    blocks = pages.blocks("tutorials/check_gradients.md")
    names, ran = {"__name__": "tutorial"}, 0
    for (language, kind, code), following in zip(blocks, [*blocks[1:], ("", "", "")], strict=True):
        if language != "python":
            assert language == "text"
            continue
        assert kind == "run"
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "check_gradients.md", "exec"), names)
        assert_prints(printed.getvalue(), following[2] if following[0] == "text" else "")
        ran += 1
    assert ran >= 9


def test_read_only_arrays():
    """A backend whose arrays cannot be written to is no obstacle."""
    assert xpnet.check_gradients(xpnet.Linear(2, 3), backend=array_backends.make("read-only")).passed


def test_what_a_second_call_gives():
    class Spends(xpnet.Tanh):
        def forward(self, xp, params, x, context=None):
            y = xp.tanh(x)
            return y, [y]

        def backward(self, xp, params, cache, dy, context=None, need_dx=True):
            y, cache[0] = cache[0], 0.0
            return dy * (1 - y * y), {}

    class Forgets(xpnet.Linear):
        def backward(self, xp, params, cache, dy, context=None, need_dx=True):
            dx, grads = super().backward(xp, params, cache, dy)
            return dx, grads if need_dx else {**grads, "b": 2 * grads["b"]}

    assert "dx is another one at the second call" in xpnet.check_gradients(Spends()).failures[0]
    assert xpnet.check_gradients(Forgets(2, 3)).failures == ("Forgets: db is another one if need_dx is false.",)
