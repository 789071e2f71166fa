"""One file of named arrays with a description: the safetensors format, with a checksum of everything.

The file is a length (8 bytes, little endian), a JSON header of that length, and the arrays' bytes one after another::

    {"__metadata__": {"xpnet_format": "1", "description": "{...}", "description_sha256": "...", "sha256:0.W": "..."},
     "0.W": {"dtype": "F32", "shape": [784, 512], "data_offsets": [0, 1605632]}, ...}

Every program that reads safetensors reads it. The format has no checksums; ours stand in the metadata. That of an array
covers its name, type and shape too: the SHA-256 of `json.dumps([name, "F32", [784, 512]])` followed by its bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from xpnet.errors import CheckpointError, DTypeError, OutOfMemoryError
from xpnet.files.atomic import io_error, open_regular, write_atomically
from xpnet.files.header import DTYPES, FORMAT, Entry, Header, tensor_sha256
from xpnet.validation import check_path

MAX_HEADER = 1 << 20
"""Bytes that a header may have."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}

_FOREIGN = {
    b"PK\x03\x04": "a zip archive (as .npz, .pt and .keras files are)",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUM": "a NumPy .npy file",
    b"\x1f\x8b": "a gzip file",
    **{bytes([0x80, protocol]): "a Python pickle" for protocol in range(2, 6)},
}


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, npt.ArrayLike], description: Any) -> None:
    """Write named arrays and a description to `path`, atomically and durably.

    The same arrays and description always give the same bytes. Arrays may be strided, transposed or of either byte
    order: their values are written.

    Parameters
    ----------
    path : str or path
        The file; see `xpnet.files.atomic.write_atomically` for modes, links and what a crash leaves.
    tensors : mapping of str to array
        At most 10,000 arrays of bool, (unsigned) integers, float16, float32 or float64.
    description : JSON value
        Dictionaries with str keys, lists, str, int, finite floats, bool and None; about 1,000 layers' worth.

    Raises
    ------
    DTypeError
        An array of another type.
    CheckpointError
        Names or a description that `read_tensors` would not take back. Nothing is written.
    CheckpointIOError
        The system refused to write; the old file is as it was.
    """
    arrays = sorted(
        ((name, _prepare(name, array)) for name, array in tensors.items()),
        key=lambda item: (-item[1].itemsize, item[0]),
    )
    try:
        text = json.dumps(description, allow_nan=False, separators=(",", ":"))
        metadata = {
            "xpnet_format": str(FORMAT),
            "description": text,
            "description_sha256": hashlib.sha256(text.encode()).hexdigest(),
        }
        header: dict[str, Any] = {"__metadata__": metadata}
        begin = 0
        for name, array in arrays:
            entry = Entry(name, _NAMES[array.dtype], array.shape, begin, begin + array.nbytes)
            metadata[f"sha256:{name}"] = tensor_sha256(entry, array.reshape(-1).view(np.uint8))
            header[name] = {"dtype": entry.dtype, "shape": array.shape, "data_offsets": [begin, entry.end]}
            begin = entry.end
        encoded = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"cannot write {check_path(path)!r}: not expressible in JSON: {error}") from error
    encoded += b" " * (-len(encoded) % 8)
    where = f"cannot write {check_path(path)!r}"
    if len(encoded) > MAX_HEADER:
        raise CheckpointError(
            f"{where}: a header of {len(encoded)} bytes, at most {MAX_HEADER} are accepted; use fewer tensors"
        )
    if Header(encoded, where, begin).description != description:
        raise CheckpointError(f"{where}: the description must be made of JSON's own types (lists, no tuples)")
    data = (array.reshape(-1).view(np.uint8).data for _, array in arrays if array.size)
    write_atomically(path, (struct.pack("<Q", len(encoded)), encoded, *data))


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, npt.NDArray[Any]], Any]:
    """Read what `write_tensors` wrote.

    The file may come from anybody: it is checked whole before anything is returned, in time proportional to its size
    and in memory of at most its size plus 16 MiB. Nothing in it is imported, unpickled or run.

    Returns
    -------
    tensors : dict of str to ndarray
        The arrays, writable; they share one block of memory.
    description : JSON value
        As it was given to `write_tensors`.

    Raises
    ------
    CheckpointError
        The file is damaged, of a newer format, or no file of xpnet; the message names the byte and the reason.
    CheckpointIOError
        The system refused to read.
    OutOfMemoryError
        No memory for the arrays.
    """
    name = check_path(path)
    with open_regular(name) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            text = _read_header(file, name, size)
            header = Header(text, repr(name), size - 8 - len(text))
            data = _read_data(file, name, size - 8 - len(text))
        except OSError as error:
            raise io_error("read", name, error) from error
    return header.arrays(data), header.description


def _prepare(name: str, array: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return `array` contiguous and little endian."""
    if not isinstance(name, str) or name == "__metadata__":
        raise CheckpointError(f"a tensor's name must be a str other than '__metadata__', got {name!r}")
    result = np.asarray(array)
    dtype = result.dtype.newbyteorder("<")
    if dtype not in _NAMES:
        raise DTypeError(f"tensor {name!r} has the dtype {result.dtype}; a file holds {', '.join(map(str, _NAMES))}")
    return np.asarray(result, dtype=dtype, order="C")  # not `ascontiguousarray`, which gives 0-d arrays an axis


def _read_header(file: io.FileIO, name: str, size: int) -> bytes:
    def fail(reason: str) -> NoReturn:
        raise CheckpointError(f"{name!r}, byte 0: {reason}; it is damaged or not written by xpnet")

    prefix = file.read(8)
    if len(prefix) < 8:
        fail(f"the file has {len(prefix)} bytes, too few for a header")
    (length,) = struct.unpack("<Q", prefix)
    if length > MAX_HEADER:
        for magic, kind in _FOREIGN.items():
            if prefix.startswith(magic):
                fail(f"this is {kind}, not a safetensors file")
        fail(f"the header would have {length} bytes, at most {MAX_HEADER} are accepted")
    text = file.read(length) if length <= size - 8 else b""
    if len(text) != length:
        fail(f"the header has {length} bytes, but the file only {size}: it is truncated")
    return text


def _read_data(file: io.FileIO, name: str, size: int) -> npt.NDArray[np.uint8]:
    try:
        data = np.empty(size, np.uint8)
    except MemoryError as error:
        raise OutOfMemoryError(
            f"reading {name!r} needs {size} bytes of memory; free some, or use a larger machine"
        ) from error
    done = 0
    while done < size:
        count = file.readinto(data[done:].data)
        if not count:
            raise CheckpointError(f"{name!r} was cut while it was read: {size - done} bytes are missing; read it again")
        done += count
    return data
