"""Normalisation by statistics of the batch, and what all normalisations have in common.

Numbers are shifted and scaled to mean 0 and variance 1. Every such layer has a factor gamma, at first 1, by which a
feature gets a scale of its own again, and most a term beta, at first 0. No penalty acts on them. In half precision the
statistics are those of float32 numbers: squares of float16 would overflow at 256.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import Any, ClassVar

import numpy as np

from xpnet.errors import ConfigError, ShapeError
from xpnet.layers.base import INFERENCE, Context, Gradient, Layer, Result
from xpnet.typing import Array, HostArray, Params, Shape
from xpnet.validation import POSITIVE, check_fields, check_number, check_size

Terms = Callable[..., Sequence[Array]]
PARTS = 8
"""Parts of the samples of which the numbers are added up one to one, if they can be equal."""


def widened(xp: Any, x: Array) -> Array:
    """Return numbers of half precision as float32, and all others as they are."""
    return xp.astype(x, xp.result_type(x.dtype, xp.float32), copy=False)


def sum_over_places(xp: Any, x: Array) -> Array:
    """Return the sum over all axes but the last: (B, ..., C) to (C,).

    Rows of ones add up first the samples, then the places. As products these are fast, and two short sums round less
    than one over B H W numbers: their mean is in the last digits even where it is 10,000 times the spread.
    """
    B, C = x.shape[0], x.shape[-1]
    places = prod(x.shape[1:-1])
    total = xp.matmul(xp.ones((1, B), dtype=x.dtype, device=x.device), xp.reshape(x, (B, places * C)))
    if places > 1:
        ones = xp.ones((1, places), dtype=x.dtype, device=x.device)
        total = xp.matmul(ones, xp.reshape(total, (places, C)))
    return xp.reshape(total, (C,))


def sums_over_places(xp: Any, at_once: int, terms: Terms, *arrays: Array) -> list[Array]:
    """Return `sum_over_places` of each of the arrays that `terms` makes of `arrays`, number by number.

    Of more than `at_once` numbers `terms` is called for an eighth of the samples at a time, and what it returns is
    added up at once: to write down a number for each place of all images, and to read it again, takes longer than to
    compute it.
    """
    B = arrays[0].shape[0]
    rows = B // gcd(B, PARTS) if prod(arrays[0].shape) > at_once else B
    totals: Sequence[Array] = ()
    for k in range(0, B, rows):
        parts = terms(*(a[k : k + rows, ...] for a in arrays))
        totals = [total + part for total, part in zip(totals, parts, strict=True)] if totals else parts
    return [sum_over_places(xp, total) for total in totals]


class Normalization:
    """What the layers here have in common: C features, eps, and a parameter of shape (C,) for each name."""

    features: int
    eps: float
    names: ClassVar[tuple[str, ...]] = ("gamma", "beta")

    def __post_init__(self) -> None:
        check_fields(self, features=check_size, eps=POSITIVE)

    def output_shape(self, shape: Shape) -> Shape:
        if not shape or shape[-1] != self.features:
            raise ShapeError(f"{self} takes samples with {self.features} numbers on the last axis, got shape {shape}")
        return shape

    def parameter_shapes(self) -> dict[str, Shape]:
        return dict.fromkeys(self.names, (self.features,))

    def init(self, rng: np.random.Generator) -> dict[str, HostArray]:
        return {name: np.full(self.features, float(name == "gamma")) for name in self.names}


@dataclass(frozen=True)
class BatchNorm(Normalization, Layer):
    """Each feature gets mean 0 and variance 1 over the batch in training, and by running statistics otherwise.

    The statistics are over all axes but the last: over the samples, and over the places of an image. With one place
    alone, a batch of one row, the variance is 0, so that y = beta. The weights of samples play no part.

    A training step divides by the biased variance and mixes the unbiased one into the running statistics, each
    ``new = (1 - momentum) * old + momentum * batch``, as PyTorch does; Keras's momentum is 1 minus this one.

    Parameters
    ----------
    features : int
        The number C of features, or of channels: the length of the last axis.
    momentum : float in [0, 1]
        The share of each batch in the running statistics.
    eps : float > 0
        Added to the variance, inside the root.

    Notes
    -----
    Parameters are ``gamma`` and ``beta``, running statistics ``mean`` and ``variance``, all of shape (C,). A bias right
    before this layer does nothing, and its gradient is 0: build the layer before it with ``bias=False``.

    References
    ----------
    Ioffe and Szegedy, "Batch normalization: accelerating deep network training by reducing internal covariate shift",
    ICML 2015, algorithms 1 and 2, and the derivatives of section 3.

    Examples
    --------
    >>> import xpnet
    >>> layers = [xpnet.Linear(2, 8), xpnet.BatchNorm(8), xpnet.ReLU(), xpnet.Linear(8, 3)]
    >>> net = xpnet.Network(layers, loss="cross_entropy")
    >>> sorted(net.state)
    ['1.mean', '1.variance']
    """

    features: int
    momentum: float = 0.1
    eps: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("BatchNorm: momentum", self.momentum, 0.0, 1.0)

    def init_state(self) -> dict[str, HostArray]:
        return {"mean": np.zeros(self.features), "variance": np.ones(self.features)}

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """In training by the M rows of the batch, otherwise (') by the running statistics.

        mu = mean(x, axis=0)                        (C,)       (1)
        mu = running_mean                           (C,)       (1')
        var = mean((x - mu) ** 2, axis=0)           (C,)       (2)
        var = running_variance                      (C,)       (2')
        s = sqrt(var + eps)                         (C,)       (3)
        y = gamma * (x - mu) / s + beta             (M, C)     (4)
        """
        a, gamma, beta = widened(xp, x), widened(xp, params["gamma"]), widened(xp, params["beta"])
        if context.training:
            M = prod(x.shape[:-1])
            mu = sum_over_places(xp, a) / M
            (squares,) = sums_over_places(xp, context.at_once, lambda x: [xp.square(x - mu)], a)
            var = squares / M
        elif "mean" in context.state:
            mu, var = context.state["mean"], context.state["variance"]
        else:
            raise ConfigError("BatchNorm outside of training needs context.state, with its 'mean' and 'variance'")
        s = xp.sqrt(var + self.eps)
        y = gamma / s * (a - mu) + beta
        return xp.astype(y, x.dtype, copy=False), (x, mu, var, s)

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """The batch's statistics depend on x as well; the running ones (') do not.

        xhat = (x - mu) / s                                               (M, C)     (5)
        dbeta = sum(dy, axis=0)                                           (C,)       (6)
        dgamma = sum(dy * xhat, axis=0)                                   (C,)       (7)
        dx = gamma / s * (dy - mean(dy, axis=0) - xhat * mean(dy * xhat, axis=0))    (M, C)     (8)
        dx = gamma / s * dy                                               (M, C)     (8')
        """
        x, mu, _, s = cache
        a, delta = widened(xp, x), widened(xp, dy)
        dgamma, dbeta = sums_over_places(xp, context.at_once, lambda x, dy: (dy * ((x - mu) / s), dy), a, delta)
        grads = {"gamma": dgamma, "beta": dbeta}
        if not need_dx:
            return None, grads
        slope = widened(xp, params["gamma"]) / s
        if context.training:
            M = prod(x.shape[:-1])
            mean, along = dbeta / M, dgamma / M
            delta = delta - mean - (a - mu) / s * along
        dx = slope * delta
        return xp.astype(dx, dy.dtype, copy=False), grads

    def update_state(self, xp: Any, state: Params, cache: Any) -> dict[str, Array]:
        """The running statistics move towards those of the batch.

        mean = (1 - momentum) * mean + momentum * mu                                        (C,)     (9)
        variance = (1 - momentum) * variance + momentum * var * M / maximum(M - 1, 1)       (C,)     (10)
        """
        x, mu, var, _ = cache
        M = prod(x.shape[:-1])
        old = 1.0 - self.momentum
        return {
            "mean": old * state["mean"] + self.momentum * mu,
            "variance": old * state["variance"] + self.momentum * (M / max(M - 1, 1)) * var,
        }
