"""When memory runs out: an error that says what was being done, and what to try."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from math import inf

from xpnet.backends import Backend
from xpnet.errors import OutOfMemoryError

try:
    import resource
except ImportError:  # not on Windows, which has no such limit
    resource = None  # type: ignore[assignment]


def memory() -> tuple[float, str]:
    """Return how many bytes this process can have at most, and a sentence that says whose limit that is."""
    found = []
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not every system tells
        found.append((os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "This machine has {} of memory. "))
    if resource is not None and (limit := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
        found.append((limit, "This process may have {} of memory (ulimit -v). "))
    size, sentence = min(found, default=(inf, ""))
    return size, sentence.format(readable(size))


def readable(size: float) -> str:
    """Return a number of bytes with a binary unit."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} PiB"


@contextlib.contextmanager
def explained(backend: Backend, doing: str, batch_size: int | None = None) -> Iterator[None]:
    """Turn the library's error about memory into an `OutOfMemoryError` with a way out, such as a batch size to try.

    The library's own message, which names the bytes that were asked for, is kept; what the backend holds in
    reserve is given back first, so that the next attempt in the same process has it.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OutOfMemoryError) or not backend.out_of_memory(error):
            raise
        backend.release_memory()
        reason = str(error) or "no memory could be allocated"
        advice = "Free some memory, or use a smaller network or less data"
        if batch_size is not None:
            doing = f"{doing} with batch_size={batch_size}"
            advice = f"Try batch_size={batch_size // 2}" if batch_size > 1 else "Use a smaller network or less data"
        limit = backend.free_memory() or memory()[1]
        raise OutOfMemoryError(f"{doing} ran out of memory on {backend.name}: {reason}. {limit}{advice}.") from error
