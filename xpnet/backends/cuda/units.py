"""Which operations of a step become one kernel of a GPU.

A loop may hold more than operations on each number alone: sums and maxima along some of its axes, between such
operations; selections by indices that it computes itself; and products of few terms. Loops that have nothing to do with
each other share a kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np

from xpnet.backends.tape.functions import axes_of
from xpnet.backends.tape.fusion import Known, fits, home, repeated
from xpnet.backends.tape.loop import summed_in, uniform
from xpnet.backends.tape.plan import Uses, inputs, is_result
from xpnet.backends.tape.record import Operation, Tape, Traced
from xpnet.backends.tape.space import Access, Axes, Space, accesses

FEW = 16
"""Terms of a product up to which a kernel adds them up itself, at each place."""
LANES, MOST_LANES, TURNS = 32, 256, 64
"""Threads that add up together: as many as a warp has, or a block, so that none has more than so many turns."""
REDUCTIONS = ("add", "multiply", "maximum", "minimum")
CHUNK = 16 * MOST_LANES
"""How many numbers a block adds up at least, where they are too many for one."""
AT_ONCE = 16
"""Reductions of a loop at most: each takes a piece of the memory that the threads of a block share."""


def lanes(length: int) -> int:
    """Return how many threads add up `length` numbers together."""
    return LANES if length <= LANES * LANES else MOST_LANES


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
    if not known(op) or not all(a.size and a.flags.aligned for a in arrays):
        return False
    if any(np.may_share_memory(a, arrays[-1]) for a in arrays[:-1]):
        return False
    x, target = arrays[0], arrays[-1]
    if op.kind == "reduce":
        same = summed_in(x.dtype) == summed_in(target.dtype)
        return op.function.__name__ in REDUCTIONS and same and 2 <= (chunk(op) or length(op)) <= TURNS * MOST_LANES
    if op.kind == "take":
        return arrays[1].ndim == 1 and arrays[1].dtype.kind in "iu"
    return x.ndim == arrays[1].ndim == 2 and x.shape[1] <= FEW and target.dtype.kind != "c"


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

    def _lies(self, a: Traced) -> np.ndarray:
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


@dataclass
class Launch:
    """What is started at once: the parts of a kernel, or an operation that is left to a library."""

    parts: list[Part] = field(default_factory=list)
    alone: list[Operation] = field(default_factory=list)

    @property
    def operations(self) -> list[Operation]:
        """All operations in order."""
        return [op for part in self.parts for op in part.operations] + self.alone


class Ledger:
    """Which launches touch a piece of memory; the results of links lie in none."""

    def __init__(self, places: dict[int, Traced], links: set[int]) -> None:
        self._places, self._links = places, links
        self._uses: dict[int, list[tuple[int, np.ndarray, bool]]] = {}

    def _touched(self, operations: list[Operation]) -> list[tuple[int, np.ndarray, bool]]:
        found = []
        for op in operations:
            for a in (*inputs(op), op.target):
                if id(a.buffer) in self._links:
                    continue
                base = self._places.get(id(a.buffer), a).buffer
                found.append((id(base), home(a, self._places), a is op.target))
        return found

    def note(self, launch: int, operations: list[Operation]) -> None:
        """Take down what a launch touches."""
        for base, array, written in self._touched(operations):
            self._uses.setdefault(base, []).append((launch, array, written))

    def latest(self, operations: list[Operation]) -> int:
        """Return the last launch that operations have to come after; -1 if there is none."""
        return max(
            (
                launch
                for base, array, written in self._touched(operations)
                for launch, other, changed in self._uses.get(base, ())
                if (written or changed) and np.may_share_memory(array, other)
            ),
            default=-1,
        )


def launches(
    operations: list[Operation], places: dict[int, Traced], known: Known
) -> tuple[list[Launch], set[int]]:  # fmt: skip
    """Return what a step starts, in order, and the buffers of results that each loop computes for itself."""
    operations = _sunk(operations, places, known)
    chains = _chains(operations, places, known)
    links = {id(link.target.buffer) for chain in chains.values() for link in chain}
    made, ledger = list[Launch](), Ledger(places, links)
    for op in operations:
        if id(op.target.buffer) in links:
            continue
        chain = chains.get(id(op), [])
        if not joinable(op, places, known):
            made.append(Launch(alone=[op]))
            ledger.note(len(made) - 1, [op])
            continue
        k = _place(op, chain, made, ledger)
        if k is None:
            k = len(made)
            made.append(Launch([Part(op, chain, places)]))
        ledger.note(k, [*chain, op])
    return _side_by_side(made, Ledger(places, links)), links


def _place(op: Operation, chain: list[Operation], made: list[Launch], ledger: Ledger) -> int | None:
    """Return the launch whose loop has taken up an operation: the last one, or that which computes what it adds up.

    Only what is small is done earlier than the step says: a reduction, and what is done with its outcome.
    """
    latest = ledger.latest([*chain, op])
    for k in dict.fromkeys((len(made) - 1, latest)):
        if k < 0 or not made[k].parts:
            continue
        (part,) = made[k].parts
        moves = op.kind == "reduce" or (part.space.reduced and repeated(op.target.shape) != part.space.base)
        if (k == len(made) - 1 or moves) and part.reductions < AT_ONCE and part.join(op, chain):
            return k
    return None


def _side_by_side(made: list[Launch], ledger: Ledger) -> list[Launch]:
    """Let a kernel be done with the first one before it such that it sees nothing of that or of what comes between."""
    kept: list[Launch] = []
    for launch in made:
        latest = ledger.latest(launch.operations)
        k = next((k for k in range(latest + 1, len(kept)) if kept[k].parts), None) if launch.parts else None
        if k is not None:
            kept[k].parts += launch.parts
        else:
            k = len(kept)
            kept.append(launch)
        ledger.note(k, launch.operations)
    return kept


def sums(
    tape: Tape, operations: list[Operation], places: dict[int, Traced], known: Known
) -> list[list[Operation]]:  # fmt: skip
    """Return for each operation what a kernel does in its place.

    A product of a row of ones is the sum that it is, and a sum of too many numbers for a block is done in two stages.
    """

    def in_place_of(op: Operation) -> list[Operation]:
        if op.kind not in ("matmul", "reduce") or len(inputs(op)) < 1 + (op.kind == "matmul") or not known(op):
            return [op]
        total = op
        if op.kind == "matmul":
            ones, x = inputs(op)
            if not (ones.shape[0] == 1 and ones.ndim == x.ndim == 2 and uniform(ones) and ones.array.flat[0] == 1):
                return [op]
            total = Operation("reduce", np.add, [x], op.target, (0, x.dtype, True))
        stages = [total] if length(total) <= TURNS * MOST_LANES else _stages(tape, total)
        return stages if all(joinable(stage, places, lambda _: True) for stage in stages) else [op]

    return [in_place_of(op) for op in operations]


def _stages(tape: Tape, op: Operation) -> list[Operation]:
    """Return a reduction in two stages: each block's own, and that of all blocks; itself if that is of no use."""
    (x,) = inputs(op)
    shape, own = repeated(x.shape), space_of(op)
    kept = tuple(n for k, n in enumerate(shape) if k not in own.reduced)
    each = max(CHUNK, -(-length(op) // (TURNS * MOST_LANES)))
    if repeated(op.target.shape) != repeated(kept) or prod(kept) > MOST_LANES:
        return [op]
    parts = (-(-length(op) // each), *kept)
    middle = tape.result(parts, np.zeros((1,) * len(parts), summed_in(x.dtype)))
    axis, dtype, keepdims = op.options
    return [
        Operation(op.kind, op.function, [x], middle, (axis, dtype, keepdims, each)),
        Operation(op.kind, op.function, [middle], op.target, (0, dtype, False)),
    ]


def _sunk(operations: list[Operation], places: dict[int, Traced], known: Known) -> list[Operation]:
    """Let products of few terms come just before their result is first read, if nothing changes them meanwhile."""
    uses, before = Uses(operations), dict[int, list[Operation]]()
    sunk: set[int] = set()
    for i, op in enumerate(operations):
        if op.kind != "matmul" or id(op.target.buffer) in places or not joinable(op, places, known):
            continue
        first = min(uses.readers.get(id(op.target.buffer), [i]))
        written = [home(other.target, places) for other in operations[i + 1 : first]]
        if any(np.may_share_memory(home(a, places), b) for a in (*inputs(op), op.target) for b in written):
            continue
        before.setdefault(first, []).append(op)
        sunk.add(i)
    return [own for i, op in enumerate(operations) for own in (*before.get(i, ()), *(() if i in sunk else (op,)))]


def _chains(operations: list[Operation], places: dict[int, Traced], known: Known) -> dict[int, list[Operation]]:
    """Return for selections the operations that compute their indices, and nothing else."""
    uses = Uses(operations)
    links: dict[int, int] = {}  # of a link the last operation that it is computed for
    for i in reversed(range(len(operations))):
        op = operations[i]
        key, readers = id(op.target.buffer), uses.readers.get(id(op.target.buffer), [])
        if not is_result(op.target) or key in places or op.target.ndim != 1 or op.target.dtype.kind not in "iu":
            continue
        if op.target.path or uses.makers[key] != i or not readers or not joinable(op, places, known):
            continue
        if op.kind in ("reduce", "matmul") or not all(
            _as_index(operations[j], key, links, j, places, known) for j in readers
        ):
            continue
        last = max(links.get(j, j) for j in readers)
        read = [home(a, places) for a in inputs(op)]
        if not any(np.may_share_memory(a, home(o.target, places)) for o in operations[i + 1 : last] for a in read):
            links[i] = last

    def chain(op: Operation) -> list[Operation]:
        found: list[Operation] = []
        for a in inputs(op):
            maker = uses.makers.get(id(a.buffer))
            if maker in links:
                found += [*chain(operations[maker]), operations[maker]]
        return list({id(link): link for link in found}.values())

    return {id(op): chain(op) for i, op in enumerate(operations) if op.kind == "take" and i not in links}


def _as_index(
    op: Operation, key: int, links: dict[int, int], number: int, places: dict[int, Traced], known: Known
) -> bool:  # fmt: skip
    """Say whether an operation reads a buffer as indices only, or is itself done for such."""
    if op.kind == "take":
        x, index = inputs(op)
        return id(index.buffer) == key and not index.path and id(x.buffer) != key and joinable(op, places, known)
    return number in links
