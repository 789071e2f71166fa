"""The header of a file of tensors: read strictly, and checked whole before any data is."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Container, Iterable
from typing import Any, NamedTuple, NoReturn

import numpy as np

from xpnet.errors import CheckpointError
from xpnet.files.json import Limits, fail, parse
from xpnet.typing import HostArray, Shape

FORMAT = 1
"""The version of the format that this xpnet writes, and the newest that it reads."""

MAX_TENSORS = 10_000
MAX_DIMENSIONS = 64
MAX_NAME = 1024
"""Bytes that a tensor's name may have in UTF-8."""
_MAX_SIZE = 2**63 - 1
_LISTED = 10  # names in an error
# A tensor and its checksum are 7 strings, 6 brackets and a few commas; the longest string is the description.
_LIMITS = Limits(characters=192 << 10, items=MAX_TENSORS + 8, tokens=17 * MAX_TENSORS)
_DESCRIPTION_LIMITS = Limits(characters=4096, items=50_000, tokens=50_000)

DTYPES = {
    name: np.dtype(code)
    for name, code in (
        *(("BOOL", "?"), ("U8", "u1"), ("I8", "i1"), ("U16", "<u2"), ("I16", "<i2"), ("U32", "<u4"), ("I32", "<i4")),
        *(("U64", "<u8"), ("I64", "<i8"), ("F16", "<f2"), ("F32", "<f4"), ("F64", "<f8")),
    )
}


class Entry(NamedTuple):
    name: str
    dtype: str
    shape: Shape
    begin: int
    end: int


class Header:
    """The header, checked: `description` and, once the data is there, `arrays`."""

    def __init__(self, text: bytes, where: str, data_size: int) -> None:
        self._where, self._data_start, self._data_size = where, 8 + len(text), data_size
        content = parse(text, f"{where}, header", _LIMITS, start=8)
        if not isinstance(content, dict):
            self._fail("it must be an object of JSON")
        metadata = content.pop("__metadata__", None)
        if len(content) > MAX_TENSORS:
            self._fail(f"more than {MAX_TENSORS} tensors")
        if not isinstance(metadata, dict) or "xpnet_format" not in metadata:
            self._fail("no 'xpnet_format' in the metadata, as in a safetensors file of another program")
        self._check_version(metadata.pop("xpnet_format"))
        entries = [self._entry(name, fields) for name, fields in content.items()]
        self._entries = sorted(entries, key=lambda entry: (entry.begin, entry.end))
        self._check_layout()
        self.description = self._description(metadata.pop("description", None), metadata.pop("description_sha256", ""))
        self._checksums = metadata
        self._match_checksums()

    def arrays(self, data: HostArray) -> dict[str, HostArray]:
        """Return the arrays as views of `data`, each checked against its SHA-256."""
        pieces = {entry: data[entry.begin : entry.end] for entry in self._entries}
        damaged = [e for e, piece in pieces.items() if tensor_sha256(e, piece) != self._checksums[f"sha256:{e.name}"]]
        if damaged:
            self._fail(f"sha256 of tensor {_listed((entry.name for entry in damaged), ' and of ')} differs", damaged[0])
        for entry, piece in pieces.items():
            if entry.dtype == "BOOL" and piece.max(initial=0) > 1:
                self._fail(f"tensor {entry.name!r:.80} has truth values other than 0 and 1", entry)
        return {entry.name: piece.view(DTYPES[entry.dtype]).reshape(entry.shape) for entry, piece in pieces.items()}

    def _fail(self, reason: str, at: Entry | None = None) -> NoReturn:
        place = "header" if at is None else f"byte {self._data_start + at.begin}"
        fail(f"{self._where}, {place}", reason)

    def _check_version(self, version: Any) -> None:
        if not isinstance(version, str) or not re.fullmatch("[1-9][0-9]{0,15}", version):
            self._fail(f"metadata 'xpnet_format' must be a positive integer in a string, got {version!r:.80}")
        if int(version) > FORMAT:
            raise CheckpointError(
                f"{self._where}: written by format {version}, this xpnet reads <= {FORMAT}; upgrade xpnet"
            )

    def _entry(self, name: str, fields: Any) -> Entry:
        """Return one tensor's place and shape, checked by themselves."""
        title, fields = f"tensor {name!r:.80}", fields if isinstance(fields, dict) else {}
        dtype, shape, offsets = (fields.get(field) for field in ("dtype", "shape", "data_offsets"))
        if len(name.encode()) > MAX_NAME:
            self._fail(f"{title} has a name of {len(name.encode())} bytes; at most {MAX_NAME} are accepted")
        if len(fields) != 3 or not _sizes(shape, range(MAX_DIMENSIONS + 1)) or not _sizes(offsets, (2,)):
            self._fail(
                f"{title} needs a dtype, a shape and two data_offsets, integers from 0 to 2^63 - 1, and nothing else, "
                f"got {fields!r:.80}"
            )
        if not isinstance(dtype, str) or dtype not in DTYPES:
            self._fail(f"{title} has the dtype {dtype!r:.80}; accepted are {', '.join(DTYPES)}")
        (begin, end), itemsize = offsets, DTYPES[dtype].itemsize
        if math.prod(filter(None, shape)) * itemsize > _MAX_SIZE:
            self._fail(f"{title} has the impossible shape {shape!r:.80}")
        if end - begin != math.prod(shape) * itemsize:
            self._fail(f"{title}: {tuple(shape)!r:.80} of {dtype} does not fit {end - begin} bytes of data")
        if end > self._data_size:
            self._fail(f"the data of {title} goes {end - self._data_size} bytes past the end of the file")
        if begin % itemsize:
            self._fail(f"{title} begins at {begin}, which is no multiple of {itemsize}")
        return Entry(name, dtype, tuple(shape), begin, end)

    def _check_layout(self) -> None:
        """Check that the tensors cover the data: each byte once."""
        end = 0
        for entry in self._entries:
            if entry.begin != end:
                kind = "overlaps the one before" if entry.begin < end else "leaves a hole"
                self._fail(f"tensor {entry.name!r:.80} begins at {entry.begin} of the data, not at {end}: it {kind}")
            end = entry.end
        if end != self._data_size:
            self._fail(f"{self._data_size - end} bytes after the last tensor")

    def _match_checksums(self) -> None:
        """Check that what is left of the metadata are the checksums, one for each tensor."""
        keys = {f"sha256:{entry.name}" for entry in self._entries}
        if missing := sorted(keys - self._checksums.keys()):
            self._fail(f"no {_listed(missing)} in the metadata, the checksum of a tensor")
        if unknown := sorted(self._checksums.keys() - keys):
            self._fail(f"metadata {_listed(unknown)} is unknown, or the checksum of no tensor")

    def _description(self, text: Any, sha256: Any) -> Any:
        if not isinstance(text, str) or not text.isascii():
            self._fail("metadata 'description' is missing, or no JSON in a string of plain ASCII")
        if hashlib.sha256(text.encode()).hexdigest() != sha256:
            self._fail("sha256 of the description differs")
        return parse(text.encode(), f"{self._where}, description", _DESCRIPTION_LIMITS)


def _sizes(value: Any, counts: Container[int]) -> bool:
    """Say whether `value` is a list of sizes, as many as one of `counts`."""
    return (
        isinstance(value, list) and len(value) in counts and all(type(n) is int and 0 <= n <= _MAX_SIZE for n in value)
    )


def _listed(names: Iterable[str], separator: str = ", ") -> str:
    return separator.join(f"{name!r:.80}" for name, _ in zip(names, range(_LISTED), strict=False))


def tensor_sha256(entry: Entry, data: HostArray) -> str:
    digest = hashlib.sha256(json.dumps([entry.name, entry.dtype, entry.shape]).encode())
    digest.update(data.data)
    return digest.hexdigest()
