"""Running statistics: a state that no derivative sees, on every path of a training step, in files and in copies."""

import copy
import pickle

import cuda_c
import cuda_host
import normalization_oracle as oracle
import numpy as np
import pytest
from array_backends import make
from numpy.testing import assert_allclose, assert_array_equal

import xpnet
from xpnet.backends.cpu.replay import Replay
from xpnet.errors import CheckpointError
from xpnet.files.tensors import read_tensors, write_tensors
from xpnet.layers import forward_pass
from xpnet.training.callbacks import Callback

RNG = np.random.default_rng(8)
X = RNG.normal(1.0, 2.0, (25, 3))
T = RNG.integers(0, 2, 25)
BATCHES = [slice(0, 7), slice(7, 14), slice(14, 21), slice(21, 25)]  # the last is smaller
STEPS, RATE = 7, 0.1
NAMES = {"1.mean", "1.variance", "4.mean", "4.variance"}


def network(backend="numpy", dtype="float64", **options):
    return xpnet.Network(
        [
            xpnet.Linear(3, 4), xpnet.BatchNorm(4), xpnet.Tanh(),
            xpnet.Linear(4, 3, bias=False), xpnet.BatchNorm(3, momentum=0.3, eps=1e-3), xpnet.Linear(3, 2),
        ],
        "cross_entropy", backend, dtype, seed=3, **options,
    )  # fmt: skip


def trainer(net, **options):
    """Return a trainer that goes through the batches in order."""
    return xpnet.Trainer(net, xpnet.SGD(RATE), X.astype(net.dtype), T, batch_size=7, shuffle=False, **options)


def state(net):
    return {name: net.backend.to_numpy(a).copy() for name, a in net.state.items()}


def recursion(steps=STEPS, dtype="float64"):
    """Return the statistics and the parameters after some steps, by the oracle's loops over each layer's input."""
    net, seen = network(), {1: [], 4: []}
    for k in range(steps):
        rows = BATCHES[k % 4]
        p = {name: np.asarray(value) for name, value in net.parameters.items()}
        y0 = X[rows] @ p["0.W"] + p["0.b"]
        y1 = oracle.forward(net.layers[1], {"gamma": p["1.gamma"], "beta": p["1.beta"]}, y0)
        seen[1].append(y0)
        seen[4].append(np.tanh(y1) @ p["3.W"])
        _, grads = net.gradients(X[rows], T[rows], training=True)
        net.set_parameters({name: p[name] - RATE * g for name, g in grads.items()})
    found = {}
    for k, inputs in seen.items():
        found[f"{k}.mean"], found[f"{k}.variance"] = oracle.running_statistics(net.layers[k], inputs)
    return found, np.asarray(net.theta)


EXPECTED, THETA = recursion()


@pytest.fixture(params=["written", "replayed", "compiled", "CPU_DEVICE", "device1", "CUDA's stand-in"])
def on(request, monkeypatch):
    """Return a backend for each way in which a step is done."""
    if request.param in ("CPU_DEVICE", "device1"):
        return make(request.param)
    if request.param == "CUDA's stand-in":
        if cuda_c.COMPILER is None:
            pytest.skip(cuda_c.NO_COMPILER)
        return cuda_host.HostCupy()
    monkeypatch.setattr(Replay, "patience", 0.0 if request.param == "compiled" else np.inf)
    return make("eager" if request.param == "written" else "numpy")


def test_seven_ragged_steps_follow_the_recursion(on):
    net = network(on)
    assert {name: value.tolist() for name, value in state(net).items() if "mean" in name} == {
        "1.mean": [0.0] * 4, "4.mean": [0.0] * 3,
    }  # fmt: skip
    with np.errstate(all="ignore"):
        trainer(net).run(STEPS)
    assert net.state.keys() == EXPECTED.keys() == NAMES
    for name, value in state(net).items():
        assert_allclose(value, EXPECTED[name], rtol=1e-12, err_msg=name)
    assert_allclose(on.to_numpy(net.theta), THETA, rtol=1e-11, atol=1e-13)


IMAGES = RNG.normal(1.0, 2.0, (25, 4, 5, 2))


def nested(backend="numpy"):
    """Return a network of images whose statistics lie in layers inside of layers."""
    block = [
        xpnet.Conv2D(3, 3, bias=False),
        xpnet.BatchNorm(3),
        xpnet.Sequence([xpnet.ReLU(), xpnet.BatchNorm(3, 0.4)]),
    ]
    return xpnet.Network(
        [
            xpnet.RandomShift(1), xpnet.Conv2D(2, 3, stride=2), xpnet.Residual(block, [xpnet.BatchNorm(3, 0.2)]),
            xpnet.GlobalAveragePool2D(), xpnet.Linear(3, 2),
        ],
        "cross_entropy", backend, "float64", seed=3, input_shape=(4, 5, 2),
    )  # fmt: skip


def test_layers_inside_of_layers_keep_statistics_of_what_comes_in_there(on):
    made, by_hand = nested(on), nested()
    layers = {"2.1": xpnet.BatchNorm(3), "2.2.1": xpnet.BatchNorm(3, 0.4), "2.shortcut.0": xpnet.BatchNorm(3, 0.2)}
    seen = {place: [] for place in layers}

    def watch(place, name, array):
        if name == "x" and place in seen:
            seen[place].append(np.array(array))

    xp, layout = by_hand.backend.xp, by_hand.layout
    for k in range(STEPS):
        rows, step = BATCHES[k % 4], by_hand.step_array(k)
        contexts = by_hand.contexts(True, step, watch=watch)
        forward_pass(xp, by_hand.layers, layout.split(xp, by_hand.theta), IMAGES[rows], contexts)
        _, grads = by_hand.gradients(IMAGES[rows], T[rows], training=True, step=k)
        by_hand.set_parameters({name: by_hand.parameters[name] - RATE * g for name, g in grads.items()})
    with np.errstate(all="ignore"):
        xpnet.Trainer(made, xpnet.SGD(RATE), IMAGES, T, batch_size=7, shuffle=False).run(STEPS)
    assert made.state.keys() == {f"{place}.{name}" for place in layers for name in ("mean", "variance")}
    for place, layer in layers.items():
        for name, value in zip(("mean", "variance"), oracle.running_statistics(layer, seen[place]), strict=True):
            found = on.to_numpy(made.state[f"{place}.{name}"])
            assert_allclose(found, value, rtol=1e-11, atol=1e-13, err_msg=f"{place}.{name}")


def test_the_estimators_trainer_follows_it_too():
    pytest.importorskip("sklearn", reason="the extra sklearn is not installed")
    from xpnet.estimators.sampling import Samples
    from xpnet.estimators.solvers import SolverState
    from xpnet.estimators.trainer import Call, EpochTrainer

    for epochs in (2, 40):  # a few steps are done as written, many are recorded
        net = network()
        data = Samples(X, T, None)
        made = EpochTrainer(Call(net, SolverState(xpnet.SGD(RATE), net), data, 7, 0.0, False, np.random, epochs), False)
        made.advance(4)
        made.finish_epoch()
        made.advance(3)
        for name, value in state(net).items():
            assert_allclose(value, EXPECTED[name], rtol=1e-12, err_msg=name)


def test_in_half_precision_they_stay_in_float32_and_follow_it_nearly():
    net = network(dtype="float32")
    trainer(net, precision="float16").run(STEPS)
    for name, value in state(net).items():
        assert value.dtype == np.float32
        assert_allclose(value, EXPECTED[name], rtol=2e-2, atol=2e-3, err_msg=name)


def test_half_precision_sums_do_not_overflow():
    """Squares of float16 end at 65504, and so does the sum of 200 numbers of 400."""
    layer, x = xpnet.BatchNorm(2), RNG.normal(400.0, 300.0, (200, 2)).astype("float16")
    params = {name: value.astype("float16") for name, value in layer.init(None).items()}
    xp = make("numpy").xp
    for item in (layer, xpnet.LayerNorm(2), xpnet.RMSNorm(2), xpnet.GroupNorm(1, 2)):
        context = xpnet.Context(training=True)
        y, cache = item.forward(xp, params, x, context)
        dx, grads = item.backward(xp, params, cache, y, context)
        assert y.dtype == dx.dtype == np.float16
        exact = item.forward(xp, {k: v.astype(float) for k, v in params.items()}, x.astype(float), context)[0]
        assert_allclose(y, exact, rtol=2e-3, atol=2e-3)
        assert all(np.isfinite(g).all() for g in (dx, *grads.values()))
    found = layer.update_state(xp, {k: v.astype("float32") for k, v in layer.init_state().items()}, cache_of(layer, x))
    assert_allclose(found["variance"], 0.9 + 0.1 * x.astype(float).var(axis=0, ddof=1), rtol=1e-5)


def cache_of(layer, x):
    params = {name: value.astype(x.dtype) for name, value in layer.init(None).items()}
    return layer.forward(make("numpy").xp, params, x, xpnet.Context(training=True))[1]


def test_a_skipped_step_leaves_them_as_they_were():
    net = network(dtype="float32")
    made = trainer(net, precision="float16")
    made.advance(2)
    before = state(net)
    made.arrays["scaling.scale"][...] = 2.0**60
    made.advance(1)
    assert made.skipped_steps == 1
    for name, value in state(net).items():
        assert_array_equal(value, before[name])


LOOKS = [
    lambda net: net.predict(X),
    lambda net: net.forward(X[:1]),
    lambda net: net.evaluate(X, T),
    lambda net: net.gradients(X, T, training=True),
    lambda net: net.trace(X, T, training=True),
    lambda net: xpnet.check_gradients(net, X, T, training=True),
]


@pytest.mark.parametrize("look", LOOKS)
def test_looking_changes_nothing(look):
    net = network()
    trainer(net).run(3)
    before = state(net)
    look(net)
    for name, value in state(net).items():
        assert_array_equal(value, before[name])


def test_statistics_that_move_outside_of_training_are_noticed(monkeypatch):
    """A planted mistake: predictions move the mean a little towards theirs."""
    honest = xpnet.BatchNorm.forward

    def moving(self, xp, params, x, context):
        if not context.training:
            context.state["mean"][...] += 0.1 * (x.mean(axis=0) - context.state["mean"])
        return honest(self, xp, params, x, context)

    monkeypatch.setattr(xpnet.BatchNorm, "forward", moving)
    for look in LOOKS[:3]:
        with pytest.raises(AssertionError):
            test_looking_changes_nothing(look)


# ------------------------------------------------------------------------------------------ copies and files


def test_copies_and_moves_take_them_along():
    net = network(dtype="float32")
    trainer(net).run(STEPS)
    outputs = net.forward(X.astype("float32"))
    there, pickled = net.to(make("device1")), pickle.loads(pickle.dumps(net))
    for other in (net.copy(), copy.deepcopy(net), pickled, net.to("numpy"), there, there.to("numpy")):
        assert other.state.keys() == NAMES
        for name, value in state(other).items():
            assert_array_equal(value, state(net)[name])
        assert_array_equal(other.backend.to_numpy(other.forward(X.astype("float32"))), outputs)
    before, other = state(net), net.copy()
    trainer(other).run(1)
    for name, value in state(net).items():
        assert_array_equal(value, before[name])  # the copy's are its own


def test_a_file_brings_them_back(tmp_path):
    net = network(dtype="float32")
    trainer(net).run(STEPS)
    net.save(tmp_path / "net.safetensors")
    other = xpnet.load(tmp_path / "net.safetensors")
    for name, value in state(other).items():
        assert_array_equal(value, state(net)[name])
    assert_array_equal(other.predict_proba(X.astype("float32")), net.predict_proba(X.astype("float32")))


class Stop(Callback):
    """End the training after some steps, in the middle of an epoch."""

    every = 6

    def on_steps(self, run):
        raise KeyboardInterrupt


@pytest.mark.parametrize("options", [{}, {"averaging": 0.9}, {"precision": "float16"}])
def test_a_training_goes_on_to_the_bit(tmp_path, options):
    dtype = "float32"
    options = {"optimizer": xpnet.Adam(0.05), "epochs": 4, "batch_size": 7, "verbose": False} | options
    x = X.astype(dtype)
    whole = network(dtype=dtype)
    history = whole.fit(x, T, validation_data=(x, T), **options)
    path = tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt):
        network(dtype=dtype).fit(x, T, validation_data=(x, T), callbacks=Stop(), checkpoint=path, **options)
    part = network(dtype=dtype)
    part.state["1.mean"][...] = 77.0  # what they were must not matter
    again = part.fit(x, T, validation_data=(x, T), checkpoint=path, resume=True, **options)
    assert_array_equal(part.theta, whole.theta)
    for name, value in state(part).items():
        assert_array_equal(value, state(whole)[name])
    assert_array_equal(again["validation_loss"], history["validation_loss"])


def rewrite(path, change):
    """Write a file again with other tensors."""
    tensors, description = read_tensors(path)
    tensors = {name: np.array(value) for name, value in tensors.items()}
    change(tensors)
    write_tensors(path, tensors, description)


def put(name, place, value):
    def change(tensors):
        tensors[name][place] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("state.4.variance"), r"'state.4.variance' \(3,\) is missing"),
        (lambda tensors: tensors.update({"state.1.mean": np.zeros(5)}), r"'state.1.mean' has shape \(5,\), expected"),
        (put("state.4.variance", 1, -0.5), r"'state.4.variance'\[1\] is -0.5, it must be finite and not below 0"),
        (put("state.1.variance", 3, np.nan), r"'state.1.variance'\[3\] is nan, it must be finite and not below 0"),
        (put("state.1.mean", 0, np.inf), r"'state.1.mean'\[0\] is inf, it must be finite$"),
    ],
)
def test_a_file_with_impossible_statistics_is_refused(tmp_path, change, message):
    net, path = network(), tmp_path / "net.safetensors"
    net.save(path)
    rewrite(path, change)
    with pytest.raises(CheckpointError, match=message):
        xpnet.load(path)


def test_a_training_does_not_go_on_from_impossible_statistics(tmp_path):
    path, options = tmp_path / "run.safetensors", {"epochs": 2, "batch_size": 7, "verbose": False}
    network().fit(X, T, checkpoint=path, **options)
    rewrite(path, put("state.1.variance", 0, -1.0))
    net = network()
    before = state(net)
    with pytest.raises(CheckpointError, match=r"'state.1.variance'\[0\] is -1.0"):
        net.fit(X, T, checkpoint=path, resume=True, **options)
    for name, value in state(net).items():
        assert_array_equal(value, before[name])


# ------------------------------------------------------------------------------------------- what they are for


def test_with_averaged_parameters_the_statistics_are_those_of_the_last_step():
    plain, averaged = network(), network()
    options = {"optimizer": xpnet.SGD(RATE), "epochs": 2, "batch_size": 7, "verbose": False, "shuffle": False}
    plain.fit(X, T, **options)
    averaged.fit(X, T, averaging=0.9, **options)
    assert (averaged.theta != plain.theta).any()
    for name, value in state(averaged).items():
        assert_array_equal(value, state(plain)[name])


def test_predictions_do_not_depend_on_how_a_batch_is_cut():
    net = network(dtype="float32")
    trainer(net).run(STEPS)
    x = X.astype("float32")
    whole = net.trace(x, T)
    parts = [net.trace(x[k : k + 1], T[k : k + 1]) for k in range(25)]
    for number in (1, 4):  # the layers' own inputs are products, whose rounding is another matter
        rows = np.concatenate([part[number].y for part in parts])
        assert_allclose(rows, whole[number].y, rtol=1e-5, atol=1e-6)


def test_a_training_finds_statistics_that_are_not_finite():
    net = network(dtype="float32")
    net.state["1.mean"][...] = np.nan
    with pytest.raises(xpnet.errors.NonFiniteError, match=r"the running mean of layer 1 .* has 4 NaN"):
        trainer(net).run(1)
    net = network(dtype="float32")
    net.set_parameters({"0.W": 1e30 * net.parameters["0.W"]})  # squares are infinite, and the output is beta
    with pytest.raises(xpnet.errors.NonFiniteError, match=r"the running variance of layer 1 .* has 0 NaN and 4 inf"):
        trainer(net).run(1)
