"""When memory runs out: an error that says what was being done, and what to try."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from xpnet.backends import Backend
from xpnet.errors import OutOfMemoryError


@contextlib.contextmanager
def explained(backend: Backend, doing: str, batch_size: int) -> Iterator[None]:
    """Turn a `MemoryError` of the array library into an `OutOfMemoryError` with a batch size to try.

    The library's own message, which names the bytes that were asked for, is kept; what the backend holds in
    reserve is given back first, so that the next attempt in the same process has it.
    """
    try:
        yield
    except OutOfMemoryError:
        raise
    except MemoryError as error:
        backend.release_memory()
        reason = str(error) or "no memory could be allocated"
        advice = f"try batch_size={batch_size // 2}" if batch_size > 1 else "use a smaller network or less data"
        raise OutOfMemoryError(
            f"{doing} with batch_size={batch_size} ran out of memory on {backend.name}: {reason}. "
            f"{backend.free_memory()}{advice[0].upper() + advice[1:]}."
        ) from error
