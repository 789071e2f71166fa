"""Pools against sums and maxima over indices, ties by closed form; and what pools, Flatten and Reshape refuse."""

import loops
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import xpnet
from xpnet.errors import ConfigError, ShapeError

xp = xpnet.backends.get("numpy").xp
CASES = [  # a sample's shape, size and stride
    ((4, 6, 2), 2, None),
    ((5, 7, 1), 2, None),  # a row and a column are left out
    ((7, 5, 2), 3, 2),  # overlapping windows
    ((6, 5, 2), (3, 2), (2, 1)),
    ((6, 8, 1), (1, 2), (2, 3)),  # rows and columns between the windows, which none sees
    ((4, 5, 2), (4, 5), None),
    ((1, 1, 1), 1, None),
    ((7, 2), 2, None),
    ((7, 1), 3, 1),
    ((3, 2), 1, 2),
]


def label(value):
    return str(value).replace(" ", "")


@pytest.mark.parametrize(("shape", "size", "stride"), CASES, ids=label)
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("kind", ["Max", "Average"])
def test_pool_is_what_the_loops_say(kind, shape, size, stride, rows):
    layer = getattr(xpnet, f"{kind}Pool{len(shape) - 1}D")(size, stride)
    forward, backward = {
        "Max": (loops.max_pool, loops.max_pool_back),
        "Average": (loops.average_pool, loops.average_pool_back),
    }[kind]
    rng = np.random.default_rng(2)
    x = rng.integers(0, 4, (rows, *shape)).astype(float)  # few values, so that many are equal
    y, cache = layer.forward(xp, {}, x)
    assert y.shape[1:] == layer.output_shape(shape)
    stride = size if stride is None else stride
    assert_allclose(y, forward(x, size, stride), rtol=0, atol=1e-15)
    dy = rng.normal(size=y.shape)
    dx, _ = layer.backward(xp, {}, cache, dy)
    assert_allclose(dx, backward(x, dy, size, stride), rtol=0, atol=1e-15)


def test_the_first_of_equal_maxima_gets_the_delta():
    """Behind a ReLU whole windows are zero."""
    x = np.asarray([[0.0, 0.0, 5.0, 1.0], [0.0, 0.0, 5.0, 5.0]]).reshape(1, 2, 4, 1)
    layer = xpnet.MaxPool2D()
    y, cache = layer.forward(xp, {}, x)
    assert_array_equal(y[0, :, :, 0], [[0.0, 5.0]])
    dx, _ = layer.backward(xp, {}, cache, np.asarray([7.0, 3.0]).reshape(1, 1, 2, 1))
    assert_array_equal(dx[0, :, :, 0], [[7.0, 0.0, 3.0, 0.0], [0.0, 0.0, 0.0, 0.0]])


def test_a_number_that_two_windows_have_gets_both_deltas():
    x = np.asarray([1.0, 9.0, 2.0, 0.0]).reshape(1, 4, 1)
    dy = np.asarray([10.0, 200.0, 3000.0]).reshape(1, 3, 1)
    layer = xpnet.MaxPool1D(size=2, stride=1)
    dx, _ = layer.backward(xp, {}, layer.forward(xp, {}, x)[1], dy)
    assert_array_equal(dx[0, :, 0], [0.0, 210.0, 3000.0, 0.0])
    layer = xpnet.AveragePool1D(size=2, stride=1)
    dx, _ = layer.backward(xp, {}, layer.forward(xp, {}, x)[1], dy)
    assert_array_equal(dx[0, :, 0], [5.0, 105.0, 1600.0, 1500.0])


@pytest.mark.parametrize("shape", [(3, 4, 2), (5, 3), (1, 1, 1)], ids=label)
def test_global_average_is_the_mean_of_each_channel(shape):
    rng, axes = np.random.default_rng(0), tuple(range(1, len(shape)))
    layer = getattr(xpnet, f"GlobalAveragePool{len(shape) - 1}D")()
    x, dy = rng.normal(size=(2, *shape)), rng.normal(size=(2, shape[-1]))
    y, cache = layer.forward(xp, {}, x)
    assert layer.output_shape(shape) == shape[-1:]
    assert_allclose(y, x.mean(axis=axes), rtol=0, atol=1e-15)
    dx, _ = layer.backward(xp, {}, cache, dy)
    assert dx.shape == x.shape
    assert_allclose(dx.reshape(2, -1, shape[-1]) - dy[:, None] / np.prod(shape[:-1]), 0.0, atol=1e-16)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: xpnet.MaxPool2D(0), r"MaxPool2D: size must be an integer >= 1, got 0"),
        (lambda: xpnet.MaxPool2D(2, stride=0), r"MaxPool2D: stride must be an integer >= 1, got 0"),
        (lambda: xpnet.AveragePool1D((2, 2)), r"AveragePool1D: size must be one integer or 1, one an axis, got \(2, 2"),
        (lambda: xpnet.AveragePool2D(2, stride=1.0), r"AveragePool2D: stride must be an integer >= 1, got 1\.0"),
        (lambda: xpnet.Reshape(4), r"Reshape: shape must be a tuple of integers such as \(28, 28, 1\), got 4"),
        (lambda: xpnet.Reshape(()), r"Reshape: shape must be a tuple of integers such as \(28, 28, 1\), got \(\)"),
        (lambda: xpnet.Reshape((4, -1)), r"Reshape: shape must be an integer >= 1, got -1"),
    ],
)
def test_impossible_hyperparameters(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (xpnet.MaxPool2D(), (6,), r"^MaxPool2D takes samples of shape \(H, W, C\), got \(6,\)$"),
        (
            xpnet.AveragePool1D(),
            (6,),
            r"^AveragePool1D takes .* \(L, C\), got \(6,\): put Reshape\(\(6, 1\)\) before it$",
        ),
        (
            xpnet.GlobalAveragePool2D(),
            (6, 4),
            r"^GlobalAveragePool2D takes .* \(H, W, C\), got \(6, 4\): put Reshape\(\(6, 4, 1\)\) before it$",
        ),
        (
            xpnet.MaxPool2D((2, 3)),
            (5, 2, 1),
            r"^MaxPool2D: a window of size \(2, 3\) is larger than the samples, of shape \(5, 2, 1\); make it smaller$",
        ),
        (xpnet.Reshape((2, 3)), (4, 2), r"^Reshape\(\(2, 3\)\) takes samples of 6 numbers, got shape \(4, 2\)$"),
    ],
)
def test_samples_that_do_not_fit(layer, shape, message):
    with pytest.raises(ShapeError, match=message):
        layer.output_shape(shape)
    with pytest.raises(ShapeError, match=message):
        layer.forward(xp, {}, np.zeros((2, *shape)))


def test_flatten_and_reshape_keep_the_order():
    x = np.arange(48.0).reshape(2, 2, 3, 4)
    rows = np.arange(48.0).reshape(2, 24)
    for layer, before, after in ((xpnet.Flatten(), x, rows), (xpnet.Reshape((2, 3, 4)), rows, x)):
        y, cache = layer.forward(xp, {}, before)
        assert_array_equal(y, after)
        assert_array_equal(layer.backward(xp, {}, cache, y)[0], before)
        assert layer.output_shape(before.shape[1:]) == after.shape[1:]
