"""What a step finds on the host, and may change there: attributes, variables, counts, generators of random numbers.

What changes again in a second recording would change in each step, which is then not recorded. And what the recordings
have changed is put back, so that the step as it is written finds everything as it was.
"""

from __future__ import annotations

import pickle
import random
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from xpnet.backends.base import Backend
from xpnet.backends.tape.traced import Traced

OURS = ("xpnet", "array_api_compat", "cupy", "mpi4py")
"""Whose objects have nothing of a user's."""
NEUTRAL = ("_thread", "builtins", "collections", "functools", "numpy", "random")
"""Whose objects belong to those with whom they are found."""
VALUES = (str, int, float, complex, bytes, np.generic)
PASSED_BY = (Backend, Traced, ModuleType, *VALUES)
LEADING = ("__closure__", "__defaults__", "__kwdefaults__", "__self__", "__func__", "func", "cell_contents")
"""Attributes of functions, methods and their variables that lead on."""
MOST = 10_000
"""Things that are looked at."""
SMALL = 1 << 16
"""Bytes up to which the content of an array is looked at."""


def _named(function: FunctionType) -> dict[str, Any]:
    """Return the variables of its module that a function names."""

    def names(code: CodeType) -> Iterator[str]:
        yield from code.co_names
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                yield from names(constant)

    variables = function.__globals__
    return {name: variables[name] for name in names(function.__code__) if name in variables}


def _refill(container: dict[Any, Any], content: dict[Any, Any]) -> None:
    for name in container.keys() - content.keys():
        del container[name]
    container.update(content)


class Kind(NamedTuple):
    """Something that can change: how its content is got and put back, and whether that is compared as a whole."""

    get: Callable[[Any], Any]
    put: Callable[[Any, Any], Any]
    whole: bool = False


KINDS: dict[type, Kind] = {
    np.random.Generator: Kind(
        lambda g: g.bit_generator.state, lambda g, state: setattr(g.bit_generator, "state", state), True
    ),
    np.random.RandomState: Kind(np.random.RandomState.get_state, np.random.RandomState.set_state, True),
    random.Random: Kind(random.Random.getstate, random.Random.setstate, True),
    np.ndarray: Kind(np.copy, np.copyto, True),
    FunctionType: Kind(_named, lambda f, variables: f.__globals__.update(variables)),
    CellType: Kind(lambda cell: cell.cell_contents, lambda cell, content: setattr(cell, "cell_contents", content)),
    dict: Kind(dict, _refill),
    list: Kind(list, lambda items, content: items.__setitem__(slice(None), content)),
}


def _parts(item: Any, users: bool) -> list[Any]:
    """Return the objects that one goes on to from an object, and from its class if that is a user's own."""
    if isinstance(item, dict | list | tuple | set | frozenset | deque):
        return [*(item.values() if isinstance(item, dict) else item)]
    if isinstance(item, type):
        return [*item.__bases__, *vars(item).values()] if users else []
    parts = [getattr(item, name, None) for name in LEADING if hasattr(type(item), name)]
    if users:
        slots = (name for cls in type(item).__mro__ for name in vars(cls).get("__slots__", ()))
        parts += [type(item), *(getattr(item, name, None) for name in slots)]
        parts += _named(item).values() if isinstance(item, FunctionType) else ()
    return [*parts, getattr(item, "__dict__", None)]


class Surroundings:
    """The user's things that a step can get at, and what they are now.

    Attributes
    ----------
    facts : list
        What they are, for comparison.
    keeps : bool
        Whether an array of a recording is among them.
    """

    def __init__(self, step: Any) -> None:
        self.facts: list[Any] = []
        self.keeps, self._users = False, False
        self._saved: list[tuple[Kind, Any, Any]] = []
        self._seen: set[int] = set()
        passed = [(step, False)]  # kept to the end: something new could get the number of what is gone
        self._walk(passed)
        if self._users:  # whose code may draw from the generators that all share; other threads do that at any time
            self._walk([(random.random, True), (np.random.random, True)])

    def _walk(self, queue: list[tuple[Any, bool]]) -> None:
        """Look at objects, of which it is known whether they are a user's, and at all to which they lead on."""
        for item, own in islice(queue, MOST):  # it becomes longer meanwhile
            cls = type(item)
            if own:
                self.keeps = self.keeps or cls is Traced
                self.facts.append(repr(item) if issubclass(cls, VALUES) else cls.__name__)
            if id(item) in self._seen or issubclass(cls, PASSED_BY):
                continue
            if cls is CellType and item == CellType():  # which is still empty
                continue
            self._seen.add(id(item))
            module = str((item if issubclass(cls, FunctionType | type) else cls).__module__).partition(".")[0]
            neutral = module in NEUTRAL
            own = own if neutral else module not in OURS
            if own:
                self._users = True
                self._save(item)
            queue += [(part, own) for part in _parts(item, own and not neutral)]

    def _save(self, item: Any) -> None:
        kind = next((KINDS[cls] for cls in type(item).__mro__ if cls in KINDS), None)
        is_array = isinstance(item, np.ndarray)
        if kind is None or (is_array and (item.nbytes > SMALL or not item.flags.writeable or item.dtype.hasobject)):
            return
        content = kind.get(item)
        self._saved.append((kind, item, content))
        if kind.whole:
            self.facts.append(pickle.dumps(content))

    def restore(self) -> None:
        """Put back what they were."""
        for kind, item, content in self._saved:
            kind.put(item, content)
