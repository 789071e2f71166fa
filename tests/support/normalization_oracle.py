"""Normalisation once more, without a line of xpnet: each group of numbers is gathered by a loop over every index.

It takes complex numbers, so that `f(x + ih).imag / h` is a derivative of it to the last digit.
"""

import numpy as np

STEP = 1e-30


def group_of(layer, index):
    """Return the name of the group whose statistics the number at `index` is normalised by."""
    *places, c = index
    kind = type(layer).__name__
    if kind == "BatchNorm":
        return c
    if kind == "GroupNorm":
        return index[0], c // (layer.features // layer.groups)
    return tuple(places)  # LayerNorm, RMSNorm


def groups(layer, x):
    """Return the numbers of each group, in lists."""
    found = {}
    for index in np.ndindex(x.shape):
        found.setdefault(group_of(layer, index), []).append(x[index])
    return found


def statistics(layer, x):
    """Return mean and biased variance of each group; RMSNorm's mean is not taken off."""
    found = {}
    for name, numbers in groups(layer, x).items():
        centre = 0.0 if type(layer).__name__ == "RMSNorm" else sum(numbers) / len(numbers)
        found[name] = centre, sum((number - centre) ** 2 for number in numbers) / len(numbers)
    return found


def forward(layer, params, x, running=None):
    """Return y; `running` has the mean and the variance of each group if they are not those of the numbers."""
    found = statistics(layer, x) if running is None else running
    y = np.empty(x.shape, np.result_type(x, *params.values()))
    for index in np.ndindex(x.shape):
        mean, variance = found[group_of(layer, index)]
        y[index] = (x[index] - mean) / np.sqrt(variance + layer.eps)
        y[index] = y[index] * params["gamma"][index[-1]] + (params["beta"][index[-1]] if "beta" in params else 0.0)
    return y


def gradients(layer, params, x, dy, running=None):
    """Return the derivatives of sum(dy * y) to "x" and to every parameter, each by a complex step."""
    arrays, result = {**params, "x": x}, {}
    for name, array in arrays.items():
        result[name] = np.empty(array.shape)
        for index in np.ndindex(array.shape):
            moved = array.astype(complex)
            moved[index] += 1j * STEP
            changed = {**arrays, name: moved}
            y = forward(layer, {key: changed[key] for key in params}, changed["x"], running)
            result[name][index] = (dy * y).sum().imag / STEP
    return result


def running_statistics(layer, batches):
    """Return mean and variance of each channel after these batches, number by number from 0 and 1."""
    mean, variance = [0.0] * layer.features, [1.0] * layer.features
    for x in batches:
        for c, numbers in groups(layer, x).items():
            centre = sum(numbers) / len(numbers)
            square = sum((number - centre) ** 2 for number in numbers)
            unbiased = square / (len(numbers) - 1) if len(numbers) > 1 else 0.0
            mean[c] += layer.momentum * (centre - mean[c])
            variance[c] += layer.momentum * (unbiased - variance[c])
    return np.array(mean), np.array(variance)
