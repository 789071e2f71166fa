"""Layers, from simple to complex; a closed registry of those that a string or a file may name."""

from xpnet.layers.activations import (
    ELU,
    Activation,
    Identity,
    LeakyReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from xpnet.layers.augmentation import RandomCutout, RandomFlip, RandomShift
from xpnet.layers.base import INFERENCE, Context, Layer, Watch
from xpnet.layers.dropout import Dropout
from xpnet.layers.gelu import GELU
from xpnet.layers.layernorm import GroupNorm, LayerNorm, RMSNorm
from xpnet.layers.linear import Linear
from xpnet.layers.normalization import BatchNorm
from xpnet.layers.sequence import Residual, Sequence
from xpnet.layers.walk import backward_pass, forward_pass

__all__ = [
    "ACTIVATIONS",
    "ELU",
    "GELU",
    "INFERENCE",
    "LAYERS",
    "Activation",
    "BatchNorm",
    "Context",
    "Dropout",
    "GroupNorm",
    "Identity",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "RMSNorm",
    "RandomCutout",
    "RandomFlip",
    "RandomShift",
    "ReLU",
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
        Linear,
        Dropout,
        Sequence,
        Residual,
        BatchNorm,
        LayerNorm,
        RMSNorm,
        GroupNorm,
        RandomFlip,
        RandomShift,
        RandomCutout,
        *ACTIVATIONS.values(),
    )
}
"""Every layer that a saved network may name; `Activation` holds functions, which no file can."""
