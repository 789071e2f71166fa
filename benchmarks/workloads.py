"""The workloads: what every system computes, with which data, from which initial weights."""

from __future__ import annotations

import gzip
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import networks
import numpy as np
from networks import Array, Layer, Weights

MNIST = Path(__file__).resolve().parent.parent / "examples" / "data" / "mnist"


@dataclass(frozen=True)
class Workload:
    """One network, its optimizer and its batch size: all that a system needs to know to train it.

    The loss of cross-entropy is the mean over the batch; of squared error, the mean over the batch and the outputs.
    Adam has beta1 = 0.9, beta2 = 0.999, eps = 1e-8; momentum is 0.9. There is no weight decay and no clipping.
    """

    name: str
    sizes: tuple[int, ...]  # of a perceptron; of another network the numbers of inputs and outputs
    activation: str  # of the hidden layers: relu, sigmoid, leaky_relu (slope 0.01)
    output: str  # of the last layer: identity, sigmoid
    batch: int
    optimizer: str  # sgd, momentum, adam, "adam, eps hat"
    learning_rate: float
    loss: str  # squared_error, cross_entropy
    batches: int  # batches in the resident data set, that is, steps an epoch: every batch is full
    gpu_only: bool = False
    decay: float = 1.0  # the learning rate is multiplied by this at each epoch's end
    shape: tuple[int, ...] = ()  # of a sample, where it is not a row
    layers: list[Layer] = field(default_factory=list)  # of a network that is no perceptron, see networks.py

    @property
    def network(self) -> list[Layer]:
        """The layers."""
        return self.layers or networks.perceptron(self.sizes, self.activation, self.output)

    @property
    def rows(self) -> int:
        """Rows of the resident data set."""
        return self.batch * self.batches

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON can hold them."""
        return {**asdict(self), "sizes": list(self.sizes), "shape": list(self.shape)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Workload:
        """The inverse of `to_json`."""
        return cls(**{**fields, **{name: tuple(fields.get(name, ())) for name in ("sizes", "shape")}})


MLP = (784, 512, 512, 10)


def _seeing(
    name: str, shape: tuple[int, ...], layers: list[Layer], optimizer: str, rate: float, batches: int
) -> Workload:
    sizes = (math.prod(shape), layers[-1][-1])
    return Workload(
        name, sizes, "relu", "identity", 128, optimizer, rate, "cross_entropy", batches, shape=shape, layers=layers
    )


STEPS = {
    w.name: w
    for w in (
        Workload("tutorial", (784, 32, 10), "sigmoid", "sigmoid", 256, "sgd", 1.0, "squared_error", 234),
        Workload("mlp", MLP, "relu", "identity", 128, "adam", 1e-3, "cross_entropy", 468),
        Workload("wide", (784, 2048, 2048, 10), "relu", "identity", 1024, "momentum", 0.02, "cross_entropy", 16),
        Workload("tiny", (2, 3, 2), "leaky_relu", "identity", 1, "sgd", 0.01, "squared_error", 2048),
        Workload(
            "huge", (784, 4096, 4096, 10), "relu", "identity", 8192, "momentum", 0.02, "cross_entropy", 7, gpu_only=True
        ),
        _seeing("beautiful", (28, 28, 1), networks.BEAUTIFUL, "momentum", 0.001, 8),
        _seeing("resnet8", (32, 32, 3), networks.RESNET8, "momentum", 0.02, 8),
        _seeing("conv1d", (128, 9), networks.CONV1D, "momentum", 0.02, 32),
    )
}
# Which rows a step takes can be read off this one's weights, see check.py.
PICKS = Workload("picks", (64, 2), "relu", "identity", 8, "sgd", 0.05, "squared_error", 8)
SEEING = tuple(name for name, workload in STEPS.items() if workload.shape)


@dataclass(frozen=True)
class Prediction:
    """Forward passes of a step's network over resident rows, in chunks of which each size divides their number.

    So systems which compile for a shape compile once.
    """

    step: str
    rows: int
    chunks: tuple[int, ...]

    def data(self, rows: int) -> Array:
        """Return so many of the rows."""
        shape = STEPS[self.step].shape
        return (
            np.random.default_rng(2).standard_normal((rows, *shape), np.float32) if shape else mnist("train", rows)[0]
        )


PREDICTIONS = {"predict": Prediction("mlp", 60_000, (500, 4_000, 60_000))} | {
    f"predict-{name}": Prediction(name, 1_280, (64, 128, 256)) for name in SEEING
}


@dataclass(frozen=True)
class Grid:
    """The small grid in which each system finds its fastest way to the target accuracy on MNIST."""

    batches: tuple[int, ...] = (96, 240)  # both divide 60,000: every row is trained on
    learning_rates: tuple[float, ...] = (1e-3, 2e-3)
    target: float = 0.98
    max_epochs: int = 8
    rows: int = 60_000

    def points(self) -> list[Workload]:
        """One workload a point of the grid."""
        return [mnist_workload(b, rate, self.rows) for b in self.batches for rate in self.learning_rates]


def mnist_workload(batch: int, learning_rate: float, rows: int = 60_000) -> Workload:
    """The network of the time-to-accuracy workload at one point of the grid.

    The learning rate halves after every epoch. With a constant one, the same network crosses 98 % after 4 epochs or
    after 9, as the shuffling has it, and the figure is luck; halving it needs 3.
    """
    name, batches = f"mnist, batch {batch}, learning rate {learning_rate:g}", rows // batch
    return Workload(name, MLP, "relu", "identity", batch, "adam", learning_rate, "cross_entropy", batches, decay=0.5)


def initial_weights(workload: Workload, seed: int = 0) -> Weights:
    """He-uniform weights, or Glorot's where there are no ReLUs, and small biases that are not zero, from `seed`."""
    return networks.initial_weights(workload.network, len(workload.shape) - 1, np.random.default_rng(seed))


def _idx(path: Path, rows: int | None) -> Array:
    """The unsigned bytes of one gzipped IDX file, in its shape; of its first `rows` entries if that is a number."""
    with gzip.open(path) as file:
        head = file.read(4)
        if head[:3] != b"\x00\x00\x08":
            raise ValueError(f"{path.name} is not an IDX file of unsigned bytes")
        length, *shape = (int.from_bytes(file.read(4), "big") for _ in range(head[3]))
        length = length if rows is None else min(rows, length)
        return np.frombuffer(file.read(length * math.prod(shape)), np.uint8).reshape(length, *shape)


def mnist(part: str, rows: int | None = None) -> tuple[Array, Array]:
    """MNIST's images (rows, 784) as float32 in [0, 1], and its labels (rows,) as int64; `part` is train or t10k."""
    labels = _idx(MNIST / f"{part}-labels-idx1-ubyte.gz", rows).astype(np.int64)
    images = _idx(MNIST / f"{part}-images-idx3-ubyte.gz", rows)
    x = np.empty((len(images), 784), np.float32)
    np.multiply(images.reshape(len(images), 784), np.float32(1 / 255), out=x, casting="unsafe")
    return x, labels


def training_data(workload: Workload) -> tuple[Array, Array]:
    """The resident data set: x (rows, inputs) float32; t integer classes, or float32 rows under squared error.

    Where a workload has more rows than MNIST, these are repeated.
    """
    rng = np.random.default_rng(1)
    if workload.shape:
        x = rng.standard_normal((workload.rows, *workload.shape), dtype=np.float32)
        return x, rng.integers(0, workload.sizes[-1], workload.rows)
    if workload.sizes[0] == 784:
        x, labels = mnist("train", workload.rows)
        if len(x) < workload.rows:  # or the last batch were smaller, and counted as a full one
            again = np.arange(workload.rows) % len(x)
            x, labels = x[again], labels[again]
        if workload.loss == "cross_entropy":
            return x, labels
        return x, np.eye(workload.sizes[-1], dtype=np.float32)[labels]
    x = rng.standard_normal((workload.rows, workload.sizes[0])).astype(np.float32)
    return x, np.tanh(x[:, :1] * np.linspace(-1.0, 1.0, workload.sizes[-1])).astype(np.float32)
