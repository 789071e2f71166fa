"""Small products and loops are cut and shared out among threads, too, as long ones are."""

from collections.abc import Callable
from typing import Any

from xpnet.backends.cpu import calls, parts, products, runs
from xpnet.backends.numpy import NumpyBackend
from xpnet.backends.tape import blocks

try:
    from xpnet.backends.cpu import chain
except ModuleNotFoundError:  # the extra fast is not installed
    chain = None  # type: ignore[assignment]


def cut_everything(change: Callable[[Any, str, int], None] = setattr) -> None:
    """Lower the sizes from which something is cut, by `change`, which a test's own may undo."""
    for name, size in (("LEAST", 1 << 6), ("EDGE", 2), ("SHARED", 0), ("ALONE", 0)):
        change(products, name, size)
    for name, size in (("SMALL", 1 << 8), ("LONG", 6), ("WORTH", 4), ("NARROW", 2), ("HIGH", 4), ("BROAD", 16)):
        change(products, name, size)
    change(calls, "SMALL", 0)  # whose products are never cut
    for name, size in (("LEAST", 1 << 5), ("TOGETHER", 16)):
        change(parts, name, size)
    for name, size in (("TOGETHER", 16), ("PART", 1 << 5), ("CACHED", 1 << 4)):
        change(runs, name, size)
    change(blocks, "LEAST", 0)
    change(NumpyBackend, "at_once", 1 << 10)
    if chain is not None:
        change(chain, "WORTH", 0)
