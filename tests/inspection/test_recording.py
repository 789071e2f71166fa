"""The recorder: its numbers against independent ones, and that training does not notice it."""

import array_backends
import numpy as np
import pytest

import xpnet
from xpnet.inspection.recorder import Recorder, default_every

RNG = np.random.default_rng(11)
X = RNG.normal(size=(24, 4))
CLASSES = RNG.integers(0, 3, 24)
OPTIMIZERS = [
    xpnet.SGD(0.1),
    xpnet.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    xpnet.SGD(xpnet.schedules.StepDecay(0.5, every=2), clip_value=0.01),
    xpnet.Adam(0.05, clip_norm=0.1),
    xpnet.AdamW(0.05),
    xpnet.RMSProp(0.01),
    xpnet.Adagrad(0.1),
]


def network(backend="numpy", **options):
    layers = [xpnet.Linear(4, 6), xpnet.ReLU(), xpnet.Linear(6, 5), xpnet.Tanh(), xpnet.Linear(5, 3)]
    return xpnet.Network(layers, loss="cross_entropy", backend=backend, dtype="float64", seed=5, **options)


def train(net, *callbacks, **options):
    """Train with the whole batch in the order of the data, so that each step is the one that is recorded before."""
    options = {"optimizer": xpnet.SGD(0.3), "epochs": 7, "batch_size": 24, "shuffle": False} | options
    return net.fit(X, CLASSES, callbacks=callbacks, verbose=False, **options)


def rms(a):
    return np.sqrt(np.mean(np.square(a)))


def test_the_numbers(training_backend):
    net, recorder = network(training_backend), Recorder(2, parameters=True)
    train(net, recorder)
    assert recorder.steps.tolist() == [0, 2, 4, 6]
    layers = [["y", "delta", "W", "dW", "b", "db"], ["y", "delta"]]
    expected = [f"{k}.{name}" for k in range(5) for name in layers[k % 2]]
    assert recorder.names == list(recorder) == expected
    assert "4.dW" in recorder
    assert "5.y" not in recorder
    trained = training_backend.to_numpy(net.theta).copy()
    for r in range(4):
        trace = recorder.network(r).trace(X, CLASSES)
        for name in recorder.names:
            k, short = name.split(".")
            item = trace[int(k)]
            arrays = {"y": item.y, "delta": item.delta, **item.parameters}
            arrays |= {f"d{p}": gradient for p, gradient in item.gradients.items()}
            a, curves = training_backend.to_numpy(arrays[short]), recorder[name]
            numbers = [curve[r] for curve in curves]
            wanted = [a.mean(), a.std(), rms(a), np.abs(a).max(), np.mean(a == 0)]
            np.testing.assert_allclose(numbers, wanted, rtol=1e-9, atol=1e-11, err_msg=f"{name} at record {r}")
    np.testing.assert_array_equal(training_backend.to_numpy(net.theta), trained)  # looking back changes nothing
    zeros = recorder["1.y"].zeros
    assert 0.2 < zeros[0] < 0.8  # else the comparison of zeros above would say nothing


def test_machine_code_records_the_same_numbers(monkeypatch):
    pytest.importorskip("llvmlite", reason="only the fast extra makes machine code")
    plain, compiled = Recorder(2), Recorder(2)
    train(network(), plain)
    monkeypatch.setattr(xpnet.backends.numpy.Replay, "patience", 0.0)
    monkeypatch.setattr(xpnet.backends.numpy.Replay, "standstill", np.inf)  # all of it at once, on a busy machine, too
    train(network(), compiled)
    assert compiled._recorded()._program._tape is None  # it was compiled
    for name in plain:
        np.testing.assert_array_equal(plain[name], compiled[name])


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
def test_the_update_is_the_one_that_training_makes_next(optimizer):
    net, recorder = network(l1=1e-3, l2=1e-2), Recorder(1, parameters=True)
    train(net, recorder, optimizer=optimizer)
    for name in net.parameters:
        values = recorder.parameters(name)
        assert values.shape == (8, *net.parameters[name].shape)
        moved = np.diff(values, axis=0).reshape(7, -1)
        before = np.linalg.norm(values[:-1].reshape(7, -1), axis=1)
        ratio = recorder.update_ratio(name)[:-1]
        started = before > 0  # biases begin at zero
        np.testing.assert_allclose(
            ratio[started], (np.linalg.norm(moved, axis=1) / np.maximum(before, 1e-300))[started]
        )
        assert np.isnan(ratio[~started]).all()


def test_dropout_drops_what_training_drops_next():
    layers = [xpnet.Linear(4, 50), xpnet.Dropout(0.5), xpnet.Linear(50, 3)]
    net, recorder = xpnet.Network(layers, loss="cross_entropy", dtype="float64"), Recorder(1, parameters=True)
    train(net, recorder)
    for r in range(7):
        trace = recorder.network(r).trace(X, CLASSES, training=True, step=r)
        assert recorder["1.y"].zeros[r] == np.mean(trace[1].y == 0)
        assert recorder["2.dW"].rms[r] == pytest.approx(rms(trace[2].gradients["W"]), rel=1e-12)
    assert len(set(recorder["1.y"].zeros.tolist())) > 1


def test_weighted_samples():
    net, recorder, weight = network(), Recorder(1, parameters=True), RNG.uniform(size=24)
    train(net, recorder, sample_weight=weight, epochs=2)
    for r in range(3):
        gradient = recorder.network(r).gradients(X, CLASSES, weight)[1]["0.W"]
        assert recorder["0.dW"].rms[r] == pytest.approx(rms(gradient), rel=1e-12)


def test_gradients_are_those_that_the_optimizer_gets():
    net, recorder = network(l2=0.5), Recorder(1)
    train(net, recorder, optimizer=xpnet.SGD(0.1, clip_value=1e-3))
    assert recorder["0.dW"].largest.tolist() == [1e-3] * 8
    net, recorder = network(l2=0.5), Recorder(1, parameters=True)
    train(net, recorder)
    start = recorder.network(0)
    assert recorder["0.dW"].rms[0] == pytest.approx(rms(start.gradients(X, CLASSES)[1]["0.W"]), rel=1e-12)


def test_the_samples_of_a_record_are_a_batch_chosen_by_the_seed():
    def first(seed, size):
        net, recorder = xpnet.mlp([4, 3], seed=seed), Recorder(1)
        net.set_parameters({"0.W": np.ones((4, 3))})
        net.fit(X.astype(np.float32), CLASSES, epochs=1, batch_size=size, callbacks=recorder, verbose=False)
        return recorder["0.y"].mean[0]

    assert first(0, 8) == first(0, 8) != first(1, 8)
    assert first(0, 24) == pytest.approx(first(1, 24), rel=1e-5) == pytest.approx(X.sum(axis=1).mean(), rel=1e-5)


def options_of_every_kind():
    layers = [xpnet.Linear(4, 6), xpnet.ReLU(), xpnet.Dropout(0.3), xpnet.Linear(6, 3)]
    return xpnet.Network(layers, loss="cross_entropy", seed=5, l2=1e-3)


def test_training_does_not_notice(training_backend):
    options = {"optimizer": xpnet.Adam(0.01), "batch_size": 7, "shuffle": True, "sample_weight": RNG.uniform(size=24)}
    x, plain = X.astype(np.float32), options_of_every_kind().to(training_backend)
    watched = options_of_every_kind().to(training_backend)
    one = plain.fit(x, CLASSES, verbose=False, epochs=5, **options)
    two = watched.fit(x, CLASSES, verbose=False, epochs=5, callbacks=Recorder(3, parameters=True), **options)
    np.testing.assert_array_equal(plain.backend.to_numpy(plain.theta), watched.backend.to_numpy(watched.theta))
    assert one["loss"].tolist() == two["loss"].tolist()


class Boom(AssertionError):
    """A number was read back to the host."""


class Deaf(Recorder):
    """A recorder during whose records no array may be looked at."""

    def _record(self, run):
        def boom(*args, **options):
            raise Boom

        kind = type(run.net.theta)
        with pytest.MonkeyPatch.context() as patch:
            for name in ("__float__", "__int__", "__bool__", "__index__", "__array__", "to_device", "__buffer__"):
                if hasattr(kind, name):
                    patch.setattr(kind, name, boom)
            patch.setattr(type(run.net.backend), "to_numpy", boom)
            super()._record(run)


@pytest.mark.parametrize("device", ["CPU_DEVICE", "device1"])
def test_a_record_reads_nothing_back(device):
    net, recorder = network(array_backends.strict_backend(device)), Deaf(1)
    train(net, recorder, epochs=2)
    assert recorder["0.y"].rms.shape == (3,)


@pytest.mark.parametrize("device", ["CPU_DEVICE", "device1"])
def test_looking_would_be_noticed(device):
    class Curious(Deaf):
        def _recorded(self):
            if self._rows:
                float(self._rows[0][0])
            return super()._recorded()

    with pytest.raises(Boom):
        train(network(array_backends.strict_backend(device)), Curious(1))


def test_resuming_goes_on_with_the_records(tmp_path):
    def stop(run):
        if run.epoch == 2:
            raise KeyboardInterrupt

    whole, broken, again = (Recorder(2, parameters=True) for _ in range(3))
    path = tmp_path / "run.safetensors"
    options = {"batch_size": 10, "shuffle": True, "checkpoint": path}
    train(network(), whole, **(options | {"checkpoint": tmp_path / "other.safetensors"}))
    with pytest.raises(KeyboardInterrupt):
        train(network(), broken, stop, **options)
    assert broken.steps.tolist() == [0, 2, 4, 6, 8]
    train(network(), again, **options, resume=True)
    assert again.steps.tolist() == whole.steps.tolist() == list(range(0, 21, 2))
    for name in whole:
        np.testing.assert_array_equal(again[name], whole[name])
    np.testing.assert_array_equal(again.parameters("2.W"), whole.parameters("2.W"))


def test_records_outlive_an_exception():
    def fail(run):
        raise RuntimeError("lightning")

    recorder = Recorder(1)
    with pytest.raises(RuntimeError, match="lightning"):
        train(network(), recorder, fail)
    assert recorder.steps.tolist() == [0, 1]
    assert recorder["0.W"].rms.shape == (2,)


def test_a_second_training_begins_afresh():
    net, recorder = network(), Recorder(2)
    train(net, recorder)
    train(net, recorder, epochs=3)
    assert recorder.steps.tolist() == [0, 2]


def test_below_the_first_parameters_there_is_no_delta():
    layers = [xpnet.Tanh(), xpnet.Linear(4, 3)]
    net, recorder = xpnet.Network(layers, loss="cross_entropy", dtype="float64"), Recorder(1)
    train(net, recorder)
    assert recorder.names == ["0.y", "1.y", "1.delta", "1.W", "1.dW", "1.b", "1.db"]


@pytest.mark.parametrize(
    ("sizes", "batch", "every"), [([2, 3, 2], 1, 3808), ([2, 3, 2], 24, 3760), ([4, 200, 200, 3], 24, 286)]
)
def test_how_often_by_default(sizes, batch, every):
    net = xpnet.mlp(sizes)
    trainer = xpnet.Trainer(net, "sgd", np.zeros((24, sizes[0]), np.float32), CLASSES % sizes[-1], batch_size=batch)
    assert default_every(trainer) == every
    recorder = Recorder()
    net.fit(trainer.arrays["x"], CLASSES % sizes[-1], batch_size=batch, callbacks=recorder, epochs=1, verbose=False)
    assert recorder.every == every
    recorder = Recorder(7)
    net.fit(trainer.arrays["x"], CLASSES % sizes[-1], batch_size=batch, callbacks=recorder, epochs=1, verbose=False)
    assert recorder.every == 7


def test_errors():
    for every in (0, -1, 2.5, True, "2"):
        with pytest.raises(xpnet.errors.ConfigError, match="Recorder: every must be an integer >= 1"):
            Recorder(every)
    with pytest.raises(xpnet.errors.ConfigError, match="Recorder: parameters must be True or False"):
        Recorder(parameters=1)
    recorder = Recorder()
    for question in (lambda: recorder["0.y"], lambda: recorder.names, lambda: recorder.update_ratio("0.W")):
        with pytest.raises(xpnet.errors.ConfigError, match="nothing was recorded yet"):
            question()
    train(network(), recorder)
    with pytest.raises(KeyError, match=r"'0.dalta' was not recorded; names are 0.y, 0.delta.*Did you mean '0.delta'"):
        recorder["0.dalta"]
    with pytest.raises(KeyError, match=r"'0.y' is no parameter; names are 0.W, 2.W, 4.W, 0.b"):
        recorder.update_ratio("0.y")
    for question in (lambda: recorder.parameters("0.W"), lambda: recorder.network(0)):
        with pytest.raises(xpnet.errors.ConfigError, match="the parameters were not kept"):
            question()
    recorder = Recorder(parameters=True)
    train(network(), recorder)
    with pytest.raises(KeyError, match=r"'0.y' is no parameter; names are 0.W"):
        recorder.parameters("0.y")


class Statistics(xpnet.Callback):
    """Keeps the running statistics as they are before the first step and after every third."""

    every = 3

    def on_begin(self, run):
        self.seen = []
        self.on_steps(run)

    def on_steps(self, run):
        self.seen.append({name: run.net.backend.to_numpy(a).copy() for name, a in run.net.state.items()})


def test_the_network_of_a_record_has_the_running_statistics_of_then(training_backend, tmp_path):
    def begin():
        layers = [xpnet.Linear(2, 3), xpnet.BatchNorm(3), xpnet.Linear(3, 2)]
        net = xpnet.Network(layers, "cross_entropy", training_backend)
        return net, xpnet.Recorder(every=3, parameters=True)

    x, t = xpnet.datasets.quadrants(48)
    options = {"batch_size": 8, "checkpoint": tmp_path / "run", "verbose": False}
    (net, recorder), statistics = begin(), Statistics()
    net.fit(x, t, epochs=2, callbacks=[recorder, statistics], **options)
    for r, seen in enumerate(statistics.seen):
        for name, value in seen.items():
            np.testing.assert_array_equal(training_backend.to_numpy(recorder.network(r).state[name]), value)
    assert all((net.backend.to_numpy(net.state[k]) == v).all() for k, v in statistics.seen[-1].items())
    other, resumed = begin()
    other.fit(x, t, epochs=3, callbacks=[resumed], resume=True, **options)
    for name, value in statistics.seen[1].items():
        np.testing.assert_array_equal(training_backend.to_numpy(resumed.network(1).state[name]), value)


def test_running_statistics_are_recorded_as_they_are(training_backend):
    inner = xpnet.Residual([xpnet.Linear(2, 2), xpnet.BatchNorm(2)])
    net = xpnet.Network([inner, xpnet.BatchNorm(2), xpnet.Linear(2, 2)], "cross_entropy", training_backend)
    recorder, statistics = xpnet.Recorder(every=3), Statistics()
    x, t = xpnet.datasets.quadrants(48)
    net.fit(x + 1, t, epochs=2, batch_size=8, callbacks=[recorder, statistics], verbose=False)
    assert set(net.state) == {"0.1.mean", "0.1.variance", "1.mean", "1.variance"}
    for name in net.state:
        values = np.stack([seen[name] for seen in statistics.seen])
        assert values.shape == (5, 2)
        assert len(np.unique(values, axis=0)) == 5  # they move
        np.testing.assert_allclose(recorder[name].mean, values.mean(axis=1), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(recorder[name].largest, np.abs(values).max(axis=1), rtol=1e-6)
