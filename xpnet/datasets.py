"""Data sets: MNIST, verified to the last byte, and small ones generated from a seed.

Rows are samples, `x` is float32 and `t` holds classes as int64 throughout. Generated sets draw every number from
`numpy.random.default_rng(seed)`: the same arguments give the same bits, and NumPy's global generator is not touched.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.download import PublishedFile, load
from xpnet.errors import ConfigError
from xpnet.validation import check_flag, check_number, check_size

Samples = tuple[NDArray[Any], NDArray[np.int64]]


TRAIN_IMAGES = PublishedFile(
    "train-images-idx3-ubyte", 47040016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
)
TRAIN_LABELS = PublishedFile(
    "train-labels-idx1-ubyte", 60008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
)
TEST_IMAGES = PublishedFile(
    "t10k-images-idx3-ubyte", 7840016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
)
TEST_LABELS = PublishedFile(
    "t10k-labels-idx1-ubyte", 10008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
)
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


def mnist(
    directory: str | os.PathLike[str] | None = None,
    *,
    dtype: str = "float32",
    flatten: bool = True,
    download: bool = True,
    redownload: bool = False,
) -> tuple[Samples, Samples]:
    """Load MNIST: 60,000 training and 10,000 test images of handwritten digits, 28 x 28 grey levels.

    The four IDX files, compressed with gzip or not, are taken from `directory`, or from the user's cache; what is
    missing there is downloaded from public mirrors and kept there, uncompressed (55 MB). The SHA-256 of the
    decompressed bytes is compared with the published one at every load.

    Parameters
    ----------
    directory : str or path-like, optional
        Existing folder with the files; the user's cache for xpnet if left out.
    dtype : {"float32", "uint8"}, default "float32"
        float32: grey level / 255, from 0 (background) to 1 (ink). uint8: the grey levels 0 to 255 themselves.
    flatten : bool, default True
        Images as rows of 784, pixel (row i, column j) at 28 i + j; False for (28, 28).
    download : bool, default True
        Whether a missing file may be downloaded.
    redownload : bool, default False
        Whether a file that is there but is not the published one may be replaced by a download. It stays until the
        right one has arrived and was checked.

    Returns
    -------
    (x_train, t_train), (x_test, t_test) : tuples of numpy.ndarray
        x (60000, 784) and (10000, 784) of `dtype`; t (60000,) and (10000,) int64, the digits 0 to 9.

    Raises
    ------
    ConfigError
        An argument has an impossible value; `directory` is not a folder.
    IntegrityError
        A file is not the published one, and `redownload` is false.
    DownloadError
        A file is missing and `download` is false; or no mirror delivered it.

    Notes
    -----
    By Yann LeCun and Corinna Cortes, CC BY-SA 3.0. Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based
    learning applied to document recognition", Proceedings of the IEEE 86 (1998) 2278-2324.
    """
    if dtype not in ("float32", "uint8"):
        raise ConfigError(f"dtype must be 'float32' or 'uint8', got {dtype!r}")
    for name, value in (("flatten", flatten), ("download", download), ("redownload", redownload)):
        check_flag(name, value)
    if redownload and not download:
        raise ConfigError("redownload=True needs download=True, got download=False")
    folder = _cache() if directory is None else Path(directory)
    if directory is not None and not folder.is_dir():
        raise ConfigError(f"directory must be an existing folder, got {os.fspath(directory)!r}")

    def split(images: PublishedFile, labels: PublishedFile) -> Samples:
        x, t = (load(file, folder, MIRRORS, download, redownload) for file in (images, labels))
        if flatten:
            x = x.reshape(len(x), -1)
        # One pass in float32, correctly rounded; `x / 255` would go through an array of float64.
        scaled = np.divide(x, np.float32(255), dtype=np.float32) if dtype == "float32" else x
        return scaled, t.astype(np.int64)

    return split(TRAIN_IMAGES, TRAIN_LABELS), split(TEST_IMAGES, TEST_LABELS)


def _cache() -> Path:
    # Imported here: with a directory of their own, users need none of it.
    import pooch

    return Path(pooch.os_cache("xpnet")) / "mnist"


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
    """
    rng = _generator(seed)
    x = rng.uniform(-2.0, 2.0, (check_size("samples", samples, 1), 2)).astype(np.float32)
    return x, (x[:, 0] * x[:, 1] > 0).astype(np.int64)


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
    """
    rng = _generator(seed)
    count = 2 ** _between("bits", bits, 1, 20)
    held = max(1, count * 81 // 256) if test is None else _between("test", test, 1, count - 1)
    numbers = rng.permutation(count)
    x = ((numbers[:, None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.float32)
    t = (numbers % 2).astype(np.int64)
    return (x[:-held], t[:-held]), (x[-held:], t[-held:])


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
    """
    rng = _generator(seed)
    repeats = check_size("repeats", repeats, 1)
    points = np.tile([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], (repeats, 1))
    x = points + _spread(noise) * rng.standard_normal(points.shape)
    return x.astype(np.float32), np.tile(np.array([0, 1, 1, 0], np.int64), repeats)


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
    """
    rng = _generator(seed)
    classes = check_size("classes", classes, 2)
    t = np.arange(check_size("samples", samples, classes), dtype=np.int64) % classes
    radius = rng.uniform(size=len(t))
    angle = 4 * radius + 2 * np.pi * t / classes + _spread(noise) * rng.standard_normal(len(t))
    return (radius[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)).astype(np.float32), t


def _between(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise ConfigError(f"{name} must be an integer from {low} to {high}, got {value!r}")
    return int(value)


def _generator(seed: Any) -> np.random.Generator:
    return np.random.default_rng(check_size("seed", seed, 0))


def _spread(noise: Any) -> float:
    # The upper bound keeps every point finite in float32.
    return check_number("noise", noise, 0.0, 1e6)
