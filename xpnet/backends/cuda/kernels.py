"""CUDA C for the loops of a step: one kernel for each launch of a program."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from xpnet.backends.cuda.formulas import TYPES
from xpnet.backends.cuda.units import Part
from xpnet.backends.cuda.writer import THREADS, Writer
from xpnet.backends.tape.fusion import home
from xpnet.backends.tape.loop import Maker
from xpnet.backends.tape.record import Traced


@dataclass(frozen=True)
class Kernel:
    """A kernel and what it is called with.

    Attributes
    ----------
    name : str
        Of its operations and its content: kernels of the same name are the same.
    source : str
    arguments : tuple of Traced
        Arrays whose addresses it takes, each a view of a buffer from its first number on.
    blocks : int
    """

    name: str
    source: str
    arguments: tuple[Traced, ...]
    blocks: int


def write(parts: Sequence[Part], places: dict[int, Traced], inner: set[int]) -> Kernel:
    """Return the kernel that does the operations of `parts`, side by side."""
    makers = [Maker(p.operations, places, inner, lambda a: home(a, places), p.space, p.axes) for p in parts]
    arguments: dict[int, tuple[int, Traced]] = {}
    writers: list[Writer] = []
    for maker in makers:
        numbers = []
        for a in maker.arguments:
            numbers.append(arguments.setdefault(home(a, places).ctypes.data, (len(arguments), a))[0])
        writers.append(Writer(maker.loop, numbers, sum(w.blocks for w in writers)))
    slots = max(w.slots for w in writers)
    lines = [f"    __shared__ double shared[{THREADS * slots}];"] if slots else []
    if len(writers) == 1:
        lines += [f"    {line}" for line in writers[0].lines]
    else:
        ends = [0, *(w.first + w.blocks for w in writers)]
        for writer, (start, end) in zip(writers, pairwise(ends), strict=True):
            lines += [
                "    " + ("} else " if start else "") + (f"if (blockIdx.x < {end}) {{" if end != ends[-1] else "{")
            ]
            lines += [f"        {line}" for line in writer.lines]
        lines.append("    }")
    taken = ", ".join(f"{TYPES[a.dtype.name]}* p{k}" for k, a in arguments.values())
    body = f"({taken}) {{\n" + "\n".join(lines) + "\n}\n"
    names = [op.function.__name__ if op.kind == "elementwise" else op.kind for p in parts for op in p.operations]
    name = "_".join(["xpnet", *names[:4], *(["and", str(len(names) - 4)] if len(names) > 4 else [])])
    name += f"_{zlib.crc32(body.encode()):08x}"
    kernel = tuple(a for _, a in arguments.values())
    return Kernel(name, f'extern "C" __global__ void {name}{body}', kernel, sum(w.blocks for w in writers))
