"""Which classes are taken for which, and what the mistakes look like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnet.errors import DataError, ShapeError
from xpnet.keywords import named
from xpnet.plots.style import SEQUENTIAL, Axes, axes, tiles
from xpnet.typing import HostArray


def _labels(t: Any, predicted: Any) -> tuple[HostArray, HostArray]:
    truth, guess = np.asarray(t), np.asarray(predicted)
    if truth.ndim != 1 or truth.shape != guess.shape:
        raise ShapeError(f"t and predicted must be labels of shape (B,), got {truth.shape} and {guess.shape}")
    if truth.dtype.kind not in "iu" or guess.dtype.kind not in "iu" or min(truth.min(), guess.min()) < 0:
        raise DataError(f"t and predicted must be classes 0, 1, 2, ..., got dtypes {truth.dtype} and {guess.dtype}")
    return truth, guess


@named
def confusion(t: Any, predicted: Any, ax: Axes | None = None, *, classes: Sequence[str] | None = None) -> Axes:
    """Draw how often samples of each class (rows) are taken for each class (columns).

    The numbers are counts, the colours shares of the row: a perfect classifier has a light diagonal on a dark ground.

    Parameters
    ----------
    t, predicted : array (B,)
        Classes 0, 1, 2, ...: the targets, and what `Network.predict` says.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.
    classes : sequence of str, optional
        Names of the classes; by default their numbers.
    """
    truth, guess = _labels(t, predicted)
    count = int(max(truth.max(), guess.max())) + 1
    names = [str(k) for k in range(count)] if classes is None else list(classes)
    count = max(count, len(names))
    matrix = np.zeros((count, count), dtype=np.int64)
    np.add.at(matrix, (truth, guess), 1)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    ax = axes(ax, 6.5, 5.5)
    picture = ax.imshow(shares, cmap=SEQUENTIAL, vmin=0.0, vmax=1.0)
    ax.figure.colorbar(picture, ax=ax, label="share of the samples of the true class")
    for (row, column), number in np.ndenumerate(matrix):
        shade = "black" if shares[row, column] > 0.5 else "white"
        ax.text(column, row, f"{number}", ha="center", va="center", color=shade, fontsize="small")
    slanted = {} if max(map(len, names)) < 4 else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    ax.set_xticks(range(len(names)), names, **slanted)
    ax.set_yticks(range(len(names)), names)
    right = f"{np.trace(matrix):,} of {len(truth):,} are right ({np.trace(matrix) / len(truth):.2%})"
    ax.set(xlabel="predicted class", ylabel="true class", title=right)
    return ax


@named
def errors(x: Any, t: Any, predicted: Any, shape: tuple[int, int], ax: Axes | None = None, *, count: int = 25) -> Axes:
    """Draw samples that are classified wrongly, as images; "4→9" is a 4 that was taken for a 9.

    Parameters
    ----------
    x : array (B, I) or (B, H, W, 1)
    t, predicted : array (B,)
        Classes 0, 1, 2, ...
    shape : (int, int)
        Height and width of an image; their product is I.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.
    count : int
        How many are drawn at most, the first ones.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import plots
    >>> ax = plots.errors(np.zeros((3, 64)), [0, 1, 2], [0, 2, 2], (8, 8))
    """
    truth, guess = _labels(t, predicted)
    images = np.asarray(x, dtype=np.float64)
    if images.shape not in ((len(truth), shape[0] * shape[1]), (len(truth), *shape, 1)):
        raise ShapeError(f"x has shape {images.shape}, expected {(len(truth), shape[0] * shape[1])}: a row an image")
    wrong = np.flatnonzero(truth != guess)
    ax = axes(ax, 6.0, 6.0)
    title = f"{min(count, len(wrong))} of {len(wrong)} errors in {len(truth):,} samples: true→predicted class"
    ax.set(xticks=[], yticks=[], title=title)
    if not len(wrong):
        return ax
    shown = wrong[:count]
    gap = max(2, shape[0] // 4)  # room for the labels
    picture = tiles(images[shown].reshape(-1, *shape), gap)
    ax.imshow(picture, cmap="gray_r", interpolation="nearest", extent=(0, picture.shape[1], picture.shape[0], 0))
    columns = (picture.shape[1] + gap) // (shape[1] + gap)
    for k, sample in enumerate(shown):
        row, column = divmod(k, columns)
        place = (column * (shape[1] + gap) + shape[1] / 2, row * (shape[0] + gap) + shape[0] + gap * 0.45)
        ax.text(*place, f"{truth[sample]}→{guess[sample]}", ha="center", va="center", fontsize="small")
    ax.set_ylim(picture.shape[0] + gap, -1)
    return ax
