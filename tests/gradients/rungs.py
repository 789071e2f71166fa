"""The checks themselves: each takes the dict of a network and raises AssertionError if xpnet is wrong about it.

They stand here, apart from the tests that draw the networks, because the planted bugs are put before the same checks.
"""

import numpy as np

from . import library, oracle_autograd, reference, strategies
from . import reference_images as images
from . import reference_normal as normal
from .compare import assert_close, assert_same, assert_value, kinds_of, scale_of

KINKED = ("ReLU", "LeakyReLU", "ELU")  # ELU with alpha = 1 is smooth once, but bends at zero


def complex_step(config):
    """The forward pass against the reference's, then every gradient against its complex step."""
    net = library.build(config)
    params, x, t, weight = strategies.numbers(config)
    masks = library.masks(net, len(x))
    value, actual = library.gradients(net, x, t, weight)
    for number, (got, want) in enumerate(
        zip(library.outputs(net, x), reference.forward(config, params, x, masks), strict=True)
    ):
        assert_close(got, want, 1e-14, f"output of layer {number}")
    assert_value(value, reference.objective(config, params, x, t, weight, masks), 1e-14)
    expected = reference.gradients(config, params, x, t, weight, masks)
    assert_same(actual, expected, 1e-12, scale_of(config, expected), "complex step")


def autograd(config, oracle=oracle_autograd):
    """Value and gradients against an automatic differentiation of separate code."""
    net = library.build(config)
    params, x, t, weight = strategies.numbers(config)
    value, actual = library.gradients(net, x, t, weight)
    want, expected = oracle.gradients(config, params, x, t, weight, library.masks(net, len(x)))
    assert_value(value, want, 1e-14)
    assert_same(actual, expected, 1e-12, scale_of(config, expected), "automatic differentiation")


def sides(config, net, theta, x, t):
    """Return on which side of every kink of the objective the network's numbers lie."""
    moved = net.copy()
    moved.theta[...] = theta
    results = [x, *library.outputs(moved, x)]
    found = [results[k] > 0 for k, layer in enumerate(config["layers"]) if layer["kind"] in KINKED]
    pools = [k for k, layer in enumerate(config["layers"]) if layer["kind"].startswith("MaxPool")]
    found += [images.largest(images.windows(np, config["layers"][k], results[k])[0]) for k in pools]
    if config["loss"]["kind"] == "MeanAbsoluteError":
        found.append(results[-1] > t)
    if config["loss"]["kind"] == "Quantile":
        found.append(results[-1] > np.tile(t, len(config["loss"]["levels"])))
    if config["loss"]["kind"] == "Huber":
        found.append(np.abs(results[-1] - t) > config["loss"]["delta"])
    if config["l1"]:
        found.append(theta > 0)
    return np.concatenate([side.ravel() for side in found]) if found else np.zeros(0)


def central(config, h=1e-5):
    """Every parameter's gradient against central differences of the shipped forward pass.

    Returns how many numbers were compared, and how many were left out because they cross a kink within 10 h.
    """
    net = library.build(config)
    _, x, t, weight = strategies.numbers(config)
    value, actual = library.gradients(net, x, t, weight)
    del actual["x"]

    def at(place, move):
        theta = np.array(net.theta)
        theta[place] += move
        return theta

    def difference(place, h):
        ends = [library.objective(net, at(place, side), x, t, weight) for side in (h, -h)]
        return (ends[0] - ends[1]) / (2 * h)

    steps = {}
    for name in actual:
        # Dropout scales up what it keeps, and with it every step that is taken before it.
        after = [layer for k, layer in enumerate(config["layers"]) if k > int(name.split(".")[0])]
        steps[name] = h * np.prod([1 - layer["rate"] for layer in after if layer["kind"] == "Dropout"])
    places = net.layout.named(np, np.arange(net.theta.size))
    checked = skipped = 0
    # Rounding of the two values, divided by 2 h, is all that a tiny gradient leaves to be seen.
    rounding = {name: 4 * np.finfo(float).eps * abs(value) / step for name, step in steps.items()}
    for name, g in actual.items():
        expected, step = np.empty_like(g), steps[name]
        scale = {name: float(np.abs(g).max()) + rounding[name] / 1e-8}
        for index, place in np.ndenumerate(places[name]):
            both = [sides(config, net, at(place, side), x, t) for side in (10 * step, -10 * step)]
            if (both[0] != both[1]).any():
                expected[index] = g[index]
                skipped += 1
                continue
            checked += 1
            expected[index] = difference(place, step)
            if abs(expected[index] - g[index]) > 1e-8 * scale[name]:
                # Where the function bends much, its third derivative is taken out by a second step size.
                expected[index] = (4 * difference(place, step / 2) - expected[index]) / 3
        assert_same({name: g}, {name: expected}, 1e-8, scale, "central difference")
    return checked, skipped


def without_penalties(config):
    return {**config, "l1": 0.0, "l2": 0.0}


def penalties(config):
    """What l1 and l2 add to the gradient: l1 sign(W) + l2 W, on weights alone unless biases are named."""
    params, x, t, weight = strategies.numbers(config)
    value, with_them = library.gradients(library.build(config), x, t, weight)
    bare_value, bare = library.gradients(library.build(without_penalties(config)), x, t, weight)
    expected, added = {}, 0.0
    for name, p in params.items():
        named = name.endswith(".W") or config["penalize_biases"]
        expected[name] = bare[name] + named * (config["l1"] * np.sign(p) + config["l2"] * p)
        added += named * (config["l1"] * np.abs(p).sum() + config["l2"] / 2 * (p**2).sum())
    expected["x"] = bare["x"]
    assert_value(value, bare_value + added, 1e-14, "penalties in the value")
    assert_same(with_them, expected, 1e-13, scale_of(config, expected), "penalties in the gradient")


def identities(config):
    """What holds between gradients of the same samples: one by one, as parts, reordered, weighted, repeated."""
    config = without_penalties(config)
    net = library.build(config)
    _, x, t, weight = strategies.numbers(config)
    rows = len(x)
    rng = np.random.default_rng(config["seed"])
    weight = rng.uniform(0.2, 2.0, rows) if weight is None else weight

    def run(pick, w):
        return library.gradients(net, x[pick], t[pick], w[pick], training=False)

    def total_of(parts):
        """Add up the gradients of parts of the rows, each times its share of the weight; and their sizes."""
        total = {name: np.zeros_like(g) for name, g in grads.items()}
        sizes, total_value = {name: np.zeros_like(g) for name, g in grads.items()}, 0.0
        for part in parts:
            share = weight[part].sum() / weight.sum()
            part_value, part_grads = run(part, weight)
            total_value += share * part_value
            for name, g in part_grads.items():
                target = part if name == "x" else ...
                total[name][target] += share * g
                sizes[name][target] += share * np.abs(g)
        return total_value, total, {name: float(size.max()) for name, size in sizes.items()}

    value, grads = run(slice(None), weight)
    # Rounding is that of the samples' own gradients, which may cancel.
    one_by_one_value, one_by_one, scale = total_of([slice(row, row + 1) for row in range(rows)])
    scale = {name: max(size, scale_of(config, grads)[name]) for name, size in scale.items()}
    assert_value(one_by_one_value, value, 1e-13, "sum of the samples, value")
    assert_same(one_by_one, grads, 1e-13, scale, "sum of the samples")

    cut = int(rng.integers(0, rows))
    parts_value, parts, _ = total_of([part for part in (slice(0, cut), slice(cut, rows)) if part.start < part.stop])
    assert_value(parts_value, value, 1e-13, "sum of two parts, value")
    assert_same(parts, grads, 1e-13, scale, "sum of two parts")

    order = rng.permutation(rows)
    other_value, other = run(order, weight)
    back = np.empty_like(other["x"])
    back[order] = other["x"]
    assert_value(other_value, value, 1e-14, "permuted rows, value")
    assert_same({**other, "x": back}, grads, 1e-14, scale, "permuted rows")

    doubled_value, doubled = run(slice(None), 2 * weight)
    assert doubled_value == value, "doubled weights, value"
    assert_same(doubled, grads, 0.0, scale, "doubled weights")

    if rows > 1:
        gone = int(rng.integers(0, rows))
        zeroed, kept = weight.copy(), np.delete(np.arange(rows), gone)
        zeroed[gone] = 0.0
        zero_value, zero_grads = run(slice(None), zeroed)
        few_value, few_grads = run(kept, weight)
        assert (zero_grads["x"][gone] == 0.0).all(), "a sample of weight zero has a gradient"
        few_grads["x"] = np.insert(few_grads["x"], gone, 0.0, axis=0)
        share = 1 - weight[gone] / weight.sum()  # what is left weighs more
        assert_value(zero_value, few_value, 1e-14, "weight zero, value")
        assert_same(zero_grads, few_grads, 1e-14 / share, scale, "weight zero")

    counts = rng.integers(1, 4, rows)
    counted_value, counted = run(slice(None), counts.astype(float))
    repeated_value, repeated = run(np.repeat(np.arange(rows), counts), np.ones(rows))
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    repeated["x"] = np.add.reduceat(repeated["x"], starts, axis=0)
    assert_value(counted_value, repeated_value, 1e-13, "weights as counts, value")
    assert_same(counted, repeated, 1e-13, {name: 10 * size for name, size in scale.items()}, "weights as counts")


def promises(config):
    """What a layer promises besides its derivative, for every layer of the network and random upstream deltas."""
    net = library.build(config)
    _, x, _, _ = strategies.numbers(config)
    rng = np.random.default_rng(config["seed"])
    xp, params = net.backend.xp, net.layout.split(net.backend.xp, net.theta)
    h = x
    for k, (layer, p, context) in enumerate(zip(net.layers, params, library.contexts(net), strict=True)):
        what = f"layer {k} ({type(layer).__name__})"
        frozen = {name: np.array(value) for name, value in p.items()}
        for value in (h, *frozen.values()):
            value.setflags(write=False)  # writing into an argument raises
        y, cache = layer.forward(xp, frozen, h, context)
        assert y.shape == (len(h), *layer.output_shape(h.shape[1:])), what
        dy = [rng.normal(size=y.shape) for _ in range(2)]
        dy.append(2.5 * dy[0] - dy[1])
        for value in dy:
            value.setflags(write=False)
        results = [layer.backward(xp, frozen, cache, d, context) for d in dy]
        again = layer.backward(xp, frozen, cache, dy[0], context)
        without_dx, grads = layer.backward(xp, frozen, cache, dy[0], context, need_dx=False)
        named = [{**g, "x": dx} for dx, g in [*results, again, (results[0][0], grads)]]
        assert named[0].keys() == {*frozen, "x"}, what
        for name, value in {**frozen, "x": h}.items():
            assert named[0][name].shape == value.shape, f"{what}, d{name}"
        assert_same(named[3], named[0], 0.0, what=f"{what}, twice from one cache")
        assert_same(named[4], named[0], 0.0, what=f"{what}, without dx")
        if frozen:
            assert without_dx is None, f"{what} computes dx though nobody asks for it"
        combined = {name: 2.5 * named[0][name] - named[1][name] for name in named[0]}
        sizes = {name: float(np.max(np.abs(2.5 * named[0][name]) + np.abs(named[1][name]))) for name in named[0]}
        # Normalisation subtracts means of the delta, and passes on what is left of it.
        floor = sum(np.abs(d).sum() for d in dy) if {*kinds_of([config["layers"][k]])} & {*normal.KINDS} else 1e-30
        sizes = {name: 100 * size + floor for name, size in sizes.items()}
        assert_same(named[2], combined, 1e-15, sizes, f"{what}, linear in the upstream delta")
        h = np.array(y)
