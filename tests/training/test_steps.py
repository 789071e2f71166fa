"""One training step: the same numbers on every backend and however it is run, read back by nobody, without overflow."""

import warnings

import array_api_strict
import numpy as np
import problems
import pytest
from array_backends import DEVICES, EagerBackend, make
from numpy.testing import assert_allclose, assert_array_equal
from problems import classifier, flat

import xpnet
from xpnet.backends.cpu.replay import Replay


@pytest.fixture
def problem():
    return problems.line()


@pytest.fixture
def classes():
    return problems.three_classes()


# ----------------------------------------------------------------------------------------- the same everywhere

SINE = xpnet.Activation(lambda xp, x: xp.sin(x), lambda xp, x: xp.cos(x), name="sine")
EVERYTHING = [
    xpnet.Linear(3, 6), xpnet.ReLU(), xpnet.Linear(6, 5, bias=False), xpnet.LeakyReLU(0.1), xpnet.Dropout(0.2),
    xpnet.Linear(5, 6), xpnet.ELU(), xpnet.Linear(6, 6), xpnet.Sigmoid(), xpnet.Linear(6, 6), xpnet.Tanh(),
    xpnet.Linear(6, 6), xpnet.Softplus(), xpnet.Linear(6, 6), xpnet.SiLU(), xpnet.Linear(6, 6), xpnet.GELU(),
    xpnet.Linear(6, 6), xpnet.GELU("tanh"), xpnet.Identity(), SINE, xpnet.Softmax(), xpnet.Linear(6, 3),
]  # fmt: skip
RUNS = [
    (xpnet.SGD(0.05), "cross_entropy"),
    (xpnet.SGD(0.05, momentum=0.9, clip_value=0.1), "mean_squared_error"),
    (xpnet.SGD(0.05, momentum=0.9, nesterov=True, clip_norm=1.0), "sum_squared_error"),
    (xpnet.Adagrad(), "huber"),
    (xpnet.RMSProp(), "mean_absolute_error"),
    (xpnet.Adam(), "poisson"),
    (xpnet.AdamW(xpnet.schedules.CosineDecay(0.01, 10)), "binary_cross_entropy"),
    (xpnet.Adam(weight_decay=0.1, clip_norm=0.5), "cross_entropy"),
]


def everything(backend, optimizer, loss, dtype, weighted):
    """Train a network of every layer; return its parameters and curves."""
    rng = np.random.default_rng(8)
    x = rng.normal(size=(45, 3)).astype(dtype)
    t = rng.integers(0, 3, 45) if loss == "cross_entropy" else rng.integers(0, 2, (45, 3)).astype(dtype)
    net = xpnet.Network(EVERYTHING, loss, backend=backend, dtype=dtype, l1=1e-3, l2=1e-2, seed=6)
    history = net.fit(
        x, t, optimizer=optimizer, epochs=2, batch_size=8, validation_split=0.2, verbose=False,
        sample_weight=rng.uniform(size=45) if weighted else None, averaging=0.9 if weighted else None,
    )  # fmt: skip
    return flat(net), {name: curve for name, curve in history.to_numpy().items() if name != "seconds"}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("optimizer", "loss"), RUNS)
@pytest.mark.parametrize("name", DEVICES)
def test_training_is_the_same_on_every_backend(name, optimizer, loss, weighted):
    theta, curves = everything(make(name), optimizer, loss, "float64", weighted)
    expected, expected_curves = everything("numpy", optimizer, loss, "float64", weighted)
    assert np.isfinite(theta).all()
    assert_allclose(theta, expected, rtol=1e-9 if name == "cupy" else 1e-12, atol=1e-12)
    for curve, values in curves.items():
        assert_allclose(values, expected_curves[curve], rtol=1e-9 if name == "cupy" else 1e-12)


def assert_same_as_eager(optimizer, loss, dtype, weighted):
    theta, curves = everything("numpy", optimizer, loss, dtype, weighted)
    expected, expected_curves = everything(EagerBackend(), optimizer, loss, dtype, weighted)
    assert_array_equal(theta, expected)
    for curve, values in curves.items():
        assert_array_equal(values, expected_curves[curve])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("optimizer", "loss"), RUNS)
def test_a_replayed_step_is_the_eager_one_to_the_bit(monkeypatch, optimizer, loss, dtype, weighted):
    monkeypatch.setattr(Replay, "patience", float("inf"))
    assert_same_as_eager(optimizer, loss, dtype, weighted)


@pytest.mark.parametrize("k", range(len(RUNS)))
def test_a_step_of_machine_code_is_the_eager_one_to_the_bit(monkeypatch, k):
    pytest.importorskip("llvmlite")
    monkeypatch.setattr(Replay, "patience", -1.0)  # compile at once
    assert_same_as_eager(*RUNS[k], ("float32", "float64")[k % 2], weighted=k % 4 > 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_everything_stays_in_the_networks_data_type(training_backend, dtype):
    net = xpnet.Network(EVERYTHING, "cross_entropy", backend=training_backend, dtype=dtype)
    x, t = np.ones((10, 3), dtype=dtype), np.arange(10) % 3
    trainer = xpnet.Trainer(net, xpnet.AdamW(), x, t, batch_size=4, sample_weight=np.ones(10), averaging=0.9)
    trainer.run(5)
    own = {name: a.dtype for name, a in trainer.arrays.items()}
    for name in ("theta", "gradient", "scalars", "x", "weight", "average", "slot.m", "slot.v"):
        assert own[name] == getattr(training_backend.xp, dtype)


@pytest.mark.parametrize(("optimizer", "loss"), RUNS)
def test_a_step_reads_nothing_back_to_the_host(monkeypatch, optimizer, loss):
    """On a device each such look would stall; and a recorded step could not have it at all."""
    backend = make("device1")
    rng = np.random.default_rng(8)
    t = rng.integers(0, 3, 8) if loss == "cross_entropy" else rng.integers(0, 2, (8, 3)).astype(np.float32)
    net = xpnet.Network(EVERYTHING, loss, backend=backend, l1=1e-3, l2=1e-2)
    trainer = xpnet.Trainer(net, optimizer, np.ones((8, 3), dtype=np.float32), t, batch_size=4, averaging=0.5,
                            sample_weight=np.ones(8))  # fmt: skip
    trainer._begin_epoch()
    step = trainer.make_step(4)

    def look(self, *_):
        raise AssertionError("a value is read back to the host")

    array = type(backend.asarray(np.zeros(1)))
    assert array is array_api_strict._array_object.Array
    with monkeypatch.context() as patched:
        for name in ("__bool__", "__float__", "__int__", "__complex__", "__array__", "to_device", "__dlpack__"):
            patched.setattr(array, name, look)
        with pytest.raises(AssertionError, match="read back"):
            float(net.theta[0])
        before = net.theta[0, ...] if net.theta.ndim > 1 else net.theta + 0.0
        step(backend.xp, trainer.arrays)
    assert (backend.to_numpy(net.theta) != backend.to_numpy(before)).any()


OWN_LAYERS = {
    "looks at a value": (lambda xp, x: x if float(xp.max(x)) > 0 else -x, lambda xp, x: xp.ones_like(x)),
    "calls NumPy and methods": (lambda xp, x: x.clip(-1, 1), lambda xp, x: (np.abs(x) < 1) * 1.0),
    "positional axis": (lambda xp, x: x - xp.sum(x, 1)[:, None], lambda xp, x: xp.ones_like(x)),
    "negative indices": (lambda xp, x: x + xp.take(x, xp.asarray([-1, -2, 0, 1]), axis=1), lambda xp, x: 1.0 + 0.0 * x),
    "columns first": (lambda xp, x: x + xp.sum(xp.exp(x.T), axis=0)[:, None], lambda xp, x: xp.ones_like(x)),
    "powers": (lambda xp, x: x**3 + xp.abs(x) ** 0.5, lambda xp, x: 3 * x**2),
}


@pytest.mark.filterwarnings("default::xpnet.errors.NotRecordedWarning")
@pytest.mark.parametrize(("f", "df"), OWN_LAYERS.values(), ids=OWN_LAYERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_layer_of_ones_own_gives_the_same_bits_however_a_step_is_run(f, df, dtype):
    """What cannot be recorded, since it looks at values or calls NumPy itself, is run as it is written."""
    rng = np.random.default_rng(0)
    x, t = (rng.normal(size=(70, columns)).astype(dtype) for columns in (5, 1))
    thetas = []
    for backend in ("numpy", EagerBackend()):
        layers = [xpnet.Linear(5, 4), xpnet.Activation(f, df), xpnet.Linear(4, 1)]
        net = xpnet.Network(layers, "huber", backend, dtype)
        net.fit(x, t, epochs=3, batch_size=32, optimizer=xpnet.SGD(0.01), verbose=False)
        thetas.append(flat(net))
    assert_array_equal(*thetas)


def test_an_error_in_a_users_layer_comes_out_as_it_is(problem):
    def f(xp, x):
        raise LookupError("in my function")

    net = xpnet.Network([xpnet.Linear(2, 1), xpnet.Activation(f, f)], "huber", dtype="float64")
    before = flat(net)
    with pytest.raises(LookupError, match="in my function"):
        net.fit(*problem, epochs=1, batch_size=4, verbose=False)
    assert_array_equal(flat(net), before)


# ------------------------------------------------------------------------------ numbers that must not overflow


def test_sigmoid_and_softmax_do_not_overflow():
    xp = xpnet.backends.get("numpy").xp
    with np.errstate(all="raise", under="ignore"):
        x = np.asarray([[-1e4, 1e4, 0.0, -745.2, 710.0]], dtype=np.float64)
        y, cache = xpnet.Sigmoid().forward(xp, {}, x)
        assert_array_equal(y[0, :3], [0.0, 1.0, 0.5])
        assert np.isfinite(xpnet.Sigmoid().backward(xp, {}, cache, np.ones_like(x))[0]).all()
        y, cache = xpnet.Softmax().forward(xp, {}, x)
        assert_array_equal(y, [[0.0, 1.0, 0.0, 0.0, 0.0]])
        assert np.isfinite(xpnet.Softmax().backward(xp, {}, cache, np.ones_like(x))[0]).all()
        value, dy = xpnet.CrossEntropy()(xp, x, np.asarray([0]), np.ones(1))
        assert value == 2e4
        assert_array_equal(dy, [[-1.0, 1.0, 0.0, 0.0, 0.0]])
        value, _ = xpnet.BinaryCrossEntropy()(xp, x[:, :2], np.asarray([[1.0, 0.0]]), np.ones(1))
        assert value == 2e4


def test_training_gives_no_warning_of_numpy(classes):
    x, t = classes
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier(dtype="float32").fit((100 * x).astype(np.float32), t, epochs=2, verbose=False)


# ------------------------------------------------------------------------------------------------- the average


@pytest.mark.parametrize("averaging", [0.3, 0.9])
def test_the_average_of_the_parameters_follows_its_own_recursion(problem, averaging):
    """Its old share rises with the steps, (1 + t) / (10 + t), up to the one that is asked for."""
    x, t = problem
    net = xpnet.mlp([x.shape[1], 4, t.shape[1]], dtype="float64", loss="mean_squared_error", seed=1)
    trainer = xpnet.Trainer(net, xpnet.SGD(0.1), x, t, batch_size=max(1, len(x) // 3), averaging=averaging)
    average = flat(net).copy()
    for step in range(1, 13):
        trainer.run(1)
        average += (1.0 - min(averaging, (1.0 + step) / (10.0 + step))) * (flat(net) - average)
        assert_allclose(trainer.arrays["average"], average, rtol=1e-13, atol=1e-15)
