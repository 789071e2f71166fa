"""Numbers that stop being finite: what the error says, and what is left."""

import numpy as np
import problems
import pytest
from array_backends import make
from numpy.testing import assert_array_equal
from problems import flat

import xpnet
from xpnet.errors import NonFiniteError

ROWS = 40


def fails(xp, x):
    """Return x, or infinity where x is above 100."""
    return x / xp.astype(x < 100, x.dtype)


def identity(xp, x):
    return x


def one(xp, x):
    return xp.ones_like(x)


FRAGILE = xpnet.Activation(fails, one)


def data(bad=None):
    """Return inputs and classes; the input number `bad` is so large that a fragile layer fails."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(ROWS, 3)).astype(np.float32)
    if bad is not None:
        x[bad] = 1e4
    return x, rng.integers(0, 2, ROWS)


def network(backend="numpy"):
    layers = [xpnet.Linear(3, 3), FRAGILE, xpnet.Linear(3, 2)]
    net = xpnet.Network(layers, "cross_entropy", backend)
    net.set_parameters({"0.W": np.full((3, 3), 0.5)})
    return net


def trained(backend, x, t, steps, optimizer, **options):
    """Return a trainer after some steps in batches of 4, without shuffling."""
    trainer = xpnet.Trainer(network(backend), optimizer, x, t, batch_size=4, shuffle=False, **options)
    trainer.run(steps)
    return trainer


def state(trainer):
    return {name: trainer.net.backend.to_numpy(a).copy() for name, a in trainer.arrays.carried.items()}


@pytest.mark.parametrize("chunk", [1, 3, 10])
@pytest.mark.parametrize("optimizer", [xpnet.SGD(0.1), xpnet.Adam(0.1), xpnet.SGD(0.1, momentum=0.9)])
def test_everything_is_left_as_after_the_last_finite_step(training_backend, optimizer, chunk):
    """Sample 30 is in batch 7 (from 0): seven steps are good, however many are asked for at once."""
    x, t = data(bad=30)
    trainer = xpnet.Trainer(network(training_backend), optimizer, x, t, batch_size=4, shuffle=False)
    for _ in range(6 // chunk):
        trainer.advance(chunk)
    with pytest.raises(NonFiniteError) as caught:
        trainer.advance(trainer.steps_per_epoch - trainer.position)
    assert (trainer.epoch, trainer.position, trainer.step) == (0, 7, 7)
    reference = trained(training_backend, x, t, 7, optimizer)
    expected = state(reference)
    for name, a in state(trainer).items():
        assert_array_equal(a, expected[name], err_msg=name)
    message = str(caught.value)
    assert message.startswith("epoch 1, step 8: ")
    assert "The parameters are those of the last finite step. Try a learning rate below 0.1, clip_norm" in message
    if trainer.step > 6 // chunk * chunk:  # this call did a good step itself
        six = trained(training_backend, x, t, 6, optimizer)
        last = six.net.gradients(x[24:28], t[24:28])[0]
        assert f"the last finite loss was {last:.6g}"[:31] in message


@pytest.mark.parametrize("rate", [10.0, 1e300])
def test_fit_says_where_and_leaves_the_last_finite_step(training_backend, rate):
    x, t = data()
    net = xpnet.mlp([3, 4, 1], loss="mean_squared_error", backend=training_backend)
    t = t[:, None].astype(np.float32)
    message = (
        r"epoch \d+, step \d+: .*; (the last finite loss was [\d.e+]+|no loss since the last look was finite)\. The"
    )
    with pytest.raises(NonFiniteError, match=message) as caught:
        net.fit(x, t, optimizer=xpnet.SGD(rate), epochs=50, batch_size=8, verbose=False)
    assert np.isfinite(flat(net)).all()
    assert np.isfinite(caught.value.history.to_numpy().get("loss", np.zeros(0))).all()
    net.set_parameters({name: np.full(a.shape, 0.1) for name, a in net.parameters.items()})
    net.fit(x, t, optimizer=xpnet.SGD(0.01), epochs=1, batch_size=8, verbose=False)  # it can still be trained


def test_it_is_a_floating_point_error_with_the_weighted_loss_in_it():
    x, t = data(bad=30)
    weight = np.linspace(0.1, 3.0, ROWS)
    trainer = xpnet.Trainer(network(), xpnet.SGD(0.1), x, t, batch_size=4, shuffle=False, sample_weight=weight)
    with pytest.raises(FloatingPointError) as caught:
        trainer.run(10)
    six = trained("numpy", x, t, 6, xpnet.SGD(0.1), sample_weight=weight)
    last = six.net.gradients(x[24:28], t[24:28], weight[24:28])[0]
    assert float(str(caught.value).split("the last finite loss was ")[1].split(". ")[0]) == pytest.approx(
        last, rel=1e-4
    )


def test_the_first_step_of_all():
    x, t = data(bad=0)
    net = network()
    before = flat(net)
    with pytest.raises(NonFiniteError, match=r"epoch 1, step 1: .*; no loss since the last look was finite\. The"):
        net.fit(x, t, epochs=1, batch_size=4, shuffle=False, verbose=False)
    assert_array_equal(flat(net), before)


@pytest.mark.parametrize(
    ("layers", "loss", "weight", "value", "target", "message"),
    [
        (
            [xpnet.Linear(3, 2)],
            "huber",
            1.0,
            3e38,
            0.0,
            r"the output of layer 0 \(Linear\(inputs=3, outputs=2.*has 0 NaN and 2 infinite of 8 entries",
        ),
        (
            [xpnet.Linear(3, 2), FRAGILE],
            "huber",
            1.0,
            1e4,
            0.0,
            r"the output of layer 1 \(Activation\(.*has 0 NaN and 2 infinite of 8",
        ),
        (
            [xpnet.Linear(3, 2), xpnet.Activation(identity, fails)],
            "huber",
            1.0,
            1e4,
            0.0,
            r"the delta passed back by layer 1 \(Activation\(",
        ),
        ([xpnet.Linear(3, 2)], "sum_squared_error", 1.0, 1e25, 0.0, r"the loss SumSquaredError\(\) is inf"),
        ([xpnet.Linear(3, 2)], "poisson", 1.0, 1e3, 0.0, r"the loss Poisson\(\) is inf"),
        (
            [xpnet.Linear(3, 2)],
            "sum_squared_error",
            1e-38,
            3e38,
            -100.0,
            r"the gradient of W of layer 0 \(Linear.*has 0 NaN and 6 infinite of 6",
        ),
    ],
    ids=["output", "activation", "delta", "loss", "poisson", "gradient"],
)
@pytest.mark.parametrize("name", ["numpy", "device1"])
def test_the_quantity_is_named(layers, loss, weight, value, target, message, name):
    x, _ = data()
    t = np.zeros((ROWS, 2), dtype=np.float32)
    x[9], t[9] = value, -target if loss == "poisson" else target
    net = xpnet.Network(layers, loss, backend=make(name))
    net.set_parameters({"0.W": np.full((3, 2), weight)})
    with pytest.raises(NonFiniteError, match=rf"epoch 1, step 3: {message}"):
        net.fit(x, t, epochs=1, batch_size=4, shuffle=False, optimizer=xpnet.SGD(1e-30), verbose=False)


def test_the_update_is_named():
    x, t = data()
    with pytest.raises(NonFiniteError, match=r"epoch 1, step 1: the update of the parameters by SGD is not finite"):
        network().fit(x, t, epochs=1, batch_size=4, optimizer=xpnet.SGD(1e300), verbose=False)


def test_clipping_lets_training_survive_a_steep_place():
    x, t = data()
    x[5] = 1e4
    target = np.where(t > 0, 1e4, -1e4).astype(np.float32)[:, None]
    for optimizer, survives in ((xpnet.SGD(0.1), False), (xpnet.SGD(1e-3, clip_norm=1.0), True)):
        net = xpnet.mlp([3, 1], loss="mean_squared_error")
        if survives:
            net.fit(x, target, epochs=20, batch_size=4, optimizer=optimizer, verbose=False)
        else:
            with pytest.raises(NonFiniteError):
                net.fit(x, target, epochs=20, batch_size=4, optimizer=optimizer, verbose=False)
        assert np.isfinite(flat(net)).all()


def test_a_validation_loss_that_overflows_is_recorded_and_never_the_best():
    x, t = data()
    xv = x.copy()
    xv[0] = 3e38
    net = xpnet.mlp([3, 1], loss="mean_squared_error")
    target = t[:, None].astype(np.float32)
    stopping = xpnet.EarlyStopping(patience=2)
    history = net.fit(x, target, epochs=5, validation_data=(xv, target), callbacks=stopping, verbose=False)
    assert not np.isfinite(history["validation_loss"]).any()
    assert history.epochs == 2
    assert stopping.best_epoch == -1
    assert np.isfinite(flat(net)).all()


def test_a_loss_that_rises_far_and_stays_finite_is_said():
    x, t = problems.three_classes()
    net = problems.classifier()
    with pytest.warns(
        UserWarning, match=r"the loss of the last epoch is .* the training diverges.*now 10000, or scale x"
    ):
        net.fit(100 * x, t, optimizer=xpnet.SGD(1e4), epochs=2, verbose=False)
    line = xpnet.mlp([3, 1], loss="mean_squared_error")
    with pytest.warns(UserWarning, match=r"it was .* in the first epoch"):
        line.fit(
            x,
            t[:, None],
            optimizer=xpnet.SGD(lambda step: 0.01 * 200 ** (step > 3)),
            epochs=8,
            batch_size=len(x),
            verbose=False,
        )
