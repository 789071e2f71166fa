"""What a backend is; the defaults serve any library that follows the array API standard."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from xpnet.errors import NotRecordedWarning, warn_user
from xpnet.typing import Array, HostArray

Step = Callable[[Any, Mapping[str, Array]], None]


class Program(Protocol):
    """A compiled step: called with a number, it does that many steps."""

    @property
    def unroll(self) -> int:
        """The number of steps that is best asked for at once."""

    def __call__(self, steps: int = 1) -> None:
        """Do `steps` steps."""


@dataclass(frozen=True)
class Eager:
    """A step that is run as it is written; `after` is called after each."""

    step: Step
    xp: Any
    arrays: Mapping[str, Array]
    unroll: int = 1
    after: Callable[[], None] = lambda: None

    def __call__(self, steps: int = 1) -> None:
        for _ in range(steps):
            self.step(self.xp, self.arrays)
            self.after()


class Loader:
    """Brings blocks of rows into arrays on the device, from any thread, while the device works; the plain way.

    `room` gives memory on the host for a block, and `send` takes what was written there to the device.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def mark(self) -> Any:
        """Return a mark of what the device has been asked for so far."""

    def after(self, mark: Any) -> None:
        """Let what is sent from now on wait until the device has come to a mark."""

    def room(self, array: Array, start: int, stop: int, dtype: np.dtype[Any]) -> HostArray:
        """Return memory for the rows of an array from `start` to `stop`."""
        return np.empty((stop - start, *array.shape[1:]), dtype)

    def send(self, room: HostArray, array: Array, start: int) -> None:
        """Copy rows into an array, from row `start` on."""
        array[start : start + len(room), ...] = self.backend.asarray(room)

    def finish(self) -> None:
        """Wait until all that was sent is there."""


class Backend:
    """An array library on one device.

    Attributes
    ----------
    name : str
        What the user writes, for example ``"numpy"`` or ``"cupy:1"``.
    xp : namespace
        The array API namespace that every layer, loss and optimizer is handed.
    device : object
        The device in the library's own terms; creation functions take it.
    is_host : bool
        Whether its arrays are NumPy's own, so that nothing is moved.
    asynchronous : bool
        Whether the device works behind the host's back, so that looking at a number stalls both.
    replays : bool
        Whether what was captured is replayed by the host, which saves its memory's allocation and may be compiled.
    at_once : int
        How many numbers a layer that works part by part takes at a time: on a CPU as many as its cache holds.
    """

    name: str
    xp: Any
    device: Any
    asynchronous: bool = False
    is_host: bool = False
    replays: bool = False
    at_once: int = 2**15

    def asarray(self, a: Any, dtype: str | None = None) -> Array:
        """Return `a` (an array of this backend, a NumPy array or anything NumPy accepts) on the device."""
        return self.xp.asarray(a, dtype=None if dtype is None else getattr(self.xp, dtype), device=self.device)

    def borrow(self, a: HostArray) -> Array:
        """Return an array of the host that is only going to be read, on the device: itself, or moved there."""
        return self.asarray(a)

    def check_dtype(self, dtype: str) -> None:
        """Raise `DTypeError` if the device cannot compute in this data type, which is "float32" or "float64"."""

    def from_dlpack(self, a: Any) -> Array:
        """Return an array of another library that lies on this device as one of this library, in the same memory."""
        return self.xp.from_dlpack(a)

    def dlpack_device(self) -> tuple[int, int] | None:
        """Return the device as DLPack numbers it, or None if no arrays of other libraries are taken."""
        return None

    def to_numpy(self, a: Array) -> HostArray:
        """Return `a` on the host: itself if it is there, else a copy, for which this waits for the device."""
        return np.asarray(a)

    def owns(self, a: Any) -> bool:
        """Say whether `a` is an array of this library on this device."""
        raise NotImplementedError

    def contiguous(self, a: Array) -> Array:
        """Return an array of this backend as a compiled step takes it: where the layout counts, row after row."""
        return a

    def same_place(self, other: Backend) -> bool:
        """Say whether arrays of `other` are at home here, whatever else the two may be told."""
        return self == other

    def address(self) -> str:
        """Return what the device is called by all processes of the machine, whichever devices each may see."""
        return self.name

    def synchronize(self) -> None:
        """Wait until the device has done everything asked of it so far."""

    def out_of_memory(self, error: Exception) -> bool:
        """Say whether `error` is the library's way to say that memory ran out."""
        return isinstance(error, MemoryError)

    def release_memory(self) -> None:
        """Give back memory that the library keeps in reserve."""

    def free_memory(self) -> str:
        """Return a sentence that says how much memory is free, or nothing if that is not known."""
        return ""

    def free_bytes(self) -> float | None:
        """Return how many bytes of the device's own memory are free, or None if it has no other than the host."""
        return None

    def loader(self) -> Loader:
        """Return what brings blocks of rows to the device while it works."""
        return Loader(self)

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which new arrays are made on this device."""
        return contextlib.nullcontext()

    def using(self, cores: int | None) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which so many cores are used at most, unless this handle was told how many to use."""
        return contextlib.nullcontext()

    def fuse(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """Return the elementwise function `f` as one kernel, or `f` itself."""
        return f

    def compile(self, step: Step, arrays: Mapping[str, Array], changes: Sequence[Array]) -> Program:
        """Return a program that does what ``step(xp, arrays)`` does, captured if the backend can.

        `step` changes `arrays` in place only, reads nothing back to the host and takes no decision
        that depends on a value: such a step can be recorded once and replayed. `changes` are the arrays
        that it changes; compiling leaves them as they were.
        """
        return Eager(step, self.xp, arrays)

    def capture(self, step: Step, arrays: Mapping[str, Array], changes: Sequence[Array]) -> Program:
        """Return a program that does what ``step(xp, arrays)`` does, with as little work of the host's as can be.

        Other than `compile` it makes nothing new of the step: it is for what is done some dozen times.
        """
        return Eager(step, self.xp, arrays)

    def tell_as_written(self, reason: Exception) -> None:
        """Warn, once for each reason, that steps are run as they are written."""
        told: set[Any] = vars(self).setdefault("_told", set())
        if reason.args[:1] not in told:
            told.add(reason.args[:1])
            warn_user(
                f"the training step is run as it is written, which is slower than from a recording: {reason}",
                NotRecordedWarning,
            )

    def describe(self) -> str:
        """Return one line about the library's version and the device."""
        return f"{self.xp.__name__} on {self.device}"

    def __repr__(self) -> str:
        return f"<xpnet backend {self.name!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Backend) and type(self) is type(other) and self.name == other.name

    def __hash__(self) -> int:
        return hash((type(self), self.name))

    def __deepcopy__(self, memo: dict[int, Any]) -> Backend:
        return self  # a handle: copies of a network share it

    def __reduce__(self) -> Any:
        return type(self), ()
