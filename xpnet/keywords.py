"""Calls and names that are not understood say what is; type checkers see the true signatures."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from xpnet.elsewhere import ARGUMENTS, ATTRIBUTES, NAMES, NEEDED, OTHER_ARGUMENTS, OTHER_NAMES
from xpnet.errors import ArgumentError, UnknownAttributeError, closest

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T", bound=type)


def named(f: Callable[P, R]) -> Callable[P, R]:
    """Return `f`, whose calls with other arguments than it takes say what it takes."""

    @functools.wraps(f)
    def call(*args: P.args, **options: P.kwargs) -> R:
        try:
            return f(*args, **options)
        except TypeError:
            if (misfit := _misfit(f, args, options)) is None:
                raise
        raise misfit

    return call


def named_methods(cls: T) -> T:
    """Make every public method that a class defines one that says what it takes."""
    for name, method in [*vars(cls).items()]:
        if isinstance(method, FunctionType) and not name.startswith("_"):
            setattr(cls, name, named(method))
    return cls


def _misfit(f: Callable[..., Any], args: Sequence[Any], options: Iterable[str]) -> ArgumentError | None:
    """Return what is wrong with a call, or None if `f` takes these arguments."""
    signature = inspect.signature(f)
    try:
        signature.bind(*args, **dict.fromkeys(options))
    except TypeError as error:
        reason = str(error)
    else:
        return None
    parameters, owner = [*signature.parameters.values()], f.__name__
    if parameters and parameters[0].name == "self":
        owner = type(args[0]).__name__ if owner == "__init__" else owner
        parameters, args = parameters[1:], args[1:]
    names = [p.name for p in parameters]
    for name in options:
        if name not in names and not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return ArgumentError(f"{owner} takes no argument {name!r}{_cure(name, names)}")
    places = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(args) > len(places):
        rest = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        more = f"; give others by name, such as {rest[0]}=" if rest else ""
        return ArgumentError(
            f"{owner} takes {', '.join(places) or 'nothing'} by position, got {len(args)} values{more}"
        )
    given = {*places[: len(args)], *options}
    required = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    missing = [name for name in required if name not in given]
    if not missing:  # an argument by position and by name
        return ArgumentError(f"{owner}: {reason}")
    cures = [f"{name} is {NEEDED[name]}" for name in missing if name in NEEDED]
    cure = "; ".join(cures) or f"it is {owner}({', '.join(required)})"
    return ArgumentError(f"{owner} needs {' and '.join(missing)}; {cure}")


def _cure(name: str, known: Sequence[str]) -> str:
    """Return what to write instead of an argument that is not taken."""
    for meant in ARGUMENTS.get(name, "").split(" or "):
        if meant.partition(" ")[0] in known:
            return f"; it is called {meant} here"
    if name in OTHER_ARGUMENTS:
        return f"; {OTHER_ARGUMENTS[name]}"
    hint = closest(name, known)
    return f".{hint}" if hint else f"; arguments are {', '.join(known) or 'none'}"


def public(module: str, names: Sequence[str], also: str = "") -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a module's ``__getattr__``, which says what there is instead of a name, and its ``__dir__``."""

    def absent(name: str) -> Any:
        if NAMES.get(name) in names:
            cure = f" It is called {module}.{NAMES[name]} here."
        else:
            cure = f" {OTHER_NAMES[name]}" if name in OTHER_NAMES else closest(name, names) or also
        raise UnknownAttributeError(f"module {module!r} has no attribute {name!r}.{cure}", name=name)

    return absent, lambda: [*names]


@functools.lru_cache(512)
def _no_attribute(cls: type, name: str) -> str:
    """Return what there is instead of an attribute; kept, since libraries ask for the same names again and again."""
    cures = [ATTRIBUTES[base.__name__][name] for base in cls.__mro__ if name in ATTRIBUTES.get(base.__name__, ())]
    known = [other for other in dir(cls) if not other.startswith("_")]
    return f"a {cls.__name__} has no attribute {name!r}" + (f"; {cures[0]}" if cures else f".{closest(name, known)}")


class Answering:
    """Base of classes that say what there is instead of an attribute that is not there."""

    if not TYPE_CHECKING:  # to whom every name would then be right

        def __getattr__(self, name: str) -> Any:
            if hasattr(type(self), name):  # a property, whose own code asked for what is not there
                return object.__getattribute__(self, name)
            raise UnknownAttributeError(_no_attribute(type(self), name), name=name)


class Named(Answering):
    """Base of classes whose constructors, too, say what they take."""

    if not TYPE_CHECKING:  # to whom this would be a constructor that takes everything

        def __new__(cls, *args: Any, **options: Any) -> Self:
            if cls.__init__ is object.__init__ and (args or options):
                raise ArgumentError(f"{cls.__name__} takes no arguments; is @dataclass(frozen=True) missing above it?")
            if isinstance(cls.__init__, FunctionType) and not hasattr(cls.__init__, "__wrapped__"):
                cls.__init__ = named(cls.__init__)  # only now, since a dataclass gets its own after it was made
            return super().__new__(cls)

        # What is shown of a class that has no constructor.
        __new__.__signature__ = inspect.Signature([inspect.Parameter("cls", inspect.Parameter.POSITIONAL_ONLY)])


class Whole(Named):
    """Base of networks, which are neither functions nor lists, and on which nothing is set that they would not read."""

    if not TYPE_CHECKING:  # to whom a network would then be a function and a list

        def __call__(self, *args: Any, **options: Any) -> Any:
            raise ArgumentError(
                "a network is not called: net.predict(x) answers, net.predict_proba(x) says how sure it is, and "
                "net.forward(x) returns what the last layer gives"
            )

        def __getitem__(self, key: Any) -> Any:
            raise ArgumentError(f"a network is no list: its layers are net.layers, such as net.layers[{key!r}]")

        def __setattr__(self, name: str, value: Any) -> None:
            if name in ATTRIBUTES["Network"]:
                getattr(self, name)  # which says what serves
            super().__setattr__(name, value)
