"""The gradient from JAX in double precision: `jax.nn` and `jax.grad`, built from the same dict."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import nn
from jax.scipy.stats import norm

ACTIVATIONS = {
    "Identity": lambda z: z,
    "ReLU": nn.relu,
    "LeakyReLU": lambda z, slope=0.01: nn.leaky_relu(z, slope),
    "ELU": lambda z, alpha=1.0: nn.elu(z, alpha),
    "Sigmoid": nn.sigmoid,
    "Tanh": jnp.tanh,
    "Softplus": nn.softplus,
    "SiLU": nn.silu,
    "GELU": lambda z, approximate="none": nn.gelu(z, approximate=approximate == "tanh"),
    "Softmax": lambda z: nn.softmax(z, axis=1),
}


def sample_loss(y, t, kind, delta=1.0, targets=None, levels=()):
    if kind == "CrossEntropy":
        log_p = nn.log_softmax(y)
        return -log_p[t] if jnp.ndim(t) == 0 else -t @ log_p
    if kind == "BinaryCrossEntropy":
        return -(t * nn.log_sigmoid(y) + (1 - t) * nn.log_sigmoid(-y)).sum()
    if kind == "Huber":
        r = jnp.abs(y - t)
        return jnp.where(r < delta, 0.5 * r**2, delta * r - 0.5 * delta**2).mean()
    if kind == "Gaussian":
        m, s = jnp.split(y, 2)
        return -norm.logpdf(t, m, jnp.exp(s / 2)).mean() - jnp.log(2 * jnp.pi) / 2
    if kind == "Quantile":
        e, q = t - y.reshape(len(levels), -1), jnp.asarray(levels)[:, None]
        return jnp.maximum(q * e, (q - 1) * e).mean()
    return {
        "SumSquaredError": lambda: ((y - t) ** 2).sum(),
        "MeanSquaredError": lambda: ((y - t) ** 2).mean(),
        "HalfSquaredError": lambda: 0.5 * ((y - t) ** 2).mean(),
        "PoissonDeviance": lambda: (t * jnp.log(jnp.maximum(t, 1e-30)) - t - t * y + jnp.exp(y)).sum(),
        "MeanAbsoluteError": lambda: jnp.abs(y - t).mean(),
        "Poisson": lambda: (jnp.exp(y) - t * y).mean(),
    }[kind]()


def objective(arrays, config, t, weight, masks):
    h, penalized = arrays["x"], []
    for number, layer in enumerate(config["layers"]):
        options = {name: value for name, value in layer.items() if name != "kind"}
        if layer["kind"] == "Linear":
            h = jnp.einsum("bi,io->bo", h, arrays[f"{number}.W"]) + arrays.get(f"{number}.b", 0.0)
            penalized += [f"{number}.W"] + [f"{number}.b"] * (layer["bias"] and config["penalize_biases"])
        elif layer["kind"] == "Dropout":
            h = h * (masks[number] / (1 - layer["rate"]))
        else:
            h = ACTIVATIONS[layer["kind"]](h, **options)
    losses = jnp.stack([sample_loss(y, target, **config["loss"]) for y, target in zip(h, t, strict=True)])
    theta = [jnp.ravel(arrays[name]) for name in penalized]
    penalty = sum(config["l1"] * jnp.abs(p).sum() + config["l2"] * p @ p / 2 for p in theta)
    return jnp.average(losses, weights=weight) + penalty


def gradients(config, params, x, t, weight=None, masks=None):
    """Return `(value, {name: gradient})`, the input's under the name "x"."""
    with jax.enable_x64(True):
        arrays = {name: jnp.asarray(p) for name, p in {**params, "x": x}.items()}
        value, grads = jax.value_and_grad(objective)(arrays, config, jnp.asarray(t), weight, masks)
        return float(value), {name: np.asarray(g) for name, g in grads.items()}
