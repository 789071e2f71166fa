"""Every number of one forward and one backward pass, by name; how large they are, and what that tells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from textwrap import wrap
from typing import Any

from xpnet.backends import Backend
from xpnet.errors import UnknownNameError
from xpnet.inspection import findings
from xpnet.inspection.equations import at, equations
from xpnet.inspection.formulas import formulas
from xpnet.inspection.layertrace import LayerTrace
from xpnet.inspection.numbers import Statistics, measure
from xpnet.keywords import Answering
from xpnet.layers.base import joined
from xpnet.layers.shapes import every_layer
from xpnet.model.core import Model
from xpnet.model.memory import explained
from xpnet.tables import html_table, text_table
from xpnet.typing import Array
from xpnet.validation import check_flag

_NUMBERS = range(2, 7)  # the columns of the table that have numbers


@dataclass(frozen=True, repr=False)
class Trace(Answering):
    """Every layer's numbers for one batch; ``trace[k]`` is layer k. Print it.

    A printed trace has a line for each quantity: the network's input x; for each layer k its output yk (also called z
    in front of an activation), its delta dL/dyk and the gradients of its parameters. The numbers are the mean, the
    spread (standard deviation) and the largest absolute value of the finite entries, and the shares of entries that
    are exactly zero and that are NaN or infinite. What is amiss is said below in words; ``xpnet.inspection.findings``
    has the thresholds.

    Layers inside of another one stand before it, in the order in which outputs are computed; ``trace["3.0"]`` is the
    first layer inside of layer 3.

    Attributes
    ----------
    loss : float
        The objective, penalties included; the gradients are of the loss without penalties.
    layers : tuple of LayerTrace
    backend : Backend
        Where the arrays are.
    """

    loss: float
    layers: tuple[LayerTrace, ...]
    backend: Backend = field(compare=False)

    def __getitem__(self, place: int | str) -> LayerTrace:
        try:
            if isinstance(place, str):
                return next(item for item in self.layers if item.place == place)
            return [item for item in self.layers if item.place.isdigit()][place]
        except (StopIteration, IndexError, TypeError):
            places = ", ".join(item.place for item in self.layers)
            raise UnknownNameError(f"no layer is at {place!r}; places are {places}") from None

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[LayerTrace]:
        return iter(self.layers)

    @cached_property
    def statistics(self) -> tuple[dict[str, Statistics], ...]:
        """For each layer, the statistics of its x, y, delta and gradients, by these names (a gradient's is "dW")."""
        xp, items = self.backend.xp, [item.quantities for item in self.layers]
        with self.backend.active(), explained(self.backend, "measuring what was traced"):
            rows = xp.stack([measure(xp, a) for quantities in items for a in quantities.values()])
        numbers = iter(self.backend.to_numpy(rows).tolist())  # one look for all of them
        return tuple({name: Statistics(*next(numbers)) for name in quantities} for quantities in items)

    @cached_property
    def findings(self) -> tuple[str, ...]:
        """A sentence for each thing that is amiss: NaN and infinities, dead units, saturation, deltas out of scale."""
        with self.backend.active(), explained(self.backend, "looking through what was traced"):
            return tuple(findings.find(self.backend.xp, self.layers, self.statistics))

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The table as strings, its headings first; a layer's own line has two entries, its name and equation."""
        rows: list[tuple[str, ...]] = [("", "shape", "mean", "spread", "largest", "zeros", "not finite")]
        for k, (item, numbers) in enumerate(zip(self.layers, self.statistics, strict=True)):
            rows.append((item.name, _equation(item)))
            if item.layer.chains and item.y is self.layers[k - 1].y:
                continue  # its numbers are those of the last layer inside
            y, delta = at("y", item.place), at("delta", item.place)
            labels = {"x": "x", "y": f"z = {y}" if self._feeds_activation(k) else y, "delta": f"{delta} = dL/d{y}"}
            for name, array in item.quantities.items():
                if name == "x" and k > 0:
                    continue  # it is an output above
                s = numbers[name]
                sizes = (f"{s.mean: .3g}", f"{s.spread:.3g}", f"{s.largest:.3g}")
                shares = (_percent(s.zeros), _percent(s.nonfinite))
                label = labels.get(name, at(name, item.place))
                rows.append((f"  {label}", str(tuple(array.shape)), *sizes, *shares))
        return rows

    def _feeds_activation(self, k: int) -> bool:
        follows = self.layers[k + 1 : k + 2]
        return bool(self.layers[k].parameters) and any(findings.is_activation(item) for item in follows)

    @property
    def _notes(self) -> list[str]:
        found = self.findings or ("Nothing is amiss: no NaN, no dead or saturated units, no delta out of scale.",)
        return [f"loss {self.loss:.6g}", *found]

    def __str__(self) -> str:
        notes = [line for note in self._notes for line in wrap(note, 96, subsequent_indent="  ")]
        return "\n".join([*text_table(self.rows, _NUMBERS), *notes])

    def __repr__(self) -> str:
        return f"<Trace of {len(self)} layers, loss {self.loss:.6g}>"

    def _repr_html_(self) -> str:
        return html_table(self.rows, self._notes, _NUMBERS)


def _equation(item: LayerTrace) -> str:
    """Return the formulas of a layer, with the names of `Network.explain`; if they are long, the last alone."""
    found = formulas(item.layer, item.layer.forward)
    lines = equations(item.place, item.layer, found, tuple(item.x.shape[1:]), tuple(item.y.shape[1:]))
    whole = "; ".join(f"{line.left} = {line.right}" for line in lines)
    return whole if len(item.name) + len(whole) <= 94 else f"{lines[-1].left} = {lines[-1].right}"


def _percent(share: float) -> str:
    """Return a share as a percentage that says 0 and 100 of nothing and of everything alone."""
    return "<1%" if 0.0 < share < 0.005 else ">99%" if 0.995 < share < 1.0 else f"{share:.0%}"


def trace(net: Model, x: Any, t: Any, sample_weight: Any = None, *, training: bool = False, step: int = 0) -> Trace:
    """Run one forward and one backward pass and keep everything; see `Network.trace`."""
    xp = net.backend.xp
    check_flag("training", training)
    seen: dict[str, dict[str, Array]] = {}
    order: list[str] = []

    def watch(place: str, name: str, array: Array) -> None:
        seen.setdefault(place, {})[name] = array
        if name == "y":
            order.append(place)

    with net.backend.active(), explained(net.backend, "tracing"):
        x, t, weight = net.check_batch(x, t, sample_weight)
        params, contexts = net.layout.split(xp, net.theta), net.contexts(training, net.step_array(step), watch=watch)
        value, _, _ = net.differentiate(xp, params, x, t, weight, contexts, last=-1)
        value = net.penalize(xp, value, net.theta, xp.zeros_like(net.theta))
        layers = {item.place: item.layer for item in every_layer(net.layers, net.input_shape)}
        named = joined({str(k): own for k, own in enumerate(params)})
        found = [LayerTrace.of(layers[place], place, seen[place], named) for place in order]
        return Trace(float(value), tuple(found), net.backend)
