"""Pieces of machine code, run through by one small loop: what Python need not come back for."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xpnet.backends.cpu.compiler import compiled
from xpnet.backends.cpu.functions import Code, Driver

SLOTS = {"i": "i4x", "l": "q", "f": "f4x", "d": "d", "p": "q"}
"""How C arguments lie in a table's slots of eight bytes."""


@dataclass(frozen=True)
class Piece:
    """A function's code, the table it is given, and what must live as long as that."""

    code: Code
    table: Any
    keep: tuple[Any, ...]


def table(kinds: str, *values: Any) -> Any:
    """Return memory that holds `values` in slots of eight bytes."""
    packed = struct.pack("=" + "".join(SLOTS[kind] for kind in kinds), *values)
    return ctypes.create_string_buffer(packed, len(packed))


class Chain:
    """Pieces that are run one after another, as often as one asks for; `pieces` keeps their tables alive."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        driver, *functions = compiled([Driver(), *(piece.code for piece in pieces)])
        tables = (ctypes.addressof(piece.table) for piece in pieces)
        pairs = [x for pair in zip((f.address for f in functions), tables, strict=True) for x in pair]
        self._table = (ctypes.c_int64 * (2 + len(pairs)))(1, len(pieces), *pairs)
        self._run = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(driver.address)
        self._at = ctypes.addressof(self._table)
        self.pieces = pieces
        self._keep = driver, functions

    def __call__(self, steps: int = 1) -> None:
        """Run all pieces in order, `steps` times."""
        self._table[0] = steps
        self._run(self._at)
