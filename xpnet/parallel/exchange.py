"""The sum of a vector over processes, in one order for any number of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from xpnet.typing import Array

Swap: TypeAlias = Callable[[Sequence[Any], Sequence[Any]], None]
"""``swap(give, take)`` gives ``give[q]`` to process q, and takes what q gives into ``take[q]``.

A process takes its own by copying it, unless it is there already.
"""


class Exchange:
    """Adds up the vectors that P processes give, by the tree.

    Each process gets every version of its own piece of the vector, adds these up, and gives the sum to the others:
    2 N (P - 1) / P numbers travel to and from each, as few as possible.

    Parameters
    ----------
    rank, size : int
        The number of this process, and P.
    zeros : callable ``length -> array``
        Makes the arrays that are taken, once.
    length : int
        N.
    swap : Swap
    """

    def __init__(self, rank: int, size: int, zeros: Callable[[int], Array], length: int, swap: Swap) -> None:
        self._pieces = [slice(q * length // size, (q + 1) * length // size) for q in range(size)]
        own = self._pieces[rank]
        self._others = {q: zeros(own.stop - own.start) for q in range(size) if q != rank}
        self._swap = swap

    def __call__(self, vector: Array) -> None:
        """Write the sum into the vector; see `xpnet.training.slices.tree_sum` for the order."""
        pieces = [vector[piece] for piece in self._pieces]
        left = [self._others.get(q, piece) for q, piece in enumerate(pieces)]
        self._swap(pieces, left)
        while len(left) > 1:
            for a, b in zip(left[::2], left[1::2], strict=True):
                a += b
            left = left[::2]
        self._swap(left * len(pieces), pieces)
