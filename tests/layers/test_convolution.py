"""Convolutions against sums over indices, which know nothing of patches; and what they refuse."""

import importlib.util
import tracemalloc

import loops
import numpy as np
import pytest
from array_backends import EagerBackend
from numpy.testing import assert_allclose, assert_array_equal

import xpnet
from xpnet.backends.cpu.replay import Replay
from xpnet.backends.numpy import NumpyBackend
from xpnet.errors import ConfigError, ShapeError
from xpnet.layers import patches

CASES = [  # a sample's shape, outputs, and the hyper-parameters: sizes all different, strides that leave a rest
    ((5, 4, 2), 3, {"size": (3, 2), "stride": (2, 1)}),
    ((5, 4, 2), 3, {"size": (3, 2), "stride": (2, 1), "padding": "valid"}),
    ((6, 5, 1), 2, {"size": 3, "stride": 2, "padding": "valid"}),  # the last row is seen by no window
    ((5, 6, 3), 2, {"size": 2}),  # an even size: the zeros are at the end
    ((5, 7, 1), 2, {"size": 4}),
    ((5, 4, 2), 1, {"size": 3, "padding": 2, "bias": False}),
    ((4, 5, 2), 2, {"size": (2, 3), "padding": (0, 1), "stride": (3, 2)}),
    ((3, 4, 2), 3, {"size": 1}),
    ((3, 4, 2), 3, {"size": 1, "stride": 2, "padding": 1}),
    ((1, 1, 1), 1, {"size": 3}),
    ((1, 1, 1), 1, {"size": 1}),
    ((2, 3, 1), 2, {"size": 5, "padding": 3}),
    ((4, 1, 1), 2, {"size": 3, "stride": 3, "padding": 2}),
    ((4, 4, 3), 2, {"size": 4, "padding": "valid"}),  # one window
    ((7, 2), 3, {"size": 3}),
    ((8, 2), 3, {"size": 3, "stride": 2, "padding": "valid"}),
    ((5, 1), 1, {"size": 2, "stride": 3}),
    ((6, 3), 2, {"size": 4, "padding": 1, "bias": False}),
]


def layer_of(shape, outputs, options):
    return (xpnet.Conv2D if len(shape) == 3 else xpnet.Conv1D)(shape[-1], outputs, **options)


def label(value):
    return str(value).replace(" ", "")


@pytest.fixture(params=[1, 3])
def rows(request):
    return request.param


@pytest.mark.parametrize(("shape", "outputs", "options"), CASES, ids=label)
@pytest.mark.parametrize("at_once", [2**18, 1])  # all samples in one block, or each by itself
@pytest.mark.parametrize("few", [9, 0])  # patches of whole windows, or of their rows
def test_convolution_is_the_sum_over_indices(shape, outputs, options, rows, at_once, few, monkeypatch):
    monkeypatch.setattr(patches, "FEW", few)
    context = xpnet.Context(at_once=at_once)
    layer, rng, xp = layer_of(shape, outputs, options), np.random.default_rng(1), xpnet.backends.get("numpy").xp
    x = rng.normal(size=(rows, *shape))
    params = {name: rng.normal(size=s) for name, s in layer.parameter_shapes().items()}
    stride, padding = options.get("stride", 1), options.get("padding", "same")
    y, cache = layer.forward(xp, params, x, context)
    assert y.shape[1:] == layer.output_shape(shape)
    assert_allclose(y, loops.convolve(x, params["W"], params.get("b"), stride, padding), rtol=0, atol=1e-13)
    dy = rng.normal(size=y.shape)
    dx, grads = layer.backward(xp, params, cache, dy, context)
    want_dx, dW, db = loops.convolve_back(x, params["W"], dy, stride, padding)
    assert_allclose(dx, want_dx, rtol=0, atol=1e-13)
    assert_allclose(grads["W"], dW, rtol=0, atol=1e-13)
    assert ("b" in grads) == layer.bias
    if layer.bias:
        assert_allclose(grads["b"], db, rtol=0, atol=1e-13)


def test_it_is_a_cross_correlation():
    """An impulse shows the weights turned round; the convolution of mathematics would show them as they are."""
    x = np.zeros((1, 3, 3, 1))
    x[0, 1, 1, 0] = 1.0
    W = np.asarray([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
    layer = xpnet.Conv2D(1, 1, size=2, padding="valid", bias=False)
    y, _ = layer.forward(xpnet.backends.get("numpy").xp, {"W": W}, x)
    assert_array_equal(y[0, :, :, 0], [[4.0, 3.0], [2.0, 1.0]])


def test_even_sizes_have_the_zeros_at_the_end():
    x = np.arange(1.0, 6.0).reshape(1, 5, 1)
    for size, sums in ((2, [3, 5, 7, 9, 5]), (4, [6, 10, 14, 12, 9])):  # one before and two after, for a size of 4
        layer = xpnet.Conv1D(1, 1, size=size, bias=False)
        y, _ = layer.forward(xpnet.backends.get("numpy").xp, {"W": np.ones((size, 1, 1))}, x)
        assert_array_equal(y[0, :, 0], sums)


@pytest.mark.parametrize(
    ("layer", "shape", "after"),
    [
        (xpnet.Conv2D(3, 8), (28, 31, 3), (28, 31, 8)),
        (xpnet.Conv2D(3, 8, stride=2), (28, 31, 3), (14, 16, 8)),
        (xpnet.Conv2D(3, 8, stride=2, padding="valid"), (28, 31, 3), (13, 15, 8)),
        (xpnet.Conv2D(3, 8, size=5, padding=2), (28, 31, 3), (28, 31, 8)),
        (xpnet.Conv2D(3, 8, size=(5, 3), stride=(1, 4), padding=(1, 0)), (28, 31, 3), (26, 8, 8)),
        (xpnet.Conv1D(2, 4, size=8, stride=8), (100, 2), (13, 4)),
    ],
    ids=label,
)
def test_shapes(layer, shape, after):
    assert layer.output_shape(shape) == after


def test_fans_are_those_of_a_window():
    fans = []

    def law(rng, shape, fan_in, fan_out):
        fans.append((shape, fan_in, fan_out))
        return np.zeros(shape)

    rng = np.random.default_rng(0)
    xpnet.Conv2D(3, 8, size=(5, 2), weight_init=law, bias_init=law).init(rng)
    xpnet.Conv1D(3, 8, size=5, weight_init=law).init(rng)
    assert fans == [((5, 2, 3, 8), 30, 80), ((8,), 1, 8), ((5, 3, 8), 15, 40)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: xpnet.Conv2D(0, 3), r"Conv2D: inputs must be an integer >= 1, got 0"),
        (lambda: xpnet.Conv2D(3, 1.5), r"Conv2D: outputs must be an integer >= 1, got 1\.5"),
        (lambda: xpnet.Conv2D(3, 1, size=0), r"Conv2D: size must be an integer >= 1, got 0"),
        (lambda: xpnet.Conv2D(3, 1, size=(3, 3, 3)), r"Conv2D: size must be one integer or 2, one an axis, got \(3, 3"),
        (lambda: xpnet.Conv2D(3, 1, size=[3, 3]), r"Conv2D: size must be an integer >= 1, got \[3, 3\]"),
        (lambda: xpnet.Conv1D(3, 1, size=(3, 3)), r"Conv1D: size must be one integer or 1, one an axis, got \(3, 3\)"),
        (lambda: xpnet.Conv2D(3, 1, stride=0), r"Conv2D: stride must be an integer >= 1, got 0"),
        (lambda: xpnet.Conv2D(3, 1, stride=(1, -2)), r"Conv2D: stride must be an integer >= 1, got -2"),
        (lambda: xpnet.Conv2D(3, 1, padding=-1), r"Conv2D: padding must be an integer >= 0, got -1"),
        (lambda: xpnet.Conv2D(3, 1, padding=0.5), r"Conv2D: padding must be an integer >= 0, got 0\.5"),
        (lambda: xpnet.Conv2D(3, 1, padding="full"), r'Conv2D: padding must be "same", "valid" or a number .*\'full\''),
        (lambda: xpnet.Conv2D(3, 1, padding=("same", 1)), r"Conv2D: padding must be an integer >= 0, got 'same'"),
        (lambda: xpnet.Conv2D(3, 1, bias=1), r"Conv2D: bias must be True or False, got 1"),
        (lambda: xpnet.Conv2D(3, 1, weight_init="he"), r"unknown initializer 'he'"),
    ],
)
def test_impossible_hyperparameters(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (
            xpnet.Conv2D(1, 32),
            (784,),
            r"^Conv2D\(1, 32\) takes samples of shape \(H, W, 1\), got \(784,\): "
            r"put Reshape\(\(28, 28, 1\)\) before it$",
        ),
        (xpnet.Conv2D(3, 8), (3072,), r"got \(3072,\): put Reshape\(\(32, 32, 3\)\) before it$"),
        (xpnet.Conv2D(3, 8), (785,), r"takes samples of shape \(H, W, 3\), got \(785,\)$"),
        (xpnet.Conv2D(1, 8), (785,), r"takes samples of shape \(H, W, 1\), got \(785,\)$"),
        (xpnet.Conv2D(1, 8), (28, 28), r"\(H, W, 1\), got \(28, 28\): put Reshape\(\(28, 28, 1\)\) before it$"),
        (xpnet.Conv2D(3, 8), (28, 28), r"takes samples of shape \(H, W, 3\), got \(28, 28\)$"),
        (xpnet.Conv1D(1, 8), (28,), r"of shape \(L, 1\), got \(28,\): put Reshape\(\(28, 1\)\) before it$"),
        (xpnet.Conv2D(3, 8), (28, 28, 1), r"takes samples of shape \(H, W, 3\), got \(28, 28, 1\)$"),
        (xpnet.Conv1D(2, 8), (100,), r"^Conv1D\(2, 8\) takes samples of shape \(L, 2\), got \(100,\): put "
                                     r"Reshape\(\(50, 2\)\) before it$"),
        (xpnet.Conv2D(1, 8, size=5, padding="valid"), (4, 9, 1),
         r"^Conv2D\(1, 8\): a window of size \(5, 5\) is larger than the samples, of shape \(4, 9, 1\); make it s"),
        (xpnet.Conv2D(1, 8, size=5, padding=0), (9, 4, 1), r"of shape \(9, 4, 1\), with padding 0; make it smaller"),
        (xpnet.Conv1D(1, 8, size=9, padding=2), (4, 1), r"window of size \(9,\) is .* \(4, 1\), with padding 2;"),
    ],
)  # fmt: skip
def test_samples_that_do_not_fit(layer, shape, message):
    with pytest.raises(ShapeError, match=message):
        layer.output_shape(shape)
    with pytest.raises(ShapeError, match=message):
        layer.forward(np, {"W": np.zeros(layer.parameter_shapes()["W"])}, np.zeros((2, *shape)))


def test_no_samples_give_no_outputs():
    layer = xpnet.Conv2D(2, 3)
    params = {name: np.ones(shape) for name, shape in layer.parameter_shapes().items()}
    y, cache = layer.forward(np, params, np.zeros((0, 4, 5, 2)))
    assert y.shape == (0, 4, 5, 3)
    dx, grads = layer.backward(np, params, cache, y)
    assert dx.shape == (0, 4, 5, 2)
    assert not any(g.any() for g in grads.values())


class Blocks(NumpyBackend):
    """NumPy that has as little patience for patches as for memory."""

    at_once = 300


class EagerBlocks(EagerBackend):
    at_once = 300


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_step_in_blocks_has_the_same_bits_replayed_and_compiled(dtype, monkeypatch):
    """Five samples at a time make two blocks and a smaller one."""

    def trained(backend):
        layers = [
            *(xpnet.Conv2D(1, 6), xpnet.ReLU(), xpnet.MaxPool2D(size=3, stride=2)),
            *(xpnet.Conv2D(6, 3, stride=2), xpnet.AveragePool2D((1, 2), stride=1)),
            *(xpnet.Residual([xpnet.Conv2D(3, 3), xpnet.Tanh(), xpnet.Conv2D(3, 3)]), xpnet.GlobalAveragePool2D()),
            *(xpnet.Reshape((3, 1)), xpnet.Conv1D(1, 2, size=2), xpnet.MaxPool1D(), xpnet.Flatten()),
            xpnet.Linear(2, 3),
        ]
        rng = np.random.default_rng(0)
        x, t = rng.normal(size=(22, 7, 8, 1)).astype(dtype), rng.integers(0, 3, 22)
        net = xpnet.Network(layers, "cross_entropy", backend, dtype, seed=2, input_shape=(7, 8, 1))
        trainer = xpnet.Trainer(net, xpnet.Adam(0.01), x, t, batch_size=11)
        trainer.run(6)
        return net.theta, trainer._program(11)

    expected, _ = trained(EagerBlocks())
    monkeypatch.setattr(Replay, "patience", np.inf)
    replayed, program = trained(Blocks())
    assert isinstance(program, Replay)
    assert_array_equal(replayed, expected)
    if importlib.util.find_spec("llvmlite"):
        monkeypatch.setattr(Replay, "patience", 0.0)
        monkeypatch.setattr(Replay, "standstill", np.inf)
        compiled, program = trained(Blocks())
        assert program._whole is not None  # one call of machine code a step
        assert_array_equal(compiled, expected)


def test_memory_does_not_grow_with_the_batch():
    """Patches of 64 images would be 29 MB; beside x, y and dx themselves a few blocks of 1 MB are held."""
    layer, rng = xpnet.Conv2D(16, 4, size=5), np.random.default_rng(0)
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in layer.parameter_shapes().items()}
    x = np.zeros((64, 17, 17, 16), np.float32)
    tracemalloc.start()
    try:
        y, cache = layer.forward(np, params, x)
        layer.backward(np, params, cache, y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * x.nbytes + 2 * y.nbytes + 6 * 2**20
