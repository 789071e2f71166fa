"""The step that every system must compute, in float64 NumPy, as plainly as possible: the yardstick of the check."""

from __future__ import annotations

import numpy as np
from networks import Array, Weights, with_weights
from reference_layers import Pass
from workloads import Workload

Running = list[list[Array]]  # mean and variance of each normalisation


def running_statistics(workload: Workload) -> Running:
    """The running statistics before the first step."""
    norms = [layer[1] for layer in with_weights(workload.network) if layer[0] == "norm"]
    return [[np.zeros(features), np.ones(features)] for features in norms]


def outputs(workload: Workload, weights: Weights, x: Array, running: Running | None = None) -> Array:
    """The outputs (B, O) of the network for samples x; `running` are needed if it has normalisations."""
    way = Pass(iter(weights), iter(running or []), training=False)
    return way.forward(workload.network, x.astype(np.float64))[0]


def softmax(y: Array) -> Array:
    """The probabilities of logits y (B, O)."""
    p = np.exp(y - y.max(axis=1, keepdims=True))
    return np.asarray(p / p.sum(axis=1, keepdims=True))


def loss_and_gradient(workload: Workload, y: Array, t: Array) -> tuple[float, Array]:
    """The loss of network outputs y (B, O) and its gradient dL/dy."""
    if workload.loss == "squared_error":
        return float(np.mean((y - t) ** 2)), 2.0 * (y - t) / y.size
    p, one_hot = softmax(y), np.eye(y.shape[1])[t]
    return float(-np.log((one_hot * p).sum(axis=1)).mean()), (p - one_hot) / len(y)


def gradients(
    workload: Workload, weights: Weights, x: Array, t: Array, running: Running | None = None
) -> tuple[float, list[Array]]:
    """The loss, and its gradients in the order of the weights; a step of training moves the `running` statistics."""
    way = Pass(iter(weights), iter(running or []), training=True)
    y, back = way.forward(workload.network, x.astype(np.float64))
    loss, dy = loss_and_gradient(workload, y, t)
    return loss, back(dy)[1]


def train(workload: Workload, weights: Weights, x: Array, t: Array, steps: int) -> tuple[list[float], Weights, Running]:
    """Take `steps` steps on the one batch (x, t). Return the loss before each, and the final weights and statistics."""
    theta, running = [p.astype(np.float64) for own in weights for p in own], running_statistics(workload)
    m, v = [np.zeros_like(p) for p in theta], [np.zeros_like(p) for p in theta]
    rate, losses = workload.learning_rate, []
    for step in range(1, steps + 1):
        loss, found = gradients(workload, _like(weights, theta), x, t, running)
        losses.append(loss)
        for i, g in enumerate(found):
            if workload.optimizer.startswith("adam"):
                m[i] = 0.9 * m[i] + 0.1 * g
                v[i] = 0.999 * v[i] + 0.001 * g * g
                m_hat, v_hat = m[i] / (1 - 0.9**step), v[i] / (1 - 0.999**step)
                # Kingma and Ba (2015) print both: algorithm 1, and, before section 2.1, the form with "eps hat".
                eps = 1e-8 if workload.optimizer == "adam" else 1e-8 / np.sqrt(1 - 0.999**step)
                theta[i] = theta[i] - rate * m_hat / (np.sqrt(v_hat) + eps)
            else:
                m[i] = (0.9 if workload.optimizer == "momentum" else 0.0) * m[i] + g
                theta[i] = theta[i] - rate * m[i]
    return losses, _like(weights, theta), running


def _like(weights: Weights, theta: list[Array]) -> Weights:
    values = iter(theta)
    return [tuple(next(values) for _ in own) for own in weights]
