"""Layers, losses, optimizers and schedules as JSON, and back: frozen dataclasses by the names of a closed registry.

A description is data: nothing in it is imported, evaluated or looked up outside the registry and what the user hands
over. ``Linear(2, 3)`` is ``{"class": "Linear", "inputs": 2, "outputs": 3, ...}``, with every field, except that one
marked by ``metadata={"optional": True}`` is left out where it has its default, as in files from before there was such a
field. Classes and functions that are not xpnet's are written as ``"own.NAME"``, and found again only among those that
the user passes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from xpnet.errors import CheckpointError, ConfigError, closest
from xpnet.initializers import INITIALIZERS, normal
from xpnet.layers import LAYERS, Activation, Layer
from xpnet.losses import LOSSES, Loss
from xpnet.optimizers import OPTIMIZERS, Optimizer
from xpnet.schedules import SCHEDULES

CLASSES: dict[str, type] = {
    cls.__name__: cls
    for cls in (*LAYERS.values(), Activation, *LOSSES.values(), *OPTIMIZERS.values(), *SCHEDULES.values(), normal)
}
"""Every class of xpnet that a file may name."""

FUNCTIONS: dict[str, Callable[..., Any]] = dict(INITIALIZERS)
"""Every function of xpnet that a file may name."""

KINDS: dict[str, type] = {"layer": Layer, "loss": Loss, "optimizer": Optimizer}

Own = Mapping[str, Any] | Iterable[Any]


def describe(value: Any, where: str, functions: dict[str, Any] | None = None) -> Any:
    """Return the JSON description of a layer, loss, optimizer or one of their fields; a CheckpointError if it has none.

    `where` says what it is, for messages and for functions without a name of their own: ``"layers[1]"``. `functions`
    are the user's by the names given to them so far, kept over the parts of one file, so that no two share a name.
    """
    functions = {} if functions is None else functions
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise CheckpointError(f"{where} is {value}; a file can describe finite numbers only")
        return float(value)
    if isinstance(value, list):
        return [describe(item, f"{where}[{k}]", functions) for k, item in enumerate(value)]
    if isinstance(value, tuple):
        return {"tuple": describe(list(value), where, functions)}
    cls = type(value)
    if dataclasses.is_dataclass(cls) or (
        isinstance(value, tuple(KINDS.values())) and not getattr(value, "__dict__", {})
    ):
        name = cls.__name__ if CLASSES.get(cls.__name__) is cls else f"own.{cls.__name__}"
        values = {field: getattr(value, field) for field in _fields(cls)}
        defaults = _optional(cls)
        said = {field: v for field, v in values.items() if field not in defaults or v != defaults[field]}
        return {"class": name} | {field: describe(v, f"{where}.{field}", functions) for field, v in said.items()}
    if callable(value):
        return {"function": _function_name(value, where, functions)}
    raise CheckpointError(
        f"{where} is {value!r:.200}, which a file cannot describe; a layer or loss of one's own must be a frozen "
        "dataclass whose fields are numbers, strings, lists, functions or such dataclasses"
    )


def build(data: Any, where: str, own: Mapping[str, Any], kind: str = "") -> Any:
    """Return what a description stands for, made of xpnet's classes and of the user's `own` by name (see `own_names`).

    `where` says what it is, for messages. It must be of a `kind`, if one of `KINDS` is given. A CheckpointError names
    what is in neither registry, and the class that refuses its values.
    """
    if isinstance(data, dict) and "class" in data:
        result = _build_object(data, where, own, kind or "object")
    elif isinstance(data, dict) and data.keys() == {"function"}:
        result = _find(data["function"], where, own, FUNCTIONS, "function")
    elif isinstance(data, dict) and data.keys() == {"tuple"} and isinstance(data["tuple"], list):
        result = tuple(build(data["tuple"], where, own))
    elif isinstance(data, dict):
        raise CheckpointError(f"{where}: expected a class, a function or a tuple, got {list(data)!r:.200}")
    elif isinstance(data, list):
        result = [build(item, f"{where}[{k}]", own) for k, item in enumerate(data)]
    else:
        result = data
    if kind and not isinstance(result, KINDS[kind]):
        raise CheckpointError(f"{where} must be a {kind}, got {result!r:.200}")
    return result


def own_names(classes: Own) -> dict[str, Any]:
    """Return the user's classes and functions by the names that a file may use for them."""
    if isinstance(classes, Mapping):
        items = dict(classes)
    elif isinstance(classes, Iterable) and not isinstance(classes, str):
        items = {getattr(item, "__name__", repr(item)): item for item in classes}
    else:
        items = {"": classes}
    for name, item in items.items():
        if not isinstance(name, str) or not callable(item):
            raise ConfigError(
                f"classes must be classes and functions, as classes=[MyLayer], or a dict of such by name, got {item!r}"
            )
    return items


def _fields(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls) if field.init] if dataclasses.is_dataclass(cls) else []


def _optional(cls: type) -> dict[str, Any]:
    """Return the defaults of the fields that a description may leave out."""
    fields = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    return {field.name: field.default for field in fields if field.metadata.get("optional")}


def _function_name(function: Any, where: str, functions: dict[str, Any]) -> str:
    """Return a name for a function: its own if it has one that no other function here has, else its place."""
    name = getattr(function, "__name__", "")
    if name and FUNCTIONS.get(name) is function:
        return str(name)
    if not str(name).isidentifier() or functions.setdefault(name, function) is not function:
        name = where
    return f"own.{name}"


def _find(name: Any, where: str, own: Mapping[str, Any], registry: Mapping[str, Any], kind: str) -> Any:
    known = {f"own.{key}": value for key, value in own.items()} | dict(registry)
    if isinstance(name, str) and name in known:
        return known[name]
    if isinstance(name, str) and name.startswith("own."):
        short = name.removeprefix("own.")
        way = f"classes=[{short}]" if short.isidentifier() else f"classes={{{short!r}: ...}}"
        raise CheckpointError(
            f"{where}: unknown {kind} type {short!r:.200} is not xpnet's own; pass it: load(..., {way})"
        )
    hint = closest(str(name)[:100], registry)
    raise CheckpointError(f"{where}: unknown {kind} type {name!r:.200}; known are {', '.join(registry)}.{hint}")


def _build_object(data: dict[str, Any], where: str, own: Mapping[str, Any], kind: str) -> Any:
    name = data["class"]
    registry = {key: cls for key, cls in CLASSES.items() if issubclass(cls, KINDS.get(kind, object))}
    cls = _find(name, where, own, registry, kind)
    wanted, given = set(_fields(cls)), data.keys() - {"class"}
    missing = wanted - given - _optional(cls).keys()
    if missing or given - wanted:
        raise CheckpointError(
            f"{where}: {name!r:.200} has the fields {sorted(wanted)}; missing are {sorted(missing)}, "
            f"unknown are {sorted(given - wanted)!r:.200}"
        )
    values = {field: build(data[field], f"{where}.{field}", own) for field in sorted(given)}
    for field, value in values.items():
        if cls is Activation and (value in FUNCTIONS.values() or type(value) in CLASSES.values()):
            raise CheckpointError(f"{where}.{field} is {value!r:.200}, which is no function of an activation")
    try:
        return cls(**values)
    except Exception as error:
        raise CheckpointError(f"{where}: {name!r:.200} refuses its values: {error!s:.300}") from error
