"""The sum of a vector over processes, in one order for any number of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from xpnet.training.slices import tree_sum
from xpnet.typing import Array

Swap: TypeAlias = Callable[[Sequence[Any], Sequence[Any]], None]
"""``swap(give, take)`` gives ``give[q]`` to process q, and takes what q gives into ``take[q]``."""


class Exchange:
    """Adds up the vectors that P processes give, by the tree.

    Each process gets every version of its own piece of the vector, adds these up, and gives the sum to the others:
    2 N (P - 1) / P numbers travel to and from each, as few as possible.

    Parameters
    ----------
    size : int
        P.
    zeros : callable ``length -> array``
        Makes the arrays that are given and taken, once.
    length : int
        N.
    swap : Swap
    """

    def __init__(self, size: int, zeros: Callable[[int], Array], length: int, swap: Swap) -> None:
        piece = -(-length // size)
        self._length, self._swap = length, swap
        self._flat, taken = zeros(size * piece), zeros(size * piece)
        self._given = [self._flat[q * piece : (q + 1) * piece] for q in range(size)]
        self._taken = [taken[q * piece : (q + 1) * piece] for q in range(size)]
        self._sum, self._piece = taken[:length], zeros(piece)

    def __call__(self, part: Array) -> Array:
        """Return the sum; the next call overwrites it."""
        self._flat[: self._length] = part
        self._swap(self._given, self._taken)
        self._piece[...] = tree_sum(self._taken)
        self._swap([self._piece] * len(self._taken), self._taken)
        return self._sum
