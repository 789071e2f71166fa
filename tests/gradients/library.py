"""From the dict of a network to xpnet's own: building it, its gradients, its dropout masks."""

import numpy as np

import xpnet
from xpnet.layers import backward_pass, forward_pass

from . import strategies

STEP = 3  # the training step whose dropout masks are used


def options(entry):
    return {name: value for name, value in entry.items() if name not in ("kind", "targets")}


def layer_of(entry):
    """Return xpnet's layer for a dict, and for a dict with layers inside."""
    inside = {name: [*map(layer_of, value)] for name, value in entry.items() if isinstance(value, list)}
    return getattr(xpnet, entry["kind"])(**{**options(entry), **inside})


def build(config, backend="numpy", dtype="float64"):
    """Return the network of `config`, with the parameters that belong to it."""
    net = xpnet.Network(
        [layer_of(layer) for layer in config["layers"]],
        loss=getattr(xpnet, config["loss"]["kind"])(**options(config["loss"])),
        backend=backend,
        dtype=dtype,
        seed=config["seed"],
        input_shape=config.get("shape"),
        **{name: config[name] for name in ("l1", "l2", "penalize_biases")},
    )
    net.set_parameters(strategies.numbers(config)[0])
    rng = np.random.default_rng(config["seed"])
    for name, value in net.state.items():  # running statistics as after some steps
        net.state[name] = net.backend.asarray(rng.uniform(0.5, 2.0, value.shape).astype(dtype))
    return net


def contexts(net, training=True):
    return net.contexts(training, net.backend.asarray(np.asarray([STEP], dtype=np.uint32)))


def masks(net, rows):
    """Return the zeros and ones of every dropout layer, read off what the layer does to ones."""
    found, shape = {}, net.input_shape
    for number, (layer, context) in enumerate(zip(net.layers, contexts(net), strict=True)):
        if isinstance(layer, xpnet.Dropout):
            ones = net.backend.asarray(np.ones((rows, *shape), dtype=net.dtype))
            y, _ = layer.forward(net.backend.xp, {}, ones, context)
            found[number] = (net.backend.to_numpy(y) > 0).astype(float)
        shape = layer.output_shape(shape)
    return found


def gradients(net, x, t, weight=None, training=True):
    """Return `(value, {name: gradient})` as NumPy arrays, the input's under the name "x"."""
    value, grads = net.gradients(x, t, weight, training=training, step=STEP)
    named = {name: net.backend.to_numpy(g) for name, g in grads.items()}
    xp, params = net.backend.xp, net.layout.split(net.backend.xp, net.theta)
    x, t, weight = net.check_batch(x, t, weight)
    y, caches = forward_pass(xp, net.layers, params, x, contexts(net, training))
    _, dy = net.loss(xp, y, t, weight)
    dx, _ = backward_pass(xp, net.layers, params, caches, dy, contexts(net, training), last=-1)
    return value, {**named, "x": net.backend.to_numpy(dx)}


def outputs(net, x, training=True):
    """Return every layer's output as NumPy arrays."""
    xp, params = net.backend.xp, net.layout.split(net.backend.xp, net.theta)
    h, results = net.backend.asarray(x.astype(net.dtype)), []
    for layer, p, context in zip(net.layers, params, contexts(net, training), strict=True):
        h, _ = layer.forward(xp, p, h, context)
        results.append(net.backend.to_numpy(h))
    return results


def objective(net, theta, x, t, weight=None, training=True):
    """Return the value that the network computes for the parameters `theta`, from its own forward pass alone."""
    xp, params = net.backend.xp, net.layout.split(net.backend.xp, theta)
    x, t, weight = net.check_batch(x, t, weight)
    y, _ = forward_pass(xp, net.layers, params, x, contexts(net, training))
    value, _ = net.loss(xp, y, t, weight)
    W = theta[: net.layout.decayed]
    return float(value) + net.l1 * float(xp.sum(xp.abs(W))) + net.l2 / 2 * float(xp.sum(W * W))
