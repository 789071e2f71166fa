"""Bugs that hand-written gradients have had, and which checks claim to see each of them."""

import itertools

import numpy as np
from scipy.special import ndtr

import xpnet
import xpnet.model.core
from xpnet.network import Network

from .planting import EXACT, PARTS, PENALTY, Bug, backward_of, loss_delta, objective_gradient, scaled


def last_sample_dropped(loss, dy, y, t, weight):
    dy = np.array(dy)
    if len(dy) > 1:
        dy[-1] = 0.0
    return dy


def penalty_again(network, theta, gradient):
    gradient[: network.layout.decayed] += network.l2 * theta[: network.layout.decayed]


def penalty_missing(network, theta, gradient):
    gradient[: network.layout.decayed] -= network.l2 * theta[: network.layout.decayed]


def penalty_on_biases(network, theta, gradient):
    gradient[network.layout.decayed :] += network.l2 * theta[network.layout.decayed :]


def penalty_by_batch(network, theta, gradient):
    gradient[: network.layout.decayed] -= 0.5 * network.l2 * theta[: network.layout.decayed]


def l1_without_sign(network, theta, gradient):
    W = theta[: network.layout.decayed]
    gradient[: network.layout.decayed] += network.l1 * (1.0 - np.sign(W))


def multiply(factor):
    def change(network, theta, gradient):
        gradient *= factor

    return objective_gradient(change)


def accumulate_in_float32(layer, dx, grads, cache, dy):
    W = (cache.astype(np.float32).T @ dy.astype(np.float32)).astype(np.float64)
    return dx, {**grads, "W": W}


def clipped(layer, dx, grads, cache, dy):
    """The slope, dx / dy, is kept from vanishing."""
    slope = np.divide(dx, dy, out=np.ones_like(dx), where=dy != 0)
    return dy * np.maximum(slope, 1e-3), grads


def weights_ignored(loss, dy, y, t, weight):
    return dy / (weight[:, None] * len(y))


def huber_never_linear(loss, dy, y, t, weight):
    return weight[:, None] / y.shape[1] * (y - t)


def huber_slope_one(loss, dy, y, t, weight):
    return np.where(np.abs(y - t) > loss.delta, dy / loss.delta, dy)


def backward_remembers(honest):
    """The layer keeps its last input in itself, so that two places of one layer, or two calls, get mixed up."""

    def wrong(self, xp, params, cache, dy, *rest, **options):
        return honest(self, xp, params, np.roll(cache, 1, axis=0), dy, *rest, **options)

    return wrong


def reuse_of_delta(honest):
    """The delta is not handed on: each layer gets the one of the layer after the next."""

    def wrong(xp, layers, params, caches, dy, contexts, last=0):
        dx, grads = honest(xp, layers, params, caches, dy, contexts, last)
        shapes = [k for k in range(len(layers)) if "b" in grads[k]]
        for k, after_k in itertools.pairwise(shapes):
            if grads[k]["b"].shape == grads[after_k]["b"].shape:
                grads[k]["b"] = grads[after_k]["b"]
        return dx, grads

    return wrong


def shifted_mask(honest):
    def wrong(self, xp, params, cache, dy, *rest, **options):
        return (dy if cache is None else dy * np.roll(cache, 1)), {}

    return wrong


BUGS = {
    # the bugs of hand-written networks
    "no mean over the batch": Bug(
        xpnet.MeanSquaredError, "__call__", loss_delta(lambda self, dy, y, t, w: dy * len(y)), PARTS
    ),
    "mean over B - 1": Bug(
        xpnet.CrossEntropy, "__call__", loss_delta(lambda self, dy, y, t, w: dy * len(y) / max(len(y) - 1, 0.5)), PARTS
    ),
    "mean over the outputs forgotten": Bug(
        xpnet.MeanSquaredError, "__call__", loss_delta(lambda self, dy, y, t, w: dy * y.shape[1])
    ),
    "bias is a mean": Bug(xpnet.Linear, "backward", scaled("b", lambda dy: 1.0 / len(dy)), PARTS),
    "last sample dropped": Bug(xpnet.MeanSquaredError, "__call__", loss_delta(last_sample_dropped), PARTS),
    "factor 2 of the square missing": Bug(
        xpnet.SumSquaredError, "__call__", loss_delta(lambda self, dy, y, t, w: dy / 2)
    ),
    "l2 missing": Bug(Network, "objective", objective_gradient(penalty_missing), PENALTY),
    "l2 doubled": Bug(Network, "objective", objective_gradient(penalty_again), PENALTY),
    "l2 halved": Bug(Network, "objective", objective_gradient(penalty_by_batch), PENALTY),
    "l2 on biases, too": Bug(Network, "objective", objective_gradient(penalty_on_biases), PENALTY),
    "l1 without the sign": Bug(Network, "objective", objective_gradient(l1_without_sign), PENALTY),
    "activation's derivative missing": Bug(
        xpnet.Tanh, "backward", backward_of(lambda layer, dx, g, cache, dy: (dy, g))
    ),
    "derivative at y instead of x": Bug(
        xpnet.Tanh, "backward", backward_of(lambda layer, dx, g, cache, dy: (dy / np.cosh(np.tanh(cache)) ** 2, g))
    ),
    "derivative of the sigmoid of the sigmoid": Bug(
        xpnet.SiLU, "backward", backward_of(lambda layer, dx, g, cache, dy: (dy * cache[1], g))
    ),
    "derivative clipped at 1e-3": Bug(xpnet.Sigmoid, "backward", backward_of(clipped)),
    "GELU: approximation in backward only": Bug(
        xpnet.GELU,
        "backward",
        backward_of(
            lambda layer, dx, g, cache, dy: (
                (dx, g)
                if layer.approximate == "tanh"
                else (
                    xpnet.GELU(approximate="tanh").backward(
                        np, {}, xpnet.GELU(approximate="tanh").forward(np, {}, cache[0])[1], dy
                    )[0],
                    g,
                )
            )
        ),
    ),
    "GELU: density without its factor": Bug(
        xpnet.GELU,
        "backward",
        backward_of(
            lambda layer, dx, g, cache, dy: (
                (dy * (ndtr(cache[0]) + cache[0] * np.exp(-(cache[0] ** 2) / 2)), g)
                if layer.approximate == "none"
                else (dx, g)
            )
        ),
    ),
    "float32 inside float64": Bug(xpnet.Linear, "backward", backward_of(accumulate_in_float32), EXACT),
    "gradient times 1 + 1e-4": Bug(Network, "objective", multiply(1 + 1e-4)),
    "gradient times 1 + 1e-6": Bug(Network, "objective", multiply(1 + 1e-6)),
    "gradient times 1 + 1e-9": Bug(Network, "objective", multiply(1 + 1e-9), EXACT),
    # the bugs that these layers and losses invite
    "weight not transposed": Bug(
        xpnet.Linear,
        "backward",
        lambda honest: (
            lambda self, xp, params, cache, dy, *rest, **options: honest(
                self,
                xp,
                {**params, "W": params["W"].T if self.inputs == self.outputs else params["W"]},
                cache,
                dy,
                *rest,
            )
        ),
    ),
    "dW transposed": Bug(
        xpnet.Linear,
        "backward",
        backward_of(
            lambda layer, dx, g, cache, dy: (dx, {**g, "W": g["W"].T if layer.inputs == layer.outputs else g["W"]})
        ),
    ),
    "the sign of dW": Bug(xpnet.Linear, "backward", scaled("W", lambda dy: -1.0)),
    "softmax: the diagonal alone": Bug(
        xpnet.Softmax, "backward", backward_of(lambda layer, dx, g, y, dy: (dy * y * (1 - y), g))
    ),
    "softmax: left to the loss": Bug(xpnet.Softmax, "backward", backward_of(lambda layer, dx, g, y, dy: (dy, g))),
    "softmax: a mean for the sum": Bug(
        xpnet.Softmax,
        "backward",
        backward_of(lambda layer, dx, g, y, dy: (y * (dy - np.mean(dy * y, axis=1, keepdims=True)), g)),
    ),
    "ReLU: its derivative is its output": Bug(
        xpnet.ReLU, "backward", backward_of(lambda layer, dx, g, y, dy: (dy * y, g))
    ),
    "ReLU: the mask of dy": Bug(xpnet.ReLU, "backward", backward_of(lambda layer, dx, g, y, dy: (dy * (dy > 0), g))),
    "leaky ReLU: slope 0 in backward": Bug(
        xpnet.LeakyReLU, "backward", backward_of(lambda layer, dx, g, x, dy: (dy * (x > 0), g))
    ),
    "ELU: alpha forgotten": Bug(
        xpnet.ELU, "backward", backward_of(lambda layer, dx, g, x, dy: (dy * np.exp(np.minimum(x, 0)), g))
    ),
    "softplus: tanh for the logistic function": Bug(
        xpnet.Softplus, "backward", backward_of(lambda layer, dx, g, cache, dy: (dy * (1 + np.tanh(cache[0])) / 2, g))
    ),
    "dropout: scale missing in backward": Bug(
        xpnet.Dropout,
        "backward",
        backward_of(lambda layer, dx, g, m, dy: (dx if m is None else dx * (1 - layer.rate), g)),
    ),
    "dropout: mask missing in backward": Bug(
        xpnet.Dropout,
        "backward",
        backward_of(lambda layer, dx, g, m, dy: (dx if m is None else dy / (1 - layer.rate), g)),
    ),
    "dropout: another mask in backward": Bug(xpnet.Dropout, "backward", shifted_mask),
    "weights of the samples ignored in the delta": Bug(xpnet.Huber, "__call__", loss_delta(weights_ignored), PARTS),
    "Huber: never linear": Bug(xpnet.Huber, "__call__", loss_delta(huber_never_linear)),
    "Huber: slope 1 in place of delta": Bug(xpnet.Huber, "__call__", loss_delta(huber_slope_one)),
    "absolute error: the error in place of its sign": Bug(
        xpnet.MeanAbsoluteError, "__call__", loss_delta(lambda self, dy, y, t, w: w[:, None] * (y - t) / y.shape[1])
    ),
    "quantiles: the two sides exchanged": Bug(
        xpnet.Quantile, "__call__", loss_delta(lambda self, dy, y, t, w: np.sign(dy) * w[:, None] / y.shape[1] - dy)
    ),
    "Gaussian: the variance for its root": Bug(
        xpnet.Gaussian, "__call__", loss_delta(lambda self, dy, y, t, w: dy * np.repeat([1.0, 2.0], t.shape[1]))
    ),
    "Poisson: the rate not exponentiated": Bug(
        xpnet.Poisson, "__call__", loss_delta(lambda self, dy, y, t, w: w[:, None] * (y - t) / y.shape[1])
    ),
    "binary cross-entropy: a mean over the outputs": Bug(
        xpnet.BinaryCrossEntropy, "__call__", loss_delta(lambda self, dy, y, t, w: dy / y.shape[1])
    ),
    "cross-entropy: multiplied by p (1 - p)": Bug(
        xpnet.CrossEntropy,
        "__call__",
        loss_delta(lambda self, dy, y, t, w: dy * self.predict(np, y) * (1 - self.predict(np, y))),
    ),
    "weights not divided by their sum": Bug(
        Network,
        "check_batch",
        lambda honest: (
            lambda self, x, t, weight=None: (
                (*honest(self, x, t, weight)[:2], np.asarray(weight, dtype=self.dtype))
                if weight is not None
                else honest(self, x, t, weight)
            )
        ),
        # Value and gradient are wrong alike: differences cannot know.
        (*EXACT, "identities"),
    ),
    "the last input is remembered": Bug(xpnet.Linear, "backward", backward_remembers, PARTS),
    "one delta for two layers": Bug(xpnet.model.core, "backward_pass", reuse_of_delta),
}
