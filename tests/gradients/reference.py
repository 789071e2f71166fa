"""The objective of a network once more, in plain NumPy, for complex numbers, without a line of xpnet.

`f(w + ih).imag / h` is the derivative of `f` to the last digit (h = 1e-30: nothing cancels), as long as `f` is
analytic: a branch looks at the real part alone, and neither `abs` nor `conj` appears.

A network is a dict, `{"layers": [{"kind": "Linear", "inputs": 2, ...}, ...], "loss": {"kind": "Huber", ...}, ...}`, as
`strategies.py` draws it. Masks of dropout are given, layer number to array of zeros and ones.
"""

import math

import numpy as np
from scipy.special import erf  # the one that takes complex numbers

from . import reference_images as images
from . import reference_normal as normal

STEP = 1e-30


def softplus(z):
    positive = z.real > 0
    small = np.exp(np.where(positive, -z, z))
    return np.where(positive, z, 0.0) + np.log1p(small)


def sigmoid(z):
    positive = z.real > 0
    small = np.exp(np.where(positive, -z, z))
    return np.where(positive, 1.0, small) / (1.0 + small)


def softmax(z):
    e = np.exp(z - z.real.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def expm1(z):
    # NumPy's own is used: its imaginary part is exp(re) * sin(im), its real part keeps every digit near zero.
    return np.expm1(np.where(z.real > 0, 0.0, z))


ACTIVATIONS = {
    "Identity": lambda z: z,
    "ReLU": lambda z: np.where(z.real > 0, z, 0.0),
    "LeakyReLU": lambda z, slope=0.01: np.where(z.real > 0, z, slope * z),
    "ELU": lambda z, alpha=1.0: np.where(z.real > 0, z, alpha * expm1(z)),
    "Sigmoid": sigmoid,
    "Tanh": np.tanh,
    "Softplus": softplus,
    "SiLU": lambda z: z * sigmoid(z),
    "GELU": lambda z: 0.5 * z * (1.0 + erf(z / math.sqrt(2.0))),
    "Softmax": softmax,
}


def gelu_tanh(z):
    return 0.5 * z * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (z + 0.044715 * z**3)))


def own(params, number):
    """Return the parameters of one layer by their short names."""
    return {name.removeprefix(f"{number}."): p for name, p in params.items() if name.startswith(f"{number}.")}


def one(layer, params, x, mask=None):
    """Return the output of a layer with parameters `params` of its own."""
    options = {name: value for name, value in layer.items() if name != "kind"}
    if layer["kind"] == "Linear":
        x = x @ params["W"]
        return x + params["b"] if layer["bias"] else x
    if layer["kind"] in images.KINDS:
        return images.forward(layer, params, x)
    if layer["kind"] in normal.KINDS:
        return normal.forward(layer, params, x)
    if layer["kind"] == "Residual":
        shortcut = chain(layer["shortcut"], own(params, "shortcut"), x)
        return chain(layer["layers"], params, x) + shortcut
    if layer["kind"] == "Dropout":
        return x * mask / (1.0 - layer["rate"])
    if options.pop("approximate", "none") == "tanh":
        return gelu_tanh(x)
    return ACTIVATIONS[layer["kind"]](x, **options)


def chain(layers, params, x):
    for number, layer in enumerate(layers):
        x = one(layer, own(params, number), x)
    return x


def forward(config, params, x, masks=None):
    """Return the outputs of all layers."""
    outputs = []
    for number, layer in enumerate(config["layers"]):
        x = one(layer, own(params, number), x, (masks or {}).get(number))
        outputs.append(x)
    return outputs


def cross_entropy(y, t):
    rows = t if t.ndim == 2 else np.eye(y.shape[1])[t]
    top = y.real.max(axis=1, keepdims=True)
    return (rows * (top + np.log(np.exp(y - top).sum(axis=1, keepdims=True)) - y)).sum(axis=1)


def absolute(d):
    return np.where(d.real > 0, d, -d)


def huber(y, t, delta=1.0):
    d = absolute(y - t)
    return np.where(d.real <= delta, d * d / 2, delta * (d - delta / 2)).mean(axis=1)


def pinball(y, t, levels):
    e = np.concatenate([t] * len(levels), axis=1) - y
    q = np.repeat(levels, t.shape[1])
    return np.where(e.real > 0, q * e, (q - 1) * e).mean(axis=1)


def mean(y):
    return y[:, : y.shape[1] // 2]


def deviation(y):
    return np.exp(y[:, y.shape[1] // 2 :] / 2)


LOSSES = {  # one number a sample
    "SumSquaredError": lambda y, t: ((y - t) ** 2).sum(axis=1),
    "MeanSquaredError": lambda y, t: ((y - t) ** 2).mean(axis=1),
    "HalfSquaredError": lambda y, t: ((y - t) ** 2).mean(axis=1) / 2,
    "PoissonDeviance": lambda y, t: (
        np.where(t > 0, t * np.log(np.maximum(t, 1e-300)), 0.0) - t - t * y + np.exp(y)
    ).sum(axis=1),
    "MeanAbsoluteError": lambda y, t: absolute(y - t).mean(axis=1),
    "Huber": huber,
    "Quantile": pinball,
    "Gaussian": lambda y, t: (np.log(deviation(y)) + ((t - mean(y)) / deviation(y)) ** 2 / 2).mean(axis=1),
    "Poisson": lambda y, t: (np.exp(y) - t * y).mean(axis=1),
    "CrossEntropy": cross_entropy,
    "BinaryCrossEntropy": lambda y, t: (softplus(y) - t * y).sum(axis=1),
}


def loss(config, y, t, weight):
    """Weighted sum of the samples' losses; `weight` is None (1/B each) or any numbers, taken to the sum 1."""
    options = {name: value for name, value in config["loss"].items() if name not in ("kind", "targets")}
    weight = np.ones(len(y)) if weight is None else weight
    return (weight / weight.sum()) @ LOSSES[config["loss"]["kind"]](y, t, **options)


def objective(config, params, x, t, weight=None, masks=None):
    value = loss(config, forward(config, params, x, masks)[-1], t, weight)
    for name, p in params.items():
        if name.endswith(".W") or config["penalize_biases"]:
            value = value + config["l1"] * absolute(p).sum() + config["l2"] / 2 * (p * p).sum()
    return value


def complex_step(f, arrays):
    """Return the derivatives of `f(arrays)` to every element of every array of the dict."""
    result = {}
    for name, array in arrays.items():
        result[name] = np.empty(array.shape)
        moved = array.astype(complex)
        for index in np.ndindex(array.shape):
            moved[index] += 1j * STEP
            result[name][index] = f({**arrays, name: moved}).imag / STEP
            moved[index] = array[index]
    return result


def gradients(config, params, x, t, weight=None, masks=None):
    """Return d objective / d everything: every parameter, and the input under the name "x"."""
    arrays = {**params, "x": x}
    return complex_step(lambda a: objective(config, a, a.pop("x"), t, weight, masks), arrays)


def directional(config, params, x, t, direction, weight=None, masks=None):
    """Return the derivative of the objective along `direction`, a dict like `params` plus "x"."""
    moved = {name: p + 1j * STEP * direction[name] for name, p in {**params, "x": x}.items()}
    return objective(config, moved, moved.pop("x"), t, weight, masks).imag / STEP
