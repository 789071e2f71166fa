"""What `fit` measures after each epoch, besides the loss as the parameters moved."""

from __future__ import annotations

from typing import Any, NamedTuple

from xpnet.model.core import Model
from xpnet.model.metrics import Metric, measure
from xpnet.model.predict import score
from xpnet.training.samples import Validation


class Scores(NamedTuple):
    """Metrics, the training data if there are metrics to measure on them, and the validation data if there are any."""

    metrics: dict[str, Metric]
    training: Validation | None
    validation: Validation | None

    def __call__(self, net: Model) -> dict[str, float]:
        """Return the numbers by the names of their curves."""
        values: dict[str, float] = {}
        if self.training is not None:
            values |= measure(net, self.metrics, *_apart(self.training))
        if self.validation is not None:
            found = score(net, *_apart(self.validation)) | measure(net, self.metrics, *_apart(self.validation))
            values |= {f"validation_{name}": value for name, value in found.items()}
        return values


def _apart(data: Validation) -> tuple[Any, ...]:
    """Return samples as `score` and `measure` take them."""
    return data.x, data.t, data.weight, None, data.scale
