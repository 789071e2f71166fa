"""Showing how training goes. A terminal that goes away never ends a training."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from xpnet.errors import ConfigError

PAUSE = 0.2
"""Seconds between two changes of a notebook's line at least: each is a message to the browser."""


class Progress:
    """A progress bar on a terminal, with a line for each epoch; one line that changes in a notebook.

    Parameters
    ----------
    verbose : bool or int
        False: nothing. True: bar and lines on a terminal, the changing line in a notebook, nothing elsewhere. 2: lines
        everywhere.
    epochs, steps : int
        How many epochs there are, and steps in each.
    done : int
        Steps that were done before, in the training that goes on.
    """

    def __init__(self, verbose: bool | int, epochs: int, steps: int, done: int = 0) -> None:
        if not isinstance(verbose, int):
            raise ConfigError(f"verbose must be True, False or 2, got {verbose!r}")
        terminal = bool(verbose) and _is_terminal()
        self.lines = terminal or int(verbose) >= 2
        self.epochs, self.steps, self.done, self.began = epochs, steps, done, time.monotonic()
        self._line = Line() if verbose and not self.lines and _in_notebook() else None
        self._bar: Any = None
        if terminal:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            columns = (
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[more]}"),
            )  # fmt: skip
            # A console of its own, and no thread: nothing of it outlives the training, whatever the terminal does.
            self._bar = Progress(*columns, console=Console(), transient=True, auto_refresh=False)

    def __enter__(self) -> Progress:
        self._try(lambda: self._bar and self._bar.start())
        epoch = f"epoch {self.done // self.steps + 1}/{self.epochs}"
        self._task = self._bar.add_task(epoch, total=self.steps, more="") if self._bar else None
        return self

    def __exit__(self, *error: object) -> None:
        self._try(lambda: self._bar and self._bar.stop())
        if self._line:
            self._try(self._line.end)

    def _try(self, show: Callable[[], Any]) -> None:
        try:
            show()
        except (OSError, ValueError):  # a closed or broken pipe; training matters more
            bar, self._bar, self._line, self.lines = self._bar, None, None, False
            with contextlib.suppress(Exception):
                if bar:
                    bar.stop()

    def say(self, text: str) -> None:
        """Show a sentence, where lines are shown at all."""
        if self._bar:
            self._try(lambda: self._bar.console.print(text, highlight=False, soft_wrap=True))
        elif self.lines or self._line:
            self._try(lambda: print(text, flush=True))

    def update(self, epoch: int, step: int, loss: float) -> None:
        """Show that `step` steps of `epoch` (from 0) are done, and the mean loss of these."""
        if not (self._bar or self._line):
            return
        text, more = f"epoch {epoch + 1}/{self.epochs}", f"loss {number(loss)}  {self._left(epoch, step)}"
        if self._bar:
            self._try(lambda: self._bar.update(self._task, completed=step, description=text, more=more, refresh=True))
        elif self._line:
            line = self._line
            self._try(lambda: line.show(f"{text}  step {step}/{self.steps}  {more}", at_once=False))

    def _left(self, epoch: int, step: int) -> str:
        """Return how long the whole training is still going to take at the pace so far."""
        done = epoch * self.steps + step
        pace = max(time.monotonic() - self.began, 0.0) / max(done - self.done, 1)
        seconds = round(pace * (self.epochs * self.steps - done))
        hours, minutes = divmod(seconds // 60, 60)
        return f"{hours}:{minutes:02}:{seconds % 60:02} left" if hours else f"{minutes}:{seconds % 60:02} left"

    def epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Show the numbers of an epoch (from 0)."""
        if not (self.lines or self._line):
            return
        shown = [f"{name.replace('_', ' ')} {number(value)}" for name, value in values.items() if name not in OTHERS]
        shown.append(f"{values['seconds']:.1f} s")
        text = "  ".join([f"epoch {epoch + 1:>{len(str(self.epochs))}}/{self.epochs}", *shown])
        if self._line:
            line, left = self._line, "" if epoch + 1 == self.epochs else f"  {self._left(epoch, self.steps)}"
            self._try(lambda: line.show(text + left))
        else:
            self.say(text)


OTHERS = ("seconds", "learning_rate")
"""Curves that are shown in another way, or not at all."""


class Line:
    """One line of text that changes, as notebooks show what begins with a carriage return."""

    def __init__(self) -> None:
        self._width, self._shown = 0, -PAUSE

    def show(self, text: str, at_once: bool = True) -> None:
        """Put `text` in the place of what is there; without `at_once` only if that is there for a while."""
        now = time.monotonic()
        if at_once or not 0 <= now - self._shown < PAUSE:
            print("\r" + text.ljust(self._width), end="", flush=True)
            self._width, self._shown = len(text), now

    def end(self) -> None:
        """Leave the line as it is."""
        if self._width:
            print(flush=True)


def number(value: float) -> str:
    """Return four decimals, or of large and tiny numbers four digits.

    >>> number(0.31256), number(28991.4), number(3e-7)
    ('0.3126', '28991', '3e-07')
    """
    if 1e-3 <= abs(value) < 1e3 or not value:
        return f"{value:.4f}"
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.4g}"


def _is_terminal() -> bool:
    with contextlib.suppress(AttributeError, ValueError):  # stdout may be None or closed
        return sys.stdout.isatty()
    return False


def _in_notebook() -> bool:
    """Say whether a kernel of IPython runs this program: Jupyter's, Colab's, an editor's."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None
