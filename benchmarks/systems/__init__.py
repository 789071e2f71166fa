"""One module a system. A module is imported only in the process that measures it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """Where a system's code is, and what the parent must know before it starts the system's process.

    `package` is what has to be installed, and whose import is timed (`imports`); a system whose `loop` is "compiled"
    runs many steps in one call of compiled code, "python" means that Python starts every step.
    """

    module: str
    factory: str
    package: str
    imports: str
    options: dict[str, object]
    loop: str = "python"
    gpu: bool = False
    needs: tuple[str, ...] = ()  # further packages
    environment: tuple[tuple[str, str], ...] = ()


_TORCH, _JAX = ("with_torch", "Torch", "torch", "torch"), ("with_jax", "Jax", "jax", "jax, jax.numpy")
_XPNET = ("with_xpnet", "Xpnet", "xpnet", "xpnet")
_KERAS = ("with_keras", "Keras", "keras", "keras")

SYSTEMS: dict[str, Entry] = {
    "floor": Entry("floor", "Floor", "numpy", "numpy", {}),
    "xpnet-fast": Entry(*_XPNET, {"backend": "numpy"}, needs=("llvmlite",), loop="compiled"),
    "xpnet-numpy": Entry(*_XPNET, {"backend": "numpy", "plain": True}),
    "jax-scan": Entry(*_JAX, {"scan": True, "device": "cpu"}, loop="compiled"),
    "jax-jit": Entry(*_JAX, {"scan": False, "device": "cpu"}),
    "torch-eager": Entry(*_TORCH, {"compiled": False, "device": "cpu"}),
    "torch-compiled": Entry(*_TORCH, {"compiled": True, "device": "cpu"}),
    "keras-jax": Entry(*_KERAS, {}, environment=(("KERAS_BACKEND", "jax"),)),
    "sklearn": Entry("with_sklearn", "Sklearn", "sklearn", "sklearn.neural_network", {}),
    "thinc": Entry("with_thinc", "Thinc", "thinc", "thinc.api", {}),
    "xpnet-cupy": Entry(*_XPNET, {"backend": "cupy"}, loop="compiled", gpu=True),
    "jax-scan-cuda": Entry(*_JAX, {"scan": True, "device": "gpu"}, loop="compiled", gpu=True),
    "jax-jit-cuda": Entry(*_JAX, {"scan": False, "device": "gpu"}, gpu=True),
    "torch-eager-cuda": Entry(*_TORCH, {"compiled": False, "device": "cuda"}, gpu=True),
    "torch-compiled-cuda": Entry(*_TORCH, {"compiled": True, "device": "cuda"}, gpu=True),
    "torch-graph-cuda": Entry("with_torch_graph", "TorchGraph", "torch", "torch", {}, gpu=True),
}
