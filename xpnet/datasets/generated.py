"""Small data sets that are made from a seed: the same arguments give the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backends import get
from xpnet.keywords import named
from xpnet.model.memory import explained
from xpnet.validation import check_number, check_size

Samples = tuple[NDArray[Any], NDArray[np.int64]]


@named
@explained(get("numpy"), "making quadrants")
def quadrants(samples: int = 100_000, seed: int = 0) -> Samples:
    """Points of the square [-2, 2] x [-2, 2], and whether they lie in quadrants I or III.

        t = 1 where x0 * x1 > 0 (quadrants I and III), else 0 (quadrants II and IV, and the axes)

    No straight line separates the classes: the exclusive or, with a continuum of points.

    Parameters
    ----------
    samples : int, default 100000
        B, the number of points, drawn uniformly and independently.
    seed : int, default 0
        Seed of the generator.

    Returns
    -------
    x, t : numpy.ndarray
        (B, 2) float32 and (B,) int64.

    Raises
    ------
    ConfigError
        `samples` is not an integer of at least 1, or `seed` not one of at least 0.

    Examples
    --------
    >>> import xpnet
    >>> x, t = xpnet.datasets.quadrants(100, seed=0)
    >>> x.shape, t.shape, sorted(set(t.tolist()))
    ((100, 2), (100,), [0, 1])
    """
    rng = _generator(seed)
    x = rng.uniform(-2.0, 2.0, (_count("samples", samples), 2)).astype(np.float32)
    return x, (x[:, 0] * x[:, 1] > 0).astype(np.int64)


@named
@explained(get("numpy"), "making parity")
def parity(bits: int = 10, test: int | None = None, seed: int = 0) -> tuple[Samples, Samples]:
    """Every number from 0 to 2^bits - 1 as a row of bits, and whether it is odd; some are kept for testing.

    No number is in both parts: what is measured on the second part is what was learned of the rule, not by heart.

    Parameters
    ----------
    bits : int, default 10
        I, the length of a row, from 1 to 20. The most significant bit comes first.
    test : int, optional
        How many of the 2^bits numbers are kept for testing; at least 1, and at least 1 stays for training.
        If left out 81/256 of them, rounded down (at least 1): 324 of the 1,024 numbers of 10 bits.
    seed : int, default 0
        Seed of the generator that shuffles the numbers before they are split.

    Returns
    -------
    (x_train, t_train), (x_test, t_test) : tuples of numpy.ndarray
        x (B, bits) float32 of zeros and ones; t (B,) int64, 0 for an even number and 1 for an odd one.

    Raises
    ------
    ConfigError
        An argument is not an integer, or not within its bounds.

    Examples
    --------
    >>> import xpnet
    >>> (x, t), (x_test, t_test) = xpnet.datasets.parity(bits=10, test=324, seed=0)
    >>> x.shape, x_test.shape
    ((700, 10), (324, 10))
    """
    rng = _generator(seed)
    count = 2 ** check_size("bits", bits, 1, 20)
    held = max(1, count * 81 // 256) if test is None else check_size("test", test, 1, count - 1)
    numbers = rng.permutation(count)
    x = ((numbers[:, None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.float32)
    t = (numbers % 2).astype(np.int64)
    return (x[:-held], t[:-held]), (x[-held:], t[-held:])


@named
@explained(get("numpy"), "making xor")
def xor(repeats: int = 1, noise: float = 0.0, seed: int = 0) -> Samples:
    """The exclusive or: (0, 0) and (1, 1) are class 0, (0, 1) and (1, 0) are class 1.

    Parameters
    ----------
    repeats : int, default 1
        How many times the four points come, one round after the other.
    noise : float, default 0
        Standard deviation of the normal numbers that are added to the points; the classes stay.
    seed : int, default 0
        Seed of the generator of the noise.

    Returns
    -------
    x, t : numpy.ndarray
        (4 repeats, 2) float32 and (4 repeats,) int64.

    Raises
    ------
    ConfigError
        `repeats` is not an integer of at least 1, `noise` not a number from 0 to 1e6, or `seed` not an
        integer of at least 0.

    Examples
    --------
    >>> import xpnet
    >>> x, t = xpnet.datasets.xor(100, seed=0)
    >>> x.shape, t.shape, sorted(set(t.tolist()))
    ((400, 2), (400,), [0, 1])
    """
    rng = _generator(seed)
    repeats = _count("repeats", repeats)
    points = np.tile([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], (repeats, 1))
    x = points + _spread(noise) * rng.standard_normal(points.shape)
    return x.astype(np.float32), np.tile(np.array([0, 1, 1, 0], np.int64), repeats)


@named
@explained(get("numpy"), "making spirals")
def spirals(samples: int = 3000, classes: int = 3, noise: float = 0.2, seed: int = 0) -> Samples:
    """Points on spiral arms around the origin, one arm a class.

        x = radius * (sin(angle), cos(angle))
        angle = 4 * radius + 2 pi k / classes + noise * normal        of class k, in radians

    The radius is drawn uniformly from [0, 1); every arm makes 4 radians, about 0.64 of a turn.

    Parameters
    ----------
    samples : int, default 3000
        B, the number of points of all classes together; row i is of class i mod `classes`.
    classes : int, default 3
        Number of arms, at least 2.
    noise : float, default 0.2
        Standard deviation of the angle, in radians.
    seed : int, default 0
        Seed of the generator.

    Returns
    -------
    x, t : numpy.ndarray
        (B, 2) float32 and (B,) int64.

    Raises
    ------
    ConfigError
        `samples` is not an integer of at least `classes`, `classes` not one of at least 2, `noise` not a number
        from 0 to 1e6, or `seed` not an integer of at least 0.

    Examples
    --------
    >>> import xpnet
    >>> x, t = xpnet.datasets.spirals(100, seed=0)
    >>> x.shape, t.shape, sorted(set(t.tolist()))
    ((100, 2), (100,), [0, 1, 2])
    """
    rng = _generator(seed)
    classes = check_size("classes", classes, 2)
    t = np.arange(_count("samples", samples, classes), dtype=np.int64) % classes
    radius = rng.uniform(size=len(t))
    angle = 4 * radius + 2 * np.pi * t / classes + _spread(noise) * rng.standard_normal(len(t))
    return (radius[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)).astype(np.float32), t


def _generator(seed: Any) -> np.random.Generator:
    return np.random.default_rng(check_size("seed", seed, 0))


def _count(name: str, value: Any, minimum: int = 1) -> int:
    # From 2^60 numbers on NumPy speaks of impossible shapes, and not of memory that is missing.
    return min(check_size(name, value, minimum), 2**48)


def _spread(noise: Any) -> float:
    # The upper bound keeps every point finite in float32.
    return check_number("noise", noise, 0.0, 1e6)
