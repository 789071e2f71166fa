"""What `xpnet.check_gradients` differentiates: a scalar function of named arrays, and its claimed gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from xpnet.typing import HostArray

Point = Mapping[str, HostArray]
Slope = tuple[float, float, HostArray]
"""A central difference, a bound of its rounding error, and the derivative of every output."""

EPS = float(np.finfo(np.float64).eps)
STEPS = (1e-5, 1e-6, 1e-4, 1e-7)
"""Half widths of the central differences; the later ones are for functions that bend, or break, near the point."""


@dataclass(frozen=True)
class Problem:
    """The function L = sum(upstream * evaluate(arrays)) and what a backward pass says its gradients are."""

    target: str
    arrays: dict[str, HostArray]
    owners: dict[str, str]
    evaluate: Callable[[Point], HostArray]
    inner: Callable[[Point], list[HostArray]]
    """Every intermediate result, in which kinks are looked for."""
    upstream: HostArray
    gradients: dict[str, HostArray]
    rows: int
    weight: HostArray | None = None
    findings: list[str] = field(default_factory=list)

    @cached_property
    def unsettled(self) -> HostArray:
        """How much each output changes where arrays are rounded: no computation of it is better than that.

        Numbers that cancel out, as large ones do in a normalisation, leave no trace in the size of the outputs. All
        arrays are rounded; and then moved a little, seven steps of 1e-8 along a random way. Of the outputs there the
        sixth difference is what no smooth function explains: the rounding of what is computed in between, times
        sqrt(12!) / 6! = 30 (Moré and Wild, "Estimating computational noise", SIAM J. Sci. Comput. 33, 2011).
        """
        rng, y = np.random.default_rng(0), self.evaluate(self.arrays)
        changes = []
        for _ in range(4):
            rounded = {name: a * (1.0 + EPS * rng.choice((-1.0, 1.0), a.shape)) for name, a in self.arrays.items()}
            changes.append(np.abs(self.evaluate(rounded) - y))
            way = {name: 1e-8 * rng.standard_normal(a.shape) for name, a in self.arrays.items()}
            near = [self.evaluate({name: a + k * way[name] for name, a in self.arrays.items()}) for k in range(7)]
            changes.append(np.abs(np.diff(near, n=6, axis=0)[0]) / 30.0)
        return np.asarray(np.max(changes, axis=0))

    def both_sides(self, f: Callable[[Point], Any], name: str, move: HostArray, h: float) -> tuple[Any, Any, float]:
        """Return `f` at plus and at minus `h` along `move`, and the distance between the two points."""
        h = max(h, 64.0 * EPS * float(np.abs(self.arrays[name][move != 0]).max()))  # or rounding would leave no step
        plus, minus = self.arrays[name] + h * move, self.arrays[name] - h * move
        width = float(np.sum((plus - minus) * move) / np.sum(move * move))  # 2 h, but for rounding
        return f({**self.arrays, name: plus}), f({**self.arrays, name: minus}), width

    def slope(self, name: str, move: HostArray, h: float) -> Slope:
        """Return the central difference of L along `move`."""
        above, below, width = self.both_sides(self.evaluate, name, move, h)
        change = above - below
        # An output that has not moved has no rounding error, but a change of one unit of the largest may have hidden.
        sizes = np.abs(self.upstream) * (EPS * (np.abs(above) + np.abs(below)) + self.unsettled)
        noise = 4.0 * max(float(np.sum(sizes * (change != 0))), float(np.max(sizes, initial=0.0))) / width
        return float(np.sum(self.upstream * change)) / width, noise, change / width

    def on_kink(self, name: str, move: HostArray) -> bool:
        """Say whether some result has two different one-sided derivatives along `move` at this very point.

        Their difference is estimated with two step sizes. A kink gives the same number twice, a smooth function one
        that is ten times smaller at the smaller step, and rounding one that is ten times larger.
        """
        middle = self.inner(self.arrays)
        estimates = []
        for h in STEPS[:2]:
            above, below, width = self.both_sides(self.inner, name, move, h)
            estimates.append([np.abs(a - 2.0 * m + b) / width for a, m, b in zip(above, middle, below, strict=True)])
        for large, small, m in zip(*estimates, middle, strict=True):
            jump = large > 1e-7 * max(1.0, float(np.abs(m).max(initial=0.0)))
            if bool(np.any(jump & (small > 0.8 * large) & (small < 1.25 * large))):
                return True
        return False
