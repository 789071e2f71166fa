"""Networks of images and signals: layers as data, which every system builds for itself, and initial weights.

A layer is a list, its kind and its numbers; samples are (H, W, C) or (L, C):

    ["conv", inputs, outputs, size, stride, padding, bias]    padding is the number of zeros on each side
    ["norm", features]                                        batch normalisation, eps 1e-5, momentum 0.1
    ["pool", size]                                            the largest of each window of this size
    ["mean"]                                                  the mean over all places
    ["flatten"], ["linear", inputs, outputs]
    ["relu"], ["sigmoid"], ["leaky_relu"]                     the last with the slope 0.01
    ["residual", branch, shortcut]                            two lists of layers; their outputs are added
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Layer = list[Any]
Weights = list[tuple[Array, ...]]
"""(W, b) of each linear layer and convolution, or (W,), and (gamma, beta) of each normalisation, float32.

W is (inputs, outputs), or (K, ..., inputs, outputs) of windows.
"""


def _conv(inputs: int, outputs: int, size: int, stride: int = 1, padding: int = 0, bias: bool = False) -> Layer:
    return ["conv", inputs, outputs, size, stride, padding, bias]


def _two(inputs: int, outputs: int, size: int) -> list[Layer]:
    first, second = _conv(inputs, outputs, size, bias=True), _conv(outputs, outputs, size, bias=True)
    return [first, ["relu"], second, ["relu"], ["norm", outputs], ["pool", 2]]


BEAUTIFUL: list[Layer] = [*_two(1, 32, 5), *_two(32, 64, 3), ["flatten"], ["linear", 576, 10]]
"""tinygrad's beautiful_mnist."""


def _block(inputs: int, outputs: int, stride: int) -> list[Layer]:
    branch = [_conv(inputs, outputs, 3, stride, 1), ["norm", outputs], ["relu"], _conv(outputs, outputs, 3, 1, 1)]
    shortcut = [] if stride == 1 else [_conv(inputs, outputs, 1, stride), ["norm", outputs]]
    return [["residual", [*branch, ["norm", outputs]], shortcut], ["relu"]]


RESNET8: list[Layer] = [
    _conv(3, 16, 3, 1, 1), ["norm", 16], ["relu"], *_block(16, 16, 1), *_block(16, 32, 2), *_block(32, 64, 2),
    ["mean"], ["linear", 64, 10],
]  # fmt: skip
"""A residual network for images of CIFAR's size: three stages of one block, as in MLPerf Tiny's."""

CONV1D: list[Layer] = [
    _conv(9, 64, 5, 1, 2), ["norm", 64], ["relu"], ["pool", 2], _conv(64, 128, 5, 1, 2), ["norm", 128], ["relu"],
    ["pool", 2], _conv(128, 128, 3, 1, 1), ["norm", 128], ["relu"], ["mean"], ["linear", 128, 6],
]  # fmt: skip
"""A network for signals of 128 places and 9 channels, such as those of a telephone's accelerometers."""


def with_weights(layers: list[Layer]) -> Iterator[Layer]:
    """Yield every layer with weights: those of a branch before those of its shortcut."""
    for layer in layers:
        if layer[0] == "residual":
            yield from with_weights(layer[1])
            yield from with_weights(layer[2])
        elif layer[0] in ("conv", "norm", "linear"):
            yield layer


def initial_weights(layers: list[Layer], rank: int, rng: np.random.Generator) -> Weights:
    """Return weights of a network whose windows have `rank` axes.

    The biases are not zero, so that a system which forgets one is caught by the check.
    """
    weights: Weights = []
    rectified = ["sigmoid"] not in layers and ["leaky_relu"] not in layers
    for layer in with_weights(layers):
        outputs = layer[1] if layer[0] == "norm" else layer[2]
        if layer[0] == "norm":
            W = rng.uniform(0.5, 1.5, outputs).astype(np.float32)
        else:
            shape = (*((layer[3],) * rank if layer[0] == "conv" else ()), layer[1], outputs)
            limit = np.sqrt(6.0 / (prod(shape[:-1]) + (0 if rectified else outputs)))
            W = rng.uniform(-limit, limit, shape).astype(np.float32)
        biased = layer[0] != "conv" or layer[6]
        weights.append((W, rng.uniform(-0.05, 0.05, outputs).astype(np.float32)) if biased else (W,))
    return weights


def perceptron(sizes: tuple[int, ...], activation: str, output: str) -> list[Layer]:
    """Return linear layers with an activation after each; "identity" is none."""
    kinds = [activation] * (len(sizes) - 2) + [output]
    pairs = zip(sizes[:-1], sizes[1:], kinds, strict=True)
    return [layer for i, o, kind in pairs for layer in (["linear", i, o], [kind]) if layer != ["identity"]]


def after(layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of an output sample."""
    *places, channels = shape
    if layer[0] == "conv":
        _, _, channels, size, stride, padding, _ = layer
        return (*((n + 2 * padding - size) // stride + 1 for n in places), channels)
    if layer[0] == "pool":
        return (*(n // layer[1] for n in places), channels)
    if layer[0] == "residual":
        for inner in layer[1]:
            shape = after(inner, shape)
        return shape
    return {"mean": (channels,), "flatten": (prod(shape),), "linear": (layer[-1],)}.get(layer[0], shape)
