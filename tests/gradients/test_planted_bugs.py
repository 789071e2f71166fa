"""The tests of the tests: every planted bug is caught, in every network that it touches, by each check that claims to.

Correct code must pass the same checks on the same networks; `pytest tests/gradients --architectures 1000` passes a
thousand random ones.
"""

import itertools

import numpy as np
import pytest

import xpnet

from . import rungs, strategies
from .bugs import BUGS
from .planting import assert_caught, gradients, plant, reported
from .test_random_networks import ACTIVATIONS, LOSSES

pytestmark = pytest.mark.planted


def pool():
    """Return networks in which every activation and loss occurs, with three equal widths, dropout and penalties."""
    networks = []
    pairs = itertools.chain(
        zip(ACTIVATIONS * 2, LOSSES * 3, strict=False), zip(ACTIVATIONS * 3, reversed(LOSSES * 4), strict=False)
    )
    for seed, (activation, loss) in enumerate(pairs):
        dropout = [{"kind": "Dropout", "rate": 0.4}] if seed % 2 == 0 else []
        networks.append(
            {
                "layers": [
                    {"kind": "Linear", "inputs": 3, "outputs": 3, "bias": True},
                    activation,
                    *dropout,
                    {"kind": "Linear", "inputs": 3, "outputs": 3, "bias": True},
                    activation,
                    {"kind": "Linear", "inputs": 3, "outputs": 3 * strategies.per_target(loss), "bias": seed % 3 > 0},
                ],
                "loss": loss,
                "l1": 0.05,
                "l2": 0.1,
                "penalize_biases": seed % 5 == 4,
                "batch": 3 + seed % 3,
                "weighted": seed % 4 > 0,
                "seed": seed,
            }
        )
    saturated = [config for config in networks if config["layers"][1]["kind"] == "Sigmoid"]
    return networks + [{**config, "spread": 12.0} for config in saturated]


POOL = pool()


@pytest.fixture(scope="module")
def honest():
    return [gradients(config) for config in POOL]


@pytest.mark.parametrize("check", sorted({check for bug in BUGS.values() for check in bug.caught_by}))
def test_no_alarm_without_a_bug(check):
    for config in POOL:
        getattr(rungs, check)(config)


@pytest.mark.parametrize("name", BUGS)
def test_bug_is_caught(name, honest):
    assert_caught(BUGS[name], POOL, honest)


@pytest.mark.parametrize("name", BUGS)
def test_check_gradients_finds_it(name, honest):
    """What users have finds the same bugs, and says which layer or loss it is, if it is one of these."""
    bug = BUGS[name]
    if "central" not in bug.caught_by:
        pytest.skip("below what differences of the forward pass can see")
    failure = reported(bug, POOL, honest, training=True)
    if isinstance(bug.owner, type) and bug.owner is not xpnet.Network:
        assert bug.owner.__name__ in failure


def test_planting_is_undone():
    before = {name: getattr(bug.owner, bug.method) for name, bug in BUGS.items()}
    for bug in BUGS.values():
        with plant(bug):
            pass
    assert before == {name: getattr(bug.owner, bug.method) for name, bug in BUGS.items()}
    assert len(BUGS) >= 15
    assert np.mean(["complex_step" in bug.caught_by for bug in BUGS.values()]) == 1.0
