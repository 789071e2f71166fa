"""Bugs that hand-written normalisations have had, and which checks claim to see each of them.

Where the forward and the backward pass are wrong alike, only a value that was computed by other code can tell.
"""

from math import prod

import numpy as np

import xpnet
from xpnet.layers import layernorm

from .planting import EXACT, Bug, after


def batch_norm(change):
    """Change BatchNorm's dx and gradients; `change` gets them, gamma / s, xhat, dy and the number of places."""

    def new(layer, result, args):
        (dx, grads), (_, params, (x, mu, _, s), dy) = result, args[:4]
        wrong, grads = change(
            0.0 * x if dx is None else dx, dict(grads), params["gamma"] / s, (x - mu) / s, dy, places(x)
        )
        return None if dx is None else wrong, grads

    return Bug(xpnet.BatchNorm, "backward", after(new))


def places(x):
    return prod(x.shape[:-1])


def gamma_from(make):
    """Change the gradient of gamma to the sum of dy times what `make` says, given the cache."""

    def new(layer, result, args):
        (dx, grads), (_, _, cache, dy) = result, args[:4]
        return dx, {**grads, "gamma": (dy * make(cache, dy)).reshape(-1, dy.shape[-1]).sum(axis=0)}

    return after(new)


def mean(a, axes):
    return a.mean(axis=axes, keepdims=True)


def replaced(function):
    """Put a function of the module in place of the honest one."""
    return lambda honest: function


def eps_outside(xp, x, axes, eps):
    d = x - mean(x, axes)
    s = np.sqrt(mean(d * d, axes)) + eps
    return d / s, s


def unbiased(xp, x, axes, eps):
    d = x - mean(x, axes)
    m = prod(x.shape[axis] for axis in axes)
    s = np.sqrt(mean(d * d, axes) * m / max(m - 1, 1) + eps)
    return d / s, s


def not_centred(xp, x, axes, eps):
    s = np.sqrt(mean(x * x, axes) + eps)
    return x / s, s


BUGS = {
    "batch norm: without the term of the mean": batch_norm(
        lambda dx, g, factor, xhat, dy, M: (dx + factor * g["beta"] / M, g)
    ),
    "batch norm: without the term of the variance": batch_norm(
        lambda dx, g, factor, xhat, dy, M: (dx + factor * xhat * g["gamma"] / M, g)
    ),
    "batch norm: the statistics are constants": batch_norm(lambda dx, g, factor, xhat, dy, M: (dy * factor, g)),
    "batch norm: places are not counted, samples are": batch_norm(
        lambda dx, g, factor, xhat, dy, M: (factor * (dy - g["beta"] / len(dy) - xhat * g["gamma"] / len(dy)), g)
    ),
    "batch norm: divided by M - 1": batch_norm(
        lambda dx, g, factor, xhat, dy, M: (
            factor * (dy - g["beta"] / max(M - 1, 1) - xhat * g["gamma"] / max(M - 1, 1)), g,
        )
    ),
    "batch norm: gamma / s squared in dx": batch_norm(lambda dx, g, factor, xhat, dy, M: (dx * factor, g)),
    "batch norm: beta's gradient is a mean": batch_norm(
        lambda dx, g, factor, xhat, dy, M: (dx, {**g, "beta": g["beta"] / M})
    ),
    "batch norm: gamma's gradient from x": Bug(
        xpnet.BatchNorm, "backward", gamma_from(lambda cache, dy: cache[0])
    ),
    "layer norm: gamma's gradient from x - mean": Bug(
        xpnet.LayerNorm, "backward", gamma_from(lambda cache, dy: cache[0] * cache[1])
    ),
    "RMS norm: the root is a constant": Bug(
        xpnet.RMSNorm,
        "backward",
        after(lambda layer, result, args: (args[3] * args[1]["gamma"] / args[2][1], result[1])),
    ),
    "layer and group norm: without the term of the mean": Bug(
        layernorm,
        "standardize_backward",
        replaced(lambda xp, xhat, s, dxhat, axes: (dxhat - xhat * mean(dxhat * xhat, axes)) / s),
    ),
    "layer and group norm: without the term of the variance": Bug(
        layernorm, "standardize_backward", replaced(lambda xp, xhat, s, dxhat, axes: (dxhat - mean(dxhat, axes)) / s)
    ),
    "layer and group norm: eps outside of the root": Bug(layernorm, "standardize", replaced(eps_outside), EXACT),
    "layer and group norm: unbiased variance": Bug(layernorm, "standardize", replaced(unbiased), EXACT),
    "layer and group norm: no mean taken off": Bug(layernorm, "standardize", replaced(not_centred), EXACT),
}  # fmt: skip
