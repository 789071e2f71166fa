"""The header of a file of tensors: read strictly, and checked whole before any data is."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from xpnet.errors import CheckpointError
from xpnet.files.json import MAX_NAME, Scanner

FORMAT = 1
"""The version of the format that this xpnet writes, and the newest that it reads."""

MAX_TENSORS = 10_000
MAX_DIMENSIONS = 64
LISTED = 10
"""How many names an error lists at most."""
_MAX_DESCRIPTION = 192 << 10  # bytes of the description in the header
_BUDGET = 384 << 10  # bytes of the objects that the description becomes

DTYPES = {
    name: np.dtype(code)
    for name, code in (
        *(("BOOL", "?"), ("U8", "u1"), ("I8", "i1"), ("U16", "<u2"), ("I16", "<i2"), ("U32", "<u4"), ("I32", "<i4")),
        *(("U64", "<u8"), ("I64", "<i8"), ("F16", "<f2"), ("F32", "<f4"), ("F64", "<f8")),
    )
}

# Names are kept as 8-byte digests while the header is checked: 10,000 strings would need more memory than the file.
_TENSOR_ROW = np.dtype([("key", "<u8"), ("begin", "<i8"), ("end", "<i8"), ("position", "<i8")])
_CHECKSUM_ROW = np.dtype([("key", "<u8"), ("position", "<i8"), ("sha256", "V32")])


class Entry(NamedTuple):
    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Header:
    """The header, checked: `description` and, once the data is there, `arrays`."""

    def __init__(self, text: bytes, where: str, data_size: int, start: int = 8) -> None:
        self.text = text
        self._scanner = Scanner(text, where, start)
        self._data_size = data_size
        self._version: str | None = None
        self._description = b""
        self._description_sha256 = ""
        checksums = bytearray()
        rows = bytearray()
        for name, at in self._scanner.members():
            if name == "__metadata__":
                self._read_metadata(checksums, at)
                continue
            if len(rows) == MAX_TENSORS * _TENSOR_ROW.itemsize:
                self._fail(f"more than {MAX_TENSORS} tensors", at)
            entry = self._read_entry(name, at)
            rows += struct.pack("<Qqqq", _key(name), entry.begin, entry.end, at)
        self._scanner.end()
        if self._version is None:
            self._fail("no 'xpnet_format' in the metadata, as in a safetensors file of another program", 0)
        self._rows: npt.NDArray[Any] = np.frombuffer(rows, _TENSOR_ROW)
        self._check_layout()
        self._match_checksums(np.frombuffer(checksums, _CHECKSUM_ROW))
        self.description: Any = self._parse_description()

    def arrays(self, data: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays as views of `data`, each checked against its SHA-256."""
        damaged: list[Entry] = []
        for row, index in zip(self._rows, self._checksum_index, strict=True):
            entry = self._entry_at(row)
            piece = data[entry.begin : entry.end]
            if tensor_sha256(entry, piece) != self._checksums["sha256"][index].tobytes():
                damaged = [*damaged, entry][:LISTED]
            elif entry.dtype == "BOOL" and piece.max(initial=0) > 1:
                position = len(self.text) + entry.begin
                self._fail(f"tensor {entry.name!r:.80} has truth values other than 0 and 1", position)
        if damaged:
            others = _listed(" and of ", [entry.name for entry in damaged[1:]])
            self._fail(f"sha256 of tensor {damaged[0].name!r:.80}{others} differs", len(self.text) + damaged[0].begin)
        entries = (self._entry_at(row) for row in self._rows)
        return {e.name: data[e.begin : e.end].view(DTYPES[e.dtype]).reshape(e.shape) for e in entries}

    def _fail(self, reason: str, position: int | None = None) -> NoReturn:
        self._scanner.fail(reason, position)

    def _read_metadata(self, checksums: bytearray, position: int) -> None:
        scanner = self._scanner
        if self._version is not None:
            self._fail("the name '__metadata__' appears twice", position)
        seen = set()
        for key, at in scanner.members():
            if key.startswith("sha256:"):
                checksums += struct.pack("<Qq32s", _key(key[7:]), at, self._read_sha256(at))
                continue
            if key in seen or key not in ("xpnet_format", "description", "description_sha256"):
                self._fail(f"metadata {key!r:.80} is unknown or appears twice", at)
            seen.add(key)
            if key == "xpnet_format":
                self._version = self._read_version(at)
            elif key == "description":
                self._description = scanner.quoted_json(_MAX_DESCRIPTION)
            else:
                self._description_sha256 = self._read_sha256(at).hex()

    def _read_version(self, position: int) -> str:
        version = self._scanner.string(16)
        if not (version.isascii() and version.isdigit() and version[0] != "0"):
            self._fail(f"metadata 'xpnet_format' must be a positive integer, got {version!r}", position)
        if int(version) > FORMAT:
            raise CheckpointError(
                f"{self._scanner.where}: written by format {version}, this xpnet reads <= {FORMAT}; upgrade xpnet"
            )
        return version

    def _read_sha256(self, position: int) -> bytes:
        text = self._scanner.string(64)
        try:
            result = bytes.fromhex(text)
        except ValueError:
            result = b""
        if len(result) != 32 or result.hex() != text:
            self._fail(f"a SHA-256 must be 64 digits 0-9a-f, got {text!r}", position)
        return result

    def _read_entry(self, name: str, position: int) -> Entry:
        scanner = self._scanner
        dtype: str | None = None
        shape: tuple[int, ...] | None = None
        offsets: tuple[int, ...] | None = None
        for field, at in scanner.members():
            if field == "dtype" and dtype is None:
                dtype = scanner.string(64)
                if dtype not in DTYPES:
                    self._fail(f"tensor {name!r:.80} has the dtype {dtype!r}; accepted are {', '.join(DTYPES)}", at)
            elif field == "shape" and shape is None:
                shape = self._read_integers(name, field, MAX_DIMENSIONS)
            elif field == "data_offsets" and offsets is None:
                offsets = self._read_integers(name, field, 2)
            else:
                self._fail(f"tensor {name!r:.80}: field {field!r:.80} is unknown or appears twice", at)
        if dtype is None or shape is None or offsets is None or len(offsets) != 2:
            self._fail(f"tensor {name!r:.80} needs a dtype, a shape and two data_offsets", position)
        begin, end = offsets
        itemsize = DTYPES[dtype].itemsize
        if math.prod(filter(None, shape)) * itemsize >= 2**63:
            self._fail(f"tensor {name!r:.80} has the impossible shape {shape}", position)
        if end - begin != math.prod(shape) * itemsize:
            self._fail(f"tensor {name!r:.80}: {shape} of {dtype} does not fit {end - begin} bytes of data", position)
        if end > self._data_size:
            missing = end - self._data_size
            self._fail(f"the data of tensor {name!r:.80} goes {missing} bytes past the end of the file", position)
        if begin % itemsize:
            self._fail(f"tensor {name!r:.80} begins at {begin}, which is no multiple of {itemsize}", position)
        return Entry(name, dtype, shape, begin, end)

    def _read_integers(self, name: str, field: str, limit: int) -> tuple[int, ...]:
        result: list[int] = []
        for _ in self._scanner.elements():
            if len(result) == limit:
                self._fail(f"tensor {name!r:.80}: {field} has more than {limit} numbers")
            result.append(self._scanner.integer())
            if result[-1] < 0:
                self._fail(f"tensor {name!r:.80}: {field} has the negative number {result[-1]}")
        return tuple(result)

    def _entry_at(self, row: Any) -> Entry:
        self._scanner.position = position = int(row["position"])
        name = self._scanner.string(MAX_NAME)
        self._scanner.expect(b":")
        return self._read_entry(name, position)

    def _check_layout(self) -> None:
        """Check that the tensors cover the data: each byte once."""
        rows = self._rows[np.lexsort((self._rows["end"], self._rows["begin"]))]
        expected = np.zeros_like(rows["begin"])
        expected[1:] = rows["end"][:-1]
        for i in np.flatnonzero(rows["begin"] != expected)[:1]:
            begin, previous = int(rows["begin"][i]), int(expected[i])
            kind = "overlaps the one before" if begin < previous else "leaves a hole"
            name = self._entry_at(rows[i]).name
            self._fail(
                f"tensor {name!r:.80} begins at {begin} of the data, not at {previous}: it {kind}",
                int(rows["position"][i]),
            )
        rest = self._data_size - (int(rows["end"][-1]) if len(rows) else 0)
        if rest:
            self._fail(f"{rest} bytes after the last tensor", len(self.text) + self._data_size - rest)

    def _match_checksums(self, checksums: npt.NDArray[Any]) -> None:
        """Find each tensor's checksum, and see that no name is there twice."""
        order = np.argsort(self._rows["key"], kind="stable")
        keys = self._rows["key"][order]
        for i in np.flatnonzero(keys[1:] == keys[:-1])[:1]:
            row = self._rows[order[i + 1]]
            self._fail(f"the tensor name {self._entry_at(row).name!r:.80} appears twice", int(row["position"]))
        checksum_order = np.argsort(checksums["key"], kind="stable")
        checksum_keys = checksums["key"][checksum_order]
        if len(checksum_keys) != len(keys) or (checksum_keys != keys).any():
            missing = [self._entry_at(self._rows[order[i]]).name for i in _absent(keys, checksum_keys)]
            unused = [
                self._checksum_name(checksums["position"][checksum_order[i]]) for i in _absent(checksum_keys, keys)
            ]
            reasons = (_listed("no sha256 of tensor ", missing), _listed("a sha256 of no tensor: ", unused))
            self._fail("; ".join(filter(None, reasons)) or "the metadata has the sha256 of a tensor twice", 0)
        self._checksums = checksums
        self._checksum_index = np.empty_like(order)
        self._checksum_index[order] = checksum_order

    def _checksum_name(self, position: Any) -> str:
        self._scanner.position = int(position)
        return self._scanner.string(MAX_NAME).removeprefix("sha256:")

    def _parse_description(self) -> Any:
        if hashlib.sha256(self._description).hexdigest() != self._description_sha256:
            self._fail("sha256 of the description differs, or the description is missing", 0)
        scanner = Scanner(self._description, f"{self._scanner.where}, description", budget=_BUDGET)
        result = scanner.value()
        scanner.end()
        self._description = b""
        return result


def _key(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def _absent(keys: npt.NDArray[Any], others: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return where the first sorted `keys` stand that are not among the sorted `others`."""
    found = np.zeros(len(keys), bool)
    if len(others):
        found = others[np.minimum(np.searchsorted(others, keys), len(others) - 1)] == keys
    return np.flatnonzero(~found)[:LISTED]


def _listed(before: str, names: list[str]) -> str:
    return before + ", ".join(f"{name!r:.80}" for name in names) if names else ""


def tensor_sha256(entry: Entry, data: npt.NDArray[np.uint8]) -> bytes:
    digest = hashlib.sha256(json.dumps([entry.name, entry.dtype, entry.shape]).encode())
    digest.update(data.data)
    return digest.digest()
