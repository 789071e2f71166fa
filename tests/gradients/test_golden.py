"""Ten losses of a fixed training run: kept as they were, and computed again by the references."""

import numpy as np
import pytest

import xpnet
from xpnet.training.feed import epoch_order

from . import devices, reference, reference_optimizers

EPOCHS, BATCH = 10, 8
CONFIG = {
    "layers": [
        {"kind": "Linear", "inputs": 4, "outputs": 6, "bias": True},
        {"kind": "GELU"},
        {"kind": "Dropout", "rate": 0.25},
        {"kind": "Linear", "inputs": 6, "outputs": 3, "bias": True},
    ],
    "loss": {"kind": "CrossEntropy"},
    "l1": 1e-3,
    "l2": 1e-2,
    "penalize_biases": False,
}
OPTIMIZER = {
    "kind": "AdamW",
    "learning_rate": {"kind": "CosineDecay", "initial": 0.1, "steps": 30},
    "weight_decay": 0.1,
    "clip_norm": 0.8,
}
LOSSES = np.array(
    [
        1.198213985673868,
        0.7898391374301968,
        0.9031023349622248,
        0.8554662953585073,
        0.7535766553554937,
        0.5973310092944257,
        0.5681762051750259,
        0.6672803895825108,
        0.648335869269599,
        0.571574111605503,
    ]
)


def data():
    rng = np.random.default_rng(2024)
    return rng.normal(size=(20, 4)), rng.integers(0, 3, 20), rng.uniform(0.5, 1.5, 20)


def network(backend="numpy"):
    return xpnet.Network(
        [xpnet.Linear(4, 6), xpnet.GELU(), xpnet.Dropout(0.25), xpnet.Linear(6, 3)],
        loss="cross_entropy",
        backend=backend,
        dtype="float64",
        seed=11,
        l1=CONFIG["l1"],
        l2=CONFIG["l2"],
    )


def run(backend):
    """Return the mean training loss of each epoch."""
    x, t, weight = data()
    optimizer = xpnet.AdamW(xpnet.schedules.CosineDecay(0.1, 30), weight_decay=0.1, clip_norm=0.8)
    history = network(backend).fit(
        x, t, optimizer=optimizer, epochs=EPOCHS, batch_size=BATCH, sample_weight=weight, verbose=False
    )
    return np.array(history["loss"])


def run_references():
    """The same without the library's mathematics: its order of samples, initial values and dropout masks are used."""
    x, t, weight = data()
    net = network()
    shapes = {name: np.shape(p) for name, p in net.parameters.items()}
    names = sorted(shapes, key=lambda name: name.endswith("b"))  # weights first: those decay
    decayed = sum(np.prod(shapes[name]) for name in names if name.endswith("W"))
    start = np.concatenate([np.ravel(net.parameters[name]) for name in names])
    orders = [epoch_order(11, epoch, 20) for epoch in range(EPOCHS)]
    batches = [order[i : i + BATCH] for order in orders for i in range(0, 20, BATCH)]
    values = []

    def named(theta):
        ends = np.cumsum([np.prod(shapes[name]) for name in names])[:-1]
        return {name: part.reshape(shapes[name]) for name, part in zip(names, np.split(theta, ends), strict=True)}

    def gradient(theta):
        rows = batches[len(values)]
        step = np.array([len(values)], dtype=np.uint32)
        context = net.contexts(True, step)[2]
        kept, _ = net.layers[2].forward(net.backend.xp, {}, np.ones((len(rows), 6)), context)
        arguments = (CONFIG, named(np.array(theta)), x[rows], t[rows])
        options = {"weight": weight[rows], "masks": {2: kept > 0}}
        values.append((weight[rows].sum(), reference.objective(*arguments, **options)))
        grads = reference.gradients(*arguments, **options)
        return np.concatenate([np.ravel(grads[name]) for name in names])

    reference_optimizers.minimize(OPTIMIZER, start, decayed, gradient, len(batches))
    weights, losses = np.array(values).T.reshape(2, EPOCHS, -1)
    return (weights * losses).sum(axis=1) / weights.sum(axis=1)


@pytest.mark.optimizers
def test_golden_losses():
    assert np.abs(run("numpy") / LOSSES - 1).max() <= 1e-12


@pytest.mark.optimizers
def test_golden_losses_by_the_references():
    assert np.abs(run_references() / LOSSES - 1).max() <= 1e-12


@pytest.mark.cross_backend
@pytest.mark.parametrize("name", devices.NAMES)
def test_golden_losses_elsewhere(name):
    assert np.abs(run(devices.get(name)) / LOSSES - 1).max() <= 1e-9
