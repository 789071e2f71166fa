"""MNIST, verified to the last byte."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.datasets.download import PublishedFile, load
from xpnet.errors import ConfigError, needs
from xpnet.validation import check_flag

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
    BackendUnavailableError
        Without `directory`, or for a download: the extra ``datasets`` is not installed.
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
    with needs("mnist without directory=, which keeps the files in a cache,", "pooch", "datasets"):
        import pooch

    return Path(pooch.os_cache("xpnet")) / "mnist"
