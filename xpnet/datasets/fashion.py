"""Fashion-MNIST, verified to the last byte."""

from __future__ import annotations

import os
from pathlib import Path

from xpnet.datasets.download import PublishedFile
from xpnet.datasets.published import ImageFiles, Samples, load_images
from xpnet.keywords import named

FILES = ImageFiles(
    PublishedFile(
        "train-images-idx3-ubyte", 47040016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    ),
    PublishedFile("train-labels-idx1-ubyte", 60008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    PublishedFile(
        "t10k-images-idx3-ubyte", 7840016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
    ),
    PublishedFile("t10k-labels-idx1-ubyte", 10008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
)
MIRRORS = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
)
PACKAGES = (Path("/usr/share/datasets/fashion-mnist"),)
"""Where Debian's package dataset-fashion-mnist puts the files."""


@named
def fashion_mnist(
    directory: str | os.PathLike[str] | None = None,
    *,
    dtype: str = "float32",
    flatten: bool = True,
    download: bool = True,
    redownload: bool = False,
) -> tuple[Samples, Samples]:
    """Load Fashion-MNIST: 60,000 training and 10,000 test images of clothes in 10 classes, 28 x 28 grey levels.

    The classes 0 to 9 are T-shirt or top, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot. The
    four IDX files, compressed with gzip or not, are taken from `directory`, or from the user's cache; what is missing
    there from the folder of Debian's package ``dataset-fashion-mnist``, or else downloaded from public mirrors to the
    cache and kept there, uncompressed (55 MB). The SHA-256 of the decompressed bytes is compared with the published
    one at every load.

    Parameters
    ----------
    directory : str or path-like, optional
        Existing folder with the files, instead of the cache and the package's folder.
    dtype : {"float32", "uint8"}, default "float32"
        float32: grey level / 255, from 0 (background) to 1. uint8: the grey levels 0 to 255 themselves.
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
        x (60000, 784) and (10000, 784) of `dtype`; t (60000,) and (10000,) int64.

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
    By Zalando SE, MIT licence. H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking
    machine learning algorithms", arXiv:1708.07747 (2017).
    """
    return load_images("fashion_mnist", FILES, MIRRORS, directory, dtype, flatten, download, redownload, PACKAGES)
