"""Recording a training step on the CPU, so that it can be replayed without allocating or dispatching.

A step that changes its arrays in place and takes no decision by a value does the same operations on the
same memory each time. It is run once on `Traced` arrays, which note every operation; `xpnet.backends.tape.plan`
then gives each intermediate result a place in memory that is kept, and the replay is a list of calls that
write there. The operations are NumPy's own, in the same order, so the numbers are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xpnet.typing import HostArray

View = Callable[[HostArray], HostArray]


class CannotRecord(Exception):
    """The step did something whose outcome depends on a value; it has to be run eagerly."""


@dataclass(eq=False)
class Buffer:
    """A piece of memory: an array of the caller ("given"), a constant, or an intermediate result."""

    array: HostArray
    kind: str = "result"


@dataclass(eq=False)
class Operation:
    """One recorded call. `kind` says how the replay calls it; `target` is where the result goes."""

    kind: str  # "elementwise", "matmul", "reduce", "take", "copy", "where", "other"
    function: Any
    operands: list[Any]  # Traced arrays and Python numbers
    target: Traced
    options: tuple[Any, ...] = ()


@dataclass(eq=False)
class Tape:
    """The operations of one step, in order."""

    operations: list[Operation] = field(default_factory=list)

    def given(self, array: HostArray) -> Traced:
        """Return a stand-in for an array of the caller."""
        return Traced(self, Buffer(array, "given"), (), array)

    def constant(self, array: Any) -> Traced:
        """Return a stand-in for an array that never changes."""
        array = np.asarray(array)
        return Traced(self, Buffer(array, "constant"), (), array)

    def record(
        self, kind: str, function: Any, operands: list[Any], result: Any, options: tuple[Any, ...] = ()
    ) -> Traced:
        """Note an operation whose outcome here was `result`, and return a stand-in for its outcomes."""
        arrays = [o for o in operands if isinstance(o, Traced)]
        if all(o.buffer.kind == "constant" for o in arrays):
            return self.constant(result)
        result = np.asarray(result)
        traced = Traced(self, Buffer(result), (), result)
        self.operations.append(Operation(kind, function, operands, traced, options))
        return traced

    def write(self, kind: str, function: Any, operands: list[Any], target: Traced) -> None:
        """Note an operation that changes `target` in place."""
        if target.buffer.kind == "constant":
            raise CannotRecord("a constant is changed in place")
        self.operations.append(Operation(kind, function, operands, target))


def _binary(ufunc: np.ufunc) -> tuple[Any, Any, Any]:
    def forward(self: Traced, other: Any) -> Any:
        return self.tape_elementwise(ufunc, self, other)

    def reflected(self: Traced, other: Any) -> Any:
        return self.tape_elementwise(ufunc, other, self)

    def in_place(self: Traced, other: Any) -> Traced:
        if np.result_type(self.array, getattr(other, "array", other)) != self.array.dtype:
            raise CannotRecord("an in-place operation would change the data type")
        self.tape.write("elementwise", ufunc, [self, other], self)
        return self

    return forward, reflected, in_place


class Traced:
    """Stands in for an array while a step is recorded: a buffer, and the view of it that is meant."""

    __slots__ = ("array", "buffer", "path", "tape")
    __array_ufunc__ = None  # NumPy's own functions refuse it, instead of making an array of objects

    def __init__(self, tape: Tape, buffer: Buffer, path: tuple[View, ...], array: HostArray) -> None:
        self.tape, self.buffer, self.path, self.array = tape, buffer, path, array

    dtype = property(lambda self: self.array.dtype)
    shape = property(lambda self: self.array.shape)
    ndim = property(lambda self: self.array.ndim)
    size = property(lambda self: self.array.size)
    device = property(lambda self: "cpu")
    T = property(lambda self: self.view(lambda a: a.T))
    mT = property(lambda self: self.view(lambda a: np.swapaxes(a, -1, -2)))

    def view(self, f: View) -> Traced:
        """Return another view of the same memory, or a copy where NumPy has to make one."""
        array = f(self.array)
        if array.size and not np.may_share_memory(array, self.array):
            return self.tape.record("other", f, [self], array)
        return Traced(self.tape, self.buffer, (*self.path, f), array)

    def __getitem__(self, key: Any) -> Traced:
        if any(isinstance(k, Traced | np.ndarray | list) for k in (key if isinstance(key, tuple) else (key,))):
            raise CannotRecord("indexing by an array")
        whole = key if isinstance(key, tuple) else (key,)
        if not any(k is Ellipsis for k in whole):
            whole = (*whole, ...)  # so that a single number comes as a view of it
        return self.view(lambda a: a[whole])

    def __setitem__(self, key: Any, value: Any) -> None:
        target = self[key]
        if isinstance(value, Traced) and _same(value.array, target.array) and value.buffer is target.buffer:
            return  # a[k] += b comes here a second time, with the result already in place
        self.tape.write("copy", np.copyto, [value], target)

    def tape_elementwise(self, ufunc: np.ufunc, *operands: Any) -> Any:
        if not all(isinstance(o, Traced | int | float | np.generic | np.ndarray) for o in operands):
            return NotImplemented
        return elementwise(self.tape, ufunc, *operands)

    def __bool__(self) -> bool:
        raise CannotRecord("a decision by a value")

    def _host(self, *_: Any) -> Any:
        raise CannotRecord("a value is read back to the host")

    __float__ = __int__ = __index__ = __complex__ = __array__ = __iter__ = __len__ = _host
    __hash__ = None  # type: ignore[assignment]

    __add__, __radd__, __iadd__ = _binary(np.add)
    __sub__, __rsub__, __isub__ = _binary(np.subtract)
    __mul__, __rmul__, __imul__ = _binary(np.multiply)
    __truediv__, __rtruediv__, __itruediv__ = _binary(np.true_divide)
    __pow__, __rpow__, __ipow__ = _binary(np.power)
    __floordiv__, __rfloordiv__, __ifloordiv__ = _binary(np.floor_divide)
    __mod__, __rmod__, __imod__ = _binary(np.remainder)
    __and__, __rand__, __iand__ = _binary(np.bitwise_and)
    __or__, __ror__, __ior__ = _binary(np.bitwise_or)
    __xor__, __rxor__, __ixor__ = _binary(np.bitwise_xor)
    __lshift__, __rlshift__, __ilshift__ = _binary(np.left_shift)
    __rshift__, __rrshift__, __irshift__ = _binary(np.right_shift)
    __gt__, __lt__ = _binary(np.greater)[0], _binary(np.less)[0]
    __ge__, __le__ = _binary(np.greater_equal)[0], _binary(np.less_equal)[0]
    __eq__, __ne__ = _binary(np.equal)[0], _binary(np.not_equal)[0]

    def __neg__(self) -> Any:
        return elementwise(self.tape, np.negative, self)

    def __abs__(self) -> Any:
        return elementwise(self.tape, np.absolute, self)

    def __invert__(self) -> Any:
        return elementwise(self.tape, np.invert, self)

    def __matmul__(self, other: Any) -> Any:
        return product(self.tape, self, other)


def _same(a: HostArray, b: HostArray) -> bool:
    return a.ctypes.data == b.ctypes.data and a.shape == b.shape and a.strides == b.strides and a.dtype == b.dtype


def _value(a: Any) -> Any:
    return a.array if isinstance(a, Traced) else a


def _wrap(tape: Tape, a: Any) -> Any:
    return tape.constant(a) if isinstance(a, np.ndarray | np.generic) else a


def elementwise(tape: Tape, ufunc: np.ufunc, *operands: Any) -> Traced:
    """Record a function of each number alone. Python numbers take the data type of the array beside them."""
    operands = tuple(_wrap(tape, o) for o in operands)
    return tape.record("elementwise", ufunc, list(operands), ufunc(*map(_value, operands)))


def matmul(tape: Tape, a: Any, b: Any) -> Traced:
    """Record the backend's matrix product: that of half precision goes by way of float32."""
    a, b = _wrap(tape, a), _wrap(tape, b)
    if a.dtype == b.dtype == np.float16:
        return astype(tape, product(tape, astype(tape, a, np.float32), astype(tape, b, np.float32)), np.float16)
    return product(tape, a, b)


def product(tape: Tape, a: Any, b: Any) -> Traced:
    """Record NumPy's matrix product."""
    a, b = _wrap(tape, a), _wrap(tape, b)
    return tape.record("matmul", np.matmul, [a, b], np.matmul(_value(a), _value(b)))


def astype(tape: Tape, x: Traced, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Traced:
    """Record a conversion."""
    if x.dtype == np.dtype(dtype) and not copy:
        return x
    return tape.record("copy", np.copyto, [x], x.array.astype(dtype))


def reduce(ufunc: np.ufunc) -> Callable[..., Traced]:
    """Return a recorder of sums, maxima and the like."""

    def recorder(
        tape: Tape, x: Traced, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False
    ) -> Traced:  # fmt: skip
        result = ufunc.reduce(x.array, axis=axis, dtype=dtype, keepdims=keepdims)
        return tape.record("reduce", ufunc, [x], result, (axis, np.asarray(result).dtype, keepdims))

    return recorder


def take(tape: Tape, x: Any, indices: Any, /, *, axis: int | None = None) -> Traced:
    """Record a selection of rows by a vector of indices."""
    x, indices = _wrap(tape, x), _wrap(tape, indices)
    axis = 0 if axis is None else axis
    return tape.record("take", np.take, [x, indices], np.take(x.array, indices.array, axis=axis), (axis,))


def where(tape: Tape, condition: Any, a: Any, b: Any, /) -> Traced:
    """Record a choice between two arrays."""
    operands = [_wrap(tape, o) for o in (condition, a, b)]
    return tape.record("where", np.where, operands, np.where(*map(_value, operands)))


VIEWS: dict[str, Callable[..., View]] = {
    "reshape": lambda shape, *, copy=None: lambda a: a.reshape(shape),
    "permute_dims": lambda axes: lambda a: np.transpose(a, axes),
    "expand_dims": lambda *, axis=0: lambda a: np.expand_dims(a, axis),
    "squeeze": lambda axis: lambda a: np.squeeze(a, axis),
    "broadcast_to": lambda shape: lambda a: np.broadcast_to(a, shape),
    "matrix_transpose": lambda: lambda a: np.swapaxes(a, -1, -2),
}

UFUNCS: dict[str, np.ufunc] = {
    name: getattr(np, numpy_name)
    for name, numpy_name in {
        **{n: n for n in (
            "add", "subtract", "multiply", "divide", "remainder", "floor_divide", "maximum", "minimum",
            "exp", "expm1", "log", "log1p", "log2", "log10", "logaddexp", "sqrt", "square", "reciprocal", "hypot",
            "sin", "cos", "tan", "sinh", "cosh", "tanh", "sign", "signbit", "copysign", "negative", "positive",
            "greater", "less", "greater_equal", "less_equal", "equal", "not_equal", "floor", "ceil", "trunc",
            "logical_and", "logical_or", "logical_not", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor",
            "isfinite", "isnan", "isinf",
        )},
        "abs": "absolute", "pow": "power", "asin": "arcsin", "acos": "arccos", "atan": "arctan", "atan2": "arctan2",
        "sinh": "sinh", "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh", "bitwise_invert": "invert",
        "bitwise_left_shift": "left_shift", "bitwise_right_shift": "right_shift",
    }.items()
}  # fmt: skip

RECORDERS: dict[str, Callable[..., Traced]] = {
    "matmul": matmul,
    "astype": astype,
    "sum": reduce(np.add),
    "max": reduce(np.maximum),
    "min": reduce(np.minimum),
    "prod": reduce(np.multiply),
    "take": take,
    "where": where,
}

CREATION = ("ones_like", "zeros_like", "full_like", "empty_like")
"""What these make depends on the shape alone, so it is a constant."""


class TraceNamespace:
    """The array namespace that a step is handed while it is recorded."""

    def __init__(self, tape: Tape, xp: Any) -> None:
        self._tape, self._xp = tape, xp

    def __getattr__(self, name: str) -> Any:
        original = getattr(self._xp, name)
        if not callable(original) or isinstance(original, type):
            return original
        function = self._recorder(name, original)
        self.__dict__[name] = function
        return function

    def _recorder(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        tape = self._tape

        def call(*args: Any, **options: Any) -> Any:
            if not any(isinstance(a, Traced) for a in _flat(args)):
                return _wrap(tape, original(*args, **options))
            if name in UFUNCS and not options:
                return elementwise(tape, UFUNCS[name], *args)
            if name in RECORDERS:
                return RECORDERS[name](tape, *args, **options)
            if name in VIEWS:
                return args[0].view(VIEWS[name](*args[1:], **options))
            if name in CREATION:
                return tape.constant(original(*map(_value, args), **options))
            return self._other(original, args, options)

        return call

    def _other(self, original: Callable[..., Any], args: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        """Record a function that the replay calls as it is."""
        if any(isinstance(v, Traced) for v in options.values()):
            raise CannotRecord("an array passed by keyword")
        slots: list[Traced] = [a for a in _flat(args) if isinstance(a, Traced)]

        def function(*arrays: HostArray) -> Any:
            rest = iter(arrays)

            def fill(a: Any) -> Any:
                if isinstance(a, list | tuple):
                    return type(a)(map(fill, a))
                return next(rest) if isinstance(a, Traced) else a

            return original(*map(fill, args), **options)

        result = function(*(s.array for s in slots))
        if not isinstance(result, np.ndarray | np.generic):
            if isinstance(result, bool | int | float | str | np.dtype) or result is None:
                return result
            raise CannotRecord(f"{original} returns {type(result)}")
        return self._tape.record("other", function, list(slots), result)


def _flat(items: Any) -> list[Any]:
    return [x for item in items for x in (_flat(item) if isinstance(item, list | tuple) else [item])]


def record(step: Callable[[Any, Mapping[str, Any]], None], xp: Any, arrays: Mapping[str, HostArray]) -> Tape:
    """Run `step` on stand-ins for `arrays`, which stay as they are, and return what it would do."""
    tape = Tape()
    with np.errstate(all="ignore"):
        step(TraceNamespace(tape, xp), {name: tape.given(array) for name, array in arrays.items()})
    return tape
