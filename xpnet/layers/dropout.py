"""Dropout, with the same mask on every backend."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from xpnet.errors import ConfigError
from xpnet.layers.base import INFERENCE, Context, Gradient, Layer, Result
from xpnet.typing import Array, Params
from xpnet.validation import BELOW_ONE, check_fields


def word(xp: Any, x: Array) -> Array:
    """Return whole numbers modulo 2^32: int64 for libraries that cannot compute with uint32, which wraps by itself."""
    return x if x.dtype == xp.uint32 else x & 0xFFFFFFFF


def mix(xp: Any, x: Array) -> Array:
    """Return a 32-bit hash of each 32-bit number: the finaliser "lowbias32" of Wellons, 2018."""
    x = x ^ (x >> 16)
    x = word(xp, x * 0x7FEB352D)
    x = x ^ (x >> 15)
    x = word(xp, x * 0x846CA68B)
    return x ^ (x >> 16)


def random_bits(xp: Any, counter: Array, key: int, step: Array) -> Array:
    """Return 32 random bits for each entry of `counter`, a function of (counter, key, step) alone.

    Integers wrap and are compared as integers, so that every backend finds the same bits.
    """
    h = mix(xp, word(xp, step * 0x9E3779B9 + key))
    return mix(xp, word(xp, mix(xp, word(xp, counter + h)) + h))


@dataclass(frozen=True)
class Dropout(Layer):
    """In training, each number becomes 0 with probability `rate`, and the others are scaled up.

    The scale 1 / (1 - rate) keeps the expectation, so that predictions use the layer as it is. The mask is a
    hash of (seed, step, layer, element): it is the same on every backend, and a run that is resumed goes on
    with the masks that the uninterrupted one would have had.

    Parameters
    ----------
    rate : float in [0, 1)
        Probability of zero.

    References
    ----------
    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15 (2014).

    Examples
    --------
    >>> import xpnet
    >>> [type(layer).__name__ for layer in xpnet.mlp([2, 8, 3], dropout=0.5).layers]
    ['Linear', 'ReLU', 'Dropout', 'Linear']
    """

    rate: float = 0.5

    def __post_init__(self) -> None:
        check_fields(self, rate=BELOW_ONE)

    def mask(self, xp: Any, x: Array, context: Context) -> Array:
        """Return the factor of each number of `x`: 0, or 1 / (1 - rate)."""
        if context.step is None:
            raise ConfigError("Dropout in training needs context.step, a uint32 array of shape (1,)")
        begin = context.first * prod(x.shape[1:])
        counter = xp.arange(begin, begin + prod(x.shape), dtype=context.step.dtype, device=x.device)
        bits = random_bits(xp, xp.reshape(counter, x.shape), context.key, context.step)
        return xp.astype(bits >= int(self.rate * 2**32), x.dtype) * (1.0 / (1.0 - self.rate))

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """Multiplication by the mask m in training, nothing otherwise (m = 1).

        y = x * m          (B, N)     (1)
        """
        if not context.training or self.rate == 0.0:
            return x, None
        m = self.mask(xp, x, context)
        return x * m, m

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """The same mask on the way back.

        dx = dy * m          (B, N)     (2)
        """
        m = cache
        return (dy if m is None else dy * m), {}
