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


def statistics(change):
    """Let BatchNorm divide by other statistics; `change` gets x, their mean and their variance."""

    def new(layer, result, args):
        (_, params, x), (_, (_, mu, var, _)) = args[:3], result
        mu, var = change(x, mu, var)
        s = np.sqrt(var + layer.eps)
        return params["gamma"] / s * (x - mu) + params["beta"], (x, mu, var, s)

    return Bug(xpnet.BatchNorm, "forward", after(new))


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


def root_apart(layer, result, args):
    """The mean square's root is taken before eps is added."""
    params, x = args[1:3]
    s = np.sqrt(mean(x * x, (-1,))) + layer.eps
    return params["gamma"] * x / s, (x / s, s)


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
    "batch norm: places are not counted in its statistics": statistics(
        lambda x, mu, var: (mu * places(x) / len(x), ((x - mu * places(x) / len(x)) ** 2).sum((0, 1, 2)) / len(x))
        if x.ndim == 4 else (mu, var)
    ),
    "batch norm: divided by the unbiased variance": statistics(
        lambda x, mu, var: (mu, var * places(x) / max(places(x) - 1, 1))
    ),
    "layer norm: gamma's gradient from x - mean": Bug(
        xpnet.LayerNorm, "backward", gamma_from(lambda cache, dy: cache[0] * cache[1])
    ),
    "RMS norm: the root is a constant": Bug(
        xpnet.RMSNorm,
        "backward",
        after(lambda layer, result, args: (args[3] * args[1]["gamma"] / args[2][1], result[1])),
    ),
    "RMS norm: eps outside of the root": Bug(xpnet.RMSNorm, "forward", after(root_apart)),
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
