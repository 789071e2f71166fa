"""Random networks of convolutions, pools and residual blocks before every check, and in every precision and library."""

import numpy as np
import pytest

from xpnet.layers import patches

from . import devices, library, rungs, strategies, strategies_images
from . import reference_images as images
from .compare import assert_same, assert_value, scale_of
from .test_cross_backend import TOLERANCES, compare
from .test_precision import single

networks = strategies_images.networks()


@pytest.fixture(scope="module", autouse=True)
def both_kinds_of_patches():
    """Small networks have patches of whole windows and of their rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patches, "FEW", 4)
        yield


@pytest.mark.complex_step
@strategies.architectures(networks)
def test_complex_step(config):
    rungs.complex_step(config)


@pytest.mark.oracle
@strategies.architectures(networks)
def test_autograd(config):
    rungs.autograd(config)


@pytest.mark.oracle
def test_torch():
    pytest.importorskip("torch", reason="torch is not installed; HIPS autograd is the oracle that always runs")
    from . import oracle_torch

    @strategies.architectures(networks)
    def check(config):
        rungs.autograd(config, oracle_torch)

    check()


@pytest.mark.central
def test_central_differences():
    counts = []

    @strategies.architectures(networks, part=0.1)
    def check(config):
        counts.append(rungs.central(config))

    check()
    checked, skipped = np.sum(counts, axis=0)
    assert skipped < 0.05 * checked, f"{skipped} numbers lie near a kink, {checked} do not"


@pytest.mark.identities
@strategies.architectures(networks, part=0.25)
def test_identities(config):
    rungs.identities(config)


@pytest.mark.identities
@strategies.architectures(networks, part=0.25)
def test_layers_promise(config):
    rungs.promises(config)


@pytest.mark.precision
def test_float32():
    """Where an activation has a minimum, its derivative is the difference of larger numbers: these are left out."""
    same = []
    rising = strategies_images.activations.filter(lambda layer: layer["kind"] not in ("GELU", "SiLU"))

    @strategies.architectures(strategies_images.networks(rising))
    def check(config):
        same.append(single(config))

    check()
    assert same.count(False) <= 0.05 * len(same)


@pytest.mark.cross_backend
@pytest.mark.parametrize("name", ["CPU_DEVICE", "device1"])
def test_a_library_of_nothing_but_the_standard_gives_the_same_gradients(name):
    backend = devices.get(name)

    @strategies.architectures(networks)
    def check(config):
        _, x, t, weight = strategies.numbers(config)
        (value, grads), (expected, others) = (
            library.gradients(library.build(config, on), x, t, weight) for on in (backend, "numpy")
        )
        assert_value(value, expected, 1e-15)
        assert_same(grads, others, 1e-15, scale_of(config, others), name)

    check()


@pytest.mark.cross_backend
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", devices.NAMES)
def test_every_backend(name, dtype):
    backend = devices.get(name)
    tolerance = TOLERANCES[dtype] if name in devices.OTHERS else 1e-15 if dtype == "float64" else 1e-6

    @strategies.architectures(networks, part=0.05)
    def check(config):
        compare(config, backend, dtype, tolerance, devices.GENTLE if name in devices.OTHERS else None)

    check()


def test_the_networks_cover_every_axis():
    if strategies.ARCHITECTURES < 200:
        pytest.skip("fewer than 200 networks were asked for")
    seen = []

    @strategies.architectures(networks)
    def collect(config):
        seen.append(config)

    collect()
    layers = [layer for config in seen for layer in config["layers"]]
    assert {layer["kind"] for layer in layers} >= {*images.KINDS, "Residual"} - {"Reshape"}
    convolutions = [layer for layer in layers if layer["kind"].startswith("Conv")]
    assert {layer["padding"] for layer in convolutions} >= {"same", "valid", 1, 2, (0, 1)}
    assert {layer["stride"] for layer in convolutions} >= {1, 2, 3, (2, 1)}
    assert all(any(layer["kind"] == "Residual" for layer in config["layers"]) for config in seen)
    assert sum({*config["shape"][:-1]} == {1} for config in seen) >= 10  # one pixel
    assert sum(config["shape"][-1] == 1 for config in seen) > 50  # one channel
    assert {n for config in seen for n in config["shape"]} == {*strategies_images.SIZES}
    assert sum(len(config["shape"]) == 3 and config["shape"][0] != config["shape"][1] for config in seen) > 60
    assert {config["batch"] for config in seen} == {1, 2, 3, 4}
