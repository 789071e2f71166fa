"""One layer's numbers for one batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xpnet.keywords import Answering
from xpnet.layers import Activation, Layer
from xpnet.typing import Array, Params


@dataclass(frozen=True, repr=False)
class LayerTrace(Answering):
    """One layer of a `Trace`.

    Attributes
    ----------
    name : str
        Place and kind, for instance "0 Linear", or "3.0 Linear" for the first layer inside of layer 3.
    layer : Layer
    x, y : array
        The layer's input and output for the batch.
    delta : array
        dL/dy, of y's shape.
    dx : array
        dL/dx, of x's shape; the delta of the layer before.
    parameters, gradients : dict
        The parameters and dL/d(parameter), by their short names; those of a layer inside of this one are its own.
    """

    name: str
    layer: Layer
    x: Array
    y: Array
    delta: Array
    dx: Array
    parameters: dict[str, Array]
    gradients: dict[str, Array]

    @classmethod
    def of(cls, layer: Layer, place: str, seen: Mapping[str, Array], named: Params) -> LayerTrace:
        """Return what was `seen` of a layer; `named` has the parameters of the network."""
        x, y, delta, dx = (seen[name] for name in ("x", "y", "delta", "dx"))
        names = [] if layer.chains else [*layer.parameter_shapes()]
        parameters, gradients = {n: named[f"{place}.{n}"] for n in names}, {n: seen[f"d{n}"] for n in names}
        own = f" {layer.name}" if isinstance(layer, Activation) else ""
        return cls(f"{place} {type(layer).__name__}{own}", layer, x, y, delta, dx, parameters, gradients)

    @property
    def place(self) -> str:
        """Where the layer is."""
        return self.name.partition(" ")[0]

    @property
    def quantities(self) -> dict[str, Array]:
        """What is measured of the layer, by name."""
        return {"x": self.x, "y": self.y, "delta": self.delta} | {f"d{n}": a for n, a in self.gradients.items()}

    def __repr__(self) -> str:
        return f"<LayerTrace of {self.name}: {', '.join(self.quantities)}>"
