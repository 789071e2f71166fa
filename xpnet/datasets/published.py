"""Published sets of images in four IDX files, of which everyone has the same bytes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.datasets.download import PublishedFile, load
from xpnet.errors import ConfigError
from xpnet.validation import check_flag

Samples = tuple[NDArray[Any], NDArray[np.int64]]


class ImageFiles(NamedTuple):
    """The four files of a set of images."""

    train_images: PublishedFile
    train_labels: PublishedFile
    test_images: PublishedFile
    test_labels: PublishedFile


def load_images(
    name: str, files: ImageFiles, mirrors: Sequence[str], directory: Any, dtype: Any, flatten: Any, download: Any,
    redownload: Any, packages: Sequence[Path] = (),
) -> tuple[Samples, Samples]:  # fmt: skip
    """Return the training and the test images of a set with their classes.

    `name` is that of its folder in the user's cache, and `packages` are folders in which a package of the operating
    system puts the files. See `xpnet.datasets.mnist` for the other arguments and the errors.
    """
    if dtype not in ("float32", "uint8"):
        raise ConfigError(f"dtype must be 'float32' or 'uint8', got {dtype!r}")
    for label, value in (("flatten", flatten), ("download", download), ("redownload", redownload)):
        check_flag(label, value)
    if redownload and not download:
        raise ConfigError("redownload=True needs download=True, got download=False")
    if directory is not None and not (isinstance(directory, str | os.PathLike) and Path(directory).is_dir()):
        raise ConfigError(f"directory must be an existing folder, got {str(directory)!r}")
    folder, others = (_cache(name), packages) if directory is None else (Path(directory), ())

    def split(images: PublishedFile, labels: PublishedFile) -> Samples:
        x, t = (load(file, folder, mirrors, download, redownload, others) for file in (images, labels))
        if flatten:
            x = x.reshape(len(x), -1)
        # One pass in float32, correctly rounded; `x / 255` would go through an array of float64.
        scaled = np.divide(x, np.float32(255), dtype=np.float32) if dtype == "float32" else x
        return scaled, t.astype(np.int64)

    return split(files.train_images, files.train_labels), split(files.test_images, files.test_labels)


def _cache(name: str) -> Path:
    # Imported here: with a directory of their own, users need none of it.
    import pooch

    return Path(pooch.os_cache("xpnet")) / name
