"""Random networks with normalisation, of rows and of images, before every check, in every precision and library."""

import false_alarms
import numpy as np
import pytest

import xpnet

from . import devices, library, reference_normal, rungs, strategies, strategies_images, strategies_normal
from .compare import assert_same, kinds_of, scale_of
from .test_cross_backend import TOLERANCES
from .test_precision import single

either = pytest.mark.parametrize("networks", [strategies_normal.rows, strategies_normal.images], ids=["rows", "images"])


def run(check, networks, part=0.5):
    """Put half of the number of networks before a check; return what it returns."""
    found = []

    @strategies.architectures(networks, part=part)
    def each(config):
        found.append(check(config))

    each()
    return found


@pytest.mark.complex_step
@either
def test_complex_step(networks):
    run(rungs.complex_step, networks)


@pytest.mark.oracle
@either
def test_autograd(networks):
    run(rungs.autograd, networks)


@pytest.mark.oracle
@either
def test_torch(networks):
    pytest.importorskip("torch", reason="torch is not installed; HIPS autograd is the oracle that always runs")
    from . import oracle_torch

    run(lambda config: rungs.autograd(config, oracle_torch), networks)


@pytest.mark.central
@either
def test_central_differences(networks):
    checked, skipped = np.sum(run(rungs.central, networks, 0.1), axis=0)
    assert skipped < 0.05 * checked, f"{skipped} numbers lie near a kink, {checked} do not"


@pytest.mark.identities
@either
def test_identities_outside_of_training(networks):
    """There a sample's output depends on no other sample."""
    run(rungs.identities, networks, 0.25)


@pytest.mark.identities
@either
def test_identities_in_training(networks):
    """Of a batch whose samples share statistics: their order means nothing, nor does a common factor of weights."""

    def check(config):
        config = rungs.without_penalties(config)
        net, rng = library.build(config), np.random.default_rng(config["seed"])
        _, x, t, _ = strategies.numbers(config)
        weight, order = rng.uniform(0.2, 2.0, len(x)), rng.permutation(len(x))
        value, grads = library.gradients(net, x, t, weight)
        other_value, other = library.gradients(net, x[order], t[order], weight[order])
        back = np.empty_like(other["x"])
        back[order] = other["x"]
        assert other_value == pytest.approx(value, rel=1e-13, abs=1e-13)
        assert_same({**other, "x": back}, grads, 1e-13, scale_of(config, grads), "permuted rows")
        doubled_value, doubled = library.gradients(net, x, t, 2 * weight)
        assert doubled_value == value
        assert_same(doubled, grads, 0.0, scale_of(config, grads), "doubled weights")

    run(check, networks, 0.25)


@pytest.mark.identities
@either
def test_penalties(networks):
    run(rungs.penalties, networks, 0.1)


@pytest.mark.identities
@either
def test_layers_promise(networks):
    run(rungs.promises, networks, 0.25)


@pytest.mark.precision
@pytest.mark.parametrize("kind", ["rows", "images"])
def test_float32(kind):
    """Activations whose derivatives are differences of larger numbers are left out, as for networks without these."""
    rising = strategies_images.activations.filter(lambda layer: layer["kind"] not in ("GELU", "SiLU"))
    if kind == "rows":
        base = strategies.networks(strategies.st.integers(2, 3), rising, dropouts=strategies.st.none())
    else:
        base = strategies_images.networks(rising)
    same = run(single, strategies_normal.networks(base), 0.25)
    assert same.count(False) <= 0.05 * len(same)


def everything(config, backend, dtype, optimizer):
    """Return the outputs, the gradients, and the parameters and statistics after four steps."""
    net = library.build(config, backend, dtype)
    _, x, t, weight = strategies.numbers(config)
    x, t = x.astype(dtype), t if t.dtype.kind == "i" else t.astype(dtype)
    found = {f"output {k}": y for k, y in enumerate(library.outputs(net, x))}
    value, grads = library.gradients(net, x, t, weight)
    xpnet.Trainer(net, optimizer, x, t, batch_size=min(2, len(x)), sample_weight=weight).run(4)
    found |= {name: net.backend.to_numpy(a) for name, a in {"theta": net.theta, **net.state}.items()}
    return {**found, "value": np.asarray(value)}, grads


@pytest.mark.cross_backend
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", devices.NAMES)
@either
def test_every_backend(networks, name, dtype):
    backend = devices.get(name)
    tolerance = TOLERANCES[dtype] if name in devices.OTHERS else 1e-15 if dtype == "float64" else 1e-6

    optimizer = devices.GENTLE if name in devices.OTHERS else xpnet.Adam(0.01)

    def check(config):
        (found, grads), (expected, others) = (everything(config, on, dtype, optimizer) for on in (backend, "numpy"))
        assert_same(found, expected, tolerance, what=backend.name)
        assert_same(grads, others, tolerance, scale_of(config, others), backend.name)

    run(check, networks, 0.04)


@pytest.mark.gradcheck
@pytest.mark.parametrize("training", [False, True])
@either
def test_check_gradients_alarms_for_none_of_them(networks, training):
    def check(config):
        _, x, t, weight = strategies.numbers(config)
        net = library.build(config, dtype="float32" if config["seed"] % 2 else "float64")
        report = xpnet.check_gradients(net, x, t, sample_weight=weight, training=training, seed=config["seed"])
        assert not any("WRONG" in str(part) for part in (report, *report.parts)), report

    run(check, networks, 0.05)


@pytest.mark.gradcheck
@pytest.mark.parametrize("number", [34, 36, 119, 124, 137, 147, 160, 193, 203, 239])
def test_check_gradients_alarms_for_none_that_bends_sharply(number):
    """Behind a variance near eps a difference with h = 1e-5 is wrong in the fourth digit, and rounding magnified."""
    assert false_alarms.report(number).passed


def test_the_networks_cover_every_axis():
    if strategies.ARCHITECTURES < 200:
        pytest.skip("fewer than 200 networks were asked for")
    for networks in (strategies_normal.rows, strategies_normal.images):
        seen = run(lambda config: config, networks, 1.0)
        assert {kind for config in seen for kind in kinds_of(config["layers"])} >= {*reference_normal.KINDS}
        assert {config["batch"] for config in seen} == {1, 2, 3, 4, 5}
        layers = [layer for config in seen for layer in config["layers"] if "groups" in layer]
        assert any(1 < layer["groups"] < layer["features"] for layer in layers) or networks is strategies_normal.images
