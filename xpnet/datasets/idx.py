"""The IDX format of the MNIST files, read with suspicion.

An IDX file is a header and then the elements, everything big-endian:

    bytes 0, 1    zero
    byte  2       type of the elements; 0x08 is unsigned byte, the only one read here
    byte  3       number of dimensions, 1 to 3
    4 bytes each  the dimensions
    the rest      product(dimensions) bytes, the last dimension running fastest

The format is that of Yann LeCun's MNIST page; gzip is RFC 1952. What a file claims is compared with what it can hold
*before* memory is taken, so a file of a few kilobytes cannot fill the machine.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
import zlib
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from xpnet.backends import get
from xpnet.errors import IDXFormatError, IntegrityError
from xpnet.model.memory import explained

GZIP_MAGIC = b"\x1f\x8b"
# Deflate's longest copy is 258 bytes and costs at least two bits, one for the length and one for the distance.
DEFLATE_LIMIT = 1032
PIECE = 1 << 18
ELEMENT_TYPES = {0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}


def read_idx(path: str | os.PathLike[str], *, sha256: str | None = None) -> NDArray[np.uint8]:
    """Return the uint8 array that an IDX file of unsigned bytes holds, compressed with gzip or not.

    Whether it is compressed is seen from its first two bytes, not from its name. Memory stays within the declared size
    plus 2 MiB. `sha256` is what the *decompressed* file must have, as 64 hexadecimal digits: an IntegrityError says
    that it is another one, an IDXFormatError that it is malformed in any way, from the header to what follows its end.
    """
    with open(path, "rb") as file:
        array = decode_idx(file, os.fspath(path))
    if sha256 is not None:
        check_sha256(array, sha256, os.fspath(path))
    return array


def decode_idx(file: BinaryIO, name: str) -> NDArray[np.uint8]:
    """Decode an open, seekable file; `name` is what messages call it."""
    stored = file.seek(0, os.SEEK_END)
    file.seek(0)
    if stored == 0:
        raise IDXFormatError(f"{name}: the file is empty")
    compressed = file.read(2) == GZIP_MAGIC
    file.seek(0)
    member = _GzipMember(file, name) if compressed else None
    read: Callable[[int], bytes] = member.read if member else file.read

    shape = _read_header(read, name)
    header, count = 4 + 4 * len(shape), math.prod(shape)
    declares = f"{name}: declares {_by(shape)} = {count} bytes"
    if member is None and stored - header != count:
        raise IDXFormatError(f"{declares}, file has {stored - header}")
    if count > stored * DEFLATE_LIMIT:
        raise IDXFormatError(f"{declares}, more than {stored} bytes of gzip can hold ({DEFLATE_LIMIT} for each byte)")

    with explained(get("numpy"), f"reading {name}"):
        array = np.empty(count, np.uint8)
    filled = 0
    while filled < count:
        piece = read(min(PIECE, count - filled))
        if not piece:
            raise IDXFormatError(f"{declares}, file has {filled}")
        array[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
        filled += len(piece)
    if read(1):
        raise IDXFormatError(f"{declares}, file has at least {count + 1}")
    if member:
        member.check_nothing_follows()
    return array.reshape(shape)


def encode_header(shape: tuple[int, ...]) -> bytes:
    """Return the IDX header of a uint8 array of this shape."""
    return struct.pack(f">HBB{len(shape)}I", 0, 0x08, len(shape), *shape)


def check_sha256(array: NDArray[np.uint8], expected: str, name: str) -> None:
    """Raise IntegrityError unless header and elements of `array` together have the SHA-256 `expected`."""
    # A header has exactly one spelling, so these are the bytes of the decompressed file.
    digest = hashlib.sha256(encode_header(array.shape))
    digest.update(array.data)
    if digest.hexdigest() != expected.lower():
        raise IntegrityError(
            f"{name}: expected SHA-256 {expected.lower()} of the decompressed file, actual {digest.hexdigest()}; "
            "the file is not the published one and was not used"
        )


def _read_header(read: Callable[[int], bytes], name: str) -> tuple[int, ...]:
    magic = _read_exactly(read, 4, name)
    zeros, element_type, dimensions = struct.unpack(">HBB", magic)
    if zeros != 0:
        raise IDXFormatError(
            f"{name}: begins with {magic!r}; an IDX file begins with two zero bytes (or is compressed with gzip)"
        )
    if element_type != 0x08:
        known = ELEMENT_TYPES.get(element_type, "unknown to IDX")
        raise IDXFormatError(f"{name}: element type 0x{element_type:02X} ({known}); only 0x08 (uint8) is read")
    if not 1 <= dimensions <= 3:
        raise IDXFormatError(f"{name}: {dimensions} dimensions; 1 to 3 are read")
    shape: tuple[int, ...] = struct.unpack(f">{dimensions}I", _read_exactly(read, 4 * dimensions, name))
    if 0 in shape:
        raise IDXFormatError(f"{name}: declares {_by(shape)}; every dimension must be at least 1")
    return shape


def _read_exactly(read: Callable[[int], bytes], count: int, name: str) -> bytes:
    found = b""
    while len(found) < count:
        piece = read(count - len(found))
        if not piece:
            raise IDXFormatError(f"{name}: the file ends inside the header")
        found += piece
    return found


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


class _GzipMember:
    """The single gzip member that a file must be, decompressed no further than asked.

    Python's `gzip` module accepts reserved flags, joins members and raises three families of errors; zlib's own gzip
    mode checks flags, CRC and length by itself and stops at the end of the member.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        self._waiting = b""

    def read(self, limit: int) -> bytes:
        """Return 1 to `limit` bytes, or none at the end of the member, whose checksum has then been checked."""
        while not self._inflater.eof:
            try:
                piece = self._inflater.decompress(self._waiting, limit)
            except zlib.error as error:
                raise IDXFormatError(f"{self._name}: damaged gzip data: {error}") from error
            self._waiting = self._inflater.unconsumed_tail
            if piece:
                return piece
            # No output means that the input is used up, even where part of a symbol is still in the inflater.
            if not self._inflater.eof:
                self._waiting = self._file.read(PIECE // 4)
                if not self._waiting:
                    raise IDXFormatError(f"{self._name}: gzip data ends before its end marker and checksum (truncated)")
        return b""

    def check_nothing_follows(self) -> None:
        following = self._inflater.unused_data or self._file.read(2)
        if following.startswith(GZIP_MAGIC):
            raise IDXFormatError(f"{self._name}: a second gzip member follows the first; one is read")
        if following:
            raise IDXFormatError(f"{self._name}: bytes follow the end of the gzip data, beginning {following[:8]!r}")
