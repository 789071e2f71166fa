"""Showing how training goes. A terminal that goes away never ends a training."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from xpnet.errors import ConfigError


class Progress:
    """A progress bar on a terminal, and a line for each epoch.

    Parameters
    ----------
    verbose : bool or int
        False: nothing. True: bar and lines on a terminal, nothing elsewhere. 2: lines everywhere.
    epochs, steps : int
        How many epochs there are, and steps in each.
    """

    def __init__(self, verbose: bool | int, epochs: int, steps: int) -> None:
        if not isinstance(verbose, int):
            raise ConfigError(f"verbose must be True, False or 2, got {verbose!r}")
        terminal = bool(verbose) and _is_terminal()
        self.lines = terminal or int(verbose) >= 2
        self.epochs, self.steps = epochs, steps
        self._bar: Any = None
        if terminal:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            # A console of its own, and no thread: nothing of it outlives the training, whatever the terminal does.
            self._bar = Progress(*columns, console=Console(), transient=True, auto_refresh=False)

    def __enter__(self) -> Progress:
        self._try(lambda: self._bar and self._bar.start())
        self._task = self._bar.add_task("", total=self.steps) if self._bar else None
        return self

    def __exit__(self, *error: object) -> None:
        self._try(lambda: self._bar and self._bar.stop())

    def _try(self, show: Any) -> None:
        try:
            show()
        except (OSError, ValueError):  # a closed or broken pipe; training matters more
            bar, self._bar, self.lines = self._bar, None, False
            with contextlib.suppress(Exception):
                if bar:
                    bar.stop()

    def update(self, epoch: int, step: int) -> None:
        """Move the bar to `step` of `epoch` (from 0)."""
        if self._bar:
            text = f"epoch {epoch + 1}/{self.epochs}"
            self._try(lambda: self._bar.update(self._task, completed=step, description=text, refresh=True))

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        """Print the line of an epoch (from 0)."""
        if not self.lines:
            return
        shown = "  ".join(
            f"{name.replace('_', ' ')} {value:.4f}" for name, value in values.items() if name != "learning_rate"
        )
        line = f"epoch {epoch + 1:>{len(str(self.epochs))}}/{self.epochs}  {shown}"
        if self._bar:
            self._try(lambda: self._bar.console.print(line, highlight=False))
        else:
            self._try(lambda: print(line, flush=True))


def _is_terminal() -> bool:
    with contextlib.suppress(AttributeError, ValueError):  # stdout may be None or closed
        return sys.stdout.isatty()
    return False
