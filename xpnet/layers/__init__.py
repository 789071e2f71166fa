"""Layers, from simple to complex; a closed registry of those that a string or a file may name."""

from typing import TYPE_CHECKING

from xpnet.keywords import public
from xpnet.layers.activations import Activation, Identity, Sigmoid, Softmax, Tanh
from xpnet.layers.augmentation import RandomCutout, RandomFlip, RandomShift
from xpnet.layers.base import INFERENCE, Context, Layer, Watch
from xpnet.layers.convolution import Conv1D, Conv2D
from xpnet.layers.dropout import Dropout
from xpnet.layers.layernorm import GroupNorm, LayerNorm, RMSNorm
from xpnet.layers.linear import Linear
from xpnet.layers.normalization import BatchNorm
from xpnet.layers.pooling import (
    AveragePool1D,
    AveragePool2D,
    GlobalAveragePool1D,
    GlobalAveragePool2D,
    MaxPool1D,
    MaxPool2D,
)
from xpnet.layers.rectifiers import ELU, GELU, RECTIFIERS, LeakyReLU, ReLU, SiLU, Softplus
from xpnet.layers.sequence import Residual, Sequence
from xpnet.layers.shape import Flatten, Reshape
from xpnet.layers.walk import backward_pass, forward_pass

__all__ = [
    "ACTIVATIONS",
    "ELU",
    "GELU",
    "INFERENCE",
    "LAYERS",
    "RECTIFIERS",
    "Activation",
    "AveragePool1D",
    "AveragePool2D",
    "BatchNorm",
    "Context",
    "Conv1D",
    "Conv2D",
    "Dropout",
    "Flatten",
    "GlobalAveragePool1D",
    "GlobalAveragePool2D",
    "GroupNorm",
    "Identity",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MaxPool1D",
    "MaxPool2D",
    "RMSNorm",
    "RandomCutout",
    "RandomFlip",
    "RandomShift",
    "ReLU",
    "Reshape",
    "Residual",
    "Sequence",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "Watch",
    "backward_pass",
    "forward_pass",
]

ACTIVATIONS: dict[str, type[Layer]] = {
    "identity": Identity,
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "elu": ELU,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "softplus": Softplus,
    "silu": SiLU,
    "gelu": GELU,
    "softmax": Softmax,
}
"""Names of the activations, as `xpnet.mlp` takes them."""

LAYERS: dict[str, type[Layer]] = {
    cls.__name__: cls
    for cls in (
        *(Linear, Sequence, Residual, Reshape, Flatten, Conv1D, Conv2D),
        *(MaxPool1D, MaxPool2D, AveragePool1D, AveragePool2D, GlobalAveragePool1D, GlobalAveragePool2D),
        *(BatchNorm, LayerNorm, RMSNorm, GroupNorm, Dropout, RandomFlip, RandomShift, RandomCutout),
        *ACTIVATIONS.values(),
    )
}
"""Every layer that a saved network may name; `Activation` holds functions, which no file can."""

if not TYPE_CHECKING:  # to whom every name would then be right
    __getattr__, __dir__ = public(__name__, __all__)
