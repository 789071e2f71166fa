"""What is borrowed from OpenBLAS and NumPy: operations without Python in between, with the bits that NumPy gives.

Products call the OpenBLAS that NumPy itself calls, with the same arguments, unless code of our own is faster
(``own.py``). Exponentials, sums and the like call the inner loops of NumPy's own functions, at the addresses that NumPy
keeps for extension modules. Each kind of call is tried against NumPy when it is first wanted; what does not give the
same bits there is left to NumPy.
"""

from __future__ import annotations

import ctypes
import functools
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnet.backends.cpu import openblas, products
from xpnet.backends.cpu.calls import resolved
from xpnet.backends.cpu.chain import Piece, table
from xpnet.backends.cpu.functions import Call, Rows, Sweep
from xpnet.backends.cpu.loops import kernels
from xpnet.backends.cpu.own import Product, own
from xpnet.backends.cpu.parts import parts
from xpnet.backends.tape.hollow import same_view
from xpnet.backends.tape.layout import layout
from xpnet.backends.tape.loop import Loop, Number, Place, Step, merged
from xpnet.backends.tape.plan import Memory
from xpnet.backends.tape.record import Operation
from xpnet.backends.tape.space import steps_over
from xpnet.typing import HostArray

KIND = {np.dtype(np.float32): "f", np.dtype(np.float64): "d"}
LETTER = {"f": "s", "d": "d"}
ROW_MAJOR, COLUMN_MAJOR, AS_IT_IS = 101, 102, 111  # of CBLAS
TRANSPOSED = AS_IT_IS + 1
LARGE = 1 << 22
"""Entries of a part from which on it goes through Python, which costs nothing beside so much work."""


class Ufunc(ctypes.Structure):
    """The beginning of NumPy's `PyUFuncObject`, as its header ``ufuncobject.h`` shows it to extension modules."""

    _fields_ = [
        ("head", ctypes.c_byte * object.__basicsize__),
        ("nin", ctypes.c_int),
        ("nout", ctypes.c_int),
        ("nargs", ctypes.c_int),
        ("identity", ctypes.c_int),
        ("functions", ctypes.POINTER(ctypes.c_void_p)),
        ("data", ctypes.POINTER(ctypes.c_void_p)),
        ("ntypes", ctypes.c_int),
        ("reserved1", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("types", ctypes.POINTER(ctypes.c_char)),
    ]


@functools.cache
def inner_loop(ufunc: np.ufunc, dtypes: str) -> tuple[int, int] | None:
    """Return the addresses of the loop of `ufunc` for these types ("ff->f") and of its data, or None."""
    if sys.implementation.name != "cpython" or type(ufunc) is not np.ufunc or dtypes not in ufunc.types:
        return None
    inside = Ufunc.from_address(id(ufunc))
    # A layout other than the one above would hardly tell the same counts.
    if (inside.nin, inside.nout, inside.nargs, inside.ntypes) != (ufunc.nin, ufunc.nout, ufunc.nargs, ufunc.ntypes):
        return None
    if inside.name != ufunc.__name__.encode():
        return None
    number = ufunc.types.index(dtypes)
    wanted = [np.dtype(letter).num for letter in dtypes.replace("->", "")]
    if [inside.types[number * ufunc.nargs + k][0] for k in range(ufunc.nargs)] != wanted:
        return None
    return inside.functions[number] or 0, inside.data[number] or 0


def address(a: HostArray) -> int:
    """Return where the first entry of an array lies."""
    return int(a.__array_interface__["data"][0])


def sweep(
    ufunc: np.ufunc, arrays: tuple[HostArray, ...], shape: tuple[int, ...], steps: Sequence[tuple[int, ...]]
) -> Piece | None:  # fmt: skip
    """Return a piece that calls the inner loop of `ufunc` along the last axis of `shape`, for each place of the others.

    `steps` are the bytes from one number to the next along the axes, for each array.
    """
    codes = [a.dtype.char for a in arrays]
    found = inner_loop(ufunc, f"{''.join(codes[:-1])}->{codes[-1]}")
    if found is None or math.prod(shape) not in range(1, LARGE) or not all(a.flags.aligned for a in arrays):
        return None
    shape, steps = shape or (1,), [s or (0,) for s in steps]
    outer, count = shape[:-1], len(arrays)
    slots = table(
        "ppl" + "l" * count + "pp" * count + "l" * len(outer) * (1 + count),
        *found, shape[-1], *(s[-1] for s in steps), *(0 for _ in arrays), *map(address, arrays), *outer,
        *(s[k] for k in range(len(outer)) for s in steps),
    )  # fmt: skip
    return Piece(Sweep(count, len(outer)), slots, arrays)


def elementwise(ufunc: np.ufunc, operands: list[Any], out: HostArray) -> list[Piece | None]:
    """Return a function of arrays that are repeated over the places of `out`."""
    arrays = (*operands, out)
    return [sweep(ufunc, arrays, *merged(out.shape, [steps_over(a, out.shape) for a in arrays]))]


def reduction(ufunc: np.ufunc, a: HostArray, axis: Any, out: HostArray) -> list[Piece | None]:
    """Return a sum or a maximum along some axes, in NumPy's order: that of memory."""
    if ufunc not in (np.add, np.maximum) or a.dtype != out.dtype or a.dtype not in KIND or a.size == 0:
        return [None]
    if a.ndim == 0 or min(a.strides) < 0:
        return [None]
    along = {k % a.ndim for k in (range(a.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,))}
    out = out if out.ndim == a.ndim else np.expand_dims(out, tuple(along))
    if ufunc is np.add:  # nothing is summed up yet
        return [
            *elementwise(np.positive, [np.zeros((), a.dtype)], out),
            _onward(ufunc, out, a, *merged(a.shape, [a.strides, steps_over(out, a.shape)])),
        ]
    # A maximum has no neutral number: it begins with the first, and goes on with all but the first.
    made = elementwise(np.positive, [a[tuple(slice(1 if k in along else None) for k in range(a.ndim))]], out)
    axes, (read, written) = merged(a.shape, [a.strides, steps_over(out, a.shape)])
    rest, onward = np.lib.stride_tricks.as_strided(a, axes, read), []
    for k in (k for k, step in enumerate(written) if step == 0):
        part, rest = (rest[(slice(None),) * k + (which,)] for which in (slice(1, None), slice(1)))
        onward.append(_onward(ufunc, out, part, part.shape, (read, written)))
    return made + onward[::-1]


def _onward(ufunc: np.ufunc, out: HostArray, a: HostArray, shape: Any, steps: Any) -> Piece | None:
    """Return a piece that goes on with a reduction; `steps` are those of `a` and of `out`."""
    return sweep(ufunc, (out, a, out), shape, (steps[1], steps[0], steps[1]))


def rows_by_index(a: HostArray, indices: HostArray, axis: int, out: HostArray) -> list[Piece | None]:
    """Return a selection along an axis by a vector of indices."""
    if a.ndim == 0 or indices.dtype != np.int64 or indices.ndim != 1 or indices.size == 0 or a.size == 0:
        return [None]
    if not (a.flags.c_contiguous and indices.flags.c_contiguous and out.flags.c_contiguous and a.dtype == out.dtype):
        return [None]
    before, count = a.shape[: axis % a.ndim], a.shape[axis]
    times = math.prod(before)
    code = Rows(times, indices.size, count, a.nbytes // (times * count))
    return [Piece(code, table("ppp", address(out), address(a), address(indices)), (a, indices, out))]


def product(a: HostArray, b: HostArray, out: HostArray, add: bool = False) -> list[Piece | None]:
    """Return what NumPy would do for a product (or to add one to `out`): a call of OpenBLAS, or plain loops."""
    if not (a.ndim == b.ndim == 2 and a.dtype == b.dtype == out.dtype and a.dtype in KIND):
        return [None]
    if not (out.flags.c_contiguous or (out.strides[1] == a.itemsize and min(out.shape) > 1)):
        return [None]
    if not (a.flags.aligned and b.flags.aligned) or 0 in (*a.shape, *b.shape) or address(a) == address(b):
        return [None]
    (rows, inner), columns, kind = a.shape, b.shape[1], KIND[a.dtype]
    if add and (rows == 1 or columns == 1 or not 1 < inner <= products.LONG):
        return [None]
    if rows == columns == 1:
        return [None]  # NumPy takes a scalar product, which adds up in another way
    if inner == 1:
        return [_outer(a, b, out)]
    blas, left, right = openblas.of_numpy(), layout(a), layout(b)
    if blas is None or left is None or right is None:
        return [None]
    n = "l" if blas.size is ctypes.c_int64 else "i"
    first, second, target = map(address, (a, b, out))
    if rows > 1 and columns > 1:
        steps = left[1], right[1], out.strides[0] // out.itemsize
        found = own(Product(kind, rows, inner, columns, (left[0] > 0, right[0] > 0), steps, add), a, b, out)
        if found:
            return [*found]
        kinds, name = f"iii{n}{n}{n}{kind}p{n}p{n}{kind}p{n}", f"cblas_{LETTER[kind]}gemm"
        arguments: tuple[Any, ...] = (
            ROW_MAJOR, AS_IT_IS + left[0], AS_IT_IS + right[0], rows, columns, inner, 1.0, first, left[1], second,
            right[1], float(add), target, steps[2],
        )  # fmt: skip
    else:  # a vector times the columns of b, or the rows of a times a vector
        matrix, (turned, leading), vector = (second, right, first) if rows == 1 else (first, left, second)
        if (a.strides[1] if rows == 1 else b.strides[0]) != a.itemsize:
            return [None]
        down = turned == (rows == 1)  # the summed entries lie side by side
        kinds, name = f"ii{n}{n}{kind}p{n}p{n}{kind}p{n}", f"cblas_{LETTER[kind]}gemv"
        arguments = (
            COLUMN_MAJOR if down else ROW_MAJOR, TRANSPOSED, inner, max(rows, columns), 1.0, matrix, leading, vector, 1,
            0.0, target, 1,
        )  # fmt: skip
    return [Piece(Call(kinds), table("p" + kinds, blas.address(name), *arguments), (a, b, out))]


def _outer(a: HostArray, b: HostArray, out: HostArray) -> Piece:
    """Return the product of a column and a row, which NumPy adds to zero by plain loops."""
    axes, steps = merged(out.shape, [steps_over(a, out.shape), steps_over(b, out.shape), out.strides])
    first, second, target = (Place(k, s, a.dtype) for k, s in enumerate(steps))
    zero = Number(np.zeros((), a.dtype).tobytes(), a.dtype)
    sums = (Step("multiply", (0, 1), a.dtype), Step("add", (zero, 2), a.dtype))
    return kernels(Loop(axes, (first, second), sums, ((3, target),)), (a, b, out))[0]


def build(kind: str, function: Any, options: Any, operands: list[Any], out: HostArray) -> list[Piece] | None:
    """Return the pieces that do an operation on these arrays, or None where there are none."""
    if not _apart(kind, operands, out):
        return None
    made: list[Piece | None] = [None]
    if kind == "elementwise":
        made = elementwise(function, operands, out)
    elif kind == "reduce":
        made = reduction(function, operands[0], options[0], out)
    elif kind in ("matmul", "adding"):
        cut = "tiles" in options and products.cut(*operands[:2])
        factors = products.runs(*operands[:2]) if cut else [operands[:2]]
        made = [p for k, (a, b) in enumerate(factors) for p in product(a, b, out, k > 0 or kind == "adding")]
    elif kind == "take":
        made = rows_by_index(operands[0], operands[1], options[0], out)
    return None if None in made else made  # type: ignore[return-value]


def _apart(kind: str, operands: list[Any], out: HostArray) -> bool:
    """Say whether NumPy need not look out for a result that is written over what is still to be read."""
    by_number = kind in ("elementwise", "adding")
    return all(
        isinstance(a, np.ndarray) and (not np.may_share_memory(a, out) or (by_number and same_view(a, out)))
        for a in operands
    )


def build_parts(
    kind: str, function: Any, options: Any, operands: list[Any], out: HostArray, threads: int
) -> list[list[Piece]] | None:  # fmt: skip
    """Return the pieces of each part of an operation, or None where there are none."""
    if not _apart(kind, operands, out):
        return None
    made = [build(kind, function, options, *part) for part in parts(kind, options, operands, out, threads)]
    return None if None in made else made  # type: ignore[return-value]


def pieces(op: Operation, memory: Memory, threads: int) -> list[list[Piece]] | None:
    """Return the pieces that do an operation, part by part, or None where there are none."""
    return build_parts(op.kind, op.function, op.options, *resolved(op, memory), threads)
