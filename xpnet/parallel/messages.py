"""What processes that MPI has started say to each other, all at the same time."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from xpnet.typing import HostArray

HEARD = 0.5
"""Seconds in which the launcher passes on what a process says; what it has not passed on when all end is lost."""


class Messages:
    """Messages among the processes of a communicator.

    Whoever waits longer than `timeout` seconds names those that have not come, and ends all.

    Parameters
    ----------
    communicator : mpi4py communicator
    timeout : float

    Attributes
    ----------
    rank, size : int
        The number of this process, from 0, and of all.
    """

    def __init__(self, communicator: Any, timeout: float) -> None:
        self._comm, self.timeout = communicator, timeout
        self.rank, self.size = int(communicator.Get_rank()), int(communicator.Get_size())

    def swap(self, give: Sequence[HostArray], take: Sequence[HostArray]) -> None:
        """Give ``give[q]`` to process q, and take what it gives into ``take[q]``."""
        others = [q for q in range(self.size) if q != self.rank]
        coming = {q: self._comm.Irecv(take[q], q) for q in others}
        going = [self._comm.Isend(give[q], q) for q in others]
        if take[self.rank] is not give[self.rank]:
            take[self.rank][...] = give[self.rank]
        latest = time.monotonic() + self.timeout
        waiting = [*coming.values(), *going]
        while waiting := [request for request in waiting if not request.Test()]:
            if time.monotonic() > latest:
                late = [q for q, request in coming.items() if not request.Test()]
                self.abort(f"waited {self.timeout:g} s for process {', '.join(map(str, late)) or 'unknown'}")
            time.sleep(0)  # there may be more processes than cores

    def gather(self, value: Any) -> list[Any]:
        """Return what each process gives, a JSON value."""
        text = np.frombuffer(json.dumps(value).encode(), np.uint8)
        lengths = [np.zeros(1, np.int64) for _ in range(self.size)]
        self.swap([np.asarray([text.size])] * self.size, lengths)
        texts = [np.empty(int(n[0]), np.uint8) for n in lengths]
        self.swap([text] * self.size, texts)
        return [json.loads(t.tobytes()) for t in texts]

    def decide(self, value: Any) -> Any:
        """Return the value that process 0 gives."""
        return self.gather(value)[0]

    def join(self, rows: HostArray) -> HostArray:
        """Return the rows that all processes give, one process after another; of one data type and shape each."""
        own = np.ascontiguousarray(rows)
        found = [np.empty((n, *own.shape[1:]), own.dtype) for n in self.gather(len(own))]
        self.swap([_bytes(own)] * self.size, [_bytes(a) for a in found])
        return np.concatenate(found)

    def abort(self, reason: str) -> NoReturn:
        """Say why, and end all processes."""
        where = f"process {self.rank} of {self.size} on {platform.node()}"
        sys.stdout.flush()
        print(f"xpnet: {where} ends the training on all: {reason}", file=sys.stderr, flush=True)
        time.sleep(HEARD)
        self._comm.Abort(1)
        os._exit(1)  # Abort may return while the launcher is still about to end the others


def _bytes(a: HostArray) -> HostArray:
    """Return the memory of an array, since MPI does not know all data types."""
    return a.reshape(-1).view(np.uint8)
