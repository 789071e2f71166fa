"""Callbacks that keep what a training shows: its best network, its curves; and one that slows it down."""

from __future__ import annotations

import csv
import io
from typing import Any

from xpnet.errors import ConfigError
from xpnet.files.atomic import check_writable, write_atomically
from xpnet.saving.network import save
from xpnet.training.callbacks import Callback, Monitor
from xpnet.training.run import Run
from xpnet.validation import BELOW_ONE, NOT_NEGATIVE, check_path, check_size


class BestFile(Monitor):
    """Save the network to a file whenever a curve is better than ever, for `xpnet.load`.

    Parameters
    ----------
    path : str or path
        Replaced as a whole each time.
    monitor : str
        A curve of the history; accuracies, AUC and R2 are better when larger.
    min_delta : float >= 0
        What counts as better.

    Examples
    --------
    >>> import tempfile, xpnet
    >>> x, t = xpnet.datasets.xor()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     best = xpnet.BestFile(f"{folder}/best.safetensors", monitor="loss")
    ...     history = xpnet.mlp([2, 4, 2], "tanh").fit(x, t, epochs=3, batch_size=4, callbacks=best, verbose=False)
    ...     bool(xpnet.load(best.path).evaluate(x, t)["loss"] < history["loss"][0])
    True
    """

    def __init__(self, path: Any, monitor: str = "validation_loss", *, min_delta: float = 0.0) -> None:
        super().__init__(monitor, min_delta)
        self.path = check_path(path)

    def on_begin(self, run: Run) -> None:
        super().on_begin(run)
        check_writable(self.path)

    def on_epoch_end(self, run: Run) -> None:
        if self.improved(run) and run.leads:  # of several processes one writes
            with run.averaged():
                save(run.net, self.path)


class ReduceOnPlateau(Monitor):
    """Multiply the learning rate by a factor whenever a curve has not got better for a while.

    Parameters
    ----------
    monitor : str
        A curve of the history; accuracies, AUC and R2 are better when larger.
    factor : float in [0, 1)
        By what the learning rate, or that of the schedule, is multiplied.
    patience : int >= 1
        How many epochs without an improvement are endured, each time.
    min_delta : float >= 0
        What counts as an improvement.
    minimum : float >= 0
        What the product of the factors does not go below.

    Examples
    --------
    >>> import xpnet
    >>> x, t = xpnet.datasets.xor()
    >>> slower = xpnet.ReduceOnPlateau("loss", factor=0.5, patience=1, min_delta=10.0)  # nothing counts
    >>> history = xpnet.mlp([2, 2]).fit(
    ...     x, t, optimizer=xpnet.SGD(0.1), epochs=4, batch_size=4, callbacks=slower, verbose=False)
    >>> history["learning_rate"].tolist()
    [0.1, 0.1, 0.05, 0.025]
    """

    def __init__(
        self, monitor: str = "validation_loss", *, factor: float = 0.1, patience: int = 5, min_delta: float = 0.0,
        minimum: float = 1e-4,
    ) -> None:  # fmt: skip
        super().__init__(monitor, min_delta)
        self.factor = BELOW_ONE("ReduceOnPlateau: factor", factor)
        self.patience = check_size("ReduceOnPlateau: patience", patience)
        self.minimum = NOT_NEGATIVE("ReduceOnPlateau: minimum", minimum)

    def on_begin(self, run: Run) -> None:
        super().on_begin(run)
        self._since = -1
        run.trainer.slow_down(1.0)

    def on_epoch_end(self, run: Run) -> None:
        if self.improved(run):
            self._since = run.epoch
        elif run.epoch - self._since >= self.patience:
            self._since = run.epoch
            run.trainer.slow_down(max(run.trainer.rate_factor * self.factor, self.minimum))

    def get_state(self) -> dict[str, Any]:
        return super().get_state() | {"since": self._since, "factor": self._run.trainer.rate_factor}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        if not 0 <= state["factor"] <= 1 or not -1 <= state["since"] < self._run.epoch:
            raise ValueError(f"the factor {state['pace']} since epoch {state['since']}")
        self._since = int(state["since"])
        self._run.trainer.slow_down(float(state["factor"]))


class CSVLog(Callback):
    """Write all curves of the history to a file of comma-separated values, a row an epoch, after each epoch.

    Parameters
    ----------
    path : str or path
        Replaced as a whole each time: a training that is resumed writes the epochs before, too.

    Examples
    --------
    >>> import pathlib, tempfile, xpnet
    >>> x, t = xpnet.datasets.xor(100, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     history = xpnet.mlp([2, 4, 2]).fit(x, t, epochs=2, callbacks=xpnet.CSVLog(f"{folder}/run.csv"))
    ...     print(pathlib.Path(folder, "run.csv").read_text().splitlines()[0])
    epoch,loss,seconds,learning_rate
    """

    def __init__(self, path: Any) -> None:
        self.path = check_path(path)

    def __repr__(self) -> str:
        return f"CSVLog({str(self.path)!r})"

    def on_begin(self, run: Run) -> None:
        check_writable(self.path)

    def on_epoch_end(self, run: Run) -> None:
        if not run.leads:
            return
        text, curves = io.StringIO(), run.history.to_numpy()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["epoch", *curves])
        rows.writerows([k + 1, *values] for k, values in enumerate(zip(*map(list, curves.values()), strict=True)))
        write_atomically(self.path, [text.getvalue().encode()])


class TensorBoardLog(Callback):
    """Hand the numbers of each epoch to a writer of TensorBoard's files.

    Parameters
    ----------
    writer : object
        Whatever has ``add_scalar(name, value, step)``, such as ``torch.utils.tensorboard.SummaryWriter("runs/1")`` or
        the one of the package tensorboardX; the step is the number of training steps done.
    """

    def __init__(self, writer: Any) -> None:
        if not callable(getattr(writer, "add_scalar", None)):
            raise ConfigError(
                f"writer must have add_scalar(name, value, step), as tensorboardX.SummaryWriter('runs/1') has, "
                f"got {writer!r}"
            )
        self.writer = writer

    def __repr__(self) -> str:
        return f"TensorBoardLog({self.writer!r})"

    def on_epoch_end(self, run: Run) -> None:
        if not run.leads:
            return
        for name, values in run.history.to_numpy().items():
            self.writer.add_scalar(name, float(values[-1]), run.step)
        getattr(self.writer, "flush", lambda: None)()
