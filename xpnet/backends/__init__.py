"""Backends: which array library computes, and on which device.

A backend is a small handle that a network carries. It holds what the array API standard does not
have (moving data, waiting for the device, fusing, capturing) and no mathematics of a layer. There is
no global switch and no environment variable, and nothing ever falls back to another backend.
"""

from __future__ import annotations

from typing import Any

from xpnet.backends.base import Backend
from xpnet.errors import BackendUnavailableError, ConfigError, closest
from xpnet.keywords import named
from xpnet.validation import check_flag, check_size

__all__ = ["NAMES", "Backend", "available", "get", "missing"]

NAMES = ("numpy", "cupy", "torch")


@named
def get(
    name: str | Backend = "numpy", device: int | None = None, *, tf32: bool = False, threads: int | None = None
) -> Backend:
    """Return the backend called `name`, after checking that it really works on this machine.

    Parameters
    ----------
    name : str or Backend
        ``"numpy"``; ``"cupy"`` (the first CUDA device), ``"cupy:1"`` (the second); ``"torch"`` (PyTorch on the CPU),
        ``"torch:cuda"``, ``"torch:cuda:1"``, ``"torch:mps"`` (Apple), ``"torch:xpu"`` (Intel); or ``"auto"``: CuPy if
        it works here, NumPy otherwise. A `Backend` is returned as it is.
    device : int, optional
        The CUDA device's number, for ``"cupy"`` only.
    tf32 : bool
        For ``"cupy"``: whether float32 matrix products may round their factors to TF32 (10 bits of
        mantissa), which is several times faster on recent GPUs. Off by default.
    threads : int, optional
        For ``"numpy"``: on how many cores steps and products run, which changes no number. By default on all that this
        process may use, up to eight, or on as many as NumPy's own products, if these were told to use fewer.

    Returns
    -------
    Backend

    Raises
    ------
    BackendUnavailableError
        CuPy, PyTorch, the driver, a CUDA library or the device is missing; the message says which of them,
        and what to install.
    ConfigError
        The name is not one of the above.

    Examples
    --------
    >>> import xpnet
    >>> xpnet.backends.get("numpy").name
    'numpy'
    """
    check_flag("tf32", tf32)
    if threads is not None:
        check_size("threads", threads)
    if isinstance(name, Backend):
        return name
    if not isinstance(name, str):
        raise ConfigError(f"backend must be a name or a Backend, got {name!r}; names are {', '.join(NAMES)}")
    base, colon, number = name.partition(":")
    if base == "torch":
        if tf32 or device is not None:
            raise ConfigError("tf32 and device are options of backend 'cupy'; write 'torch:cuda:1' for a device")
        from xpnet.backends.torch import on_device as torch_on

        return torch_on(number if colon else "cpu")
    if colon:
        if not (number.isascii() and number.isdecimal()) or device is not None:
            raise ConfigError(f"backend {name!r} is not understood; write 'cupy:1' or get('cupy', device=1)")
        device = int(number)
    elif device is not None:
        device = check_size("device", device, 0)
    if base == "auto" and device is None:
        return get("cupy", tf32=tf32) if missing("cupy") is None else get("numpy", threads=threads)
    if base == "numpy":
        if tf32:
            raise ConfigError("tf32 is an option of backend 'cupy' only")
        if device is not None:
            raise ConfigError("backend 'numpy' computes on the CPU and takes no device number")
        from xpnet.backends.numpy import NumpyBackend

        return NumpyBackend(threads)
    if base == "cupy":
        if threads is not None:
            raise ConfigError("threads is an option of backend 'numpy' only")
        from xpnet.backends.cupy import on_device

        return on_device(0 if device is None else device, tf32)
    others = {"gpu": "cupy", "cuda": "cupy", "cpu": "numpy", "mps": "torch:mps"}
    hint = f" Did you mean {others[base]!r}?" if base in others else closest(base, NAMES)
    raise ConfigError(f"unknown backend {name!r}; backends are {', '.join(NAMES)} and auto.{hint}")


def missing(name: str) -> str | None:
    """Return the reason why the backend of this name does not work here, or None if it does.

    Returns
    -------
    str or None

    Examples
    --------
    >>> import xpnet
    >>> print(xpnet.backends.missing("numpy"))
    None
    """
    try:
        get(name)
    except BackendUnavailableError as error:
        return str(error)
    return None


def available() -> dict[str, str | None]:
    """Return each backend's name with None if it works here, or else with the reason why it does not.

    >>> import xpnet
    >>> xpnet.backends.available()["numpy"] is None
    True

    Returns
    -------
    dict
    """
    return {name: missing(name) for name in NAMES}


def describe() -> dict[str, Any]:
    """Return what a bug report needs: per backend its reason or its library's version and devices."""
    facts: dict[str, Any] = {}
    for name, reason in available().items():
        facts[name] = reason if reason is not None else get(name).describe()
    return facts
