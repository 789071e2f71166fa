"""Callbacks and early stopping."""

import numpy as np
import problems
import pytest
from numpy.testing import assert_array_equal
from problems import classifier, flat, neuron

import xpnet
from xpnet.errors import ConfigError


@pytest.fixture
def problem():
    return problems.line()


@pytest.fixture
def classes():
    return problems.three_classes()


# --------------------------------------------------------------------------------------------------- callbacks


class Recorder(xpnet.Callback):
    def __init__(self, every=None):
        self.every, self.calls = every, []

    def on_begin(self, run):
        self.calls.append(("begin", run.epoch, run.step))

    def on_steps(self, run):
        self.calls.append(("steps", run.epoch, run.step))

    def on_epoch_end(self, run):
        self.calls.append(("epoch", run.epoch, run.step))
        assert run.history.epochs == run.epoch + 1
        assert run.epochs == 2

    def on_end(self, run):
        self.calls.append(("end", run.epoch, run.step))


def test_callbacks_are_called_in_order(problem):
    recorder = Recorder(every=5)
    neuron().fit(*problem, epochs=2, batch_size=4, callbacks=[recorder], verbose=False)  # 6 steps an epoch
    assert recorder.calls == [
        ("begin", 0, 0), ("steps", 0, 5), ("epoch", 0, 6), ("steps", 1, 10), ("epoch", 1, 12), ("end", 2, 12),
    ]  # fmt: skip


def test_callbacks_do_not_change_the_training(problem):
    one, two = neuron(), neuron()
    one.fit(*problem, epochs=2, batch_size=4, optimizer="adam", verbose=False)
    two.fit(*problem, epochs=2, batch_size=4, optimizer="adam", verbose=False, callbacks=[Recorder(1), Recorder(7)])
    assert_array_equal(flat(one), flat(two))


def test_a_function_serves_as_a_callback_and_can_stop(problem):
    epochs = []

    def stop_at_two(run):
        epochs.append(run.epoch)
        if len(epochs) == 2:
            run.stop()

    history = neuron().fit(*problem, epochs=9, batch_size=4, callbacks=stop_at_two, verbose=False)
    assert epochs == [0, 1]
    assert history.epochs == 2


@pytest.mark.parametrize("when", ["on_begin", "on_steps", "on_epoch_end", "on_end"])
def test_a_callback_that_raises(training_backend, problem, when):
    """The exception comes out as it is, with the history so far; the parameters are those of the last step."""

    class Broken(xpnet.Callback):
        every = 8

    problem_of_mine = RuntimeError("mine")

    def fail(run):
        raise problem_of_mine

    callback = Broken()
    setattr(callback, when, fail)
    net = neuron(training_backend)
    with pytest.raises(RuntimeError, match="mine") as caught:
        net.fit(*problem, epochs=2, batch_size=4, optimizer="adam", callbacks=callback, verbose=False)
    assert caught.value is problem_of_mine
    steps, epochs = {"on_begin": (0, 0), "on_steps": (8, 1), "on_epoch_end": (6, 1), "on_end": (12, 2)}[when]
    assert caught.value.history.epochs == epochs
    reference = neuron(training_backend)
    xpnet.Trainer(reference, "adam", *problem, batch_size=4).run(steps)
    assert_array_equal(flat(net), flat(reference))
    net.fit(*problem, epochs=1, batch_size=4, verbose=False)


def test_a_callback_with_an_impossible_period_or_flag(problem):
    with pytest.raises(ConfigError, match=r"callbacks\[0\]\.every must be an integer >= 1, got 0"):
        neuron().fit(*problem, callbacks=Recorder(0), verbose=False)
    odd = Recorder(2)
    odd.looks = 0
    with pytest.raises(ConfigError, match=r"callbacks\[0\]\.looks must be True or False, got 0"):
        neuron().fit(*problem, callbacks=odd, verbose=False)


# ---------------------------------------------------------------------------------------------- early stopping


class Script(xpnet.Callback):
    """Writes a given curve into the history, and keeps the parameters of each epoch."""

    def __init__(self, values, name="score"):
        self.values, self.name, self.thetas = values, name, []

    def on_epoch_end(self, run):
        run.history.append({self.name: self.values[run.epoch]})
        self.thetas.append(flat(run.net))


@pytest.mark.parametrize(
    ("values", "options", "epochs", "best"),
    [
        ([5, 4, 3, 4, 4, 4, 4, 4], {"patience": 2}, 5, 2),
        ([5, 4, 3, 4, 4, 2, 4, 4], {"patience": 3}, 8, 5),
        ([5, 4, 3, 2, 1, 0, -1, -2], {"patience": 1}, 8, 7),
        ([5, 5, 5, 5, 5, 5, 5, 5], {"patience": 3}, 4, 0),
        ([5, 4.9, 4.8, 4, 3.95, 3.9, 3.85, 3.8], {"patience": 3, "min_delta": 0.5}, 7, 3),
        ([float("nan"), 3, float("nan"), 4, float("inf"), 5, 5, 5], {"patience": 4}, 6, 1),
        ([float("nan")] * 8, {"patience": 3}, 3, None),
    ],
)
def test_early_stopping_stops_and_restores_the_best(problem, values, options, epochs, best):
    script = Script(values)
    net = neuron()
    stopping = xpnet.EarlyStopping("score", **options)
    history = net.fit(*problem, epochs=8, batch_size=4, callbacks=[script, stopping], verbose=False)
    assert history.epochs == epochs
    assert_array_equal(flat(net), script.thetas[-1 if best is None else best])
    if best is not None:
        assert stopping.best_epoch == best


def test_early_stopping_takes_an_accuracy_as_better_when_larger(problem):
    script = Script([0.5, 0.9, 0.6, 0.6, 0.6], "validation_accuracy")
    net = neuron()
    net.fit(*problem, epochs=5, batch_size=4, verbose=False,
            callbacks=[script, xpnet.EarlyStopping("validation_accuracy", patience=3)])  # fmt: skip
    assert_array_equal(flat(net), script.thetas[1])


def test_early_stopping_can_leave_the_parameters(problem):
    script = Script([1, 2, 3])
    net = neuron()
    net.fit(*problem, epochs=3, batch_size=4, verbose=False,
            callbacks=[script, xpnet.EarlyStopping("score", restore_best=False)])  # fmt: skip
    assert_array_equal(flat(net), script.thetas[-1])


def test_early_stopping_watches_the_validation_loss(training_backend, classes):
    x, t = classes
    net, kept = classifier(backend=training_backend), []
    history = net.fit(
        x[:10], t[:10], epochs=200, batch_size=10, optimizer=xpnet.SGD(0.9), validation_data=(x[10:], t[10:]),
        callbacks=[lambda run: kept.append(flat(run.net)), xpnet.EarlyStopping(patience=4)], verbose=False,
    )  # fmt: skip
    best = int(np.argmin(history["validation_loss"]))
    assert 0 < best < history.epochs - 1 < 199
    assert history.epochs == best + 5
    assert_array_equal(flat(net), kept[best])


def test_early_stopping_says_which_curves_there_are(problem):
    with pytest.raises(ConfigError, match=r"no curve 'validation_loss'; recorded are loss, .*Give fit validation_data"):
        neuron().fit(*problem, epochs=2, batch_size=4, verbose=False, callbacks=xpnet.EarlyStopping())
    for options in ({"patience": 0}, {"min_delta": -1}, {"restore_best": 1}):
        with pytest.raises(ConfigError, match=rf"EarlyStopping: {next(iter(options))} must be"):
            xpnet.EarlyStopping(**options)
