"""xpnet: a `Network` and a `Trainer`, on the backend that is asked for."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from workloads import Array, Weights, Workload

import xpnet
from systems.base import NotMeasured, System

ACTIVATIONS = {"relu": xpnet.ReLU, "leaky_relu": lambda: xpnet.LeakyReLU(0.01), "sigmoid": xpnet.Sigmoid}


class Xpnet(System):
    """The trainer holds the data on the device, which picks the batch; the host sends one permutation an epoch."""

    def __init__(self, threads: int, tf32: bool, backend: str, plain: bool = False) -> None:
        super().__init__(threads, tf32)
        if plain:
            sys.modules["llvmlite"] = None  # type: ignore[assignment]  # as if the `fast` extra were not installed
        reason = xpnet.backends.available()[backend]
        if reason is not None:
            raise NotMeasured(reason)
        self._backend = xpnet.backends.get(backend, tf32=tf32)

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
        layers: list[Any] = []
        self._names: list[str] = []
        for i, (W, _) in enumerate(weights):
            kind = workload.output if i == len(weights) - 1 else workload.activation
            self._names.append(str(len(layers)))
            layers.append(xpnet.Linear(*W.shape))
            if kind != "identity":
                layers.append(ACTIVATIONS[kind]())
        loss = xpnet.CrossEntropy() if workload.loss == "cross_entropy" else xpnet.MeanSquaredError()
        self._net = xpnet.Network(layers, loss=loss, backend=self._backend, dtype="float32", seed=seed)
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
        self.set_weights(weights)

    def set_weights(self, weights: Weights) -> None:
        pairs = zip(self._names, weights, strict=True)
        self._net.set_parameters({f"{k}.{n}": p for k, (W, b) in pairs for n, p in (("W", W), ("b", b))})

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
        return [(values[f"{k}.W"], values[f"{k}.b"]) for k in self._names]

    def put(self, x: Array) -> Any:
        return self._backend.asarray(x)

    def forward(self, x: Any) -> Any:
        return self._net.forward(x)

    def outputs(self, x: Array) -> Array:
        return np.asarray(self._backend.to_numpy(self.forward(self.put(x))))

    def accuracy(self, x: Any, t: Array) -> float:
        return float(np.mean(self._net.predict(x) == t))

    def sync(self) -> None:
        self._backend.synchronize()
