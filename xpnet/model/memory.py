"""When memory runs out: an error that says what was being done, and what to try."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from math import inf
from typing import Any

from xpnet.backends import Backend
from xpnet.errors import ConfigError, OutOfMemoryError
from xpnet.validation import check_number, check_size

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


def bytes_of(name: str, given: Any) -> int:
    """Return a number of bytes that may be given as a text such as "2 GB" (10^9 each) or "512 MiB" (2^20 each)."""
    found = (
        re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b\s*", given, re.IGNORECASE)
        if isinstance(given, str)
        else None
    )
    if found is None:
        if isinstance(given, str):
            raise ConfigError(f"{name} must be a number of bytes or a text such as '2 GB' or '512 MiB', got {given!r}")
        return check_size(name, given)
    number, prefix, binary = found.groups()
    factor = (1024 if binary else 1000) ** " kmgt".index(prefix.lower() or " ")
    return check_size(name, int(check_number(name, float(number), 0.0) * factor))


def free_memory(backend: Backend) -> float:
    """Return how many bytes are free where a backend's arrays lie, as far as the system tells."""
    own = backend.free_bytes()
    if own is not None:
        return own
    found = [memory()[0]]
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):  # Linux alone has these files
        with open("/proc/meminfo") as lines:
            found += [1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
        with open("/proc/self/statm") as numbers:
            used = int(numbers.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        if resource is not None and (limit := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
            found.append(max(0, limit - used))
    return min(found)


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
