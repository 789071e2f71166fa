"""The IDX reader: whatever the bytes are, the answer is the right array or one IDXFormatError."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import math
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

import xpnet.datasets.idx
from xpnet.datasets.idx import decode_idx, read_idx
from xpnet.errors import IDXFormatError, IntegrityError

MIB = 1 << 20
ARRAY = np.random.default_rng(0).integers(0, 256, (3, 4, 5), dtype=np.uint8)


def header(*dims: int, magic: bytes | None = None) -> bytes:
    return (magic or bytes([0, 0, 8, len(dims)])) + b"".join(struct.pack(">I", d) for d in dims)


def idx(array: np.ndarray) -> bytes:
    return header(*array.shape) + array.tobytes()


def member(content: bytes, *, flags: int = 0, fields: bytes = b"", method: int = 8, level: int = 6) -> bytes:
    """A gzip member written by hand; `fields` are the optional header fields that `flags` announce."""
    deflate = zlib.compressobj(level, wbits=-15)
    body = deflate.compress(content) + deflate.flush()
    return around(body, content, flags=flags, fields=fields, method=method)


def around(body: bytes, content: bytes, *, flags: int = 0, fields: bytes = b"", method: int = 8) -> bytes:
    trailer = struct.pack("<II", zlib.crc32(content), len(content) % 2**32)
    return b"\x1f\x8b" + bytes([method, flags]) + bytes(6) + fields + body + trailer


def patched(data: bytes, at: int, value: bytes) -> bytes:
    at %= len(data)
    return data[:at] + value + data[at + len(value) :]


RAW = idx(ARRAY)
GZ = member(RAW)
HUGE = 2**32 - 1

# Each with a part of the message that says what is wrong.
MALFORMED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "one zero byte": (b"\0", "ends inside the header"),
    "magic number cut": (RAW[:3], "ends inside the header"),
    "magic number alone": (RAW[:4], "ends inside the header"),
    "dimensions cut": (RAW[:15], "ends inside the header"),
    "html page": (b"<!DOCTYPE html><title>404 Not Found</title>", "begins with b'<!DO'"),
    "first byte not zero": (patched(RAW, 0, b"\1"), "two zero bytes"),
    "second byte not zero": (patched(RAW, 1, b"\1"), "two zero bytes"),
    "pickle": (pickle.dumps(ARRAY), "two zero bytes"),
    "bzip2": (bz2.compress(RAW), "two zero bytes"),
    "xz": (lzma.compress(RAW), "two zero bytes"),
    "zlib, not gzip": (zlib.compress(RAW), "two zero bytes"),
    "zip": (b"PK\3\4" + RAW, "two zero bytes"),
    "elements int8": (patched(RAW, 2, b"\x09"), r"0x09 \(int8\)"),
    "elements of no known type": (patched(RAW, 2, b"\x0a"), r"0x0A \(unknown to IDX\)"),
    "elements float32": (patched(RAW, 2, b"\x0d"), r"0x0D \(float32\)"),
    "no dimensions": (header(magic=b"\0\0\x08\0") + b"\7", "0 dimensions"),
    "four dimensions": (header(1, 1, 1, 1) + b"\7", "4 dimensions"),
    "255 dimensions": (header(*[1] * 255) + b"\7", "255 dimensions"),
    "a dimension is zero": (header(3, 0, 5), "declares 3x0x5; every dimension"),
    "zero beside huge ones": (header(0, HUGE, HUGE), "every dimension must be at least 1"),
    "little-endian dimensions": (RAW[:4] + struct.pack("<3I", 3, 4, 5) + RAW[16:], "declares 50331648x67108864x"),
    "huge": (header(HUGE, HUGE, HUGE) + bytes(60), f"declares .* = {HUGE**3} bytes, file has 60"),
    # The product is 0 modulo 2^64: an integer that overflows would find nothing wrong.
    "product of 2^64": (header(2**31, 2**31, 4), f"= {2**64} bytes, file has 0"),
    "one short": (RAW[:-1], "declares 3x4x5 = 60 bytes, file has 59"),
    "one long": (RAW + b"\0", "declares 3x4x5 = 60 bytes, file has 61"),
    "huge in gzip": (member(header(HUGE, HUGE, HUGE) + bytes(60)), "bytes of gzip can hold"),
    "product of 2^64 in gzip": (member(header(2**31, 2**31, 4)), "bytes of gzip can hold"),
    "more than deflate can hold": (member(header(1000, 1000) + bytes(60)), "bytes of gzip can hold"),
    "one short in gzip": (member(RAW[:-1]), "declares 3x4x5 = 60 bytes, file has 59"),
    "one long in gzip": (member(RAW + b"\0"), "declares 3x4x5 = 60 bytes, file has at least 61"),
    "bomb": (member(RAW + bytes(MIB)), "file has at least 61"),
    "bomb of header": (member(bytes([0, 0, 8, 3]) + b"\xff" * MIB), "bytes of gzip can hold"),
    "nothing in gzip": (member(b""), "ends inside the header"),
    "half a header in gzip": (member(RAW[:9]), "ends inside the header"),
    "gzip in gzip": (member(GZ), "two zero bytes"),
    "gzip magic number alone": (GZ[:2], "truncated"),
    "gzip header alone": (GZ[:10], "truncated"),
    "gzip cut in the data": (GZ[: len(GZ) // 2], "truncated"),
    "gzip without checksum": (GZ[:-8], "truncated"),
    "gzip without length": (GZ[:-4], "truncated"),
    "gzip one byte short": (GZ[:-1], "truncated"),
    "wrong CRC": (patched(GZ, -8, bytes([GZ[-8] ^ 1])), "damaged gzip data.*incorrect data check"),
    "wrong length": (patched(GZ, -4, bytes([GZ[-4] ^ 1])), "damaged gzip data.*incorrect length check"),
    "reserved flag 0x20": (member(RAW, flags=0x20), "damaged gzip data.*flags"),
    "reserved flag 0x40": (member(RAW, flags=0x40), "damaged gzip data.*flags"),
    "reserved flag 0x80": (member(RAW, flags=0x80), "damaged gzip data.*flags"),
    "method not deflate": (member(RAW, method=7), "damaged gzip data.*method"),
    "wrong header CRC": (member(RAW, flags=0x02, fields=b"\0\0"), "damaged gzip data.*header crc"),
    "name without end": (GZ[:3] + b"\x08" + GZ[4:10] + b"x" * 300, "truncated"),
    "extra field beyond the end": (GZ[:3] + b"\x04" + GZ[4:10] + b"\xff\xff" + GZ[10:], "truncated"),
    "block of type 3": (around(b"\x07", RAW), "damaged gzip data.*block type"),
    "stored block, lengths differ": (around(b"\x01\x05\x00\x00\x00hello", RAW), "damaged gzip data.*stored block"),
    "copy from before the start": (around(b"\x63\x00\x42\x00\x00", RAW), "damaged gzip data.*too far back"),
    "the array in two members": (member(RAW[:40]) + member(RAW[40:]), "declares 3x4x5 = 60 bytes, file has 24"),
    "the array twice": (GZ + GZ, "second gzip member"),
    "an empty second member": (GZ + member(b""), "second gzip member"),
    "bytes after the end": (GZ + b"junk", "follow the end .* b'junk'"),
    "zeros after the end": (GZ + bytes(512), "follow the end of the gzip data"),
}


def outcome(data: bytes) -> np.ndarray | None:
    """The array, or None for IDXFormatError; everything else goes through and fails the test."""
    try:
        return decode_idx(io.BytesIO(data), "file")
    except IDXFormatError:
        return None


def expected(data: bytes) -> np.ndarray | None:
    """What uncompressed bytes mean, written down a second time."""
    if data[:3] != b"\0\0\x08" or len(data) < 4 or data[3] not in (1, 2, 3) or len(data) < 4 + 4 * data[3]:
        return None
    dims = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3])]
    content = data[4 + 4 * len(dims) :]
    return np.frombuffer(content, np.uint8).reshape(dims) if 0 < math.prod(dims) == len(content) else None


def same(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.dtype == b.dtype == np.uint8 and a.shape == b.shape and np.array_equal(a, b)


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_file_is_an_idx_format_error(name: str, tmp_path: Path) -> None:
    data, message = MALFORMED[name]
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(IDXFormatError, match=f"(?s){message}") as caught:
        read_idx(path)
    assert type(caught.value) is IDXFormatError
    assert str(caught.value).startswith(f"{path}: ")


def test_python_without_assertions_refuses_the_same_files(tmp_path: Path) -> None:
    for i, (data, _) in enumerate(MALFORMED.values()):
        (tmp_path / f"{i:03d}").write_bytes(data)
    script = (
        "import pathlib, sys, xpnet.datasets.idx\n"
        "print(__debug__)\n"
        "for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
        "    try: xpnet.datasets.idx.read_idx(path); print('read')\n"
        "    except Exception as error: print(type(error).__name__)\n"
    )
    command = [sys.executable, "-O", "-c", script, str(tmp_path)]
    root = Path(xpnet.__file__).parents[1]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout.split()
    assert printed == ["False"] + ["IDXFormatError"] * len(MALFORMED)


@pytest.mark.parametrize("shape", [(1,), (7,), (2, 3), (3, 4, 5), (1, 1, 1), (700_000,), (3, 300, 700)])
@pytest.mark.parametrize("kind", ["random", "zeros"])
def test_round_trip(shape: tuple[int, ...], kind: str) -> None:
    array = np.zeros(shape, np.uint8) if kind == "zeros" else np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    data = idx(array)
    for content in (data, *(member(data, level=level) for level in (0, 1, 9)), gzip.compress(data)):
        assert same(outcome(content), array)


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        (0x01, b""),
        (0x04, b"\x05\x00extra"),
        (0x08, b"train-images\0"),
        (0x10, b"a comment\0"),
        (0x1C, b"\x02\x00xyname\0comment\0"),
        (0x08, b"n" * 200_000 + b"\0"),
    ],
)
def test_optional_gzip_header_fields_are_read(flags: int, fields: bytes) -> None:
    assert same(outcome(member(RAW, flags=flags, fields=fields)), ARRAY)


def test_gzip_header_crc_is_read() -> None:
    crc = struct.pack("<H", zlib.crc32(b"\x1f\x8b\x08\x02" + bytes(6)) & 0xFFFF)
    assert same(outcome(member(RAW, flags=0x02, fields=crc)), ARRAY)


def test_deflate_data_in_many_blocks_is_read() -> None:
    deflate = zlib.compressobj(wbits=31)
    pieces = [deflate.compress(RAW[i : i + 1]) + deflate.flush(zlib.Z_FULL_FLUSH) for i in range(len(RAW))]
    assert same(outcome(b"".join(pieces) + deflate.flush()), ARRAY)


@pytest.mark.parametrize("around_piece", [-1, 0, 1])
def test_bytes_after_the_end_are_seen_where_reading_pauses(around_piece: int) -> None:
    # The name is as long as makes the member end at the boundary of what is read at once, or beside it.
    padding = xpnet.datasets.idx.PIECE // 4 + around_piece - len(GZ) - 1
    data = member(RAW, flags=0x08, fields=b"n" * padding + b"\0")
    assert len(data) == xpnet.datasets.idx.PIECE // 4 + around_piece
    assert same(outcome(data), ARRAY)
    assert outcome(data + b"j") is None


@pytest.mark.parametrize("data", [RAW, GZ], ids=["raw", "gzip"])
def test_truncated_anywhere(data: bytes) -> None:
    for length in range(len(data)):
        assert outcome(data[:length]) is None
    assert same(outcome(data), ARRAY)


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        # Half of the changes hit the first 20 bytes, where the headers are.
        at = int(rng.integers(min(20, len(changed)) if rng.random() < 0.5 else len(changed)))
        length = int(rng.integers(1, 9))
        kind = rng.integers(6)
        if kind == 0:
            changed[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            changed[at] = int(rng.choice([0, 1, 8, 0xFF, int(rng.integers(256))]))
        elif kind == 2 and len(changed) > length:
            del changed[at : at + length]
        elif kind == 3:
            changed[at:at] = rng.bytes(length)
        elif kind == 4:
            changed[at:at] = changed[at : at + length]
        else:
            changed[at : at + length] = rng.bytes(min(length, len(changed) - at))
    return bytes(changed)


def test_5000_mutations_of_a_raw_file() -> None:
    rng = np.random.default_rng(2)
    read = 0
    for _ in range(5000):
        data = mutate(RAW, rng)
        found = outcome(data)
        # Without a checksum a changed pixel is a pixel: the array must be exactly what the bytes say.
        assert same(found, expected(data)), data.hex()
        read += found is not None
    assert 500 < read < 4500


def test_5000_mutations_of_a_gzip_file() -> None:
    rng = np.random.default_rng(3)
    read = 0
    for _ in range(5000):
        data = mutate(GZ, rng)
        found = outcome(data)
        assert found is None or same(found, ARRAY), data.hex()
        read += found is not None
    assert 50 < read < 4500


def test_1000_mutations_compressed_afterwards() -> None:
    rng = np.random.default_rng(4)
    for _ in range(1000):
        data = mutate(RAW, rng)
        assert same(outcome(member(data)), expected(data)), data.hex()


def peak(path: Path) -> int:
    tracemalloc.start()
    try:
        read_idx(path)
    except IDXFormatError:
        pass
    finally:
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return most


@pytest.mark.parametrize("count", [60, MIB])
def test_gzip_bomb_stops_one_byte_after_what_it_declares(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inflated = 0

    class Counting:
        def __init__(self, wbits: int) -> None:
            self._inflater = decompressobj(wbits=wbits)

        def decompress(self, data: bytes, limit: int) -> bytes:
            nonlocal inflated
            piece = self._inflater.decompress(data, limit)
            inflated += len(piece)
            return piece

        def __getattr__(self, name: str) -> object:
            return getattr(self._inflater, name)

    path = tmp_path / "bomb"
    path.write_bytes(member(header(count) + bytes(50 * MIB)))
    assert path.stat().st_size < 60_000
    assert peak(path) < count + 2 * MIB
    decompressobj = zlib.decompressobj
    monkeypatch.setattr(zlib, "decompressobj", Counting)
    with pytest.raises(IDXFormatError, match=f"declares {count} = {count} bytes, file has at least {count + 1}$"):
        read_idx(path)
    assert inflated == 8 + count + 1


@pytest.mark.parametrize("compress", [bytes, member], ids=["raw", "gzip"])
def test_memory_is_the_array_and_little_more(compress: object, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(compress(idx(np.random.default_rng(5).integers(0, 9, (8, MIB), np.uint8))))
    assert 8 * MIB < peak(path) < 10 * MIB


@pytest.mark.parametrize(("size", "message"), [(47039999, "47039999"), (47040001, "47040001")])
def test_size_is_decided_before_memory_is_taken(size: int, message: str, tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    with open(path, "wb") as file:
        file.write(header(60000, 28, 28))
        file.truncate(16 + size)
    with pytest.raises(IDXFormatError) as caught:
        read_idx(path)
    assert str(caught.value) == f"{path}: declares 60000x28x28 = 47040000 bytes, file has {message}"
    assert peak(path) < MIB


def test_sha256_is_that_of_the_decompressed_file(tmp_path: Path) -> None:
    right, wrong = hashlib.sha256(RAW).hexdigest(), hashlib.sha256(GZ).hexdigest()
    path = tmp_path / "file.gz"
    for data in (RAW, GZ):
        path.write_bytes(data)
        for spelling in (right, right.upper()):
            assert same(read_idx(path, sha256=spelling), ARRAY)
        with pytest.raises(IntegrityError) as caught:
            read_idx(path, sha256=wrong)
        for part in (str(path), f"expected SHA-256 {wrong}", f"actual {right}"):
            assert part in str(caught.value)


def test_missing_file_is_what_the_operating_system_says(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "nothing")
