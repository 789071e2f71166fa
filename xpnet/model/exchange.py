"""Arrays of other libraries, by DLPack: taken where they lie if the network computes there, and else refused."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backends import Backend
from xpnet.errors import BackendMismatchError, DTypeError

HOST = (1, 3, 11)
"""DLPack's numbers of the host's memory: any, and that which is pinned for CUDA or ROCm."""
PLACES = {
    1: ("the CPU", "numpy"), 2: ("CUDA device {}", "cupy:{}"), 8: ("Apple's GPU", "torch:mps"),
    10: ("ROCm device {}", "torch:cuda:{}"), 14: ("oneAPI device {}", "torch:xpu:{}"),
}  # fmt: skip
"""Of DLPack's numbers of devices: the device in words, and a backend that computes there."""


def taken(name: str, a: Any, backend: Backend) -> Any:
    """Return an array of another library as one of the backend's, in the same memory; anything else as it is.

    Raises
    ------
    BackendMismatchError
        It lies on another device.
    DTypeError
        Its library does not hand it on, as an array of bfloat16, or one that gradients are to be computed for.
    """
    if isinstance(a, np.ndarray | np.generic) or backend.owns(a) or not hasattr(a, "__dlpack__"):
        return a
    here = backend.dlpack_device()
    if here is None:
        return a
    library = f"{type(a).__module__}.{type(a).__name__}"
    try:
        kind, number = map(int, a.__dlpack_device__())
        if kind in HOST:
            kind, number = 1, 0
        if (kind, number) == here:
            return backend.from_dlpack(a)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise DTypeError(
            f"{name} is a {library} that cannot be taken as it is ({error}); pass a plain array of booleans, integers "
            "or real numbers"
        ) from error
    place, other = (words.format(number) for words in PLACES.get(kind, (f"DLPack's device {kind}:{{}}", "...")))
    raise BackendMismatchError(
        f"{name} is a {library} on {place}, but the network computes with {backend.name}, and nothing moves silently. "
        f"Compute where the data is, net.to('{other}') or an estimator's backend='{other}'; or move the data to where "
        "the network is, or pass a NumPy array, which every network takes"
    )
