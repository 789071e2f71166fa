"""Networks as files, and as graphs for other programs."""

from typing import Any

from xpnet.keywords import absent

__all__ = ["export_training"]


def __getattr__(name: str) -> Any:
    if name == "export_training":  # when it is asked for: what trains stands above what saves
        from xpnet.saving.onnx.training import export_training

        return export_training
    raise absent(__name__, __all__)(name)
