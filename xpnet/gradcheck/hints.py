"""Which mistake gives just these wrong numbers? What `xpnet.check_gradients` says beside a gradient that fails."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from xpnet.gradcheck.problem import STEPS, Problem
from xpnet.typing import HostArray


def close(a: HostArray, b: HostArray, tolerance: float) -> bool:
    """Say whether two arrays are equal up to `tolerance` of the larger one's largest entry."""
    if a.shape != b.shape:
        return False
    return bool(np.abs(a - b).max() <= tolerance * max(np.abs(a).max(), np.abs(b).max()))


def diagnose(
    problem: Problem, name: str, analytic: HostArray, right: HostArray, diagonal: HostArray, tolerance: float
) -> str:
    """Return the mistake that gives `analytic` in place of the `right` gradient, or an empty string.

    `diagonal` is the derivative of each output by the input at the same place, where their shapes agree.
    """
    if not np.isfinite(analytic).all():
        return "It is not finite."
    if not analytic.any():
        return "It is zero everywhere: was it ever computed?"
    if close(analytic, right, float(np.finfo(np.float32).eps)):
        return "It is right to the precision of float32 alone: something in backward is cast to it."
    if analytic.ndim == 2 and close(analytic.T, right, tolerance):
        return "It is the transpose of the right one: a .T is missing, or the product is the wrong way round."
    if problem.weight is not None and close(analytic * problem.weight[:, None], right, tolerance):
        return "The samples' weights (1/B each) are missing: the value is a mean over the batch, the delta is not."
    if problem.upstream.shape == analytic.shape and name == "x":
        if close(analytic, problem.upstream, tolerance):
            return "It is dy itself: the derivative is missing, or left to a loss (right under that loss alone)."
        if close(analytic, problem.upstream * diagonal, tolerance):
            return "It is only the Jacobian's diagonal: each output depends on other inputs of its row, too."
    return (
        factor(analytic, right, problem.rows, tolerance)
        or transposed(problem, name, analytic, tolerance)
        or few(analytic, right, tolerance)
    )


def factor(analytic: HostArray, right: HostArray, rows: int, tolerance: float) -> str:
    """Say by which number all of `analytic` is wrong, if it is one number."""
    if not right.any():
        return ""
    ratio = float(np.sum(analytic * right) / np.sum(right * right))
    if not close(analytic, ratio * right, tolerance):
        return ""
    if abs(ratio + 1.0) < tolerance:
        return "Its sign is wrong."
    if rows > 1 and abs(ratio - rows) < tolerance * rows:
        return f"It is {rows} times too large, the number of rows: a mean over the batch is missing."
    if rows > 1 and abs(ratio * rows - 1.0) < tolerance:
        return f"It is {rows} times too small, the number of rows: it is divided by the batch once too often."
    return f"It is {ratio:.9g} times the right one: a factor is missing or superfluous."


def transposed(problem: Problem, name: str, analytic: HostArray, tolerance: float) -> str:
    """Say whether `analytic` is right for a parameter turned over, which is possible where it is square."""
    for other, value in problem.arrays.items():
        if other in ("x", "y", name) or value.ndim != 2 or value.shape[0] != value.shape[1]:
            continue
        turned = replace(problem, arrays={**problem.arrays, other: np.ascontiguousarray(value.T)})
        slopes = np.zeros(analytic.size)
        for k in range(analytic.size):
            move = np.zeros(analytic.size)
            move[k] = 1.0
            slopes[k], _, _ = turned.slope(name, move.reshape(analytic.shape), STEPS[0])
        if close(analytic, slopes.reshape(analytic.shape), tolerance):
            return f"It is right for {other}.T in the place of {other}: a .T is missing, or one too many."
    return ""


def few(analytic: HostArray, right: HostArray, tolerance: float) -> str:
    """Say which elements are wrong, if they are few."""
    wrong = np.abs(analytic - right) > tolerance * max(np.abs(analytic).max(), np.abs(right).max())
    count = int(wrong.sum())
    if 4 * count > wrong.size and count > 1:
        return ""
    places = ", ".join(str(list(map(int, index))) for index in np.argwhere(wrong)[:4])
    return f"Wrong are {count} of {wrong.size} elements: {places}{', ...' if count > 4 else ''}."
