"""A matrix product in machine code, for processors with AVX-512.

Some rows and columns of sums are in registers, and all that is multiplied for them goes by once. The first factor is
read where it lies, number by number; the second one is copied, if it does not lie well already: panels of as many
columns as go through the registers together. See Goto and van de Geijn, "Anatomy of high-performance matrix
multiplication", ACM Transactions on Mathematical Software 34 (2008), 12.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir

from xpnet.backends.cpu.functions import BIT, INT, NOTHING, POINTER, TYPES, WORD, Code, Table, counted, further

REGISTER = 64
"""Bytes of a register."""
SUMS, HIGH = 24, 16
"""Registers for sums, of 32, and rows of sums at most."""
VECTORS = 4
"""Registers for a row of sums at most."""


def lanes(kind: str) -> int:
    """Return how many numbers a register has."""
    return REGISTER // np.dtype(kind).itemsize


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
    last: int
    """Numbers in the last register of a row: all, or a few, of which nothing behind is read or written."""
    small: bool
    """Whether OpenBLAS writes the result at once, instead of adding to zeros."""

    @property
    def size(self) -> int:
        """Bytes of a number."""
        return np.dtype(self.kind).itemsize

    @property
    def lanes(self) -> int:
        """Numbers of a register."""
        return lanes(self.kind)

    def write(self, table: Table, b: Any) -> None:
        room, first, second, target, a, w, y, blocks, panels, length, add = table.load("pppp" + "l" * 7)
        size, width = WORD(self.size), WORD(REGISTER * self.vectors)
        a, w, y = (b.mul(step, size) for step in (a, w, y))
        panel_size = b.mul(length, width) if self.copied else width
        if self.copied:
            with counted(b, panels) as panel:
                columns = b.mul(panel, b.mul(w, WORD(self.lanes * self.vectors)) if self.turned else width)
                to = further(b, room, b.mul(panel, panel_size))
                source = further(b, second, columns)
                if self.turned:
                    self._turn(b, source, w, to, length)
                else:
                    self._copy(Registers(self, table.module, b), b, source, w, to, length)
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

    def _copy(self, registers: Registers, b: Any, source: Any, w: Any, to: Any, length: Any) -> None:
        """Copy columns, row by row."""
        with counted(b, length) as k:
            here, there = further(b, source, b.mul(k, w)), further(b, to, b.mul(k, WORD(REGISTER * self.vectors)))
            for v in range(self.vectors):
                at = WORD(REGISTER * v)
                b.store(registers.load(further(b, here, at), v), further(b, there, at))

    def _turn(self, b: Any, source: Any, w: Any, to: Any, length: Any) -> None:
        """Copy columns that lie as rows: by squares, of which the last ends where the run does."""
        vector, last = ir.VectorType(TYPES[self.kind], self.lanes), b.sub(length, WORD(self.lanes))
        squares = b.udiv(b.add(length, WORD(self.lanes - 1)), WORD(self.lanes))
        with counted(b, squares) as square:
            k = b.mul(square, WORD(self.lanes))
            k = b.select(b.icmp_unsigned("<", k, last), k, last)
            down = further(b, to, b.mul(k, WORD(REGISTER * self.vectors)))
            with counted(b, WORD(self.vectors)) as v:
                here = further(b, source, b.mul(k, WORD(self.size)))
                # Where there are no more columns, the last one stands in for them.
                behind = WORD(self.lanes * (self.vectors - 1) + self.last - 1)
                lines = [b.add(b.mul(v, WORD(self.lanes)), WORD(j)) for j in range(self.lanes)]
                lines = [b.select(b.icmp_unsigned("<", line, behind), line, behind) for line in lines]
                loaded = [b.load(further(b, here, b.mul(w, line)), typ=vector, align=self.size) for line in lines]
                for j, line in enumerate(transposed(b, loaded)):
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


class Registers:
    """Loads and stores the registers of a row, of which the last one may not be full."""

    def __init__(self, code: Gemm, module: Any, b: Any) -> None:
        self._code, self._module, self._b = code, module, b
        self.vector = ir.VectorType(TYPES[code.kind], code.lanes)
        self._mask = ir.Constant(ir.VectorType(BIT, code.lanes), [int(k < code.last) for k in range(code.lanes)])
        self._nothing = ir.Constant(self.vector, [0.0] * code.lanes)

    def load(self, address: Any, v: int) -> Any:
        """Return the register numbered `v`."""
        if self._whole(v):
            return self._b.load(address, typ=self.vector, align=self._code.size)
        load = self.intrinsic("masked.load", self.vector, POINTER, INT, self._mask.type, self.vector, ending=".p0")
        return self._b.call(load, [address, INT(self._code.size), self._mask, self._nothing])

    def store(self, value: Any, address: Any, v: int) -> None:
        """Write the register numbered `v`."""
        if self._whole(v):
            self._b.store(value, address, align=self._code.size)
            return
        store = self.intrinsic("masked.store", NOTHING, self.vector, POINTER, INT, self._mask.type, ending=".p0")
        self._b.call(store, [value, address, INT(self._code.size), self._mask])

    def _whole(self, v: int) -> bool:
        return v < self._code.vectors - 1 or self._code.last == self._code.lanes

    def intrinsic(self, name: str, result: Any, *kinds: Any, ending: str = "") -> Any:
        """Return a function of LLVM's, which llvmlite does not declare for vectors."""
        name = f"llvm.{name}.v{self._code.lanes}f{8 * self._code.size}{ending}"
        return self._module.globals.get(name) or ir.Function(self._module, ir.FunctionType(result, kinds), name)


class Sums(Registers):
    """Writes the sums of some rows and of a panel of columns for one run."""

    def __init__(self, code: Gemm, module: Any, b: Any, steps: tuple[Any, ...], length: Any, add: Any) -> None:
        super().__init__(code, module, b)
        self._steps, self._length, self._add, self._fused = steps, length, add, self.fused()

    def fused(self) -> Any:
        """Return x y + z with one rounding."""
        return self.intrinsic("fma", self.vector, *[self.vector] * 3)

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
            factors = [b.load(x, typ=vector) if code.copied else self.load(x, v) for v, x in enumerate(across)]
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
            there = self.load(at, v)
            if code.small:
                value = b.select(self._add, b.fadd(there, value), value)
            else:
                value = b.fadd(b.select(self._add, there, zero), value)
            self.store(value, at, v)
