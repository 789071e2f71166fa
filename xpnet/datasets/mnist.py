"""MNIST, verified to the last byte."""

from __future__ import annotations

import os

from xpnet.datasets.download import PublishedFile
from xpnet.datasets.published import ImageFiles, Samples, load_images
from xpnet.keywords import named

FILES = ImageFiles(
    PublishedFile(
        "train-images-idx3-ubyte", 47040016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    ),
    PublishedFile("train-labels-idx1-ubyte", 60008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    PublishedFile(
        "t10k-images-idx3-ubyte", 7840016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    ),
    PublishedFile("t10k-labels-idx1-ubyte", 10008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
)
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


@named
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
    return load_images("mnist", FILES, MIRRORS, directory, dtype, flatten, download, redownload)
