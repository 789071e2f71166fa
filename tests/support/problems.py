"""Small problems and networks, and a training loop in plain NumPy, for the tests of `fit`."""

import numpy as np

import xpnet
from xpnet.training.feed import epoch_order

N = 23  # samples: no multiple of the batch sizes in the tests


def line():
    """Return inputs (N, 2) and targets (N, 1) near a plane."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(N, 2))
    return x, x @ [[1.0], [-2.0]] + 0.5 + 0.1 * rng.normal(size=(N, 1))


def three_classes():
    """Return inputs (60, 3) and classes 0, 1, 2."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(60, 3))
    return x, np.argmax(x + 0.3 * rng.normal(size=x.shape), axis=1)


def neuron(backend="numpy", **options):
    net = xpnet.Network(
        [xpnet.Linear(2, 1)], **{"loss": "sum_squared_error", "dtype": "float64", "backend": backend} | options
    )
    net.set_parameters({"0.W": [[0.3], [-0.4]], "0.b": [0.1]})
    return net


def classifier(**options):
    return xpnet.mlp([3, 8, 3], "tanh", **{"dtype": "float64"} | options)


def flat(net):
    return net.backend.to_numpy(net.theta).copy()


def loop(x, t, *, epochs, batch_size, rate, weight=None, seed=0, shuffle=True):
    """Train one linear neuron the way the tutorials do; return (w1, w2, b) and the mean loss of each epoch."""
    theta, losses = np.asarray([0.3, -0.4, 0.1]), []
    weight = np.ones(len(x)) if weight is None else np.asarray(weight, dtype=float)
    for epoch in range(epochs):
        order = epoch_order(seed, epoch, len(x)) if shuffle else np.arange(len(x))
        total = 0.0
        for start in range(0, len(x), batch_size):
            rows = order[start : start + batch_size]  # the last ones may be fewer
            w = weight[rows]
            error = x[rows] @ theta[:2] + theta[2] - t[rows, 0]
            total += float((w * error**2).sum())
            g = 2 * np.asarray([(w * error * x[rows, 0]).sum(), (w * error * x[rows, 1]).sum(), (w * error).sum()])
            if w.sum() > 0:
                theta = theta - rate * g / w.sum()
        losses.append(total / weight.sum())
    return theta, losses
