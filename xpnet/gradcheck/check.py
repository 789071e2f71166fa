"""Is a hand-written gradient the derivative of its forward pass? For networks, layers and losses, one's own too."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

import xpnet.backends
from xpnet.errors import ConfigError
from xpnet.gradcheck import targets
from xpnet.gradcheck.hints import diagnose
from xpnet.gradcheck.problem import STEPS, Problem, Slope
from xpnet.gradcheck.report import ArrayReport, GradientReport
from xpnet.keywords import named
from xpnet.layers.base import Layer
from xpnet.losses import Loss
from xpnet.model.build import check_seed
from xpnet.model.core import Model
from xpnet.model.memory import explained
from xpnet.typing import HostArray
from xpnet.validation import NOT_NEGATIVE, check_flag, check_size


@named
def check_gradients(
    target: Model | Layer | Loss, x: Any = None, t: Any = None, *, sample_weight: Any = None,
    parameters: Mapping[str, Any] | None = None, training: bool = False, backend: Any = "numpy",
    tolerance: float = 1e-8, max_elements: int = 500, jitter: float = 0.1, seed: int = 0, strict: bool = False,
) -> GradientReport:  # fmt: skip
    """Compare hand-written derivatives with central differences of the forward pass, in float64.

    Every element v of the input and of every parameter is moved by h = 1e-5 to both sides,

        dL/dv = (L(v + h) - L(v - h)) / (2 h),

    where L is sum(dy * y) with a random upstream delta dy for a layer, the value of a loss, and the loss plus
    penalties of a network, whose layers and loss are also checked by themselves. Where an element does not agree,
    other steps (1e-6, 1e-4, 1e-7) follow, which step around a kink or a sharp bend nearby, and what these tend to. An
    element that sits *on* a kink, where the two one-sided derivatives differ, is skipped and counted. What rounding may
    do to a difference is not held against it, so that a gradient that is exactly zero may come out as 1e-17. How much
    that is, is measured: all arrays are changed a little, which shows where large numbers cancel out.

    What a layer or loss promises besides is checked too: that it changes no argument, gives the same again, keeps to
    float64, and makes use of the samples' weights.

    Parameters
    ----------
    target : Model, Layer or Loss
        What to check, built-in or one's own. An activation is a layer: ``xpnet.Activation(f, df)``.
    x : array
        A network's or layer's input, (B, I), or a loss's input y, (B, O). For a layer six random rows are the default.
    t : array
        The targets, for a network or a loss.
    sample_weight : array (B,), optional
        Weights of the samples. A loss is checked with random ones unless some are given.
    parameters : mapping, optional
        A layer's parameters; by default its initial ones, moved by random numbers.
    training : bool
        Check the layer or network as in training: dropout with a fixed mask, statistics of the batch.
    backend : str or Backend
        Where to compute a layer or loss; a network is checked on its own backend.
    tolerance : float
        The largest difference allowed, relative to the largest gradient of the array.
    max_elements : int
        Of a larger array so many elements, chosen at random, are moved one by one, and then all together along a
        random direction.
    jitter : float
        A copy of the network is checked, its parameters moved by random numbers of this standard deviation: biases
        that start at zero would hide a missing term and put ReLUs on their kinks. 0 checks the parameters as they
        are.
    seed : int
        Seed of all random numbers.
    strict : bool
        Raise `GradientError` if the check fails, rather than only report it.

    Returns
    -------
    GradientReport
        Print it; ``report.passed`` is the verdict, ``report.raise_if_failed()`` raises `GradientError`.

    Raises
    ------
    ConfigError, ShapeError, DTypeError, DataError
        The target is none of the three, or its data is missing or does not fit.
    GradientError
        A backward pass raised an exception; or the check failed and `strict` is set.

    Examples
    --------
    >>> import xpnet
    >>> sine = xpnet.Activation(lambda xp, x: xp.sin(x), lambda xp, x: xp.cos(x), name="sine")
    >>> xpnet.check_gradients(sine).passed
    True
    """
    NOT_NEGATIVE("tolerance", tolerance)
    NOT_NEGATIVE("jitter", jitter)
    for name, flag in (("training", training), ("strict", strict)):
        check_flag(name, flag)
    max_elements = check_size("max_elements", max_elements)
    rng = np.random.default_rng(check_seed(seed))
    place = target.backend if isinstance(target, Model) else xpnet.backends.get(backend)
    place.check_dtype("float64")
    with place.active(), explained(place, "checking gradients"):
        if isinstance(target, Model):
            problems = targets.of_network(target, x, t, sample_weight, training, jitter, rng)
        elif isinstance(target, Layer):
            problems = [targets.of_layer(target, x, parameters, training, place, rng)]
        elif isinstance(target, Loss):
            problems = [targets.of_loss(target, x, t, sample_weight, place, rng)]
        else:
            raise ConfigError(f"check_gradients takes a Network, a Layer or a Loss (an instance), got {target!r}")
        whole, *parts = [_check(problem, tolerance, max_elements, rng) for problem in problems]
    failed = [part for part in parts if any(row.verdict == "WRONG" for row in part.arrays) or part.findings]
    # "layer 3 (Residual)" is wrong of itself only if no "layer 3.0 (Linear)" is.
    outer = [part for part in failed if any(x.target.startswith(f"{part.target.partition(' (')[0]}.") for x in failed)]
    guilty = tuple(part for part in failed if part not in outer)
    report = GradientReport(whole.target, whole.arrays, whole.findings, guilty)
    if strict:
        report.raise_if_failed()
    return report


def _check(problem: Problem, tolerance: float, max_elements: int, rng: np.random.Generator) -> GradientReport:
    """Compare all gradients of one problem."""
    findings = problem.findings
    rows: list[ArrayReport] = []
    if problem.gradients and not np.isfinite(problem.evaluate(problem.arrays)).all():
        findings = [*findings, f"{problem.target}: the forward pass is not finite at this point."]
    else:
        for name in problem.gradients:
            rows.append(_check_elements(problem, name, tolerance, max_elements, rng))
            if problem.arrays[name].size > max_elements:
                rows.append(_check_direction(problem, name, tolerance, rng))
    return GradientReport(problem.target, tuple(rows), tuple(findings))


class Comparison(NamedTuple):
    """One derivative, two ways."""

    numeric: float
    difference: float  # between the two; infinite if a value is not finite
    noise: float  # how much of it may be rounding
    change: HostArray  # derivative of every output
    kink: bool = False

    @classmethod
    def of(cls, analytic: float, numeric: float, noise: float, change: HostArray) -> Comparison:
        """Compare a derivative with the number that differences give."""
        difference = abs(analytic - numeric)
        return cls(numeric, difference if np.isfinite(difference) else np.inf, noise, change)

    @property
    def excess(self) -> float:
        return max(self.difference - self.noise, 0.0)


def _compare(problem: Problem, name: str, move: HostArray, analytic: float, allowed: float) -> Comparison:
    """Compare `analytic` with central differences along `move`.

    The first step size that agrees up to `allowed` counts; if none does, the first of all.
    """
    slopes = []
    for h in STEPS:
        slopes.append(problem.slope(name, move, h))
        tried = Comparison.of(analytic, *slopes[-1])
        if tried.excess <= allowed:
            return tried
    # Where the second derivative jumps, as ELU's does at 0, a difference is wrong by a multiple of h; where a function
    # bends sharply, as behind a tiny variance, by one of h * h, and less by one of its square.
    wide_first = [slope for _, slope in sorted(zip(STEPS, slopes, strict=True), key=lambda pair: -pair[0])]
    bent = _without(wide_first, 100.0)
    for slope in (*_without(wide_first, 10.0), *bent, *_without(bent, 1e4)):
        tried = Comparison.of(analytic, *slope)
        if tried.excess <= allowed:
            return tried
    return Comparison.of(analytic, *slopes[0])._replace(kink=problem.on_kink(name, move))


def _without(slopes: list[Slope], ratio: float) -> list[Slope]:
    """Take out of slopes what is by `ratio` smaller in each than in the one before it, the next wider one."""
    return [
        ((ratio * b - a) / (ratio - 1.0), (ratio * narrow + wide) / (ratio - 1.0), change)
        for (a, wide, _), (b, narrow, change) in pairwise(slopes)
    ]


def _check_elements(
    problem: Problem, name: str, tolerance: float, max_elements: int, rng: np.random.Generator
) -> ArrayReport:
    """Move the elements of one array one by one."""
    array, analytic = problem.arrays[name], problem.gradients[name]
    size, flat = array.size, analytic.ravel()
    chosen = np.arange(size) if size <= max_elements else np.sort(rng.choice(size, max_elements, replace=False))
    allowed = tolerance * float(np.abs(flat[chosen]).max(initial=0.0))
    numeric, diagonal = flat.copy(), np.zeros(size)
    found: dict[int, Comparison] = {}
    for k in map(int, chosen):
        move = np.zeros(size)
        move[k] = 1.0
        result = _compare(problem, name, move.reshape(array.shape), float(flat[k]), allowed)
        if result.change.shape == array.shape:
            diagonal[k] = result.change.flat[k]
        if not result.kink:
            found[k] = result
            numeric[k] = result.numeric
    scale = _scale(np.concatenate([flat[chosen], numeric[chosen]]))
    # The worst is what rounding does not explain; if it explains all, the largest difference.
    worst = max(found, key=lambda k: (found[k].excess, found[k].difference), default=0)
    at = found.get(worst, Comparison(numeric[worst], 0.0, 0.0, diagonal))
    hint = ""
    if not at.excess <= tolerance * scale and len(chosen) == size:
        right = numeric.reshape(array.shape)
        hint = diagnose(problem, name, analytic, right, diagonal.reshape(array.shape), 10 * tolerance)
    index = tuple(map(int, np.unravel_index(worst, array.shape)))
    counts = len(found), len(chosen) - len(found)
    return _report(problem, name, counts, at, scale, float(flat[worst]), tolerance, index, hint)


def _report(
    problem: Problem, name: str, counts: tuple[int, int], at: Comparison, scale: float, analytic: float,
    tolerance: float, index: tuple[int, ...] | None = None, hint: str = "",
) -> ArrayReport:  # fmt: skip
    """Return the row of an array, whose numbers are those of one comparison."""
    error, noise = (0.0 if at.kink else at.difference) / scale, at.noise / scale
    return ArrayReport(
        name, problem.owners[name], problem.arrays[name].shape, *counts, error, index, analytic, at.numeric,
        tolerance + noise, hint,
    )  # fmt: skip


def _scale(values: HostArray) -> float:
    """Return the largest finite size among `values`, or 1 if all are zero."""
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0)) or 1.0


def _check_direction(problem: Problem, name: str, tolerance: float, rng: np.random.Generator) -> ArrayReport:
    """Move all elements of a large array at once."""
    analytic = problem.gradients[name]
    move = 0.1 * np.asarray(rng.standard_normal(analytic.shape))  # shorter steps, since all elements add up
    along, norm = float(np.sum(analytic * move)), 0.1 * float(np.sqrt(np.sum(analytic * analytic)))
    result = _compare(problem, name, move, along, tolerance * norm)
    scale = _scale(np.asarray([norm, result.numeric]))
    counts = int(not result.kink), int(result.kink)
    return _report(problem, name, counts, result, scale, along, tolerance)
