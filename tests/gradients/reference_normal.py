"""Normalisation once more, in plain NumPy for complex numbers; `np` may be a library that differentiates, too."""

import numpy

KINDS = ("BatchNorm", "LayerNorm", "RMSNorm", "GroupNorm")


def names(layer):
    """Return the names of the layer's parameters."""
    return ("gamma",) if layer["kind"] == "RMSNorm" else ("gamma", "beta")


def forward(layer, params, x, np=numpy):
    """Return the layer's output in training; `params` are its own."""
    kind, h = layer["kind"], x
    if kind == "GroupNorm":
        h = np.reshape(x, (x.shape[0], -1, layer["groups"], x.shape[-1] // layer["groups"]))
    axes = {"BatchNorm": tuple(range(x.ndim - 1)), "GroupNorm": (1, 3)}.get(kind, (-1,))
    if kind != "RMSNorm":
        h = h - np.mean(h, axis=axes, keepdims=True)
    h = h / np.sqrt(np.mean(h * h, axis=axes, keepdims=True) + layer["eps"])
    y = np.reshape(h, x.shape) * params["gamma"]
    return y + params["beta"] if "beta" in params else y
