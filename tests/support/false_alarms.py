"""Networks with BatchNorm that are right: `xpnet.check_gradients` is to find no mistake in any of them.

`python tests/support/false_alarms.py 300 0` checks the first 300, from number 0, and prints those for which it alarms.
"""

import sys
from collections import Counter
from math import prod

import numpy as np

import xpnet
from xpnet import BatchNorm

ACTIVATIONS = [
    xpnet.ReLU, xpnet.Tanh, xpnet.Sigmoid, xpnet.Softplus, xpnet.SiLU, xpnet.GELU, xpnet.ELU, xpnet.LeakyReLU,
]  # fmt: skip
LOSSES = ["cross_entropy", "mean_squared_error", "huber", "binary_cross_entropy", "poisson"]
INPUTS = [(1.0, 0.0), (1.0, 0.0), (255.0, 0.0), (1e-3, 0.0), (1.0, 100.0), (30.0, 1e3)]  # a spread and a mean


def block(rng, shape):
    """Return layers for samples of `shape`, BatchNorm mostly among them, and the shape of what they give."""
    features, outputs, axes = shape[-1], int(rng.integers(1, 6)), len(shape) - 1
    if axes:
        size, stride = int(rng.integers(1, 4)), int(rng.integers(1, 3))
        convolution = (xpnet.Conv1D, xpnet.Conv2D)[axes - 1]
        first = convolution(features, outputs, size, stride, bias=bool(rng.integers(0, 2)))
    else:
        first = xpnet.Linear(features, outputs, bias=bool(rng.integers(0, 2)))
    norm = [BatchNorm(outputs, eps=float(rng.choice([1e-5, 1e-3, 0.1])))] if rng.random() < 0.8 else []
    layers, shape = [first, *norm, rng.choice(ACTIVATIONS)()], first.output_shape(shape)
    if axes and min(shape[:-1]) > 1 and rng.random() < 0.3:
        pools = (xpnet.MaxPool1D, xpnet.AveragePool1D, xpnet.MaxPool2D, xpnet.AveragePool2D)
        layers.append(pools[2 * axes - 2 + int(rng.integers(0, 2))]())
        shape = layers[-1].output_shape(shape)
    if rng.random() < 0.3:
        inner = [BatchNorm(outputs), xpnet.Tanh(), BatchNorm(outputs)]
        layers.append(xpnet.Residual(inner, [BatchNorm(outputs)] if rng.random() < 0.3 else []))
    return layers, shape


def network(number):
    """Return the network of this number, with a batch of inputs, targets and weights, and whether to train."""
    rng = np.random.default_rng([number, 0xFA15E])
    shape = (*rng.integers(1, 7, rng.integers(0, 3)).tolist(), int(rng.integers(1, 5)))
    layers, after = ([BatchNorm(shape[-1])] if rng.random() < 0.3 else []), shape
    for _ in range(rng.integers(1, 4)):
        more, after = block(rng, after)
        layers += more
    layers += [xpnet.Flatten()] if len(after) > 1 else []
    outputs, loss = int(rng.integers(2, 4)), str(rng.choice(LOSSES))
    layers += [BatchNorm(prod(after)), xpnet.Linear(prod(after), outputs)]
    net = xpnet.Network(
        layers, loss, dtype=str(rng.choice(["float32", "float64"])), seed=number, input_shape=shape,
        l2=float(rng.choice([0.0, 0.01])),
    )  # fmt: skip
    rows, (spread, mean) = int(rng.choice([1, 2, 3, 5, 8, 16])), INPUTS[rng.integers(0, len(INPUTS))]
    for name, value in net.state.items():  # running statistics as after some steps
        net.state[name] = rng.uniform(0.5, 2.0, value.shape).astype(net.dtype)
    x = mean + spread * rng.standard_normal((rows, *shape))
    t = rng.integers(0, 2, rows) if loss == "cross_entropy" else rng.integers(0, 2, (rows, outputs)).astype(float)
    weight = rng.uniform(0.2, 2.0, rows) if rng.random() < 0.5 else None
    return net, x, t, weight, bool(rng.integers(0, 2))


def report(number):
    """Return what `check_gradients` says of a network."""
    net, x, t, weight, training = network(number)
    return xpnet.check_gradients(net, x, t, sample_weight=weight, training=training, max_elements=100, seed=number)


def alarms(found):
    """Say whether a report names a mistake."""
    return any(part.findings or any(row.verdict == "WRONG" for row in part.arrays) for part in (found, *found.parts))


def main():
    count, first = int(sys.argv[1]), int(sys.argv[2])
    verdicts = Counter()
    for number in range(first, first + count):
        found = report(number)
        verdict = "alarm" if alarms(found) else "right" if found.passed else "only kinks in an array"
        verdicts[verdict] += 1
        if verdict == "alarm":
            print(f"{number}: {network(number)[0].layers}\n{found}", flush=True)
    print(dict(verdicts))


if __name__ == "__main__":
    main()
