"""A loop in CUDA C."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from xpnet.backends.cuda.formulas import applied, formula, identity, literal, read, register, stored
from xpnet.backends.cuda.units import lanes
from xpnet.backends.tape.loop import DType, Loop, Number, Place, Step

THREADS = 256
"""Threads of a block."""


@dataclass
class Writer:
    """Writes a loop, each turn of which is a thread's; or, if it reduces, a number of threads' together.

    Parameters
    ----------
    loop : Loop
    arguments : sequence of int
        The number of each argument of the loop among those of the kernel.
    first : int
        The first of its blocks.

    Attributes
    ----------
    lines : list of str
    blocks : int
    slots : int
        Pieces of shared memory that it takes.
    """

    loop: Loop
    arguments: Sequence[int]
    first: int = 0
    lines: list[str] = field(default_factory=list)
    blocks: int = 0
    slots: int = 0

    def __post_init__(self) -> None:
        loop = self.loop
        moves = [(p, loop.axes, p.steps) for p in loop.places]
        for step in loop.operations:
            several = step.function == "product"
            moves += [
                (p, (*loop.axes, step.along[0] if several else 1), (*p.steps, step.along[1 + k] if several else 0))
                for k, p in enumerate(step.places)
            ]
        reach = [sum(abs(s) * n for s, n in zip(steps, sizes, strict=True)) for _, sizes, steps in moves]
        self._index = "int" if max(math.prod(loop.axes) + THREADS, *reach) < 2**31 else "long long"
        self._block = f"({self._index})blockIdx.x" if not self.first else f"({self._index})(blockIdx.x - {self.first})"
        self._indices = [f"i{k}" for k in range(len(loop.axes))]
        (self._reduce if loop.reduced else self._map)()

    # ------------------------------------------------------------------------------- number by number

    def _map(self) -> None:
        loop, size = self.loop, math.prod(self.loop.axes)
        self.blocks = -(-size // THREADS)
        self.lines = [
            f"const {self._index} i = {self._block} * {THREADS} + threadIdx.x;", f"if (i >= {size}) return;"
        ]  # fmt: skip
        if len(loop.axes) < 2:
            self._indices = ["i"]
        else:
            self._decompose("i", 0, len(loop.axes))
        for k in range(len(loop.loads) + len(loop.operations)):
            self._value(k)
        for value, place in loop.stores:
            self._store(value, place)

    # --------------------------------------------------------------------------------- with reductions

    def _reduce(self) -> None:
        """Write passes over the reduced axes, each of which ends with the reductions that wait for no other pass."""
        loop, split = self.loop, len(self.loop.axes) - self.loop.reduced
        kept, length = math.prod(loop.axes[:split]), math.prod(loop.axes[split:])
        together = lanes(loop.chunk or length, kept)
        group = THREADS // together
        self.blocks = -(-kept // group)
        across = [p for p in loop.places if any(p.steps[split:])]
        along = sum(abs(p.steps[-1]) for p in across) <= sum(abs(p.steps[split - 1]) for p in across) or not split
        lane, own, gap = ("t % {0}", "t / {0}", 1) if along else ("t / {1}", "t % {1}", group)
        lane, own = (text.format(together, group) for text in (lane, own))
        self.lines = [
            f"const int t = threadIdx.x, lane = {lane};",
            f"const {self._index} own = {self._block} * {group} + {own};",
        ]
        if kept > 1:  # a thread beyond the end does what the last one does, but writes nothing: all meet at barriers
            self.lines.append(f"const {self._index} r = own < {kept} ? own : {kept - 1};")
        self._decompose("r", 0, split)
        levels = self._levels(split)
        fixed = [k for k, (_, varies) in enumerate(levels) if not varies]
        steps: list[Step | None] = [*[None] * len(loop.loads), *loop.operations]
        reductions = {k: s for k, s in enumerate(steps) if s is not None and s.function.startswith("reduce ")}
        stores = [(v, p) for v, p in loop.stores if any(p.steps[split:])]
        needed = [0 if isinstance(v, Number) else levels[v][0] for v, _ in stores]
        last = max([*(levels[k][0] - 1 for k in reductions), *needed])
        for level in range(last + 2):
            for k in fixed:
                if levels[k][0] == level and k not in reductions:
                    self._value(k)
            if level <= last:
                now = {k: s for k, s in reductions.items() if levels[k][0] == level + 1}
                self._pass(now, stores if level == last else [], split, length, together, levels)
                self._combine(now, together, gap)
        for value, place in loop.stores:
            if not any(place.steps[split:]):
                self._store(value, place, f"if (lane == 0 && own < {kept}) ")

    def _levels(self, split: int) -> list[tuple[int, bool]]:
        """Return for each value how many passes it waits for, and whether it is another one at each turn of a pass."""
        found = [(0, any(place.steps[split:])) for place in self.loop.loads]
        for step in self.loop.operations:
            of = [found[o] for o in step.operands if not isinstance(o, Number)]
            level = max((level for level, _ in of), default=0)
            if step.function.startswith("reduce "):
                found.append((level + 1, False))
            else:
                varies = any(v for _, v in of) or any(any(place.steps[split:]) for place in step.places)
                found.append((level, varies))
        return found

    def _pass(
        self, reductions: dict[int, Step], stores: list[tuple[int | Number, Place]], split: int, length: int,
        together: int, levels: list[tuple[int, bool]],
    ) -> None:  # fmt: skip
        """Go along the reduced axes: compute anew what varies, add it up, and write what is to be written."""
        loop = self.loop
        for k, step in reductions.items():
            number = identity(step.function.split()[1], step.dtype)
            self.lines.append(f"{register(step.dtype)} a{k} = {literal(number)};")
        start, stop = "lane", f"{length}"
        if loop.chunk:
            start, stop = f"i0 * {loop.chunk} + lane", f"{length} && c < (i0 + 1) * {loop.chunk}"
        self.lines.append(f"for ({self._index} c = {start}; c < {stop}; c += {together}) {{")
        inside, self.lines = self.lines, []
        self._decompose("c", split, len(self.loop.axes))
        needed: set[int] = set()
        waiting = [o for step in reductions.values() for o in step.operands] + [value for value, _ in stores]
        while waiting:
            value = waiting.pop()
            if not isinstance(value, Number) and value not in needed and levels[value][1]:
                needed.add(value)
                if value >= len(self.loop.loads):
                    waiting += self.loop.operations[value - len(self.loop.loads)].operands
        for value in sorted(needed):
            self._value(value)
        for k, step in reductions.items():
            text = applied(step.function.split()[1], step.dtype, f"a{k}", self._named(step.operands[0]))
            self.lines.append(f"a{k} = {text};")
        kept = math.prod(self.loop.axes[:split])
        for written, place in stores:
            self._store(written, place, f"if (own < {kept}) ")
        self.lines = [*inside, *(f"    {line}" for line in self.lines), "}"]

    def _combine(self, reductions: dict[int, Step], together: int, gap: int) -> None:
        """Let the threads of each group put their numbers together, in the order of a tree."""
        if not reductions:
            return
        half = f"t + h * {gap}" if gap > 1 else "t + h"
        for k, step in reductions.items():
            kind = register(step.dtype)
            self.lines.append(f"{kind}* const s{k} = ({kind}*)(shared + {THREADS * self.slots}); s{k}[t] = a{k};")
            self.slots += 1
        self.lines += [f"for (int h = {together // 2}; h; h /= 2) {{", "    __syncthreads();", "    if (lane < h) {"]
        for k, step in reductions.items():
            text = applied(step.function.split()[1], step.dtype, f"s{k}[t]", f"s{k}[{half}]")
            self.lines.append(f"        s{k}[t] = {text};")
        self.lines += ["    }", "}", "__syncthreads();"]
        first = f"t - lane * {gap}" if gap > 1 else "t - lane"
        for k, step in reductions.items():
            self.lines.append(f"const {register(step.dtype)} v{k} = s{k}[{first}];")

    # -------------------------------------------------------------------------------------- numbers

    def _decompose(self, name: str, start: int, stop: int) -> None:
        """Write the indices along some axes, given the number of the turn."""
        axes = self.loop.axes
        parts = [
            f"{self._indices[k]} = {name}"
            + (f" / {math.prod(axes[k + 1 : stop])}" if k + 1 < stop else "")
            + (f" % {axes[k]}" if k > start else "")
            for k in range(start, stop)
        ]
        if parts:
            self.lines.append(f"const {self._index} {', '.join(parts)};")

    def _at(self, place: Place, *further: str) -> str:
        """Return where a number lies, by the thread's indices."""
        steps = [(name, step // place.dtype.itemsize) for name, step in zip(self._indices, place.steps, strict=False)]
        terms = [name if step == 1 else f"{name} * {step}" for name, step in steps if step]
        return f"p{self.arguments[place.argument]}[{' + '.join([*terms, *further]) or 0}]"

    def _read(self, place: Place, *further: str) -> str:
        return read(place.dtype, self._at(place, *further))

    def _store(self, value: int | Number, place: Place, condition: str = "") -> None:
        self.lines.append(f"{condition}{self._at(place)} = {stored(place.dtype, self._named(value))};")

    def _named(self, operand: int | Number) -> str:
        return literal(operand) if isinstance(operand, Number) else f"v{operand}"

    def _value(self, number: int) -> None:
        """Write the variable that holds a value."""
        loads = self.loop.loads
        if number < len(loads):
            dtype, text = loads[number].dtype, self._read(loads[number])
        else:
            step = self.loop.operations[number - len(loads)]
            if step.function == "product":
                self._product(number, step)
                return
            dtype, text = step.dtype, self._formula(step)
        self.lines.append(f"const {register(dtype)} v{number} = {text};")

    def _formula(self, step: Step) -> str:
        values = [self._named(o) for o in step.operands]
        if step.function == "take":  # an index beyond the end goes round, as CuPy's do
            (place,), (entries, distance) = step.places, step.along
            index = f"((long long){values[0]} % {entries} + {entries}) % {entries}"
            return self._read(place, f"{index} * {distance // place.dtype.itemsize}")
        return formula(step, self._dtype(step), values)

    def _dtype(self, step: Step) -> DType:
        return self.loop.dtype(step.operands[-1])

    def _product(self, number: int, step: Step) -> None:
        """Write a sum of few products, in their order."""
        terms, *distances = step.along
        dtype = step.dtype
        factors = [
            self._read(place, f"k * {distance // place.dtype.itemsize}")
            for place, distance in zip(step.places, distances, strict=True)
        ]
        text = applied("add", dtype, f"v{number}", applied("multiply", dtype, *factors))
        self.lines.append(f"{register(dtype)} v{number} = 0;")
        self.lines.append(f"for (int k = 0; k < {terms}; k++) v{number} = {text};")
