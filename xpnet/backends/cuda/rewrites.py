"""What a step's operations are made into before they are put together: sums that a GPU does well, in good places."""

from __future__ import annotations

from math import prod

import numpy as np

from xpnet.backends.cuda.units import MOST_LANES, TURNS, joinable, length, space_of
from xpnet.backends.tape.fusion import Known, home, repeated
from xpnet.backends.tape.loop import summed_in, uniform
from xpnet.backends.tape.plan import Uses, inputs, is_result
from xpnet.backends.tape.record import Operation, Tape, Traced

CHUNK = 16 * MOST_LANES
"""How many numbers a block adds up at least, where they are too many for one."""


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


def sunk(operations: list[Operation], places: dict[int, Traced], known: Known) -> list[Operation]:
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


def chains(operations: list[Operation], places: dict[int, Traced], known: Known) -> dict[int, list[Operation]]:
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

    def of(op: Operation) -> list[Operation]:
        found: list[Operation] = []
        for a in inputs(op):
            maker = uses.makers.get(id(a.buffer))
            if maker in links:
                found += [*of(operations[maker]), operations[maker]]
        return list({id(link): link for link in found}.values())

    return {id(op): of(op) for i, op in enumerate(operations) if op.kind == "take" and i not in links}


def _as_index(
    op: Operation, key: int, links: dict[int, int], number: int, places: dict[int, Traced], known: Known
) -> bool:  # fmt: skip
    """Say whether an operation reads a buffer as indices only, or is itself done for such."""
    if op.kind == "take":
        x, index = inputs(op)
        return id(index.buffer) == key and not index.path and id(x.buffer) != key and joinable(op, places, known)
    return number in links
