"""One case or more for every public layer, loss and optimizer: what the contract tests go through.

A new public class needs a case here; a test fails until it has one.
"""

from dataclasses import dataclass

import numpy as np

import xpnet
from xpnet import initializers


@dataclass(frozen=True)
class LayerCase:
    """A layer, the shape of one sample, and what cannot be asked of it."""

    layer: xpnet.Layer
    shape: tuple[int, ...] = (3,)
    training: bool = False
    by_sample: bool = True  # False: a sample's output depends on the others, or on its place in the batch

    def __str__(self):
        return f"{self.layer}{' in training' if self.training else ''}"


LAYERS = [
    LayerCase(xpnet.Linear(3, 4)),
    LayerCase(xpnet.Linear(3, 2, bias=False, weight_init=initializers.normal(0.5))),
    LayerCase(xpnet.Identity()),
    LayerCase(xpnet.ReLU()),
    LayerCase(xpnet.LeakyReLU()),
    LayerCase(xpnet.LeakyReLU(0.3)),
    LayerCase(xpnet.ELU()),
    LayerCase(xpnet.ELU(0.6)),
    LayerCase(xpnet.Sigmoid()),
    LayerCase(xpnet.Tanh()),
    LayerCase(xpnet.Softplus()),
    LayerCase(xpnet.SiLU()),
    LayerCase(xpnet.GELU()),
    LayerCase(xpnet.GELU("tanh")),
    LayerCase(xpnet.Softmax()),
    LayerCase(xpnet.Activation(lambda xp, x: xp.sin(x), lambda xp, x: xp.cos(x), name="sine")),
    LayerCase(xpnet.Dropout(0.4)),
    LayerCase(xpnet.Dropout(0.4), training=True, by_sample=False),
    LayerCase(xpnet.Reshape((2, 3, 1)), (6,)),
    LayerCase(xpnet.Flatten(), (2, 3, 2)),
    LayerCase(xpnet.Conv2D(2, 3), (4, 5, 2)),
    LayerCase(xpnet.Conv2D(2, 1, size=(3, 2), stride=(2, 1), padding=(0, 1), bias=False), (6, 3, 2)),
    LayerCase(xpnet.Conv1D(2, 3, size=4, stride=3), (7, 2)),
    LayerCase(xpnet.Conv2D(6, 2, stride=2), (5, 4, 6)),  # whose patches are rows of windows
    LayerCase(xpnet.MaxPool2D(), (5, 4, 2)),
    LayerCase(xpnet.MaxPool2D(size=(3, 2), stride=(2, 1)), (6, 4, 2)),
    LayerCase(xpnet.MaxPool1D(size=3, stride=2), (6, 2)),
    LayerCase(xpnet.AveragePool2D(size=(3, 2), stride=(2, 1)), (6, 4, 2)),
    LayerCase(xpnet.AveragePool1D(), (5, 2)),
    LayerCase(xpnet.GlobalAveragePool2D(), (3, 4, 2)),
    LayerCase(xpnet.GlobalAveragePool1D(), (5, 2)),
    LayerCase(xpnet.Sequence([xpnet.Linear(3, 4), xpnet.Tanh(), xpnet.Linear(4, 2, bias=False)])),
    LayerCase(xpnet.Sequence([xpnet.Tanh(), xpnet.Identity()])),
    LayerCase(xpnet.Residual([xpnet.Identity()])),
    LayerCase(xpnet.Residual([xpnet.Softplus(), xpnet.Linear(3, 4)], shortcut=[xpnet.Linear(3, 4), xpnet.ELU()])),
    LayerCase(xpnet.Residual([xpnet.Sequence([xpnet.Residual([xpnet.Linear(3, 3)]), xpnet.Tanh()]), xpnet.Softmax()])),
    LayerCase(
        xpnet.Residual([xpnet.Dropout(0.4), xpnet.Linear(3, 3), xpnet.Dropout(0.4)], [xpnet.Dropout(0.2)]),
        training=True, by_sample=False,
    ),
    LayerCase(xpnet.BatchNorm(3)),
    LayerCase(xpnet.BatchNorm(3), training=True, by_sample=False),
    LayerCase(xpnet.BatchNorm(2, momentum=0.3, eps=0.1), (3, 5, 2), training=True, by_sample=False),
    LayerCase(xpnet.LayerNorm(3)),
    LayerCase(xpnet.LayerNorm(2, eps=0.1), (3, 5, 2)),
    LayerCase(xpnet.RMSNorm(3)),
    LayerCase(xpnet.RMSNorm(2, eps=0.1), (5, 2)),
    LayerCase(xpnet.GroupNorm(2, 6), (6,)),
    LayerCase(xpnet.GroupNorm(2, 4, eps=0.1), (3, 5, 4)),
    *(
        LayerCase(layer, (3, 4, 2), training, by_sample=not training)
        for layer in (xpnet.RandomFlip(), xpnet.RandomShift(2), xpnet.RandomCutout(2))
        for training in (False, True)
    ),
]  # fmt: skip


def _values(rng, rows, outputs):
    return rng.normal(size=(rows, outputs))


def _classes(rng, rows, outputs):
    return rng.integers(0, outputs, rows)


def _probabilities(rng, rows, outputs):
    t = rng.uniform(0.1, 1.0, (rows, outputs))
    return t / t.sum(axis=1, keepdims=True)


def _decisions(rng, rows, outputs):
    return rng.integers(0, 2, (rows, outputs)).astype(float)


def _counts(rng, rows, outputs):
    return rng.integers(0, 5, (rows, outputs)).astype(float)


LOSSES = [
    (xpnet.MeanSquaredError(), _values),
    (xpnet.SumSquaredError(), _values),
    (xpnet.HalfSquaredError(), _values),
    (xpnet.MeanAbsoluteError(), _values),
    (xpnet.Huber(), _values),
    (xpnet.Huber(0.3), _values),
    (xpnet.Poisson(), _counts),
    (xpnet.PoissonDeviance(), _counts),
    (xpnet.Quantile(), _values),
    (xpnet.Quantile([0.3]), _values),
    (xpnet.Gaussian(), _values),
    (xpnet.BinaryCrossEntropy(), _decisions),
    (xpnet.BinaryCrossEntropy(), lambda rng, rows, outputs: rng.uniform(size=(rows, outputs))),
    (xpnet.CrossEntropy(), _classes),
    (xpnet.CrossEntropy(), _probabilities),
    (xpnet.CrossEntropy(0.1), _classes),
    (xpnet.CrossEntropy(0.1), _probabilities),
]

OPTIMIZERS = [
    xpnet.SGD(0.1),
    xpnet.SGD(0.1, momentum=0.9),
    xpnet.SGD(0.1, momentum=0.8, nesterov=True),
    xpnet.SGD(0.1, momentum=0.8, weight_decay=0.3, clip_value=0.5),
    xpnet.SGD(0.1, clip_norm=0.2),
    xpnet.SGD(0.1, clip_norm=0.2, clip_value=0.15),
    xpnet.Adagrad(0.1),
    xpnet.RMSProp(0.01),
    xpnet.RMSProp(0.01, decay=0.5, eps=1e-3),
    xpnet.Adam(0.01),
    xpnet.Adam(0.01, beta1=0.7, beta2=0.8, eps=1e-2, clip_norm=1.0),
    xpnet.AdamW(0.01),
    xpnet.AdamW(lambda step: 0.1 / (step + 1), weight_decay=0.5),
]


def public(base):
    """Return the classes in xpnet's namespace, and all others of its core, that derive from `base`.

    The estimators have some of their own, which their tests look after.
    """
    found, left = set(), [base]
    while left:
        for cls in left.pop().__subclasses__():
            left.append(cls)
            inside = cls.__module__.startswith("xpnet.") and not cls.__module__.startswith("xpnet.estimators.")
            if inside and not cls.__name__.startswith("_"):
                found.add(cls)
    exported = (getattr(xpnet, name) for name in xpnet.__all__)
    return found | {cls for cls in exported if isinstance(cls, type) and issubclass(cls, base) and cls is not base}


def away_from_kinks(x):
    """Return x with every number moved a little away from 0, where rectifiers have no derivative."""
    return np.copysign(np.abs(x) + 0.05, x)
