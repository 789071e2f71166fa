"""What must hold between losses, layers and their deltas, whatever the numbers are."""

import numpy as np
import pytest
from labels import label

import xpnet

from . import library, strategies

pytestmark = pytest.mark.identities

xp = xpnet.backends.get("numpy").xp
EPS = np.finfo(float).eps


@pytest.fixture
def batch(rng):
    weight = rng.uniform(0.1, 1.0, 50)
    scales = np.logspace(-6, 3, 50)[:, None]
    return rng.normal(size=(50, 6)) * scales, rng.integers(0, 6, 50), weight / weight.sum()


def test_rows_of_the_cross_entropys_delta_sum_to_zero(batch, rng):
    y, classes, weight = batch
    for t in (classes, rng.dirichlet(np.ones(6), 50)):
        _, dy = xpnet.CrossEntropy()(xp, y, t, weight)
        assert (np.abs(dy.sum(axis=1)) <= 4 * EPS * 6 * weight).all()


def test_classes_are_one_hot_rows(batch):
    y, classes, weight = batch
    value, dy = xpnet.CrossEntropy()(xp, y, classes, weight)
    row_value, row_dy = xpnet.CrossEntropy()(xp, y, np.eye(6)[classes], weight)
    assert value == row_value
    assert (np.abs(dy - row_dy) <= EPS * weight[:, None]).all()


def test_two_classes_are_one_decision(batch):
    """Cross-entropy of the logits (0, y) is binary cross-entropy of y."""
    y, classes, weight = batch
    y, decision = y[:, :1], (classes % 2)[:, None].astype(float)
    value, dy = xpnet.BinaryCrossEntropy()(xp, y, decision, weight)
    two = np.concatenate([np.zeros_like(y), y], axis=1)
    two_value, two_dy = xpnet.CrossEntropy()(xp, two, classes % 2, weight)
    assert two_value == pytest.approx(value, rel=1e-14)
    assert np.abs(two_dy[:, 1:] - dy).max() <= 4 * EPS


def test_huber_far_and_near(batch, rng):
    y, _, weight = batch
    t = rng.normal(size=y.shape)
    square, square_dy = xpnet.MeanSquaredError()(xp, y, t, weight)
    value, dy = xpnet.Huber(1e9)(xp, y, t, weight)
    assert value == pytest.approx(square / 2, rel=1e-14)
    assert dy == pytest.approx(square_dy / 2, rel=1e-14)
    tiny = 1e-9
    absolute, absolute_dy = xpnet.MeanAbsoluteError()(xp, y, t, weight)
    value, dy = xpnet.Huber(tiny)(xp, y, t, weight)
    assert value / tiny == pytest.approx(absolute, rel=1e-8)
    assert dy / tiny == pytest.approx(absolute_dy, rel=1e-14)


def test_sum_is_outputs_times_mean(batch, rng):
    y, _, weight = batch
    t = rng.normal(size=y.shape)
    mean, total = (loss(xp, y, t, weight) for loss in (xpnet.MeanSquaredError(), xpnet.SumSquaredError()))
    assert total[0] == pytest.approx(6 * mean[0], rel=1e-14)
    assert total[1] == pytest.approx(6 * mean[1], rel=1e-14)


@pytest.mark.parametrize(
    "layer", [xpnet.Softplus(), xpnet.SiLU(), xpnet.GELU(), xpnet.GELU(approximate="tanh")], ids=label
)
def test_smooth_rectifiers_differ_from_their_mirror_image_by_x(layer, rng):
    x = rng.normal(0, 3, (100, 3))
    there, back = (layer.forward(xp, {}, side)[0] for side in (x, -x))
    assert np.abs(there - back - x).max() <= 8 * EPS * np.abs(x).max()


def test_softmax_ignores_a_shift(rng):
    x, dy = rng.normal(size=(5, 4)), rng.normal(size=(5, 4))
    y, cache = xpnet.Softmax().forward(xp, {}, x)
    assert np.abs(xpnet.Softmax().forward(xp, {}, x + 8.0)[0] - y).max() <= 16 * EPS
    dx, _ = xpnet.Softmax().backward(xp, {}, cache, dy)
    assert np.abs(dx.sum(axis=1)).max() <= 8 * EPS  # so the derivative along the shift is zero
    shifted, _ = xpnet.Softmax().backward(xp, {}, cache, dy + 1.0)
    assert np.abs(shifted - dx).max() <= 8 * EPS  # and a constant upstream delta adds nothing


@strategies.architectures(part=0.25)
def test_the_trace_is_the_backward_pass(config):
    """Each layer's dx is the delta before it, and the gradients are those of `gradients`, without penalties."""
    net = library.build({**config, "l1": 0.0, "l2": 0.0})
    _, x, t, weight = strategies.numbers(config)
    trace = net.trace(x, t, weight, training=True, step=library.STEP)
    value, grads = library.gradients(net, x, t, weight)
    assert trace.loss == value
    assert (trace[0].dx == grads["x"]).all()
    for k in range(len(trace)):
        if k:
            assert trace[k - 1].delta is trace[k].dx
            assert trace[k - 1].y is trace[k].x
        for name, g in trace[k].gradients.items():
            assert (g == grads[f"{k}.{name}"]).all()
