"""float32 against float64 arithmetic on the same float32 numbers."""

import numpy as np
import pytest

from . import library, rungs, strategies
from .compare import assert_close, assert_same, scale_of

pytestmark = pytest.mark.precision

TOLERANCE = 5e-6


def rounded(config):
    """Return the network's numbers, rounded to float32 once."""
    params, x, t, weight = strategies.numbers(config)
    return (
        {name: p.astype(np.float32) for name, p in params.items()},
        x.astype(np.float32),
        t if t.dtype.kind == "i" else t.astype(np.float32),
        None if weight is None else weight.astype(np.float32),
    )


def gradients_in(dtype, config, only=None):
    """Return the sides of every kink, the value and the gradients, computed in `dtype`; of one row, if asked for."""
    params, x, t, weight = rounded(config)
    net = library.build(config, dtype=dtype)
    net.set_parameters(params)
    x, t = x.astype(dtype), t if t.dtype.kind == "i" else t.astype(dtype)
    if only is not None:
        weight = np.where(np.arange(len(x)) == only, 1.0, 0.0)
    value, grads = library.gradients(net, x, t, weight)
    for g in grads.values():
        assert g.dtype == dtype
    return rungs.sides(config, net, net.theta, x, t), value, grads


def sizes_of(config, expected):
    """Return what rounding is relative to: for each array the size of what the samples add to it, before it cancels.

    An array whose gradients are below a tenth of the largest is measured by that tenth.
    """
    weight = rounded(config)[3]
    rows = config["batch"]
    share = np.full(rows, 1 / rows) if weight is None else weight / weight.sum()
    bare = rungs.without_penalties(config)
    alone = [gradients_in("float64", bare, only=row)[2] for row in range(rows)]
    sums = {name: sum(w * np.abs(g[name]) for w, g in zip(share, alone, strict=True)).max() for name in expected}
    sizes = {name: max(sums[name], size) for name, size in scale_of(config, expected).items()}
    return {name: max(size, 0.1 * max(sizes.values())) for name, size in sizes.items()}


def single(config):
    """Compare both precisions. Returns False where rounding moved a number across a kink."""
    sides, value, grads = gradients_in("float32", config)
    want_sides, want_value, expected = gradients_in("float64", config)
    if (sides != want_sides).any():
        return False
    assert_close(value, want_value, TOLERANCE, "value")
    assert_same(grads, expected, TOLERANCE, sizes_of(config, expected), "float32")
    return True


# Dropout at 0.9, saturated softmaxes and many layers magnify the rounding of what comes before them without limit.
depths = strategies.st.integers(1, 4)
activations = strategies.activations.filter(lambda layer: layer["kind"] != "Softmax")
dropouts = strategies.dropouts.filter(lambda layer: layer is None or layer["rate"] <= 0.5)


def test_float32():
    same = []

    @strategies.architectures(strategies.networks(depths, activations, dropouts=dropouts))
    def check(config):
        same.append(single(config))

    check()
    assert same.count(False) <= 0.05 * len(same)


def test_float32_of_softmax():
    """One hidden softmax, whose inputs are small enough that it does not saturate."""
    softmax = strategies.st.just({"kind": "Softmax"})
    two = strategies.st.just(2)

    @strategies.architectures(strategies.networks(two, softmax, dropouts=dropouts), part=0.2)
    def check(config):
        assert single(config)

    check()
