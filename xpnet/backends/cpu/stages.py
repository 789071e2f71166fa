"""What of a step can be done at the same time: work one after another becomes tasks, and stages of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xpnet.backends.cpu.chain import Piece, Task
from xpnet.typing import HostArray


class Work(NamedTuple):
    """One operation or loop: its parts, of which each is some pieces in order, and what it reads and writes."""

    parts: list[list[Piece]]
    reads: list[HostArray]
    writes: list[HostArray]
    weight: int = 0
    """As that of a task."""


def tasks(works: Sequence[Work], threads: int) -> list[Task]:
    """Return the works as tasks: those of one stage may be done at the same time, since none sees what another writes.

    What has one part only is done by one thread, together with what follows, unless there is something for the others.
    """
    if threads == 1:
        return [
            Task([piece for work in works for part in work.parts for piece in part], 0, sum(w.weight for w in works))
        ]
    stages: list[list[Work]] = []
    for work in works:
        stage = stages[-1] if stages else []
        shared = any(len(other.parts) > 1 for other in stage)
        if all(_apart(work, other) for other in stage) if shared else stage and len(work.parts) == 1:
            stage.append(work)
        else:
            stages.append([work])
    made: list[Task] = []
    for stage in stages:
        made += _of_stage(stage, len(made))
    return made


def _of_stage(stage: list[Work], after: int) -> list[Task]:
    if all(len(work.parts) == 1 for work in stage):
        return [Task([piece for work in stage for piece in work.parts[0]], after, sum(work.weight for work in stage))]
    found = [Task(part, after, work.weight // len(work.parts)) for work in stage for part in work.parts]
    return sorted(found, key=lambda task: -task.weight)  # so that the end of the last is that of the others


def _apart(one: Work, other: Work) -> bool:
    """Say whether neither writes what the other reads or writes."""
    pairs = [(a, b) for x, y in ((one, other), (other, one)) for a in x.writes for b in (*y.reads, *y.writes)]
    return not any(np.may_share_memory(a, b) for a, b in pairs)
