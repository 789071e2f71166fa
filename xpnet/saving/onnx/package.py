"""The package onnx, which is asked for when something is exported, and what it offers."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from xpnet.errors import BackendUnavailableError, ConfigError

OLDEST, USUAL = 18, 21
"""Versions of the standard's operators: what is written here exists since the one, the other has every layer but one.

Before 18, ReduceMax and its like took their axes in another way, and there were no operations on bits.
"""


def load() -> Any:
    """Return the package, or raise the error that names the command which installs it."""
    try:
        return import_module("onnx")
    except ImportError as error:
        raise BackendUnavailableError(
            f"an export needs the package onnx, which cannot be imported ({error}). Install it: "
            'pip install "xpnet[onnx]"'
        ) from error


def check_opset(opset: Any) -> int:
    """Return a version of the standard's operators that the installed package has, or raise."""
    newest = load().defs.onnx_opset_version()
    if isinstance(opset, bool) or not isinstance(opset, int) or not OLDEST <= opset <= newest:
        raise ConfigError(
            f"opset must be an integer from {OLDEST} to {newest}, which is the newest that the installed onnx "
            f"{load().__version__} knows, got {opset!r}"
        )
    return opset
