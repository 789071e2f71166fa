"""Which operations of a step become one loop on a GPU.

A loop may hold more than operations on each number alone: sums and maxima along some of its axes, between such
operations; selections by indices that it computes itself; and products of few terms.
"""

from __future__ import annotations

from math import prod

import numpy as np

from xpnet.backends.tape.functions import axes_of
from xpnet.backends.tape.fusion import Known, fits, home, repeated
from xpnet.backends.tape.loop import summed_in
from xpnet.backends.tape.plan import inputs
from xpnet.backends.tape.record import Operation, Traced
from xpnet.backends.tape.space import Access, Axes, Space, accesses
from xpnet.typing import HostArray

FEW = 16
"""Terms of a product up to which a kernel adds them up itself, at each place."""
LANES, MOST_LANES, TURNS = 32, 256, 64
"""Threads that add up together: as many as a warp has, or a block, of which none has more than so many turns then."""
REDUCTIONS = ("add", "multiply", "maximum", "minimum")
AT_ONCE = 16
"""Reductions of a loop at most: each takes a piece of the memory that the threads of a block share."""


def lanes(length: int, sums: int) -> int:
    """Return how many threads add up `length` numbers together, if there are so many sums.

    Few threads leave a block to sums side by side, whose numbers lie side by side, too; many are for sums of few.
    """
    return LANES if length <= LANES * LANES or sums >= MOST_LANES else MOST_LANES


def reduced_axes(op: Operation) -> tuple[int, ...]:
    """Return the axes of a reduction, counted without leading axes of one entry."""
    (x,) = inputs(op)
    skipped = x.ndim - len(repeated(x.shape))
    return tuple(sorted(k - skipped for k in axes_of(x, op.options[0]) if k >= skipped))


def length(op: Operation) -> int:
    """Return of how many numbers each outcome of a reduction is made."""
    shape = repeated(inputs(op)[0].shape)
    return prod(shape[k] for k in reduced_axes(op))


def chunk(op: Operation) -> int:
    """Return how many numbers go into each outcome of a reduction that is done in parts; 0 if all do."""
    return op.options[3] if len(op.options) > 3 else 0


def space_of(op: Operation) -> Space:
    """Return the space of a loop that begins with an operation."""
    if op.kind != "reduce":
        return Space(repeated(op.target.shape))
    shape, parts = repeated(inputs(op)[0].shape), op.target.shape[:1] if chunk(op) else ()
    return Space(shape + parts, reduced_axes(op), chunk(op))


def joinable(op: Operation, places: dict[int, Traced], known: Known) -> bool:
    """Say whether an operation can be part of a kernel."""
    if op.kind not in ("reduce", "take", "matmul"):
        return fits(op, places, known)
    arrays = [home(a, places) for a in (*inputs(op), op.target)]
    even = all(a.size and a.flags.aligned and not any(s % a.itemsize for s in a.strides) for a in arrays)
    if not even or not known(op):
        return False
    if any(np.may_share_memory(a, arrays[-1]) for a in arrays[:-1]):
        return False
    x, target = arrays[0], arrays[-1]
    if op.kind == "reduce":
        same = summed_in(x.dtype) == summed_in(target.dtype) and x.dtype.kind != "b"
        return op.function.__name__ in REDUCTIONS and same and 2 <= (chunk(op) or length(op)) <= TURNS * MOST_LANES
    if op.kind == "take":
        return arrays[1].ndim == 1 and arrays[1].dtype.kind in "iu"
    same = x.dtype == arrays[1].dtype == target.dtype and x.dtype.kind != "b"
    return same and x.ndim == arrays[1].ndim == 2 and x.shape[1] <= FEW


class Part:
    """Operations over one space: a loop of a kernel.

    Attributes
    ----------
    operations : list of Operation
    axes : list of tuple
        The axes of each one's target in the space.
    """

    def __init__(self, op: Operation, chain: list[Operation], places: dict[int, Traced]) -> None:
        self._places, self._touched = places, list[Access]()
        self.space = space_of(op)
        self.operations: list[Operation] = []
        self.axes: list[Axes] = []
        assert self.join(op, chain)

    def join(self, op: Operation, chain: list[Operation]) -> bool:
        """Take up an operation, and before it the `chain` that computes its indices, if that sees no other result."""
        space, before = self.space, [*self._touched]
        if op.kind == "reduce":
            own = space_of(op)
            if own.base != space.base or (space.reduced and own != space):
                return False
            if own.chunk and not space.chunk:
                before = [Access(a.array, a.steps and (*a.steps, 0), a.written) for a in before]
            space = own
        axes = space.axes(op.target.shape)
        if axes is None or (op.kind in ("take", "matmul") and repeated(op.target.shape) != space.base):
            return False
        along = axes[op.options[0] : op.options[0] + 1] if chain else axes
        added = [(link, along) for link in chain if all(link is not other for other in self.operations)] + [(op, axes)]
        found = [accesses(link, space, at, self._lies) for link, at in added]
        for touched in found:
            if any(self._clash(a, b) for a in touched for b in before):
                return False
            before += touched
        self.space, self._touched = space, before
        self.operations += [own for own, _ in added]
        self.axes += [at for _, at in added]
        return True

    def _lies(self, a: Traced) -> HostArray:
        return home(a, self._places)

    def _clash(self, a: Access, b: Access) -> bool:
        """Say whether one writes what the other touches at another place."""
        if not (a.written or b.written):
            return False
        x, y = self._lies(a.array), self._lies(b.array)
        if not np.may_share_memory(x, y):
            return False
        return a.steps is None or (x.ctypes.data, a.steps, x.dtype) != (y.ctypes.data, b.steps, y.dtype)

    @property
    def reductions(self) -> int:
        """The number of reductions."""
        return sum(op.kind == "reduce" for op in self.operations)
