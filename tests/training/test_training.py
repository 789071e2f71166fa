"""`fit` and `Trainer` against a training loop in plain NumPy; order, history, validation."""

import random
from math import cos, pi

import numpy as np
import problems
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from problems import N, classifier, flat, loop, neuron

import xpnet
from xpnet.backends.numpy import NumpyBackend
from xpnet.errors import ConfigError, DataError
from xpnet.training.feed import epoch_order


@pytest.fixture
def problem():
    return problems.line()


@pytest.fixture
def classes():
    return problems.three_classes()


# ------------------------------------------------------------------------------------------------- minibatches


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [1, 4, 22, 23])
def test_fit_is_the_plain_loop(training_backend, problem, batch_size, shuffle):
    """Batches of one, a ragged last one, one of a single sample, and all samples at once."""
    x, t = problem
    net = neuron(training_backend, seed=5)
    history = net.fit(x, t, optimizer=xpnet.SGD(0.05), epochs=3, batch_size=batch_size, shuffle=shuffle, verbose=False)
    theta, losses = loop(x, t, epochs=3, batch_size=batch_size, rate=0.05, seed=5, shuffle=shuffle)
    assert_allclose(flat(net), theta, rtol=1e-12)
    assert_allclose(history["loss"], losses, rtol=1e-12)


@pytest.mark.parametrize("batch_size", [4, 23])
def test_weighted_fit_is_the_plain_loop(training_backend, problem, batch_size):
    x, t = problem
    weight = np.random.default_rng(0).uniform(size=N) * (np.arange(N) % 3 > 0)  # a third of them zero
    net = neuron(training_backend)
    history = net.fit(
        x, t, optimizer=xpnet.SGD(0.05), epochs=3, batch_size=batch_size, sample_weight=weight, verbose=False
    )
    theta, losses = loop(x, t, epochs=3, batch_size=batch_size, rate=0.05, weight=weight)
    assert_allclose(flat(net), theta, rtol=1e-12)
    assert_allclose(history["loss"], losses, rtol=1e-12)


def test_one_batch_alone_is_not_dropped(problem):
    x, t = problem
    net = neuron()
    before = flat(net)
    net.fit(x, t, epochs=1, batch_size=N, verbose=False)
    assert (flat(net) != before).all()


def test_the_ragged_last_batch_is_not_dropped_and_is_divided_by_its_own_size(problem):
    """The last of five samples, alone in its batch of four, moves the neuron by its whole gradient."""
    x, t = problem[0][:5], problem[1][:5]
    first, whole = neuron(), neuron()
    first.fit(x[:4], t[:4], optimizer=xpnet.SGD(0.1), epochs=1, batch_size=4, shuffle=False, verbose=False)
    whole.fit(x, t, optimizer=xpnet.SGD(0.1), epochs=1, batch_size=4, shuffle=False, verbose=False)
    W, b = first.parameters["0.W"], first.parameters["0.b"]
    error = float(x[4] @ W[:, 0] + b[0] - t[4, 0])
    expected = flat(first) - 0.1 * 2 * error * np.asarray([*x[4], 1.0])
    assert_allclose(flat(whole), expected, rtol=1e-12)


def test_a_batch_size_above_the_samples_is_taken_as_all_of_them(problem):
    x, t = problem
    net, reference = neuron(), neuron()
    with pytest.warns(UserWarning, match=r"batch_size 64 is larger than the 23 samples; 23 is used") as seen:
        net.fit(x, t, epochs=1, batch_size=64, verbose=False)
    assert len(seen) == 1
    assert seen[0].filename == __file__
    reference.fit(x, t, epochs=1, batch_size=N, verbose=False)
    assert_array_equal(flat(net), flat(reference))


def test_the_order_is_a_function_of_seed_and_epoch():
    orders = {(seed, epoch): epoch_order(seed, epoch, 50).tolist() for seed in range(3) for epoch in range(3)}
    assert all(sorted(order) == list(range(50)) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 9
    assert epoch_order(2, 1, 50).tolist() == orders[2, 1]
    assert epoch_order(2**80, 1, 50).tolist() != orders[0, 1]


def test_no_order_comes_again_in_a_hundred_epochs():
    trainer = xpnet.Trainer(xpnet.mlp([4, 3], seed=3), "sgd", np.zeros((9, 4), "f4"), np.zeros(9, int))
    orders = [trainer.feed.order(epoch).tolist() for epoch in range(101)]
    assert len({tuple(order) for order in orders[:100]}) == 100
    assert orders[100] == [5, 1, 0, 2, 3, 7, 6, 4, 8]  # what NumPy's PCG64 makes of the seed (3, 0x0E0C, 100)


def test_epochs_in_one_run_or_several_take_the_same_order(problem):
    x, t = problem
    whole, parts = neuron(seed=9), neuron(seed=9)
    xpnet.Trainer(whole, xpnet.SGD(0.05), x, t, batch_size=4).run(18)
    trainer = xpnet.Trainer(parts, xpnet.SGD(0.05), x, t, batch_size=4)
    for steps in (1, 4, 1, 6, 0, 6):  # 6 steps an epoch
        np.random.default_rng().normal(size=100)  # numbers drawn elsewhere make no difference
        trainer.run(steps)
    assert_array_equal(flat(parts), flat(whole))
    assert (trainer.epoch, trainer.position, trainer.step) == (3, 0, 18)


def test_a_trainer_driven_by_hand_goes_on_with_run(problem):
    x, t = problem
    one, two = neuron(), neuron()
    xpnet.Trainer(one, "adam", x, t, batch_size=4).run(8)
    trainer = xpnet.Trainer(two, "adam", x, t, batch_size=4)
    trainer.advance(trainer.steps_per_epoch)  # the epoch is not finished by hand
    trainer.run(2)
    assert_array_equal(flat(two), flat(one))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (0, r"steps must be an integer >= 1, got 0"),
        (-1, r"steps must be an integer >= 1, got -1"),
        (2.5, r"steps must be an integer >= 1, got 2\.5"),
        (7, r"steps must be at most 6, what is left of the epoch, got 7; use run\(steps\)"),
    ],
)
def test_a_trainer_does_not_go_past_its_epoch(problem, steps, message):
    trainer = xpnet.Trainer(neuron(), "sgd", *problem, batch_size=4)
    before = flat(trainer.net)
    with pytest.raises(ConfigError, match=message):
        trainer.advance(steps)
    assert_array_equal(flat(trainer.net), before)


def test_random_states_of_others_are_untouched(classes):
    x, t = classes
    before = (repr(np.random.get_state()), random.getstate())  # noqa: NPY002
    net = classifier(dropout=0.2, seed=None)
    net.fit(x, t, epochs=2, validation_split=0.2, class_weight="balanced", verbose=False)
    net.predict_proba(x)
    net.evaluate(x, t)
    assert (repr(np.random.get_state()), random.getstate()) == before  # noqa: NPY002


def test_the_same_seed_trains_to_the_same_bits_and_another_does_not(classes):
    x, t = classes
    results = []
    for seed in (1, 1, 2):
        net = classifier(dropout=0.2, seed=seed)
        net.fit(x, t, epochs=2, batch_size=16, validation_split=0.2, verbose=False)
        results.append(flat(net).tobytes())
    assert results[0] == results[1] != results[2]


# ----------------------------------------------------------------------------------------------------- history


def test_history_has_arrays_by_name(classes):
    x, t = classes
    history = classifier().fit(x, t, epochs=3, validation_data=(x[:20], t[:20]), verbose=False)
    assert list(history) == ["loss", "validation_loss", "validation_accuracy", "seconds", "learning_rate"]
    assert history.epochs == 3
    for name, curve in history.to_numpy().items():
        assert curve.shape == (3,)
        assert curve.dtype == np.float64
        assert_array_equal(curve, history[name])
    assert history["loss"][-1] < history["loss"][0]
    assert (history["seconds"] > 0).all()
    with pytest.raises(KeyError, match=r"accuracy.*recorded are loss, validation_loss"):
        history["accuracy"]
    assert "loss" in history
    assert "3 epochs" in repr(history)


def test_histories_compare():
    one, two = xpnet.History({"loss": [1, 2]}), xpnet.History({"loss": [1.0, 2.0]})
    assert one == two
    assert one != xpnet.History({"loss": [1.0, 3.0]})
    assert one != {"loss": [1.0, 2.0]}


def test_no_epochs_is_no_training(classes):
    net = classifier()
    before = flat(net)
    history = net.fit(*classes, epochs=0, verbose=False)
    assert history.epochs == 0
    assert list(history) == []
    assert_array_equal(flat(net), before)


def test_learning_rate_of_each_epoch_is_that_of_its_last_step(classes):
    rate = 0.1
    schedule = xpnet.schedules.CosineDecay(rate, steps=8)
    history = classifier().fit(*classes, optimizer=xpnet.SGD(schedule), epochs=2, batch_size=16, verbose=False)
    assert_allclose(history["learning_rate"], [rate * (1 + cos(pi * k / 8)) / 2 for k in (3, 7)], rtol=1e-12)


# -------------------------------------------------------------------------------------------------- validation


def test_validation_is_what_evaluate_measures_after_each_epoch(training_backend, classes):
    x, t = classes
    net = classifier(backend=training_backend, l2=0.1, dropout=0.3)
    seen = []
    weight = np.linspace(0.1, 1.0, 20)
    history = net.fit(
        x[20:], t[20:], epochs=3, validation_data=(x[:20], t[:20], weight), verbose=False,
        callbacks=lambda run: seen.append(run.net.evaluate(x[:20], t[:20], weight)),
    )  # fmt: skip
    assert_array_equal(history["validation_loss"], [measured["loss"] for measured in seen])
    assert_array_equal(history["validation_accuracy"], [measured["accuracy"] for measured in seen])
    right = np.argmax(net.backend.to_numpy(net.forward(x[:20])), axis=1) == t[:20]
    assert seen[-1]["accuracy"] == pytest.approx((right * weight).sum() / weight.sum(), rel=1e-12)


def test_validation_data_changes_nothing_of_the_training(classes):
    x, t = classes
    nets = [classifier(dropout=0.3), classifier(dropout=0.3)]
    nets[0].fit(x, t, epochs=2, verbose=False)
    nets[1].fit(x, t, epochs=2, verbose=False, validation_data=(x, t))
    assert_array_equal(flat(nets[0]), flat(nets[1]))


def test_validation_split_sets_a_part_aside(problem):
    """The targets of the samples that are set aside show in the validation alone."""
    x, t = problem
    net = neuron(seed=4)
    history = net.fit(x, t, epochs=1, batch_size=4, validation_split=0.3, verbose=False)
    held = []
    for i in range(N):
        other, changed = neuron(seed=4), t.copy()
        changed[i] += 1.0
        again = other.fit(x, changed, epochs=1, batch_size=4, validation_split=0.3, verbose=False)
        same = np.array_equal(flat(other), flat(net))
        if same:
            assert again["validation_loss"][0] != history["validation_loss"][0]
        held.append(same)
    assert sum(held) == round(0.3 * N)
    y = x @ net.parameters["0.W"] + net.parameters["0.b"]
    assert history["validation_loss"][0] == pytest.approx(float(((y - t)[held] ** 2).mean()), rel=1e-12)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"validation_split": 0.01},
            ConfigError,
            r"validation_split=0\.01: the validation set would have 0 of 23 samples",
        ),
        (
            {"validation_split": 0.99},
            ConfigError,
            r"validation_split=0\.99: the training set would have 0 of 23 samples",
        ),
        ({"validation_split": 1.0}, ConfigError, r"validation_split must be a finite number in \[0, 1\), got 1\.0"),
        ({"validation_split": -0.1}, ConfigError, r"validation_split must be .* got -0\.1"),
        ({"validation_split": True}, ConfigError, r"validation_split must be .* got True"),
        ({"validation_data": 5}, ConfigError, r"validation_data must be a pair \(x, t\) or a triple"),
        ({"validation_data": (1, 2, 3, 4)}, ConfigError, r"validation_data must be a pair \(x, t\) or a triple"),
        ({"validation_data": (np.ones((2, 2)), np.ones(2)), "validation_split": 0.2}, ConfigError, r"not both"),
        (
            {"validation_split": 0.5, "sample_weight": np.eye(N)[0]},
            DataError,
            r"validation_split leaves only samples of weight zero on one side; pass validation_data",
        ),
        ({"batch_size": 0}, ConfigError, r"batch_size must be an integer >= 1, got 0"),
        ({"batch_size": -1}, ConfigError, r"batch_size must be an integer >= 1, got -1"),
        ({"batch_size": 2.5}, ConfigError, r"batch_size must be an integer >= 1, got 2\.5"),
        ({"batch_size": True}, ConfigError, r"batch_size must be an integer >= 1, got True"),
        ({"epochs": -1}, ConfigError, r"epochs must be an integer >= 0, got -1"),
        ({"epochs": 1.5}, ConfigError, r"epochs must be an integer >= 0, got 1\.5"),
        ({"shuffle": 1}, ConfigError, r"shuffle must be True or False, got 1"),
        ({"verbose": "yes"}, ConfigError, r"verbose must be .*got 'yes'"),
        ({"optimizer": "adm"}, ConfigError, r"unknown optimizer 'adm'; names are sgd, .*[Dd]id you mean 'adam'"),
        ({"optimizer": xpnet.Adam}, ConfigError, r"unknown optimizer .*write xpnet\.Adam\(\), with parentheses"),
        ({"optimizer": xpnet.SGD(lambda k: -1.0)}, ConfigError, r"SGD: learning_rate\(0\) returned -1\.0"),
        ({"callbacks": 5}, ConfigError, r"callbacks must be a sequence of Callbacks or functions, such as .*, got 5"),
        ({"callbacks": [print, 5]}, ConfigError, r"callbacks\[1\] must be a Callback or a function of the run, got 5"),
        ({"callbacks": [xpnet.EarlyStopping]}, ConfigError, r"callbacks\[0\] must be a Callback or a function"),
    ],
)
def test_impossible_options_change_nothing(problem, options, error, message):
    net = neuron()
    before = flat(net)
    with pytest.raises(error, match=message):
        net.fit(*problem, **{"epochs": 1, "verbose": False, "batch_size": 4} | options)
    assert_array_equal(flat(net), before)
    net.fit(*problem, epochs=1, verbose=False, batch_size=4)  # it can still be trained


@pytest.mark.parametrize("size", [1e308, 1e-310, 5e-324, 3.0])
def test_weights_of_any_size_are_weights(size):
    x, t = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2
    nets = [xpnet.mlp([2, 3, 2], dtype="float64") for _ in range(2)]
    for net, weight in zip(nets, (np.full(20, size), np.ones(20)), strict=True):
        net.fit(x, t, epochs=2, batch_size=8, sample_weight=weight, verbose=False)
    assert (nets[0].theta == nets[1].theta).all()
    assert nets[0].evaluate(x, t, np.full(20, size)) == nets[1].evaluate(x, t)


class Ahead(NumpyBackend):
    """Stands in for a device that works while the host does other things."""

    asynchronous = True


def test_where_a_look_at_the_numbers_is_a_wait_there_is_one_a_second():
    net = xpnet.mlp([1, 2], backend=Ahead())
    trainer = xpnet.Trainer(net, "sgd", np.zeros((1000, 1), np.float32), np.zeros(1000, int), batch_size=1)
    for trainer._pace, steps in ((0.004, 250), (0.5, 64), (1e-6, 1000)):
        assert trainer.chunk == steps
    done = []
    trainer.advance = lambda steps: done.append(steps) or setattr(trainer, "_counts", (0, trainer.position + steps, 0))
    trainer._pace = 0.01
    trainer.run(250)
    assert done == [100, 100, 50]  # Ctrl-C is heard between these


def test_the_next_order_is_drawn_while_the_device_is_at_work(monkeypatch):
    events, thetas = [], []
    for backend in (Ahead(), NumpyBackend()):
        net = xpnet.mlp([1, 4, 2], backend=backend, seed=3)
        x = np.linspace(-1, 1, 20)[:, None].astype(np.float32)
        trainer = xpnet.Trainer(net, "sgd", x, np.arange(20) % 2, batch_size=8)
        draw, look = trainer.feed._order, trainer.look
        trainer.feed._order = lambda epoch, draw=draw: events.append(epoch) or draw(epoch)
        trainer.look = lambda again=False, look=look: events.append("look") or look(again)
        trainer.run(7)  # two epochs of three steps, and one step more
        thetas.append(net.theta.copy())
        events[:] = [event for k, event in enumerate(events) if not k or event != events[k - 1]]
        assert events == ([0, 1, "look", 2, "look"] if backend.asynchronous else [0, "look", 1, "look", 2, "look"])
        events.clear()
    assert_array_equal(thetas[0], thetas[1])
