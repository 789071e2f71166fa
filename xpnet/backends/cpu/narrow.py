"""Products of few columns, in code of our own: there OpenBLAS's kernels leave up to a third of a processor unused.

Several rows of the result are in registers at a time, and one number after another of their sums is added, with one
rounding for both (fused). OpenBLAS's small kernels for AVX-512 add up in the same order, so that the bits are the same.
Whether they are is tried for each size when it is first wanted; where they are not, OpenBLAS is called.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from xpnet.backends.cpu import openblas, products
from xpnet.backends.cpu.chain import Chain, Piece, Task, table
from xpnet.backends.cpu.functions import INT, TYPES, WORD, Code, Table, counted, further
from xpnet.typing import HostArray

REGISTER = 64
"""Bytes of a register."""
SUMS, HIGH = 24, 16
"""Registers for sums, of 32, and rows of sums at most."""
VECTORS = 4
"""Registers for a row of the result at most."""
NEAREST = 40 << 10
"""Bytes of a second factor that a processor's nearest cache keeps beside others: OpenBLAS reads it again and again."""
FAR = 1 << 12
"""Numbers from one row of a factor to the next at most: for more, an example would be large."""


@dataclass(frozen=True)
class Narrow(Code):
    """The product of a matrix and one of few columns, or a sum with it.

    The table: the addresses of both and of the result; the numbers from one row to the next of each, of the first as it
    lies in memory; how many numbers are summed up; and how often `high` rows are done, before the `rest` is.
    """

    kind: str
    vectors: int
    high: int
    rest: int
    apart: int | None
    """Numbers from one row of the first matrix to the next; None if it is transposed, then they are in the table."""
    add: bool

    def write(self, table: Table, b: Any) -> None:
        first, second, target, *given = table.load("ppp" + "l" * 5)
        a, w, y, inner, times = given
        size = WORD(REGISTER // self.lanes)
        a, w, y = steps = [b.mul(step, size) for step in (a, w, y)]

        def rows(turn: Any, count: int) -> None:
            start = b.mul(turn, WORD(self.high))
            lines = (
                further(b, first, b.mul(start, size if self.apart is None else a)),
                further(b, target, b.mul(start, y)),
            )
            self._rows(table, b, count, (lines[0], second, lines[1]), steps, inner)

        with counted(b, times) as turn:
            rows(turn, self.high)
        if self.rest:
            rows(times, self.rest)

    @property
    def lanes(self) -> int:
        """How many numbers a register has."""
        return REGISTER // (4 if self.kind == "f" else 8)

    def _rows(self, table: Table, b: Any, high: int, lines: Any, steps: Any, inner: Any) -> None:
        """Write the sums of so many rows."""
        number, size = TYPES[self.kind], REGISTER // self.lanes
        vector, (first, second, target), (a, w, y) = ir.VectorType(number, self.lanes), lines, steps
        places = [(row, column) for row in range(high) for column in range(self.vectors)]
        fused, nothing = self._fused(table.module, vector), ir.Constant(vector, ir.Undefined)
        first_lane = ir.Constant(ir.VectorType(INT, self.lanes), [0] * self.lanes)
        before = b.block
        with counted(b, inner) as k:
            sums = {place: b.phi(vector) for place in places}
            at = further(b, second, b.mul(k, w))
            factors = [b.load(further(b, at, WORD(REGISTER * v)), typ=vector, align=size) for v in range(self.vectors)]
            at, following = further(b, first, b.mul(k, WORD(size) if self.apart is not None else a)), {}
            for row in range(high):
                one = b.load(further(b, at, WORD(size * row * (self.apart or 1))), typ=number, align=size)
                every = b.shuffle_vector(b.insert_element(nothing, one, INT(0)), nothing, first_lane)
                for v in range(self.vectors):
                    following[row, v] = b.call(fused, [every, factors[v], sums[row, v]])
            for place, value in sums.items():
                value.add_incoming(ir.Constant(vector, [0.0] * self.lanes), before)
                value.add_incoming(following[place], b.block)
        for (row, v), value in following.items():
            at = further(b, target, b.mul(WORD(row), y), WORD(REGISTER * v))
            value = b.fadd(b.load(at, typ=vector, align=size), value) if self.add else value
            b.store(value, at, align=size)

    def _fused(self, module: Any, vector: Any) -> Any:
        """Return a x b + c with one rounding, which llvmlite does not declare for vectors."""
        name = f"llvm.fma.v{self.lanes}f{8 * REGISTER // self.lanes}"
        return module.globals.get(name) or ir.Function(module, ir.FunctionType(vector, [vector] * 3), name)


class Product(NamedTuple):
    """How large the factors of a product are, and how they and the result lie in memory."""

    kind: str
    rows: int
    inner: int
    columns: int
    turned: bool
    """Whether the first factor lies transposed."""
    steps: tuple[int, int, int]
    """Numbers from one row to the next in memory, of the factors and of the result."""
    add: bool

    def piece(self, a: HostArray, b: HostArray, out: HostArray) -> Piece:
        """Return the product of arrays that are like this."""
        vectors = self.columns * a.itemsize // REGISTER
        high = min(SUMS // vectors, HIGH, self.rows)
        code = Narrow(self.kind, vectors, high, self.rows % high, None if self.turned else self.steps[0], self.add)
        addresses = (array.ctypes.data for array in (a, b, out))
        return Piece(code, table("ppplllll", *addresses, *self.steps, self.inner, self.rows // high), (a, b, out))


def narrow(wanted: Product, a: HostArray, b: HostArray, out: HostArray) -> Piece | None:
    """Return a product of few columns; None if it is not one, or OpenBLAS adds up in another way."""
    blas = openblas.of_numpy()
    if blas is None or blas.kernels not in openblas.WIDE or max(wanted.steps) > FAR:
        return None
    if wanted.columns * a.itemsize not in range(REGISTER, VECTORS * REGISTER + 1, REGISTER):
        return None
    # OpenBLAS takes columns by pairs of registers: of a single one it makes slow work.
    slow = wanted.columns * a.itemsize // REGISTER % 2 or wanted.inner * wanted.columns * a.itemsize > NEAREST
    small = wanted.rows * wanted.inner * wanted.columns <= products.SMALL
    return wanted.piece(a, b, out) if slow and small and agrees(wanted) else None


@functools.lru_cache(maxsize=4096)
def agrees(wanted: Product) -> bool:
    """Say whether such a product has NumPy's bits: of random numbers, added up in another order, some have others."""
    rng, (_, rows, inner, columns, turned, steps, add) = np.random.default_rng(0), wanted

    def matrix(height: int, width: int, step: int) -> HostArray:
        made: HostArray = rng.normal(size=(height, max(step, width))).astype(wanted.kind)[:, :width]
        return made

    a = matrix(inner, rows, steps[0]).T if turned else matrix(rows, inner, steps[0])
    b, found = matrix(inner, columns, steps[1]), matrix(rows, columns, steps[2])
    a[0] = -0.0
    with openblas.single():
        expected = found + a @ b if add else a @ b
    Chain([Task([[wanted.piece(a, b, found)]])])()
    return found.tobytes() == expected.tobytes()
