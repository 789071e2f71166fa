"""Training with float16: against the algorithm in plain NumPy, and that nothing of it is lost, left over or hidden."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import array_api_strict
import numpy as np
import pytest
from array_backends import EagerBackend, make, strict_backend
from test_steps import EVERYTHING, RUNS

import xpnet
from xpnet.backends.cpu.replay import Replay
from xpnet.backends.numpy import NumpyBackend
from xpnet.backends.tape.record import record
from xpnet.errors import CheckpointError, ConfigError, DataError, NonFiniteError
from xpnet.files.tensors import read_tensors, write_tensors
from xpnet.layers.walk import backward_pass, forward_pass
from xpnet.training import feed
from xpnet.training import intake as training
from xpnet.training import precision as mixedprecision

HALF, FULL = np.float16, np.float32
ROWS, BATCH = 45, 8
RNG = np.random.default_rng(8)
X = RNG.normal(size=(ROWS, 3)).astype(FULL)
T = RNG.integers(0, 3, ROWS)
WEIGHTS = RNG.uniform(0.5, 2.0, ROWS)


@pytest.fixture
def scaling(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that sets how the loss is scaled under float16."""

    def change(**values: Any) -> None:
        changed = dataclasses.replace(mixedprecision.FORMATS["float16"], **values)
        monkeypatch.setitem(mixedprecision.FORMATS, "float16", changed)

    return change


@pytest.fixture
def half_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let float32 stand for the half precision: then scaling by powers of two must change no bit."""
    monkeypatch.setattr(mixedprecision, "_dtype", lambda backend, name: backend.xp.float32)


def network(backend: Any = "numpy", **options: Any) -> xpnet.Network:
    return xpnet.mlp([3, 6, 3], "tanh", backend=backend, **{"seed": 3} | options)


def state(trainer: xpnet.Trainer) -> dict[str, np.ndarray]:
    return {name: trainer.net.backend.to_numpy(a).copy() for name, a in trainer.arrays.carried.items()}


def assert_same_state(one: dict[str, np.ndarray], two: dict[str, np.ndarray], but: tuple[str, ...] = ()) -> None:
    assert one.keys() == two.keys()
    for name in one.keys() - set(but):
        np.testing.assert_array_equal(one[name], two[name], err_msg=name, strict=True)


# --------------------------------------------------------------------------- the algorithm, written out once more


@dataclasses.dataclass
class Setting:
    """Hyper-parameters of the training that `reference` does."""

    adam: bool = False
    momentum: float = 0.0
    decay: float = 0.0
    clip: float | None = None
    l1: float = 0.0
    l2: float = 0.0
    averaging: float | None = None
    weighted: bool = False
    initial: float = 2.0**15
    maximum: float = 2.0**24
    minimum: float = 2.0**-14
    patience: int = 2000

    def optimizer(self) -> xpnet.Optimizer:
        options = {"weight_decay": self.decay, "clip_norm": self.clip}
        return xpnet.Adam(0.01, **options) if self.adam else xpnet.SGD(0.1, momentum=self.momentum, **options)


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Multiply in float32 and round, as a GPU does it."""
    return (a.astype(FULL) @ b.astype(FULL)).astype(HALF)


def reference(theta: np.ndarray, x: np.ndarray, setting: Setting, steps: int) -> Iterator[dict[str, Any]]:
    """Train a 3-6-3 network with tanh, in plain NumPy with decisions by value; yield what there is after each step."""
    s, S, good, skipped, loss = setting, FULL(setting.initial), 0, 0, 0.0
    m, v, average = np.zeros_like(theta), np.zeros_like(theta), theta.copy()
    decayed = 36  # two matrices of 18 numbers come first, then the biases
    length = -(-ROWS // BATCH)
    for k in range(steps):
        if k % length == 0:
            order, loss = feed.epoch_order(3, k // length, ROWS), 0.0
        rows = order[k % length * BATCH :][:BATCH]
        xb, tb, B = x[rows].astype(HALF), T[rows], len(rows)
        w, total = np.full(B, 1.0 / B, FULL), float(B)
        if s.weighted:
            w = (WEIGHTS * (ROWS / WEIGHTS.sum())).astype(FULL)[rows]
            total = w.sum()
            w = w / total

        h = theta.astype(HALF)
        W0, W1, b0, b1 = h[:18].reshape(3, 6), h[18:36].reshape(6, 3), h[36:42], h[42:]
        z = product(xb, W0) + b0
        a = np.tanh(z)
        y = (product(a, W1) + b1).astype(FULL)
        y = y - y.max(axis=1, keepdims=True)
        e = np.exp(y)
        one_hot = (tb[:, None] == np.arange(3)).astype(FULL)
        value = ((w[:, None] * one_hot) * (np.log(e.sum(axis=1, keepdims=True)) - y)).sum()
        dy = w[:, None] * (e / e.sum(axis=1, keepdims=True) - one_hot)
        delta = (S * dy).astype(HALF)
        q = np.exp(HALF(-2.0) * np.abs(z))
        dz = product(delta, W1.T) * (q * (HALF(2.0) / (HALF(1.0) + q)) * (HALF(2.0) / (HALF(1.0) + q)))
        ones = np.ones((1, B), HALF)
        parts = [product(xb.T, dz), product(a.T, delta), product(ones, dz), product(ones, delta)]
        g = np.concatenate([part.reshape(-1) for part in parts]).astype(FULL) / S
        W = theta[:decayed].copy()
        value = value + FULL(0.5 * s.l2) * (W * W).sum() if s.l2 else value
        g[:decayed] += FULL(s.l2) * W
        value = value + FULL(s.l1) * np.abs(W).sum() if s.l1 else value
        g[:decayed] += FULL(s.l1) * np.sign(W)
        if np.isfinite(value):
            loss += float(total * value)

        if not np.isfinite(g).all():
            S, good, skipped = S / 2, 0, skipped + 1
        else:
            good += 1
            if good == s.patience:
                S, good = min(2 * S, FULL(s.maximum)), 0
            if s.clip:
                g = g * np.minimum(FULL(1.0), FULL(s.clip) / np.sqrt((g * g).sum()))
            rate, t = 0.01 if s.adam else 0.1, k + 1.0
            theta = theta.copy()
            theta[:decayed] *= FULL(1.0) - FULL(s.decay) * FULL(rate)
            if s.adam:
                m = FULL(0.9) * m + FULL(1.0 - 0.9) * g
                v = FULL(0.999) * v + FULL(1.0 - 0.999) * (g * g)
                scale, correction = FULL(rate / (1.0 - 0.9**t)), FULL(1.0 / np.sqrt(1.0 - 0.999**t))
                theta = theta - scale * (m / (np.sqrt(v) * correction + FULL(1e-8)))
            else:
                v = FULL(s.momentum) * v + g
                theta = theta - FULL(rate) * v
            blend = FULL(1.0 - min(s.averaging or 0.0, (1.0 + t) / (10.0 + t)))
            average = average + blend * (theta - average)
        found = {"theta": theta, "loss": [loss], "scaling.scale": [S], "scaling.good": [good]}
        found |= {"scaling.skipped": [skipped]}
        found |= {"slot.m": m, "slot.v": v} if s.adam else {"slot.v": v} if s.momentum else {}
        yield found | ({"average": average} if s.averaging else {})


SETTINGS = {
    "plain": Setting(),
    "begins too large": Setting(initial=2.0**24),
    "up and down": Setting(initial=2.0**19, patience=3, momentum=0.9, averaging=0.9),
    "everything": Setting(
        adam=True, decay=0.1, clip=0.3, l1=1e-3, l2=1e-2, averaging=0.9, weighted=True, initial=2.0**19, patience=4
    ),
    "a low ceiling": Setting(initial=1.0, maximum=4.0, patience=2, l2=1e-2, adam=True),
}


@pytest.mark.parametrize("how", ["eager", "numpy", "machine code"])
@pytest.mark.parametrize("name", SETTINGS)
def test_it_is_the_algorithm_to_the_bit(name: str, how: str, monkeypatch: pytest.MonkeyPatch, scaling: Any) -> None:
    s = SETTINGS[name]
    if how == "machine code":
        pytest.importorskip("llvmlite", reason="only the fast extra makes machine code")
        monkeypatch.setattr(Replay, "patience", -1.0)
    scaling(initial=s.initial, minimum=s.minimum, maximum=s.maximum, patience=s.patience)
    net = network(EagerBackend() if how == "eager" else "numpy", l1=s.l1, l2=s.l2)
    start = net.theta.copy()
    trainer = xpnet.Trainer(
        net, s.optimizer(), X, T, batch_size=BATCH, averaging=s.averaging, precision="float16",
        sample_weight=WEIGHTS if s.weighted else None,
    )  # fmt: skip
    with np.errstate(all="ignore"):
        for k, expected in enumerate(reference(start, X, s, 40)):
            trainer.run(1)
            found = {name: trainer.arrays[name] for name in expected}
            for array, value in expected.items():
                np.testing.assert_array_equal(found[array], value, err_msg=f"{array} after step {k + 1}")
    assert (trainer.loss_scale, trainer.skipped_steps) == (expected["scaling.scale"][0], expected["scaling.skipped"][0])
    assert (trainer.skipped_steps > 0) == (name not in ("plain", "a low ceiling"))
    assert (net.theta != start).any()
    if name in ("up and down", "everything"):
        assert 3 < trainer.skipped_steps < 20
    if name == "a low ceiling":
        assert trainer.loss_scale == 4.0


def trained(backend: Any, optimizer: Any, loss: str, weighted: bool, precision: Any) -> Any:
    """Train a network of every layer for two epochs; return its parameters and losses."""
    t = T if loss == "cross_entropy" else np.random.default_rng(1).integers(0, 2, (ROWS, 3)).astype(FULL)
    net = xpnet.Network(EVERYTHING, loss, backend=backend, l1=1e-3, l2=1e-2, seed=6)
    history = net.fit(
        X, t, optimizer=optimizer, epochs=2, batch_size=BATCH, verbose=False, precision=precision,
        sample_weight=WEIGHTS if weighted else None, averaging=0.9 if weighted else None,
    )  # fmt: skip
    return net.backend.to_numpy(net.theta).tobytes(), history["loss"].tolist()


@pytest.mark.parametrize("k", range(len(RUNS)))
@pytest.mark.parametrize("name", ["numpy", "device1"])
def test_scaling_alone_changes_no_bit(half_is_full: None, name: str, k: int) -> None:
    """With float32 in the place of float16 the training is the ordinary one: on array-api-strict, too, which has no
    float16. So every layer, loss and optimizer goes through the step, and it has nothing that is not in the standard.
    """
    weighted = (k % 2 == 1) == (name == "numpy")
    ordinary = trained(make(name), *RUNS[k], weighted, None)
    assert trained(make(name), *RUNS[k], weighted, "float16") == ordinary


@pytest.mark.parametrize(
    ("how", "k"), [*(("numpy", k) for k in range(len(RUNS))), *(("machine code", k) for k in (1, 4, 6))]
)
def test_a_replayed_step_is_the_eager_one_to_the_bit(monkeypatch: pytest.MonkeyPatch, k: int, how: str) -> None:
    if how == "machine code":
        pytest.importorskip("llvmlite", reason="only the fast extra makes machine code")
        monkeypatch.setattr(Replay, "patience", -1.0)
    programs = []
    compiled = NumpyBackend.compile
    monkeypatch.setattr(NumpyBackend, "compile", lambda *a: programs.append(compiled(*a)) or programs[-1])
    weighted = k % 2 == 1
    found = trained("numpy", *RUNS[k], weighted, "float16")
    assert found == trained(EagerBackend(), *RUNS[k], weighted, "float16")
    assert found[0] != trained("numpy", *RUNS[k], weighted, None)[0]
    assert [type(program) for program in programs[:2]] == [Replay, Replay]  # a full batch's and the last one's


@pytest.mark.parametrize("device", ["CPU_DEVICE", "device1"])
def test_a_step_reads_nothing_back(half_is_full: None, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    net = xpnet.Network(EVERYTHING, "cross_entropy", strict_backend(device), l1=1e-3, l2=1e-2)
    trainer = xpnet.Trainer(
        net, xpnet.AdamW(clip_norm=1.0), X, T, batch_size=BATCH, averaging=0.5, precision="float16",
        sample_weight=WEIGHTS,
    )  # fmt: skip
    trainer._begin_epoch()
    step, before = trainer.make_step(BATCH), net.theta + 0.0

    def look(self: Any, *_: Any) -> Any:
        raise AssertionError("a value is read back to the host")

    with monkeypatch.context() as patched:
        for name in ("__bool__", "__float__", "__int__", "__complex__", "__array__", "to_device", "__dlpack__"):
            patched.setattr(array_api_strict._array_object.Array, name, look)
        with pytest.raises(AssertionError, match="read back"):
            _ = trainer.loss_scale
        step(net.backend.xp, trainer.arrays)
    assert (net.backend.to_numpy(net.theta) != net.backend.to_numpy(before)).any()


def test_what_is_stored_in_which_type() -> None:
    types: dict[str, set[Any]] = {"x": set(), "y": set(), "delta": set()}

    class Watch(xpnet.Identity):
        def forward(self, xp: Any, params: Any, x: Any, context: Any = None) -> Any:
            types["y"].add(np.dtype(x.dtype))
            return x, None

        def backward(self, xp: Any, params: Any, cache: Any, dy: Any, context: Any = None, need_dx: bool = True) -> Any:
            types["delta"].add(np.dtype(dy.dtype))
            return dy, {}

    layers = [item for layer in EVERYTHING for item in (layer, Watch())]
    net = xpnet.Network(layers, "cross_entropy")
    trainer = xpnet.Trainer(net, "adam", X, T, batch_size=BATCH, averaging=0.9, precision="float16")
    trainer.run(1)
    assert types["y"] == types["delta"] == {np.dtype(HALF)}
    assert trainer.arrays["x"].dtype == HALF
    for name in ("theta", "gradient", "slot.m", "slot.v", "average", "scalars", "scaling.scale"):
        assert trainer.arrays[name].dtype == FULL, name
    assert trainer.precision == "float16"


# ------------------------------------------------------------------------------------------------ skipped steps


@dataclasses.dataclass(frozen=True)
class Counting(xpnet.Identity):
    """A layer with a running statistic, the sum of its inputs so far."""

    def init_state(self) -> dict[str, np.ndarray]:
        return {"total": np.zeros(())}

    def forward(self, xp: Any, params: Any, x: Any, context: Any = None) -> Any:
        return x, x

    def update_state(self, xp: Any, state: Any, cache: Any) -> dict[str, Any]:
        return {"total": state["total"] + xp.sum(cache)}


@pytest.mark.parametrize("optimizer", [xpnet.SGD(0.1), xpnet.SGD(0.1, momentum=0.9), xpnet.AdamW(0.1, clip_norm=1.0)])
@pytest.mark.parametrize("backend", ["numpy", "eager"])
def test_a_skipped_step_changes_nothing_but_counts_and_scale(scaling: Any, backend: str, optimizer: Any) -> None:
    scaling(maximum=2.0**100)
    net = xpnet.Network([Counting(), xpnet.Linear(3, 3)], "cross_entropy", make(backend), l1=1e-3, l2=1e-2)
    trainer = xpnet.Trainer(net, optimizer, X, T, batch_size=BATCH, averaging=0.9, precision="float16")
    trainer.advance(3)
    before = state(trainer)
    assert before["state.0.total"] != 0
    trainer.arrays["scaling.scale"][...] = 2.0**60
    trainer.advance(1)
    after = state(trainer)
    counts = ("cursor", "position", "step", "loss", "seen", "scaling.scale", "scaling.good", "scaling.skipped")
    assert_same_state(after, before, but=counts)
    for name, difference in {"cursor": BATCH, "position": 1, "step": 1, "seen": BATCH, "scaling.skipped": 1}.items():
        assert after[name] == before[name] + difference, name
    assert after["loss"] > before["loss"]  # the forward pass was good
    assert (after["scaling.scale"], after["scaling.good"], before["scaling.good"]) == (2.0**59, 0, 3)
    assert (trainer.step, trainer.skipped_steps, trainer.loss_scale) == (4, 1, 2.0**59)


def test_the_scale_grows_after_enough_good_steps_in_a_row_up_to_its_maximum(scaling: Any) -> None:
    scaling(initial=4.0, maximum=16.0, patience=5)
    trainer = xpnet.Trainer(network(), "adam", X, T, batch_size=BATCH, precision="float16")
    scales = []
    for k in range(20):
        if k == 8:
            trainer.arrays["scaling.scale"][...] = 2.0**60  # a step that is skipped, at 3 good ones
        trainer.run(1)
        if k == 8:
            trainer.arrays["scaling.scale"][...] = 8.0
        scales.append(trainer.loss_scale)
    assert scales == [4.0] * 4 + [8.0] * 9 + [16.0] * 7
    assert trainer.skipped_steps == 1


def test_by_default_two_thousand_good_steps() -> None:
    rules = mixedprecision.FORMATS["float16"]
    assert (rules.initial, rules.minimum, rules.maximum, rules.patience) == (2.0**15, 2.0**-14, 2.0**24, 2000)
    trainer = xpnet.Trainer(network(), xpnet.SGD(1e-3), X, T, batch_size=15, precision="float16")
    trainer.run(1999)
    assert trainer.loss_scale == 2.0**15
    trainer.run(1)
    assert (trainer.loss_scale, trainer.skipped_steps) == (2.0**16, 0)


def test_a_loss_that_is_not_finite_does_not_count() -> None:
    """The forward pass overflows for one sample; the mean is over the other batches, and of none it is NaN."""
    x = X.copy()
    x[9] = 6e4
    net = xpnet.Network([xpnet.Linear(3, 3), xpnet.Linear(3, 3)], "cross_entropy", seed=3)
    net.set_parameters({"0.W": np.eye(3) * 4.0})
    trainer = xpnet.Trainer(
        net, xpnet.SGD(1e-30), x, T, batch_size=BATCH, shuffle=False, precision="float16", sample_weight=WEIGHTS
    )
    trainer.advance(3)
    kept = np.r_[0:8, 16:24]
    losses = [net.gradients(x[rows], T[rows], WEIGHTS[rows])[0] for rows in (kept,)]
    assert trainer.mean_loss() == pytest.approx(losses[0], rel=2e-3)
    assert trainer.skipped_steps == 1
    alone = xpnet.Trainer(net, xpnet.SGD(0.1), x[9:10], T[9:10], precision="float16")
    assert np.isnan(alone.run(1))


# ---------------------------------------------------------------------------- what the scale is for, and what it costs


class InSmallUnits(xpnet.MeanSquaredError):
    """The squared error in units in which it is tiny."""

    def __call__(self, xp: Any, y: Any, t: Any, weight: Any) -> Any:
        value, dy = super().__call__(xp, y, t, weight)
        return 1e-8 * value, 1e-8 * dy


def test_gradients_that_underflow_train_with_scaling_and_not_without(scaling: Any) -> None:
    """Section 3.2 of the paper: deltas below the smallest float16 are zero, unless the loss is scaled."""
    t = (X @ [1.0, -2.0, 0.5])[:, None].astype(FULL)

    def fitted(**options: Any) -> tuple[xpnet.Network, list[float]]:
        net = xpnet.mlp([3, 16, 1], "tanh", InSmallUnits(), seed=1)
        return net, net.fit(X, t, optimizer=xpnet.SGD(1e7), batch_size=15, epochs=60, verbose=False, **options)[
            "loss"
        ].tolist()

    _, full = fitted()
    _, scaled = fitted(precision="float16")
    scaling(initial=1.0, maximum=1.0)
    stalled, losses = fitted(precision="float16")
    start = xpnet.mlp([3, 16, 1], "tanh", InSmallUnits(), seed=1).theta
    np.testing.assert_array_equal(stalled.theta, start)
    assert max(losses) == pytest.approx(min(losses), rel=1e-3)
    assert full[-1] < 0.05 * full[0]
    assert scaled[-1] == pytest.approx(full[-1], rel=0.1)


def test_digits_are_learned_as_well_as_in_float32() -> None:
    digits = pytest.importorskip("sklearn.datasets", reason="the extra sklearn is not installed").load_digits()
    x, t = (digits.data / 16).astype(FULL), digits.target
    accuracies = []
    for precision in (None, "float16"):
        net = xpnet.mlp([64, 24, 10], seed=0)
        net.fit(
            x[:1300], t[:1300], optimizer=xpnet.Adam(0.01), epochs=10, batch_size=50, verbose=False, precision=precision
        )
        accuracies.append(net.evaluate(x[1300:], t[1300:])["accuracy"])
    assert accuracies[0] > 0.9
    assert abs(accuracies[1] - accuracies[0]) < 0.01


# --------------------------------------------------------------------------- numbers that are infinite of themselves


def infinite_weight(trainer: xpnet.Trainer) -> None:
    trainer.arrays["theta"][19] = 1e6  # a number of float32; in float16 it is infinite


def bad_data(trainer: xpnet.Trainer) -> None:
    trainer.arrays["x"][:, 1] = np.nan


def advance_on_and_on(trainer: xpnet.Trainer, chunk: int) -> None:
    while True:
        trainer.advance(chunk)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (infinite_weight, r"the output of layer 2 \(Linear\(inputs=6, outputs=3.*has 0 NaN and 8 infinite of 24"),
        (bad_data, r"the output of layer 0 \(Linear\(inputs=3, outputs=6.*has 48 NaN and 0 infinite of 48"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 3, 50])
def test_a_network_that_is_lost_is_reported(spoil: Any, message: str, chunk: int) -> None:
    """The scale is halved 29 times to its minimum; the next step is the one that is reported."""
    x, t = np.tile(X, (10, 1)), np.tile(T, 10)
    trainer = xpnet.Trainer(network(), "adam", x, t, batch_size=BATCH, shuffle=False, precision="float16")
    trainer.run(3)
    spoil(trainer)
    before = state(trainer)
    with pytest.raises(NonFiniteError, match=f"^epoch 1, step 33: {message} entries; ") as caught:
        advance_on_and_on(trainer, chunk)
    text = str(caught.value)
    assert "Try a learning rate below 0.001" in text
    assert text.endswith("or scaled inputs, or precision=None (float16 ends at 65504).")
    assert (trainer.step, trainer.skipped_steps, trainer.loss_scale) == (32, 29, 2.0**-14)
    np.testing.assert_array_equal(trainer.arrays["theta"], before["theta"])
    np.testing.assert_array_equal(trainer.arrays["slot.v"], before["slot.v"])


@pytest.mark.parametrize(
    ("loss", "size", "message"),
    [
        ("poisson", 95.0, r"the loss Poisson\(\) is inf"),
        ("poisson", 40.0, r"the delta of the loss Poisson\(\), scaled by 6\.10352e-05, has 0 NaN and \d+ infinite"),
        ("mean_squared_error", 6e4, r"the gradient of W of layer 0 \(Linear.* has 0 NaN and \d+ infinite of 3 entries"),
    ],
)
def test_the_quantity_is_named(loss: str, size: float, message: str) -> None:
    x = np.full((400, 3), size / 3, FULL)
    net = xpnet.Network([xpnet.Linear(3, 1)], loss)
    net.set_parameters({"0.W": np.ones((3, 1))})
    t = np.zeros((400, 1), FULL)
    t[...] = 0.0 if loss == "poisson" else -3e9
    with pytest.raises(NonFiniteError, match=f"^epoch 1, step 30: {message}"):
        net.fit(x, t, batch_size=BATCH, epochs=1, verbose=False, precision="float16")
    np.testing.assert_array_equal(net.theta, [1.0, 1.0, 1.0, 0.0])


def test_an_update_that_is_not_finite_is_reported_at_once() -> None:
    with pytest.raises(NonFiniteError, match=r"epoch 1, step 1: the update of the parameters by SGD is not finite"):
        network().fit(X, T, optimizer=xpnet.SGD(1e300), epochs=1, verbose=False, precision="float16")


def test_skipping_is_no_error_and_callbacks_see_it() -> None:
    seen = []

    class Look(xpnet.Callback):
        every = 1

        def on_steps(self, run: Any) -> None:
            seen.append((run.trainer.loss_scale, run.trainer.skipped_steps))

    x = X * FULL(1e4)
    with pytest.warns(UserWarning, match="the inputs are too large"):
        history = xpnet.Network([xpnet.Linear(3, 3)], "cross_entropy").fit(
            x,
            T,
            optimizer=xpnet.SGD(1e-9),
            epochs=4,
            batch_size=BATCH,
            verbose=False,
            precision="float16",
            callbacks=Look(),
        )
    skipped = seen[-1][1]
    assert 1 < skipped < 15
    assert seen[0] == (2.0**14, 1)
    assert seen[-1][0] == 2.0 ** (15 - skipped)
    assert np.isfinite(history["loss"]).all()
    assert len(history["loss"]) == 4


# -------------------------------------------------------------------------------- interrupted, resumed, left alone


class Stop(Exception):
    pass


def after(step: int | None, found: list[Any] | None = None) -> xpnet.Callback:
    """Return a callback that raises after a step, and notes the trainer's state at the end."""

    class After(xpnet.Callback):
        every = 1

        def on_steps(self, run: Any) -> None:
            if run.step == step:
                raise Stop

        def on_end(self, run: Any) -> None:
            if found is not None:
                found.append(state(run.trainer))

    return After()


@pytest.mark.parametrize("step", [1, 5, 6, 7, 12, 17, None])
def test_a_training_that_goes_on_ends_the_same(tmp_path: Any, scaling: Any, step: int | None) -> None:
    """An epoch has 6 steps; the scale goes up and down all the time. None: it ended after two whole epochs."""
    scaling(initial=2.0**22, patience=3)
    options = {"optimizer": xpnet.Adam(0.01), "epochs": 4, "batch_size": BATCH, "averaging": 0.9, "verbose": False}
    options |= {"precision": "float16"}
    ends: list[Any] = []
    whole = network()
    history = whole.fit(X, T, callbacks=after(None, ends), **options)
    path = tmp_path / "run.safetensors"
    if step is None:
        network().fit(X, T, checkpoint=path, **options | {"epochs": 2})
    else:
        with pytest.raises(Stop):
            network().fit(X, T, callbacks=after(step), checkpoint=path, **options)
    tensors = read_tensors(path)[0]
    assert tensors["training.scaling.scale"] < 2.0**22
    assert tensors["training.scaling.skipped"] > 0
    again = network()
    resumed = again.fit(X, T, callbacks=after(None, ends), checkpoint=path, resume=True, **options)
    assert_same_state(*ends)
    np.testing.assert_array_equal(again.theta, whole.theta)
    assert resumed["loss"].tolist() == history["loss"].tolist()
    assert ends[0]["scaling.good"] or ends[0]["scaling.skipped"] > 4


def test_a_file_and_a_training_of_different_precision(tmp_path: Any) -> None:
    path = tmp_path / "run.safetensors"
    for one, two in (("float16", None), (None, "float16")):
        network().fit(X, T, epochs=1, verbose=False, checkpoint=path, precision=one)
        with pytest.raises(CheckpointError, match=f"precision is {one!r} in the file, {two!r} here"):
            network().fit(X, T, epochs=2, verbose=False, checkpoint=path, resume=True, precision=two)


def test_a_file_from_before_there_was_a_precision(tmp_path: Any) -> None:
    path, whole, again = tmp_path / "run.safetensors", network(), network()
    whole.fit(X, T, epochs=2, verbose=False)
    again.fit(X, T, epochs=1, verbose=False, checkpoint=path)
    tensors, description = read_tensors(path)
    del description["training"]["precision"]
    write_tensors(path, tensors, description)
    again.fit(X, T, epochs=2, verbose=False, checkpoint=path, resume=True)
    np.testing.assert_array_equal(again.theta, whole.theta)


@pytest.mark.parametrize("calls", [1, 2, 7, 15])
def test_an_interrupt_leaves_whole_steps(scaling: Any, calls: int) -> None:
    scaling(initial=2.0**22, patience=3)
    left = [calls]

    def f(xp: Any, x: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return xp.tanh(x)

    def trainer(f: Any) -> xpnet.Trainer:
        layers = [xpnet.Linear(3, 4), xpnet.Activation(f, lambda xp, x: xp.ones_like(x)), xpnet.Linear(4, 3)]
        net = xpnet.Network(layers, "cross_entropy", EagerBackend(), seed=2)
        return xpnet.Trainer(net, "adam", X, T, batch_size=3, precision="float16")

    interrupted, whole = trainer(f), trainer(lambda xp, x: xp.tanh(x))
    with pytest.raises(KeyboardInterrupt):
        interrupted.advance(15)
    assert interrupted.step == calls - 1
    whole.run(calls - 1)
    if calls == 1:
        whole._begin_epoch()
    assert_same_state(state(interrupted), state(whole))


PLAIN_TAPE = (
    "add take take take matmul add tanh matmul add maximum subtract maximum exp add equal copyto divide subtract "
    "multiply multiply log subtract multiply add matmul matmul matmul absolute multiply exp add divide multiply "
    "multiply multiply matmul matmul copyto copyto copyto copyto take multiply subtract multiply add add add add"
)
"""What a step without a precision does, as it was when there was none to choose."""


def test_without_a_precision_the_step_is_what_it_was() -> None:
    tapes = []
    for options in ({}, {"precision": None}, {"precision": "float16"}):
        trainer = xpnet.Trainer(network(), xpnet.SGD(0.1), X, T, batch_size=BATCH, **options)
        trainer._begin_epoch()
        tape = record(trainer.make_step(BATCH), trainer.net.backend.xp, trainer.arrays)
        tapes.append(" ".join(op.function.__name__ for op in tape.operations))
        assert not options.get("precision") or {op.target.dtype for op in tape.operations} >= {np.dtype(HALF)}
    assert tapes[0] == tapes[1] == PLAIN_TAPE
    assert tapes[2] != PLAIN_TAPE
    trainer = xpnet.Trainer(network(), xpnet.SGD(0.1), X, T)
    assert (trainer.precision, trainer.loss_scale, trainer.skipped_steps) == (None, 1.0, 0)
    assert not any(name.startswith("scaling") or name == "seen" for name in trainer.arrays)


def test_the_data_is_held_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checked, alive = [], []
    check = training.check_samples

    def watched(*arguments: Any) -> Any:
        data = check(*arguments)
        checked.append(weakref.ref(data.x))
        return data

    monkeypatch.setattr(training, "check_samples", watched)
    for precision in (None, "float16"):
        network().fit(
            X.astype(int), T, epochs=1, verbose=False, precision=precision,
            callbacks=lambda run: alive.append(checked[-1]() is not None),
        )  # fmt: skip
    assert alive == [True, False]


# -------------------------------------------------------------------------------------------------------- refusals


def backend_with(name: str, **types: Any) -> NumpyBackend:
    """Return NumPy under another name, with other data types of 16 bits."""
    contents = {key: value for key, value in vars(NumpyBackend().xp).items() if key != "float16"}
    backend = NumpyBackend()
    backend.name, backend.xp = name, SimpleNamespace(**contents, **types)
    return backend


@pytest.mark.parametrize(
    ("backend", "options", "precision", "message"),
    [
        (
            "numpy",
            {},
            "float61",
            r"precision must be None, 'float16' or 'bfloat16', got 'float61'\. Did you mean 'float16'",
        ),
        ("numpy", {}, "float32", r"precision must be None, 'float16' or 'bfloat16', got 'float32'"),
        ("numpy", {}, 16, r"precision must be None, 'float16' or 'bfloat16', got 16"),
        ("numpy", {}, True, r"precision must be .* got True"),
        ("numpy", {}, np.float16, r"precision must be .* got <class 'numpy.float16'>"),
        ("numpy", {}, "bfloat16", r"backend 'numpy' has no bfloat16; use precision='float16' or precision=None, which"),
        ("device1", {}, "float16", r"backend 'strict:device1' has no float16; use precision=None, which is float32"),
        ("device1", {}, "bfloat16", r"backend 'strict:device1' has no bfloat16; use precision=None, which is float32"),
        (
            "numpy",
            {"dtype": "float64"},
            "float16",
            r"precision='float16' needs a network of float32.* is of float64\. ",
        ),
    ],
)
def test_what_there_is_not_is_refused(backend: str, options: Any, precision: Any, message: str) -> None:
    net = network(make(backend), **options)
    with pytest.raises(ConfigError, match=message):
        xpnet.Trainer(net, "adam", X.astype(net.dtype), T, precision=precision)
    with pytest.raises(ConfigError, match=message):
        net.fit("not even looked at", None, precision=precision)


def test_bfloat16_on_cupy_needs_ml_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ConfigError, match=r"on CuPy needs the package ml_dtypes\. Install it: pip install ml_dtypes"):
        network(backend_with("cupy:1")).fit(X, T, precision="bfloat16")
    monkeypatch.setitem(sys.modules, "ml_dtypes", SimpleNamespace(bfloat16=HALF))
    trainer = xpnet.Trainer(network(backend_with("cupy")), "adam", X, T, precision="bfloat16")
    assert trainer.arrays["x"].dtype == HALF


@pytest.mark.skipif(importlib.util.find_spec("ml_dtypes") is None, reason="ml_dtypes, which has bfloat16, is missing")
def test_what_a_python_number_widens_is_narrowed_between_layers() -> None:
    """Of bfloat16 and a Python number ml_dtypes makes float32: the products of the next layer would be of float32."""
    import ml_dtypes

    half, seen = np.dtype(ml_dtypes.bfloat16), dict[str, Any]()
    net = xpnet.mlp([3, 4, 5, 2], "relu")
    params = net.layout.split(np, net.theta.astype(half))

    def watch(place: str, name: str, array: Any) -> None:
        seen[f"{place}.{name}"] = array.dtype

    contexts = net.contexts(True, net.step_array(0), watch=watch)
    y, caches = forward_pass(np, net.layers, params, np.ones((6, 3), half), contexts)
    backward_pass(np, net.layers, params, caches, y, contexts)
    assert {seen[f"{k}.{name}"] for k in range(5) for name in ("x", "y", "delta")} == {half}


def test_bfloat16_is_not_scaled_and_skips_nothing() -> None:
    """With float16 for bfloat16, as on a library that has the type: what is not finite is an error at once."""
    net = network(backend_with("other", bfloat16=HALF))
    trainer = xpnet.Trainer(net, "adam", X, T, batch_size=BATCH, precision="bfloat16")
    trainer.run(20)
    assert (trainer.precision, trainer.loss_scale, trainer.skipped_steps) == ("bfloat16", 1.0, 0)
    before = state(trainer)
    trainer.arrays["theta"][19] = 1e6
    with pytest.raises(
        NonFiniteError, match=r"epoch 4, step 3: the output of layer 2.*\(bfloat16 ends at 3\.38953e\+38\)"
    ):
        trainer.advance(2)
    assert (trainer.step, trainer.skipped_steps, trainer.loss_scale) == (20, 0, 1.0)
    np.testing.assert_array_equal(trainer.arrays["slot.v"], before["slot.v"])


def test_data_beyond_float16_is_refused() -> None:
    x = X.copy()
    x[17, 2] = -7e4
    net = network()
    before = net.theta.copy()
    with pytest.raises(DataError, match=r"x\[17, 2\] = -70000 is beyond 65504, the largest float16; scale the data"):
        net.fit(x, T, precision="float16", verbose=False)
    np.testing.assert_array_equal(net.theta, before)
    x[17, 2] = -65504
    xpnet.Trainer(net, "sgd", x, T, precision="float16")


@pytest.mark.parametrize("scale", [2.0**3, 2.0**10])
def test_a_recorder_sees_true_sizes(scaling: Any, scale: float) -> None:
    """Large activations, whose squares float16 cannot hold, and deltas as they are without the scale."""
    scaling(initial=scale)
    recorders = [xpnet.Recorder(2), xpnet.Recorder(2)]
    for recorder, precision in zip(recorders, (None, "float16"), strict=True):
        net = xpnet.Network([xpnet.Linear(3, 40), xpnet.ReLU(), xpnet.Linear(40, 3)], "cross_entropy", seed=1)
        net.set_parameters(
            {
                "0.W": 100 * np.ones((3, 40)) * np.linspace(-1, 1.2, 40),
                "2.W": 1e-3 * np.random.default_rng(0).normal(size=(40, 3)),
            }
        )
        net.fit(
            X, T, optimizer=xpnet.SGD(1e-6), batch_size=BATCH, epochs=2, verbose=False, precision=precision,
            callbacks=recorder,
        )  # fmt: skip
    full, half = recorders
    assert half.steps.tolist() == full.steps.tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert full["0.y"].rms[0] > 90  # of 320 numbers: the sum of squares is 40 times what float16 holds
    for name in full:
        for curve in ("rms", "largest"):
            np.testing.assert_allclose(getattr(half[name], curve), getattr(full[name], curve), rtol=0.02, err_msg=name)


def test_training_does_not_notice_a_recorder(scaling: Any) -> None:
    scaling(initial=2.0**22, patience=3)
    nets = [network(), network()]
    for net, callbacks in zip(nets, ([], [xpnet.Recorder(2)]), strict=True):
        net.fit(X, T, batch_size=BATCH, epochs=3, verbose=False, precision="float16", callbacks=callbacks)
    np.testing.assert_array_equal(nets[0].theta, nets[1].theta)
