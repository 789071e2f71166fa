"""xpnet: a `Network` and a `Trainer`, on the backend that is asked for."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from networks import Array, Layer, Weights
from workloads import Workload

import xpnet
from systems.base import NotMeasured, System
from xpnet.backends.cpu.replay import Replay
from xpnet.model.outputs import Outputs

SIMPLE = {"relu": xpnet.ReLU, "leaky_relu": lambda: xpnet.LeakyReLU(0.01), "sigmoid": xpnet.Sigmoid}


def build(layers: list[Layer], rank: int, place: str = "") -> tuple[list[xpnet.Layer], list[tuple[str, ...]]]:
    """Return the layers of a network whose windows have `rank` axes, and their parameters' names in our order."""
    built: list[xpnet.Layer] = []
    names: list[tuple[str, ...]] = []
    kinds = SIMPLE | {"flatten": xpnet.Flatten}
    kinds["mean"] = (xpnet.GlobalAveragePool1D, xpnet.GlobalAveragePool2D)[rank - 1]
    for k, layer in enumerate(layers):
        own = f"{place}{k}."
        if layer[0] == "residual":
            (branch, first), (shortcut, second) = build(layer[1], rank, own), build(layer[2], rank, f"{own}shortcut.")
            built.append(xpnet.Residual(branch, shortcut=shortcut))
            names += [*first, *second]
        elif layer[0] == "conv":
            *sizes, bias = layer[1:]
            built.append((xpnet.Conv1D, xpnet.Conv2D)[rank - 1](*sizes, bias=bias))
            names.append((f"{own}W", f"{own}b") if bias else (f"{own}W",))
        elif layer[0] == "norm":
            built.append(xpnet.BatchNorm(layer[1]))
            names.append((f"{own}gamma", f"{own}beta"))
        elif layer[0] == "linear":
            built.append(xpnet.Linear(*layer[1:]))
            names.append((f"{own}W", f"{own}b"))
        elif layer[0] == "pool":
            built.append((xpnet.MaxPool1D, xpnet.MaxPool2D)[rank - 1](layer[1]))
        else:
            built.append(kinds[layer[0]]())
    return built, names


def _compile(program: Any) -> None:
    """Compile a recording now, and not when it has run for a while."""
    if isinstance(program, Replay) and program._tape is not None:
        program.compile(program._tape)


class Xpnet(System):
    """The trainer holds the data on the device, which picks the batch; the host sends one permutation an epoch."""

    def __init__(self, threads: int, tf32: bool, backend: str, plain: bool = False) -> None:
        super().__init__(threads, tf32)
        if plain:
            sys.modules["llvmlite"] = None  # type: ignore[assignment]  # as if the `fast` extra were not installed
        reason = xpnet.backends.missing(backend)
        if reason is not None:
            raise NotMeasured(reason)
        self._backend = xpnet.backends.get(backend, tf32=tf32 and backend == "cupy")  # a CPU has none
        self._chunk = 0

    def versions(self) -> dict[str, str]:
        found = {"xpnet": xpnet.__version__, "numpy": np.__version__}
        for package in ("llvmlite", "cupy-cuda12x", "cupy-cuda13x"):
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                continue
        return found

    def load(self, workload: Workload, x: Array, t: Array, weights: Weights, seed: int) -> None:
        self.workload = workload
        layers, self._names = build(workload.network, len(workload.shape) - 1)
        loss = xpnet.CrossEntropy() if workload.loss == "cross_entropy" else xpnet.MeanSquaredError()
        shape = workload.shape or None
        self._net = xpnet.Network(
            layers, loss=loss, backend=self._backend, dtype="float32", seed=seed, input_shape=shape
        )
        rate = workload.learning_rate
        if workload.decay != 1.0:
            schedule: Any = lambda step: rate * workload.decay ** (step // workload.batches)  # noqa: E731
        else:
            schedule = rate
        optimizer: xpnet.Optimizer
        if workload.optimizer == "adam":
            optimizer = xpnet.Adam(schedule, beta1=0.9, beta2=0.999, eps=1e-8)
        else:
            optimizer = xpnet.SGD(schedule, momentum=0.9 if workload.optimizer == "momentum" else 0.0)
        self._trainer = xpnet.Trainer(self._net, optimizer, x, t, batch_size=workload.batch)
        self._start = self._trainer.export()
        _compile(self._trainer._program(workload.batch))
        self.set_weights(weights)

    def set_weights(self, weights: Weights) -> None:
        pairs = zip(self._names, weights, strict=True)
        self._net.set_parameters({n: p for own, ps in pairs for n, p in zip(own, ps, strict=True)})

    def reset(self, weights: Weights) -> None:
        self._trainer.restore(*self._start)
        self.set_weights(weights)

    def set_rate(self, rate: float) -> None:
        """Nothing to do: the learning rate is a function of the step, see `load`."""

    def run(self, steps: int) -> None:
        self._loss = self._trainer.run(steps)
        self.sync()

    def loss(self) -> float:
        return float(self._loss)

    def weights(self) -> Weights:
        values = {k: self._backend.to_numpy(v).copy() for k, v in self._net.parameters.items()}
        return [tuple(values[name] for name in own) for own in self._names]

    def put(self, x: Array) -> Any:
        return self._backend.asarray(x)

    def forward(self, x: Any) -> Any:
        return self._net.forward(x)

    def predict(self, x: Any, chunk: int) -> list[Any]:
        if chunk != self._chunk:
            self._net._outputs, self._chunk = Outputs(), chunk  # of another size, which is recorded as soon
        outputs = super().predict(x, chunk)
        _compile(self._net._outputs._program)
        return outputs

    def outputs(self, x: Array) -> Array:
        return np.asarray(self._backend.to_numpy(self.forward(self.put(x))))

    def accuracy(self, x: Any, t: Array) -> float:
        return float(np.mean(self._net.predict(x) == t))

    def sync(self) -> None:
        self._backend.synchronize()
