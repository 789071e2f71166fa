"""What a gradient check found: one row for each array, a verdict, and a guess at the mistake."""

from __future__ import annotations

from dataclasses import dataclass

from xpnet.errors import GradientError
from xpnet.keywords import Answering
from xpnet.tables import html_table, text_table

HEADINGS = ("array", "of", "shape", "checked", "skipped", "largest error", "at", "analytic", "numeric", "verdict")


@dataclass(frozen=True)
class ArrayReport:
    """The check of one array.

    Attributes
    ----------
    name : str
        ``"x"`` (the input), ``"y"`` (a loss's input) or a parameter's name such as ``"0.W"``.
    owner : str
        The layer or loss whose `backward` returns this gradient.
    shape : tuple of int
        Shape of the array.
    checked, skipped : int
        How many of its elements were compared, and how many sit on a kink, where there is no derivative.
    error : float
        The largest difference, relative to the array's largest gradient.
    index : tuple of int, or None
        Where that is; None for a random direction, along which all elements move at once.
    analytic, numeric : float
        What `backward` says there, and what the forward pass does.
    tolerance : float
        The largest `error` that is right: what was asked for, plus what rounding may do to the difference.
    hint : str
        A mistake that would give just these numbers; empty if none is known or nothing is wrong.
    """

    name: str
    owner: str
    shape: tuple[int, ...]
    checked: int
    skipped: int
    error: float
    index: tuple[int, ...] | None
    analytic: float
    numeric: float
    tolerance: float
    hint: str = ""

    @property
    def verdict(self) -> str:
        """``"ok"``, ``"WRONG"``, or ``"only kinks"`` where nothing could be compared."""
        if not self.error <= self.tolerance:  # a NaN is wrong
            return "WRONG"
        return "ok" if self.checked else "only kinks"

    @property
    def place(self) -> str:
        return "direction" if self.index is None else str(list(self.index))

    def describe(self) -> str:
        """Return one sentence: layer, array, index and both values."""
        if self.verdict == "only kinks":
            return f"{self.owner}, d{self.name}: all {self.skipped} elements sit on kinks; check it at another point."
        text = (
            f"{self.owner}, d{self.name} at {self.place}: backward gives {self.analytic:.12g}, "
            f"the forward pass {self.numeric:.12g} (relative error {self.error:.2g})."
        )
        return f"{text} {self.hint}".strip()


@dataclass(frozen=True, repr=False)
class GradientReport(Answering):
    """The result of `xpnet.check_gradients`; print it.

    Attributes
    ----------
    target : str
        What was checked.
    arrays : tuple of ArrayReport
        One row for each array, and one more for each that is too large to move every element of.
    findings : tuple of str
        What is wrong besides numbers: missing or superfluous gradients, wrong shapes, changed arguments.
    parts : tuple of GradientReport
        For a network that fails: the layers and the loss that fail by themselves.
    """

    target: str
    arrays: tuple[ArrayReport, ...]
    findings: tuple[str, ...] = ()
    parts: tuple[GradientReport, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every array was compared and is right, and every layer and loss of a network by itself."""
        return not self.findings and not self.parts and all(row.verdict == "ok" for row in self.arrays)

    @property
    def failures(self) -> tuple[str, ...]:
        """One sentence for each thing that is wrong: of a network, the layers that are wrong by themselves."""
        if self.parts:
            passed_on = ", ".join(f"d{row.name}" for row in self.arrays if row.verdict == "WRONG")
            guilty = tuple(sentence for part in self.parts for sentence in part.failures)
            return (*guilty, f"So the network's {passed_on} are wrong, too.") if passed_on else guilty
        return self.findings + tuple(row.describe() for row in self.arrays if row.verdict != "ok")

    def raise_if_failed(self) -> None:
        """Raise `GradientError` with all failures if there are any."""
        if not self.passed:
            raise GradientError("\n  ".join((f"gradient check of {self.target} failed:", *self.failures)))

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (*map(str, (row.name, row.owner, row.shape, row.checked, row.skipped)), f"{row.error:.1e}", row.place,
             f"{row.analytic + 0.0:.9g}", f"{row.numeric + 0.0:.9g}", row.verdict)
            for row in self.arrays
        ]  # fmt: skip

    def _verdict(self) -> str:
        checked, skipped = sum(row.checked for row in self.arrays), sum(row.skipped for row in self.arrays)
        wrong = self.findings or self.parts or any(row.verdict == "WRONG" for row in self.arrays)
        verdict = "passed" if self.passed else "FAILED" if wrong else "incomplete"
        return f"{verdict}: {checked} numbers compared, {skipped} skipped on kinks"

    def __repr__(self) -> str:
        lines = [f"Gradient check of {self.target}", *text_table([HEADINGS, *self._rows()]), self._verdict()]
        return "\n".join([*lines, *(f"- {failure}" for failure in self.failures)])

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return html_table(
            [HEADINGS, *self._rows()], [f"Gradient check of {self.target}", self._verdict(), *self.failures]
        )
