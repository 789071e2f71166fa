"""What `fit` measures after each epoch, besides the loss as the parameters moved."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xpnet.model.core import Model
from xpnet.model.metrics import Metric, measure
from xpnet.model.predict import score
from xpnet.training.samples import Samples, Validation


class Scores(NamedTuple):
    """Metrics, the training data if there are metrics to measure on them, and the validation data if there are any."""

    metrics: dict[str, Metric]
    training: Validation | None
    validation: Validation | None

    @classmethod
    def of(cls, metrics: dict[str, Metric], samples: Samples, validation: Validation | None) -> Scores:
        """Return what is measured of a training; without metrics the training data are not held on to."""
        weight = np.ones(int(samples.x.shape[0])) if samples.weight is None else samples.weight
        return cls(metrics, Validation(samples.x, samples.t, weight) if metrics else None, validation)

    def __call__(self, net: Model) -> dict[str, float]:
        """Return the numbers by the names of their curves."""
        values: dict[str, float] = {}
        if self.training is not None:
            values |= measure(net, self.metrics, *self.training)
        if self.validation is not None:
            found = score(net, *self.validation, None) | measure(net, self.metrics, *self.validation)
            values |= {f"validation_{name}": value for name, value in found.items()}
        return values
