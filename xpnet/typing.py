"""Names for the types that the whole of xpnet speaks of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = Any
"""An array of whichever library computes. The standard has no type for it, and libraries none in common."""
HostArray: TypeAlias = np.ndarray[Any, Any]
"""An array of NumPy's, in the host's memory."""
Shape: TypeAlias = tuple[int, ...]
Params: TypeAlias = Mapping[str, Array]
"""Parameters, or running statistics, of one layer by name."""
LayerParams: TypeAlias = list[dict[str, Array]]
"""The parameters of each layer."""
Rng: TypeAlias = np.random.Generator
