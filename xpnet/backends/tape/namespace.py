"""The array namespace that a step is handed while it is recorded."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from xpnet.backends.host import host
from xpnet.backends.tape.functions import OTHERS, RECORDERS, flat, mapped, other
from xpnet.backends.tape.hollow import small
from xpnet.backends.tape.operators import is_elementwise
from xpnet.backends.tape.traced import EMPTY, Tape, Traced

VIEWS = ("broadcast_to", "expand_dims", "flip", "matrix_transpose", "moveaxis", "permute_dims", "squeeze")
QUESTIONS = ("result_type", "can_cast", "finfo", "iinfo", "isdtype")
"""What is answered by data types alone."""
FILLED = ("zeros", "ones", "full", "empty", "zeros_like", "ones_like", "full_like", "empty_like")
"""What makes arrays of one number; what an empty array consists of is nobody's business."""
ZEROS = ("zeros", "empty", "zeros_like", "empty_like")
"""Those of them that are often large, and take no memory on a tape."""


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
                return self._call(name, found, mapped(self._owned, args), options)
            except (TypeError, AttributeError) as error:
                self._tape.refuse(f"xp.{name} is called in a way that is not known here ({error})")

        self.__dict__[name] = function
        return function

    def _call(self, name: str, found: Any, args: Any, options: dict[str, Any]) -> Any:
        tape = self._tape
        original = getattr(host, name.replace("empty", "zeros"))
        ufunc = getattr(np, name, original)
        if options and any(isinstance(v, (Traced, *tape.array_types)) for v in flat(options.values())):
            tape.refuse(f"xp.{name} is handed an array by keyword")
        if name in ZEROS and args:
            return self._zeros(name, original, *args, **options)
        if not any(type(a) is Traced for a in flat(args)):
            return mapped(partial(self._made, name), original(*args, **options))
        if is_elementwise(ufunc) and not options and len(args) == ufunc.nin:
            return tape.elementwise(ufunc, *args)
        recorded = RECORDERS[name](tape, *args, **options) if name in RECORDERS else None
        if recorded is not None:
            return recorded
        if name in VIEWS:
            return args[0].view(lambda a: original(a, *args[1:], **options))
        if name in FILLED:
            return self._made(name, original(args[0].array.view(np.ndarray), *args[1:], **options))
        if name in QUESTIONS:
            return original(*(a.dtype if isinstance(a, Traced) else a for a in args), **options)
        if name not in OTHERS:
            tape.refuse(f"xp.{name} is not known here")
        return other(tape, original, found, args, options)

    def _owned(self, item: Any) -> Any:
        """Return a stand-in for an array of NumPy's or of the device, and anything else as it is."""
        return self._tape.owned(item) if isinstance(item, self._tape.array_types) else item

    def _zeros(self, name: str, original: Any, like: Any, *args: Any, **options: Any) -> Any:
        """Return a constant for new zeros of the shape of `like`, an array, or of the shape `like`."""
        if name.endswith("_like"):
            array = like.array if type(like) is Traced else np.asarray(like)
            return self._made(name, self._tape.zeros(array.shape, original(small(array), *args, **options)))
        shape = (like,) if isinstance(like, int | np.integer) else tuple(like)
        return self._made(name, self._tape.zeros(shape, original((), *args, **options)))

    def _made(self, name: str, result: Any) -> Any:
        """Return a constant for an array that the function `name` made of no other."""
        if not isinstance(result, np.ndarray | np.generic):
            return result
        filled = name in FILLED and result.size
        return self._tape.constant(result, EMPTY if "empty" in name else result.flat[0].item() if filled else None)
