"""What `fit` measures after each epoch, besides the loss as the parameters moved."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xpnet.errors import ConfigError
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
    def of(
        cls, net: Model, metrics: dict[str, Metric], samples: Samples | None, validation: Validation | None,
        scale: float | None,
    ) -> Scores:  # fmt: skip
        """Return what is measured of a training; without metrics the training data are not held on to."""
        if not metrics:
            return cls(metrics, None, validation)
        if samples is None:
            if validation is None:
                raise ConfigError("metrics of data that are streamed are measured on validation_data alone; give it")
            return cls(metrics, None, validation)
        x, dtype = samples.x, getattr(net.backend.xp, net.dtype)
        x = x if x.dtype == dtype else net.backend.xp.astype(x, dtype)  # small integers may lie there as they came
        weight = np.ones(int(x.shape[0])) if samples.weight is None else samples.weight
        return cls(metrics, Validation(x, samples.t, weight, scale), validation)

    def __call__(self, net: Model) -> dict[str, float]:
        """Return the numbers by the names of their curves."""
        values: dict[str, float] = {}
        if self.training is not None:
            values |= self._measured(net, self.training)
        if self.validation is not None:
            x, t, weight, scale = self.validation
            found = score(net, x, t, weight, None, scale) | self._measured(net, self.validation)
            values |= {f"validation_{name}": value for name, value in found.items()}
        return values

    def _measured(self, net: Model, data: Validation) -> dict[str, float]:
        return measure(net, self.metrics, data.x, data.t, data.weight, None, data.scale)
