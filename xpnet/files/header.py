"""The header of a file of tensors: read strictly, and checked whole before any data is."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable
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
_MAX_OFFSET = 2**63 - 1
_LISTED = 10  # names in an error
# A tensor and its checksum are 7 strings, 6 brackets and a few commas; the longest string is the description.
_LIMITS = Limits(string=192 << 10, items=MAX_TENSORS + 8, tokens=17 * MAX_TENSORS)
_DESCRIPTION_LIMITS = Limits(string=4096, items=50_000, tokens=50_000)

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
        self._where, self._data_start = where, 8 + len(text)
        content = parse(text, f"{where}, header", _LIMITS, start=8)
        if not isinstance(content, dict):
            self._fail("it must be an object of JSON")
        metadata = content.pop("__metadata__", None)
        if len(content) > MAX_TENSORS:
            self._fail(f"more than {MAX_TENSORS} tensors")
        if not isinstance(metadata, dict) or "xpnet_format" not in metadata:
            self._fail("no 'xpnet_format' in the metadata, as in a safetensors file of another program")
        self._check_version(metadata.pop("xpnet_format"))
        entries = [self._entry(name, fields, data_size) for name, fields in content.items()]
        self._entries = sorted(entries, key=lambda entry: (entry.begin, entry.end))
        self._check_layout(data_size)
        self.description = self._description(metadata.pop("description", None), metadata.pop("description_sha256", ""))
        self._checksums = metadata
        self._match_checksums()

    def arrays(self, data: HostArray) -> dict[str, HostArray]:
        """Return the arrays as views of `data`, each checked against its SHA-256."""
        damaged, result = [], {}
        for entry in self._entries:
            piece = data[entry.begin : entry.end]
            if tensor_sha256(entry, piece) != self._checksums[f"sha256:{entry.name}"]:
                damaged.append(entry)
            elif entry.dtype == "BOOL" and piece.max(initial=0) > 1:
                self._fail(f"tensor {entry.name!r:.80} has truth values other than 0 and 1", entry)
            result[entry.name] = piece.view(DTYPES[entry.dtype]).reshape(entry.shape)
        if damaged:
            self._fail(f"sha256 of tensor {_listed((entry.name for entry in damaged), ' and of ')} differs", damaged[0])
        return result

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

    def _entry(self, name: str, fields: Any, data_size: int) -> Entry:
        """Return one tensor's place and shape, checked by themselves."""
        title = f"tensor {name!r:.80}"
        if len(name.encode()) > MAX_NAME:
            self._fail(f"{title} has a name of {len(name.encode())} bytes; at most {MAX_NAME} are accepted")
        if not isinstance(fields, dict) or fields.keys() != {"dtype", "shape", "data_offsets"}:
            self._fail(f"{title} needs a dtype, a shape and two data_offsets, and nothing else")
        dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
        if not isinstance(dtype, str) or dtype not in DTYPES:
            self._fail(f"{title} has the dtype {dtype!r:.80}; accepted are {', '.join(DTYPES)}")
        for field, numbers, most in (("shape", shape, MAX_DIMENSIONS), ("data_offsets", offsets, 2)):
            if not isinstance(numbers, list) or len(numbers) > most:
                self._fail(f"{title}: {field} must be a list of at most {most} numbers")
            if not all(type(n) is int and 0 <= n <= _MAX_OFFSET for n in numbers):
                self._fail(f"{title}: {field} must be integers from 0 to 2^63 - 1, got {numbers!r:.80}")
        if len(offsets) != 2:
            self._fail(f"{title} needs a dtype, a shape and two data_offsets, and nothing else")
        (begin, end), itemsize = offsets, DTYPES[dtype].itemsize
        if math.prod(filter(None, shape)) * itemsize > _MAX_OFFSET:
            self._fail(f"{title} has the impossible shape {shape!r:.80}")
        if end - begin != math.prod(shape) * itemsize:
            self._fail(f"{title}: {tuple(shape)!r:.80} of {dtype} does not fit {end - begin} bytes of data")
        if end > data_size:
            self._fail(f"the data of {title} goes {end - data_size} bytes past the end of the file")
        if begin % itemsize:
            self._fail(f"{title} begins at {begin}, which is no multiple of {itemsize}")
        return Entry(name, dtype, tuple(shape), begin, end)

    def _check_layout(self, data_size: int) -> None:
        """Check that the tensors cover the data: each byte once."""
        end = 0
        for entry in self._entries:
            if entry.begin != end:
                kind = "overlaps the one before" if entry.begin < end else "leaves a hole"
                self._fail(f"tensor {entry.name!r:.80} begins at {entry.begin} of the data, not at {end}: it {kind}")
            end = entry.end
        if end != data_size:
            self._fail(f"{data_size - end} bytes after the last tensor")

    def _match_checksums(self) -> None:
        """Check that what is left of the metadata are the checksums, one for each tensor."""
        keys = {f"sha256:{entry.name}" for entry in self._entries}
        missing = sorted(key.removeprefix("sha256:") for key in keys - self._checksums.keys())
        unknown = sorted(self._checksums.keys() - keys)
        reasons = [f"no sha256 of tensor {_listed(missing)}"] if missing else []
        reasons += [f"metadata {_listed(unknown)} is unknown, or a sha256 of no tensor"] if unknown else []
        if reasons:
            self._fail("; ".join(reasons))

    def _description(self, text: Any, sha256: Any) -> Any:
        if not isinstance(text, str) or not text.isascii():
            self._fail("metadata 'description' is missing, or no JSON in a string of plain ASCII")
        if hashlib.sha256(text.encode()).hexdigest() != sha256:
            self._fail("sha256 of the description differs")
        return parse(text.encode(), f"{self._where}, description", _DESCRIPTION_LIMITS)


def _listed(names: Iterable[str], separator: str = ", ") -> str:
    return separator.join(f"{name!r:.80}" for name, _ in zip(names, range(_LISTED), strict=False))


def tensor_sha256(entry: Entry, data: HostArray) -> str:
    digest = hashlib.sha256(json.dumps([entry.name, entry.dtype, entry.shape]).encode())
    digest.update(data.data)
    return digest.hexdigest()
