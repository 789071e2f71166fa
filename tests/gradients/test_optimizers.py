"""Every optimizer, as training runs it, against a reference for one number at a time."""

import json
from pathlib import Path

import numpy as np
import pytest

import xpnet

from . import reference_optimizers

pytestmark = pytest.mark.optimizers

STEPS = 50
SCHEDULES = [
    {"kind": "StepDecay", "initial": 0.2, "every": 7, "factor": 0.5},
    {"kind": "ExponentialDecay", "initial": 0.2, "steps": 11, "factor": 0.3},
    {"kind": "PolynomialDecay", "initial": 0.2, "steps": 30, "final": 0.01, "power": 2.0},
    {"kind": "CosineDecay", "initial": 0.2, "steps": 37, "final": 0.02},
    {"kind": "WarmUp", "steps": 9, "after": 0.1},
    {"kind": "OneCycle", "peak": 0.3, "steps": 40, "rise": 0.25, "divide": 20.0, "final_divide": 1e3},
]
EVERY = [  # options that every optimizer has
    {},
    {"weight_decay": 0.3},
    {"clip_norm": 0.2},
    {"clip_value": 0.7},
    {"clip_norm": 0.1, "clip_value": 0.07, "weight_decay": 0.1},
]
CONFIGURATIONS = [
    *({"kind": kind, "learning_rate": 0.05, **options} for kind in reference_optimizers.DEFAULTS for options in EVERY),
    *({"kind": "SGD", "learning_rate": rate} for rate in SCHEDULES),
    *({"kind": "Adam", "learning_rate": rate} for rate in SCHEDULES),
    *({"kind": "SGD", "learning_rate": 0.05, "momentum": m, "nesterov": n} for m in (0.5, 0.9) for n in (False, True)),
    *({"kind": "Adagrad", "learning_rate": 0.2, "eps": eps} for eps in (1e-10, 1e-2)),
    *({"kind": "RMSProp", "learning_rate": 0.02, "decay": d, "eps": e} for d in (0.0, 0.5, 0.99) for e in (1e-8, 0.1)),
    *(
        {"kind": "Adam", "learning_rate": 0.05, "beta1": b1, "beta2": b2, "eps": eps}
        for b1 in (0.0, 0.5)
        for b2 in (0.3, 0.9)
        for eps in (1e-8, 0.1)
    ),
    {"kind": "AdamW"},
    {"kind": "AdamW", "learning_rate": 0.05, "beta1": 0.8, "weight_decay": 0.2},
]


def data():
    # The start is so far away that fifty steps do not arrive: there g / |g| would be a sign that rounding decides.
    rng = np.random.default_rng(77)
    W, b = rng.choice([-6.0, 6.0], (3, 2)), rng.choice([-6.0, 6.0], 2)
    return rng.normal(size=(7, 3)), rng.normal(size=(7, 2)), W + rng.normal(size=(3, 2)), b + rng.normal(size=2)


def gradient(theta):
    """dL/dtheta of the mean squared error of x W + b, theta = (W row by row, b)."""
    x, t, _, _ = data()
    W, b = np.reshape(theta[:6], (3, 2)), np.asarray(theta[6:])
    error = [[sum(x[i, k] * W[k, j] for k in range(3)) + b[j] - t[i, j] for j in range(2)] for i in range(7)]
    dW = [2 / 14 * sum(x[i, k] * error[i][j] for i in range(7)) for k in range(3) for j in range(2)]
    return dW + [2 / 14 * sum(error[i][j] for i in range(7)) for j in range(2)]


def optimizer_of(options):
    options = dict(options)
    rate = options.get("learning_rate")
    if isinstance(rate, dict):
        rate = dict(rate)
        options["learning_rate"] = getattr(xpnet.schedules, rate.pop("kind"))(**rate)
    return getattr(xpnet, options.pop("kind"))(**options)


def train(options, dtype):
    """Return the parameters after training on all samples at once."""
    x, t, W, b = data()
    net = xpnet.Network([xpnet.Linear(3, 2)], "mean_squared_error", dtype=dtype)
    net.set_parameters({"0.W": W, "0.b": b})
    x, t = x.astype(dtype), t.astype(dtype)
    xpnet.Trainer(net, optimizer_of(options), x, t, batch_size=7, shuffle=False).run(STEPS)
    return np.array(net.theta, dtype=float)


@pytest.mark.parametrize("options", CONFIGURATIONS, ids=lambda o: "-".join(str(v) for v in o.values()))
def test_fifty_steps(options):
    _, _, W, b = data()
    expected = reference_optimizers.minimize(options, [*W.ravel(), *b], 6, gradient, STEPS)
    assert np.abs(np.subtract(train(options, "float64"), expected)).max() <= 1e-12 * np.abs(expected).max()
    assert np.abs(np.subtract(train(options, "float32"), expected)).max() <= 1e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("patience", [0.0, 1e9], ids=["compiled", "replayed"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-14)])
@pytest.mark.parametrize("decay", [0.5, 0.97])
def test_the_average_of_the_parameters(monkeypatch, decay, dtype, tolerance, patience):
    """d average + (1 - d) theta, d = min(decay, (1 + t) / (10 + t)) at step t = 1, 2, ...; before, average = theta."""
    monkeypatch.setattr(xpnet.backends.numpy.Replay, "patience", patience)
    x, t, W, b = data()
    net = xpnet.Network([xpnet.Linear(3, 2)], "mean_squared_error", dtype=dtype)
    net.set_parameters({"0.W": W, "0.b": b})
    trainer = xpnet.Trainer(net, xpnet.SGD(0.05), x.astype(dtype), t.astype(dtype), batch_size=3, averaging=decay)
    expected = net.theta.astype(float).tolist()
    for k in range(1, STEPS + 1):
        trainer.run(1)
        d = min(decay, (1 + k) / (10 + k))
        expected = [d * a + (1 - d) * float(v) for a, v in zip(expected, net.theta, strict=True)]
        np.testing.assert_allclose(
            trainer.arrays["average"], expected, rtol=0, atol=tolerance * max(map(abs, expected))
        )
    assert np.abs(trainer.arrays["average"] - net.theta).max() > 1e-3  # else anything would have passed


def test_enough_of_everything():
    assert len(CONFIGURATIONS) >= 30
    assert {o["kind"] for o in CONFIGURATIONS} == {c.__name__ for c in xpnet.optimizers.OPTIMIZERS.values()}
    assert {s["kind"] for s in SCHEDULES} == set(xpnet.schedules.SCHEDULES)


@pytest.mark.parametrize("options", SCHEDULES, ids=lambda o: o["kind"])
def test_schedules(options):
    arguments = dict(options)
    made = getattr(xpnet.schedules, arguments.pop("kind"))(**arguments)
    for k in range(60):
        assert made(k) == pytest.approx(reference_optimizers.schedule(options, k), rel=1e-13, abs=1e-18), k


# Fifty steps of torch.optim (PyTorch 2.13, double precision, one core) on the same problem: what it takes as options,
# and the parameters it ends with. `test_stored_results_are_torchs` runs it again where it is installed.
STORED = json.loads((Path(__file__).parent / "torch_optimizers.json").read_text())


@pytest.mark.parametrize("entry", STORED, ids=lambda e: e["name"])
def test_torch_ends_where_we_do(entry):
    expected = np.array(entry["theta"])
    assert np.abs(train(entry["options"], "float64") - expected).max() <= 1e-12 * np.abs(expected).max()


def run_torch(torch, entry):
    x, t, W, b = (torch.tensor(a) for a in data())
    W.requires_grad_()
    b.requires_grad_()
    arguments = dict(entry["torch"])
    decay = arguments.pop("weight_decay", 0.0)
    groups = [{"params": [W], "weight_decay": decay}, {"params": [b], "weight_decay": 0.0}]
    optimizer = getattr(torch.optim, entry["name"].split()[0])(groups, **arguments)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(x @ W + b, t).backward()
        optimizer.step()
    return [*W.detach().numpy().ravel().tolist(), *b.tolist()]


def test_stored_results_are_torchs():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed; its stored results are compared instead")
    for entry in STORED:
        assert np.allclose(run_torch(torch, entry), entry["theta"], rtol=1e-13, atol=1e-15), entry["name"]
