"""How the functions of the array API standard are recorded."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from xpnet.backends.tape.hollow import small, zeros_like
from xpnet.backends.tape.traced import Tape, Traced

OTHERS = frozenset((
    "all", "any", "argmax", "argmin", "argsort", "clip", "count_nonzero", "cumulative_prod", "cumulative_sum", "diff",
    "dot", "einsum", "mean", "outer", "pad", "repeat", "roll", "round", "searchsorted", "sort", "std",
    "take_along_axis", "tensordot", "tile", "tril", "triu", "var", "vecdot",
))  # fmt: skip
"""Functions that the replay calls as they are. Each gives one new array, whose shape depends on shapes alone."""
COUNTED = ("pad", "repeat", "tile")
"""Those among them of which that is so if only the first argument is an array."""


@dataclass(frozen=True)
class Call:
    """A function with all its arguments but the arrays, for which there are places."""

    function: Callable[..., Any]
    arguments: Any
    options: dict[str, Any]

    @property
    def __name__(self) -> str:
        return self.function.__name__

    def __call__(self, *arrays: Any) -> Any:
        rest = iter(arrays)
        return self.function(*mapped(lambda a: next(rest) if a is PLACE else a, self.arguments), **self.options)


PLACE = type("Place", (), {"__repr__": lambda self: "array"})()


def flat(items: Any) -> list[Any]:
    """Return the entries of nested lists and tuples."""
    return [x for item in items for x in (flat(item) if type(item) in (list, tuple) else [item])]


def mapped(f: Callable[[Any], Any], items: Any) -> Any:
    """Return nested lists and tuples with `f` of their entries."""
    return type(items)(mapped(f, item) for item in items) if type(items) in (list, tuple) else f(items)


def other(tape: Tape, host: Any, function: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Traced:
    """Record a call of `function`, whose outcome looks like that of `host` for zeros."""
    slots = [a for a in flat(arguments) if isinstance(a, Traced)]
    if host.__name__ in COUNTED and slots != [arguments[0]]:
        tape.refuse(f"the shape of what xp.{host.__name__} returns depends on values")
    places = mapped(lambda a: PLACE if isinstance(a, Traced) else a, arguments)
    constant = all(a.buffer.kind == "constant" for a in slots)
    examples = [a.array if constant else zeros_like(a.array) for a in slots]
    result = Call(host, places, options)(*examples)
    if not isinstance(result, np.ndarray | np.generic):
        tape.refuse(f"xp.{host.__name__} returns a {type(result).__name__}")
    if any(np.may_share_memory(result, example) for example in examples):
        tape.refuse(f"xp.{host.__name__} returns a view")
    call = Call(function, places, options)
    return tape.record("other", call, slots, lambda *_: result, np.shape(result))


def astype(tape: Tape, x: Traced, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Traced:
    """Record a conversion."""
    return x if x.dtype == np.dtype(dtype) and not copy else tape.copy(x, dtype)


def asarray(tape: Tape, x: Traced, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Traced:
    """Record what gives the same array, or a copy."""
    return astype(tape, x, x.dtype if dtype is None else dtype, copy=bool(copy))


def matmul(tape: Tape, a: Traced, b: Traced, /) -> Traced:
    """Record the backend's matrix product: on the host that of half precision goes by way of float32."""
    if tape.on_host and a.dtype == b.dtype == np.float16:
        return tape.copy(matmul(tape, tape.copy(a, np.float32), tape.copy(b, np.float32)), np.float16)
    return tape.product(a, b, "tiles")


def take(tape: Tape, x: Traced, indices: Any, /, *, axis: int | None = None) -> Traced:
    """Record a selection along one axis."""
    x = reshape(tape, x, (-1,)) if axis is None else x
    axis = range(x.ndim)[axis or 0]
    indices = indices if isinstance(indices, Traced) else tape.constant(indices)
    if indices.buffer.kind == "constant":
        range_ = range(-x.shape[axis], x.shape[axis])
        if indices.size and not (int(indices.array.min()) in range_ and int(indices.array.max()) in range_):
            raise IndexError(f"take: an index is out of bounds for axis {axis} with size {x.shape[axis]}")
    shape = x.shape[:axis] + indices.shape + x.shape[axis + 1 :]
    return tape.record("take", np.take, [x, indices], functools.partial(np.take, axis=axis), shape, (axis,))


def concat(tape: Tape, arrays: Sequence[Any], /, *, axis: int | None = 0) -> Traced:
    """Record arrays one after another, each copied to its part of a new one."""
    parts = [tape.operand(a) if axis is not None else reshape(tape, tape.operand(a), (-1,)) for a in arrays]
    axis = range(parts[0].ndim)[axis or 0]
    if all(a.buffer.kind == "constant" for a in parts):
        return tape.constant(np.concatenate([a.array for a in parts], axis))
    around = {a.shape[:axis] + a.shape[axis + 1 :] for a in parts}
    if len(around) > 1:
        raise ValueError(f"concat: arrays of shapes {[a.shape for a in parts]} do not fit together along axis {axis}")
    ends = np.cumsum([a.shape[axis] for a in parts]).tolist()
    shape = (*parts[0].shape[:axis], ends[-1], *parts[0].shape[axis + 1 :])
    whole = tape.result(shape, np.concatenate([small(a.array) for a in parts], axis))
    for a, start, end in zip(parts, [0, *ends], ends, strict=False):
        whole[(slice(None),) * axis + (slice(start, end), ...)] = a
    return whole


def stack(tape: Tape, arrays: Sequence[Any], /, *, axis: int = 0) -> Traced:
    """Record arrays side by side along a new axis."""
    parts = [tape.operand(a) for a in arrays]
    axis = range(parts[0].ndim + 1)[axis]
    return concat(tape, [a.view(lambda a: np.expand_dims(a, axis)) for a in parts], axis=axis)


def where(tape: Tape, condition: Any, a: Any, b: Any, /) -> Traced:
    """Record a choice between two arrays. A condition that is not boolean asks what is not zero."""
    if not isinstance(condition, Traced):
        condition = tape.constant(bool(condition))
    elif condition.dtype != np.bool:
        condition = tape.elementwise(np.not_equal, condition, 0)
    operands = [condition, tape.operand(a), tape.operand(b)]
    shape = np.broadcast_shapes(*(o.shape for o in operands if isinstance(o, Traced)))
    return tape.record("where", np.where, operands, np.where, shape)


def reshape(tape: Tape, x: Traced, /, shape: Any, *, copy: bool | None = None) -> Traced:
    """Record another shape: a view, or a copy where NumPy has to make one."""
    try:
        x.array.reshape(shape, copy=False)
    except ValueError as error:
        if "copy" not in str(error) or copy is False:
            raise
        copy = True
    whole: Traced = (tape.copy(x, x.dtype, "C") if copy else x).view(lambda a: a.reshape(shape))
    return whole


def unstack(tape: Tape, x: Traced, /, *, axis: int = 0) -> tuple[Traced, ...]:
    """Record the parts of an array along one axis."""
    front = x.view(lambda a: np.moveaxis(a, axis, 0))
    return tuple(front[k, ...] for k in range(len(front)))


def broadcast_arrays(tape: Tape, *arrays: Traced) -> list[Traced]:
    """Record views of one shape."""
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    return [a.view(lambda a: np.broadcast_to(a, shape)) for a in arrays]


def axes_of(x: Traced, axis: Any) -> tuple[int, ...]:
    """Return the axes that are meant, each from 0 on."""
    return normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim)


def reduce(ufunc: np.ufunc) -> Callable[..., Traced]:
    """Return a recorder of sums, maxima and the like."""

    def recorder(tape: Tape, x: Traced, /, axis: Any = None, *, dtype: Any = None, keepdims: bool = False) -> Traced:
        axes = axes_of(x, axis)
        if ufunc.identity is None and not all(x.shape[k] for k in axes):
            raise ValueError(f"zero-size array to reduction operation {ufunc.__name__} which has no identity")
        shape = tuple(1 if k in axes else n for k, n in enumerate(x.shape) if keepdims or k not in axes)
        call = functools.partial(ufunc.reduce, axis=axis, dtype=dtype, keepdims=keepdims)
        result = np.asarray(call(small(x.array))).dtype
        return tape.record("reduce", ufunc, [x], call, shape, (axis, result, keepdims))

    return recorder


total = reduce(np.add)
EXACT = 2**24
"""Up to here float32 has all whole numbers."""


def divides(x: Traced, count: float) -> bool:
    """Say whether a division by `count` is rounded as NumPy does it, which divides float32 by float64 numbers."""
    return bool(x.dtype == np.float64 or (x.dtype == np.float32 and float(np.float32(count)) == count <= EXACT))


def mean(tape: Tape, x: Traced, /, axis: Any = None, *, keepdims: bool = False) -> Traced | None:
    """Record a mean as NumPy computes it, a sum and a division; None if it has other rules for these numbers."""
    count = prod(x.shape[k] for k in axes_of(x, axis))
    if not count or not divides(x, count):
        return None
    return tape.elementwise(np.true_divide, total(tape, x, axis, keepdims=keepdims), count)


def var(
    tape: Tape, x: Traced, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False
) -> Traced | None:
    """Record a variance as NumPy computes it, from the squares of the distances to the mean; None as for `mean`."""
    freedom = max(prod(x.shape[k] for k in axes_of(x, axis)) - correction, 0.0)
    centre = mean(tape, x, axis, keepdims=True) if divides(x, freedom) else None
    if centre is None:
        return None
    difference = x - centre
    squares = total(tape, difference * difference, axis, keepdims=keepdims)
    return tape.elementwise(np.true_divide, squares, float(freedom))


def std(tape: Tape, x: Traced, /, **options: Any) -> Traced | None:
    """Record the root of a variance."""
    variance = var(tape, x, **options)
    return None if variance is None else tape.elementwise(np.sqrt, variance)


RECORDERS: dict[str, Callable[..., Any]] = {
    "asarray": asarray, "astype": astype, "broadcast_arrays": broadcast_arrays, "concat": concat, "matmul": matmul,
    "max": reduce(np.maximum), "mean": mean, "min": reduce(np.minimum), "prod": reduce(np.multiply),
    "reshape": reshape, "stack": stack, "std": std, "sum": total, "take": take, "unstack": unstack, "var": var,
    "where": where,
}  # fmt: skip
