"""Normalisation by statistics of each sample alone: in training and outside of it alike."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from xpnet.errors import ConfigError
from xpnet.layers.base import INFERENCE, Context, Gradient, Layer, Result
from xpnet.layers.normalization import Normalization, sum_over_places, widened
from xpnet.typing import Array, Params
from xpnet.validation import check_size


def mean_over(xp: Any, x: Array, axes: tuple[int, ...]) -> Array:
    """Return the mean over each of these axes, which stay with the length 1; short sums, one by one, round less."""
    total = x
    for axis in axes:
        total = xp.sum(total, axis=axis, keepdims=True)
    return total * (1.0 / prod(x.shape[axis] for axis in axes))


def standardize(xp: Any, x: Array, axes: tuple[int, ...], eps: float) -> tuple[Array, Array]:
    """Return x with mean 0 and variance 1 over these axes, and what it was divided by.

    mu = mean(x, axis=axes, keepdims=True)
    s = sqrt(mean((x - mu) ** 2, axis=axes, keepdims=True) + eps)
    xhat = (x - mu) / s
    """
    d = x - mean_over(xp, x, axes)
    s = xp.sqrt(mean_over(xp, d * d, axes) + eps)
    return d / s, s


def standardize_backward(xp: Any, xhat: Array, s: Array, dxhat: Array, axes: tuple[int, ...]) -> Array:
    """Return dL/dx, given dxhat = dL/dxhat: mu and s depend on x as well.

    dx = (dxhat - mean(dxhat) - xhat * mean(dxhat * xhat)) / s
    """
    return (dxhat - mean_over(xp, dxhat, axes) - xhat * mean_over(xp, dxhat * xhat, axes)) / s


@dataclass(frozen=True)
class LayerNorm(Normalization, Layer):
    """Each sample, or each place of it, gets mean 0 and variance 1 over its features; in and outside of training alike.

    Parameters
    ----------
    features : int
        The number C of features: the length of the last axis.
    eps : float > 0
        Added to the variance, inside the root.

    Notes
    -----
    Parameters are ``gamma`` and ``beta`` of shape (C,).

    References
    ----------
    Ba, Kiros and Hinton, "Layer normalization", arXiv:1607.06450 (2016), equations 3 and 4.

    Examples
    --------
    >>> import numpy as np
    >>> import xpnet
    >>> layer = xpnet.LayerNorm(3)
    >>> y, cache = layer.forward(np, layer.init(np.random.default_rng(0)), np.asarray([[1.0, 2.0, 3.0]]))
    >>> y.round(3)
    array([[-1.225,  0.   ,  1.225]])
    """

    features: int
    eps: float = 1e-5

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """Each of the M rows by its own C features.

        mu = mean(x, axis=-1, keepdims=True)                             (M, 1)     (1)
        s = sqrt(mean((x - mu) ** 2, axis=-1, keepdims=True) + eps)      (M, 1)     (2)
        xhat = (x - mu) / s                                              (M, C)     (3)
        y = gamma * xhat + beta                                          (M, C)     (4)
        """
        xhat, s = standardize(xp, widened(xp, x), (-1,), self.eps)
        y = widened(xp, params["gamma"]) * xhat + widened(xp, params["beta"])
        return xp.astype(y, x.dtype, copy=False), (xhat, s)

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """A row's mean and root depend on x as well.

        dbeta = sum(dy, axis=0)                                                      (C,)       (5)
        dgamma = sum(dy * xhat, axis=0)                                              (C,)       (6)
        dxhat = gamma * dy                                                           (M, C)     (7)
        p = mean(dxhat * xhat, axis=-1, keepdims=True)                               (M, 1)     (8)
        dx = (dxhat - mean(dxhat, axis=-1, keepdims=True) - xhat * p) / s            (M, C)     (9)
        """
        (xhat, s), delta = cache, widened(xp, dy)
        grads = {"gamma": sum_over_places(xp, delta * xhat), "beta": sum_over_places(xp, delta)}
        if not need_dx:
            return None, grads
        dx = standardize_backward(xp, xhat, s, widened(xp, params["gamma"]) * delta, (-1,))
        return xp.astype(dx, dy.dtype, copy=False), grads


@dataclass(frozen=True)
class RMSNorm(Normalization, Layer):
    """Each sample, or each place of it, is divided by the root mean square of its features.

    Parameters
    ----------
    features : int
        The number C of features: the length of the last axis.
    eps : float > 0
        Added to the mean square, inside the root.

    Notes
    -----
    The parameter is ``gamma`` of shape (C,); no mean is taken off, and there is no beta.

    References
    ----------
    Zhang and Sennrich, "Root mean square layer normalization", NeurIPS 2019, equation 4.

    Examples
    --------
    >>> import numpy as np
    >>> import xpnet
    >>> layer = xpnet.RMSNorm(3)
    >>> y, cache = layer.forward(np, layer.init(np.random.default_rng(0)), np.asarray([[1.0, 2.0, 3.0]]))
    >>> y.round(3)
    array([[0.463, 0.926, 1.389]])
    """

    features: int
    eps: float = 1e-5

    names: ClassVar[tuple[str, ...]] = ("gamma",)

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """Each of the M rows by its own C features.

        s = sqrt(mean(x ** 2, axis=-1, keepdims=True) + eps)      (M, 1)     (1)
        xhat = x / s                                              (M, C)     (2)
        y = gamma * xhat                                          (M, C)     (3)
        """
        a = widened(xp, x)
        s = xp.sqrt(mean_over(xp, a * a, (-1,)) + self.eps)
        xhat = a / s
        return xp.astype(widened(xp, params["gamma"]) * xhat, x.dtype, copy=False), (xhat, s)

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """A row's root depends on x as well.

        dgamma = sum(dy * xhat, axis=0)                                               (C,)       (4)
        dxhat = gamma * dy                                                            (M, C)     (5)
        dx = (dxhat - xhat * mean(dxhat * xhat, axis=-1, keepdims=True)) / s          (M, C)     (6)
        """
        (xhat, s), delta = cache, widened(xp, dy)
        grads = {"gamma": sum_over_places(xp, delta * xhat)}
        if not need_dx:
            return None, grads
        dxhat = widened(xp, params["gamma"]) * delta
        dx = (dxhat - xhat * mean_over(xp, dxhat * xhat, (-1,))) / s
        return xp.astype(dx, dy.dtype, copy=False), grads


@dataclass(frozen=True)
class GroupNorm(Normalization, Layer):
    """Each sample gets mean 0 and variance 1 in each group of channels, over all its places.

    Parameters
    ----------
    groups : int
        The number G of groups, each of C / G channels that follow one another.
    features : int
        The number C of channels: the length of the last axis, a multiple of G.
    eps : float > 0
        Added to the variance, inside the root.

    Notes
    -----
    Parameters are ``gamma`` and ``beta`` of shape (C,). In the formulas x is (B, N, G, K): N places, K = C / G.

    References
    ----------
    Wu and He, "Group normalization", ECCV 2018, equations 1, 2, 6 and 7.

    Examples
    --------
    >>> import xpnet
    >>> xpnet.GroupNorm(4, 8).parameter_shapes()
    {'gamma': (8,), 'beta': (8,)}
    """

    groups: int
    features: int
    eps: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.features % check_size("GroupNorm: groups", self.groups):
            raise ConfigError(f"GroupNorm: groups must divide the {self.features} features, got {self.groups}")

    def split(self, xp: Any, x: Array) -> tuple[Array, tuple[int, ...]]:
        """Return x as (B, ..., G, K), and the axes of the statistics: within a group, then place by place."""
        grouped = xp.reshape(x, (*x.shape[:-1], self.groups, self.features // self.groups))
        return grouped, (-1, *range(x.ndim - 2, 0, -1))

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """Each group of each sample by its own N K numbers.

        mu = mean(x, axis=(1, 3), keepdims=True)                             (B, 1, G, 1)     (1)
        s = sqrt(mean((x - mu) ** 2, axis=(1, 3), keepdims=True) + eps)      (B, 1, G, 1)     (2)
        xhat = (x - mu) / s                                                  (B, N, G, K)     (3)
        y = gamma * xhat + beta                                              (B, N, G, K)     (4)
        """
        grouped, axes = self.split(xp, widened(xp, x))
        xhat, s = standardize(xp, grouped, axes, self.eps)
        y = widened(xp, params["gamma"]) * xp.reshape(xhat, x.shape) + widened(xp, params["beta"])
        return xp.astype(y, x.dtype, copy=False), (xhat, s)

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """A group's mean and root depend on x as well.

        dbeta = sum(dy, axis=(0, 1))                                  (G, K)           (5)
        dgamma = sum(dy * xhat, axis=(0, 1))                          (G, K)           (6)
        dxhat = gamma * dy                                            (B, N, G, K)     (7)
        p = mean(dxhat, axis=(1, 3), keepdims=True)                   (B, 1, G, 1)     (8)
        q = mean(dxhat * xhat, axis=(1, 3), keepdims=True)            (B, 1, G, 1)     (9)
        dx = (dxhat - p - xhat * q) / s                               (B, N, G, K)     (10)
        """
        (xhat, s), delta = cache, widened(xp, dy)
        grads = {"gamma": sum_over_places(xp, delta * xp.reshape(xhat, dy.shape)), "beta": sum_over_places(xp, delta)}
        if not need_dx:
            return None, grads
        dxhat, axes = self.split(xp, widened(xp, params["gamma"]) * delta)
        dx = xp.reshape(standardize_backward(xp, xhat, s, dxhat, axes), dy.shape)
        return xp.astype(dx, dy.dtype, copy=False), grads
