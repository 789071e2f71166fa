"""Matrix products in code of our own, where OpenBLAS's kernels for AVX-512 leave a part of a processor unused.

OpenBLAS copies both factors before it begins, or, of small ones, reads the second again and again. Here the first one
is read where it lies, number by number, and only the second one is copied, if at all: panels of as many columns as go
through the registers together.

The bits are those of these kernels. They add up one number after another, each with one rounding for
product and sum (fused), so many at a time; then they add what they have to the result. Whether the bits are the same
is tried for each size when it is first wanted; where they are not, OpenBLAS is called.

How a result's rows and columns are held in registers: Goto and van de Geijn, "Anatomy of high-performance matrix
multiplication", ACM Transactions on Mathematical Software 34 (2008), 12.
"""

from __future__ import annotations

import functools
import itertools
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
"""Registers for a row of sums at most."""
LONGEST = {"f": 448, "d": 384}
"""Numbers that OpenBLAS adds up before it adds the sum to a result that is not small."""
NEAREST = 40 << 10
"""Bytes of a second factor that a processor's nearest cache keeps beside others: OpenBLAS reads it again and again."""
ROOM = 1 << 20
"""Bytes of columns that are copied together: they stay near while all rows go by."""
DEEP = 192
"""Rows of a first factor that lies transposed: more of them are more pages of memory than a processor has at hand."""
LOW = 4
"""Rows from which it is worth while to copy columns."""
FAR = 1 << 12
"""Numbers from one row of a factor to the next at most: for more, an example would be large."""


@dataclass(frozen=True)
class Gemm(Code):
    """One run of the product of two matrices, or what it adds to a result.

    The table: the address of room for a copy; those of both matrices and of the result; the numbers from one row to the
    next of each, as it lies in memory; how often `high` rows are done, before the `rest` is; how often `vectors`
    registers of columns are done; how many numbers are added up; and whether that is added to what is there.
    """

    kind: str
    vectors: int
    high: int
    rest: int
    apart: int
    """Numbers from one row of the first matrix to the next, or 0 if it lies transposed: then the table tells."""
    turned: bool
    """Whether the second matrix lies transposed."""
    copied: bool
    """Whether the second matrix is copied, a panel of columns at a time."""
    small: bool
    """Whether OpenBLAS writes the result at once, instead of adding to zeros."""

    @property
    def size(self) -> int:
        """Bytes of a number."""
        return np.dtype(self.kind).itemsize

    @property
    def lanes(self) -> int:
        """Numbers of a register."""
        return REGISTER // self.size

    def write(self, table: Table, b: Any) -> None:
        room, first, second, target, a, w, y, blocks, panels, length, add = table.load("pppp" + "l" * 7)
        size, width = WORD(self.size), WORD(REGISTER * self.vectors)
        a, w, y = (b.mul(step, size) for step in (a, w, y))
        panel_size = b.mul(length, width) if self.copied else width
        if self.copied:
            with counted(b, panels) as panel:
                columns = b.mul(panel, b.mul(w, WORD(self.lanes * self.vectors)) if self.turned else width)
                to = further(b, room, b.mul(panel, panel_size))
                (self._turn if self.turned else self._copy)(b, further(b, second, columns), w, to, length)
            second, w = room, width
        sums = Sums(self, table.module, b, (a, w, y), length, b.icmp_unsigned("!=", add, WORD(0)))

        def rows(high: int, block: Any) -> None:
            with counted(b, panels) as panel:
                columns = further(b, second, b.mul(panel, panel_size))
                sums.write(high, block, first, columns, further(b, target, b.mul(panel, width)))

        with counted(b, blocks) as block:
            rows(self.high, block)
        if self.rest:
            rows(self.rest, blocks)

    def _copy(self, b: Any, source: Any, w: Any, to: Any, length: Any) -> None:
        """Copy columns, row by row."""
        vector, width = ir.VectorType(TYPES[self.kind], self.lanes), WORD(REGISTER * self.vectors)
        with counted(b, length) as k:
            here, there = further(b, source, b.mul(k, w)), further(b, to, b.mul(k, width))
            with counted(b, WORD(self.vectors)) as v:
                at = b.mul(v, WORD(REGISTER))
                b.store(b.load(further(b, here, at), typ=vector, align=self.size), further(b, there, at))

    def _turn(self, b: Any, source: Any, w: Any, to: Any, length: Any) -> None:
        """Copy columns that lie as rows: by squares, of which the last ends where the run does."""
        vector, last = ir.VectorType(TYPES[self.kind], self.lanes), b.sub(length, WORD(self.lanes))
        squares = b.udiv(b.add(length, WORD(self.lanes - 1)), WORD(self.lanes))
        with counted(b, squares) as square:
            k = b.mul(square, WORD(self.lanes))
            k = b.select(b.icmp_unsigned("<", k, last), k, last)
            down = further(b, to, b.mul(k, WORD(REGISTER * self.vectors)))
            with counted(b, WORD(self.vectors)) as v:
                first = further(b, source, b.mul(v, b.mul(w, WORD(self.lanes))), b.mul(k, WORD(self.size)))
                lines = [further(b, first, b.mul(w, WORD(j))) for j in range(self.lanes)]
                lines = transposed(b, [b.load(line, typ=vector, align=self.size) for line in lines])
                for j, line in enumerate(lines):
                    b.store(line, further(b, down, b.mul(v, WORD(REGISTER)), WORD(REGISTER * self.vectors * j)))


def transposed(b: Any, lines: list[Any]) -> list[Any]:
    """Return the columns of a square of these rows: rows half a square apart are interleaved, again and again."""
    n, mask = len(lines), ir.VectorType(INT, len(lines))
    low, high = (
        ir.Constant(mask, [x for k in range(first, first + n // 2) for x in (k, n + k)]) for first in (0, n // 2)
    )
    for _ in range(n.bit_length() - 1):
        pairs = [*zip(lines[: n // 2], lines[n // 2 :], strict=True)]
        lines = [b.shuffle_vector(*pair, half) for pair in pairs for half in (low, high)]
    return lines


class Sums:
    """Writes the sums of some rows and of a panel of columns for one run."""

    def __init__(self, code: Gemm, module: Any, b: Any, steps: tuple[Any, ...], length: Any, add: Any) -> None:
        self._code, self._b, self._steps, self._length, self._add = code, b, steps, length, add
        self.vector = ir.VectorType(TYPES[code.kind], code.lanes)
        self._fused = self.fused(module)

    def fused(self, module: Any) -> Any:
        """Return x y + z with one rounding, which llvmlite does not declare for vectors."""
        name = f"llvm.fma.v{self._code.lanes}f{8 * self._code.size}"
        return module.globals.get(name) or ir.Function(module, ir.FunctionType(self.vector, [self.vector] * 3), name)

    def write(self, high: int, block: Any, left: Any, right: Any, target: Any) -> None:
        """Write so many rows, after so many blocks of them; all is given for the first row."""
        code, b, vector, (a, w, y) = self._code, self._b, self.vector, self._steps
        start, size = b.mul(block, WORD(code.high)), WORD(code.size)
        left = further(b, left, b.mul(start, a if code.apart else size))
        target = further(b, target, b.mul(start, y))
        nothing, lane = ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(INT, code.lanes), [0] * code.lanes)
        zero, places = ir.Constant(vector, [0.0] * code.lanes), [*itertools.product(range(high), range(code.vectors))]
        before = b.block
        with counted(b, self._length) as k:
            sums = {place: b.phi(vector) for place in places}
            at, made = further(b, right, b.mul(k, w)), {}
            across = [further(b, at, WORD(REGISTER * v)) for v in range(code.vectors)]
            factors = [b.load(place, typ=vector, align=code.size) for place in across]
            at = further(b, left, b.mul(k, size if code.apart else a))
            for row in range(high):
                down = further(b, at, WORD(code.size * row * (code.apart or 1)))
                one = b.load(down, typ=TYPES[code.kind], align=code.size)
                every = b.shuffle_vector(b.insert_element(nothing, one, INT(0)), nothing, lane)
                for v, factor in enumerate(factors):
                    made[row, v] = b.call(self._fused, [every, factor, sums[row, v]])
            for place, value in sums.items():
                value.add_incoming(zero, before)
                value.add_incoming(made[place], b.block)
        for row, v in places:
            at, value = further(b, target, b.mul(y, WORD(row)), WORD(REGISTER * v)), made[row, v]
            there = b.load(at, typ=vector, align=code.size)
            if code.small:
                value = b.select(self._add, b.fadd(there, value), value)
            else:
                value = b.fadd(b.select(self._add, there, zero), value)
            b.store(value, at, align=code.size)


class Product(NamedTuple):
    """How large the factors of a product are, and how they and the result lie in memory."""

    kind: str
    rows: int
    inner: int
    columns: int
    turned: tuple[bool, bool]
    """Which of the factors lie transposed."""
    steps: tuple[int, int, int]
    """Numbers from one row to the next in memory, of the factors and of the result."""
    add: bool

    @property
    def small(self) -> bool:
        """Whether OpenBLAS reads factors where they lie."""
        return self.rows * self.inner * self.columns <= products.SMALL

    @property
    def vectors(self) -> int:
        """Registers for a row of the result."""
        return self.columns * np.dtype(self.kind).itemsize // REGISTER

    @property
    def worth(self) -> bool:
        """Whether OpenBLAS is slower."""
        size = np.dtype(self.kind).itemsize
        if self.columns * size % REGISTER or self.columns == 0 or max(self.steps) > FAR:
            return False
        if not self.small:
            long = self.turned[0] and self.inner > DEEP
            return self.rows >= LOW and self.inner * size >= REGISTER and not long
        # OpenBLAS takes columns by pairs of registers: of a single one it makes slow work.
        slow = self.vectors % 2 == 1 or self.inner * self.columns * size > NEAREST
        return slow and not self.turned[1] and self.vectors <= VECTORS

    def runs(self) -> list[tuple[int, int]]:
        """Return where runs of numbers begin that OpenBLAS adds up, and how long they are."""
        made, start, longest = [], 0, self.inner if self.small else LONGEST[self.kind]
        while start < self.inner:
            rest = self.inner - start
            half = (rest // 2 + 15) // 16 * 16
            length = longest if rest >= 2 * longest else half if rest > longest else rest
            made.append((start, length))
            start += length
        return made

    def pieces(self, a: HostArray, b: HostArray, out: HostArray) -> list[Piece]:
        """Return the product of arrays that are like this."""
        size, (turned, across), (left, right, onward) = b.itemsize, self.turned, self.steps
        vectors = self.vectors if self.small else next(n for n in range(VECTORS, 0, -1) if self.vectors % n == 0)
        panel, runs = vectors * REGISTER // size, self.runs()
        copied = not self.small and (across or right != panel)
        count = -(-self.columns * runs[0][1] * size // ROOM) if copied else 1
        columns = products.edges(self.columns, count, panel)
        most = min(SUMS // vectors, HIGH, self.rows)
        # A few less are as fast, and where they leave no rest there is half as much to compile.
        high = next((n for n in range(most, most - most // 3 - 1, -1) if self.rows % n == 0), most)
        code = Gemm(self.kind, vectors, high, self.rows % high, 0 if turned else left, across, copied, self.small)
        made = []
        for here, (start, length) in itertools.product(columns, runs):
            width = here.stop - here.start
            addresses = [array.ctypes.data for array in (a[:, start:], b[start:, here], out[:, here])]
            numbers = left, right, onward, self.rows // high, width // panel, length, self.add or start > 0
            slots = table("pppp" + "l" * len(numbers), 0, *addresses, *numbers)
            made.append(Piece(code, slots, (a, b, out), copied * width * length * size))
        return made


def gemm(wanted: Product, a: HostArray, b: HostArray, out: HostArray) -> list[Piece] | None:
    """Return a product, or None where OpenBLAS is faster, or adds up in another way."""
    blas = openblas.of_numpy()
    if blas is None or blas.kernels not in openblas.WIDE or not wanted.worth:
        return None
    return [*wanted.pieces(a, b, out)] if agrees(wanted) else None


@functools.lru_cache(maxsize=4096)
def agrees(wanted: Product) -> bool:
    """Say whether such a product has NumPy's bits: of random numbers, added up in another order, some have others."""
    rng, (kind, rows, inner, columns, turned, steps, add) = np.random.default_rng(0), wanted

    def matrix(height: int, width: int, step: int, turned: bool) -> HostArray:
        shape = (width, max(step, height)) if turned else (height, max(step, width))
        lying: HostArray = rng.standard_normal(shape, np.float32 if kind == "f" else np.float64)
        return lying[:, :height].T if turned else lying[:, :width]

    a, b = matrix(rows, inner, steps[0], turned[0]), matrix(inner, columns, steps[1], turned[1])
    found = matrix(rows, columns, steps[2], False)
    a[0] = -0.0
    with openblas.single():
        expected = found + a @ b if add else a @ b
    Chain([Task([wanted.pieces(a, b, found)])])()
    return found.tobytes() == expected.tobytes()
