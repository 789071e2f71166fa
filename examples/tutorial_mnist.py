"""MNIST as the tutorials train it: 784-32-10 with sigmoids, squared error, batches of 256, plain gradient descent.

The tutorial that this follows trains it for 300 epochs, to 92.6 % of the test images. How many epochs does it take
here? And what do a loss made for classes, and an optimizer with a memory, get out of a network of the same size?

    python examples/tutorial_mnist.py
"""

import common
import numpy as np

import xpnet
from xpnet.training.fit import Run

FIGURE = 0.926

args = common.arguments(__doc__, epochs=20, samples=60_000)
goal = FIGURE if args.full else 0.4

(x, t), (x_test, t_test) = xpnet.datasets.mnist(common.MNIST)
x, t = x[: args.samples], t[: args.samples]
targets = np.eye(10, dtype=np.float32)[t]  # the digit 3 becomes (0, 0, 0, 1, 0, 0, 0, 0, 0, 0)

# ---- As in the tutorial: ten outputs between 0 and 1, compared with the row of targets; the largest is the answer.
net = xpnet.Network(
    [xpnet.Linear(784, 32), xpnet.Sigmoid(), xpnet.Linear(32, 10), xpnet.Sigmoid()],
    loss=xpnet.SumSquaredError(),
    backend=args.backend,
    seed=0,
)
curve: list[float] = []


def measure(run: Run) -> None:
    """After each epoch, note how many test images are right; nothing is decided by it."""
    curve.append(float(np.mean(np.argmax(run.net.predict(x_test), axis=1) == t_test)))
    print(f"epoch {len(curve):2}/{args.epochs}  test accuracy {curve[-1]:.4f}")


net.fit(x, targets, optimizer=xpnet.SGD(0.3), epochs=args.epochs, batch_size=256, callbacks=[measure], verbose=False)
reached = next((k for k, accuracy in enumerate(curve, start=1) if accuracy >= goal), None)
common.require(f"squared error: {goal:.1%} of the test images are right after {reached} epochs", reached is not None)

# ---- The same sizes and batches; but the outputs are logits under cross-entropy, and Adam takes the steps.
better = xpnet.Network(
    [xpnet.Linear(784, 32), xpnet.Sigmoid(), xpnet.Linear(32, 10)],
    loss=xpnet.CrossEntropy(),
    backend=args.backend,
    seed=0,
)
history = better.fit(x, t, optimizer=xpnet.Adam(0.01), epochs=args.epochs, batch_size=256, verbose=False)
accuracy = better.evaluate(x_test, t_test)["accuracy"]
common.require(
    f"cross-entropy and Adam, {args.epochs} epochs: {accuracy:.2%} are right; squared error: {curve[-1]:.2%}",
    accuracy > max(curve[-1], goal),
)

common.draw(
    args,
    lambda plots: {
        "loss": plots.loss(history, log=True),
        "squared_error": plots.weight_images(net, (28, 28)),
        "cross_entropy": plots.weight_images(better, (28, 28)),
    },
)
