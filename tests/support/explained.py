"""The text of `explain`, executed."""

import numpy as np
import scipy.special

import xpnet
from xpnet.layers.shapes import every_layer


def run(net, text, x, t, weight):
    """Execute what explain wrote and return every name."""
    names = dict(vars(np))
    names |= {"normal_cdf": scipy.special.ndtr, "x": x, "t": t, "w": weight[:, None], "xp": np}
    for name, a in net.parameters.items():
        names[variable(name)] = np.asarray(a)
    for item in every_layer(net.layers, net.input_shape):
        if isinstance(item.layer, xpnet.Dropout):
            names[variable(f"{item.place}.m")] = 1.0
        if isinstance(item.layer, xpnet.Activation):
            names |= {variable(f"{item.place}.f"): item.layer.f, variable(f"{item.place}.df"): item.layer.df}
    exec(text, names)
    return names


def variable(name):
    """Return what explain calls a quantity: W3_0 for "3.0.W"."""
    place, _, short = name.rpartition(".")
    return short + place.replace(".", "_")
