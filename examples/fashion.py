"""Clothes from small pictures: Fashion-MNIST by a plain network, by convolutions, and with augmented images.

    python examples/fashion.py
    python examples/fashion.py --network convolutions
    python examples/fashion.py --network augmented

The first is to get 90 % of the test images right, the second 93 %, and the third 94 %. From one seed to the next that
differs by a tenth of a percent or two; each ends with an error if it is two tenths below. The images (30 MB) are
downloaded once, or taken from Debian's package dataset-fashion-mnist; with ``--images few`` 2,000 of them that lie
beside this program, enough to try it.
"""

import time
from pathlib import Path

import common

import xpnet
from xpnet.datasets.idx import read_idx

NAMES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
FEW = Path(__file__).with_name("data") / "fashion_mnist_2000"

args = common.arguments(
    __doc__, {"network": ["plain", "convolutions", "augmented"], "images": ["all", "few"]}, epochs=16, seed=1
)

if args.images == "all":
    (x, t), (x_test, t_test) = xpnet.datasets.fashion_mnist()
else:
    x, x_test = (read_idx(FEW / f"{part}-images-idx3-ubyte.gz").reshape(-1, 784) / 255 for part in ("train", "t10k"))
    t, t_test = (read_idx(FEW / f"{part}-labels-idx1-ubyte.gz").astype(int) for part in ("train", "t10k"))
    x, x_test = x.astype("float32"), x_test.astype("float32")

plain = [
    xpnet.Linear(784, 512),
    xpnet.BatchNorm(512),
    xpnet.ReLU(),
    xpnet.Dropout(0.2),
    xpnet.Linear(512, 512),
    xpnet.BatchNorm(512),
    xpnet.ReLU(),
    xpnet.Dropout(0.2),
    xpnet.Linear(512, 10),
]


def convolution(inputs: int, outputs: int, *pool: xpnet.Layer) -> list[xpnet.Layer]:
    """A convolution whose outputs are normalised and rectified, after a pool if there is one."""
    return [
        xpnet.Conv2D(inputs, outputs, bias=False, weight_init="he_normal"),
        *pool,
        xpnet.BatchNorm(outputs),
        xpnet.ReLU(),
    ]


def convolutions(dropout: float, *inside: xpnet.Layer) -> list[xpnet.Layer]:
    """Four convolutions, and other layers inside of them that leave 7 x 7 places of 64 channels as they are."""
    return [
        xpnet.Reshape((28, 28, 1)),
        *convolution(1, 32, xpnet.MaxPool2D(2)),  # 28 x 28 pixels become 14 x 14 places of 32 channels
        *convolution(32, 64),
        *convolution(64, 64, xpnet.MaxPool2D(2)),  # 7 x 7 of 64
        *inside,
        *convolution(64, 128, xpnet.MaxPool2D(2)),  # 3 x 3 of 128
        xpnet.Flatten(),
        xpnet.Dropout(dropout),
        xpnet.Linear(1152, 10),
    ]


# A shoe that is mirrored is a shoe, and so is one of which a part is hidden. The block is two convolutions more.
flat, *deeper = convolutions(0.3, xpnet.Residual([*convolution(64, 64), *convolution(64, 64)[:-1]]))
augmented = [flat, xpnet.RandomFlip(), xpnet.RandomCutout(8), *deeper]

layers, goal = {
    "plain": (plain, 0.90),
    "convolutions": (convolutions(0.4), 0.93),
    "augmented": (augmented, 0.94),
}[args.network]
peak = 0.002 if args.network == "plain" else 0.01
net = xpnet.Network(
    layers,
    loss=xpnet.CrossEntropy(label_smoothing=0.1),
    backend=args.backend,
    seed=args.seed,
    input_shape=(784,),
)
print(net.summary())

batch_size = 128
# Images that are never the same can be looked at more often.
epochs = args.epochs if args.network == "augmented" else min(args.epochs, 12)
steps = epochs * -(-len(x) // batch_size)  # -(-a // b) is a / b rounded up
began = time.perf_counter()
history = net.fit(
    x,
    t,
    optimizer=xpnet.Adam(xpnet.schedules.OneCycle(peak, steps)),
    epochs=epochs,
    batch_size=batch_size,
    averaging=0.999 if args.network == "augmented" else None,
    verbose=2,  # a line for each epoch everywhere, and a progress bar on a terminal
)
seconds = time.perf_counter() - began

# The test images are looked at once, at the very end. All numbers above were chosen with a part of the training images.
probabilities = net.predict_proba(x_test)
if args.network == "augmented":
    mirrored = x_test.reshape(-1, 28, 28)[:, :, ::-1].reshape(-1, 784)
    probabilities = (probabilities + net.predict_proba(mirrored)) / 2
predicted = probabilities.argmax(axis=1)
accuracy = float((predicted == t_test).mean())
wrong = t_test[predicted != t_test]
print(f"{len(wrong)} of the {len(t_test):,} test images are taken for something else:")
common.bars(((f"{name:10}", int((wrong == k).sum())) for k, name in enumerate(NAMES)), form="4")
common.draw(
    args,
    lambda plots: {
        "loss": plots.loss(history),
        "confusion": plots.confusion(t_test, predicted, classes=NAMES),
        "errors": plots.errors(x_test, t_test, predicted, (28, 28)),
    },
)
goal = round(goal - 0.002, 3) if args.full and args.images == "all" else 0.6
common.require(f"the test accuracy, {accuracy:.4f}, is at least {goal}", accuracy >= goal)
print(f"test accuracy {100 * accuracy:.2f} % after {seconds:.1f} s of training on {net.backend.name}")
