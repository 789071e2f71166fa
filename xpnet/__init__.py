"""xpnet: neural networks whose backward pass is written out once, for NumPy and CuPy alike.

>>> import xpnet
>>> net = xpnet.mlp([784, 512, 10], activation="relu", loss="cross_entropy", backend="numpy")
>>> net.parameter_count
407050
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from xpnet import backends, datasets, errors, initializers, schedules
from xpnet.errors import XpnetError
from xpnet.layers import (
    ELU,
    GELU,
    Activation,
    AveragePool1D,
    AveragePool2D,
    BatchNorm,
    Context,
    Conv1D,
    Conv2D,
    Dropout,
    Flatten,
    GlobalAveragePool1D,
    GlobalAveragePool2D,
    GroupNorm,
    Identity,
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    MaxPool1D,
    MaxPool2D,
    RandomCutout,
    RandomFlip,
    RandomShift,
    ReLU,
    Reshape,
    Residual,
    RMSNorm,
    Sequence,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from xpnet.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    HalfSquaredError,
    Huber,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    Poisson,
    PoissonDeviance,
    SumSquaredError,
)
from xpnet.model.columns import Parquet
from xpnet.network import Network, load, mlp
from xpnet.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSProp
from xpnet.training.callbacks import Callback, EarlyStopping
from xpnet.training.history import History
from xpnet.training.trainer import Trainer

if TYPE_CHECKING:
    from xpnet.gradcheck.check import check_gradients as check_gradients
    from xpnet.inspection.recorder import Recorder as Recorder

__version__ = "0.1.0"

__all__ = [
    "ELU",
    "GELU",
    "SGD",
    "Activation",
    "Adagrad",
    "Adam",
    "AdamW",
    "AveragePool1D",
    "AveragePool2D",
    "BatchNorm",
    "BinaryCrossEntropy",
    "Callback",
    "Context",
    "Conv1D",
    "Conv2D",
    "CrossEntropy",
    "Dropout",
    "EarlyStopping",
    "Flatten",
    "GlobalAveragePool1D",
    "GlobalAveragePool2D",
    "GroupNorm",
    "HalfSquaredError",
    "History",
    "Huber",
    "Identity",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "Loss",
    "MaxPool1D",
    "MaxPool2D",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Network",
    "Optimizer",
    "Parquet",
    "Poisson",
    "PoissonDeviance",
    "RMSNorm",
    "RMSProp",
    "RandomCutout",
    "RandomFlip",
    "RandomShift",
    "ReLU",
    "Recorder",
    "Reshape",
    "Residual",
    "Sequence",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "SumSquaredError",
    "Tanh",
    "Trainer",
    "XpnetError",
    "backends",
    "check_gradients",
    "datasets",
    "errors",
    "initializers",
    "load",
    "mlp",
    "schedules",
]

_LAZY = {"Recorder": "xpnet.inspection.recorder", "check_gradients": "xpnet.gradcheck.check"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'xpnet' has no attribute {name!r}")
