"""Processes that MPI has started share a training: ``mpiexec -n 4 python train.py``."""

from __future__ import annotations

import platform
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from xpnet.backends import Backend
from xpnet.backends.cpu.threads import usable_cores
from xpnet.errors import ConfigError, NonFiniteError, XpnetError, warn_user
from xpnet.keywords import Named
from xpnet.parallel.exchange import Exchange
from xpnet.parallel.messages import Messages
from xpnet.parallel.nccl import NCCL, why_not
from xpnet.typing import Array
from xpnet.validation import check_flag, check_number, check_size, named

INSTALL = 'pip install "xpnet[mpi]"'


def all_processes() -> Any:
    """Return mpi4py's communicator of all processes, or raise with what to install."""
    try:
        from mpi4py import MPI as module
    except (ImportError, RuntimeError) as error:  # mpi4py finds no MPI library
        raise ConfigError(
            f"parallel='mpi' needs mpi4py and an MPI library ({error}). Install them: {INSTALL} mpich; start with: "
            "mpiexec -n 4 python train.py"
        ) from None
    return module.COMM_WORLD


def own_cores(places: Sequence[tuple[str, list[int]]], rank: int) -> int:
    """Return how many cores are a process's share, one at least, if those who may use a core share it evenly.

    `places` are the machine of each process and the cores that it may use there.
    """
    machine, cores = places[rank]
    rivals = [sum(there == machine and core in others for there, others in places) for core in cores]
    return max(1, int(sum(Fraction(1, n) for n in rivals)))


class MPI(Named, Messages):
    """The processes of an MPI job share each step of a training, with the same bits for any number of them.

    Every process runs the same program with the same data, network and settings, which is checked before the first
    step and after each epoch. Process 0 prints, writes checkpoints, and decides whether to stop. An exception on one
    process ends all of them.

    Parameters
    ----------
    slices : int
        Into how many slices a batch is cut: a power of two. The bits of the result depend on it, and not on the number
        of processes, which is a power of two up to `slices`.
    timeout : float
        Seconds to wait for the other processes; then those that have not come are named, and all are ended.
    communicator : mpi4py communicator, optional
        The processes that take part; by default all.
    sharded : bool
        Whether each process gives `fit` its own part of the samples, the rows `part`, instead of all of them. The order
        of the samples is another one then: slice k of every batch is taken from the k-th part of S of the samples.

    Attributes
    ----------
    rank, size : int
        The number of this process, from 0, and of all.
    cores : int
        How many threads a training uses on NumPy unless its backend was told: processes on one machine share its cores.

    Raises
    ------
    ConfigError
        mpi4py is not installed, or the number of processes does not go with `slices`.

    Examples
    --------
    ``net.fit(x, t, parallel="mpi")`` is short for ``parallel=xpnet.parallel.MPI()``.
    """

    def __init__(
        self, slices: int = 4, timeout: float = 600.0, communicator: Any = None, sharded: bool = False
    ) -> None:  # fmt: skip
        self.slices = check_size("MPI: slices", slices)
        self.sharded, self._given = check_flag("MPI: sharded", sharded), communicator
        seconds = check_number("MPI: timeout", timeout, 0.0, low_open=True)
        super().__init__(all_processes() if communicator is None else communicator, seconds)
        self.cores = 1  # until all have met
        self._signal: int | None = None
        self._agreed: BaseException | None = None
        self._exchanges: dict[Any, Callable[[Array], None]] = {}
        self._nccl: dict[Backend, NCCL] = {}
        if slices & (slices - 1) or self.size & (self.size - 1) or self.size > slices:
            raise ConfigError(
                f"{self.size} processes cannot share {slices} slices: both must be powers of two, and a process needs "
                f"a slice. Start 1, 2 or 4 processes, or pass parallel=xpnet.parallel.MPI(slices=8)"
            )

    def __reduce__(self) -> Any:
        return MPI, (self.slices, self.timeout, self._given, self.sharded)

    # ------------------------------------------------------------------------- who has which samples

    def part(self, samples: int) -> slice:
        """Return which rows of so many samples are this process's own if they are `sharded`."""
        return slice(self.rank * samples // self.size, (self.rank + 1) * samples // self.size)

    def whole(self, samples: int) -> int:
        """Return how many samples all processes have together; raise on all unless each has its `part` of them."""
        counts: list[int] = self.gather(samples)
        total = sum(counts)
        edges = [q * total // self.size for q in range(self.size + 1)]
        wanted = [stop - start for start, stop in pairwise(edges)]
        if counts != wanted:
            self._agreed = ConfigError(
                f"the processes have {', '.join(map(str, counts))} samples, but {total} must be shared out as "
                f"{', '.join(map(str, wanted))}: give each its own rows = workers.part({total}), x[rows] and t[rows]"
            )
            raise self._agreed
        return total

    # ------------------------------------------------------------------------------------ exchange

    def total(self, vector: Array, backend: Backend) -> None:
        """Write the sum, by the tree, of the vectors that all processes give into these vectors."""
        if self.size == 1:
            return
        key = (backend, vector.shape, vector.dtype)
        if key not in self._exchanges:
            self._exchanges[key] = self._exchange(vector, backend)
        self._exchanges[key](vector)

    def _exchange(self, vector: Array, backend: Backend) -> Callable[[Array], None]:
        """Return what adds up such vectors: from device to device if that can be, else by the host."""
        length, dtype = int(vector.shape[0]), backend.to_numpy(vector[:0]).dtype
        if backend.name.partition(":")[0] == "cupy":
            self._check_devices(backend)
            reasons = [reason for reason in self.gather(why_not()) if reason]  # the same on all processes
            if not reasons:
                if backend not in self._nccl:  # which takes a second, and some of the device's memory
                    self._nccl[backend] = NCCL(sys.modules["cupy"], self.rank, self.size, self.decide)
                zeros, swap = lambda n: backend.asarray(np.zeros(n, dtype)), self._nccl[backend].swap
                return Exchange(self.rank, self.size, zeros, length, swap)
            if self.rank == 0:
                reason = f"arrays go from GPU to GPU by way of the host, which is slower: {reasons[0]}"
                warn_user(reason, RuntimeWarning)
        by_host = Exchange(self.rank, self.size, lambda n: np.zeros(n, dtype), length, self.swap)

        def total(vector: Array) -> None:
            host = backend.to_numpy(vector)
            by_host(host)
            if host is not vector:
                vector[...] = backend.asarray(host)

        return total

    def _check_devices(self, backend: Backend) -> None:
        """Raise `ConfigError` on all processes if two of them compute on one device."""
        places = [tuple(place) for place in self.gather([platform.node(), backend.address()])]
        for q, place in enumerate(places):
            if place in places[:q]:
                self._agreed = ConfigError(
                    f"processes {places.index(place)} and {q} both compute on device {place[1]} of {place[0]}, and a "
                    "device is for one process: start at most as many processes as there are devices, and give each "
                    'its own: backend=f"cupy:{xpnet.parallel.MPI().local_rank}"'
                )
                raise self._agreed

    @property
    def local_rank(self) -> int:
        """The number of this process among those of the same machine."""
        names = self.gather(platform.node())
        return names[: self.rank].count(names[self.rank])

    def agree(self, what: str, facts: Mapping[str, Any]) -> None:
        """Raise `ConfigError` on all processes, naming what differs, if they do not all give the same facts."""
        given = self.gather(dict(facts))
        lines = []
        for name in dict.fromkeys(name for one in given for name in one):
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

    # ----------------------------------------------------------------------------------- how it ends

    @property
    def asked(self) -> float:
        """What this process adds to the sum by which all hear of a signal: 0, for SIGINT 1, for SIGTERM more."""
        return 0.0 if self._signal is None else 1.0 if self._signal == signal.SIGINT else self.size + 1.0

    def leave(self, asked: float) -> BaseException:
        """Return what all processes raise after a step in which this sum was not zero."""
        self._signal = None
        self._agreed = SystemExit(128 + signal.SIGTERM) if asked > self.size else KeyboardInterrupt()
        return self._agreed

    def agreed(self, error: BaseException) -> bool:
        """Say whether all processes raise it after the same step."""
        return self.size == 1 or error is self._agreed or isinstance(error, NonFiniteError)

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Return a context of a training: within it signals are heard, and what one process raises ends all."""
        heard = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()

        def hear(number: int, frame: Any) -> None:
            self._signal = number

        before = {number: signal.signal(number, hear) for number in heard}
        try:
            self.cores = own_cores(self.gather([platform.node(), usable_cores()]), self.rank)
            yield
        except BaseException as error:
            if self.agreed(error):
                self.decide(None)  # process 0 may write for a while, and some launchers end all when one has ended
            else:  # the others would wait
                own = isinstance(error, XpnetError)  # which says all that there is to say
                self.abort("".join(traceback.format_exception(error, limit=0 if own else None)))
            raise
        finally:
            # Now that all are here: left to the garbage collector, it might wait in one process for another one, which
            # waits for the first in the next training.
            for nccl in self._nccl.values():
                nccl.close()
            self._nccl.clear()
            self._exchanges.clear()
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._signal is not None:  # it came after the last step
            late, self._signal = self._signal, None
            signal.raise_signal(late)


@contextmanager
def shared(parallel: str | MPI | None) -> Iterator[MPI | None]:
    """Return a context of a training with the processes that share it, if `parallel` names any."""
    if parallel is None:
        yield None
        return
    workers = named("parallel", parallel, {"mpi": MPI}, MPI, ", or an xpnet.parallel.MPI")
    with workers.shared():
        yield workers
