"""Random networks for the gradient tests, drawn by Hypothesis, each axis under its own name.

A network is the plain dict that `reference.py` explains. It holds everything, the seed of the numbers too, so that a
failing one, shrunk to the smallest that fails, is printed in full and can be pasted into a test.
"""

import itertools

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from . import reference_normal as normal

ARCHITECTURES = 200  # networks a test; `pytest tests/gradients --architectures 5000` sets another number

depths = st.integers(1, 6)
widths = st.integers(1, 8)
batches = st.integers(1, 11)
seeds = st.integers(0, 2**32 - 1)

# Each is drawn with the same probability, and shrinks towards the first of its list.
activations = st.sampled_from(
    [
        *({"kind": kind} for kind in ("Identity", "ReLU", "Sigmoid", "Tanh", "Softplus", "SiLU", "GELU", "Softmax")),
        {"kind": "GELU", "approximate": "tanh"},
        *({"kind": "LeakyReLU", "slope": slope} for slope in (0.01, 0.3)),
        *({"kind": "ELU", "alpha": alpha} for alpha in (1.0, 1.7)),
    ]
)
losses = st.sampled_from(
    [
        *(
            {"kind": kind}
            for kind in (
                "SumSquaredError",
                "MeanSquaredError",
                "MeanAbsoluteError",
                "Poisson",
                "HalfSquaredError",
                "PoissonDeviance",
            )
        ),
        {"kind": "Quantile", "levels": (0.2, 0.7)},
        {"kind": "BinaryCrossEntropy"},
        *({"kind": "CrossEntropy", "targets": targets} for targets in ("classes", "rows")),
        {"kind": "Gaussian"},
        *({"kind": "Huber", "delta": delta} for delta in (0.3, 1.0, 2.5)),
    ]
)
dropouts = st.sampled_from([None, None, None, *({"kind": "Dropout", "rate": rate} for rate in (0.1, 0.4, 0.6))])
penalties = st.sampled_from([0.0, 0.0, 1e-4, 1e-2, 0.3])


def per_target(loss):
    """Return how many outputs speak of one column of the targets."""
    return 2 if loss["kind"] == "Gaussian" else len(loss.get("levels", "1"))


@st.composite
def networks(draw, depths=depths, activations=activations, losses=losses, dropouts=dropouts, penalties=penalties):
    """Draw a network: `depths` Linear layers, an activation (and at times dropout) after each but the last."""
    depth, loss = draw(depths), draw(losses)
    # One class is no classification; every other width may be 1.
    last = draw(st.integers(2, 8)) if loss["kind"] == "CrossEntropy" else draw(widths) * per_target(loss)
    sizes = [draw(widths) for _ in range(depth)] + [last]
    layers = []
    for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        layers.append({"kind": "Linear", "inputs": inputs, "outputs": outputs, "bias": draw(st.booleans())})
        if number < depth - 1:
            layers.append(draw(activations))
            dropout = draw(dropouts)
            layers += [dropout] if dropout else []
    return {
        "layers": layers,
        "loss": loss,
        "l1": draw(penalties),
        "l2": draw(penalties),
        "penalize_biases": draw(st.booleans()),
        "batch": draw(batches),
        "weighted": draw(st.booleans()),
        "seed": draw(seeds),
    }


def architectures(strategy=None, part=1.0):
    """Return a decorator that calls a test with `part` of the number of random networks asked for.

    The networks are the same in every run with the default number, and new ones in every longer run.
    """

    def decorate(test):
        options = settings(
            max_examples=max(1, round(part * ARCHITECTURES)),
            derandomize=ARCHITECTURES <= 200,
            database=None,
            deadline=None,
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        return options(given(config=networks() if strategy is None else strategy)(test))

    return decorate


def parameter_shapes(layers, prefix=""):
    """Yield `(name, fan-in, shape)` of every parameter of layers, those inside of layers included."""
    for number, layer in enumerate(layers):
        place = f"{prefix}{number}."
        if layer["kind"] == "Residual":
            yield from parameter_shapes(layer["layers"], place)
            yield from parameter_shapes(layer["shortcut"], f"{place}shortcut.")
        elif "features" in layer:
            yield from ((f"{place}{name}", None, (layer["features"],)) for name in normal.names(layer))
        elif "inputs" in layer:
            size = layer.get("size", ())
            yield f"{place}W", layer["inputs"] * int(np.prod(size)), (*size, layer["inputs"], layer["outputs"])
            if layer["bias"]:
                yield f"{place}b", None, (layer["outputs"],)


def numbers(config):
    """Return `(params, x, t, weight)` of a network in float64, from its seed.

    Biases are not zero and the weights of samples are not equal, or a term that is missing would not show.
    """
    rng, spread = np.random.default_rng(config["seed"]), config.get("spread", 1.2)
    params = {}
    for name, fan_in, shape in parameter_shapes(config["layers"]):
        params[name] = rng.normal(0.0, 0.5 if fan_in is None else spread / np.sqrt(fan_in), shape)
    rows, outputs = config["batch"], shape[-1]
    x = rng.normal(0.0, 1.0, (rows, *config.get("shape", (config["layers"][0].get("inputs"),))))
    weight = rng.uniform(0.2, 2.0, rows) if config["weighted"] else None
    return params, x, targets(rng, config["loss"], rows, outputs), weight


def targets(rng, loss, rows, outputs):
    """Draw targets that suit the loss."""
    if loss["kind"] == "CrossEntropy":
        if loss["targets"] == "classes":
            return rng.integers(0, outputs, rows)
        shares = rng.exponential(1.0, (rows, outputs))
        return shares / shares.sum(axis=1, keepdims=True)
    if loss["kind"] == "BinaryCrossEntropy":
        return rng.uniform(0.0, 1.0, (rows, outputs)).round(rng.integers(0, 3))
    if loss["kind"].startswith("Poisson"):
        return rng.poisson(2.0, (rows, outputs)).astype(float)
    return rng.normal(0.0, 1.5, (rows, outputs // per_target(loss)))
