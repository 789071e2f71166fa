"""How a bug is planted in the library for a while, whether it makes a difference, and whether the checks see it.

A bug is a change of the arrays that the library's own code returns, or a replacement of one method.
"""

import contextlib
from dataclasses import dataclass, field

import numpy as np

import xpnet

from . import library, rungs, strategies

EACH = 3  # networks that each check must catch a bug in
EXACT = ("complex_step", "autograd")
ALL = (*EXACT, "central")
PARTS = (*ALL, "identities")
PENALTY = (*ALL, "penalties")


@dataclass(frozen=True)
class Bug:
    """Where a bug goes, what it does, and which checks must catch it in every network that it touches."""

    owner: object
    method: str
    make: object = field(repr=False)  # the honest method -> the wrong one
    caught_by: tuple = ALL


def after(change, which=1):
    """Make a bug out of a change of what the method returns; `change(self, result, args)` returns the new result."""

    def make(honest):
        def wrong(self, *args, **options):
            return change(self, honest(self, *args, **options), args)

        return wrong

    return make


def backward_of(change):
    """Change `(dx, grads)`; `change` gets the layer, dx, grads, the cache and dy."""

    def new(self, result, args):
        dx, grads = result
        return change(self, dx, dict(grads), args[2], args[3])

    return after(new)


def scaled(name, factor):
    return backward_of(lambda layer, dx, g, cache, dy: (dx, {**g, name: g[name] * factor(dy)} if name in g else g))


def loss_delta(change):
    """Change the delta of a loss; `change` gets the loss, dy, y, t and the weights."""
    return after(lambda self, result, args: (result[0], change(self, result[1], *args[1:4])))


def objective_gradient(change):
    """Change dL/dtheta in place after it has been computed; `change` gets the network, theta and the gradient."""

    def new(self, result, args):
        change(self, args[1], args[2])
        return result

    return after(new)


@contextlib.contextmanager
def plant(bug):
    """Put a bug in place of the honest method, for a while."""
    honest = getattr(bug.owner, bug.method)
    setattr(bug.owner, bug.method, bug.make(honest))
    try:
        yield
    finally:
        setattr(bug.owner, bug.method, honest)


def touched(honest, wrong, check):
    """Say whether a bug makes a difference that `check` claims to see.

    Exact checks see every difference beyond rounding; differences of the forward pass see nothing below theirs, and
    look at parameters alone; identities between gradients know none of their values.
    """
    (value, grads), (new_value, new) = honest, wrong
    names = [name for name in grads if name != "x" or check in EXACT]
    change = max(float(np.abs(new[name] - grads[name]).max(initial=0.0)) for name in names)
    top = max(float(np.abs(g).max(initial=0.0)) for g in grads.values())
    if check in EXACT:
        return change > 1e-10 * max(top, 0.01) or abs(value - new_value) > 1e-10 * max(1.0, abs(value))
    if check == "central":
        return change > 3e-7 * top + 1e-9 * abs(value)
    return change > 1e-3 * top


def gradients(config):
    """Return the loss and all gradients that the library computes for a network and its numbers."""
    _, x, t, weight = strategies.numbers(config)
    return library.gradients(library.build(config), x, t, weight)


def catches(check, config):
    """Say whether a check, by its name in `rungs`, finds something wrong."""
    try:
        getattr(rungs, check)(config)
    except AssertionError:
        return True
    return False


def assert_caught(bug, pool, honest):
    """Assert that each check that claims to catch a bug does so in the first networks of `pool` that it touches.

    `honest` are the gradients of these networks without the bug.
    """
    counts = dict.fromkeys(bug.caught_by, 0)
    with plant(bug):
        for config, right in zip(pool, honest, strict=True):
            wrong = gradients(config)
            for check in bug.caught_by:
                if counts[check] < EACH and touched(right, wrong, check):
                    assert catches(check, config), f"{check} does not see it in {config}"
                    counts[check] += 1
    assert min(counts.values()) == EACH, counts


def reported(bug, pool, honest, **options):
    """Return what `check_gradients`, which users have, says first of a bug, in the first network that it touches."""
    with plant(bug):
        for config, right in zip(pool, honest, strict=True):
            if touched(right, gradients(config), "central"):
                _, x, t, weight = strategies.numbers(config)
                report = xpnet.check_gradients(library.build(config), x, t, sample_weight=weight, **options)
                assert not report.passed, f"{config}\n{report}"
                return report.failures[0]
    raise AssertionError("no network is touched")
