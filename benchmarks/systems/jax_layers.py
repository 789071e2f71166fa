"""The layers of `networks.py` as functions of JAX; channels are last."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from networks import Layer

ACTIVATIONS = {"relu": jax.nn.relu, "leaky_relu": partial(jax.nn.leaky_relu, negative_slope=0.01),
               "sigmoid": jax.nn.sigmoid}  # fmt: skip


def apply(
    layers: list[Layer], params: Iterator[Any], running: Iterator[Any], x: Any, training: bool
) -> tuple[Any, list[Any]]:
    """The outputs, and the running mean and variance of each normalisation afterwards."""
    after: list[Any] = []
    for layer in layers:
        kind, rank = layer[0], x.ndim - 2
        if kind == "residual":
            branch, own = apply(layer[1], params, running, x, training)
            x, more = apply(layer[2], params, running, x, training)
            x, after = branch + x, [*after, *own, *more]
        elif kind == "conv":
            W, *b = next(params)
            stride, padding = (layer[4],) * rank, [(layer[5],) * 2] * rank
            names = ("NWC", "WIO", "NWC") if rank == 1 else ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(x, W, stride, padding, dimension_numbers=names)
            x = x + b[0] if b else x
        elif kind == "norm":
            x, statistics = _normalized(x, *next(params), *next(running), training)
            after.append(statistics)
        elif kind == "linear":
            W, c = next(params)
            x = x @ W + c
        elif kind == "pool":
            window = (1, *(layer[1],) * rank, 1)
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")
        elif kind == "mean":
            x = x.mean(axis=tuple(range(1, rank + 1)))
        else:
            x = x.reshape(len(x), -1) if kind == "flatten" else ACTIVATIONS[kind](x)
    return x, after


def _normalized(x: Any, gamma: Any, beta: Any, mean: Any, variance: Any, training: bool) -> tuple[Any, Any]:
    if training:
        over, n = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
        m, v = x.mean(axis=over), x.var(axis=over)
        after = (0.9 * mean + 0.1 * m, 0.9 * variance + 0.1 * v * n / (n - 1))
        return gamma * (x - m) * jax.lax.rsqrt(v + 1e-5) + beta, after
    return gamma * (x - mean) * jax.lax.rsqrt(variance + 1e-5) + beta, (mean, variance)
