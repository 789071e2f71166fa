"""scikit-learn's multi-layer perceptrons on xpnet: the same interface, on the CPU or a GPU, and more.

Needs the extra ``xpnet[sklearn]``.

>>> from xpnet.estimators import MLPClassifier
>>> MLPClassifier(backend="numpy", dropout=0.1)
MLPClassifier(backend='numpy', dropout=0.1)
"""

from xpnet.errors import needs

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
