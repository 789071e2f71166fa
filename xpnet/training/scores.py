"""What `fit` measures after each epoch, besides the loss as the parameters moved."""

from __future__ import annotations

from typing import Any

from xpnet.model.core import Model
from xpnet.model.metrics import Metric, measure
from xpnet.model.scoring import Scorer
from xpnet.training.samples import Validation


class Scores:
    """Metrics, the training data if there are metrics to measure on them, and the validation data if there are any."""

    def __init__(
        self, net: Model, metrics: dict[str, Metric], training: Validation | None, validation: Validation | None
    ) -> None:  # fmt: skip
        self.net, self.metrics, self.training, self.validation = net, metrics, training, validation
        self._scorer = None if validation is None else Scorer(net, *validation)

    def __call__(self) -> dict[str, float]:
        """Return the numbers by the names of their curves."""
        values: dict[str, float] = {}
        if self.training is not None:
            values |= measure(self.net, self.metrics, *_apart(self.training))
        if self.validation is not None and self._scorer is not None:
            found = self._scorer() | measure(self.net, self.metrics, *_apart(self.validation))
            values |= {f"validation_{name}": value for name, value in found.items()}
        return values


def _apart(data: Validation) -> tuple[Any, ...]:
    """Return samples as `measure` takes them."""
    return data.x, data.t, data.weight, None, data.scale
