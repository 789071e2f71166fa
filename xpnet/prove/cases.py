"""What is proven: every layer, loss and optimizer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xpnet import layers, losses, optimizers
from xpnet.typing import HostArray

ROWS = 27
"""Samples of every training."""
LAYERS: tuple[tuple[layers.Layer, tuple[int, ...]], ...] = (
    *((layers.Linear(3, size), (3,)) for size in (4, 1)),
    *((layer(), (3,)) for layer in (
        layers.Identity, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Sigmoid, layers.Tanh, layers.Softplus,
        layers.SiLU, layers.GELU, layers.Softmax,
    )),
    *((layer(3), (3,)) for layer in (layers.BatchNorm, layers.LayerNorm, layers.RMSNorm)),
    *((layer(), (4, 4, 2)) for layer in (
        layers.RandomFlip, layers.Flatten, layers.MaxPool2D, layers.AveragePool2D, layers.GlobalAveragePool2D,
    )),
    *((layer(), (4, 2)) for layer in (layers.MaxPool1D, layers.AveragePool1D, layers.GlobalAveragePool1D)),
    (layers.GroupNorm(2, 4), (3, 4)), (layers.BatchNorm(2), (3, 4, 2)), (layers.Dropout(0.4), (3,)),
    (layers.GELU("tanh"), (3,)), (layers.Reshape((3, 1)), (3,)), (layers.Conv1D(2, 3, size=3, stride=2), (7, 2)),
    (layers.Conv2D(2, 3), (5, 4, 2)), (layers.RandomShift(2), (4, 4, 2)), (layers.RandomCutout(2), (4, 4, 2)),
    (layers.Activation(lambda xp, x: xp.sin(x), lambda xp, x: xp.cos(x), name="sine"), (3,)),
    (layers.Sequence([layers.Linear(3, 4), layers.Tanh()]), (3,)),
    (layers.Residual([layers.Linear(3, 4), layers.ReLU()], [layers.Linear(3, 4)]), (3,)),
)  # fmt: skip
"""Layers, and the shape of a sample that they are given."""
FACTORS: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((128, 784), (784, 512)), ((784, 128), (128, 512)), ((1, 128), (128, 10)), ((7, 3), (3, 5)), ((33, 1), (1, 9)),
    ((1, 1), (1, 1)), ((6, 40, 50), (6, 50, 30)), ((4, 5), (6, 5, 3)), ((6, 4, 5), (5, 3)), ((2, 1, 4, 5), (3, 5, 3)),
    ((6, 1, 5), (6, 5, 1)), ((5,), (6, 5, 3)), ((6, 4, 5), (5,)), ((5,), (5, 3)), ((50,), (50,)),
)  # fmt: skip
"""Shapes of the factors of products: of matrices, vectors, and stacks of matrices."""
OPTIMIZERS = (
    optimizers.SGD(0.1), optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.1, clip_norm=0.2),
    optimizers.Adagrad(0.1), optimizers.RMSProp(0.01), optimizers.Adam(0.01), optimizers.AdamW(0.01),
)  # fmt: skip
LOSSES: tuple[tuple[losses.Loss, Callable[[np.random.Generator], HostArray]], ...] = (
    *((loss, lambda rng: rng.normal(size=(ROWS, 2))) for loss in (
        losses.MeanSquaredError(), losses.SumSquaredError(), losses.HalfSquaredError(), losses.MeanAbsoluteError(),
        losses.Huber(0.3),
    )),
    *((loss, lambda rng: rng.poisson(2.0, size=(ROWS, 2)) * 1.0) for loss in (
        losses.Poisson(), losses.PoissonDeviance(),
    )),
    (losses.Quantile((0.2, 0.7)), lambda rng: rng.normal(size=(ROWS, 1))),
    (losses.Gaussian(), lambda rng: rng.normal(size=(ROWS, 1))),
    (losses.BinaryCrossEntropy(), lambda rng: rng.integers(0, 2, size=(ROWS, 2)) * 1.0),
    (losses.CrossEntropy(0.1), lambda rng: rng.integers(0, 2, size=ROWS)),
    (losses.CrossEntropy(), lambda rng: rng.dirichlet((1.0, 1.0), size=ROWS)),
)  # fmt: skip
"""Losses, and how their targets are drawn."""
