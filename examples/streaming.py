"""A file larger than memory: images are read from the disk while the network learns from those that came before.

The file is made here: images of 28 x 28 bytes, noise from which one of ten patterns shines through. An eighth of it is
in memory at a time. The training is interrupted on the way, and goes on from its checkpoint; the predictions for all
images are written to another file, a piece at a time.

    python examples/streaming.py --gigabytes 4
"""

import tempfile
from pathlib import Path

import common
import numpy as np

import xpnet

args = common.arguments(__doc__, gigabytes=0.02, epochs=2)
rows = int(args.gigabytes * 1e9) // 784
rng = np.random.default_rng(0)
patterns = rng.integers(0, 60, (10, 784))


def images(labels):
    """Return noisy pictures of the patterns, a byte for each pixel."""
    return (patterns[labels] + rng.integers(0, 196, (len(labels), 784))).astype(np.uint8)


class PowerCut(xpnet.Callback):
    """Ends the training after a step."""

    def __init__(self, step):
        self.every = step

    def on_steps(self, run):
        raise KeyboardInterrupt


with tempfile.TemporaryDirectory() as folder:
    path, answers, checkpoint = (Path(folder, name) for name in ("images", "answers", "run.safetensors"))
    t = rng.integers(0, 10, rows)  # a label is a small thing: they are in memory
    with path.open("wb") as file:
        for start in range(0, rows, 10_000):
            file.write(images(t[start : start + 10_000]).tobytes())

    x = np.memmap(path, dtype=np.uint8, mode="r", shape=(rows, 784))  # an array whose numbers are in the file
    options = {"memory": x.nbytes // 8, "scale": 1 / 255, "checkpoint": checkpoint, "verbose": False}
    options |= {"epochs": args.epochs, "batch_size": 100}
    print(f"{rows} images, {x.nbytes / 1e6:.0f} MB; of these {options['memory'] / 1e6:.1f} MB are in memory at a time")

    net = xpnet.mlp([784, 32, 10], backend=args.backend, seed=0)
    try:
        net.fit(x, t, callbacks=[PowerCut(rows // 150)], **options)
    except KeyboardInterrupt:
        print("interrupted in the first epoch")
    net = xpnet.mlp([784, 32, 10], backend=args.backend, seed=0)
    history = net.fit(x, t, resume=True, **options)  # goes on where it was

    found = np.memmap(answers, dtype=np.int64, mode="w+", shape=(rows,))
    net.predict(x, out=found, scale=1 / 255)  # written as it comes
    accuracy = float((found == t).mean())
    del x, found  # or Windows would keep the files

fresh = rng.integers(0, 10, 2000)
unseen = net.evaluate(images(fresh), fresh, scale=1 / 255)["accuracy"]
common.draw(args, lambda plots: {"loss": plots.loss(history), "weights": plots.weight_images(net, (28, 28))})
goal = 0.95 if args.full else 0.6
common.require(f"the accuracy on the images of the file, {accuracy:.4f}, is at least {goal}", accuracy >= goal)
common.require(
    f"the accuracy on {len(fresh)} other images, {unseen:.4f}, is at least {goal - 0.05:.2f}", unseen >= goal - 0.05
)
