"""`xpnet.check_gradients` on what users write: what is right passes, mistakes that hide behind it do not."""

from dataclasses import dataclass

import numpy as np
import pytest

import xpnet
from xpnet.layers import ACTIVATIONS

pytestmark = pytest.mark.gradcheck


# ------------------------------------------------------------------------------------------ right ones


@dataclass(frozen=True)
class BatchNorm(xpnet.Layer):
    features: int
    eps: float = 1e-5

    def init(self, rng):
        return {"gamma": np.ones(self.features), "beta": np.zeros(self.features)}

    def forward(self, xp, params, x, context=None):
        centred = x - xp.mean(x, axis=0)
        scale = 1.0 / xp.sqrt(xp.mean(centred**2, axis=0) + self.eps)
        return params["gamma"] * (centred * scale) + params["beta"], (centred * scale, scale)

    def backward(self, xp, params, cache, dy, context=None, need_dx=True):
        n, scale = cache
        dn = dy * params["gamma"]
        dx = scale * (dn - xp.mean(dn, axis=0) - n * xp.mean(dn * n, axis=0))
        return dx, {"gamma": xp.sum(dy * n, axis=0), "beta": xp.sum(dy, axis=0)}


class Forgetful(BatchNorm):
    """The batch's statistics depend on x, too: not here."""

    def backward(self, xp, params, cache, dy, context=None, need_dx=True):
        return cache[1] * dy * params["gamma"], super().backward(xp, params, cache, dy)[1]


@dataclass(frozen=True)
class Centre(xpnet.Layer):
    axis: int

    def forward(self, xp, params, x, context=None):
        return x - xp.mean(x, axis=self.axis, keepdims=True), None

    def backward(self, xp, params, cache, dy, context=None, need_dx=True):
        return dy - xp.mean(dy, axis=self.axis, keepdims=True), {}


def network(rng, normal, deep):
    """A random network: with normalisations, so that biases before them have the gradient zero; or sixteen sigmoids."""
    n = inputs = int(rng.integers(1, 6))
    layers = []
    for _ in range(16 if deep else int(rng.integers(1, 4))):
        layers.append(xpnet.Linear(n, n := int(rng.integers(2, 6))))
        layers += [[BatchNorm(n), Centre(0), Centre(1)][rng.integers(3)]] if normal else []
        layers.append(xpnet.Sigmoid() if deep else ACTIVATIONS[rng.choice(list(ACTIVATIONS))]())
    loss = str(rng.choice(["cross_entropy", "mean_squared_error", "huber"]))
    t = rng.integers(0, 3, 6) if loss == "cross_entropy" else rng.normal(size=(6, 3))
    return xpnet.Network([*layers, xpnet.Linear(n, 3)], loss, l2=float(rng.choice([0.0, 0.01]))), inputs, t


def alarms(report):
    rows = [row.describe() for part in (report, *report.parts) for row in part.arrays if row.verdict == "WRONG"]
    return [*rows, *(finding for part in (report, *report.parts) for finding in part.findings)]


@pytest.mark.parametrize("inputs", ["of size 1", "pixels"])
@pytest.mark.parametrize(
    ("kind", "seed"), [("plain", 0), *[("normal", seed) for seed in range(20)], *[("deep", seed) for seed in range(3)]]
)
def test_no_false_alarm(kind, inputs, seed):
    rng = np.random.default_rng([seed, 7])
    net, count, t = network(rng, kind == "normal", kind == "deep")
    x = rng.normal(size=(6, count)) if inputs == "of size 1" else np.floor(rng.uniform(0, 256, (6, count)))
    report = xpnet.check_gradients(net, x.astype("float32"), t, training=seed % 2 == 0)
    assert alarms(report) == []


@pytest.mark.parametrize("offset", [1e3, 1e4])
@pytest.mark.parametrize("seed", range(5))
def test_no_false_alarm_where_large_numbers_cancel_out(seed, offset):
    rng = np.random.default_rng([seed, 8])
    net, count, t = network(rng, normal=True, deep=False)
    assert alarms(xpnet.check_gradients(net, offset + rng.normal(size=(6, count)), t)) == []


def test_no_false_alarm_where_the_slope_bends_at_the_very_point():
    """ELU's second derivative jumps at 0, Huber's at its delta."""
    x = np.asarray([[0.0, 1.0], [-0.5, 1e-9]])
    assert xpnet.check_gradients(xpnet.ELU(), x).passed
    assert xpnet.check_gradients(xpnet.Huber(), x, np.zeros((2, 2))).passed


def test_a_mistake_is_found_where_large_numbers_cancel_out():
    x = 1e4 + np.random.default_rng(0).normal(size=(6, 3))
    assert xpnet.check_gradients(BatchNorm(3), x).passed
    assert not xpnet.check_gradients(Forgetful(3), x).passed


def test_a_gradient_that_is_zero_is_not_an_excuse_for_one_that_should_be():
    net = xpnet.Network([xpnet.Linear(2, 3), Forgetful(3), xpnet.Linear(3, 2)], "mean_squared_error")
    rng = np.random.default_rng(0)
    report = xpnet.check_gradients(net, rng.normal(size=(5, 2)), rng.normal(size=(5, 2)))
    assert [part.target for part in report.parts] == ["layer 1 (Forgetful)"]
    assert "d0.b" in report.failures[-1]


# ------------------------------------------------------------------------------------------ wrong ones


class Doubled(xpnet.Layer):
    def forward(self, xp, params, x, context=None):
        x *= 2.0
        return x, None

    def backward(self, xp, params, cache, dy, context=None, need_dx=True):
        return 2.0 * dy, {}


class Centred(xpnet.Layer):
    def forward(self, xp, params, x, context=None):
        x -= xp.mean(x, axis=1, keepdims=True)
        return x, None

    def backward(self, xp, params, cache, dy, context=None, need_dx=True):
        return dy - xp.mean(dy, axis=1, keepdims=True), {}


@pytest.mark.parametrize("layer", [Doubled(), Centred()])
def test_an_input_changed_in_place_is_named(layer):
    name = type(layer).__name__
    x = np.random.default_rng(0).normal(size=(4, 3))
    before = x.copy()
    assert f"{name}: x was changed in place." in xpnet.check_gradients(layer, x).failures
    for layers in (
        [layer, xpnet.Linear(3, 2)],
        [xpnet.Linear(3, 3), xpnet.ELU(), layer],
        [layer, layer, xpnet.Linear(3, 1)],
    ):
        net = xpnet.Network(layers, "mean_squared_error", dtype="float64")
        outputs = net.output_shape[0]
        report = xpnet.check_gradients(net, x, np.zeros((4, outputs)))
        assert any(f"({name}): x was changed in place." in failure for failure in report.failures)
    np.testing.assert_array_equal(x, before)


class Tanh(xpnet.Layer):
    def forward(self, xp, params, x, context=None):
        y = xp.tanh(x)
        return y, y


class CastBack(Tanh):
    def backward(self, xp, params, cache, dy, context=None, need_dx=True):
        return xp.astype(xp.astype(dy * (1 - cache * cache), xp.float32), xp.float64), {}


class CastInside(Tanh):
    def backward(self, xp, params, cache, dy, context=None, need_dx=True):
        return dy * xp.astype(xp.astype(1 - cache * cache, xp.float32), xp.float64), {}


def test_a_cast_to_float32_is_named():
    for layer, sentence in (
        (CastBack(), "CastBack: every number of dx is one of float32: it was cast on the way."),
        (CastInside(), "It is right to the precision of float32 alone: something in backward is cast to it."),
    ):
        failures = xpnet.check_gradients(layer).failures
        assert any(sentence in failure for failure in failures), failures


class Casts(xpnet.SumSquaredError):
    def __call__(self, xp, y, t, weight):
        value, dy = super().__call__(xp, y, t, weight)
        return value, xp.astype(dy, xp.float32)


class CastsBack(xpnet.SumSquaredError):
    def __call__(self, xp, y, t, weight):
        value, dy = super().__call__(xp, y, t, weight)
        return value, xp.astype(xp.astype(dy, xp.float32), xp.float64)


class Changes(xpnet.SumSquaredError):
    def __call__(self, xp, y, t, weight):
        y -= t
        return super().__call__(xp, y, 0.0, weight)


class ChangesTargets(xpnet.SumSquaredError):
    def __call__(self, xp, y, t, weight):
        t -= y
        return super().__call__(xp, 0.0 * y, t, weight)


class Ignores(xpnet.SumSquaredError):
    def __call__(self, xp, y, t, weight):
        return xp.mean((y - t) ** 2), 2.0 * (y - t) / (y.shape[0] * y.shape[1])


class Noise(xpnet.SumSquaredError):
    def __call__(self, xp, y, t, weight):
        value, dy = super().__call__(xp, y, t, weight)
        return value * (1.0 + 1e-9 * np.random.default_rng().normal()), dy


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        (Casts(), "Casts: dy is float32, though every argument is float64."),
        (CastsBack(), "CastsBack: every number of dy is one of float32: it was cast on the way."),
        (Changes(), "Changes: y was changed in place."),
        (ChangesTargets(), "ChangesTargets: t was changed in place."),
        (Ignores(), "Ignores: other weights of the samples give the same value and the same delta."),
        (Noise(), "Noise: forward gives another result at the second call with the same arrays: it has no derivative."),
    ],
)
def test_mistakes_of_losses_are_named(loss, sentence):
    rng = np.random.default_rng(1)
    y, t = rng.normal(size=(4, 2)), rng.normal(size=(4, 2))
    assert sentence in xpnet.check_gradients(loss, y, t).failures
    net = xpnet.Network([xpnet.Linear(3, 2)], loss)
    if not isinstance(loss, CastsBack):  # the weights 1/4 leave nothing to cast in a sum over two numbers
        assert sentence in xpnet.check_gradients(net, rng.normal(size=(4, 3)), t).failures


@pytest.mark.parametrize("weight", [None, [1.0, 1.0, 1.0, 1.0], [0.0, 3.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]])
@pytest.mark.parametrize("loss", ["mean_absolute_error", "sum_squared_error", "huber", "binary_cross_entropy"])
def test_round_numbers_are_no_mistake(loss, weight):
    """Weights, targets and outputs that float32 has, too."""
    y, t = np.array([[1.0], [-2.0], [0.5], [4.0]]), np.array([[1.0], [0.0], [0.0], [1.0]]) + 0.0
    loss = xpnet.losses.LOSSES[loss]()
    assert alarms(xpnet.check_gradients(loss, y + 0.25, t, sample_weight=weight)) == []
    assert alarms(xpnet.check_gradients(loss, y[:1] + 0.25, t[:1])) == []


def test_a_forward_pass_that_differs_from_call_to_call_is_named():
    class Random(xpnet.Layer):
        def forward(self, xp, params, x, context=None):
            keep = np.random.default_rng().random(x.shape) > 0.5
            return x * keep, keep

        def backward(self, xp, params, cache, dy, context=None, need_dx=True):
            return dy * cache, {}

    class Counts(Random):
        calls = 0

        def forward(self, xp, params, x, context=None):
            type(self).calls += 1
            return x * self.calls, self.calls

    class Noise(xpnet.Identity):
        def forward(self, xp, params, x, context=None):
            return x + 1e-9 * np.random.default_rng().normal(size=x.shape), None

    for layer in (Random(), Counts(), Noise()):
        name = type(layer).__name__
        sentence = (
            f"{name}: forward gives another result at the second call with the same arrays: it has no derivative."
        )
        assert xpnet.check_gradients(layer).failures == (sentence,)


def test_a_factor_next_to_one_is_written_out():
    class Nearly(Tanh):
        def backward(self, xp, params, cache, dy, context=None, need_dx=True):
            return 1.0000005 * dy * (1 - cache * cache), {}

    assert "It is 1.0000005 times the right one" in xpnet.check_gradients(Nearly()).failures[0]


def test_training_is_checked_as_training():
    class Unmasked(xpnet.Dropout):
        def backward(self, xp, params, cache, dy, context=None, need_dx=True):
            return dy, {}

    assert xpnet.check_gradients(Unmasked(0.5)).passed
    assert not xpnet.check_gradients(Unmasked(0.5), training=True).passed
    net = xpnet.Network([xpnet.Linear(3, 4), Unmasked(0.5), xpnet.Linear(4, 2)], "huber")
    batch = np.ones((4, 3)), np.ones((4, 2))
    assert xpnet.check_gradients(net, *batch).passed
    assert not xpnet.check_gradients(net, *batch, training=True).passed


def test_any_element_of_a_large_array_may_be_drawn():
    found = []
    for place in (0, 99):

        class Late(xpnet.Linear):
            def backward(self, xp, params, cache, dy, context=None, need_dx=True, place=place):
                dx, grads = super().backward(xp, params, cache, dy)
                W = xp.asarray(grads["W"], copy=True)
                W[place // 10, place % 10] += 1.0
                return dx, {**grads, "W": W}

        rows = [
            next(
                row for row in xpnet.check_gradients(Late(10, 10), max_elements=50, seed=seed).arrays if row.name == "W"
            )
            for seed in range(20)
        ]
        assert {row.checked for row in rows} == {50}
        found.append(sum(row.verdict == "WRONG" for row in rows))
    assert all(3 <= count <= 17 for count in found), found  # each seed draws it with probability 1/2
