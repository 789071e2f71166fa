"""Blocks: units in a row that work on one part of a batch, and need not wait for what is done with other parts.

A convolution cuts a few images to patches, multiplies these, and goes on with the next few. What is alive after a block
of images is alive after the next one, too: the patches of each are gone by then. This is how blocks are found. Each can
be done by any thread, with memory of the thread's own for results that the block alone writes and reads.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from xpnet.backends.tape.fusion import home
from xpnet.backends.tape.plan import Unit, inputs, is_result
from xpnet.backends.tape.record import Traced

NUMBER = 16
"""Multiplications of a product that take about as long as a number of anything else."""
LEAST = 1 << 18
"""Multiplications of a block at least, on average."""
EVEN = 3
"""The longest block is at most one of so many parts of the work."""
BESIDE = 4
"""What has to be done in order is at most one of so many parts."""


class Blocks(NamedTuple):
    """Units in an order in which blocks that do not wait for each other are followed by what waits for several of them.

    Attributes
    ----------
    units : list of Unit
    jobs : list of range
        What one thread does in order, by the units' numbers: blocks, and each of the other units.
    until : dict
        For each unit of a block the last one that may be done at the same time.
    own : set of int
        The results that one block writes and reads, and nothing else.
    """

    units: list[Unit]
    jobs: list[range]
    until: dict[int, int]
    own: set[int]


def weight(unit: Unit) -> int:
    """Return about how long a unit takes, in multiplications of a product."""
    op = unit[0]
    if op.kind in ("matmul", "adding"):
        return int(op.operands[0].size) * (op.target.shape or (1,))[-1]
    reads = [] if op.kind == "take" else [a for o in unit for a in inputs(o)]
    return NUMBER * max(int(a.size) for a in (*reads, *(o.target for o in unit)))


def alone(units: list[Unit]) -> Blocks:
    """Return units as they are, each alone."""
    return Blocks(units, [range(k, k + 1) for k in range(len(units))], {}, set())


def blocks(units: list[Unit], places: dict[int, Traced], inner: set[int]) -> Blocks:
    """Find blocks; `places` and `inner` are the plan's."""
    lives, made, done = _Lives(units, places, inner), Blocks([], [], {}, set()), 0

    def add(numbers: Iterable[int]) -> None:
        start = len(made.units)
        made.units.extend(units[n] for n in numbers)
        made.jobs.append(range(start, len(made.units)))

    for cuts in lives.families():
        if cuts[0] < done or not (found := _independent(units, places, lives, cuts)):
            continue
        for n in range(done, cuts[0]):
            add([n])
        first, done = cuts[0], cuts[-1]
        for job in found:
            add(job)
            made.own.update(lives.within(job))
        made.until.update(dict.fromkeys(range(first, done), done - 1))
    for n in range(done, len(units)):
        add([n])
    return made


class _Lives:
    """Which units each result lives for; `alive` are those at the beginning of a unit, each by one bit."""

    def __init__(self, units: list[Unit], places: dict[int, Traced], inner: set[int]) -> None:
        self._touched: list[set[int]] = []  # the results that a unit writes or reads
        self._users: dict[int, list[int]] = {}
        for k, unit in enumerate(units):
            found = {id(a.buffer) for op in unit for a in op.touched() if is_result(a)} - inner - places.keys()
            self._touched.append(found)
            for key in found:
                self._users.setdefault(key, []).append(k)
        changes = [0] * (len(units) + 2)
        for bit, users in enumerate(self._users.values()):
            changes[users[0] + 1] ^= 1 << bit
            changes[users[-1] + 1] ^= 1 << bit
        self.alive = [0]
        for change in changes[1:-1]:
            self.alive.append(self.alive[-1] ^ change)

    def families(self) -> list[list[int]]:
        """Return where blocks begin that may belong together, and where the last one ends; the widest first."""
        where: dict[int, list[int]] = {}
        for k, alive in enumerate(self.alive):
            where.setdefault(alive, []).append(k)
        made = [self._with_ends(cuts) for cuts in where.values() if len(cuts) > 1]
        return sorted(made, key=lambda cuts: (cuts[0], -cuts[-1]))

    def _with_ends(self, cuts: list[int]) -> list[int]:
        """Add the first block, before which less was alive, and the last, after which less is."""
        alive, longest = self.alive[cuts[0]], 2 * max(b - a for a, b in itertools.pairwise(cuts))
        before = range(cuts[0] - 1, max(cuts[0] - longest, 0) - 1, -1)
        after = range(cuts[-1] + 1, min(cuts[-1] + longest, len(self.alive) - 1) + 1)
        first, last = ([k for k in near if not self.alive[k] & ~alive][:1] for near in (before, after))
        made = [*first, *cuts, *last]
        while len(made) > 1 and not self.within(range(*made[:2])):
            del made[0]
        while len(made) > 1 and not self.within(range(*made[-2:])):
            del made[-1]
        return made

    def within(self, job: Sequence[int]) -> set[int]:
        """Return the results that live in some units only."""
        inside = set(job)
        return {key for n in job for key in self._touched[n] if inside.issuperset(self._users[key])}


def _independent(units: list[Unit], places: dict[int, Traced], lives: _Lives, cuts: list[int]) -> list[list[int]]:
    """Return the units of blocks that can be done in any order, and then those for which they cannot; or nothing."""
    weights = [sum(map(weight, units[a:b])) for a, b in itertools.pairwise(cuts)]
    if sum(weights) < LEAST * len(weights) or EVEN * max(weights, default=0) > sum(weights) or not weights:
        return []
    late = _late(units, places, cuts)
    if BESIDE * sum(weight(units[n]) for n in late) > sum(weights):
        return []
    jobs = [[n for n in range(a, b) if n not in late] for a, b in itertools.pairwise(cuts)]
    return [*jobs, sorted(late)] if late else jobs


def _late(units: list[Unit], places: dict[int, Traced], cuts: list[int]) -> set[int]:
    """Return the units that need something of another block, or of such a unit."""
    block = {n: k for k, (a, b) in enumerate(itertools.pairwise(cuts)) for n in range(a, b)}
    spans = [
        (n, block[n], a is op.target, *np.lib.array_utils.byte_bounds(home(a, places)))
        for n in block
        for op in units[n]
        for a in op.touched()
    ]
    unit, own, written, low, high = np.array(spans, np.int64).T
    late: set[int] = set()
    waits = np.zeros(len(spans), bool)  # for spans of units that are late
    for n, k, writes, start, stop in spans:
        meets = (low < stop) & (start < high) & (unit < n) & ((own < k) | waits)
        if n not in late and bool((meets & (written | writes).astype(bool)).any()):
            late.add(n)
            waits |= unit == n
    return late
