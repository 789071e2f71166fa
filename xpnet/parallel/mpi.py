"""Processes that MPI has started share a training: ``mpiexec -n 4 python train.py``."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from xpnet.backends import Backend
from xpnet.errors import ConfigError, NonFiniteError, XpnetError
from xpnet.training.slices import tree_sum
from xpnet.typing import Array, HostArray
from xpnet.validation import check_number, check_size

INSTALL = 'pip install "xpnet[mpi]"'


def load_mpi() -> Any:
    """Return the module `mpi4py.MPI`, or raise with what to install."""
    try:
        from mpi4py import MPI as module
    except ImportError as error:
        raise ConfigError(
            f"parallel='mpi' needs mpi4py and an MPI library ({error}). Install them: {INSTALL}; start with: "
            "mpiexec -n 4 python train.py"
        ) from None
    return module


class MPI:
    """The processes of an MPI job share each step of a training, with the same bits for any number of them.

    Every process runs the same program with the same data, network and settings, which is checked before the first
    step. Process 0 prints, and writes checkpoints. What one process raises ends all of them.

    Parameters
    ----------
    slices : int
        Into how many slices a batch is cut: a power of two. The bits of the result depend on it, and not on the number
        of processes, which is a power of two up to `slices`.
    timeout : float
        Seconds to wait for the other processes; then those that have not come are named, and all are ended.
    communicator : mpi4py communicator, optional
        The processes that take part; by default all.

    Raises
    ------
    ConfigError
        mpi4py is not installed, or the number of processes does not go with `slices`.

    Examples
    --------
    ``net.fit(x, t, parallel="mpi")`` is short for ``parallel=xpnet.parallel.MPI()``.
    """

    def __init__(self, slices: int = 4, timeout: float = 600.0, communicator: Any = None) -> None:
        self.slices = check_size("MPI: slices", slices)
        self.timeout = check_number("MPI: timeout", timeout, 0.0, low_open=True)
        self._mpi = load_mpi()
        self._comm = self._mpi.COMM_WORLD if communicator is None else communicator
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        self._signal: int | None = None
        self._agreed: BaseException | None = None
        if slices & (slices - 1) or self.size & (self.size - 1) or self.size > slices:
            raise ConfigError(
                f"{self.size} processes cannot share {slices} slices: both must be powers of two, and a process needs "
                f"a slice. Start 1, 2 or 4 processes, or pass parallel=xpnet.parallel.MPI(slices=8)"
            )

    # ------------------------------------------------------------------------------------ exchange

    def total(self, part: Array, backend: Backend) -> Array:
        """Return the sum, by the tree, of the vectors that all processes give.

        Each process gets every version of its own piece of the vector, adds these up, and gives the sum to the others:
        2 N (P - 1) / P numbers travel to and from each, as few as possible.
        """
        if self.size == 1:
            return part
        vector, P = backend.to_numpy(part), self.size
        padded = np.zeros((P, -(-vector.size // P)), vector.dtype)
        padded.reshape(-1)[: vector.size] = vector
        versions = np.empty_like(padded)
        self._swap([*padded], [*versions])
        padded[...] = tree_sum([*versions])
        self._swap([*padded], [*versions])
        return backend.asarray(versions.reshape(-1)[: vector.size])

    def _swap(self, give: Sequence[HostArray], take: Sequence[HostArray]) -> None:
        """Give ``give[q]`` to process q, and take what it gives into ``take[q]``."""
        others = [q for q in range(self.size) if q != self.rank]
        coming = {q: self._comm.Irecv(take[q], q) for q in others}
        going = [self._comm.Isend(give[q], q) for q in others]
        take[self.rank][...] = give[self.rank]
        latest = time.monotonic() + self.timeout
        while not self._mpi.Request.Testall([*coming.values(), *going]):
            if time.monotonic() > latest:
                late = [q for q, request in coming.items() if not request.Test()]
                self._abort(f"waited {self.timeout:g} s for process {', '.join(map(str, late)) or 'unknown'}")
            time.sleep(0)  # there may be more processes than cores

    def _all(self, value: Any) -> list[Any]:
        """Return what each process gives, a JSON value."""
        text = np.frombuffer(json.dumps(value).encode(), np.uint8)
        lengths = [np.zeros(1, np.int64) for _ in range(self.size)]
        self._swap([np.asarray([text.size])] * self.size, lengths)
        texts = [np.empty(int(n[0]), np.uint8) for n in lengths]
        self._swap([text] * self.size, texts)
        return [json.loads(t.tobytes()) for t in texts]

    def agree(self, what: str, facts: Mapping[str, Any]) -> None:
        """Raise `ConfigError` on all processes, naming what differs, if they do not all give the same facts."""
        given = self._all(dict(facts))
        lines = []
        for name in facts:
            values = [one.get(name) for one in given]
            odd = [q for q, value in enumerate(values) if value != values[0]]
            if odd:
                lines.append(f"{name}: {values[0]!r:.100} on process 0, {values[odd[0]]!r:.100} on process {odd[0]}")
        if lines:
            self._agreed = ConfigError(
                f"the processes do not have the same {what}, which they need: {'; '.join(lines)}. Give every process "
                "the same program, data, seed and versions"
            )
            raise self._agreed

    def decide(self, value: Any) -> Any:
        """Return the value that process 0 gives."""
        return self._all(value)[0]

    # ----------------------------------------------------------------------------------- how it ends

    @property
    def asked_to_stop(self) -> bool:
        """Whether this process has got SIGINT or SIGTERM."""
        return self._signal is not None

    def leave(self) -> BaseException:
        """Return what all processes raise after the step in which one of them was asked to stop."""
        interrupt, self._signal = self._signal == signal.SIGINT, None
        self._agreed = KeyboardInterrupt() if interrupt else SystemExit(128 + signal.SIGTERM)
        return self._agreed

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Return a context of a training: within it signals are heard, and what one process raises ends all."""
        heard = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()

        def hear(number: int, frame: Any) -> None:
            self._signal = number

        before = {number: signal.signal(number, hear) for number in heard}
        try:
            yield
        except BaseException as error:
            # What all processes raise is raised; what one of them raises would leave the others waiting.
            if self.size > 1 and error is not self._agreed and not isinstance(error, NonFiniteError):
                own = isinstance(error, XpnetError)  # which says all that there is to say
                self._abort("".join(traceback.format_exception(error, limit=0 if own else None)))
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _abort(self, reason: str) -> None:
        """Say why, and end all processes."""
        where = f"process {self.rank} of {self.size} on {self._mpi.Get_processor_name()}"
        print(f"xpnet: {where} ends the training on all: {reason}", file=sys.stderr, flush=True)
        self._comm.Abort(1)
