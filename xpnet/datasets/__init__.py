"""Data sets: MNIST and Fashion-MNIST, verified to the last byte, and small ones generated from a seed.

Rows are samples, `x` is float32 and `t` holds classes as int64 throughout. Generated sets draw every number from
``numpy.random.default_rng(seed)``: the same arguments give the same bits, and NumPy's global generator is not touched.
"""

from typing import TYPE_CHECKING

from xpnet.datasets.fashion import fashion_mnist
from xpnet.datasets.generated import parity, quadrants, spirals, xor
from xpnet.datasets.mnist import mnist
from xpnet.keywords import public

__all__ = ["fashion_mnist", "mnist", "parity", "quadrants", "spirals", "xor"]

if not TYPE_CHECKING:  # to whom every name would then be right
    __getattr__, __dir__ = public(
        __name__, __all__, f" It has {', '.join(__all__)}; scikit-learn's sklearn.datasets serve too."
    )
