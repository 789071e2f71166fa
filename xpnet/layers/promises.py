"""What layers and losses must return: those of one's own that do not are named, by the first batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xpnet.errors import PromiseError
from xpnet.layers.base import Context, Layer
from xpnet.typing import Array


def output_and_cache(xp: Any, layer: Layer, context: Context, x: Array, result: Any) -> tuple[Array, Any]:
    """Return the two things that a forward pass of `x` gave, or raise `PromiseError`."""
    if type(result) is not tuple or len(result) != 2:
        raise PromiseError(f"{_name(layer, context)}: forward must return a pair (y, cache), got {_kind(result)}")
    y, cache = result
    if y.dtype == xp.float64 != x.dtype:
        raise PromiseError(
            f"{_name(layer, context)}: forward makes float64 of {x.dtype}, and so of all that follows; compute "
            "with Python numbers and arrays of x's type, e.g. xp.asarray(table, dtype=x.dtype)"
        )
    return y, cache


def value_and_delta(loss: Any, y: Array, result: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return the two things that a loss of the output `y` gave, or raise `PromiseError`."""
    value, dy = result
    if value.shape != () or dy.shape != y.shape:
        raise PromiseError(
            f"the loss {type(loss).__name__} must return a 0-d value and a delta of y's shape {tuple(y.shape)}, got "
            f"shapes {tuple(value.shape)} and {tuple(dy.shape)}"
        )
    return value, dy


def delta_and_gradients(layer: Layer, context: Context, result: Any) -> tuple[Array | None, dict[str, Array]]:
    """Return the two things that a backward pass gave, or raise `PromiseError`."""
    if type(result) is not tuple or len(result) != 2 or not isinstance(result[1], Mapping):
        raise PromiseError(
            f"{_name(layer, context)}: backward must return a pair (dx, gradients by name), e.g. (dx, {{}}), "
            f"got {_kind(result)}"
        )
    dx, gradients = result
    return dx, dict(gradients)


def gradient_of(name: str, parameter: Array, layer: Layer, k: int, gradients: Mapping[str, Array]) -> Array:
    """Return the gradient of a parameter of layer `k`, or raise where it would be broadcast to its shape."""
    found = gradients.get(name)
    if found is None or found.shape != parameter.shape:
        came = "none" if found is None else f"one of shape {tuple(found.shape)}"
        raise PromiseError(
            f"layer {k} {type(layer).__name__}: backward must give a gradient of {name} of its shape "
            f"{tuple(parameter.shape)}, got {came}; xpnet.check_gradients says what else is wrong"
        )
    return found


def _name(layer: Layer, context: Context) -> str:
    return f"layer {context.place} {type(layer).__name__}".replace("  ", " ")


def _kind(result: Any) -> str:
    return f"a tuple of {len(result)}" if isinstance(result, tuple) else type(result).__name__
