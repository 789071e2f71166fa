"""scikit-learn's multi-layer perceptrons on xpnet: the same interface, on the CPU or a GPU, and more.

Needs the extra ``xpnet[sklearn]``.

>>> from xpnet.estimators import MLPClassifier
>>> MLPClassifier(backend="numpy", dropout=0.1)
MLPClassifier(backend='numpy', dropout=0.1)
"""

from typing import TYPE_CHECKING

from xpnet.errors import needs
from xpnet.keywords import public

with needs("xpnet.estimators", "scikit-learn", "sklearn"):
    from xpnet.estimators.arrays import FittedElsewhereError
    from xpnet.estimators.classifier import MLPClassifier
    from xpnet.estimators.regressor import MLPRegressor
    from xpnet.estimators.stochastic import DivergenceError
    from xpnet.losses import HalfSquaredError, PoissonDeviance

__all__ = [
    "DivergenceError",
    "FittedElsewhereError",
    "HalfSquaredError",
    "MLPClassifier",
    "MLPRegressor",
    "PoissonDeviance",
]

if not TYPE_CHECKING:  # to whom every name would then be right
    __getattr__, __dir__ = public(__name__, __all__)
