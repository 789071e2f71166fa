"""Thinc: layers composed with `chain`, their gradients applied by `finish_update`."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
from networks import Array, Weights
from thinc.api import (
    Adam,
    Linear,
    Model,
    NumpyOps,
    Optimizer,
    Relu,
    Sigmoid,
    Softmax,
    chain,
    constant,
    set_current_ops,
)  # fmt: skip
from workloads import Workload

from systems.base import NotMeasured, Order, System, with_eps_hat


def leaky_relu() -> Model[Array, Array]:
    """A layer in Thinc's own way of adding one: it has no LeakyReLU."""

    def forward(model: Model[Array, Array], x: Array, is_train: bool) -> tuple[Array, Any]:
        slope = np.where(x > 0, np.float32(1), np.float32(0.01))
        return x * slope, lambda dy: dy * slope

    return Model("leaky_relu", forward)


class Thinc(System):
    """Softmax and cross-entropy are Thinc's pair: a Softmax layer that takes p - t as its gradient."""

    gives_probabilities = True

    def versions(self) -> dict[str, str]:
        return {"thinc": version("thinc"), "blis": version("blis")}

    def adapt(self, workload: Workload) -> tuple[Workload, str]:
        if workload.layers:
            raise NotMeasured("it has no convolutions")
        if workload.optimizer == "momentum":
            return replace(workload, optimizer="sgd"), "plain SGD (Thinc has no momentum)"
        return with_eps_hat(workload), ""

    def load(self, workload: Workload, x: Array, t: Array, weights: Weights, seed: int) -> None:
        set_current_ops(NumpyOps(use_blis=False))  # NumPy's products took less than half the time of BLIS's
        self.workload, self._x = workload, x
        self._classify = workload.loss == "cross_entropy"
        self._t = np.eye(workload.sizes[-1], dtype=np.float32)[t] if self._classify else t
        self._order = Order(workload.rows, workload.batch, seed)
        layers: list[Any] = []
        for i, (W, _) in enumerate(weights):
            kind = workload.output if i == len(weights) - 1 else workload.activation
            if i == len(weights) - 1 and self._classify:
                layers.append(Softmax(*W.shape[::-1]))
            elif kind == "leaky_relu":
                layers += [Linear(*W.shape[::-1]), leaky_relu()]
            else:
                layers.append({"relu": Relu, "sigmoid": Sigmoid, "identity": Linear}[kind](*W.shape[::-1]))
        self._net = chain(*layers) if len(layers) > 1 else layers[0]
        self._net.initialize(x[: workload.batch], self._t[: workload.batch])
        self._linear = [layer for layer in layers if layer.has_param("W")]
        self.reset(weights)

    def set_weights(self, weights: Weights) -> None:
        for layer, (W, b) in zip(self._linear, weights, strict=True):
            layer.set_param("W", np.ascontiguousarray(W.T))
            layer.set_param("b", b.copy())

    def reset(self, weights: Weights) -> None:
        self.set_weights(weights)
        rate = self.workload.learning_rate
        if self.workload.optimizer.startswith("adam"):
            self._optimizer = Adam(rate, L2=0.0, beta1=0.9, beta2=0.999, eps=1e-8, grad_clip=0.0, use_averages=False)
        else:
            self._optimizer = Optimizer(rate, L2=0.0, beta1=0.0, beta2=0.0, grad_clip=0.0, use_averages=False)

    def set_rate(self, rate: float) -> None:
        self._optimizer.learn_rate = constant(rate)

    def run(self, steps: int) -> None:
        x, t, net, classify = self._x, self._t, self._net, self._classify
        B, O = self.workload.batch, self.workload.sizes[-1]  # noqa: E741
        self._total, self._steps = 0.0, steps
        for _ in range(steps):
            picked = self._order.next()
            tb = t[picked]
            y, backpropagate = net.begin_update(x[picked])
            dy = y - tb
            if classify:
                self._total -= float(np.log((y * tb).sum(axis=1)).mean())
                dy /= np.float32(B)
            else:
                self._total += float(np.square(dy).mean())
                dy *= np.float32(2.0 / (B * O))
            backpropagate(dy)
            net.finish_update(self._optimizer)

    def loss(self) -> float:
        return self._total / self._steps

    def weights(self) -> Weights:
        return [(layer.get_param("W").T.copy(), layer.get_param("b").copy()) for layer in self._linear]

    def put(self, x: Array) -> Array:
        return x

    def forward(self, x: Array) -> Any:
        return self._net.predict(x)
