"""How two gradients are compared, and what a difference looks like in a failure."""

import numpy as np

from . import reference_normal as normal


def kinds_of(layers):
    """Yield the kind of every layer, those inside of layers included."""
    for layer in layers:
        yield layer["kind"]
        yield from kinds_of([*layer.get("layers", ()), *layer.get("shortcut", ())])


def scale_of(config, expected):
    """Return, for each array, the size that an error is measured by: the array's largest gradient.

    Where an array's gradients are tiny beside those of the whole network, or all of them beside 1, the size of the
    targets and probabilities that the losses subtract, their own rounding is that of the larger numbers whose
    difference they are. What subtracts a mean cancels most: softmax, in a layer and in the cross-entropy, and
    normalisation, which leaves nothing to a bias before it.
    """
    top = max(1.0, *(float(np.abs(g).max(initial=0.0)) for g in expected.values()))
    kinds = {config["loss"]["kind"], *kinds_of(config["layers"])}
    floor = 0.1 if kinds & {"Softmax", "CrossEntropy", *normal.KINDS} else 1e-3
    return {name: max(float(np.abs(g).max(initial=0.0)), floor * top) for name, g in expected.items()}


def assert_same(actual, expected, tolerance, scale=None, what=""):
    """Raise unless two dicts of arrays agree to `tolerance` of each array's scale; name the worst place."""
    assert actual.keys() == expected.keys(), f"{what}: {sorted(actual)} against {sorted(expected)}"
    for name, want in expected.items():
        got, want = np.asarray(actual[name]), np.asarray(want)
        assert got.shape == want.shape, f"{what}, d{name}: shape {got.shape} against {want.shape}"
        if not got.size:
            continue
        size = np.abs(want).max() if scale is None else scale[name]
        difference = np.abs(got - want)
        index = np.unravel_index(np.argmax(np.nan_to_num(difference, nan=np.inf)), want.shape)
        assert difference[index] <= tolerance * size, (
            f"{what}, d{name}{list(map(int, index))}: {got[index]!r} against {want[index]!r}, "
            f"off by {difference[index] / size if size else np.inf:.2g} of {size:.2g} (allowed {tolerance:.0e})"
        )


def assert_close(actual, expected, tolerance, what=""):
    """Raise unless two numbers or arrays agree to `tolerance` of the largest, or of 1 if that is smaller."""
    expected = np.asarray(expected, dtype=float)
    size = max(1.0, float(np.abs(expected).max(initial=0.0)))
    assert_same({"": actual}, {"": expected}, tolerance, {"": size}, what)


def assert_value(actual, expected, tolerance, what="value"):
    """Compare two values of an objective. Poisson's exp turns the rounding of its argument, log(value), into more."""
    assert_close(actual, expected, tolerance * max(1.0, float(np.log(max(abs(expected), 1.0)))), what)
