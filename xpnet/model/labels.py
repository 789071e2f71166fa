"""What the classes of a network are called."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.errors import ConfigError
from xpnet.losses import Loss
from xpnet.typing import HostArray


def check_labels(labels: Any, outputs: int, loss: Loss) -> HostArray:
    """Return a label for each class as a read-only array of their own, or raise."""
    name = type(loss).__name__
    if loss.kind == "regression" or (loss.kind == "binary" and outputs > 1):
        raise ConfigError(f"labels are for one class out of several, but {name} with {outputs} output(s) has none")
    classes = outputs if loss.kind == "classification" else 2
    found = np.array(labels)
    if found.ndim != 1 or len(found) != classes or len(set(found.tolist())) != classes:
        raise ConfigError(f"labels must be {classes} different ones, one a class in their order, got {labels!r:.200}")
    found.flags.writeable = False
    return found
