"""Data sets: MNIST and Fashion-MNIST, verified to the last byte, and small ones generated from a seed.

Rows are samples, `x` is float32 and `t` holds classes as int64 throughout. Generated sets draw every number from
``numpy.random.default_rng(seed)``: the same arguments give the same bits, and NumPy's global generator is not touched.
"""

from typing import TYPE_CHECKING, Any

from xpnet.datasets.fashion import fashion_mnist
from xpnet.datasets.generated import parity, quadrants, spirals, xor
from xpnet.datasets.mnist import mnist

__all__ = ["fashion_mnist", "mnist", "parity", "quadrants", "spirals", "xor"]

if not TYPE_CHECKING:  # to whom every name would then be right

    def __getattr__(name: str) -> Any:
        raise AttributeError(
            f"module 'xpnet.datasets' has no attribute {name!r}; it has {', '.join(__all__)}, and any arrays serve: "
            "scikit-learn's are in sklearn.datasets"
        )
