"""Building a network, its parameters, its gradients, copies; and what construction refuses."""

import copy
import pickle
import re

import numpy as np
import pytest
from array_backends import EagerBackend
from elsewhere import Elsewhere
from numpy.testing import assert_allclose, assert_array_equal

import xpnet
from xpnet import initializers
from xpnet.errors import BackendMismatchError, ConfigError, DataError, DTypeError, OutOfMemoryError, ShapeError


def net_of(backend="numpy", **options):
    return xpnet.Network(
        [xpnet.Linear(3, 4), xpnet.Tanh(), xpnet.Linear(4, 2)],
        **{"loss": "cross_entropy", "backend": backend} | options,
    )


def host(net, mapping):
    return {name: net.backend.to_numpy(value).copy() for name, value in mapping.items()}


@pytest.fixture
def batch():
    rng = np.random.default_rng(1)
    return rng.normal(size=(6, 3)), rng.integers(0, 2, 6)


# ---------------------------------------------------------------------------------------------- construction


def test_mlp_is_linear_layers_with_activations_between():
    net = xpnet.mlp([5, 4, 3, 2], activation=["tanh", xpnet.LeakyReLU(0.2)], dropout=0.1, output_activation="softmax",
                    loss="mean_squared_error")  # fmt: skip
    assert [type(layer).__name__ for layer in net.layers] == [
        "Linear", "Tanh", "Dropout", "Linear", "LeakyReLU", "Dropout", "Linear", "Softmax",
    ]  # fmt: skip
    assert [layer.weight_init for layer in net.layers if isinstance(layer, xpnet.Linear)] == [
        "glorot_uniform", "he_normal", "glorot_uniform",
    ]  # fmt: skip
    assert (net.input_shape, net.output_shape) == ((5,), (2,))
    assert net.parameter_count == 5 * 4 + 4 + 4 * 3 + 3 + 3 * 2 + 2


def test_a_network_may_have_no_parameters():
    net = xpnet.Network([xpnet.Tanh()], "mean_squared_error", input_shape=(2,))
    x = np.asarray([[0.5, -1.0]], np.float32)
    assert net.parameter_count == 0
    assert net.gradients(x, x)[1] == {}
    np.testing.assert_array_equal(net.forward(x), np.tanh(x))


def test_mlp_without_biases_and_with_a_law_of_its_own():
    net = xpnet.mlp([5, 4, 2], bias=False, weight_init=initializers.normal(0.1))
    assert list(net.parameters) == ["0.W", "2.W"]
    assert 0.05 < np.std(net.parameters["0.W"]) < 0.2


def test_initial_weights_are_of_a_useful_size():
    """Not the 1e-4 with which a deep network starts on a plateau: activations keep their size through the layers."""
    net = xpnet.mlp([100] * 8 + [10], activation="relu", seed=0)
    x = np.random.default_rng(0).normal(size=(200, 100)).astype(np.float32)
    for item in net.trace(x, np.zeros(200, dtype=int)):
        if isinstance(item.layer, xpnet.Linear) and item.y.shape[1] == 100:
            assert 0.5 < float(np.std(item.y)) < 4.0
    assert not any(net.parameters[name].any() for name in net.parameters if name.endswith("b"))


def test_the_same_seed_gives_the_same_bits_on_every_backend(training_backend):
    here, there = net_of(seed=7), net_of(training_backend, seed=7)
    assert_array_equal(training_backend.to_numpy(there.theta), here.theta)
    assert not np.array_equal(net_of(seed=8).theta, here.theta)
    assert_array_equal(net_of(seed=7, dtype="float64").theta.astype(np.float32), here.theta)


def test_seed_none_draws_one_and_a_seed_sequence_serves():
    a, b = net_of(seed=None), net_of(seed=None)
    assert a.seed != b.seed
    assert_array_equal(net_of(seed=a.seed).theta, a.theta)
    one, two = (net_of(seed=np.random.SeedSequence(5)) for _ in range(2))
    assert_array_equal(one.theta, two.theta)


def test_one_layer_object_at_two_positions_has_two_sets_of_parameters(batch):
    layer = xpnet.Linear(3, 3)
    net = xpnet.Network([layer, xpnet.Tanh(), layer], loss="cross_entropy", dtype="float64")
    assert list(net.parameters) == ["0.W", "0.b", "2.W", "2.b"]
    assert not np.array_equal(net.parameters["0.W"], net.parameters["2.W"])
    separate = xpnet.Network([xpnet.Linear(3, 3), xpnet.Tanh(), xpnet.Linear(3, 3)], "cross_entropy", dtype="float64")
    for name, g in net.gradients(*batch)[1].items():
        assert_array_equal(g, separate.gradients(*batch)[1][name])


BAD_NETWORKS = [
    (lambda: xpnet.Network([], "huber"), ConfigError, r"layers is empty; a network needs at least one layer, e\.g\."),
    (lambda: xpnet.Network(xpnet.ReLU(), "huber"), ConfigError, r"layers must be a sequence of layers.*got ReLU\(\)"),
    (lambda: xpnet.Network("relu", "huber"), ConfigError, r"layers must be a sequence of layers.*got 'relu'"),
    (
        lambda: xpnet.Network([xpnet.Linear(2, 1), "relu"], "huber"),
        ConfigError,
        r"layers\[1\] must be a layer, got 'relu'",
    ),
    (lambda: xpnet.Network([xpnet.Linear(2, 1), xpnet.ReLU], "huber"), ConfigError, r"layers\[1\].*with parentheses"),
    (lambda: xpnet.Network([xpnet.ReLU()], "huber"), ConfigError, r"no layer says how many inputs.*xpnet\.Linear"),
    (lambda: xpnet.mlp([4]), ConfigError, r"sizes must be a sequence of at least two integers.*got \[4\]"),
    (lambda: xpnet.mlp("45"), ConfigError, r"sizes must be a sequence of at least two integers.*got '45'"),
    (
        lambda: xpnet.mlp([4, 3, 2], activation=["relu", "relu"]),
        ConfigError,
        r"activation has 2 entries.*1 hidden layers",
    ),
    (
        lambda: xpnet.mlp([4, 3, 2], activation="rellu"),
        ConfigError,
        r"unknown activation 'rellu'; names are identity, relu,.*[Dd]id you mean 'relu'\?",
    ),
    (
        lambda: xpnet.mlp([4, 3, 2], output_activation="softmx", loss="huber"),
        ConfigError,
        r"unknown activation 'softmx'.*'softmax'",
    ),
    (
        lambda: xpnet.mlp([4, 3, 2], loss="crossentropy"),
        ConfigError,
        r"unknown loss 'crossentropy'; names are mean_squared_error,.*'cross_entropy'",
    ),
    (
        lambda: xpnet.mlp([4, 3, 2], loss=xpnet.CrossEntropy),
        ConfigError,
        r"unknown loss.*write xpnet\.CrossEntropy\(\), with parentheses",
    ),
    (
        lambda: xpnet.mlp([4, 3, 2], weight_init="he_norm"),
        ConfigError,
        r"unknown initializer 'he_norm'; names are he_normal,.*'he_normal'",
    ),
    (
        lambda: xpnet.mlp([4, 3, 2], weight_init=[0.1]),
        ConfigError,
        r"unknown initializer \[0\.1\]; names are he_normal",
    ),
    (
        lambda: xpnet.mlp([4, 3, 2], backend="numpi"),
        ConfigError,
        r"unknown backend 'numpi'; backends are numpy, cupy.*'numpy'",
    ),
    (lambda: xpnet.mlp([4, 3, 2], l1=-1), ConfigError, r"l1 must be a finite number in \[0, inf\), got -1"),
    (lambda: xpnet.mlp([4, 3, 2], l2=float("nan")), ConfigError, r"l2 must be a finite number in \[0, inf\), got nan"),
    (lambda: xpnet.mlp([4, 3, 2], penalize_biases=1), ConfigError, r"penalize_biases must be True or False, got 1"),
    (
        lambda: xpnet.mlp([4, 3, 2], dropout=1.0),
        ConfigError,
        r"Dropout: rate must be a finite number in \[0, 1\), got 1\.0",
    ),
    (lambda: xpnet.mlp([4, 3, 2], bias="no"), ConfigError, r"Linear: bias must be True or False, got 'no'"),
    (lambda: xpnet.LeakyReLU(-0.1), ConfigError, r"LeakyReLU: slope must be a finite number in \[0, 1\), got -0\.1"),
    (lambda: xpnet.ELU(0.0), ConfigError, r"ELU: alpha must be a finite number in \(0, inf\), got 0\.0"),
    (lambda: xpnet.GELU("exact"), ConfigError, r"GELU: approximate must be 'none' or 'tanh', got 'exact'"),
    (lambda: xpnet.Huber(delta=0), ConfigError, r"Huber: delta must be a finite number in \(0, inf\), got 0"),
    (
        lambda: xpnet.Activation(np.sin, None),
        ConfigError,
        r"Activation: df must be a function \(xp, x\) -> array, got None",
    ),
    (lambda: xpnet.Linear(0, 2), ConfigError, r"Linear: inputs must be an integer >= 1, got 0"),
    (
        lambda: xpnet.mlp([4, 3, 1]),
        ConfigError,
        r"CrossEntropy needs at least 2 outputs, one a class, got 1.*BinaryCrossEntropy",
    ),
    (
        lambda: xpnet.mlp([4, 2], output_activation="softmax"),
        ConfigError,
        r"loss CrossEntropy takes logits; remove the Softmax layer",
    ),
    (
        lambda: xpnet.mlp([4, 1], "relu", "binary_cross_entropy", output_activation="sigmoid"),
        ConfigError,
        r"loss BinaryCrossEntropy takes logits; remove the Sigmoid layer",
    ),
    (
        lambda: xpnet.Network([xpnet.Linear(3, 4), xpnet.ReLU(), xpnet.Linear(5, 2)], "huber"),
        ShapeError,
        r"layers\[2\] Linear\(inputs=5, outputs=2.*takes 5 inputs, but layers\[1\] ReLU\(\) before it gives 4",
    ),
]


@pytest.mark.parametrize(("build", "error", "message"), BAD_NETWORKS, ids=[m[:40] for _, _, m in BAD_NETWORKS])
def test_impossible_network(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize("size", [0, -3, 2.5, True, "10", float("nan"), None])
@pytest.mark.parametrize("place", [0, 2, 3])
def test_impossible_size(size, place):
    sizes = [4, 5, 6, 2]
    sizes[place] = size
    with pytest.raises(ConfigError, match=rf"sizes\[{place}\] must be an integer >= 1, got {re.escape(repr(size))}"):
        xpnet.mlp(sizes)


@pytest.mark.parametrize("dtype", ["int32", "complex64", object, "float99", np.longdouble, None, "float16", int])
def test_impossible_data_type(dtype):
    with pytest.raises(DTypeError, match=r"dtype must be one of float32, float64, got "):
        net_of(dtype=dtype)


@pytest.mark.parametrize("dtype", ["float64", np.float64, float, np.dtype("f8")])
def test_ways_to_say_float64(dtype):
    assert net_of(dtype=dtype).theta.dtype == np.float64


@pytest.mark.parametrize("seed", [-1, 2.5, "a", True, [1]])
def test_impossible_seed(seed):
    with pytest.raises(ConfigError, match=r"seed must be a non-negative integer, a SeedSequence or None, got "):
        net_of(seed=seed)


def test_a_layer_larger_than_the_machine_is_refused_before_anything_is_drawn(monkeypatch):
    monkeypatch.setattr(xpnet.Linear, "init", lambda self, rng: pytest.fail("drew parameters"))
    with pytest.raises(OutOfMemoryError, match=r"layer 2 W needs 7\.28 TiB for \(1000000, 1000000\) float64.*smaller"):
        xpnet.mlp([10, 1_000_000, 1_000_000, 10], dtype="float64")


def test_a_failed_initializer_names_itself():
    for law, message in (
        (lambda rng, shape, i, o: np.zeros((o, i)), r"returned shape \(2, 3\), expected \(3, 2\)"),
        (lambda rng, shape, i, o: np.full(shape, np.nan), r"returned NaN or infinity"),
    ):
        with pytest.raises(ConfigError, match=message):
            xpnet.mlp([3, 2], weight_init=law)


# ------------------------------------------------------------------------------------------------ parameters


def test_parameters_are_read_only_views_of_theta_with_the_decayed_ones_first():
    net = net_of()
    names = ["0.W", "0.b", "2.W", "2.b"]
    assert list(net.parameters) == names
    assert [net.parameters[name].shape for name in names] == [(3, 4), (4,), (4, 2), (2,)]
    assert_array_equal(net.theta, np.concatenate([net.parameters[n].reshape(-1) for n in ("0.W", "2.W", "0.b", "2.b")]))
    net.theta[0] = 42.0
    assert net.parameters["0.W"][0, 0] == 42.0
    with pytest.raises(ValueError, match="read-only"):
        net.parameters["0.W"][0, 0] = 1.0
    with pytest.raises(TypeError):
        net.parameters["0.W"] = 1.0
    assert net.theta.dtype == np.float32


def test_set_parameters_writes_some_or_all(training_backend):
    net = net_of(training_backend)
    theta = net.theta
    values = {name: np.full(value.shape, k + 0.5) for k, (name, value) in enumerate(net.parameters.items())}
    net.set_parameters({"2.b": [1.0, 2.0]})
    assert_array_equal(host(net, net.parameters)["2.b"], [1.0, 2.0])
    net.set_parameters(values)
    for name, value in host(net, net.parameters).items():
        assert_array_equal(value, values[name])
    assert net.theta is theta  # the same memory: compiled steps keep its address
    net.set_parameters(net.parameters)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (
            {"0.b": np.ones(4), "1.W": np.ones(4)},
            ConfigError,
            r"no parameter is called '1\.W'; names are 0\.W, 0\.b, 2\.W, 2\.b",
        ),
        ({"0.b": np.ones(4), "2.b": np.ones(3)}, ShapeError, r"parameter 2\.b has shape \(2,\), got \(3,\)"),
        ({"0.b": np.ones(4), "2.b": np.ones((1, 2))}, ShapeError, r"parameter 2\.b has shape \(2,\), got \(1, 2\)"),
        ({"0.b": np.ones(4), "2.b": [1.0, np.nan]}, DataError, r"2\.b.*NaN"),
        ({"0.b": np.ones(4), "2.b": [1.0, 1e39]}, DataError, r"2\.b.*larger than 3\.40282e\+38"),
        ({"0.b": np.ones(4), "2.b": ["a", "b"]}, DTypeError, r"2\.b.*dtype <U1"),
        ({"0.b": np.ones(4), "2.b": [1.0, 2j]}, DTypeError, r"2\.b.*Complex data not supported"),
        (
            {"0.b": np.ones(4), "2.b": Elsewhere((2,))},
            BackendMismatchError,
            r"2\.b is a elsewhere\.Elsewhere on CUDA device 1.*numpy",
        ),
        (np.ones(22), ConfigError, r"values must map names such as '0\.W' to arrays, got ndarray"),
    ],
)
def test_set_parameters_is_all_or_nothing(values, error, message):
    net = net_of()
    before = net.theta.tobytes()
    with pytest.raises(error, match=message):
        net.set_parameters(values)
    assert net.theta.tobytes() == before


# ------------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("loss", ["cross_entropy", "mean_squared_error", "huber"])
def test_gradients_are_those_of_the_objective(backend, loss):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(5, 3))
    t = rng.integers(0, 2, 5) if loss == "cross_entropy" else rng.normal(size=(5, 2))
    weight = rng.uniform(0.5, 2.0, 5)
    net = net_of(backend, loss=loss, dtype="float64", l1=0.03, l2=0.2)
    value, gradients = net.gradients(x, t, weight)
    assert list(gradients) == list(net.parameters)
    values = host(net, net.parameters)
    for name, g in host(net, gradients).items():
        for index in np.ndindex(g.shape):
            sides = []
            for h in (1e-5, -1e-5):
                other = net_of("numpy", loss=loss, dtype="float64", l1=0.03, l2=0.2)
                changed = values[name].copy()
                changed[index] += h
                other.set_parameters(values | {name: changed})
                sides.append(other.gradients(x, t, weight)[0])
            assert g[index] == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-6, abs=1e-8)
    plain = net_of("numpy", loss=loss, dtype="float64")
    W = np.concatenate([plain.parameters[name].reshape(-1) for name in ("0.W", "2.W")])
    penalty = 0.03 * np.abs(W).sum() + 0.1 * (W**2).sum()
    assert value == pytest.approx(plain.gradients(x, t, weight)[0] + penalty, rel=1e-12)


def test_penalties_leave_biases_alone_unless_asked(batch):
    for also, expected in ((False, 0.0), (True, 0.5)):
        plain = net_of(dtype="float64")
        net = net_of(dtype="float64", l2=1.0, penalize_biases=also)
        values = {name: np.full(value.shape, 0.5) for name, value in net.parameters.items()}
        plain.set_parameters(values)
        net.set_parameters(values)
        difference = {n: net.gradients(*batch)[1][n] - g for n, g in plain.gradients(*batch)[1].items()}
        assert_allclose(difference["0.W"], 0.5, rtol=1e-12)
        assert_allclose(difference["2.b"], expected, rtol=1e-12, atol=1e-15)


def test_penalties_do_not_depend_on_the_batch(batch):
    x, t = batch
    net = net_of(dtype="float64", l2=1.0)
    plain = net_of(dtype="float64")
    parts = [net.gradients(x[:n], t[:n])[0] - plain.gradients(x[:n], t[:n])[0] for n in (1, 3, 6)]
    assert_allclose(parts, parts[0], rtol=1e-12)


def test_gradients_change_nothing(backend, batch):
    net = net_of(backend, dtype="float64", l1=0.1)
    before = net.backend.to_numpy(net.theta).copy()
    first = host(net, net.gradients(*batch)[1])
    second = host(net, net.gradients(*batch)[1])
    for name, g in first.items():
        assert_array_equal(g, second[name])
    assert_array_equal(net.backend.to_numpy(net.theta), before)


def test_trace_shows_what_the_loop_does(backend, batch):
    x, t = batch
    net = net_of(backend, dtype="float64")
    trace, (loss, gradients) = net.trace(x, t), net.gradients(x, t)
    assert [item.name for item in trace] == ["0 Linear", "1 Tanh", "2 Linear"]
    assert len(trace) == 3
    assert trace.loss == pytest.approx(loss, rel=1e-15)
    get = net.backend.to_numpy
    assert_array_equal(get(trace[0].x), x)
    assert_array_equal(get(trace[2].y), get(net.forward(x)))
    for k in (0, 1):
        assert_array_equal(get(trace[k].y), get(trace[k + 1].x))
        assert_array_equal(get(trace[k].delta), get(trace[k + 1].dx))
    for k, item in enumerate(trace):
        assert item.delta.shape == item.y.shape
        assert item.dx.shape == item.x.shape
        for name, g in item.gradients.items():
            assert_array_equal(get(g), get(gradients[f"{k}.{name}"]))
    text = str(net.to("numpy").trace(x, t))
    for word in ("0 Linear", "delta", "dW", "db", "(6, 4)"):
        assert word in text


def test_dropout_acts_in_training_only_and_by_step(batch):
    x, t = batch
    net = xpnet.mlp([3, 50, 2], dropout=0.5, dtype="float64")
    plain = net.gradients(x, t)[0]
    assert plain == net.gradients(x, t, step=3)[0]
    assert_array_equal(net.forward(x), net.forward(x))
    first = net.gradients(x, t, training=True, step=0)[0]
    assert first != plain
    assert first == net.gradients(x, t, training=True, step=0)[0]
    assert first != net.gradients(x, t, training=True, step=1)[0]
    other = xpnet.mlp([3, 50, 2], dropout=0.5, dtype="float64", seed=1)
    other.set_parameters(net.parameters)
    assert first != other.gradients(x, t, training=True, step=0)[0]


@pytest.mark.parametrize("step", [-1, 0.5, True])
def test_impossible_step(batch, step):
    with pytest.raises(ConfigError, match=rf"step must be an integer >= 0, got {step}"):
        net_of().gradients(*batch, step=step)


# ---------------------------------------------------------------------------------------------------- copies


def test_to_another_backend_keeps_every_bit(backend, batch):
    net = net_of(seed=3)
    moved = net.to(backend)
    assert moved.backend is backend
    assert backend.to_numpy(moved.theta).tobytes() == net.theta.tobytes()
    assert_array_equal(moved.predict(batch[0]), net.predict(batch[0]))
    back = moved.to("numpy")
    assert back.theta.tobytes() == net.theta.tobytes()
    back.theta[...] = 0.0
    assert net.theta.any()


@pytest.mark.parametrize("how", [copy.deepcopy, xpnet.Network.copy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_are_independent(training_backend, batch, how):
    net = net_of(training_backend, seed=4)
    other = how(net)
    get = training_backend.to_numpy
    before = get(net.theta).tobytes()
    assert get(other.theta).tobytes() == before
    other.fit(batch[0].astype(np.float32), batch[1], epochs=1, batch_size=6, verbose=False)
    assert get(net.theta).tobytes() == before
    assert get(other.theta).tobytes() != before
    assert (other.seed, other.dtype, other.layers) == (net.seed, net.dtype, net.layers)


def test_backend_handles_are_equal_by_name_and_shared_by_copies():
    net = net_of()
    assert net.backend == xpnet.backends.get("numpy")
    assert net.backend != EagerBackend()
    assert copy.deepcopy(net).backend is net.backend
    assert pickle.loads(pickle.dumps(net.backend)) == net.backend
    assert len({net.backend, xpnet.backends.get("numpy")}) == 1


def test_summary_and_repr_tell_what_it_is():
    net = net_of()
    assert repr(net).startswith("Network([Linear(inputs=3, outputs=4")
    for word in ("Linear", "(B, 4)", "16", "CrossEntropy", "26 parameters", "104 bytes in float32", "numpy"):
        assert word in str(net)
