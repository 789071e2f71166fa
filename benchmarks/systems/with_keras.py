"""Keras on its JAX backend: `Model.fit`, compiled by XLA."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import keras
from networks import Array, Weights
from workloads import Workload

from systems.base import System, with_eps_hat
from systems.keras_layers import apply


class Keras(System):
    """`fit` shuffles and picks the batches; its overhead at each call is spread over all epochs of the call."""

    def __init__(self, threads: int, tf32: bool) -> None:
        super().__init__(threads, tf32)
        keras.utils.disable_interactive_logging()

    def adapt(self, workload: Workload) -> tuple[Workload, str]:
        return with_eps_hat(workload), ""

    def versions(self) -> dict[str, str]:
        return {"keras": keras.__version__, "jax": version("jax")}

    @property
    def unit(self) -> int:
        return self.workload.batches

    def load(self, workload: Workload, x: Array, t: Array, weights: Weights, seed: int) -> None:
        self.workload, self._x, self._t = workload, x, t
        keras.utils.clear_session()
        keras.utils.set_random_seed(seed)
        inputs = keras.Input(workload.shape or (workload.sizes[0],))
        outputs, self._layers = apply(workload.network, inputs)
        self._net = keras.Model(inputs, outputs)
        rate = workload.learning_rate
        if workload.optimizer.startswith("adam"):
            optimizer = keras.optimizers.Adam(rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8)
        else:
            optimizer = keras.optimizers.SGD(rate, momentum=0.9 if workload.optimizer == "momentum" else 0.0)
        squared = workload.loss == "squared_error"
        loss = "mean_squared_error" if squared else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self._net.compile(optimizer, loss)
        optimizer.build(self._net.trainable_variables)
        self._start = [v.numpy() for v in (*optimizer.variables, *self._net.non_trainable_variables)]
        self.reset(weights)

    def set_weights(self, weights: Weights) -> None:
        for layer, own in zip(self._layers, weights, strict=True):
            for variable, value in zip(layer.trainable_variables, own, strict=True):
                variable.assign(value)

    def reset(self, weights: Weights) -> None:
        self.set_weights(weights)
        variables = (*self._net.optimizer.variables, *self._net.non_trainable_variables)
        for variable, value in zip(variables, self._start, strict=True):
            variable.assign(value)

    def set_rate(self, rate: float) -> None:
        self._net.optimizer.learning_rate = rate

    def run(self, steps: int) -> None:
        epochs = steps // self.unit
        history = self._net.fit(
            self._x, self._t, batch_size=self.workload.batch, epochs=epochs, shuffle=True, verbose=0
        )
        self._loss = float(history.history["loss"][-1])

    def loss(self) -> float:
        return self._loss

    def weights(self) -> Weights:
        return [tuple(v.numpy() for v in layer.trainable_variables) for layer in self._layers]

    def put(self, x: Array) -> Array:
        return x

    def forward(self, x: Array) -> Any:
        return self._net.predict(x, batch_size=min(len(x), 4096), verbose=0)

    def predict(self, x: Array, chunk: int) -> list[Any]:
        return [self._net.predict(x, batch_size=chunk, verbose=0)]
