"""xpnet: neural networks whose backward pass is written out once, for NumPy and CuPy alike.

>>> import xpnet
>>> net = xpnet.mlp([784, 512, 10], activation="relu", loss="cross_entropy", backend="numpy")
>>> net.parameter_count
407050
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # editors and type checkers see all names; Python loads a module when one of its names is asked for
    from xpnet import backends, datasets, errors, initializers, schedules
    from xpnet import estimators as estimators
    from xpnet import plots as plots
    from xpnet import training as training
    from xpnet.errors import XpnetError
    from xpnet.gradcheck.check import check_gradients as check_gradients
    from xpnet.inspection.recorder import Recorder as Recorder
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
        Gaussian,
        HalfSquaredError,
        Huber,
        Loss,
        MeanAbsoluteError,
        MeanSquaredError,
        Poisson,
        PoissonDeviance,
        Quantile,
        SumSquaredError,
    )
    from xpnet.making import load, mlp
    from xpnet.model.columns import Parquet
    from xpnet.network import Network
    from xpnet.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSProp
    from xpnet.training.callbacks import Callback, EarlyStopping
    from xpnet.training.history import History
    from xpnet.training.trainer import Trainer
    from xpnet.training.watching import BestFile, CSVLog, ReduceOnPlateau, TensorBoardLog

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
    "BestFile",
    "BinaryCrossEntropy",
    "CSVLog",
    "Callback",
    "Context",
    "Conv1D",
    "Conv2D",
    "CrossEntropy",
    "Dropout",
    "EarlyStopping",
    "Flatten",
    "Gaussian",
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
    "Quantile",
    "RMSNorm",
    "RMSProp",
    "RandomCutout",
    "RandomFlip",
    "RandomShift",
    "ReLU",
    "Recorder",
    "ReduceOnPlateau",
    "Reshape",
    "Residual",
    "Sequence",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "SumSquaredError",
    "Tanh",
    "TensorBoardLog",
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

_HOMES = (
    "layers",
    "losses",
    "optimizers",
    "errors",
    "network",
    "making",
    "model.columns",
    "training.callbacks",
    "training.history",
    "training.trainer",
    "training.watching",
    "inspection.recorder",
    "gradcheck.check",
)
"""Where the names of `__all__` are; every other one is a module itself."""


def __dir__() -> list[str]:
    return [*__all__, "__version__", "estimators", "plots", "training"]


if not TYPE_CHECKING:  # to whom every name would then be right

    def __getattr__(name: str) -> Any:
        if name in __all__:
            for home in _HOMES:
                found = vars(import_module(f"xpnet.{home}"))
                if name in found:
                    return globals().setdefault(name, found[name])
        if not name.startswith("_") and find_spec(f"xpnet.{name}") is not None:
            return import_module(f"xpnet.{name}")
        from xpnet.keywords import public

        return public("xpnet", __all__)[0](name)
