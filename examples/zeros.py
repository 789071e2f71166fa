"""A network that learns to say nothing: whatever comes in, the three outputs should be 0.

2-4-4-3 with LeakyReLU after every layer, mean squared error, learning rate 0.001, one sample a step. There is no
simpler task, and it already needs every part of backpropagation; if the loss does not fall here, a derivative is wrong.

    python examples/zeros.py
"""

import common
import numpy as np

import xpnet

args = common.arguments(__doc__, steps=10_000)

rng = np.random.default_rng(0)
x = rng.normal(size=(args.steps, 2)).astype(np.float32)
x_test = rng.normal(size=(100, 2)).astype(np.float32)

# How far from 0 a small random network begins depends on its seed: the loss of other seeds begins between 0.001 and 40.
net = xpnet.Network(
    [
        *(xpnet.Linear(2, 4), xpnet.LeakyReLU()),
        *(xpnet.Linear(4, 4), xpnet.LeakyReLU()),
        *(xpnet.Linear(4, 3), xpnet.LeakyReLU()),
    ],
    loss=xpnet.MeanSquaredError(),
    backend=args.backend,
    seed=31,
)


def summed_loss() -> float:
    """Return the loss, summed over 100 samples that the network is not trained with."""
    return len(x_test) * net.evaluate(x_test, np.zeros((len(x_test), 3)))["loss"]


before = summed_loss()
# One epoch of batches of 1: as many steps as there are samples.
recorder = xpnet.Recorder(every=200)  # for the pictures
net.fit(
    x,
    np.zeros((len(x), 3)),
    optimizer=xpnet.SGD(0.001),
    epochs=1,
    batch_size=1,
    callbacks=[recorder],
    verbose=False,
)
after = summed_loss()

goal = 0.1 if args.full else before / 2
common.require(
    f"in {args.steps:,} steps the summed loss falls from {before:.2f} to {after:.4f}, below {goal:.3g}", after < goal
)
common.draw(args, lambda plots: {"outputs": plots.evolution(recorder, "5.y"), "deltas": plots.delta_history(recorder)})
