"""Laws of the initial weights, each written out. I is the number of inputs, O of outputs.

Every law is a function ``(rng, inputs, outputs) -> array of shape (inputs, outputs)`` in float64 on the
host, so that every backend starts from the same bits. U(-a, a) is uniform, N(0, s) normal with standard
deviation s.

==================  =========================================  =============================================
name                law                                        source
==================  =========================================  =============================================
``he_normal``       N(0, sqrt(2 / I))                          He, Zhang, Ren and Sun 2015, equation 10
``he_uniform``      U(-a, a), a = sqrt(6 / I)                  the uniform law of the same variance
``glorot_normal``   N(0, sqrt(2 / (I + O)))                    Glorot and Bengio 2010, equation 12
``glorot_uniform``  U(-a, a), a = sqrt(6 / (I + O))            Glorot and Bengio 2010, equation 16
``lecun_normal``    N(0, sqrt(1 / I))                          LeCun, Bottou, Orr and Müller 1998, equation 16
``lecun_uniform``   U(-a, a), a = sqrt(3 / I)                  the uniform law of the same variance
``orthogonal``      orthonormal rows or columns, uniform       Saxe, McClelland and Ganguli 2014
``zeros``           0
``normal(std)``     N(0, std)
==================  =========================================  =============================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np

from xpnet.errors import ConfigError, closest
from xpnet.typing import HostArray, Rng
from xpnet.validation import check_number

Initializer = str | Callable[[Rng, int, int], HostArray]


def he_normal(rng: Rng, inputs: int, outputs: int) -> HostArray:
    """Normal with standard deviation sqrt(2 / inputs): keeps the variance through ReLU layers."""
    return rng.normal(0.0, sqrt(2 / inputs), (inputs, outputs))


def he_uniform(rng: Rng, inputs: int, outputs: int) -> HostArray:
    """Uniform in [-a, a) with a = sqrt(6 / inputs), of variance 2 / inputs."""
    a = sqrt(6 / inputs)
    return rng.uniform(-a, a, (inputs, outputs))


def glorot_normal(rng: Rng, inputs: int, outputs: int) -> HostArray:
    """Normal with standard deviation sqrt(2 / (inputs + outputs))."""
    return rng.normal(0.0, sqrt(2 / (inputs + outputs)), (inputs, outputs))


def glorot_uniform(rng: Rng, inputs: int, outputs: int) -> HostArray:
    """Uniform in [-a, a) with a = sqrt(6 / (inputs + outputs)), of variance 2 / (inputs + outputs)."""
    a = sqrt(6 / (inputs + outputs))
    return rng.uniform(-a, a, (inputs, outputs))


def lecun_normal(rng: Rng, inputs: int, outputs: int) -> HostArray:
    """Normal with standard deviation sqrt(1 / inputs)."""
    return rng.normal(0.0, sqrt(1 / inputs), (inputs, outputs))


def lecun_uniform(rng: Rng, inputs: int, outputs: int) -> HostArray:
    """Uniform in [-a, a) with a = sqrt(3 / inputs), of variance 1 / inputs."""
    a = sqrt(3 / inputs)
    return rng.uniform(-a, a, (inputs, outputs))


def orthogonal(rng: Rng, inputs: int, outputs: int) -> HostArray:
    """Orthonormal columns (or rows, if there are more outputs than inputs), uniform over all such matrices."""
    tall = rng.normal(size=(max(inputs, outputs), min(inputs, outputs)))
    q, r = np.linalg.qr(tall)
    q = q * np.where(np.diag(r) < 0, -1.0, 1.0)  # a fixed sign of r's diagonal makes the law uniform
    return q if inputs >= outputs else q.T


def zeros(rng: Rng, inputs: int, outputs: int) -> HostArray:
    """Zeros: right for biases; a hidden layer of zeros cannot learn, since its units stay equal."""
    return np.zeros((inputs, outputs))


@dataclass(frozen=True)
class normal:
    """Normal with standard deviation `std`."""

    std: float

    def __post_init__(self) -> None:
        check_number("normal: std", self.std, 0.0)

    def __call__(self, rng: Rng, inputs: int, outputs: int) -> HostArray:
        return rng.normal(0.0, self.std, (inputs, outputs))


INITIALIZERS: dict[str, Callable[[Rng, int, int], HostArray]] = {
    f.__name__: f
    for f in (
        he_normal,
        he_uniform,
        glorot_normal,
        glorot_uniform,
        lecun_normal,
        lecun_uniform,
        orthogonal,
        zeros,
    )
}


def resolve(law: Initializer) -> Callable[[Rng, int, int], HostArray]:
    """Return the function that `law`, a name or a callable, stands for."""
    if callable(law):
        return law
    if not isinstance(law, str) or law not in INITIALIZERS:
        known = ", ".join(INITIALIZERS)
        raise ConfigError(
            f"unknown initializer {law!r}; names are {known}; normal(std) or a function also serve."
            f"{closest(str(law), INITIALIZERS)}"
        )
    return INITIALIZERS[law]


def initialize(law: Initializer, rng: Rng, inputs: int, outputs: int) -> HostArray:
    """Draw an (inputs, outputs) array from `law` and check what a user's function returned."""
    drawn = np.asarray(resolve(law)(rng, inputs, outputs), dtype=np.float64)
    if drawn.shape != (inputs, outputs):
        raise ConfigError(f"initializer {law!r} returned shape {drawn.shape}, expected {(inputs, outputs)}")
    if not np.isfinite(drawn).all():
        raise ConfigError(f"initializer {law!r} returned NaN or infinity")
    return drawn
