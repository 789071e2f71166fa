"""What the numbers of one forward and one backward pass tell about a network, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

from xpnet.inspection.layertrace import LayerTrace
from xpnet.inspection.numbers import Statistics
from xpnet.layers import Dropout, Sigmoid, Tanh
from xpnet.typing import Array

DEAD_SAMPLES = 16
"""A unit that gives 0 for every sample is called dead only in a batch of at least so many samples."""
SATURATED_SLOPE = 0.05
"""An output of Sigmoid or Tanh is saturated where the slope is below this part of the largest slope."""
SATURATED_SHARE = 0.5
"""The share of saturated outputs from which on a layer is reported."""
OUT_OF_SCALE = 1e3
"""Deltas vanish or explode if their typical size changes by this factor between the last parameters and the first."""


def is_activation(item: LayerTrace) -> bool:
    """Say whether a layer transforms each number alone: its y has the shape of x, and it has no parameters."""
    alone = not item.parameters and not item.layer.chains and not isinstance(item.layer, Dropout)
    return alone and item.x.shape == item.y.shape


Numbers = Sequence[Mapping[str, Statistics]]


def find(xp: Any, layers: Sequence[LayerTrace], numbers: Numbers) -> Iterator[str]:
    """Yield a sentence for each thing that is amiss; what is not finite makes everything else moot."""
    bad = _not_finite(layers, numbers)
    if bad:
        yield bad
        return
    activations = [item for item in layers if is_activation(item)]
    dead = [place for item in activations for place in _dead(xp, item)]
    if dead:
        yield (
            f"Dead units: {', '.join(dead)} give 0 for all {layers[0].x.shape[0]} samples, so that no delta passes "
            "through them. If it lasts: a smaller learning rate, He's initial weights, or a LeakyReLU."
        )
    saturated = [place for item in activations for place in _saturated(xp, item)]
    if saturated:
        yield (
            f"Saturation: at {', '.join(saturated)} the slope is below {SATURATED_SLOPE:.0%} of its largest value, so "
            "that little delta passes. Scale the inputs, or the initial weights, down."
        )
    yield from _out_of_scale(layers, numbers)


def _not_finite(layers: Sequence[LayerTrace], numbers: Numbers) -> str:
    """Name the first quantity that is not finite, in the order in which they were computed."""
    forward = [(k, name) for k in range(len(layers)) for name in ("x", "y")]
    backward = [(k, name) for k in reversed(range(len(layers))) for name in numbers[k] if name not in "xy"]
    for k, name in forward + backward:
        share, item = numbers[k][name].nonfinite, layers[k]
        if share:
            array = item.gradients[name[1:]] if name not in ("x", "y", "delta") else getattr(item, name)
            count = prod(array.shape)
            what = {"x": "the input", "y": "the output", "delta": "the delta"}.get(name, f"the gradient {name}")
            return (
                f"Not finite: {what} of layer {item.name} is the first with NaN or infinities: "
                f"{round(share * count):,} of its {count:,} entries. What comes from it is not finite either."
            )
    return ""


def _count(xp: Any, mask: Array) -> int:
    return int(xp.sum(xp.astype(mask, xp.int64)))


def _dead(xp: Any, item: LayerTrace) -> Iterator[str]:
    if item.x.shape[0] >= DEAD_SAMPLES:
        places = tuple(range(item.y.ndim - 1))  # the units of an image are its channels
        silent = xp.all(item.y == 0.0, axis=places) & xp.any(item.x != 0.0, axis=places)
        dead = _count(xp, silent)
        if dead:
            yield f"{dead} of {silent.shape[0]} units of layer {item.name}"


def _saturated(xp: Any, item: LayerTrace) -> Iterator[str]:
    if isinstance(item.layer, Sigmoid):
        slope = 4.0 * item.y * (1.0 - item.y)
    elif isinstance(item.layer, Tanh):
        slope = 1.0 - item.y * item.y
    else:
        return
    share = _count(xp, slope < SATURATED_SLOPE) / prod(item.y.shape)
    if share > SATURATED_SHARE:
        yield f"{share:.0%} of the outputs of layer {item.name}"


def _out_of_scale(layers: Sequence[LayerTrace], numbers: Numbers) -> Iterator[str]:
    """Compare the typical delta at the first and at the last layer with parameters."""
    trainable = [k for k, item in enumerate(layers) if item.parameters]
    if len(trainable) < 2:
        return
    first, last = trainable[0], trainable[-1]
    small, large = (numbers[k]["delta"].rms for k in (first, last))
    places = f"from {large:.2g} at layer {layers[last].name} to {small:.2g} at layer {layers[first].name}"
    if small * OUT_OF_SCALE < large:
        factor = f"by a factor of {large / small:.1g}" if small else "to nothing"
        yield (
            f"Vanishing deltas: their typical size falls {factor}, {places}; the first layers hardly learn. "
            "Rectifiers, He's initial weights, or fewer layers help."
        )
    elif small > OUT_OF_SCALE * large > 0.0:
        yield (
            f"Exploding deltas: their typical size grows by a factor of {small / large:.1g}, {places}. "
            "Smaller initial weights, or clip_norm=1.0 in the optimizer, help."
        )
