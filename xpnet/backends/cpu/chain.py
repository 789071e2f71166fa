"""A whole training step as one call: a table of small functions, run through by one loop of machine code.

Each piece of a step is a function of one table, in which the addresses and sizes lie that it works with: a kernel
of `xpnet.backends.cpu.llvm`, or one of the functions here, which call a product of OpenBLAS, the inner loop of one of
NumPy's functions, or copy rows. The functions are in LLVM's language; equal ones are compiled once in a process.
"""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass
from typing import Any

IN_TABLE = {"i": ("i32", "i4x"), "l": ("i64", "q"), "f": ("float", "f4x"), "d": ("double", "d"), "p": ("ptr", "q")}
"""Types of C arguments: in LLVM's language, and as they lie in a table's slots of eight bytes."""


@dataclass(frozen=True)
class Piece:
    """A function's source, the table it is given, and what must live as long as that."""

    source: str
    table: Any
    keep: tuple[Any, ...]


def table(kinds: str, *values: Any) -> Any:
    """Return memory that holds `values` in slots of eight bytes."""
    packed = struct.pack("=" + "".join(IN_TABLE[kind][1] for kind in kinds), *values)
    return ctypes.create_string_buffer(packed, len(packed))


def _slots(kinds: str, first: int = 0) -> str:
    """Return the lines that load the slots of a table as %v0, %v1, ..."""
    lines = []
    for k, kind in enumerate(kinds, first):
        lines += [f"%s{k} = getelementptr i64, ptr %table, i64 {k}", f"%v{k} = load {IN_TABLE[kind][0]}, ptr %s{k}"]
    return "\n  ".join(lines)


def call_of(kinds: str) -> str:
    """Return a function that calls the C function in the table's first slot with what is in the others."""
    arguments = ", ".join(f"{IN_TABLE[kind][0]} %v{k}" for k, kind in enumerate(kinds, 1))
    return f"""
define void @run(ptr %table) {{
  {_slots("p" + kinds)}
  call void %v0({arguments})
  ret void
}}
"""


def sweep(arrays: int) -> str:
    """Return a function that calls an inner loop of NumPy's again and again, a distance further on each time.

    The table: the loop, its four arguments (addresses, lengths, strides, data), how often, the first addresses, and the
    distances.
    """
    moves = "\n  ".join(
        f"""%b{k}.at = getelementptr ptr, ptr %v6, i64 {k}
  %b{k} = load ptr, ptr %b{k}.at
  %d{k}.at = getelementptr i64, ptr %v7, i64 {k}
  %d{k} = load i64, ptr %d{k}.at
  %o{k} = mul i64 %i, %d{k}
  %p{k} = getelementptr i8, ptr %b{k}, i64 %o{k}
  %a{k}.at = getelementptr ptr, ptr %v1, i64 {k}
  store ptr %p{k}, ptr %a{k}.at"""
        for k in range(arrays)
    )
    return f"""
define void @run(ptr %table) {{
entry:
  {_slots("pppppl" + "pp")}
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
  {moves}
  call void %v0(ptr %v1, ptr %v2, ptr %v3, ptr %v4)
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %v5
  br i1 %more, label %loop, label %end
end:
  ret void
}}
"""


def take_rows(count: int, rows: int, size: int) -> str:
    """Return a function that copies `count` of `rows` rows of `size` bytes, in the order of a vector of indices.

    The table: where to, where from, the indices. Rows of a large data set are far apart, so that the processor does not
    foresee them: while one is copied, a later one is asked for.
    """
    whole = size // 64 * 64
    later = f"""%a = add i64 %i, {{distance}}
  %inside = icmp ult i64 %a, {count}
  %b = select i1 %inside, i64 %a, i64 {count - 1}
  %later.at = getelementptr i64, ptr %v2, i64 %b
  %later = load i64, ptr %later.at
  %later.offset = mul i64 %later, {size}
  %later.from = getelementptr i8, ptr %v1, i64 %later.offset"""
    if whole < 256:
        copy = f"""{later.format(distance=16)}
  call void @llvm.prefetch.p0(ptr %later.from, i32 0, i32 3, i32 1)
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 {size}, i1 false)
  br label %done"""
    else:
        copy = f"""{later.format(distance=2)}
  br label %line
line:
  %k = phi i64 [0, %row], [%k.next, %line]
  %soon = getelementptr i8, ptr %later.from, i64 %k
  call void @llvm.prefetch.p0(ptr %soon, i32 0, i32 3, i32 1)
  %line.from = getelementptr i8, ptr %from, i64 %k
  %line.to = getelementptr i8, ptr %to, i64 %k
  %bytes = load <64 x i8>, ptr %line.from, align 1
  store <64 x i8> %bytes, ptr %line.to, align 1
  %k.next = add i64 %k, 64
  %k.more = icmp ult i64 %k.next, {whole}
  br i1 %k.more, label %line, label %rest
rest:
  %rest.from = getelementptr i8, ptr %from, i64 {whole}
  %rest.to = getelementptr i8, ptr %to, i64 {whole}
  call void @llvm.memcpy.p0.p0.i64(ptr %rest.to, ptr %rest.from, i64 {size - whole}, i1 false)
  br label %done"""
    return f"""
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)
define void @run(ptr %table) {{
entry:
  {_slots("ppp")}
  br label %row
row:
  %i = phi i64 [0, %entry], [%next, %done]
  %at = getelementptr i64, ptr %v2, i64 %i
  %index = load i64, ptr %at
  %fits = icmp ult i64 %index, {rows}
  %remainder = srem i64 %index, {rows}
  %below = icmp slt i64 %remainder, 0
  %above = add i64 %remainder, {rows}
  %wrapped = select i1 %below, i64 %above, i64 %remainder
  %j = select i1 %fits, i64 %index, i64 %wrapped
  %offset = mul i64 %j, {size}
  %from = getelementptr i8, ptr %v1, i64 %offset
  %place = mul i64 %i, {size}
  %to = getelementptr i8, ptr %v0, i64 %place
  {copy}
done:
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, {count}
  br i1 %more, label %row, label %end
end:
  ret void
}}
"""


def outer_product(kind: str, rows: int, columns: int, first: int, second: int) -> str:
    """Return a function for the product of a column and a row, which NumPy adds to zero by plain loops.

    The table: the product's place, the column's, the row's. `first` and `second` are their strides, in bytes.
    """
    number, size = IN_TABLE[kind][0], 4 if kind == "f" else 8
    return f"""
define void @run(ptr %table) {{
entry:
  {_slots("ppp")}
  br label %i.top
i.top:
  %i = phi i64 [0, %entry], [%i.next, %i.end]
  %a.offset = mul i64 %i, {first}
  %a.at = getelementptr i8, ptr %v1, i64 %a.offset
  %a = load {number}, ptr %a.at
  %row = mul i64 %i, {columns * size}
  %row.at = getelementptr i8, ptr %v0, i64 %row
  br label %j.top
j.top:
  %j = phi i64 [0, %i.top], [%j.next, %j.top]
  %b.offset = mul i64 %j, {second}
  %b.at = getelementptr i8, ptr %v2, i64 %b.offset
  %b = load {number}, ptr %b.at
  %ab = fmul {number} %a, %b
  %sum = fadd {number} 0.0, %ab
  %out.at = getelementptr {number}, ptr %row.at, i64 %j
  store {number} %sum, ptr %out.at
  %j.next = add i64 %j, 1
  %j.more = icmp ult i64 %j.next, {columns}
  br i1 %j.more, label %j.top, label %i.end
i.end:
  %i.next = add i64 %i, 1
  %i.more = icmp ult i64 %i.next, {rows}
  br i1 %i.more, label %i.top, label %end
end:
  ret void
}}
"""


DRIVER = """
define void @run(ptr %table) {
entry:
  %steps = load i64, ptr %table
  %count.at = getelementptr i64, ptr %table, i64 1
  %count = load i64, ptr %count.at
  %pieces = getelementptr i64, ptr %table, i64 2
  br label %step
step:
  %s = phi i64 [0, %entry], [%s.next, %step.end]
  br label %piece
piece:
  %k = phi i64 [0, %step], [%k.next, %piece]
  %twice = mul i64 %k, 2
  %f.at = getelementptr i64, ptr %pieces, i64 %twice
  %f = load ptr, ptr %f.at
  %t.at = getelementptr i64, ptr %f.at, i64 1
  %t = load ptr, ptr %t.at
  call void %f(ptr %t)
  %k.next = add i64 %k, 1
  %k.more = icmp ult i64 %k.next, %count
  br i1 %k.more, label %piece, label %step.end
step.end:
  %s.next = add i64 %s, 1
  %s.more = icmp ult i64 %s.next, %steps
  br i1 %s.more, label %step, label %end
end:
  ret void
}
"""
"""The table: how many steps, how many pieces, and each piece's function and table."""


class Chain:
    """Pieces that are run one after another, as often as one asks for."""

    def __init__(self, pieces: list[Piece]) -> None:
        from xpnet.backends.cpu.llvm import compiled

        functions = [compiled(piece.source) for piece in pieces]
        addresses = [
            address
            for (function, _), piece in zip(functions, pieces, strict=True)
            for address in (ctypes.cast(function, ctypes.c_void_p).value or 0, ctypes.addressof(piece.table))
        ]
        self._table = (ctypes.c_int64 * (2 + len(addresses)))(1, len(pieces), *addresses)
        self._run, engine = compiled(DRIVER)
        self._at = ctypes.addressof(self._table)
        self._keep = pieces, functions, engine

    def __call__(self, steps: int = 1) -> None:
        """Run all pieces in order, `steps` times."""
        self._table[0] = steps
        self._run(self._at)
