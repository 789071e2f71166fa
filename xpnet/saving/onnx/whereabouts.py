"""In which layer a recorded step was, so that what cannot be exported is named with its place."""

from __future__ import annotations

from xpnet.backends.tape.record import Operation, Tape, Traced
from xpnet.layers.shapes import every_layer
from xpnet.model.core import Model
from xpnet.typing import Array


class Whereabouts:
    """Watches a step while it is recorded (see `xpnet.layers.Context`), and remembers where it was."""

    def __init__(self, net: Model) -> None:
        self._layers = {inner.place: inner.layer for inner in every_layer(net.layers, net.input_shape)}
        self._now = ""
        self._after: dict[int, str] = {}

    def __call__(self, place: str, name: str, array: Array) -> None:
        """Note that what comes after the last operation so far is in the layer that begins, or around what ends."""
        if name in ("x", "delta"):
            self._now = place
        elif name in ("y", "dx"):
            self._now = place.rpartition(".")[0]
        if type(array) is Traced and array.tape.operations:
            self._after[id(array.tape.operations[-1])] = self._now

    def __str__(self) -> str:
        return self._named(self._now)

    def of(self, tape: Tape, operation: Operation | None) -> str:
        """Return in which layer an operation of the tape is, with a colon, or nothing if it is in none."""
        place = "0"
        for op in tape.operations:
            if op is operation:
                break
            place = self._after.get(id(op), place)
        return self._named(place)

    def _named(self, place: str) -> str:
        return f"layers[{place}] {self._layers[place]}: " if place in self._layers else ""
