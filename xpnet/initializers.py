"""Laws of the initial weights, each written out.

Every law is a function ``(rng, shape, fan_in, fan_out) -> array of that shape`` in float64 on the host, so that every
backend starts from the same bits. The fans, I and O below, say how many inputs an output adds up and how many outputs
an input goes into; those of `xpnet.Linear` are its numbers of inputs and outputs. U(-a, a) is uniform, N(0, s) normal
with standard deviation s.

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

import inspect
from contextlib import suppress
from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from xpnet.errors import ConfigError
from xpnet.keywords import public
from xpnet.typing import HostArray, Rng, Shape
from xpnet.validation import NOT_NEGATIVE, check_fields, named


@runtime_checkable
class Law(Protocol):
    """A law of initial values."""

    def __call__(self, rng: Rng, shape: Shape, fan_in: int, fan_out: int, /) -> HostArray: ...


Initializer = str | Law


def he_normal(rng: Rng, shape: Shape, fan_in: int, fan_out: int) -> HostArray:
    """Normal with standard deviation sqrt(2 / fan_in): keeps the variance through ReLU layers.

    Returns
    -------
    numpy.ndarray
        float64, of the shape that was asked for.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import initializers
    >>> initializers.he_normal(np.random.default_rng(0), (2, 3), 2, 3).shape
    (2, 3)
    """
    return rng.normal(0.0, sqrt(2 / fan_in), shape)


def he_uniform(rng: Rng, shape: Shape, fan_in: int, fan_out: int) -> HostArray:
    """Uniform in [-a, a) with a = sqrt(6 / fan_in), of variance 2 / fan_in.

    Returns
    -------
    numpy.ndarray
        float64, of the shape that was asked for.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import initializers
    >>> initializers.he_uniform(np.random.default_rng(0), (2, 3), 2, 3).shape
    (2, 3)
    """
    a = sqrt(6 / fan_in)
    return rng.uniform(-a, a, shape)


def glorot_normal(rng: Rng, shape: Shape, fan_in: int, fan_out: int) -> HostArray:
    """Normal with standard deviation sqrt(2 / (fan_in + fan_out)).

    Returns
    -------
    numpy.ndarray
        float64, of the shape that was asked for.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import initializers
    >>> initializers.glorot_normal(np.random.default_rng(0), (2, 3), 2, 3).shape
    (2, 3)
    """
    return rng.normal(0.0, sqrt(2 / (fan_in + fan_out)), shape)


def glorot_uniform(rng: Rng, shape: Shape, fan_in: int, fan_out: int) -> HostArray:
    """Uniform in [-a, a) with a = sqrt(6 / (fan_in + fan_out)), of variance 2 / (fan_in + fan_out).

    Returns
    -------
    numpy.ndarray
        float64, of the shape that was asked for.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import initializers
    >>> initializers.glorot_uniform(np.random.default_rng(0), (2, 3), 2, 3).shape
    (2, 3)
    """
    a = sqrt(6 / (fan_in + fan_out))
    return rng.uniform(-a, a, shape)


def lecun_normal(rng: Rng, shape: Shape, fan_in: int, fan_out: int) -> HostArray:
    """Normal with standard deviation sqrt(1 / fan_in).

    Returns
    -------
    numpy.ndarray
        float64, of the shape that was asked for.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import initializers
    >>> initializers.lecun_normal(np.random.default_rng(0), (2, 3), 2, 3).shape
    (2, 3)
    """
    return rng.normal(0.0, sqrt(1 / fan_in), shape)


def lecun_uniform(rng: Rng, shape: Shape, fan_in: int, fan_out: int) -> HostArray:
    """Uniform in [-a, a) with a = sqrt(3 / fan_in), of variance 1 / fan_in.

    Returns
    -------
    numpy.ndarray
        float64, of the shape that was asked for.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import initializers
    >>> initializers.lecun_uniform(np.random.default_rng(0), (2, 3), 2, 3).shape
    (2, 3)
    """
    a = sqrt(3 / fan_in)
    return rng.uniform(-a, a, shape)


def orthogonal(rng: Rng, shape: Shape, fan_in: int, fan_out: int) -> HostArray:
    """Orthonormal columns (or rows, if they are fewer), uniform over all such matrices; the last axis has the columns.

    An array of other than two axes is such a matrix of shape (prod(shape[:-1]), shape[-1]), reshaped.

    Returns
    -------
    numpy.ndarray
        float64, of the shape that was asked for.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import initializers
    >>> initializers.orthogonal(np.random.default_rng(0), (2, 3), 2, 3).shape
    (2, 3)
    """
    rows, columns = prod(shape[:-1]), shape[-1]
    tall = rng.normal(size=(max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q = q * np.where(np.diag(r) < 0, -1.0, 1.0)  # a fixed sign of r's diagonal makes the law uniform
    return (q if rows >= columns else q.T).reshape(shape)


def zeros(rng: Rng, shape: Shape, fan_in: int, fan_out: int) -> HostArray:
    """Zeros: right for biases; a hidden layer of zeros cannot learn, since its units stay equal.

    Returns
    -------
    numpy.ndarray
        float64, of the shape that was asked for.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import initializers
    >>> initializers.zeros(np.random.default_rng(0), (2, 3), 2, 3).shape
    (2, 3)
    """
    return np.zeros(shape)


@dataclass(frozen=True)
class normal:
    """Normal with standard deviation `std`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import initializers
    >>> bool(abs(initializers.normal(0.1)(np.random.default_rng(0), (100, 100), 100, 100).std() - 0.1) < 0.01)
    True
    """

    std: float

    def __post_init__(self) -> None:
        check_fields(self, std=NOT_NEGATIVE)

    def __call__(self, rng: Rng, shape: Shape, fan_in: int, fan_out: int) -> HostArray:
        return rng.normal(0.0, self.std, shape)


INITIALIZERS: dict[str, Law] = {
    law.__name__: law
    for law in (he_normal, he_uniform, glorot_normal, glorot_uniform, lecun_normal, lecun_uniform, orthogonal, zeros)
}


def resolve(law: Initializer) -> Law:
    """Return the function that `law`, a name or a function, stands for."""
    also = "; normal(std) or a function also serve"
    found = named("initializer", law, INITIALIZERS, Law, also)  # type: ignore[type-abstract]
    try:
        with suppress(ValueError):  # a function that does not tell what it takes
            inspect.signature(found).bind(None, (), 1, 1)
    except TypeError as error:
        raise ConfigError(
            f"initializer {law!r} must take (rng, shape, fan_in, fan_out) and return an array of that shape: {error}"
        ) from error
    return found


def initialize(law: Initializer, rng: Rng, shape: Shape, fan_in: int, fan_out: int) -> HostArray:
    """Draw an array of a shape from `law`, and check what a user's function returned."""
    drawn = np.asarray(resolve(law)(rng, shape, fan_in, fan_out), dtype=np.float64)
    if drawn.shape != shape:
        raise ConfigError(f"initializer {law!r} returned shape {drawn.shape}, expected {shape}")
    if not np.isfinite(drawn).all():
        raise ConfigError(f"initializer {law!r} returned NaN or infinity")
    return drawn


if not TYPE_CHECKING:  # to whom every name would then be right
    __getattr__, __dir__ = public(__name__, [*INITIALIZERS, "normal"])
