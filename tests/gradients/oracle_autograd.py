"""The gradient from HIPS autograd: other code, other formulas, the same dict."""

import autograd.numpy as np
from autograd import value_and_grad
from autograd.scipy.special import erf, logsumexp
from autograd.scipy.stats import norm

from . import reference
from . import reference_images as images
from . import reference_normal as normal


def log_sigmoid(z):
    return -np.logaddexp(0.0, -z)


def activate(kind, z, options):
    if kind == "Identity":
        return 1.0 * z
    if kind == "ReLU":
        return z * (z > 0)
    if kind == "LeakyReLU":
        return z * np.where(z > 0, 1.0, options.get("slope", 0.01))
    if kind == "ELU":
        below = np.where(z > 0, 0.0, 1.0)
        return z * (1.0 - below) + options.get("alpha", 1.0) * below * np.expm1(z * below)
    if kind == "Sigmoid":
        return 0.5 + 0.5 * np.tanh(0.5 * z)
    if kind == "Tanh":
        return np.tanh(z)
    if kind == "Softplus":
        return np.logaddexp(z, 0.0)
    if kind == "SiLU":
        return z * np.exp(log_sigmoid(z))
    if kind == "GELU" and options.get("approximate", "none") == "tanh":
        return z * np.exp(log_sigmoid(2 * np.sqrt(2 / np.pi) * (z + 0.044715 * z * z * z)))
    if kind == "GELU":
        return z * (0.5 + 0.5 * erf(z * np.sqrt(0.5)))
    if kind == "Softmax":
        return np.exp(z - logsumexp(z, axis=1, keepdims=True))
    raise NotImplementedError(kind)


def sample_losses(kind, y, t, options):
    if kind == "CrossEntropy":
        log_p = y - logsumexp(y, axis=1, keepdims=True)
        return -log_p[np.arange(len(t)), t] if t.ndim == 1 else -np.sum(t * log_p, axis=1)
    if kind == "BinaryCrossEntropy":
        return -np.sum(t * log_sigmoid(y) + (1 - t) * log_sigmoid(-y), axis=1)
    if kind == "SumSquaredError":
        return np.sum(np.square(y - t), axis=1)
    if kind == "MeanSquaredError":
        return np.sum(np.square(y - t), axis=1) / y.shape[1]
    if kind == "MeanAbsoluteError":
        return np.sum(np.abs(y - t), axis=1) / y.shape[1]
    if kind == "Huber":
        delta = options.get("delta", 1.0)
        inside = np.minimum(np.abs(y - t), delta)
        return np.sum(0.5 * inside**2 + delta * (np.abs(y - t) - inside), axis=1) / y.shape[1]
    if kind == "HalfSquaredError":
        return 0.5 * np.mean((y - t) ** 2, axis=1)
    if kind == "PoissonDeviance":
        return np.sum(t * np.log(np.maximum(t, 1e-30)) - t - t * y + np.exp(y), axis=1)
    if kind == "Quantile":
        n = t.shape[1]
        parts = [(t - y[:, k * n : (k + 1) * n], q) for k, q in enumerate(options["levels"])]
        return sum(np.sum(np.maximum(q * e, (q - 1) * e), axis=1) for e, q in parts) / y.shape[1]
    if kind == "Gaussian":
        n = t.shape[1]
        return -np.sum(norm.logpdf(t, y[:, :n], np.exp(y[:, n:] / 2)), axis=1) / n - np.log(2 * np.pi) / 2
    if kind == "Poisson":
        return np.sum(np.exp(y) - t * y, axis=1) / y.shape[1]
    raise NotImplementedError(kind)


def one(layer, own, h, mask=None):
    kind = layer["kind"]
    if kind == "Linear":
        h = np.dot(h, own["W"])
        return h + np.reshape(own["b"], (1, -1)) if layer["bias"] else h
    if kind in images.KINDS:
        return images.forward(layer, own, h, np, lambda P: getattr(P, "_value", P))
    if kind in normal.KINDS:
        return normal.forward(layer, own, h, np)
    if kind == "Residual":
        y, shortcut = h, h
        for number, inner in enumerate(layer["layers"]):
            y = one(inner, reference.own(own, number), y)
        for number, inner in enumerate(layer["shortcut"]):
            shortcut = one(inner, reference.own(own, f"shortcut.{number}"), shortcut)
        return y + shortcut
    if kind == "Dropout":
        return np.where(mask > 0, h / (1 - layer["rate"]), 0.0)
    return activate(kind, h, layer)


def objective(config, arrays, t, weight, masks):
    h = arrays["x"]
    for number, layer in enumerate(config["layers"]):
        h = one(layer, reference.own(arrays, number), h, (masks or {}).get(number))
    penalty = 0.0
    for name, p in arrays.items():
        if name != "x" and (name.endswith(".W") or config["penalize_biases"]):
            penalty = penalty + config["l1"] * np.sum(np.abs(p)) + 0.5 * config["l2"] * np.sum(np.square(p))
    losses = sample_losses(config["loss"]["kind"], h, t, config["loss"])
    return penalty + (np.mean(losses) if weight is None else np.sum(losses * weight) / np.sum(weight))


def gradients(config, params, x, t, weight=None, masks=None):
    """Return `(value, {name: gradient})`, the input's under the name "x"."""
    return value_and_grad(lambda arrays: objective(config, arrays, t, weight, masks))({**params, "x": x})
