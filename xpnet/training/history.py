"""What happened during training, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.errors import UnknownAttributeError, UnknownNameError, closest
from xpnet.tables import html_table
from xpnet.typing import HostArray


class History(Mapping[str, "HostArray"]):
    """Curves by name, one number an epoch.

    ``loss`` is the mean training loss of the epoch, penalties included, measured as the parameters moved;
    ``validation_loss`` (without penalties) and ``validation_accuracy`` are measured after the epoch,
    ``seconds`` is its duration, ``learning_rate`` the one of its last step.

    >>> history = History()
    >>> history.append({"loss": 2.0}); history.append({"loss": 1.0})
    >>> history["loss"]
    array([2., 1.])
    """

    def __init__(self, curves: Mapping[str, Any] | None = None) -> None:
        self._curves: dict[str, list[float]] = {k: [float(v) for v in vs] for k, vs in (curves or {}).items()}

    def append(self, values: Mapping[str, float]) -> None:
        """Add one epoch's numbers."""
        for name, value in values.items():
            self._curves.setdefault(name, []).append(float(value))

    def truncate(self, epochs: int) -> None:
        """Forget everything after the first `epochs` epochs."""
        for values in self._curves.values():
            del values[epochs:]

    def to_numpy(self) -> dict[str, HostArray]:
        """Return all curves as arrays."""
        return {name: self[name] for name in self._curves}

    @property
    def epochs(self) -> int:
        """The number of epochs recorded."""
        return len(self._curves.get("loss", []))

    def __getitem__(self, name: str) -> HostArray:
        if name not in self._curves:
            raise UnknownNameError(f"no curve is called {no_curve(self, name)}")
        return np.asarray(self._curves[name])

    if not TYPE_CHECKING:  # to whom every name would then be right

        def __getattr__(self, name: str) -> Any:
            cure = "" if name.startswith("_") else "; curves are asked for by name: history['loss']"
            raise UnknownAttributeError(f"a History has no attribute {name!r}{cure}", name=name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._curves)

    def __len__(self) -> int:
        return len(self._curves)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self._curves == other._curves

    __hash__ = None  # type: ignore[assignment]  # it grows

    def __repr__(self) -> str:
        last = ", ".join(f"{name} {values[-1]:.4g}" for name, values in self._curves.items() if values)
        return f"<History of {self.epochs} epochs{': last ' + last if last else ''}>"

    def _repr_html_(self) -> str:
        rows = [["curve", "first", "smallest", "largest", "last"]]
        for name, values in self._curves.items():
            if values:
                shown = (values[0], min(values), max(values), values[-1])
                rows.append([name.replace("_", " "), *(f"{value:.4g}" for value in shown)])
        return html_table(rows, [f"{self.epochs} epochs"], right=range(1, 5))


def no_curve(curves: Iterable[str], name: object) -> str:
    """Return a name that no curve has, with those that are there and the one that may be meant."""
    known = [*curves]
    advice = closest(str(name), known)
    if str(name).startswith("val") and not any(curve.startswith("validation") for curve in known):
        advice = " Give fit validation_data or validation_split."
    return f"{name!r}; recorded are {', '.join(known) or 'no curves'}.{advice}"


LAST = ("seconds", "learning_rate")


def in_order(curves: Mapping[str, HostArray]) -> dict[str, HostArray]:
    """Return curves in the order in which `fit` measures them: of training, of validation, what a step needed."""

    def place(name: str) -> tuple[bool, bool, bool, bool]:
        return name in LAST, name == LAST[-1], name.startswith("validation_"), not name.endswith("loss")

    return {name: curves[name] for name in sorted(curves, key=place)}
