"""Random networks before every check. `pytest tests/gradients --architectures 5000` for a long run."""

import importlib
import itertools

import numpy as np
import pytest
from hypothesis import find, settings

from . import library, rungs, strategies

ACTIVATIONS = [
    *({"kind": kind} for kind in ("Identity", "ReLU", "Sigmoid", "Tanh", "Softplus", "SiLU", "GELU", "Softmax")),
    {"kind": "LeakyReLU", "slope": 0.2},
    {"kind": "ELU", "alpha": 1.3},
    {"kind": "GELU", "approximate": "tanh"},
]
LOSSES = [
    *(
        {"kind": kind}
        for kind in (
            "SumSquaredError",
            "MeanSquaredError",
            "MeanAbsoluteError",
            "Poisson",
            "HalfSquaredError",
            "PoissonDeviance",
        )
    ),
    {"kind": "Huber", "delta": 0.7},
    {"kind": "Quantile", "levels": (0.2, 0.7)},
    {"kind": "Gaussian"},
    {"kind": "BinaryCrossEntropy"},
    {"kind": "CrossEntropy", "targets": "classes"},
    {"kind": "CrossEntropy", "targets": "rows"},
]


def every_pair(activations=ACTIVATIONS, losses=LOSSES):
    """Yield a small network for every activation, loss, bias, l2 and batch size."""
    axes = itertools.product(activations, losses, [True, False], [0.0, 0.1], [1, 2, 7])
    for seed, (activation, loss, bias, l2, batch) in enumerate(axes):
        yield {
            "layers": [
                {"kind": "Linear", "inputs": 2, "outputs": 3, "bias": bias},
                activation,
                {"kind": "Linear", "inputs": 3, "outputs": 2, "bias": bias},
            ],
            "loss": loss,
            "l1": l2 / 2,
            "l2": l2,
            "penalize_biases": False,
            "batch": batch,
            "weighted": seed % 2 == 0,
            "seed": seed,
        }


@pytest.mark.complex_step
@strategies.architectures()
def test_complex_step(config):
    rungs.complex_step(config)


@pytest.mark.complex_step
def test_complex_step_of_every_activation_and_loss():
    for config in every_pair():
        rungs.complex_step(config)


@pytest.mark.oracle
@strategies.architectures()
def test_autograd(config):
    rungs.autograd(config)


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "part", "step"), [("jax", 0.02, 60), ("torch", 0.5, 12)])  # JAX compiles each shape
def test_other_oracles(name, part, step):
    pytest.importorskip(name, reason=f"{name} is not installed; HIPS autograd is the oracle that always runs")
    oracle = importlib.import_module(f".oracle_{name}", __package__)

    @strategies.architectures(part=part)
    def check(config):
        rungs.autograd(config, oracle)

    check()
    for config in itertools.islice(every_pair(), 0, None, step):  # 12: every pair of activation and loss
        rungs.autograd(config, oracle)


@pytest.mark.central
def test_central_differences():
    counts = []

    @strategies.architectures(part=0.25)
    def check(config):
        counts.append(rungs.central(config))

    check()
    checked, skipped = np.sum(counts, axis=0)
    assert skipped < 0.05 * checked, f"{skipped} numbers lie near a kink, {checked} do not"


@pytest.mark.central
def test_central_differences_of_every_activation_and_loss():
    counts = [rungs.central(config) for config in itertools.islice(every_pair(), 5, None, 12)]
    assert len(counts) == len(ACTIVATIONS) * len(LOSSES)
    checked, skipped = np.sum(counts, axis=0)
    assert skipped < 0.05 * checked


@pytest.mark.identities
@strategies.architectures()
def test_identities(config):
    rungs.identities(config)


@pytest.mark.identities
@strategies.architectures()
def test_penalties(config):
    rungs.penalties(config)


@pytest.mark.identities
@strategies.architectures(part=0.5)
def test_layers_promise(config):
    rungs.promises(config)


@pytest.mark.planted
def test_a_failure_shrinks_to_a_small_network(monkeypatch):
    honest = library.xpnet.Tanh.backward

    def wrong(self, xp, params, cache, dy, *rest, **options):
        dx, grads = honest(self, xp, params, cache, dy, *rest, **options)
        return dx * 1.0001, grads

    monkeypatch.setattr(library.xpnet.Tanh, "backward", wrong)

    def fails(config):
        try:
            rungs.complex_step(config)
        except AssertionError:
            return True
        return False

    smallest = find(strategies.networks(), fails, settings=settings(max_examples=500, database=None, derandomize=True))
    kinds = [layer["kind"] for layer in smallest["layers"]]
    assert kinds == ["Linear", "Tanh", "Linear"]
    assert smallest["batch"] == 1
    assert all(layer.get("inputs", 1) == 1 for layer in smallest["layers"])
    assert smallest["l1"] == smallest["l2"] == 0.0


def test_the_networks_cover_every_axis():
    if strategies.ARCHITECTURES < 200:
        pytest.skip("fewer than 200 networks were asked for")
    seen = []

    @strategies.architectures()
    def collect(config):
        seen.append(config)

    collect()
    kinds = {layer["kind"] for config in seen for layer in config["layers"]}
    assert kinds == {"Linear", "Dropout", *(a["kind"] for a in ACTIVATIONS)}
    assert {config["loss"]["kind"] for config in seen} == {loss["kind"] for loss in LOSSES}
    assert {sum(layer["kind"] == "Linear" for layer in config["layers"]) for config in seen} == set(range(1, 7))
    assert {config["batch"] for config in seen} == set(range(1, 12))
    assert {layer["inputs"] for config in seen for layer in config["layers"] if "inputs" in layer} == set(range(1, 9))
    for axis in ("weighted", "penalize_biases"):
        assert np.mean([config[axis] for config in seen]) == pytest.approx(0.5, abs=0.35)
