"""What Python's own syntax does with an array that stands in for another: it is recorded, or it cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from xpnet.backends.tape.hollow import Hollow, power, same_view, small
from xpnet.typing import HostArray

View = Callable[[HostArray], HostArray]
READ = "a value is read back to the host"


class CannotRecord(Exception):
    """The step does something that a recording cannot repeat; it has to be run as it is written.

    Its arguments are why, and where.
    """

    def __str__(self) -> str:
        return "".join(self.args)


class NotRepeated(CannotRecord):
    """The step takes from the host what is another thing each time."""


def is_elementwise(function: Any) -> bool:
    """Say whether a function is one of NumPy's that compute each number of one result from those at its place."""
    known = isinstance(function, np.ufunc) and getattr(np, function.__name__, None) is function
    return known and function.signature is None and function.nout == 1


def _refuses(reason: str) -> Callable[..., Any]:
    def refuse(self: Any, *_: Any, **__: Any) -> Any:
        return self.tape.refuse(reason)

    return refuse


class Operators(NDArrayOperatorsMixin):
    """Operators, indices and questions. `xpnet.backends.tape.traced.Traced` adds what they are about.

    NumPy's own class makes a call of `__array_ufunc__` of each operator.
    """

    __slots__ = ()
    tape: Any
    buffer: Any
    path: tuple[View, ...]
    array: HostArray

    dtype = property(lambda self: self.array.dtype)
    shape = property(lambda self: self.array.shape)
    ndim = property(lambda self: self.array.ndim)
    size = property(lambda self: self.array.size)
    device = property(lambda self: "cpu")
    T = property(lambda self: self.view(lambda a: a.T))
    mT = property(lambda self: self.view(lambda a: np.swapaxes(a, -1, -2)))

    @property
    def is_number(self) -> bool:
        """Whether this stands for one of NumPy's numbers, as which results without axes come."""
        return bool(self.tape.on_host and self.buffer.single and not self.path)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # `isinstance` says of a stand-in what it says of the array
        return self.array.dtype.type if self.is_number else self.tape.array_type

    def view(self, f: View) -> Any:
        """Return another view of the same memory."""
        array = f(self.array)
        if isinstance(self.array, Hollow):
            array = array.view(Hollow)
        return type(self)(self.tape, self.buffer, (*self.path, f), array)  # type: ignore[call-arg]

    def _part(self, key: Any) -> tuple[Any, bool]:
        """Return a view of a part, and whether NumPy would give a number instead."""
        keys = key if isinstance(key, tuple) else (key,)
        if not all(k is None or k is Ellipsis or isinstance(k, slice) or _is_integer(k) for k in keys):
            self.tape.refuse("an index is an array or a mask")
        whole = keys if any(k is Ellipsis for k in keys) else (*keys, ...)
        part = self.view(lambda a: a[whole])
        return part, self.tape.on_host and whole is not keys and not part.array.ndim

    def __getitem__(self, key: Any) -> Any:
        part, is_number = self._part(key)
        return self.tape.copy(part, part.array.dtype, single=True) if is_number else part

    def __setitem__(self, key: Any, value: Any) -> None:
        target, _ = self._part(key)
        value = self.tape.operand(value)
        there = isinstance(value, Operators) and value.buffer is target.buffer and same_view(value.array, target.array)
        if not there:  # a[k] += b comes here a second time, with the result already in place
            self.tape.write("copy", np.copyto, [value], target)

    def change(self, ufunc: np.ufunc, *others: Any) -> Any:
        """Record an elementwise function that writes over its first argument."""
        operands = [self, *map(self.tape.operand, others)]
        if ufunc(*(small(o.array) if isinstance(o, Operators) else o for o in operands)).dtype != self.array.dtype:
            self.tape.refuse("an operation in place would change the data type")
        self.tape.write("elementwise", ufunc, operands, self)
        return self

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        in_place = options.pop("out", (None,))[0]
        plain = method == "__call__" and not options
        if plain and in_place is None and ufunc is np.matmul:
            return self.tape.product(*inputs)
        if not (plain and is_elementwise(ufunc) and (in_place is None or in_place is inputs[0])):
            self.tape.refuse(f"NumPy's own {ufunc.__name__} is called in a way that is not known here")
        if in_place is None or in_place.is_number:
            return self.tape.elementwise(ufunc, *inputs)
        return in_place.change(ufunc, *inputs[1:])

    def __array_function__(self, function: Any, *_: Any) -> Any:
        return self.tape.refuse(f"NumPy's own {function.__name__} is called, not that of xp")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # NumPy's ways to an array's memory
            return self.tape.refuse(READ)
        return self.tape.refuse(f"the attribute {name} of an array is not in the array API standard")

    def __len__(self) -> int:
        return len(self.array)

    __bool__ = _refuses("a value decides what is done")
    __float__ = __int__ = __index__ = __complex__ = __array__ = __hash__ = __reduce_ex__ = _refuses(READ)
    __iter__ = __contains__ = __str__ = __format__ = __round__ = __trunc__ = __floor__ = __ceil__ = __float__

    def __pow__(self, exponent: Any) -> Any:
        if self.is_number:
            return self._power_of_numbers(self, exponent)
        ufunc = power(self.array, exponent)
        return self.tape.elementwise(ufunc, *(self, exponent)[: ufunc.nin])

    def __rpow__(self, base: Any) -> Any:
        return self._power_of_numbers(base, self) if self.is_number else self.tape.elementwise(np.power, base, self)

    def __ipow__(self, exponent: Any) -> Any:
        if self.is_number:
            return self**exponent
        ufunc = power(self.array, exponent)
        return self.change(ufunc, *(exponent,)[: ufunc.nin - 1])

    def _power_of_numbers(self, *operands: Any) -> Any:
        own = [self.tape.operand(o) for o in operands]
        return self.tape.record("other", power_of_number, own, power_of_number, ())


def _is_integer(k: Any) -> bool:
    return isinstance(k, int | np.integer) and not isinstance(k, bool) and not isinstance(k, Operators)


def power_of_number(base: Any, exponent: Any) -> Any:
    """Return a power of a single number, which NumPy takes in another way than powers of arrays."""
    first, second = (a[()] if isinstance(a, np.ndarray) else a for a in (base, exponent))
    return first**second
