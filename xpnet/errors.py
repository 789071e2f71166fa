"""Errors: each derives from `XpnetError` and from the built-in type that people expect.

Every message says which argument, what came, what is accepted, and what to do.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class XpnetError(Exception):
    """Base class of every error that xpnet raises on purpose."""


class ConfigError(XpnetError, ValueError):
    """A hyper-parameter has an impossible value."""


class ExportError(ConfigError):
    """Something that has no form as an ONNX graph; the message names it, its place, and what is missing."""


class ShapeError(XpnetError, ValueError):
    """Arrays, or layers, whose shapes do not fit together."""


class DTypeError(XpnetError, TypeError):
    """A data type that xpnet does not compute with."""


class DataError(XpnetError, ValueError):
    """Data with impossible values: NaN, infinities, labels out of range, no rows."""


class NonFiniteError(XpnetError, FloatingPointError):
    """Training produced NaN or infinity; the parameters are those of the last finite step."""


class GradientError(XpnetError, AssertionError):
    """A hand-written derivative that is not the derivative of its function."""


class ArgumentError(XpnetError, TypeError):
    """A call with an argument too few, too many, or by a name that is not taken; or of what is not called."""


class PromiseError(XpnetError, TypeError):
    """A layer, loss or optimizer of one's own does not do what its base class promises."""


def missing_method(owner: object, signature: str) -> PromiseError:
    """Return what is wrong with an object of one's own that does not override a method.

    Examples
    --------
    >>> import xpnet
    >>> print(xpnet.errors.missing_method(xpnet.ReLU(), "forward(xp, params, x, context)"))
    ReLU must have forward(xp, params, x, context)
    """
    return PromiseError(f"{type(owner).__name__} must have {signature}")


class CheckpointError(XpnetError, ValueError):
    """A file that is not a checkpoint of the expected format, or does not fit the network."""


class CheckpointIOError(CheckpointError, OSError):
    """The operating system refused to read or write a checkpoint."""


class IntegrityError(DataError):
    """A file whose SHA-256 is not the published one."""


class IDXFormatError(DataError):
    """A file that is not a well-formed IDX file."""


class DownloadError(XpnetError, OSError):
    """No mirror delivered the file."""


class BackendUnavailableError(XpnetError, ImportError):
    """What was asked for cannot run here; the message names what is missing, and the command that installs it."""


class BackendMismatchError(XpnetError, TypeError):
    """An array that belongs to another array library or device."""


class OutOfMemoryError(XpnetError, MemoryError):
    """Not enough memory on the host or the device."""


class AlreadyTrainingError(XpnetError, RuntimeError):
    """Two concurrent trainings of one network."""


class UnknownNameError(XpnetError, KeyError):
    """Something is asked for by a name that nothing has."""

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError would put the sentence between quotes


class UnknownAttributeError(XpnetError, AttributeError):
    """An attribute that is not there; the message says what serves instead."""


class PrecisionWarning(UserWarning):
    """A number of the data became another one in the network's lower precision."""


class NotRecordedWarning(UserWarning):
    """A training step is run as it is written, which is right, and slower than from a recording."""


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the caller's own code, however deep in xpnet the reason was found."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "xpnet":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


SYNONYMS = {
    "mse": "mean_squared_error", "l2": "mean_squared_error", "mae": "mean_absolute_error", "l1": "mean_absolute_error",
    "bce": "binary_cross_entropy", "log_loss": "cross_entropy", "nll": "cross_entropy", "softmax": "cross_entropy",
    "categorical_crossentropy": "cross_entropy", "sparse_categorical_crossentropy": "cross_entropy",
    "logistic": "sigmoid", "swish": "silu", "momentum": "sgd",
}  # fmt: skip
"""Other words for names of xpnet's."""


def closest(name: str, known: Iterable[str]) -> str:
    """Return `" did you mean 'x'?"` for the known name most like `name`, or an empty string."""
    if SYNONYMS.get(str(name).lower()) in (known := [*known]):
        return f" Did you mean {SYNONYMS[str(name).lower()]!r}?"
    lower = {one.lower(): one for one in known}
    match = difflib.get_close_matches(str(name).lower(), lower, n=1, cutoff=0.6)
    return f" Did you mean {lower[match[0]]!r}?" if match else ""


@contextmanager
def needs(what: str, package: str, extra: str) -> Iterator[None]:
    """Say which extra to install if something is imported here that is not there."""
    try:
        yield
    except ImportError as error:
        raise BackendUnavailableError(
            f'{what} needs {package}, which cannot be imported ({error}). Install it: pip install "xpnet[{extra}]", or '
            f'in a clone of the repository pip install -e ".[{extra}]"'
        ) from error
