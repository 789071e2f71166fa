"""Where each parameter lies in the one vector of all parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xpnet.errors import ArgumentError, UnknownNameError, closest
from xpnet.layers import Layer
from xpnet.typing import Array, HostArray, LayerParams, Shape


class Parameters(Mapping[str, Array]):
    """Arrays by the names of a network's parameters, in the order of its layers; to be looked at."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        self._arrays = arrays

    def __getitem__(self, name: str) -> Array:
        if name not in self._arrays:
            known = ", ".join(self._arrays) or "none"
            raise UnknownNameError(
                f"no parameter is called {name!r}; names are {known}.{closest(str(name), self._arrays)}"
            )
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return repr(self._arrays)

    if not TYPE_CHECKING:  # to whom this would be a function, or could be written to

        def __call__(self, *args: Any) -> Any:
            """Say that this is no method."""
            raise ArgumentError("parameters is no method: net.parameters['0.W'], or net.parameters.items()")

        def __setitem__(self, name: str, value: Any) -> None:
            raise ArgumentError(f"parameters are read here, and written by net.set_parameters({{{name!r}: array}})")


class Place(NamedTuple):
    """Where a parameter lies in the vector."""

    layer: int
    name: str
    start: int
    stop: int
    shape: Shape

    @property
    def key(self) -> str:
        """The parameter's name in the network, for instance "0.W"."""
        return f"{self.layer}.{self.name}"


@dataclass(frozen=True)
class Layout:
    """Every parameter's place.

    Attributes
    ----------
    layers : int
        The number of layers.
    places : tuple of Place
        In the order of the layers. In the vector the decayed parameters come first, layer by layer, then the others, so
        that penalties and weight decay are operations on one slice.
    decayed : int
        How many numbers at the vector's front are decayed.
    """

    layers: int
    places: tuple[Place, ...]
    decayed: int

    @classmethod
    def of(cls, layers: Sequence[Layer], shapes: Sequence[Mapping[str, Shape]], all_decayed: bool) -> Layout:
        """Place parameters of these shapes, given by layer and name; `all_decayed` makes no difference of biases."""
        places: dict[tuple[int, str], Place] = {}
        position = decayed = 0
        for wanted in (True, False):
            for k, layer in enumerate(layers):
                early = layer.decayed
                for name, shape in shapes[k].items():
                    if (all_decayed or name in early) == wanted:
                        places[k, name] = Place(k, name, position, position + prod(shape), tuple(shape))
                        position += prod(shape)
            if wanted:
                decayed = position
        order = [(k, name) for k, own in enumerate(shapes) for name in own]
        return cls(len(layers), tuple(places[key] for key in order), decayed)

    @property
    def size(self) -> int:
        """The number P of parameters."""
        return max((p.stop for p in self.places), default=0)

    @property
    def first(self) -> int:
        """The number of the first layer that has parameters; no delta is needed below it."""
        return min((p.layer for p in self.places), default=self.layers)

    def split(self, xp: Any, vector: Array) -> LayerParams:
        """Return, per layer, named views of a vector."""
        views: LayerParams = [{} for _ in range(self.layers)]
        for p in self.places:
            views[p.layer][p.name] = xp.reshape(vector[p.start : p.stop], p.shape)
        return views

    def named(self, xp: Any, vector: Array) -> dict[str, Array]:
        """Return views of a vector by names such as "0.W", in the order of the layers."""
        views = self.split(xp, vector)
        return {f"{k}.{name}": view for k, layer in enumerate(views) for name, view in layer.items()}

    def join(self, values: Mapping[str, HostArray], dtype: str, prefix: str = "") -> HostArray:
        """Return the vector, on the host, of values by the parameters' names after a prefix."""
        vector = np.empty(self.size, dtype)
        for name, view in self.named(np, vector).items():
            view[...] = values[prefix + name]
        return vector
