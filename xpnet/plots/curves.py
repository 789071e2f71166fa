"""Loss and accuracy over the epochs."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.errors import ConfigError
from xpnet.keywords import named
from xpnet.plots.style import Axes, axes, line
from xpnet.training.history import History


@named
def loss(history: History, ax: Axes | None = None, *, log: bool = False) -> Axes:
    """Draw the training loss, and the validation loss if there is one, over the epochs.

    Parameters
    ----------
    history : History
        What `Network.fit` returned.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.
    log : bool
        Whether the loss has a logarithmic scale.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Examples
    --------
    >>> import xpnet
    >>> from xpnet import plots
    >>> x, t = xpnet.datasets.spirals(200, seed=0)
    >>> net = xpnet.mlp([2, 8, 3], activation="tanh")
    >>> ax = plots.loss(net.fit(x, t, epochs=3))
    >>> ax.get_xlabel()
    'epoch'
    """
    ax = _curves(history, {"loss": "training", "validation_loss": "validation"}, ax)
    ax.set_ylabel("loss (mean over the samples)")
    if log:
        ax.set_yscale("log")
    return ax


@named
def accuracy(history: History, ax: Axes | None = None) -> Axes:
    """Draw the validation accuracy over the epochs.

    Parameters
    ----------
    history : History
        What `Network.fit` returned, given validation data and a classification loss.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Examples
    --------
    >>> import xpnet
    >>> from xpnet import plots
    >>> x, t = xpnet.datasets.spirals(200, seed=0)
    >>> net = xpnet.mlp([2, 8, 3], activation="tanh")
    >>> ax = plots.accuracy(net.fit(x, t, epochs=3, validation_split=0.2))
    >>> ax.get_xlabel()
    'epoch'
    """
    if isinstance(history, History) and "validation_accuracy" not in history:
        raise ConfigError(
            f"history has no validation_accuracy, only {', '.join(history)}; give fit validation_data, and the network "
            "a classification loss"
        )
    ax = _curves(history, {"validation_accuracy": "validation"}, ax)
    ax.set_ylabel("accuracy (share of the samples)")
    return ax


def _curves(history: History, labels: dict[str, str], ax: Any) -> Axes:
    if not isinstance(history, History):
        raise ConfigError(f"history must be what fit returned, got a {type(history).__name__}")
    ax = axes(ax)
    epochs = np.arange(1, history.epochs + 1)
    for k, (name, label) in enumerate(labels.items()):
        if name in history:
            ax.plot(epochs, history[name], label=label, marker="o" if len(epochs) < 30 else "", markersize=4, **line(k))
    ax.set_xlabel("epoch")
    if len(epochs) == 1:
        ax.set_xticks([1])
    else:
        ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(alpha=0.3)
    ax.legend()
    return ax
