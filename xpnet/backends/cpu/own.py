"""Matrix products in code of our own, where OpenBLAS's kernels for AVX-512 leave a part of a processor unused.

OpenBLAS copies both factors before it begins, or, of small ones, reads the second again and again. The code of
``gemm.py`` copies at most one of them, and has the bits of these kernels: they add up one number after another, each
with one rounding for product and sum (fused), so many at a time; then they add what they have to the result. Whether
the bits are the same is tried for each size when it is first wanted; where they are not, OpenBLAS is called.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from xpnet.backends.cpu import openblas, products
from xpnet.backends.cpu.chain import Chain, Piece, Task, table
from xpnet.backends.cpu.gemm import HIGH, REGISTER, SUMS, VECTORS, Gemm, lanes
from xpnet.backends.tape.layout import example
from xpnet.typing import HostArray

LONGEST = {"f": 448, "d": 384}
"""Numbers that OpenBLAS adds up before it adds the sum to a result that is not small."""
NEAREST = 40 << 10
"""Bytes of a second factor that a processor's nearest cache keeps beside others: OpenBLAS reads it again and again."""
ROOM = 1 << 20
"""Bytes of columns that are copied together: they stay near while all rows go by."""
DEEP = 192
"""Rows of a first factor that lies transposed: more of them are more pages of memory than a processor has at hand."""
LEAST = 1 << 18
"""Multiplications from which a product is worth the time to compile it."""
LOW = 4
"""Rows from which it is worth while to copy columns."""
FAR = 1 << 12
"""Numbers from one row of a factor to the next at most: for more, an example would be large."""


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
    def lanes(self) -> int:
        """Numbers of a register."""
        return lanes(self.kind)

    @property
    def worth(self) -> bool:
        """Whether OpenBLAS is slower."""
        most = VECTORS * self.lanes
        if self.rows * self.inner * self.columns < LEAST or max(self.steps) > FAR:
            return False
        if not self.small:
            return self.rows >= LOW and self.inner >= self.lanes and not (self.turned[0] and self.inner > DEEP)
        # OpenBLAS takes columns by pairs of registers: of a single one it makes slow work.
        odd, large = self.columns % (2 * self.lanes) > 0, self.inner * self.columns * REGISTER > NEAREST * self.lanes
        return (odd or large) and not self.turned[1] and self.columns <= most

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
        """Return the product of arrays that are like this: panels of as many columns as may be, and what is left."""
        panel = VECTORS * self.lanes
        edge = self.columns // panel * panel
        count = -(-edge * self.runs()[0][1] * b.itemsize // ROOM)
        parts = products.edges(edge, count, panel) if edge else []
        parts += [slice(edge, self.columns)] if edge < self.columns else []
        return [piece for part in parts for piece in self._part(a, b[:, part], out[:, part])]

    def _part(self, a: HostArray, b: HostArray, out: HostArray) -> list[Piece]:
        """Return the product for some columns: panels, or one that is not full."""
        (turned, across), (left, right, onward), width = self.turned, self.steps, b.shape[1]
        vectors = min(-(-width // self.lanes), VECTORS)
        panels = max(width // (vectors * self.lanes), 1)
        copied = across or (not self.small and right > vectors * self.lanes)
        most = min(SUMS // vectors, HIGH, self.rows)
        # A few less are as fast, and where they leave no rest there is half as much to compile.
        high = next((n for n in range(most, most - most // 3 - 1, -1) if self.rows % n == 0), most)
        code = Gemm(
            self.kind, vectors, high, self.rows % high, 0 if turned else left, across, copied,
            (width - 1) % self.lanes + 1, self.small,
        )  # fmt: skip
        made = []
        for start, length in self.runs():
            addresses = [array.ctypes.data for array in (a[:, start:], b[start:], out)]
            numbers = left, right, onward, self.rows // high, panels, length, self.add or start > 0
            slots = table("pppp" + "l" * len(numbers), 0, *addresses, *numbers)
            made.append(Piece(code, slots, (a, b, out), copied * panels * vectors * REGISTER * length))
        return made


def own(wanted: Product, a: HostArray, b: HostArray, out: HostArray) -> list[Piece] | None:
    """Return a product, or None where OpenBLAS is faster, or adds up in another way."""
    blas = openblas.of_numpy()
    if blas is None or blas.kernels not in openblas.WIDE or not wanted.worth:
        return None
    return wanted.pieces(a, b, out) if agrees(wanted) else None


@functools.lru_cache(maxsize=4096)
def agrees(wanted: Product) -> bool:
    """Say whether such a product has NumPy's bits: of random numbers, added up in another order, some have others."""
    rng, (kind, rows, inner, columns, turned, steps, add) = np.random.default_rng(0), wanted
    size, shapes = np.dtype(kind).itemsize, ((rows, inner), (inner, columns), (rows, columns))
    strides = [
        (size, step * size) if t else (step * size, size) for step, t in zip(steps, (*turned, False), strict=True)
    ]
    a, b, found = (example(rng, kind, *lie) for lie in zip(shapes, strides, strict=True))
    a[0] = -0.0
    with openblas.single():
        expected = found + a @ b if add else a @ b
    Chain([Task([wanted.pieces(a, b, found)])])()
    return found.tobytes() == expected.tobytes()
