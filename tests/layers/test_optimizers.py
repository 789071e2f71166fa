"""Optimizers against closed forms in plain Python, and what all of them promise."""

from math import sqrt

import cases
import mpmath
import numpy as np
import pytest
from labels import label
from numpy.testing import assert_allclose, assert_array_equal

import xpnet
from xpnet.errors import ConfigError

each_optimizer = pytest.mark.parametrize("optimizer", cases.OPTIMIZERS, ids=label)
P = 7  # parameters


def host_steps(optimizer, theta, gradients):
    """Return theta after one step for each gradient; each number alone, in the textbook's words."""
    kept = {name: [0.0] * len(theta) for name in ("v", "s", "m")}
    theta = [float(value) for value in theta]
    for t, g in enumerate(gradients, start=1):
        rate = optimizer.learning_rate(t - 1) if callable(optimizer.learning_rate) else optimizer.learning_rate
        for i, gi in enumerate(map(float, g)):
            if isinstance(optimizer, xpnet.SGD):
                kept["v"][i] = optimizer.momentum * kept["v"][i] + gi
                change = gi + optimizer.momentum * kept["v"][i] if optimizer.nesterov else kept["v"][i]
            elif isinstance(optimizer, xpnet.Adagrad):
                kept["s"][i] += gi**2
                change = gi / (sqrt(kept["s"][i]) + optimizer.eps)
            elif isinstance(optimizer, xpnet.RMSProp):
                kept["s"][i] = optimizer.decay * kept["s"][i] + (1 - optimizer.decay) * gi**2
                change = gi / (sqrt(kept["s"][i]) + optimizer.eps)
            else:
                assert isinstance(optimizer, xpnet.Adam)
                kept["m"][i] = optimizer.beta1 * kept["m"][i] + (1 - optimizer.beta1) * gi
                kept["v"][i] = optimizer.beta2 * kept["v"][i] + (1 - optimizer.beta2) * gi**2
                m = kept["m"][i] / (1 - optimizer.beta1**t)
                v = kept["v"][i] / (1 - optimizer.beta2**t)
                change = m / (sqrt(v) + optimizer.eps)
            theta[i] -= rate * change
    return np.asarray(theta)


def device_steps(optimizer, backend, theta, gradients, dtype="float64"):
    """Return theta after one `update` for each gradient, checking that nothing but theta and the slots changes."""
    xp = backend.xp

    def own(a):
        return xp.asarray(backend.asarray(np.asarray(a, dtype=dtype)), copy=True)

    theta = own(theta)
    slots = [own(np.zeros(theta.shape)) for _ in optimizer.slots]
    rates = optimizer.rates(range(len(gradients)))
    table = optimizer.scalars(np.arange(1.0, len(gradients) + 1), rates)
    for k, g in enumerate(gradients):
        g_device = backend.asarray(np.asarray(g, dtype=dtype))
        scalars = [backend.asarray(np.asarray([column[k]], dtype=dtype)) for column in table.values()]
        assert optimizer.update(xp, theta, g_device, *slots, *scalars) is None
        assert_array_equal(backend.to_numpy(g_device), np.asarray(g, dtype=dtype))
        for a in (theta, *slots):
            assert a.dtype == getattr(xp, dtype)
    return backend.to_numpy(theta)


@pytest.fixture
def problem():
    rng = np.random.default_rng(11)
    return rng.normal(size=P), rng.normal(size=(5, P)) * 10.0 ** rng.integers(-3, 2, P)


@each_optimizer
def test_update_is_the_closed_form(optimizer, backend, problem):
    theta, gradients = problem
    assert_allclose(
        device_steps(optimizer, backend, theta, gradients), host_steps(optimizer, theta, gradients), rtol=1e-12
    )


@each_optimizer
def test_update_stays_in_float32(optimizer, backend, problem):
    theta, gradients = problem
    low = device_steps(optimizer, backend, theta, gradients, "float32")
    assert low.dtype == np.float32
    assert_allclose(low, host_steps(optimizer, theta, gradients), rtol=2e-5, atol=2e-6)


@each_optimizer
def test_update_treats_each_number_alone(optimizer, backend, problem):
    theta, gradients = problem
    order = np.random.default_rng(0).permutation(P)
    whole = device_steps(optimizer, backend, theta, gradients)
    assert_array_equal(device_steps(optimizer, backend, theta[order], gradients[:, order]), whole[order])
    assert_array_equal(device_steps(optimizer, backend, theta[2:3], gradients[:, 2:3]), whole[2:3])


@each_optimizer
def test_scalars_do_not_depend_on_which_steps_are_asked_together(optimizer):
    steps = range(3, 8)
    together = optimizer.scalars(np.arange(4.0, 9.0), optimizer.rates(steps))
    for k, step in enumerate(steps):
        alone = optimizer.scalars(np.asarray([step + 1.0]), optimizer.rates(range(step, step + 1)))
        assert {name: column[k] for name, column in together.items()} == {name: c[0] for name, c in alone.items()}


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.99999), (0.0, 0.999999)], ids=str)
@pytest.mark.parametrize("optimizer", [xpnet.Adam, xpnet.AdamW])
def test_the_corrections_of_adam_never_end(optimizer, betas):
    steps = np.asarray([1.0, 2.0, 10.0, 1e3, 1e4, 1e6])
    got = optimizer(0.25, beta1=betas[0], beta2=betas[1]).scalars(steps, np.full(len(steps), 0.25))
    with mpmath.workdps(50):
        beta1, beta2 = map(mpmath.mpf, betas)
        scale = [float(mpmath.mpf(0.25) / (1 - beta1 ** int(t))) for t in steps]
        correction = [float(1 / mpmath.sqrt(1 - beta2 ** int(t))) for t in steps]
    assert got["scale"] == pytest.approx(scale, rel=1e-14)
    assert got["correction"] == pytest.approx(correction, rel=1e-10)  # 1 - beta2 ** t cancels in the first steps
    assert got["correction"][3:] == pytest.approx(correction[3:], rel=1e-12)


# -------------------------------------------------------------------------------- a whole step of a training

X = np.asarray([[1.0, -2.0]])
T = np.asarray([[0.5]])


def trained(optimizer, backend, steps, dtype="float64"):
    """Return (W, b) of one linear neuron after some steps on a single sample."""
    net = xpnet.Network([xpnet.Linear(2, 1)], loss="sum_squared_error", backend=backend, dtype=dtype)
    net.set_parameters({"0.W": [[0.3], [-0.4]], "0.b": [0.1]})
    trainer = xpnet.Trainer(net, optimizer, X.astype(dtype), T, batch_size=1)
    trainer.run(steps)
    return np.concatenate([net.backend.to_numpy(net.parameters[name]).reshape(-1) for name in ("0.W", "0.b")])


def by_hand(optimizer, steps):
    """The same, with the gradient 2 (w x + b - t) (x, 1), clipping and decay written out."""
    theta, gradients = np.asarray([0.3, -0.4, 0.1]), []
    for t in range(steps):
        rate = optimizer.learning_rate(t) if callable(optimizer.learning_rate) else optimizer.learning_rate
        error = theta[0] * X[0, 0] + theta[1] * X[0, 1] + theta[2] - T[0, 0]
        g = 2 * error * np.asarray([X[0, 0], X[0, 1], 1.0])
        if optimizer.clip_value is not None:
            g = np.asarray([max(min(value, optimizer.clip_value), -optimizer.clip_value) for value in g])
        if optimizer.clip_norm is not None:
            length = sqrt(sum(value**2 for value in g))
            g = g * min(1.0, optimizer.clip_norm / length)
        gradients.append(g)
        change = host_steps(optimizer, np.zeros(3), gradients) - host_steps(optimizer, np.zeros(3), gradients[:-1])
        decay = 1 - rate * optimizer.weight_decay
        theta = theta * np.asarray([decay, decay, 1.0]) + change  # biases do not decay
    return theta


@each_optimizer
def test_training_step_with_decay_and_clipping_is_the_closed_form(optimizer, training_backend):
    assert_allclose(trained(optimizer, training_backend, 6), by_hand(optimizer, 6), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("cls", [xpnet.SGD, xpnet.Adagrad, xpnet.RMSProp, xpnet.Adam, xpnet.AdamW])
def test_the_learning_rate_is_not_ignored(cls):
    """Each optimizer's first step is twice as long at twice the rate, and a schedule counts from step 0."""
    start = by_hand(xpnet.SGD(1.0), 0)
    options = {"weight_decay": 0.0}
    one, two = (trained(cls(rate, **options), "numpy", 1) - start for rate in (0.001, 0.002))
    assert np.abs(one).min() > 0
    assert_allclose(two, 2 * one, rtol=1e-9)
    seen = []

    def schedule(step):
        seen.append(step)
        return 0.001 if step == 0 else 0.0

    scheduled = trained(cls(schedule, **options), "numpy", 4) - start
    assert_allclose(scheduled, one, rtol=1e-9)
    assert seen[:4] == [0, 1, 2, 3]


def test_clipping_keeps_the_direction_by_norm_and_the_sign_by_value():
    start = by_hand(xpnet.SGD(1.0), 0)
    free = trained(xpnet.SGD(1.0), "numpy", 1) - start
    by_norm = trained(xpnet.SGD(1.0, clip_norm=0.01), "numpy", 1) - start
    by_value = trained(xpnet.SGD(1.0, clip_value=0.01), "numpy", 1) - start
    assert_allclose(by_norm, free * (0.01 / np.linalg.norm(free)), rtol=1e-9)
    assert_allclose(by_value, 0.01 * np.sign(free), rtol=1e-9)
    assert_array_equal(trained(xpnet.SGD(1.0, clip_norm=1e6), "numpy", 1) - start, free)


# ------------------------------------------------------------------------------------------------ bad values


@pytest.mark.parametrize("rate", [0, 0.0, -1.0, float("nan"), float("inf"), "0.1", None, True, 1j])
@pytest.mark.parametrize("cls", [xpnet.SGD, xpnet.Adagrad, xpnet.RMSProp, xpnet.Adam, xpnet.AdamW])
def test_impossible_learning_rate(cls, rate):
    with pytest.raises(
        ConfigError, match=rf"{cls.__name__}: learning_rate must be a finite number in \(0, inf\), got "
    ):
        cls(rate)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: xpnet.SGD(momentum=1.5), r"SGD: momentum must be a finite number in \[0, 1\), got 1\.5"),
        (lambda: xpnet.SGD(momentum=1.0), r"SGD: momentum must be .* got 1\.0"),
        (lambda: xpnet.SGD(momentum=-0.1), r"SGD: momentum must be .* got -0\.1"),
        (lambda: xpnet.SGD(nesterov=True), r"SGD: nesterov=True needs momentum > 0, got momentum=0\.0"),
        (lambda: xpnet.SGD(momentum=0.9, nesterov=1), r"SGD: nesterov must be True or False, got 1"),
        (lambda: xpnet.Adam(beta1=1.0), r"Adam: beta1 must be a finite number in \[0, 1\), got 1\.0"),
        (lambda: xpnet.AdamW(beta2=1.0), r"AdamW: beta2 must be a finite number in \[0, 1\), got 1\.0"),
        (lambda: xpnet.Adam(beta2=float("nan")), r"Adam: beta2 must be .* got nan"),
        (lambda: xpnet.Adam(eps=0.0), r"Adam: eps must be a finite number in \(0, inf\), got 0\.0"),
        (lambda: xpnet.RMSProp(decay=1.0), r"RMSProp: decay must be a finite number in \[0, 1\), got 1\.0"),
        (lambda: xpnet.RMSProp(eps=-1), r"RMSProp: eps must be .* got -1"),
        (lambda: xpnet.Adagrad(eps=0), r"Adagrad: eps must be .* got 0"),
        (lambda: xpnet.AdamW(weight_decay=-1), r"AdamW: weight_decay must be a finite number in \[0, inf\), got -1"),
        (lambda: xpnet.SGD(clip_norm=0), r"SGD: clip_norm must be a finite number in \(0, inf\), got 0"),
        (lambda: xpnet.SGD(clip_value=-2.0), r"SGD: clip_value must be a finite number in \(0, inf\), got -2\.0"),
    ],
)
def test_impossible_hyper_parameter(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1])
def test_schedule_that_returns_an_impossible_rate(value):
    with pytest.raises(
        ConfigError, match=r"SGD: learning_rate\(2\) returned .*; a schedule must return finite numbers >= 0"
    ):
        xpnet.SGD(lambda step: value if step == 2 else 0.1).rates(range(5))


def test_a_huge_learning_rate_is_allowed_and_so_is_a_rate_of_zero_in_a_schedule():
    assert xpnet.SGD(1e300).rates(range(2)).tolist() == [1e300, 1e300]
    assert xpnet.SGD(lambda step: 0.0).rates(range(2)).tolist() == [0.0, 0.0]
