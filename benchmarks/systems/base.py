"""What a system must be able to do to be measured."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import numpy as np
from networks import Array, Weights
from workloads import Workload


class NotMeasured(Exception):
    """This system cannot run this workload here; the text says why and goes into the table."""


class System(ABC):
    """One library, at its best public way to train a multi-layer perceptron.

    `load` makes the data resident and builds the network; `run` trains through shuffled epochs of that data, without
    a pause at an epoch's end, and returns when the work is done, not when it is queued.
    """

    gives_probabilities = False  # under cross-entropy, `forward` gives softmax(logits), not logits
    rounding_of_images = 1.0  # how much larger errors of networks of images are accepted, if the library is known so

    def __init__(self, threads: int, tf32: bool) -> None:
        self.threads = threads
        self.tf32 = tf32
        self.workload: Workload

    def adapt(self, workload: Workload) -> tuple[Workload, str]:
        """The nearest workload that the library has, and a note that says what differs (empty when nothing does)."""
        return workload, ""

    @property
    def unit(self) -> int:
        """The fewest steps that `run` can take."""
        return 1

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Versions of the libraries that do the work."""

    @abstractmethod
    def load(self, workload: Workload, x: Array, t: Array, weights: Weights, seed: int) -> None:
        """Make the data resident and build the network. Compilation may wait until the first `run`."""

    @abstractmethod
    def set_weights(self, weights: Weights) -> None:
        """Write copies of `weights` into the network, and change nothing else."""

    @abstractmethod
    def reset(self, weights: Weights) -> None:
        """Begin anew from `weights`: optimizer state zero, a new epoch; what is compiled stays."""

    @abstractmethod
    def set_rate(self, rate: float) -> None:
        """Use this learning rate from now on, or until `reset`. Called between epochs, with what `decay` asks for."""

    @abstractmethod
    def run(self, steps: int) -> None:
        """Train `steps` steps, a multiple of `unit`."""

    @abstractmethod
    def loss(self) -> float:
        """Mean of the batch losses of the last `run`, each taken before its update (of its last epoch, if need be)."""

    @abstractmethod
    def weights(self) -> Weights:
        """The current weights, as NumPy arrays."""

    @abstractmethod
    def put(self, x: Array) -> Any:
        """Rows to predict, resident where the system computes."""

    @abstractmethod
    def forward(self, x: Any) -> Any:
        """The network's outputs for resident rows (logits, or probabilities where the library gives only these)."""

    def sync(self) -> None:  # noqa: B027 - most systems compute at once and need nothing
        """Wait until what was asked for is done."""

    def predict(self, x: Any, chunk: int) -> list[Any]:
        """The outputs for all rows of `x`, `chunk` rows at a time."""
        outputs = [self.forward(x[i : i + chunk]) for i in range(0, len(x), chunk)]
        self.sync()
        return outputs

    def outputs(self, x: Array) -> Array:
        """The outputs for the rows of the NumPy array `x`, as a NumPy array."""
        return np.asarray(self.forward(self.put(x)))

    def accuracy(self, x: Any, t: Array) -> float:
        """Fraction of the resident rows `x` whose largest output is the class `t`."""
        return float(np.mean(np.argmax(np.asarray(self.forward(x)), axis=1) == t))


def with_eps_hat(workload: Workload) -> Workload:
    """The same with Adam's other published form, eps added to the uncorrected root: the one that the library has."""
    return replace(workload, optimizer="adam, eps hat") if workload.optimizer == "adam" else workload


class Order:
    """Shuffled epochs for systems that take row numbers from the host: `next(k)` gives the next k steps' rows."""

    def __init__(self, rows: int, batch: int, seed: int) -> None:
        self.rows, self.batch = rows, batch
        self._rng = np.random.default_rng(seed)
        self._at = rows
        self._order: Array

    def next(self) -> Array:
        """Row numbers of the next batch; a new permutation at an epoch's start."""
        if self._at + self.batch > self.rows:
            self._order, self._at = self._rng.permutation(self.rows), 0
        self._at += self.batch
        return self._order[self._at - self.batch : self._at]
