"""Networks as files, and as graphs for other programs."""

from typing import Any

from xpnet.keywords import public

__all__ = ["export_training"]


def __getattr__(name: str) -> Any:
    if name == "export_training":  # when it is asked for: what trains stands above what saves
        from xpnet.saving.onnx.training import export_training

        return export_training
    return public(__name__, __all__)[0](name)
