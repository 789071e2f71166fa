"""The layers of `networks.py` as layers of Keras, whose weights are laid out as ours."""

from __future__ import annotations

from typing import Any

import keras
from networks import Layer


def apply(layers: list[Layer], x: Any) -> tuple[Any, list[Any]]:
    """The outputs for the symbolic input x, and the layers with weights."""
    own: list[Any] = []
    for layer in layers:
        kind, rank = layer[0], len(x.shape) - 2
        if kind == "residual":
            (branch, first), (shortcut, second) = apply(layer[1], x), apply(layer[2], x)
            x = keras.layers.Add()([branch, shortcut])
            own += [*first, *second]
            continue
        if kind == "conv":
            _, _, outputs, size, stride, padding, bias = layer
            same = padding == size // 2 and stride == 1
            if padding and not same:
                x = (keras.layers.ZeroPadding1D, keras.layers.ZeroPadding2D)[rank - 1](padding)(x)
            conv = (keras.layers.Conv1D, keras.layers.Conv2D)[rank - 1]
            made = conv(outputs, size, strides=stride, padding="same" if same else "valid", use_bias=bias)
        elif kind == "norm":
            made = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
        elif kind == "linear":
            made = keras.layers.Dense(layer[2])
        elif kind == "pool":
            made = (keras.layers.MaxPooling1D, keras.layers.MaxPooling2D)[rank - 1](layer[1])
        elif kind == "mean":
            made = (keras.layers.GlobalAveragePooling1D, keras.layers.GlobalAveragePooling2D)[rank - 1]()
        elif kind == "flatten":
            made = keras.layers.Flatten()
        elif kind == "leaky_relu":
            made = keras.layers.LeakyReLU(negative_slope=0.01)
        else:
            made = keras.layers.Activation(kind)
        x = made(x)
        own += [made] if kind in ("conv", "norm", "linear") else []
    return x, own
