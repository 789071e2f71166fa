"""Random networks with normalisation: those of the other strategies, with layers that normalise put in between."""

from hypothesis import strategies as st

from . import strategies, strategies_images

EPS = (0.1, 1.0, 0.01)  # what divides is never tiny: nor is rounding magnified


@st.composite
def normalizations(draw, features):
    """Draw a layer that normalises so many features."""
    kind = draw(st.sampled_from(["BatchNorm", "LayerNorm", "RMSNorm", "GroupNorm"]))
    divisors = [n for n in range(1, features + 1) if features % n == 0]
    groups = {"groups": draw(st.sampled_from(divisors))} if kind == "GroupNorm" else {}
    return {"kind": kind, **groups, "features": features, "eps": draw(st.sampled_from(EPS))}


@st.composite
def networks(draw, base):
    """Draw a network of `base` in which one or more of the layers with weights, but the last, are followed by such."""
    config = draw(base.filter(lambda config: any("outputs" in layer for layer in config["layers"][:-1])))
    *first, last = config["layers"]
    places = [k for k, layer in enumerate(first) if "outputs" in layer]
    chosen = draw(st.lists(st.sampled_from(places), min_size=1, max_size=2, unique=True))
    layers = []
    for k, layer in enumerate(first):
        if layer["kind"] == "Residual":
            inner, *rest = layer["layers"]
            layer = {**layer, "layers": [inner, draw(normalizations(inner["outputs"])), *rest]}
        layers += [layer, *([draw(normalizations(layer["outputs"]))] if k in chosen else [])]
    return {**config, "layers": [*layers, last], "batch": draw(st.sampled_from([3, 2, 5, 4, 1]))}


rows = networks(strategies.networks(strategies.st.integers(2, 4), dropouts=st.none()))
images = networks(strategies_images.networks())
