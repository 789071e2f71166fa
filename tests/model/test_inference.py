"""Using a network: labels, probabilities, values and scores, in any batches, with bad rows and extreme numbers."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import xpnet
from xpnet.errors import ConfigError, DataError, NonFiniteError, ShapeError
from xpnet.model.predict import rows_at_once


def identity(outputs, loss, backend="numpy", dtype="float64"):
    """Return a network whose output is its input."""
    net = xpnet.Network([xpnet.Linear(outputs, outputs, bias=False)], loss, backend=backend, dtype=dtype)
    value = np.eye(outputs)
    net.theta[...] = net.backend.asarray(value.reshape(-1).astype(dtype))
    return net


LOGITS = np.asarray([[1.0, 2.0, -1.0], [0.5, 0.0, 0.25], [0.0, 0.0, 3.0]])


# ---------------------------------------------------------------------------------------- what comes out


def test_labels_and_probabilities_of_classes(training_backend):
    net = identity(3, "cross_entropy", training_backend)
    labels, p = net.predict(LOGITS), net.predict_proba(LOGITS)
    assert type(labels) is type(p) is np.ndarray
    assert labels.tolist() == [1, 0, 2]
    assert labels.dtype == np.int64
    e = np.exp(LOGITS)
    assert_allclose(p, e / e.sum(axis=1, keepdims=True), rtol=1e-14)
    y = net.forward(LOGITS)
    assert net.backend.owns(y)
    assert_array_equal(net.backend.to_numpy(y), LOGITS)


def test_as_many_rows_are_computed_at_a_time_as_suit_the_network(monkeypatch):
    seeing = [xpnet.Conv2D(1, 32, padding="valid"), xpnet.Flatten(), xpnet.Linear(576 * 32, 2)]
    images = xpnet.Network(seeing, "cross_entropy", input_shape=(26, 26, 1))
    networks = {512: xpnet.mlp([9000, 40, 2]), 112: images, 64: xpnet.mlp([2, 100_000, 2])}
    networks |= {4096: xpnet.mlp([20, 300, 2]), 2096: xpnet.mlp([20, 1000, 2])}
    assert [rows_at_once(net, None) for net in networks.values()] == [*networks]
    assert rows_at_once(images, 7) == 7
    sizes = []
    monkeypatch.setattr(xpnet.Network, "output", lambda net, x: sizes.append(len(x)) or np.zeros((len(x), 2)))
    images.predict(np.zeros((200, 26, 26, 1)))
    images.predict(np.zeros((200, 26, 26, 1)), batch_size=150)
    assert sizes == [112, 88, 150, 50]


def test_one_yes_or_no(training_backend):
    net = identity(1, "binary_cross_entropy", training_backend)
    x = LOGITS[:, :1] - 0.25
    assert net.predict(x).tolist() == [1, 1, 0]
    p = net.predict_proba(x)
    assert p.shape == (3, 2)
    assert_allclose(p[:, 1], 1 / (1 + np.exp(-x[:, 0])), rtol=1e-14)
    assert_allclose(p.sum(axis=1), 1.0, rtol=1e-15)


def test_several_yes_or_nos(training_backend):
    net = identity(3, "binary_cross_entropy", training_backend)
    assert net.predict(LOGITS).tolist() == [[1, 1, 0], [1, 0, 1], [0, 0, 1]]
    assert_allclose(net.predict_proba(LOGITS), 1 / (1 + np.exp(-LOGITS)), rtol=1e-14)


@pytest.mark.parametrize("loss", ["mean_squared_error", "sum_squared_error", "mean_absolute_error", "huber"])
def test_values(training_backend, loss):
    net = identity(3, loss, training_backend)
    assert_array_equal(net.predict(LOGITS), LOGITS)
    with pytest.raises(
        ConfigError, match=r"predict_proba needs a classification loss, but the network has .*use predict"
    ):
        net.predict_proba(LOGITS)


def test_rates(training_backend):
    assert_allclose(identity(3, "poisson", training_backend).predict(LOGITS), np.exp(LOGITS), rtol=1e-14)


def test_scores(training_backend):
    weight = np.asarray([1.0, 2.0, 5.0])
    net = identity(3, "cross_entropy", training_backend)
    t = np.asarray([1, 1, 2])
    losses = -np.log(net.predict_proba(LOGITS)[np.arange(3), t])
    for w, expected in ((None, [losses.mean(), 2 / 3]), (weight, [(losses * weight).sum() / 8, 6 / 8])):
        for target in (t, np.eye(3)[t]):
            scores = net.evaluate(LOGITS, target, w)
            assert list(scores) == ["loss", "accuracy"]
            assert_allclose([*scores.values()], expected, rtol=1e-14)
            assert all(type(value) is float for value in scores.values())
    net = identity(3, "binary_cross_entropy", training_backend)
    t = np.asarray([[1, 1, 0], [1, 0, 0], [0, 0, 1]])
    assert net.evaluate(LOGITS, t)["accuracy"] == pytest.approx(2 / 3)
    net = identity(3, "mean_squared_error", training_backend)
    assert net.evaluate(LOGITS, LOGITS + 0.5) == {"loss": pytest.approx(0.25)}


def test_scores_leave_penalties_out():
    net = xpnet.mlp([3, 4, 3], l2=1.0, l1=1.0, dtype="float64")
    plain = xpnet.mlp([3, 4, 3], dtype="float64")
    assert net.evaluate(LOGITS, [0, 1, 2]) == plain.evaluate(LOGITS, [0, 1, 2])


# ---------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("batch_size", [1, 7, 16, 1000])
def test_the_batch_size_does_not_matter(training_backend, batch_size):
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(16, 3)), rng.integers(0, 4, 16)
    net = xpnet.mlp([3, 8, 4], "gelu", dropout=0.4, backend=training_backend, dtype="float64")
    assert_array_equal(net.predict(x, batch_size=batch_size), net.predict(x))
    assert_allclose(net.predict_proba(x, batch_size=batch_size), net.predict_proba(x), rtol=1e-13)
    for name, value in net.evaluate(x, t, np.arange(16.0), batch_size=batch_size).items():
        assert value == pytest.approx(net.evaluate(x, t, np.arange(16.0))[name], rel=1e-13)


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True, "7"])
@pytest.mark.parametrize("call", ["predict", "predict_proba", "evaluate"])
def test_impossible_batch_size(batch_size, call):
    net = identity(3, "cross_entropy")
    arguments = (LOGITS, [0, 1, 2]) if call == "evaluate" else (LOGITS,)
    with pytest.raises(ConfigError, match=r"batch_size must be an integer >= 1, got "):
        getattr(net, call)(*arguments, batch_size=batch_size)


def test_no_rows_give_no_rows(training_backend):
    x = np.zeros((0, 3), dtype=np.float32)
    for loss, labels in (("cross_entropy", (0,)), ("binary_cross_entropy", (0, 3))):
        net = identity(3, loss, training_backend, "float32")
        assert net.predict(x).shape == labels
        assert net.predict(x).dtype == np.int64
        assert net.predict_proba(x).shape == (0, 3)
        assert net.predict_proba(x).dtype == np.float32
        assert net.forward(x).shape == (0, 3)
    net = identity(1, "binary_cross_entropy", training_backend, "float32")
    assert net.predict(x[:, :1]).shape == (0,)
    assert net.predict_proba(x[:, :1]).shape == (0, 2)
    net = identity(3, "huber", training_backend, "float32")
    assert net.predict(x).shape == (0, 3)
    assert net.predict(x).dtype == np.float32
    with pytest.raises(DataError, match=r"0 sample\(s\) \(shape=\(0, 3\)\) while a minimum of 1 is required"):
        net.evaluate(x, x)


def test_the_wrong_number_of_features():
    net = identity(3, "cross_entropy")
    for call in (net.predict, net.predict_proba, net.forward):
        with pytest.raises(ShapeError, match=r"X has 1 features, but \w+ is expecting 3 features as input"):
            call(LOGITS[:, :1])


# -------------------------------------------------------------------------------------------------- bad rows


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_refused_or_marked(training_backend, value):
    x = np.concatenate([LOGITS, LOGITS])
    x[4, 1] = value
    good = [0, 1, 2, 3, 5]
    net = identity(3, "cross_entropy", training_backend)
    for call in (net.predict, net.predict_proba):
        with pytest.raises(DataError, match=r"x contains (NaN|inf): x\[4, 1\]"):
            call(x)
    labels = net.predict(x, allow_nonfinite=True)
    assert labels[4] == -1  # no label is taken from NaN
    assert_array_equal(labels[good], [1, 0, 2, 1, 2])
    p = net.predict_proba(x, allow_nonfinite=True)
    assert np.isnan(p[4]).any()
    assert_array_equal(p[good], net.predict_proba(x[good]))
    net = identity(3, "binary_cross_entropy", training_backend)
    assert net.predict(x, allow_nonfinite=True)[4].tolist() == [-1, -1, -1]
    net = identity(3, "huber", training_backend)
    y = net.predict(x, allow_nonfinite=True)
    assert not np.isfinite(y[4]).all()
    assert_array_equal(y[good], x[good])


def test_parameters_that_are_not_finite_are_noticed():
    net = identity(3, "cross_entropy")
    net.theta[0] = np.nan
    for call in (net.predict, net.predict_proba):
        with pytest.raises(
            NonFiniteError, match=r"output for row 0 is not finite though the input is.*net\.parameters"
        ):
            call(LOGITS)
    with pytest.raises(NonFiniteError, match=r"the network's output is not finite though the input is.*net\.state"):
        net.evaluate(LOGITS, np.zeros(len(LOGITS), int))


# -------------------------------------------------------------------------------------------- extreme numbers


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1e4, 1e30, 1e308])
def test_extreme_logits_give_probabilities(training_backend, dtype, size):
    if dtype == "float32":
        size = min(size, 3e38)
    x = np.asarray([[size, -size, 0.0], [-size, -size, -size], [size, size, -size], [0.0, -size, 1.0]])
    for loss in ("cross_entropy", "binary_cross_entropy"):
        net = identity(3, loss, training_backend, dtype)
        p = net.predict_proba(x.astype(dtype))
        assert p.dtype == np.dtype(dtype)
        assert np.isfinite(p).all()
        assert ((p >= 0) & (p <= 1)).all()
        if loss == "cross_entropy":
            assert np.abs(p.sum(axis=1) - 1).max() <= 4 * np.finfo(dtype).eps
            assert_allclose(p[:3], [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0]], rtol=1e-6)
        else:
            assert_array_equal(p[0], [1.0, 0.0, 0.5])


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_probabilities_sum_to_one(classes):
    x = 10 * np.random.default_rng(0).normal(size=(20, classes))
    for dtype in ("float32", "float64"):
        p = identity(classes, "cross_entropy", dtype=dtype).predict_proba(x.astype(dtype))
        assert np.abs(p.astype(float).sum(axis=1) - 1).max() <= 4 * np.finfo(dtype).eps
