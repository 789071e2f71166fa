"""A planned step as calls of NumPy's functions, with all arguments resolved."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from xpnet.backends.cpu.products import cut, product
from xpnet.backends.cpu.runs import shared
from xpnet.backends.tape.fusion import group, holds
from xpnet.backends.tape.plan import Memory, assign, inputs, without_dead, write_in_place
from xpnet.backends.tape.record import Operation, Tape, Traced
from xpnet.typing import HostArray

Call = Callable[[], Any]

SMALL = 1024
"""Entries of a factor below which the call of a product takes longer than its arithmetic."""


def _scalar(value: Any, op: Operation) -> Any:
    """Return a Python number as a 0-d array of the data type that NumPy would give it beside the arrays."""
    if type(value) not in (int, float) or not inputs(op):
        return value
    dtype = np.result_type(*(a.dtype for a in inputs(op)), value)
    return np.asarray(value, dtype) if type(value) is float or holds(dtype, value) else value


def resolved(op: Operation, memory: Memory) -> tuple[list[Any], HostArray]:
    """Return an operation's operands and target as they lie in the replay."""
    operands = [memory.resolve(o) if isinstance(o, Traced) else _scalar(o, op) for o in op.operands]
    return operands, memory.resolve(op.target)


def _short(a: HostArray) -> bool:
    """Say whether a factor is small, and lies in one piece: of others `np.dot` adds up in another order."""
    return a.ndim == 2 and a.size < SMALL and (a.flags.c_contiguous or a.flags.f_contiguous)


def call(op: Operation, memory: Memory, threads: int = 1) -> Call:
    """Return a call without arguments that does one operation, a long product on several threads."""
    operands, out = resolved(op, memory)
    if op.kind == "adding":
        result = np.empty_like(out)
        return partial(_add_product, _product(op, operands, result, threads), result, out)
    if op.kind == "matmul" and out.flags.c_contiguous and all(map(_short, operands)):
        return partial(np.dot, *operands, out)  # the same product, called in half the time
    if op.kind == "matmul":
        return _product(op, operands, out, threads)
    if op.kind == "elementwise":
        return partial(op.function, *operands, out=out)
    if op.kind == "reduce":
        axis, dtype, keepdims = op.options
        if min(operands[0].strides, default=0) < 0:  # with `out` NumPy adds up in another order, and 2.1 goes astray
            reduced = partial(op.function.reduce, axis=axis, dtype=dtype, keepdims=keepdims)
            return partial(_store, reduced, operands, out)
        return partial(op.function.reduce, operands[0], axis, dtype, out, keepdims)
    if op.kind == "take":
        return partial(operands[0].take, operands[1], op.options[0], out, "wrap")
    if op.kind == "copy":
        return partial(_copy, operands[0], out)
    return partial(_store, np.where if op.kind == "where" else op.function, operands, out)


def _product(op: Operation, operands: list[Any], out: HostArray, threads: int) -> Call:
    a, b = operands[:2]
    in_tiles = "tiles" in op.options and cut(a, b)
    return product(a, b, out, threads) if in_tiles else partial(op.function, a, b, out=out)


def _copy(a: Any, out: HostArray) -> None:
    np.copyto(out, a, "unsafe")


def _store(function: Any, operands: list[Any], out: HostArray) -> None:
    out[...] = function(*operands)


def _add_product(make: Call, product: HostArray, out: HostArray) -> None:
    make()
    np.add(out, product, out=out)


def calls(tape: Tape, threads: int = 1, memory: Memory | None = None) -> list[Call]:
    """Return the calls that replay a tape: one for each operation, or for several over the same numbers."""
    operations, places = write_in_place(without_dead(tape.operations))
    memory = assign([[op] for op in operations], places, set(), memory)
    made: list[Call] = []
    for unit in group(operations, places, lambda op: op.kind in ("elementwise", "copy")):
        functions = [_copy if op.kind == "copy" else op.function for op in unit]
        arrays = [resolved(op, memory) for op in unit]
        together = shared([(f, *own) for f, own in zip(functions, arrays, strict=True)], threads)
        made += [together] if together else [call(op, memory, threads) for op in unit]
    return made
