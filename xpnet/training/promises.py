"""What an optimizer of one's own promises, looked at before and after the first steps: no later step pays for it."""

from __future__ import annotations

import inspect

import numpy as np

from xpnet.errors import PromiseError
from xpnet.optimizers import Optimizer
from xpnet.training.steps import Steps
from xpnet.typing import Array


def check_signature(optimizer: Optimizer) -> None:
    """Raise unless `update` takes what it is going to be given."""
    scalars = [*optimizer.scalars(np.ones(1), np.ones(1))]
    given = ["xp", "theta", "g", *optimizer.slots, *scalars]
    try:
        inspect.signature(optimizer.update).bind(*given)
    except TypeError as error:
        raise PromiseError(
            f"{type(optimizer).__name__}.update must take ({', '.join(given)}): the parameters, their gradient, the "
            f"slots {list(optimizer.slots)} and the scalars {scalars}, but {error}"
        ) from None


def is_own(optimizer: Optimizer) -> bool:
    """Say whether a user wrote the update."""
    return not type(optimizer).update.__module__.startswith("xpnet.")


def check_effect(trainer: Steps, before: Array) -> None:
    """Raise if the first steps left the parameters as they were `before`, though there is a gradient to follow."""
    xp, a, optimizer = trainer.net.backend.xp, trainer.arrays, trainer.optimizer
    moves = float(trainer.rates(range(trainer.step)).max()) > 0 and bool(xp.any(a["gradient"] != 0))
    if moves and not optimizer.factors and bool(xp.all(a["theta"] == before)):
        raise PromiseError(
            f"{type(optimizer).__name__}.update changed no parameter in {trainer.step} step(s); it must change theta "
            "in place, e.g. theta -= rate * g; theta = theta - rate * g only gives the name to another array"
        )
