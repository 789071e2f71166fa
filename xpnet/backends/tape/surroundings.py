"""What a step finds on the host, and may change there: attributes, lists, counts, generators of random numbers.

What changes again in a second recording would change in each step, which is then not recorded. And what the recordings
have changed is put back, so that the step as it is written finds everything as it was.
"""

from __future__ import annotations

import pickle
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from xpnet.backends.tape.traced import Traced

OURS = ("xpnet", "array_api_compat")
NEUTRAL = ("builtins", "collections", "functools", "numpy", "random")
"""Whose objects belong to those with whom they are found."""
PASSED_BY = (Traced, ModuleType, type, str, int, float, type(None))
MOST = 5_000
"""Objects that are looked at."""
SMALL = 1 << 16
"""Bytes up to which the content of an array is looked at."""


class Named:
    """The variables of a module that a function names, or the attributes of an object that keeps them in slots."""

    def __init__(self, names: Iterable[str], get: Callable[[str], Any], put: Callable[[str, Any], Any]) -> None:
        self.names, self.get, self.put = dict.fromkeys(names), get, put

    def now(self) -> dict[str, Any]:
        """Return what they are."""
        return {name: value for name in self.names if (value := self.get(name)) is not None}

    def restore(self, values: dict[str, Any]) -> None:
        """Let them be what they were."""
        for name, value in values.items():
            self.put(name, value)


def _variables(names: Iterable[str], module: dict[str, Any]) -> Named:
    return Named(names, module.get, module.__setitem__)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _refill(container: Any, content: Any) -> None:
    container.clear()
    (container.extend if isinstance(container, list | deque) else container.update)(content)


class Kind(NamedTuple):
    """Something that can change: how its content is got and put back."""

    type: type | tuple[type, ...]
    get: Callable[[Any], Any]
    put: Callable[[Any, Any], Any]


STATES = (
    Kind(
        np.random.Generator, lambda g: g.bit_generator.state, lambda g, state: setattr(g.bit_generator, "state", state)
    ),
    Kind(np.random.RandomState, lambda g: g.get_state(), lambda g, state: g.set_state(state)),
    Kind(random.Random, lambda g: g.getstate(), lambda g, state: g.setstate(state)),
    Kind(np.ndarray, np.copy, np.copyto),
)
"""What is compared by value."""
CONTAINERS = (
    Kind(Named, Named.now, Named.restore),
    Kind(CellType, lambda c: [c.cell_contents], lambda c, content: setattr(c, "cell_contents", content[0])),
    Kind(dict, dict, _refill),
    Kind((list, set, deque), list, _refill),
    Kind((tuple, frozenset), list, lambda *_: None),
)
"""What holds other things."""


def _kind(cls: type) -> Kind | None:
    return next((kind for kind in (*STATES, *CONTAINERS) if issubclass(cls, kind.type)), None)


def _entries(content: Any) -> list[Any]:
    """Return what is in a container, given its content."""
    return [*content.values()] if isinstance(content, dict) else content


def _leads_to(item: Any, kind: Kind | None, own: bool) -> list[Any]:
    """Return the objects that one goes on to from an object, and from its class if it is the user's own."""
    if kind is not None:
        return _entries(kind.get(item))
    if isinstance(item, FunctionType):
        cells = [cell for cell in item.__closure__ or () if cell != CellType()]  # but those that are still empty
        return [*cells, *(item.__defaults__ or ()), *(_named_by(item) if own else ())]
    parts = [getattr(item, name) for name in ("__self__", "__func__", "func") if hasattr(type(item), name)]
    classes = [cls for cls in type(item).__mro__ if own and _module(cls) not in (*OURS, *NEUTRAL)]
    slots = [name for cls in classes for name in vars(cls).get("__slots__", ())]
    if slots:
        parts.append(Named(slots, partial(_attribute, item), partial(object.__setattr__, item)))
    return [*parts, getattr(item, "__dict__", None), *(part for cls in classes for part in vars(cls).values())]


def _attribute(item: Any, name: str) -> Any:
    return getattr(item, name, None)


def _named_by(function: FunctionType) -> list[Named]:
    """Return the variables that a function names, of its own module and of the modules that it names."""
    names, variables = [*_names(function.__code__)], function.__globals__
    modules = [vars(m) for name in names if isinstance(m := variables.get(name), ModuleType) and _module(m) not in OURS]
    return [_variables(names, module) for module in (variables, *modules)]


def _module(thing: Any) -> str:
    """Return the name of the package from which something comes."""
    name = thing.__name__ if isinstance(thing, ModuleType) else thing.__module__
    return str(name).partition(".")[0]


def _fact(content: Any) -> Any:
    """Return what can be compared of a container's entry."""
    return repr(content) if isinstance(content, (str, int, float, complex, bytes)) else type(content).__name__


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
        self._saved: list[tuple[Any, Kind, Any]] = []
        self.facts: list[Any] = []
        self.keeps = False
        queue = deque([(step, False), (random.random, True), (np.random.random, True)])
        seen: dict[int, Any] = {}
        kinds: dict[type, Kind | None] = {}
        while queue and len(seen) < MOST:
            item, own = queue.popleft()
            if id(item) in seen:
                continue
            seen[id(item)], cls = item, type(item)
            kind = kinds[cls] if cls in kinds else kinds.setdefault(cls, _kind(cls))
            module = _module(item if cls is FunctionType else cls)
            neutral = module in NEUTRAL or cls is Named
            own = own if neutral else module not in OURS
            if own and kind is not None:
                self._save(item, kind)
            if kind not in STATES:
                inside = _leads_to(item, kind, own and not neutral)
                self.keeps |= own and any(type(part) is Traced for part in inside)
                queue.extend((part, own) for part in inside if not isinstance(part, PASSED_BY))

    def _save(self, item: Any, kind: Kind) -> None:
        if kind.type is np.ndarray and (item.nbytes > SMALL or not item.flags.writeable or item.dtype.hasobject):
            return
        content = kind.get(item)
        self._saved.append((item, kind, content))
        self.facts.append(pickle.dumps(content) if kind in STATES else [*map(_fact, _entries(content))])

    def restore(self) -> None:
        """Put back what has changed."""
        for item, kind, before in self._saved:
            now = kind.get(item)
            if kind in STATES:
                same = pickle.dumps(now) == pickle.dumps(before)
            elif isinstance(before, dict):
                same = now.keys() == before.keys() and all(now[name] is before[name] for name in before)
            else:
                same = len(now) == len(before) and all(a is b for a, b in zip(now, before, strict=True))
            if not same:
                kind.put(item, before)
