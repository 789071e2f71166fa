"""Random networks of convolutions, pools and residual blocks: odd sizes, rests of strides, one pixel, one channel.

The dicts are those of `strategies.py` with the shape of one sample, "shape".
"""

from math import prod

import loops
from hypothesis import strategies as st

from . import strategies

SIZES = (5, 4, 6, 3, 7, 2, 1)
ORDERS = [tuple(k == block for k in range(count)) for count in (1, 2, 3) for block in range(count)]
"""Which of one, two or three layers is a residual block."""
SMOOTH = ("Tanh", "Sigmoid", "Softplus", "Identity")  # inside of a block no test looks for kinks

activations = strategies.activations.filter(lambda layer: layer["kind"] != "Softmax")  # which takes rows


def after(layer, shape):
    """Return the shape of an output sample."""
    if layer["kind"] == "Residual":
        return (*shape[:-1], layer["layers"][-1]["outputs"])
    many = loops.windows_of(shape, layer["size"], layer["stride"], layer.get("padding", "valid"))
    return (*many, layer.get("outputs", shape[-1]))


@st.composite
def convolutions(draw, shape, outputs=None, smooth=False):
    """Draw a convolution of samples of `shape`; with given outputs one that keeps the shape of an image."""
    axes = len(shape) - 1
    size = tuple(draw(st.integers(1, 3)) for _ in range(axes))
    stride, padding = 1, "same"
    if outputs is None:
        stride = draw(st.sampled_from([1, 2, 3, tuple(range(2, 0, -1))[:axes]]))
        paddings = ["same", 1, 2, (0, 1)[:axes]]
        fits = all(k <= n for k, n in zip(size, shape[:-1], strict=True))
        padding = draw(st.sampled_from(["valid", *paddings] if fits else ["same"]))
    return {
        "kind": f"Conv{axes}D",
        "inputs": shape[-1],
        "outputs": draw(st.integers(1, 3)) if outputs is None else outputs,
        "size": size,
        "stride": stride,
        "padding": padding,
        "bias": draw(st.booleans()),
    }


@st.composite
def pools(draw, shape):
    """Draw a pool whose windows fit into `shape`, side by side, overlapping or apart."""
    axes = len(shape) - 1
    size = tuple(draw(st.integers(1, min(n, 3))) for n in shape[:-1])
    stride = draw(st.sampled_from([None, 1, 2, tuple(range(1, axes + 1))]))
    kind = draw(st.sampled_from(["MaxPool", "AveragePool"]))
    return {"kind": f"{kind}{axes}D", "size": size, "stride": size if stride is None else stride}


@st.composite
def blocks(draw, shape):
    """Draw a residual block that ends with as many channels as it is told, with a shortcut if these are others."""
    channels = draw(st.integers(1, 3))
    first = draw(convolutions(shape, channels))
    second = draw(convolutions((*shape[:-1], channels), channels))
    middle = {"kind": draw(st.sampled_from(SMOOTH))}
    plain = channels == shape[-1] and draw(st.booleans())
    shortcut = [] if plain else [{**draw(convolutions(shape, channels)), "size": (1,) * (len(shape) - 1)}]
    return {"kind": "Residual", "layers": [first, middle, second], "shortcut": shortcut}


@st.composite
def networks(draw, activations=activations):
    """Draw a residual block among up to two convolutions, with activations and pools, and a linear layer at the end."""
    axes = draw(st.sampled_from([2, 2, 1]))
    shape = sample = (*(draw(st.sampled_from(SIZES)) for _ in range(axes)), draw(st.integers(1, 3)))
    layers = []
    for block in draw(st.sampled_from(ORDERS)):
        layers.append(draw(blocks(shape)) if block else draw(convolutions(shape)))
        layers.append(draw(activations))
        shape = after(layers[-2], shape)
        if draw(st.booleans()):
            layers.append(draw(pools(shape)))
            shape = after(layers[-1], shape)
    last = draw(st.sampled_from(["Flatten", f"GlobalAveragePool{axes}D"]))
    loss = draw(strategies.losses)
    inputs = prod(shape) if last == "Flatten" else shape[-1]
    outputs = (
        draw(st.integers(2, 4))
        if loss["kind"] == "CrossEntropy"
        else draw(st.integers(1, 3)) * strategies.per_target(loss)
    )
    layers += [{"kind": last}, {"kind": "Linear", "inputs": inputs, "outputs": outputs, "bias": draw(st.booleans())}]
    return {
        "shape": sample,
        "layers": layers,
        "loss": loss,
        "l1": draw(strategies.penalties),
        "l2": draw(strategies.penalties),
        "penalize_biases": draw(st.booleans()),
        "batch": draw(st.integers(1, 4)),
        "weighted": draw(st.booleans()),
        "seed": draw(strategies.seeds),
    }
