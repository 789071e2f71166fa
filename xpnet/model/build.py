"""Building a network: checks of its parts, shapes, initial values, the layout of the flat vector."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from xpnet.errors import ConfigError, DTypeError, OutOfMemoryError, ShapeError
from xpnet.layers import ACTIVATIONS, RECTIFIERS, Dropout, Layer, Linear, Sigmoid, Softmax
from xpnet.layers import Sequence as Composite
from xpnet.layers.base import joined
from xpnet.layers.sequence import check_layers
from xpnet.layers.shapes import first_shape, shape_after
from xpnet.losses import Loss
from xpnet.model.memory import memory, readable
from xpnet.typing import HostArray, Shape
from xpnet.validation import check_size, named

DTYPES = ("float32", "float64")


def activation_layer(activation: Any) -> Layer:
    """Return the activation that a name or layer stands for."""
    return named("activation", activation, ACTIVATIONS, Layer)


def network_layers(layers: Any) -> tuple[Layer, ...]:
    """Return the layers of a network as a tuple, or raise `ConfigError`."""
    if not (found := check_layers("layers", layers)):
        raise ConfigError("layers is empty; a network needs at least one layer, e.g. xpnet.Linear(2, 1)")
    return found


def infer_shapes(layers: Sequence[Layer], loss: Loss, input_shape: Any = None) -> tuple[Shape, Shape]:
    """Return the shapes of one input and one output sample, or raise where two layers do not fit."""
    start = first_shape(layers) if input_shape is None else check_shape(input_shape)
    if start is None:
        raise ConfigError(
            "no layer says how many inputs the network has; begin with e.g. xpnet.Linear(2, 3), or give the shape of "
            "one sample, e.g. input_shape=(28, 28, 1)"
        )
    known = 0 if input_shape is not None else next(k for k, layer in enumerate(layers) if layer.usual_shape is not None)
    try:
        shape_after(layers[:known], start)
    except ShapeError as error:  # what a later layer requires is not what comes in here
        raise ShapeError(f"{error}; give the shape of one sample, e.g. input_shape=(28, 28, 1)") from None
    shape = shape_after(layers, start)
    _check_end(layers, loss, shape)
    return start, shape


def check_shape(shape: Any) -> Shape:
    """Return the shape of one sample as a tuple of integers."""
    if not isinstance(shape, Sequence) or isinstance(shape, str) or not shape:
        raise ConfigError(f"input_shape must be the shape of one sample, e.g. (28, 28, 1), got {shape!r}")
    return tuple(check_size(f"input_shape[{k}]", n) for k, n in enumerate(shape))


def _check_end(layers: Sequence[Layer], loss: Loss, shape: Shape) -> None:
    """Raise unless the loss can take what the last layer gives."""
    name, last = type(loss).__name__, layers[-1]
    while type(last) is Composite:
        last = last.layers[-1]
    if len(shape) != 1:
        raise ShapeError(
            f"the network gives {shape} for a sample, but {name} takes a row of numbers: put Flatten() at the end"
        )
    if shape[0] % loss.per_target:
        raise ShapeError(
            f"{loss} needs {loss.per_target} outputs for each column of the targets, but the last layer gives "
            f"{shape[0]}, which is no multiple of {loss.per_target}"
        )
    if loss.takes_logits and isinstance(last, Softmax | Sigmoid):
        raise ConfigError(f"loss {name} takes logits; remove the {type(last).__name__} layer at the end")
    if loss.kind == "classification" and shape[0] < 2:
        raise ConfigError(
            f"{name} needs at least 2 outputs, one a class, got {shape[0]}; for one output use BinaryCrossEntropy"
        )


def check_dtype(dtype: Any) -> str:
    """Return the data type's name."""
    try:
        name = str(np.dtype(dtype).name)
    except TypeError:
        name = str(dtype)
    if name not in DTYPES or dtype is None:
        raise DTypeError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    return name


def check_seed(seed: Any) -> int:
    """Return the seed as an integer; None draws one from the system."""
    if seed is None:
        seed = np.random.SeedSequence()
    if isinstance(seed, np.random.SeedSequence):
        words = seed.generate_state(4)
        return int(sum(int(word) << (32 * i) for i, word in enumerate(words)))
    try:
        return check_size("seed", seed, 0)
    except ConfigError:
        raise ConfigError(f"seed must be a non-negative integer, a SeedSequence or None, got {seed!r}") from None


def layer_key(seed: int, k: int) -> int:
    """Return the 32-bit key of layer k's own random numbers."""
    return int(np.random.SeedSequence([seed, k]).generate_state(1)[0])


def check_memory(layers: Sequence[Layer], dtype: str) -> None:
    """Raise before anything is allocated if the parameters cannot fit into the memory that there is."""
    total, (available, whose) = 0, memory()
    for k, layer in enumerate(layers):
        for name, shape in layer.parameter_shapes().items():
            size = prod(shape) * np.dtype(dtype).itemsize
            # Initial values are drawn, and put together, in float64.
            total += size + 2 * prod(shape) * np.dtype(np.float64).itemsize
            if total > available:
                place, _, short = f"{k}.{name}".rpartition(".")
                raise OutOfMemoryError(
                    f"layer {place} {short} needs {readable(size)} for {shape} {dtype}. {whose}Make the layer smaller."
                )


def state(layers: Sequence[Layer]) -> dict[str, HostArray]:
    """Return the initial running statistics by names such as "1.mean"."""
    return joined({str(k): layer.init_state() for k, layer in enumerate(layers)})


def mlp_layers(
    sizes: Any, activation: Any, output_activation: Any, dropout: float, bias: bool, weight_init: Any
) -> list[Layer]:
    """Return the layers of a multi-layer perceptron."""
    if not isinstance(sizes, Sequence) or isinstance(sizes, str) or len(sizes) < 2:
        raise ConfigError(f"sizes must be a sequence of at least two integers, e.g. [784, 512, 10], got {sizes!r}")
    hidden, drop = len(sizes) - 2, Dropout(dropout)
    counts = [check_size(f"sizes[{k}]", size) for k, size in enumerate(sizes)]
    several = isinstance(activation, Sequence) and not isinstance(activation, str)
    after = list(map(activation_layer, activation)) if several else [activation_layer(activation)] * hidden
    if len(after) != hidden:
        raise ConfigError(
            f"activation has {len(after)} entries, the network {hidden} hidden layers; they must be equally many"
        )
    last = None if output_activation is None else activation_layer(output_activation)
    layers: list[Layer] = []
    for k, follower in enumerate([*after, last]):
        law = weight_init
        if law is None:
            law = "he_normal" if isinstance(follower, RECTIFIERS) else "glorot_uniform"
        layers.append(Linear(counts[k], counts[k + 1], bias=bias, weight_init=law))
        if follower is not None:
            layers.append(follower)
        if drop.rate and k < hidden:
            layers.append(drop)
    return layers
