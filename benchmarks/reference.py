"""The step that every system must compute, in float64 NumPy, as plainly as possible: the yardstick of the check."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from workloads import Array, Weights, Workload

# (the function, its derivative)
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "identity": (lambda z: z, lambda z: np.ones_like(z)),
    "relu": (lambda z: np.maximum(z, 0.0), lambda z: (z > 0.0).astype(z.dtype)),
    "leaky_relu": (lambda z: np.where(z > 0.0, z, 0.01 * z), lambda z: np.where(z > 0.0, 1.0, 0.01)),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2),
}


def _kinds(workload: Workload) -> list[str]:
    return [workload.activation] * (len(workload.sizes) - 2) + [workload.output]


def outputs(workload: Workload, weights: Weights, x: Array) -> Array:
    """The outputs (B, O) of the network for rows x (B, I)."""
    for (W, b), kind in zip(weights, _kinds(workload), strict=True):
        x = ACTIVATIONS[kind][0](x.astype(np.float64) @ W + b)
    return x


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


def gradients(workload: Workload, weights: Weights, x: Array, t: Array) -> tuple[float, list[Array]]:
    """The loss, and its gradients in the order W, b, W, b, ..."""
    kinds, inputs, zs = _kinds(workload), [x.astype(np.float64)], []
    for (W, b), kind in zip(weights, kinds, strict=True):
        zs.append(inputs[-1] @ W + b)
        inputs.append(ACTIVATIONS[kind][0](zs[-1]))
    loss, dy = loss_and_gradient(workload, inputs[-1], t)
    found: list[Array] = []
    for i in reversed(range(len(weights))):
        dz = dy * ACTIVATIONS[kinds[i]][1](zs[i])
        found = [inputs[i].T @ dz, dz.sum(axis=0), *found]
        dy = dz @ weights[i][0].T
    return loss, found


def train(workload: Workload, weights: Weights, x: Array, t: Array, steps: int) -> tuple[list[float], Weights]:
    """Take `steps` steps on the one batch (x, t). Return the loss before each step, and the final weights."""
    theta = [p.astype(np.float64) for pair in weights for p in pair]
    m, v = [np.zeros_like(p) for p in theta], [np.zeros_like(p) for p in theta]
    rate, losses = workload.learning_rate, []
    for step in range(1, steps + 1):
        loss, found = gradients(workload, _pairs(theta), x, t)
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
    return losses, _pairs(theta)


def _pairs(theta: list[Array]) -> Weights:
    return list(zip(theta[::2], theta[1::2], strict=True))
