"""Which operations can be pieces of a chain, that is, be done without Python, with the bits that NumPy gives.

Products call the OpenBLAS that NumPy itself calls, with the same arguments. Exponentials, sums and the like call the
inner loops of NumPy's own functions, at the addresses that NumPy keeps for extension modules. Each kind of call is
tried against NumPy when it is first wanted; what does not give the same bits there is left to NumPy.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Any

import numpy as np

from xpnet.backends.cpu import chain, openblas
from xpnet.backends.cpu.chain import Piece, table
from xpnet.backends.tape.fusion import same_view
from xpnet.backends.tape.layout import layout
from xpnet.backends.tape.plan import Memory, resolved
from xpnet.backends.tape.record import Operation
from xpnet.typing import HostArray

KIND = {np.dtype(np.float32): "f", np.dtype(np.float64): "d"}
LETTER = {"f": "s", "d": "d"}
ROW_MAJOR, COLUMN_MAJOR, AS_IT_IS = 101, 102, 111  # of CBLAS
TRANSPOSED = AS_IT_IS + 1


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
    ufunc: np.ufunc, arrays: tuple[HostArray, ...], strides: tuple[int, ...], length: int, times: int = 1,
    distances: tuple[int, ...] = (0, 0, 0),
) -> Piece | None:  # fmt: skip
    """Return a piece that calls the inner loop of `ufunc` on `length` entries, `times` times, a distance further on."""
    codes = [a.dtype.char for a in arrays]
    found = inner_loop(ufunc, f"{''.join(codes[:-1])}->{codes[-1]}")
    if found is None or length == 0 or times == 0 or not all(a.flags.aligned for a in arrays):
        return None
    count = len(arrays)
    vector = ctypes.c_int64 * count
    first, working = vector(*map(address, arrays)), vector()
    lengths, steps, moves = (ctypes.c_int64 * 1)(length), vector(*strides), vector(*distances[:count])
    slots = table(
        "pppppl" + "pp", found[0], *map(ctypes.addressof, (working, lengths, steps)), found[1], times,
        ctypes.addressof(first), ctypes.addressof(moves),
    )  # fmt: skip
    return Piece(chain.sweep(count), slots, (arrays, first, working, lengths, steps, moves))


def elementwise(ufunc: np.ufunc, operands: list[Any], out: HostArray) -> list[Piece] | None:
    """Return a function of arrays of one shape, in order in memory, and of single numbers."""
    strides = []
    for a in (*operands, out):
        if not a.flags.c_contiguous or a.size not in (1, out.size):
            return None
        strides.append(a.itemsize if a.size == out.size else 0)
    piece = sweep(ufunc, (*operands, out), tuple(strides), out.size)
    return None if piece is None else [piece]


def reduction(ufunc: np.ufunc, a: HostArray, axis: Any, out: HostArray) -> list[Piece] | None:
    """Return a sum or a maximum over all entries, along rows, or along columns, in NumPy's order."""
    if a.dtype != out.dtype or a.dtype not in KIND or not a.flags.c_contiguous or not out.flags.c_contiguous:
        return None
    axes = tuple(range(a.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = tuple(sorted(k % a.ndim for k in axes)) if a.ndim else ()
    size, step = a.size, a.itemsize
    if ufunc not in (np.add, np.maximum) or size == 0 or not axes:
        return None
    if axes == tuple(range(a.ndim)) or (axes == (0,) and a.shape[1] == 1):
        rows, columns, across = 1, size, True
    elif a.ndim == 2:
        (rows, columns), across = a.shape, axes == (1,)
    else:
        return None
    # What is not yet summed: nothing, or, for a maximum, which has no neutral number, all but the first.
    skip = 0 if ufunc is np.add else 1
    if ufunc is np.add:
        begin = sweep(np.positive, (np.zeros((), a.dtype), out), (0, step), out.size)
    else:
        begin = sweep(np.positive, (a, out), (columns * step if across else step, step), out.size)
    rest = a.reshape(rows, columns)[:, skip:] if across else a[skip:]
    if begin is None or rest.size == 0:
        return None if begin is None else [begin]
    if across:
        strides, moves = (0, step, 0), (step, columns * step, step)
    else:
        strides, moves = (step, step, step), (0, columns * step, 0)
    go_on = sweep(ufunc, (out, rest, out), strides, rest.shape[1], rest.shape[0], moves)
    return None if go_on is None else [begin, go_on]


def rows_by_index(a: HostArray, indices: HostArray, axis: int, out: HostArray) -> list[Piece] | None:
    """Return a selection of rows by a vector of indices."""
    if axis != 0 or a.ndim == 0 or indices.dtype != np.int64 or indices.ndim != 1 or indices.size == 0 or a.size == 0:
        return None
    if not (a.flags.c_contiguous and indices.flags.c_contiguous and out.flags.c_contiguous and a.dtype == out.dtype):
        return None
    source = chain.take_rows(indices.size, a.shape[0], a.nbytes // a.shape[0])
    return [Piece(source, table("ppp", address(out), address(a), address(indices)), (a, indices, out))]


def product(a: HostArray, b: HostArray, out: HostArray) -> list[Piece] | None:
    """Return what NumPy would do for a product: a call of OpenBLAS, or plain loops."""
    if not (a.ndim == b.ndim == 2 and a.dtype == b.dtype == out.dtype and a.dtype in KIND and out.flags.c_contiguous):
        return None
    if not (a.flags.aligned and b.flags.aligned) or 0 in (*a.shape, *b.shape) or address(a) == address(b):
        return None
    (rows, inner), columns, kind = a.shape, b.shape[1], KIND[a.dtype]
    keep, (first, second, target) = (a, b, out), map(address, (a, b, out))
    if rows == columns == 1:
        return None  # NumPy takes a scalar product, which adds up in another way
    if inner == 1:
        source = chain.outer_product(kind, rows, columns, a.strides[0], b.strides[1])
        return [Piece(source, table("ppp", target, first, second), keep)]
    blas, left, right = openblas.of_numpy(), layout(a), layout(b)
    if blas is None or left is None or right is None:
        return None
    n = "l" if blas.size is ctypes.c_int64 else "i"
    if rows > 1 and columns > 1:
        kinds, name = f"iii{n}{n}{n}{kind}p{n}p{n}{kind}p{n}", f"cblas_{LETTER[kind]}gemm"
        arguments: tuple[Any, ...] = (
            ROW_MAJOR, AS_IT_IS + left[0], AS_IT_IS + right[0], rows, columns, inner, 1.0, first, left[1], second,
            right[1], 0.0, target, columns,
        )  # fmt: skip
    else:  # a vector times the columns of b, or the rows of a times a vector
        matrix, (turned, leading), vector = (second, right, first) if rows == 1 else (first, left, second)
        if (a.strides[1] if rows == 1 else b.strides[0]) != a.itemsize:
            return None
        down = turned == (rows == 1)  # the summed entries lie side by side
        kinds, name = f"ii{n}{n}{kind}p{n}p{n}{kind}p{n}", f"cblas_{LETTER[kind]}gemv"
        arguments = (
            COLUMN_MAJOR if down else ROW_MAJOR, TRANSPOSED, inner, max(rows, columns), 1.0, matrix, leading, vector, 1,
            0.0, target, 1,
        )  # fmt: skip
    return [Piece(chain.call_of(kinds), table("p" + kinds, blas.address(name), *arguments), keep)]


LARGEST = 48
"""Rows and columns at most of the products that are tried: for larger ones the call is the same."""


def _like(a: Any, rng: np.random.Generator, largest: int) -> Any:
    """Return an array of random numbers that lies in memory as `a` does."""
    shape = tuple(min(size, largest) for size in a.shape)
    turned = a.ndim == 2 and not a.flags.c_contiguous and a.strides[0] == a.itemsize
    made = np.asarray(rng.normal(size=shape[::-1] if turned else shape), dtype=a.dtype)
    return made.T if turned else made


def _agrees(op: Operation, operands: list[Any]) -> bool:
    """Say whether the pieces of an operation give NumPy's bits, by an example."""
    rng = np.random.default_rng(0)
    example = [_like(a, rng, LARGEST if op.kind == "matmul" else a.size) for a in operands]
    with np.errstate(all="ignore"):
        if op.kind == "reduce":
            expected = op.function.reduce(example[0], axis=op.options[0], keepdims=op.options[2])
        else:
            expected = (np.matmul if op.kind == "matmul" else op.function)(*example)
    out = np.full_like(np.asarray(expected), 7, order="C")
    made = build(op, example, out)
    if made is None:
        return False
    chain.Chain(made)()
    return out.tobytes() == np.asarray(expected).tobytes()


_known: dict[Any, bool] = {}


def build(op: Operation, operands: list[Any], out: HostArray) -> list[Piece] | None:
    """Return the pieces that do an operation on these arrays, or None where there are none."""
    if not all(isinstance(a, np.ndarray) for a in operands):
        return None
    for a in operands:  # NumPy looks out for results that are written over what is still to be read
        if np.may_share_memory(a, out) and not (op.kind == "elementwise" and same_view(a, out)):
            return None
    if op.kind == "elementwise":
        return elementwise(op.function, operands, out)
    if op.kind == "reduce":
        return reduction(op.function, operands[0], op.options[0], out)
    if op.kind == "matmul":
        return product(operands[0], operands[1], out)
    if op.kind == "take":
        return rows_by_index(operands[0], operands[1], op.options[0], out)
    return None


def pieces(op: Operation, memory: Memory) -> list[Piece] | None:
    """Return the pieces that do an operation with NumPy's bits, or None where there are none."""
    operands, out = resolved(op, memory)
    made = build(op, operands, out)
    if made is None or op.kind == "take":
        return made
    key = op.kind, op.function, op.options, tuple((a.dtype.char, a.shape, a.strides) for a in operands)
    if key not in _known:
        _known[key] = _agrees(op, operands)
    return made if _known[key] else None
