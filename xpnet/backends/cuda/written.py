"""A step as it is written, in which products and sums are those of its program, once compared."""

from __future__ import annotations

from functools import partial
from math import prod
from types import SimpleNamespace
from typing import Any

from xpnet.backends.cuda.compare import Counts, differs_in_product, differs_in_sum
from xpnet.backends.cuda.program import REDUCTIONS, FusedStep
from xpnet.backends.tape.functions import axes_of, divides
from xpnet.typing import Array

SUMS = ("matmul", "reduce")
"""Kinds of operations that add up."""


class Written:
    """The namespace of a step as it is written, in which products and sums are those of its program, once compared.

    It is another namespace of the same functions: a step takes it for one that is not to fuse anything by itself.
    """

    def __init__(self, program: FusedStep, xp: Any, sums: dict[int, Array], counts: Counts) -> None:
        self._program, self._xp, self._sums, self._counts = program, xp, sums, counts
        self._asked = [op for op in program.tape.operations if op.kind in SUMS]
        instead: dict[str, Any] = {name: partial(self._reduced, ufunc, name) for ufunc, name in REDUCTIONS.items()}
        instead |= {"matmul": self._matmul, "mean": self._mean, "var": self._var, "std": self._std}
        self.namespace = SimpleNamespace(**vars(xp) | instead)

    def _found(self, name: str, own: Array) -> Array:
        """Return what the program has for a product ("matmul") or a reduction whose outcome is `own`."""
        while self._asked:  # those that the step does not ask its namespace for, but an operator, are passed over
            op = self._asked.pop(0)
            if (op.function.__name__, op.target.shape, op.target.dtype) == (name, own.shape, own.dtype):
                # What is not needed is not in the program, and CuPy's own reductions are the same in both.
                found = self._sums.pop(id(op.target.buffer), None)  # it is asked for once
                return own if found is None else found.reshape(own.shape)
        return own

    def _matmul(self, a: Array, b: Array) -> Array:
        own = self._xp.matmul(a, b)
        found, name = self._found("matmul", own), f"a product of {a.shape} and {b.shape}"
        self._counts.add(name, differs_in_product(found, own, a, b, self._xp.matmul.tf32))
        return found

    def _reduced(self, ufunc: str, name: str, x: Array, /, **options: Any) -> Array:
        own = getattr(self._xp, name)(x, **options)
        found = self._found(ufunc, own)
        if found is not own:
            terms = x.size // max(own.size, 1)
            magnitude = abs(own) if ufunc == "multiply" else self._xp.sum(abs(x), **options)
            wrong = differs_in_sum(found, own, terms if ufunc in ("add", "multiply") else 0, magnitude)
            self._counts.add(f"{name} of {x.shape}", wrong)
        return found

    # Means and variances are recorded as sums and divisions, and so they are here.

    def _mean(self, x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
        count = prod(x.shape[k] for k in axes_of(x, axis))
        if not count or not divides(x, count):
            return self._xp.mean(x, axis=axis, keepdims=keepdims)
        return self._reduced("add", "sum", x, axis=axis, keepdims=keepdims) / count

    def _var(self, x: Array, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Array:
        count = prod(x.shape[k] for k in axes_of(x, axis))
        freedom = max(count - correction, 0.0)
        if not count or not divides(x, count) or not divides(x, freedom):
            return self._xp.var(x, axis=axis, correction=correction, keepdims=keepdims)
        difference = x - self._mean(x, axis=axis, keepdims=True)
        return self._reduced("add", "sum", difference * difference, axis=axis, keepdims=keepdims) / float(freedom)

    def _std(self, x: Array, /, **options: Any) -> Array:
        return self._xp.sqrt(self._var(x, **options))
