"""Handwritten digits: a network 784-512-10 learns to read MNIST, 98 % of the test images and more.

With NumPy on the CPU, and the same code on a CUDA GPU:

    python examples/mnist.py
    python examples/mnist.py --backend cupy

On several processes, with the same network to the bit for 1, 2 or 4 of them:

    mpiexec -n 4 python examples/mnist.py --parallel mpi
"""

import time

import common

import xpnet

args = common.arguments(__doc__, shared=True, epochs=7, samples=60_000)

# Rows are samples: x is (60000, 784), grey levels from 0 to 1; t is (60000,), the digits 0 to 9.
(x, t), (x_test, t_test) = xpnet.datasets.mnist(common.MNIST)
x, t = x[: args.samples], t[: args.samples]

# 784 pixels, 512 hidden units with ReLU, 10 outputs. CrossEntropy takes the outputs as they are (logits): its softmax
# is inside. The shorter xpnet.mlp([784, 512, 10]) builds the same network.
net = xpnet.Network(
    [
        xpnet.Linear(784, 512, weight_init="he_normal"),
        xpnet.ReLU(),
        xpnet.Linear(512, 10),
    ],
    loss=xpnet.CrossEntropy(),
    backend=args.backend,
    seed=0,
)
if args.first:
    print(net.summary())

# One image in twelve is set aside: after each epoch it shows how the network does on digits it does not learn from.
# The learning rate rises to 0.007 and falls to nothing again, over all steps of the training.
batch_size, validation_split = 200, 1 / 12
training_images = len(x) - round(len(x) * validation_split)
steps = args.epochs * -(-training_images // batch_size)  # -(-a // b) is a / b rounded up
optimizer = xpnet.Adam(xpnet.schedules.OneCycle(peak=0.007, steps=steps))

began = time.perf_counter()
history = net.fit(
    x,
    t,
    optimizer=optimizer,
    epochs=args.epochs,
    batch_size=batch_size,
    validation_split=validation_split,
    verbose=2,  # a line for each epoch everywhere, and a progress bar on a terminal
    parallel=args.parallel,
)
seconds = time.perf_counter() - began

if not args.first:
    raise SystemExit  # every process has the same network now

# The test images are looked at once, at the very end.
predicted = net.predict(x_test)
accuracy = float((predicted == t_test).mean())
wrong = t_test[predicted != t_test]
print(f"{len(wrong)} of the {len(t_test):,} test images are taken for another digit:")
common.bars(((f"a {digit}", int((wrong == digit).sum())) for digit in range(10)), form="4")
common.draw(
    args,
    lambda plots: {
        "loss": plots.loss(history),
        "accuracy": plots.accuracy(history),
        "weights": plots.weight_images(net, (28, 28)),
        "confusion": plots.confusion(t_test, predicted),
        "errors": plots.errors(x_test, t_test, predicted, (28, 28)),
    },
)
goal = 0.98 if args.full else 0.7
common.require(f"the test accuracy, {accuracy:.4f}, is at least {goal}", accuracy >= goal)
print(f"test accuracy {100 * accuracy:.2f} % after {seconds:.1f} s of training on {net.backend.name}")
