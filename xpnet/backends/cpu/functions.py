"""Small functions of machine code, written by LLVM's builder: calls of others, and the selection of rows.

Each is a function of one table, in whose slots of eight bytes lie the addresses, sizes and numbers that it works with.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from llvmlite import ir

NOTHING, BIT, BYTE, INT, WORD, POINTER = ir.VoidType(), *map(ir.IntType, (1, 8, 32, 64)), ir.PointerType()
TYPES = {"i": INT, "l": WORD, "f": ir.FloatType(), "d": ir.DoubleType(), "p": POINTER}
"""Types of C arguments, by the letters of tables."""


class Code(Protocol):
    """What can be compiled. Equal codes are the same function, and are compiled once in a process."""

    @property
    def wide(self) -> bool:
        """Whether LLVM may do several turns of a loop at once."""

    def write(self, module: Any, name: str) -> None:
        """Add to an LLVM module the function of this name."""


class Table:
    """A function's builder, and the table that it is given."""

    def __init__(self, module: Any, name: str) -> None:
        self.module = module
        function = ir.Function(module, ir.FunctionType(NOTHING, [POINTER]), name)
        self.builder = ir.IRBuilder(function.append_basic_block())
        self.start = function.args[0]

    def at(self, number: int) -> Any:
        """Return the address of a slot."""
        return self.builder.gep(self.start, [WORD(number)], source_etype=WORD)

    def load(self, kinds: str, first: int = 0) -> list[Any]:
        """Return what lies in the slots from the one numbered `first` on."""
        return [self.builder.load(self.at(first + k), typ=TYPES[kind]) for k, kind in enumerate(kinds)]

    def call(self, address: Any, arguments: list[Any]) -> None:
        """Call the function whose address lies at `address`."""
        kind = ir.FunctionType(NOTHING, [a.type for a in arguments])
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
class Call:
    """A call of the C function in the table's first slot, with what is in the others."""

    kinds: str
    wide = False

    def write(self, module: Any, name: str) -> None:
        """Add the function to a module."""
        table = Table(module, name)
        table.call(table.at(0), table.load(self.kinds, 1))
        table.builder.ret_void()


@dataclass(frozen=True)
class Sweep:
    """Calls of an inner loop of NumPy's, along each of some axes a distance further on each time.

    The table: the loop, its data, how many numbers; for each array the bytes between them, a place to work in, and the
    first address; how often for each axis; and for each axis the distance for each array.
    """

    arrays: int
    axes: int
    wide = False

    def write(self, module: Any, name: str) -> None:
        """Add the function to a module."""
        table, n = Table(module, name), self.arrays
        b = table.builder
        data, first, counts = (
            *table.load("p", 1),
            table.load("p" * n, 3 + 2 * n),
            table.load("l" * self.axes, 3 + 3 * n),
        )
        distances = [table.load("l" * n, 3 + 3 * n + self.axes + k * n) for k in range(self.axes)]
        with contextlib.ExitStack() as stack:
            indices = [stack.enter_context(counted(b, count)) for count in counts]
            for k in range(n):
                moves = [b.mul(index, along[k]) for index, along in zip(indices, distances, strict=True)]
                b.store(further(b, first[k], *moves), table.at(3 + n + k))
            table.call(table.at(0), [table.at(3 + n), table.at(2), table.at(3), data])
        b.ret_void()


@dataclass(frozen=True)
class Rows:
    """Copies of `count` of `rows` rows of `size` bytes, in the order of a vector of indices, from each of some blocks.

    The table: where to, where from, the indices. Rows of a large data set are far apart, so that the processor does not
    foresee them: while one is copied, a later one is asked for.
    """

    blocks: int
    count: int
    rows: int
    size: int
    wide = False

    def write(self, module: Any, name: str) -> None:
        """Add the function to a module."""
        table, whole = Table(module, name), self.size // 64 * 64
        b = table.builder
        target, source, indices = table.load("ppp")
        fetch = module.declare_intrinsic("llvm.prefetch", [POINTER], ir.FunctionType(NOTHING, [POINTER, INT, INT, INT]))
        copy = module.declare_intrinsic("llvm.memcpy", [POINTER, POINTER, WORD])

        def ask(address: Any) -> None:
            b.call(fetch, [address, INT(0), INT(3), INT(1)])

        def row(i: Any) -> Any:
            index = b.load(b.gep(indices, [i], source_etype=WORD), typ=WORD)
            remainder = b.srem(index, WORD(self.rows))
            wrapped = b.select(b.icmp_signed("<", remainder, WORD(0)), b.add(remainder, WORD(self.rows)), remainder)
            return b.select(b.icmp_unsigned("<", index, WORD(self.rows)), index, wrapped)

        with counted(b, WORD(self.blocks)) as block, counted(b, WORD(self.count)) as i:
            above = further(b, source, b.mul(block, WORD(self.rows * self.size)))
            origin = further(b, above, b.mul(row(i), WORD(self.size)))
            to = further(b, target, b.mul(b.add(b.mul(block, WORD(self.count)), i), WORD(self.size)))
            ahead = b.add(i, WORD(16 if whole < 256 else 2))
            ahead = b.select(b.icmp_unsigned("<", ahead, WORD(self.count)), ahead, WORD(self.count - 1))
            # An index outside is asked for as it is: asking does not read.
            later = b.load(b.gep(indices, [ahead], source_etype=WORD), typ=WORD)
            soon = further(b, above, b.mul(later, WORD(self.size)))
            if whole < 256:
                ask(soon)
                b.call(copy, [to, origin, WORD(self.size), BIT(0)])
            else:
                line = ir.VectorType(BYTE, 64)
                with counted(b, WORD(whole // 64)) as k:
                    at = b.mul(k, WORD(64))
                    ask(further(b, soon, at))
                    b.store(b.load(further(b, origin, at), align=1, typ=line), further(b, to, at), align=1)
                rest = [further(b, address, WORD(whole)) for address in (to, origin)]
                b.call(copy, [*rest, WORD(self.size - whole), BIT(0)])
        b.ret_void()


@dataclass(frozen=True)
class Driver:
    """Runs through a table: how many steps, how many pieces, and each piece's function and table."""

    wide = False

    def write(self, module: Any, name: str) -> None:
        """Add the function to a module."""
        table = Table(module, name)
        b = table.builder
        steps, count = table.load("ll")
        with counted(b, steps), counted(b, count) as k:
            piece = b.gep(table.at(2), [b.mul(k, WORD(2))], source_etype=WORD)
            table.call(piece, [b.load(b.gep(piece, [WORD(1)], source_etype=WORD), typ=POINTER)])
        b.ret_void()
