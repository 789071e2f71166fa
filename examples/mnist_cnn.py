"""Handwritten digits with convolutions: 99.5 % of the test images and more, in minutes on two cores of a CPU.

    python examples/mnist_cnn.py
    python examples/mnist_cnn.py --network beautiful

The second network is that of tinygrad's example "beautiful MNIST", which sees 70 batches of 512 images, each image at
most once. With the extra `fast` a step of the first takes a third of the time.
"""

import time
from typing import Any

import common

import xpnet

args = common.arguments(__doc__, {"network": ["small", "beautiful"]}, epochs=8, samples=60_000, seed=1)

(x, t), (x_test, t_test) = xpnet.datasets.mnist(common.MNIST)
x, t = x[: args.samples], t[: args.samples]


def convolution(inputs: int, outputs: int, *pool: xpnet.Layer, **options: Any) -> list[xpnet.Layer]:
    """A convolution, of windows of 3 x 3 if not told otherwise, whose outputs are normalised and rectified.

    Where they are pooled, the largest of four numbers is taken before the normalisation, which then has a quarter of
    the work. No bias is needed, since the mean is subtracted.
    """
    return [
        xpnet.Conv2D(inputs, outputs, bias=False, weight_init="he_normal", **options),
        *pool,
        xpnet.BatchNorm(outputs),
        xpnet.ReLU(),
    ]


# In training each image is moved by up to two pixels, another way in each epoch, and three of ten of the last features
# are left out. The network that is used afterwards does neither. Windows two pixels apart that lie within the image
# make the first layer small, where there are the most places.
small = [
    xpnet.Reshape((28, 28, 1)),
    xpnet.RandomShift(2),
    *convolution(1, 24, size=5, stride=2, padding="valid"),  # 28 x 28 pixels become 12 x 12 places of 24 channels
    *convolution(24, 32),
    *convolution(32, 32, xpnet.MaxPool2D(2)),  # 6 x 6 of 32
    *convolution(32, 64),
    *convolution(64, 64, xpnet.MaxPool2D(2)),  # 3 x 3 of 64
    xpnet.Flatten(),
    xpnet.Dropout(0.3),
    xpnet.Linear(576, 10),
]


def two_convolutions(inputs: int, outputs: int, size: int) -> list[xpnet.Layer]:
    """Two convolutions of windows that lie within the image, then normalisation and pooling."""
    return [
        xpnet.Conv2D(inputs, outputs, size, padding="valid", weight_init="lecun_uniform"),
        xpnet.ReLU(),
        xpnet.Conv2D(outputs, outputs, size, padding="valid", weight_init="lecun_uniform"),
        xpnet.ReLU(),
        xpnet.BatchNorm(outputs),
        xpnet.MaxPool2D(2),
    ]


beautiful = [
    xpnet.Reshape((28, 28, 1)),
    *two_convolutions(1, 32, size=5),  # 28 x 28 pixels become 10 x 10 places of 32 channels
    *two_convolutions(32, 64, size=3),  # 3 x 3 of 64
    xpnet.Flatten(),
    xpnet.Linear(576, 10),
]

# Label smoothing: a network that must be sure to 90 % only does not learn single images by heart. The learning rate
# rises to its peak and falls to nothing again, over all steps of the training; with 70 steps it must rise at once.
if args.network == "small":
    layers, epochs, batch_size, smoothing, averaging, goal = small, args.epochs, 128, 0.1, 0.99, 0.995
    rate = {"peak": 0.01}
else:
    layers, epochs, batch_size, smoothing, averaging, goal = beautiful, 1, 512, 0.0, None, 0.98
    rate = {"peak": 0.015, "rise": 0.15, "divide": 5}
    x, t = x[: 70 * batch_size], t[: 70 * batch_size]
net = xpnet.Network(
    layers, loss=xpnet.CrossEntropy(label_smoothing=smoothing), backend=args.backend, seed=args.seed, input_shape=(784,)
)
print(net.summary())

steps = epochs * -(-len(x) // batch_size)  # -(-a // b) is a / b rounded up
recorder = xpnet.Recorder(every=-(-steps // 20)) if args.plots else None
began = time.perf_counter()
history = net.fit(
    x,
    t,
    optimizer=xpnet.Adam(xpnet.schedules.OneCycle(steps=steps, **rate)),
    epochs=epochs,
    batch_size=batch_size,
    averaging=averaging,  # what is used afterwards is a mean of the last hundred steps' parameters or so
    callbacks=[recorder] if recorder else [],
    verbose=2,  # a line for each epoch everywhere, and a progress bar on a terminal
)
seconds = time.perf_counter() - began

# The test images are looked at once, at the very end. All numbers above were chosen with a part of the training images.
predicted = net.predict(x_test)
accuracy = float((predicted == t_test).mean())
wrong = t_test[predicted != t_test]
print(f"{len(wrong)} of the {len(t_test):,} test images are taken for another digit:")
common.bars(((f"a {digit}", int((wrong == digit).sum())) for digit in range(10)), form="3")

# What the first convolution looks for, what its layers make of a 7, and which pixels make a 7 of a digit.
first = next(place for place, layer in enumerate(layers) if isinstance(layer, xpnet.Conv2D))
common.draw(
    args,
    lambda plots: {
        "loss": plots.loss(history),
        "filters": plots.filters(net, f"{first}.W"),
        "features": plots.feature_maps(net, x_test[0], f"{first + 2}"),
        "pixels": plots.pixels(net, x_test[:6], int(t_test[0]), (28, 28)),
        "statistics": plots.evolution(recorder, next(name for name in net.state if name.endswith("mean"))),
        "confusion": plots.confusion(t_test, predicted),
        "errors": plots.errors(x_test, t_test, predicted, (28, 28)),
    },
)
goal = goal if args.full else 0.7
common.require(f"the test accuracy, {accuracy:.4f}, is at least {goal}", accuracy >= goal)
print(f"test accuracy {100 * accuracy:.2f} % after {seconds:.1f} s of training on {net.backend.name}")
