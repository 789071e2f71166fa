"""Small functions of machine code, written by LLVM's builder: calls of others, and the selection of rows.

Each is a function of one table, in whose slots of eight bytes lie the addresses, sizes and numbers that it works with.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from llvmlite import ir

NOTHING, BIT, BYTE, INT, WORD, POINTER = ir.VoidType(), *map(ir.IntType, (1, 8, 32, 64)), ir.PointerType()
TYPES = {"i": INT, "l": WORD, "f": ir.FloatType(), "d": ir.DoubleType(), "p": POINTER}
"""Types of C arguments, by the letters of tables."""


class Table:
    """The table that a function is given, and its builder."""

    def __init__(self, module: Any, name: str) -> None:
        function = ir.Function(module, ir.FunctionType(NOTHING, [POINTER]), name)
        self.module, self.builder, self._start = module, ir.IRBuilder(function.append_basic_block()), function.args[0]

    def at(self, number: int) -> Any:
        """Return the address of a slot."""
        return self.builder.gep(self._start, [WORD(number)], source_etype=WORD)

    def load(self, kinds: str, first: int = 0) -> list[Any]:
        """Return what lies in the slots from the one numbered `first` on."""
        return [self.builder.load(self.at(first + k), typ=TYPES[kind]) for k, kind in enumerate(kinds)]

    def call(self, address: Any, arguments: list[Any], result: Any = NOTHING) -> None:
        """Call the function whose address lies at `address`."""
        kind = ir.FunctionType(result, [a.type for a in arguments])
        self.builder.call(self.builder.load(address, typ=kind.as_pointer()), arguments)


@contextlib.contextmanager
def counted(b: Any, count: Any) -> Iterator[Any]:
    """Let what is written meanwhile be done `count` times, which is at least once; the index counts from 0."""
    before, block, after = b.block, b.append_basic_block(), b.append_basic_block()
    b.branch(block)
    b.position_at_end(block)
    index = b.phi(WORD)
    index.add_incoming(WORD(0), before)
    yield index
    following = b.add(index, WORD(1), flags=["nuw", "nsw"])
    index.add_incoming(following, b.block)
    b.cbranch(b.icmp_unsigned("<", following, count), block, after)
    b.position_at_end(after)


def further(b: Any, address: Any, *offsets: Any) -> Any:
    """Return an address some bytes further on."""
    for offset in offsets:
        address = b.gep(address, [offset], inbounds=True, source_etype=BYTE)
    return address


@dataclass(frozen=True)
class Code:
    """What can be compiled. Equal codes are the same function, and are compiled once in a process."""

    wide: ClassVar[bool] = False
    """Whether LLVM may do several turns of a loop at once."""

    def write(self, table: Table, b: Any) -> None:
        """Write the function."""
        raise NotImplementedError


@dataclass(frozen=True)
class Call(Code):
    """A call of the C function in the table's first slot, with what is in the others."""

    kinds: str

    def write(self, table: Table, b: Any) -> None:
        table.call(table.at(0), table.load(self.kinds, 1))


@dataclass(frozen=True)
class Sweep(Code):
    """Calls of an inner loop of NumPy's, along each of some axes a distance further on each time.

    The table: the loop, its data, how many numbers; for each array the bytes between them, a place to work in, and the
    first address; how often for each axis; and for each axis the distance for each array.
    """

    arrays: int
    axes: int

    def write(self, table: Table, b: Any) -> None:
        n, (data,) = self.arrays, table.load("p", 1)
        first, counts = table.load("p" * n, 3 + 2 * n), table.load("l" * self.axes, 3 + 3 * n)
        distances = [table.load("l" * n, 3 + 3 * n + self.axes + k * n) for k in range(self.axes)]
        with contextlib.ExitStack() as stack:
            indices = [stack.enter_context(counted(b, count)) for count in counts]
            for k in range(n):
                moves = [b.mul(index, along[k]) for index, along in zip(indices, distances, strict=True)]
                b.store(further(b, first[k], *moves), table.at(3 + n + k))
            table.call(table.at(0), [table.at(3 + n), table.at(2), table.at(3), data])


@dataclass(frozen=True)
class Rows(Code):
    """Copies of `count` of `rows` rows of `size` bytes, in the order of a vector of indices, from each of some blocks.

    The table: where to, where from, the indices. Rows of a large data set are far apart, so that the processor does not
    foresee them: while one is copied, a later one is asked for.
    """

    blocks: int
    count: int
    rows: int
    size: int

    def write(self, table: Table, b: Any) -> None:
        target, source, indices = table.load("ppp")
        kind = ir.FunctionType(NOTHING, [POINTER, INT, INT, INT])
        fetch = table.module.declare_intrinsic("llvm.prefetch", [POINTER], kind)
        copy = table.module.declare_intrinsic("llvm.memcpy", [POINTER, POINTER, WORD])
        line, lines = ir.VectorType(BYTE, 64), self.size // 64 if self.size >= 256 else 0  # short rows are one piece

        def index(i: Any) -> Any:
            return b.load(b.gep(indices, [i], source_etype=WORD), typ=WORD)

        def ask(address: Any) -> None:
            b.call(fetch, [address, INT(0), INT(3), INT(1)])

        with counted(b, WORD(self.blocks)) as block, counted(b, WORD(self.count)) as i:
            given = index(i)
            inside = b.srem(given, WORD(self.rows))
            inside = b.select(b.icmp_signed("<", inside, WORD(0)), b.add(inside, WORD(self.rows)), inside)
            inside = b.select(b.icmp_unsigned("<", given, WORD(self.rows)), given, inside)  # mostly, and sooner known
            ahead = b.add(i, WORD(2 if lines else 16))
            ahead = b.select(b.icmp_unsigned("<", ahead, WORD(self.count)), ahead, WORD(self.count - 1))
            above = further(b, source, b.mul(block, WORD(self.rows * self.size)))
            # Where an index lies outside, what is asked for does too: that does no harm, since it is not read.
            later, origin = (further(b, above, b.mul(k, WORD(self.size))) for k in (index(ahead), inside))
            to = further(b, target, b.mul(b.add(b.mul(block, WORD(self.count)), i), WORD(self.size)))
            if lines:
                with counted(b, WORD(lines)) as k:
                    at = b.mul(k, WORD(64))
                    ask(further(b, later, at))
                    b.store(b.load(further(b, origin, at), align=1, typ=line), further(b, to, at), align=1)
            else:
                ask(later)
            rest = [further(b, end, WORD(64 * lines)) for end in (to, origin)]
            b.call(copy, [*rest, WORD(self.size - 64 * lines), BIT(0)])
