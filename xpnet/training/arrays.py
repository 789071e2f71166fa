"""Which arrays a training has, and what each is: declared once, for whoever steps, stores, looks or goes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from xpnet.typing import Array


class Kind(NamedTuple):
    """What is true of an array.

    Attributes
    ----------
    carried : bool
        A step changes it, and later steps depend on it.
    stored : bool
        A checkpoint holds it as the training's own. The network's arrays are stored as the network's; counters are
        functions of the number of steps.
    like_theta : bool
        It is laid out like the parameters, and stored under their names.
    by_epoch : bool
        It begins at zero in each epoch.
    """

    carried: bool = False
    stored: bool = False
    like_theta: bool = False
    by_epoch: bool = False


DATA = Kind()
"""Inputs, targets, weights, their order, the optimizer's numbers for each step: steps only read them."""
SCRATCH = Kind(like_theta=True)
"""The gradient: written before it is read."""
PARTS = Kind()
"""The gradients of a batch's slices, and what goes with them: written before they are read."""
NETWORK = Kind(carried=True)
"""The parameters and the running statistics."""
VECTOR = Kind(carried=True, stored=True, like_theta=True)
"""The optimizer's slots, and the averaged parameters."""
COUNTER = Kind(carried=True)
"""The number of the step."""
PLACE = Kind(carried=True, by_epoch=True)
"""How far an epoch has come."""
SUM = Kind(carried=True, stored=True, by_epoch=True)
"""What an epoch adds up."""
SCALING = Kind(carried=True, stored=True)
"""The scale of the loss in half precision, and its counts."""


class Arrays(dict[str, Array]):
    """The arrays of a training by name, each declared with its kind.

    Attributes
    ----------
    kinds : dict of Kind
        By the same names.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kinds: dict[str, Kind] = {}

    def declare(self, kind: Kind, arrays: Mapping[str, Array]) -> None:
        """Take up arrays of one kind."""
        self |= arrays
        self.kinds |= dict.fromkeys(arrays, kind)

    @property
    def carried(self) -> dict[str, Array]:
        """Every array that a step changes and later steps depend on."""
        return {name: array for name, array in self.items() if self.kinds[name].carried}


def begin_with(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return arrays with a name before theirs: ``m`` becomes ``slot.m``."""
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def statistics(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the running statistics among the arrays of a training, by the network's names."""
    return {name.removeprefix("state."): array for name, array in arrays.items() if name.startswith("state.")}
