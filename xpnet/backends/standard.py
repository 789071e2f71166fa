"""Any library that follows the array API standard, as it is: nothing is recorded, fused or captured."""

from __future__ import annotations

import contextlib
from importlib import import_module
from typing import Any

import array_api_compat
import numpy as np

from xpnet.backends.base import Backend
from xpnet.typing import Array, HostArray


class StandardBackend(Backend):
    """Any library that follows the array API standard, on the device where the user's arrays are.

    Parameters
    ----------
    library : str
        The importable name of the namespace.
    device : object
        In the library's own terms.
    """

    def __init__(self, library: str, device: Any) -> None:
        self.library, self.device = library, device
        self.xp = import_module(library)
        self.name = f"{library}:{device}"

    def owns(self, a: Any) -> bool:
        if not array_api_compat.is_array_api_obj(a) or isinstance(a, np.ndarray):
            return False
        return array_api_compat.array_namespace(a) is self.xp and array_api_compat.device(a) == self.device

    def to_numpy(self, a: Array) -> HostArray:
        host = self.xp.__array_namespace_info__().default_device()
        return np.asarray(array_api_compat.to_device(a, host))

    def active(self) -> contextlib.AbstractContextManager[Any]:
        return np.errstate(all="ignore")  # for libraries that compute with NumPy; divergence is found by looking

    def __reduce__(self) -> Any:
        return StandardBackend, (self.library, self.device)
