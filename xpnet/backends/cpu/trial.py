"""Whether borrowed pieces give NumPy's bits, by examples that are tried once in a process."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from xpnet.backends.cpu import products
from xpnet.backends.cpu.borrowed import build_parts
from xpnet.backends.cpu.calls import resolved
from xpnet.backends.cpu.chain import Chain, Task
from xpnet.backends.cpu.parts import parts
from xpnet.backends.tape.layout import example, layout
from xpnet.backends.tape.plan import Memory
from xpnet.backends.tape.record import Operation
from xpnet.typing import HostArray


def agree(op: Operation, memory: Memory, threads: int) -> bool:
    """Say whether the pieces of an operation give NumPy's bits."""
    operands, out = resolved(op, memory)
    lie = [(a.dtype.char, a.shape, a.strides) for a in (*operands, out)]
    if op.kind in ("matmul", "adding"):  # for larger ones, which lie in the same way, the call is the same
        most = products.LONG if op.kind == "adding" else 8 if operands[0].shape[1] > 1 else 2
        lie = [(a.dtype.char, *_cut(a, most)) for a in (*operands, out)]
    if op.kind == "matmul" and "tiles" in op.options and products.cut(*operands) and not _runs_agree(op, operands, out):
        return False
    return op.kind == "take" or _agree(op.kind, op.function, op.options, tuple(lie), threads)


def _runs_agree(op: Operation, operands: list[HostArray], out: HostArray) -> bool:
    """Say whether what is added to the first product of a tile gives NumPy's bits, if a tile is a sum of several."""
    for factors, target in parts(op.kind, op.options, operands, out, 1):
        for added in products.runs(*factors)[1:]:
            lie = tuple((a.dtype.char, a.shape, a.strides) for a in (*added, target, target))
            if not _agree("adding", op.function, op.options, lie):
                return False
    return True


def _cut(a: HostArray, most: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return shape and strides of a matrix that lies as `a` does, and is no larger than that each way."""
    turned, leading = layout(a) or (0, a.shape[1])
    shape = min(a.shape[0], most), min(a.shape[1], most)
    apart = (shape[1 - turned] + 2 * (leading > a.shape[1 - turned])) * a.itemsize
    return shape, (a.itemsize, apart) if turned else (apart, a.itemsize)


TRIES = 16
"""Results at least that are compared: of sums in two orders every third or so is the same."""


@functools.lru_cache(maxsize=1024)
def _agree(kind: str, function: Any, options: Any, lie: tuple[tuple[str, Any, Any], ...], threads: int = 1) -> bool:
    """Say whether the pieces of an operation give NumPy's bits for arrays that lie like this, the last the result."""
    rng = np.random.default_rng(0)
    for _ in range(-(-TRIES // math.prod(lie[-1][1]))):
        *operands, expected = (example(rng, *one) for one in lie)
        found = expected.copy(order="K")
        made = build_parts(kind, function, options, operands, found, threads) or []
        Chain([Task([[piece for part in made for piece in part]])])()
        with np.errstate(all="ignore"):
            if kind == "reduce":
                function.reduce(operands[0], options[0], None, expected, options[2])
            elif kind == "adding":
                a, b = operands[:2]
                expected += products.matmul(a, b) if "tiles" in options else np.matmul(a, b)
            else:
                function(*operands, out=expected)
        if found.tobytes() != expected.tobytes():
            return False
    return True
