"""One neuron, from a single sample to a deep network.

Three features go in, each 0 or 1. The target is 1 if the first of them is 1, else 0. Nobody tells the neuron that the
other two do not matter; it finds out, and then it is right about samples it has never seen.

    python examples/neuron.py
"""

from typing import Any

import common
import numpy as np

import xpnet

args = common.arguments(__doc__, epochs=1000)

x = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]], dtype=np.float32)
t = x[:, :1]  # (6, 1): the first feature is the target
unseen = np.array([[1, 0, 0], [0, 1, 1]], dtype=np.float32)  # the two rows left out; their targets are 1 and 0


def network(*layers: xpnet.Layer) -> xpnet.Network:
    """Return these layers under the squared error."""
    return xpnet.Network(layers, loss=xpnet.SumSquaredError(), backend=args.backend, seed=1)


# ---- The delta rule, by hand. A neuron computes y = x W + b. For a single sample the error is L = (y - t)^2, so that
#          delta = dL/dy = 2 (y - t)          how L answers to the output
#          dW = x^T delta                     ... and by the chain rule to each weight,
#          db = delta                         ... and to the bias.
net = network(xpnet.Linear(3, 1))
parameters = {name: net.backend.to_numpy(value) for name, value in net.parameters.items()}
sample, target = x[4:5], t[4:5]
delta = 2 * (sample @ parameters["0.W"] + parameters["0.b"] - target)
_, gradients = net.gradients(sample, target)
error = np.abs(net.backend.to_numpy(gradients["0.W"]) - sample.T @ delta).max()
error = max(error, np.abs(net.backend.to_numpy(gradients["0.b"]) - delta[0]).max())
common.require(f"xpnet's gradients are the formulas above (difference {error:.1g})", error < 1e-6)


# ---- The same neuron, trained in three ways. With more than one sample a step, L is the mean of their errors.
#      A batch of 4 out of 6 samples leaves a batch of 2 over: its mean is over 2 samples.
def check(title: str, net: xpnet.Network, tolerance: float) -> None:
    """Ask the network about the two samples that it has not seen."""
    if not args.full:
        tolerance = 0.4  # after fewer epochs than the default the network is only on its way
    one, zero = net.predict(unseen)[:, 0].tolist()
    common.require(
        f"{title}: unseen (1, 0, 0) gives {one:.4f} and unseen (0, 1, 1) gives {zero:.4f}, right to {tolerance}",
        max(abs(one - 1), abs(zero)) < tolerance,
    )


def beginning(ax: Any) -> Any:
    """Show the first 300 steps of a picture; afterwards not much happens."""
    ax.set_xlim(-5, 300)
    return ax


for title, batch_size in {"single samples": 1, "the whole batch": 6, "minibatches of 4": 4}.items():
    net = network(xpnet.Linear(3, 1))
    recorder = xpnet.Recorder(every=5, parameters=True)  # for the pictures: the weights as they change
    net.fit(
        x, t, optimizer=xpnet.SGD(0.1), epochs=args.epochs, batch_size=batch_size, callbacks=[recorder], verbose=False
    )
    check(f"linear neuron, {title}", net, tolerance=0.01)
    W = net.backend.to_numpy(net.parameters["0.W"])[:, 0]
    common.require(
        f"    its weights ({W[0]:.4f}, {W[1]:.4f}, {W[2]:.4f}) have gone to (1, 0, 0)",
        bool(np.abs(W - [1, 0, 0]).max() < (0.01 if args.full else 0.4)),
    )
    common.draw(
        args,
        lambda plots, recorder=recorder, batch_size=batch_size: {
            f"weights_{batch_size}": beginning(plots.evolution(recorder, "0.W")),
            f"biases_{batch_size}": beginning(plots.evolution(recorder, "0.b")),
        },
    )

# ---- With an activation, y = f(x W + b): by the chain rule delta is multiplied by f'(x W + b) on its way to W and b.
#      Deep: each layer hands its dL/dx to the layer before, where it is the delta.
for title, layers in {
    "tanh neuron": [xpnet.Linear(3, 1), xpnet.Tanh()],
    "sigmoid neuron": [xpnet.Linear(3, 1), xpnet.Sigmoid()],
    "ReLU neuron": [xpnet.Linear(3, 1), xpnet.ReLU()],
    "deep network 3-4-4-1": [
        *(xpnet.Linear(3, 4), xpnet.Tanh()),
        *(xpnet.Linear(4, 4), xpnet.Tanh()),
        *(xpnet.Linear(4, 1), xpnet.Sigmoid()),
    ],
}.items():
    net = network(*layers)
    recorder = xpnet.Recorder(every=20)
    net.fit(x, t, optimizer=xpnet.SGD(0.3), epochs=args.epochs, batch_size=4, callbacks=[recorder], verbose=False)
    check(title, net, tolerance=0.1)

common.draw(args, lambda plots: {"deltas": plots.delta_history(recorder)})  # of the deep network, the last one
