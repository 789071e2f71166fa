"""Which quadrants? Points of the square [-2, 2]^2; class 1 is quadrants I and III, class 0 is II and IV.

No straight line separates the two, so one layer cannot do it. 2-3-2 with LeakyReLU can: trained with minibatches, and
once more with one sample a step.

    python examples/quadrants.py
"""

import common

import xpnet

args = common.arguments(__doc__, samples=100_000)

x, t = xpnet.datasets.quadrants(args.samples, seed=0)
held = args.samples // 5  # a fifth is kept for testing
x_test, t_test, x, t = x[:held], t[:held], x[held:], t[held:]


# Twelve weights and five biases.
def network() -> xpnet.Network:
    """Return the network before training; the same seed gives the same first weights every time."""
    return xpnet.mlp([2, 3, 2], activation="leaky_relu", loss="cross_entropy", backend=args.backend, seed=0)


def picture(net: xpnet.Network, size: int = 12) -> str:
    """Return the classes that the network sees in the square, as characters: o is class 1."""
    ticks = [4 * (k + 0.5) / size - 2 for k in range(size)]
    labels = net.predict([[a, b] for b in reversed(ticks) for a in ticks])
    rows = labels.reshape(size, size)
    return "\n".join("    " + " ".join(".o"[label] for label in row) for row in rows)


# Before training: no better than guessing.
net = network()
before = net.evaluate(x_test, t_test)["accuracy"]
print(f"before training: accuracy {before:.4f} on {held:,} unseen points\n{picture(net)}")

# Trained twice, from the same first weights. With one sample a step there are 32 times as many steps in an epoch, each
# in the direction that is right for that sample alone: so they are shorter, and the weights tremble.
for title, batch_size, epochs, rate, goal in (
    ("minibatches of 32", 32, 3, 0.3, 0.97),
    ("single samples", 1, 1, 0.03, 0.95),
):
    net = network()
    recorder = xpnet.Recorder(every=25 if batch_size > 1 else 800, parameters=True)  # for the pictures
    net.fit(x, t, optimizer=xpnet.SGD(rate), epochs=epochs, batch_size=batch_size, callbacks=[recorder], verbose=False)
    after = net.evaluate(x_test, t_test)["accuracy"]
    print(f"after {title}, epochs: {epochs}\n{picture(net)}")
    goal = goal if args.full else 0.7
    common.require(
        f"{title}: the accuracy rises from {before:.4f} to {after:.4f}, at least {goal}", after >= goal > before
    )
    common.draw(
        args,
        lambda plots, net=net, recorder=recorder, batch_size=batch_size: {
            f"before_{batch_size}": plots.regions(recorder.network(0), x_test, t_test),
            f"after_{batch_size}": plots.regions(net, x_test, t_test),
            f"weights_{batch_size}": plots.evolution(recorder, "0.W"),
            f"biases_{batch_size}": plots.evolution(recorder, "0.b"),
        },
    )
