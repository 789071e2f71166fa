"""Every number of one forward and one backward pass, by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xpnet.layers.base import Layer

if TYPE_CHECKING:
    from xpnet.network import Network

Array = Any


@dataclass(frozen=True)
class LayerTrace:
    """One layer of a `Trace`.

    Attributes
    ----------
    name : str
        Position and kind, for instance "0 Linear".
    layer : Layer
    x, y : array
        The layer's input and output for the batch.
    delta : array
        dL/dy, of y's shape.
    dx : array
        dL/dx, of x's shape; the delta of the layer before.
    parameters, gradients : dict
        The parameters and dL/d(parameter), by their short names.
    """

    name: str
    layer: Layer
    x: Array
    y: Array
    delta: Array
    dx: Array
    parameters: dict[str, Array]
    gradients: dict[str, Array]


@dataclass(frozen=True)
class Trace:
    """Every layer's numbers for one batch; ``trace[k]`` is layer k.

    Attributes
    ----------
    loss : float
        The objective, penalties included; the gradients are of the loss without penalties.
    layers : tuple of LayerTrace
    """

    loss: float
    layers: tuple[LayerTrace, ...]

    def __getitem__(self, k: int) -> LayerTrace:
        return self.layers[k]

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[LayerTrace]:
        return iter(self.layers)

    def __str__(self) -> str:
        rows = [("layer", "quantity", "shape", "mean", "largest")]
        for item in self.layers:
            quantities = {"x": item.x, "y": item.y, "delta": item.delta}
            quantities |= {"d" + name: value for name, value in item.gradients.items()}
            for name, a in quantities.items():
                n = max(a.size, 1)
                size = abs(a)
                mean, largest = float((size * (1.0 / n)).sum()) if hasattr(size, "sum") else 0.0, 0.0
                if hasattr(size, "max") and a.size:
                    largest = float(size.max())
                rows.append(
                    (item.name if name == "x" else "", name, str(tuple(a.shape)), f"{mean:.3g}", f"{largest:.3g}")
                )
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def trace(net: Network, x: Any, t: Any, sample_weight: Any = None, *, training: bool = False, step: int = 0) -> Trace:
    """Run one forward and one backward pass and keep everything; see `Network.trace`."""
    x, t, weight = net.check_batch(x, t, sample_weight)
    xp = net.backend.xp
    with net.backend.active():
        params, contexts = net.split(xp, net.theta), net.contexts(training, net._step_array(step))
        inputs, caches = [x], []
        for k, layer in enumerate(net.layers):
            y, cache = layer.forward(xp, params[k], inputs[-1], contexts[k])
            inputs.append(y)
            caches.append(cache)
        value, delta = net.loss(xp, inputs[-1], t, weight)
        found: list[LayerTrace] = []
        for k in range(len(net.layers) - 1, -1, -1):
            layer = net.layers[k]
            dx, grads = layer.backward(xp, params[k], caches[k], delta, contexts[k])
            name = f"{k} {type(layer).__name__}"
            found.insert(0, LayerTrace(name, layer, inputs[k], inputs[k + 1], delta, dx, params[k], grads))
            delta = dx
        W = net.theta[: net._decayed]
        penalty = 0.5 * net.l2 * float(xp.sum(W * W)) + net.l1 * float(xp.sum(xp.abs(W)))
        return Trace(float(value) + penalty, tuple(found))
