"""Checkpoints of a training: written while it runs, and gone on with to the bit, in another process, in mid-epoch."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from xpnet.errors import CheckpointError
from xpnet.files.atomic import check_writable
from xpnet.files.tensors import write_tensors
from xpnet.saving.network import network_content
from xpnet.training import divergence
from xpnet.training.callbacks import Callback
from xpnet.training.run import Run
from xpnet.training.state import restore_training, training_content, training_counts, training_settings
from xpnet.validation import check_flag, check_path, check_size


class Checkpoint(Callback):
    """Write a training to a file again and again, so that it can go on after whatever happens.

    `fit` makes one of its arguments `checkpoint`, `checkpoint_every` and `resume`. The file holds the network
    (`xpnet.load` reads it), the optimizer's state, the counts of epochs and steps, the history, and the state of other
    callbacks. It is replaced as a whole, so that a kill during writing loses nothing, and never by numbers that are not
    finite.

    In mid-training `xpnet.load` gives the parameters after the last step that was written, not an average and not the
    best ones that `EarlyStopping` remembers; save the network itself once `fit` has returned.

    A training that goes on computes the same parameters, to the bit, as one that was never interrupted, on the same
    machine with the same libraries.

    Parameters
    ----------
    path : str or path
        Written after each epoch, and when an exception ends the training.
    every : int, optional
        Write after every so many steps too.
    resume : bool
        Go on from the file if it is there. It must come from the same network, optimizer, data and batch size.
    callbacks : sequence of Callback
        Those whose state belongs to the training, such as `EarlyStopping`.

    Raises
    ------
    CheckpointIOError
        The file cannot be written: found out before the first step, if it can be.
    CheckpointError
        The file is damaged, or comes from another training; all differences are listed. Nothing has changed then.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, every: int | None = None, resume: bool = False,
        callbacks: Sequence[Callback] = (),
    ) -> None:  # fmt: skip
        self.path = check_path(path)
        self.every = None if every is None else check_size("checkpoint_every", every)
        self.resume = check_flag("resume", resume)
        self.callbacks = [item for item in callbacks if type(item).get_state is not Callback.get_state]
        self._settings: dict[str, Any] = {}
        self._written: dict[str, int] | None = None

    def on_begin(self, run: Run) -> None:
        if run.leads:
            check_writable(self.path)
        self._settings, self._written = training_settings(run.trainer, self.callbacks), None
        if self.resume and os.path.exists(self.path):
            restore_training(self.path, run, self._settings, self.callbacks)
        else:
            network_content(run.net)  # what a file cannot hold is found out now, not in an hour

    def on_steps(self, run: Run) -> None:
        self.write(run)

    def on_epoch_end(self, run: Run) -> None:
        self.write(run)

    def on_exception(self, run: Run, error: BaseException) -> None:
        """Save the last whole step; the exception goes on, with a note that says what was saved, or why it was not."""
        try:
            # Else what is in the file is not older; and after the end the network may have its best parameters.
            if self._written != training_counts(run.trainer):
                self.write(run)
        except CheckpointError as failure:
            error.add_note(f"The last checkpoint could not be written: {failure}")
        if (done := self._written) is not None:
            error.add_note(
                f"{self.path!r} has the training after {done['step']} steps, in epoch {done['epoch'] + 1}; go on with "
                f"fit(..., checkpoint={self.path!r}, resume=True)."
            )

    def write(self, run: Run) -> None:
        """Write the checkpoint now."""
        if not run.leads:
            return
        if not divergence.state_is_finite(run.trainer):
            text = f"the training has NaN or infinities; the checkpoint {self.path!r} is kept as it was"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
            return
        write_tensors(self.path, *training_content(run, self._settings, self.callbacks))
        self._written = training_counts(run.trainer)


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Within this context a SIGTERM ends the program as Ctrl-C does: by an exception, ``SystemExit(143)``.

    Batch systems send SIGTERM some seconds before they kill. `fit` then writes its checkpoint on the way out. Signals
    reach the main thread only; use it there.

    Examples
    --------
    >>> from xpnet.training.checkpoint import exit_on_sigterm
    >>> with exit_on_sigterm():
    ...     pass  # net.fit(x, t, checkpoint="run.safetensors", resume=True)
    """

    def leave(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
