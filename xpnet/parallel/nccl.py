"""Arrays go from GPU to GPU by NCCL, a library that CuPy knows how to call but does not bring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from xpnet.typing import Array

MODULE = "cupy.cuda.nccl"
"""CuPy's module for it, which `cupy.cuda` has as an attribute only once it has been imported by name."""


class NCCL:
    """Gives and takes arrays on devices.

    Parameters
    ----------
    cupy : module
    rank, size : int
    decide : callable
        Returns on all processes what process 0 gives, once all have come.
    """

    def __init__(self, cupy: Any, rank: int, size: int, decide: Callable[[Any], Any]) -> None:
        self._cupy, self._nccl, self.rank, self._decide = cupy, import_module(MODULE), rank, decide
        made_here = [*self._nccl.get_unique_id()] if rank == 0 else None
        self._communicator = self._nccl.NcclCommunicator(size, bytes(decide(made_here)), rank)
        self._types = {"float32": self._nccl.NCCL_FLOAT32, "float64": self._nccl.NCCL_FLOAT64}

    def swap(self, give: Sequence[Array], take: Sequence[Array]) -> None:
        """Give ``give[q]`` to process q, and take what it gives into ``take[q]``."""
        self._decide(None)  # names those that do not come; NCCL would wait for them for ever
        stream, kind = self._cupy.cuda.get_current_stream().ptr, self._types[take[0].dtype.name]
        self._nccl.groupStart()
        for q, (out, into) in enumerate(zip(give, take, strict=True)):
            if q != self.rank:
                self._communicator.send(out.data.ptr, out.size, kind, q, stream)
                self._communicator.recv(into.data.ptr, into.size, kind, q, stream)
        self._nccl.groupEnd()
        if take[self.rank] is not give[self.rank]:
            take[self.rank][...] = give[self.rank]

    def close(self) -> None:
        """Give back what it holds; on all processes at the same time, since each waits for those of its machine."""
        self._communicator.destroy()


def why_not() -> str | None:
    """Return why arrays cannot go by NCCL, or None if they can."""
    if import_module(MODULE).available:
        return None
    return "CuPy finds no library NCCL. Install it: pip install nvidia-nccl-cu13 (CUDA 12: nvidia-nccl-cu12)"
