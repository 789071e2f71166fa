"""Recording a GPU's step on the host, with arrays that take part by their shape and data type alone.

Nobody looks at the numbers of a recording, so none are computed: results are zeros in memory that nobody touches, and
that the operating system therefore never gives. Recording a large network is as quick as recording a small one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import array_api_compat.numpy as host
import numpy as np

from xpnet.backends.tape.record import CannotRecord, Tape, Traced, TraceNamespace
from xpnet.typing import HostArray


class Hollow(HostArray):
    """An array whose elementwise functions and products have the right shape, data type and layout, and no numbers."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [a.view(np.ndarray) if isinstance(a, Hollow) else a for a in inputs]
        arrays = [a for a in plain if isinstance(a, np.ndarray)]
        if method == "__call__" and not options and ufunc.nout == 1:
            if ufunc.signature is None:
                shape = np.broadcast_shapes(*(a.shape for a in arrays))
                return untouched(shape, _dtype(ufunc, plain), next((a for a in arrays if a.shape == shape), None))
            if ufunc is np.matmul and [a.ndim for a in arrays] == [2, 2] and arrays[0].shape[1] == arrays[1].shape[0]:
                return untouched((arrays[0].shape[0], arrays[1].shape[1]), _dtype(ufunc, plain))
        return getattr(ufunc, method)(*plain, **options)


def _dtype(ufunc: np.ufunc, inputs: list[Any]) -> Any:
    """Return the data type of ``ufunc(*inputs)``: that of its first number."""
    return ufunc(*(a[(slice(1),) * a.ndim] if isinstance(a, np.ndarray) else a for a in inputs)).dtype


def untouched(shape: tuple[int, ...], dtype: Any, like: HostArray | None = None) -> HostArray:
    """Return zeros whose axes lie in memory as those of `like` do, or else in order."""
    if like is None:
        return np.zeros(shape, dtype)
    order = sorted(range(like.ndim), key=lambda axis: -abs(like.strides[axis]))
    flat: HostArray = np.zeros([shape[axis] for axis in order], dtype)
    return flat.transpose([order.index(axis) for axis in range(like.ndim)])


class DeviceTape(Tape):
    """The operations of a step, recorded on hollow arrays."""

    def given(self, array: Any) -> Traced:
        """Return a stand-in for an array of the device."""
        if not array.flags.c_contiguous:
            raise CannotRecord("an array of the step is not contiguous")
        return super().given(np.zeros(array.shape, array.dtype).view(Hollow))

    def record(
        self, kind: str, function: Any, operands: list[Any], result: Any, options: tuple[Any, ...] = ()
    ) -> Traced:
        traced = super().record(kind, function, operands, result, options)
        if traced.buffer.kind == "result":
            traced.array = traced.buffer.array = traced.array.view(Hollow)
        return traced


class DeviceNamespace(TraceNamespace):
    """What the step is handed: the host's library while it is recorded, the device's when it is replayed."""

    def __init__(self, tape: Tape, xp: Any, array_type: type) -> None:
        super().__init__(tape, host)
        self._device_xp, self._array_type = xp, array_type

    def _recorder(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        device = getattr(self._device_xp, name)

        def either(*arguments: Any, **options: Any) -> Any:
            return (device if self._of_device(arguments) else original)(*arguments, **options)

        return super()._recorder(name, either)

    def _of_device(self, arguments: Any) -> bool:
        return any(
            self._of_device(a) if isinstance(a, list | tuple) else isinstance(a, self._array_type) for a in arguments
        )


def record(
    step: Callable[[Any, Mapping[str, Any]], None], xp: Any, array_type: type, arrays: Mapping[str, Any]
) -> tuple[Tape, dict[str, Traced]]:
    """Return what `step` would do to the `arrays` of a device, and their stand-ins by name.

    Raises
    ------
    Exception
        Of any type: the step looks at a value, or calls what is not in the standard.
    """
    tape = DeviceTape()
    given = {name: tape.given(array) for name, array in arrays.items()}
    with np.errstate(all="ignore"):
        step(DeviceNamespace(tape, xp, array_type), given)
    return tape, given
