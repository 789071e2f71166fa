"""Where the arrays of a unit lie, seen from the axes that its loop goes over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xpnet.backends.tape.fusion import repeated
from xpnet.backends.tape.plan import inputs
from xpnet.backends.tape.record import Operation, Traced
from xpnet.typing import HostArray

Lies = Callable[[Traced], HostArray]
Axes = tuple[int | None, ...]


def steps_over(a: HostArray, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return an array's bytes from number to number along the axes of `shape`, over which it is repeated."""
    own = tuple(s if n > 1 else 0 for s, n in zip(a.strides, a.shape, strict=True))[-len(shape) :]
    return (0,) * (len(shape) - len(own)) + own if shape else ()


@dataclass(frozen=True)
class Space:
    """What a unit goes over: a shape without leading axes of one entry, and the axes that its reductions go along.

    If a reduction is done in parts, of `chunk` turns each, the last axis counts these; no array has it but the outcome.
    """

    shape: tuple[int, ...]
    reduced: tuple[int, ...] = ()
    chunk: int = 0

    @property
    def base(self) -> tuple[int, ...]:
        """The shape of arrays that have a number for each turn."""
        return self.shape[:-1] if self.chunk else self.shape

    def axes(self, shape: tuple[int, ...]) -> Axes | None:
        """Return which axis of the space each axis of `shape` is: of all of it, or of the outcome of a reduction.

        None stands for an axis of one entry; without any answer an array of this shape has no place here.
        """
        own, base = repeated(shape), self.base
        every = [*range(len(base))]
        kept = [k for k in every if k not in self.reduced]
        whole: list[tuple[list[int], list[int | None]]] = [([*base], [*every])]
        if self.chunk:
            whole.append(([self.shape[-1], *(base[k] for k in kept)], [len(base), *kept]))
        else:
            whole.append(([base[k] if k in kept else 1 for k in every], [k if k in kept else None for k in every]))
            whole.append(([base[k] for k in kept], [*kept]))
        for sizes, names in whole:
            if repeated(tuple(sizes)) == own:
                return (None,) * (len(shape) - len(own)) + tuple(names[len(names) - len(own) :])
        return None

    def steps(self, a: HostArray, shape: tuple[int, ...], axes: Axes) -> tuple[int, ...]:
        """Return an array's bytes from number to number along the axes of the space, if it is repeated over `shape`."""
        found = dict(zip(axes, steps_over(a, shape), strict=True))
        return tuple(found.get(k, 0) for k in range(len(self.shape)))


@dataclass(frozen=True)
class Access:
    """How an operation reads or writes an array: at the place of each turn, by `steps`, or anywhere (None)."""

    array: Traced
    steps: tuple[int, ...] | None
    written: bool = False


def accesses(op: Operation, space: Space, axes: Axes, lies: Lies) -> list[Access]:
    """Return what an operation touches, its operands first, if the axes of its target are `axes` of the space."""
    shape, found = op.target.shape, list[Access]()
    for k, a in enumerate(inputs(op)):
        steps: tuple[int, ...] | None = None
        if op.kind == "reduce":
            steps = space.steps(lies(a), a.shape, space.axes(a.shape) or ())
        elif op.kind == "take" and k == 1:
            steps = space.steps(lies(a), a.shape, axes[op.options[0] : op.options[0] + 1])
        elif op.kind not in ("take", "matmul"):
            steps = space.steps(lies(a), shape, axes)
        found.append(Access(a, steps))
    return [*found, Access(op.target, space.steps(lies(op.target), shape, axes), written=True)]
