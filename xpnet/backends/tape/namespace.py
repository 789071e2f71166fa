"""The array namespace that a step is handed while it is recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import array_api_compat.numpy as host
import numpy as np

from xpnet.backends.tape.functions import OTHERS, RECORDERS, flat, other
from xpnet.backends.tape.operators import View
from xpnet.backends.tape.traced import EMPTY, Tape, Traced

UFUNCS: dict[str, np.ufunc] = {
    name: getattr(np, numpy_name)
    for name, numpy_name in {
        **{n: n for n in (
            "add", "subtract", "multiply", "divide", "remainder", "floor_divide", "maximum", "minimum",
            "exp", "expm1", "log", "log1p", "log2", "log10", "logaddexp", "sqrt", "square", "reciprocal", "hypot",
            "sin", "cos", "tan", "sinh", "cosh", "tanh", "sign", "signbit", "copysign", "negative", "positive",
            "greater", "less", "greater_equal", "less_equal", "equal", "not_equal", "floor", "ceil", "trunc",
            "logical_and", "logical_or", "logical_not", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor",
            "isfinite", "isnan", "isinf", "nextafter",
        )},
        "abs": "absolute", "pow": "power", "asin": "arcsin", "acos": "arccos", "atan": "arctan", "atan2": "arctan2",
        "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh", "bitwise_invert": "invert",
        "bitwise_left_shift": "left_shift", "bitwise_right_shift": "right_shift",
    }.items()
}  # fmt: skip

VIEWS: dict[str, Callable[..., View]] = {
    "permute_dims": lambda axes: lambda a: np.transpose(a, axes),
    "moveaxis": lambda source, destination: lambda a: np.moveaxis(a, source, destination),
    "expand_dims": lambda *, axis=0: lambda a: np.expand_dims(a, axis),
    "squeeze": lambda axis: lambda a: np.squeeze(a, axis),
    "broadcast_to": lambda shape: lambda a: np.broadcast_to(a, shape),
    "matrix_transpose": lambda: lambda a: np.swapaxes(a, -1, -2),
    "flip": lambda *, axis=None: lambda a: np.flip(a, axis),
}

QUESTIONS = ("result_type", "can_cast", "finfo", "iinfo", "isdtype")
"""What is answered by data types alone."""
EMPTIES = {"empty": "zeros", "empty_like": "zeros_like"}
FILLED = {name: name for name in ("zeros", "ones", "full", "zeros_like", "ones_like", "full_like")} | EMPTIES
"""What makes arrays of one number, and how: what an empty array consists of is nobody's business."""


class TraceNamespace:
    """Records what is called: functions of arrays are noted, what is made without any array is a constant.

    Parameters
    ----------
    tape : Tape
    xp : namespace
        The backend's, whose functions the replay is going to call.
    """

    def __init__(self, tape: Tape, xp: Any) -> None:
        self._tape, self._xp = tape, xp

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._xp, name)
        if not callable(found) or isinstance(found, type):
            return found

        def function(*args: Any, **options: Any) -> Any:
            try:
                return self._call(name, found, self._owned(args), options)
            except (TypeError, AttributeError) as error:
                self._tape.refuse(f"xp.{name} is called in a way that is not known here ({error})")

        self.__dict__[name] = function
        return function

    def _owned(self, item: Any) -> Any:
        """Return arguments with stand-ins for arrays of NumPy's and of the device."""
        if type(item) is Traced:
            return item
        if type(item) in (list, tuple):
            return type(item)(map(self._owned, item))
        return self._tape.owned(item) if isinstance(item, self._tape.array_types) else item

    def _call(self, name: str, found: Any, args: Any, options: dict[str, Any]) -> Any:
        tape = self._tape
        original = getattr(host, FILLED.get(name, name))
        if options and any(isinstance(v, (Traced, *tape.array_types)) for v in flat(options.values())):
            tape.refuse(f"xp.{name} is handed an array by keyword")
        if not any(type(a) is Traced for a in flat(args)):
            return self._made(original(*args, **options), name)
        if name in UFUNCS and not options and len(args) == UFUNCS[name].nin:
            return tape.elementwise(UFUNCS[name], *args)
        recorded = RECORDERS[name](tape, *args, **options) if name in RECORDERS else None
        if recorded is not None:
            return recorded
        if name in VIEWS:
            return args[0].view(VIEWS[name](*args[1:], **options))
        if name in FILLED:
            return self._made(original(args[0].array.view(np.ndarray), *args[1:], **options), name)
        if name in QUESTIONS:
            return original(*(a.dtype if isinstance(a, Traced) else a for a in args), **options)
        if name not in OTHERS:
            tape.refuse(f"xp.{name} is not known here")
        return other(tape, original, found, args, options)

    def _made(self, result: Any, name: str) -> Any:
        """Return a constant for an array that the function `name` made of no other."""
        if isinstance(result, list | tuple):
            return type(result)(self._made(item, name) for item in result)
        if not isinstance(result, np.ndarray | np.generic):
            return result
        filled = name in FILLED and result.size
        return self._tape.constant(result, EMPTY if name in EMPTIES else result.flat[0].item() if filled else None)
