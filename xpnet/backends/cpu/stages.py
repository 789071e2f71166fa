"""What of a step can be done at the same time: work one after another becomes tasks, and stages of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xpnet.backends.cpu.chain import Lanes, Piece, Task
from xpnet.typing import HostArray


class Work(NamedTuple):
    """One operation or loop, or a block of them: its parts, and what it reads and writes."""

    parts: list[Lanes]
    reads: list[HostArray]
    writes: list[HostArray]
    weight: int = 0
    """As that of a task."""

    @property
    def pieces(self) -> list[Piece]:
        """All pieces."""
        return [piece for part in self.parts for lane in part for piece in lane]

    @property
    def shared(self) -> bool:
        """Whether one thread does not do all, or does it beside others that do the like."""
        return len(self.parts) > 1 or len(self.parts[0]) > 1


def tasks(works: Sequence[Work], threads: int) -> list[Task]:
    """Return the works as tasks: those of one stage may be done at the same time, since none sees what another writes.

    What has one part only is done by one thread, together with what follows, unless there is something for the others.
    """
    if threads == 1:
        return [_joined(works, 0)]
    stages: list[list[Work]] = []
    found = levels(works)
    for level in range(max(found, default=-1) + 1):
        stage = [work for work, own in zip(works, found, strict=True) if own == level]
        if stages and not any(work.shared for work in (*stages[-1], *stage)):
            stages[-1] += stage
        else:
            stages.append(stage)
    made: list[Task] = []
    for stage in stages:
        made += _of_stage(stage, len(made))
    return made


def levels(works: Sequence[Work]) -> list[int]:
    """Return a number for each work: greater than those of all that it needs, and as great as what needs it allows.

    So there is much to share out where it is known late, and nobody waits early for what is needed at the end.
    """
    spans = [
        (k, written, *np.lib.array_utils.byte_bounds(a))
        for k, work in enumerate(works)
        for written, arrays in enumerate((work.reads, work.writes))
        for a in arrays
        if a.size
    ]
    owner, changes, low, high = np.array(spans, np.int64).reshape(-1, 4).T
    needed: list[set[int]] = [set() for _ in works]
    for k, written, start, stop in spans:
        meets = (owner < k) & (low < stop) & (start < high) & ((changes == 1) | (written == 1))
        needed[k].update(owner[meets].tolist())
    found: list[int] = []
    for own in needed:
        found.append(1 + max((found[k] for k in own), default=-1))
    last = [max(found, default=0)] * len(works)
    for k in range(len(works) - 1, -1, -1):
        for earlier in needed[k]:
            last[earlier] = min(last[earlier], last[k] - 1)
    return last


def _of_stage(stage: list[Work], after: int) -> list[Task]:
    if not any(work.shared for work in stage):
        return [_joined(stage, after)]
    found = [Task(part, after, work.weight // len(work.parts)) for work in stage for part in work.parts]
    return sorted(found, key=lambda task: -task.weight)  # so that the end of the last is that of the others


def _joined(works: Sequence[Work], after: int) -> Task:
    return Task([[piece for work in works for piece in work.pieces]], after, sum(work.weight for work in works))
