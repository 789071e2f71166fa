"""Losses. One function returns the value and the delta dL/dy, so that the two cannot drift apart.

B samples, O outputs. A loss of the whole batch is L = sum_i weight_i l_i, where l_i is the loss of sample i
and the weights, shape (B,), sum to 1: they are 1/B each unless samples are weighted. In the formulas `w` is
the column of the weights, shape (B, 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xpnet.keywords import public
from xpnet.losses.base import Loss
from xpnet.losses.classification import BinaryCrossEntropy, CrossEntropy
from xpnet.losses.distributions import Gaussian, Quantile
from xpnet.losses.regression import (
    HalfSquaredError,
    Huber,
    MeanAbsoluteError,
    MeanSquaredError,
    Poisson,
    PoissonDeviance,
    SumSquaredError,
)

__all__ = [
    "LOSSES",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Gaussian",
    "HalfSquaredError",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Poisson",
    "PoissonDeviance",
    "Quantile",
    "SumSquaredError",
]

LOSSES: dict[str, type[Loss]] = {
    "mean_squared_error": MeanSquaredError,
    "sum_squared_error": SumSquaredError,
    "half_squared_error": HalfSquaredError,
    "mean_absolute_error": MeanAbsoluteError,
    "huber": Huber,
    "poisson": Poisson,
    "poisson_deviance": PoissonDeviance,
    "quantile": Quantile,
    "gaussian": Gaussian,
    "binary_cross_entropy": BinaryCrossEntropy,
    "cross_entropy": CrossEntropy,
}
"""Every loss by the name that a string may use."""

if not TYPE_CHECKING:  # to whom every name would then be right
    __getattr__, __dir__ = public(__name__, __all__)
