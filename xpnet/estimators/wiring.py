"""Between an estimator's lists of weights and an xpnet network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from numbers import Integral
from typing import Any

import numpy as np

from xpnet.errors import ConfigError
from xpnet.layers import ACTIVATIONS, Identity, Layer, Linear
from xpnet.model.build import mlp_layers
from xpnet.network import Network
from xpnet.typing import Array, HostArray

ACTIVATION_NAMES = {"logistic", *ACTIVATIONS}
"""scikit-learn's names and xpnet's; "logistic" is the sigmoid."""


def hidden_sizes(hidden_layer_sizes: Any) -> list[int]:
    """Return the numbers of hidden units as a list, or raise."""
    sizes = list(hidden_layer_sizes) if isinstance(hidden_layer_sizes, Iterable) else [hidden_layer_sizes]
    if any(not isinstance(size, Integral) for size in sizes):
        raise ConfigError(f"hidden_layer_sizes must be integers, got {sizes}")
    if any(size <= 0 for size in sizes):
        raise ConfigError(f"hidden_layer_sizes must be > 0, got {sizes}.")
    return [int(size) for size in sizes]


def is_logistic(activation: Any, k: int) -> bool:
    """Say whether hidden layer k is logistic, or the last one if there are not so many."""
    if not isinstance(activation, str | Layer):
        activation = activation[min(k, len(activation) - 1)] if len(activation) else "relu"
    return isinstance(activation, str) and activation in ("logistic", "sigmoid")


def make_layers(units: Sequence[int], activation: Any, dropout: float) -> list[Layer]:
    """Return `Linear` layers with an activation, and dropout if there is any, after each but the last."""
    names = [activation] * (len(units) - 2) if isinstance(activation, str | Layer) else activation
    after = ["sigmoid" if isinstance(name, str) and name == "logistic" else name for name in names]
    layers = mlp_layers(units, after, None, dropout, True, Linear.weight_init)
    return [layer for layer in layers if not isinstance(layer, Identity)]


def draw(units: Sequence[int], activation: Any, rng: np.random.RandomState) -> list[tuple[HostArray, HostArray]]:
    """Return initial weights and biases, the same numbers in the same order as scikit-learn's.

    Both are uniform in [-a, a) with a = sqrt(6 / (I + O)), or sqrt(2 / (I + O)) under a logistic activation;
    Glorot and Bengio 2010, equation 16.
    """
    values = []
    for k, (inputs, outputs) in enumerate(pairwise(units)):
        a = np.sqrt((2.0 if is_logistic(activation, k) else 6.0) / (inputs + outputs))
        W = rng.uniform(-a, a, (inputs, outputs))
        values.append((W, rng.uniform(-a, a, outputs)))
    return values


def write(net: Network, coefs: Sequence[Any], intercepts: Sequence[Any]) -> None:
    """Give the linear layers of `net` these weights and biases."""
    linear = [k for k, layer in enumerate(net.layers) if isinstance(layer, Linear)]
    with net.backend.active():
        views = net.layout.split(net.backend.xp, net.theta)
        for k, W, b in zip(linear, coefs, intercepts, strict=True):
            for name, value in (("W", W), ("b", b)):
                place = views[k][name]
                if not net.backend.owns(value):
                    value = net.backend.asarray(np.asarray(value, dtype=net.dtype))
                place[...] = net.backend.xp.astype(value, place.dtype)


def weights(net: Network, on_host: bool) -> tuple[list[Array], list[Array]]:
    """Return the weights and the biases of the linear layers.

    They are views of `net.theta`, so that a change of one changes the network; but read-only copies if the
    network computes elsewhere and they are wanted on the host.
    """
    views = net.layout.split(net.backend.xp, net.theta)
    linear = [views[k] for k, layer in enumerate(net.layers) if isinstance(layer, Linear)]
    coefs, intercepts = [view["W"] for view in linear], [view["b"] for view in linear]
    if not on_host or isinstance(net.theta, np.ndarray):
        return coefs, intercepts
    return [_frozen(net, W) for W in coefs], [_frozen(net, b) for b in intercepts]


def _frozen(net: Network, a: Array) -> HostArray:
    host = net.backend.to_numpy(a)
    host.flags.writeable = False
    return host


def units_of(net: Network) -> list[int]:
    """Return the numbers of units: inputs, hidden layers, outputs."""
    linear = [layer for layer in net.layers if isinstance(layer, Linear)]
    return [linear[0].inputs, *(layer.outputs for layer in linear)]
