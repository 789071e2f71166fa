"""Learning-rate schedules: their formulas, their shapes, and what they refuse."""

import dataclasses
from math import cos, pi

import numpy as np
import pytest
from labels import label

import xpnet
from xpnet.errors import ConfigError
from xpnet.schedules import (
    SCHEDULES,
    CosineDecay,
    ExponentialDecay,
    OneCycle,
    PolynomialDecay,
    Schedule,
    StepDecay,
    WarmUp,
)

KNOWN = [
    (StepDecay(0.8, every=3, factor=0.5), [0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2]),
    (ExponentialDecay(1.0, steps=2, factor=0.25), [1.0, 0.5, 0.25, 0.125]),
    (PolynomialDecay(1.0, steps=4), [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]),
    (PolynomialDecay(1.1, steps=2, final=0.1, power=2.0), [1.1, 0.35, 0.1, 0.1]),
    (CosineDecay(1.0, steps=4), [1.0, (1 + cos(pi / 4)) / 2, 0.5, (1 - cos(pi / 4)) / 2, 0.0, 0.0]),
    (CosineDecay(1.0, steps=2, final=0.2), [1.0, 0.6, 0.2, 0.2]),
    (WarmUp(4, 0.8), [0.2, 0.4, 0.6, 0.8, 0.8, 0.8]),
    (WarmUp(2, StepDecay(1.0, every=2)), [0.5, 1.0, 1.0, 1.0, 0.1, 0.1]),
    # The rise goes straight to the first value of what follows, which itself begins to fall only then.
    (
        WarmUp(3, CosineDecay(0.2, 5)),
        [0.2 / 3, 0.4 / 3, 0.2, 0.2, *(0.1 * (1 + cos(pi * k / 5)) for k in (1, 2, 3, 4)), 0.0, 0.0],
    ),
    (OneCycle(1.0, steps=11, rise=0.5, divide=10.0, final_divide=100.0), [0.1, None, None, None, None, 1.0]),
]


@pytest.mark.parametrize(("schedule", "rates"), KNOWN, ids=lambda value: str(value)[:40])
def test_known_values(schedule, rates):
    for step, rate in enumerate(rates):
        if rate is not None:
            assert schedule(step) == pytest.approx(rate, rel=1e-12, abs=1e-15)
        assert type(schedule(step)) is float


def test_one_cycle_rises_and_falls_without_a_jump():
    schedule = OneCycle(0.5, steps=1001)
    rates = np.asarray([schedule(step) for step in range(1200)])
    top = int(np.argmax(rates))
    assert top == 300
    assert rates[0] == pytest.approx(0.5 / 25)
    assert rates[top] == pytest.approx(0.5)
    assert rates[1000] == pytest.approx(0.5 / 1e5)
    assert (np.diff(rates[: top + 1]) > 0).all()
    assert (np.diff(rates[top:1001]) < 0).all()
    assert np.abs(np.diff(rates)).max() < 0.003
    assert (rates[1000:] == rates[1000]).all()


@pytest.mark.parametrize("schedule", [CosineDecay(0.1, 50), PolynomialDecay(0.1, 50), OneCycle(0.1, 50)], ids=label)
def test_the_last_value_stays(schedule):
    assert schedule(10**9) == pytest.approx(schedule(50), abs=1e-12)


def test_every_schedule_is_frozen_and_has_a_name():
    public = {cls for cls in vars(xpnet.schedules).values() if isinstance(cls, type) and issubclass(cls, Schedule)}
    assert {Schedule, *SCHEDULES.values()} == public
    assert {type(schedule) for schedule, _ in KNOWN} == set(SCHEDULES.values())
    for name, cls in SCHEDULES.items():
        assert cls.__name__ == name
        assert dataclasses.is_dataclass(cls)
        assert cls.__dataclass_params__.frozen


def test_training_follows_a_schedule():
    x, t = np.ones((12, 1)), np.zeros((12, 1))
    net = xpnet.Network([xpnet.Linear(1, 1, bias=False)], "sum_squared_error", dtype="float64")
    net.set_parameters({"0.W": [[1.0]]})
    schedule = WarmUp(3, CosineDecay(0.2, 5, final=0.01))
    history = net.fit(x, t, optimizer=xpnet.SGD(schedule), epochs=3, batch_size=4, verbose=False)
    w = 1.0
    for step in range(9):
        w -= schedule(step) * 2 * w
    assert net.parameters["0.W"][0, 0] == pytest.approx(w, rel=1e-12)
    assert history["learning_rate"].tolist() == [schedule(step) for step in (2, 5, 8)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StepDecay(0.0, every=1), r"StepDecay: initial must be a finite number in \(0, inf\), got 0\.0"),
        (lambda: StepDecay(0.1, every=0), r"StepDecay: every must be an integer >= 1, got 0"),
        (lambda: StepDecay(0.1, every=2.0), r"StepDecay: every must be an integer >= 1, got 2\.0"),
        (lambda: StepDecay(0.1, every=1, factor=-1), r"StepDecay: factor must be .* got -1"),
        (lambda: ExponentialDecay(-1.0, 5), r"ExponentialDecay: initial must be .* got -1\.0"),
        (lambda: ExponentialDecay(0.1, 0), r"ExponentialDecay: steps must be an integer >= 1, got 0"),
        (lambda: ExponentialDecay(0.1, 5, factor=0), r"ExponentialDecay: factor must be .* got 0"),
        (lambda: PolynomialDecay(0.1, 0), r"PolynomialDecay: steps must be an integer >= 1, got 0"),
        (lambda: PolynomialDecay(0.1, 5, power=0), r"PolynomialDecay: power must be .* got 0"),
        (lambda: PolynomialDecay(0.1, 5, final=-0.1), r"PolynomialDecay: final must be .* got -0\.1"),
        (lambda: CosineDecay("a", 5), r"CosineDecay: initial must be .* got 'a'"),
        (lambda: CosineDecay(0.1, True), r"CosineDecay: steps must be an integer >= 1, got True"),
        (lambda: CosineDecay(0.1, 5, final=float("nan")), r"CosineDecay: final must be .* got nan"),
        (lambda: WarmUp(0, 0.1), r"WarmUp: steps must be an integer >= 1, got 0"),
        (lambda: WarmUp(5, -0.1), r"WarmUp: after must be .* got -0\.1"),
        (lambda: OneCycle(0.0, 5), r"OneCycle: peak must be .* got 0\.0"),
        (lambda: OneCycle(0.1, 1), r"OneCycle: steps must be an integer >= 2, got 1"),
        (lambda: OneCycle(0.1, 5, rise=1.0), r"OneCycle: rise must be a finite number in \(0, 1\), got 1\.0"),
        (lambda: OneCycle(0.1, 5, divide=0.5), r"OneCycle: divide must be .* got 0\.5"),
        (lambda: OneCycle(0.1, 5, final_divide=0), r"OneCycle: final_divide must be .* got 0"),
    ],
)
def test_impossible_schedules(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
