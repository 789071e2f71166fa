"""What a step starts on a GPU, in order: operations put together to loops, and loops that have nothing to do with each
other put together to kernels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from xpnet.backends.cuda.rewrites import chains, sunk
from xpnet.backends.cuda.units import AT_ONCE, Part, joinable
from xpnet.backends.tape.fusion import Known, home, repeated
from xpnet.backends.tape.plan import inputs
from xpnet.backends.tape.record import Operation, Traced
from xpnet.typing import HostArray

MOST = 500
"""Operations of a kernel at most whose loops are put side by side: older compilers have 4 KiB for its arguments."""


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
        self._uses: dict[int, list[tuple[int, HostArray, bool]]] = {}

    def _touched(self, operations: list[Operation]) -> list[tuple[int, HostArray, bool]]:
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
    operations = sunk(operations, places, known)
    links_of = chains(operations, places, known)
    links = {id(link.target.buffer) for chain in links_of.values() for link in chain}
    made, ledger = list[Launch](), Ledger(places, links)
    for op in operations:
        if id(op.target.buffer) in links:
            continue
        chain = links_of.get(id(op), [])
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


def beside(
    made: list[Launch], places: dict[int, Traced], links: set[int]
) -> tuple[list[Launch], dict[int, int]]:  # fmt: skip
    """Return the launches with products that may be done beside others as early as can be, and these products.

    They are given by their number, each with that of the launch that has to wait for it. Such are the products that
    make gradients of weights: the next layer's delta does not wait for them.
    """

    def latest(before: list[Launch], operations: list[Operation]) -> int:
        ledger = Ledger(places, links)
        for k, launch in enumerate(before):
            ledger.note(k, launch.operations)
        return ledger.latest(operations)

    found: dict[int, Launch] = {}  # products on the side, by their identity, and what waits for them
    for k in reversed(range(len(made))):
        if made[k].alone and made[k].alone[0].kind == "matmul":
            after = made[k + 1 :]
            waits = next((j for j, o in enumerate(after) if latest([made[k]], o.operations) == 0), 0)
            if any(id(launch) not in found for launch in after[:waits]):
                found[id(made[k])] = after[waits]
    order: list[Launch] = []
    for launch in made:
        order.insert(1 + latest(order, launch.operations) if id(launch) in found else len(order), launch)
    numbers = {id(launch): k for k, launch in enumerate(order)}
    return order, {numbers[key]: numbers[id(waiting)] for key, waiting in found.items()}


def _side_by_side(made: list[Launch], ledger: Ledger) -> list[Launch]:
    """Let a kernel be done with the first one before it such that it sees nothing of that or of what comes between."""
    kept: list[Launch] = []
    for launch in made:
        latest, most = ledger.latest(launch.operations), MOST - len(launch.operations)
        fitting = (k for k in range(latest + 1, len(kept)) if kept[k].parts and len(kept[k].operations) <= most)
        k = next(fitting, None) if launch.parts else None
        if k is not None:
            kept[k].parts += launch.parts
        else:
            k = len(kept)
            kept.append(launch)
        ledger.note(k, launch.operations)
    return kept
