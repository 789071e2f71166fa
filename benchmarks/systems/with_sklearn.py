"""scikit-learn: `MLPClassifier` and `MLPRegressor`, an epoch a `partial_fit`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import sklearn
from networks import Array, Weights
from sklearn.neural_network import MLPClassifier, MLPRegressor
from workloads import Workload

from systems.base import NotMeasured, System, with_eps_hat


class Sklearn(System):
    """`partial_fit` checks the data, shuffles it and goes through it once. Weight decay (alpha) is zero."""

    gives_probabilities = True

    def versions(self) -> dict[str, str]:
        return {"scikit-learn": sklearn.__version__, "numpy": np.__version__}

    def adapt(self, workload: Workload) -> tuple[Workload, str]:
        if workload.layers:
            raise NotMeasured("it has no convolutions")
        notes = []
        if workload.output == "sigmoid":
            workload = replace(workload, output="identity")
            notes.append("linear outputs (MLPRegressor has no other)")
        if workload.activation == "leaky_relu":
            workload = replace(workload, activation="relu")
            notes.append("ReLU (it has no LeakyReLU)")
        return with_eps_hat(workload), ", ".join(notes)

    @property
    def unit(self) -> int:
        return self.workload.batches

    def load(self, workload: Workload, x: Array, t: Array, weights: Weights, seed: int) -> None:
        self.workload, self._x, self._t = workload, x, t
        classify = workload.loss == "cross_entropy"
        # MLPRegressor minimises half the squared error, summed over the outputs.
        self._gain = 1.0 if classify else 2.0 / workload.sizes[-1]
        self._model = (MLPClassifier if classify else MLPRegressor)(
            hidden_layer_sizes=workload.sizes[1:-1],
            activation={"relu": "relu", "sigmoid": "logistic"}[workload.activation],
            solver="adam" if workload.optimizer.startswith("adam") else "sgd",
            alpha=0.0,
            batch_size=workload.batch,
            learning_rate_init=workload.learning_rate * self._gain,
            momentum=0.9 if workload.optimizer == "momentum" else 0.0,
            nesterovs_momentum=False,
            epsilon=1e-8,
            random_state=np.random.RandomState(seed),  # from a plain number, every partial_fit has the same order
        )
        self._classes = {"classes": np.arange(workload.sizes[-1])} if classify else {}
        self._model.partial_fit(x[: workload.batch], t[: workload.batch], **self._classes)  # makes the arrays
        self.reset(weights)

    def set_weights(self, weights: Weights) -> None:
        for i, (W, b) in enumerate(weights):
            self._model.coefs_[i][...] = W
            self._model.intercepts_[i][...] = b

    def reset(self, weights: Weights) -> None:
        self.set_weights(weights)
        vars(self._model).pop("_optimizer", None)  # made anew, with zeros, by the next partial_fit

    def set_rate(self, rate: float) -> None:
        optimizer = getattr(self._model, "_optimizer", None)  # none before the first epoch, which has the initial rate
        if optimizer is not None:
            optimizer.learning_rate_init = rate * self._gain

    def run(self, steps: int) -> None:
        for _ in range(steps // self.unit):
            self._model.partial_fit(self._x, self._t)

    def loss(self) -> float:
        value = float(self._model.loss_)
        return value if self.workload.loss == "cross_entropy" else 2.0 * value

    def weights(self) -> Weights:
        return [(W.copy(), b.copy()) for W, b in zip(self._model.coefs_, self._model.intercepts_, strict=True)]

    def put(self, x: Array) -> Array:
        return x

    def forward(self, x: Array) -> Any:
        return self._model.predict_proba(x) if self._classes else self._model.predict(x)
