"""Files that look like a file of tensors and are none: by name, with a part of the message that each must get."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.files.tensors import write_tensors

MIB = 1 << 20
TENSORS = {"a": np.arange(3, dtype=np.float32), "b": np.array([True, False]), "e": np.zeros((0, 2))}
DESCRIPTION = {"layers": [{"class": "Linear"}], "rate": 0.5}


def pack(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A file with this header: JSON values are encoded, bytes taken as they are."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: Any, shape: Any, begin: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def checksum(name: str, dtype: str, shape: list[int], data: bytes) -> str:
    return hashlib.sha256(json.dumps([name, dtype, shape]).encode() + data).hexdigest()


def metadata(description: str = "{}", **other: str) -> dict[str, str]:
    digest = hashlib.sha256(description.encode()).hexdigest()
    return {"xpnet_format": "1", "description": description, "description_sha256": digest} | other


def valid_file(folder: Path) -> bytes:
    write_tensors(folder / "valid.safetensors", TENSORS, DESCRIPTION)
    return (folder / "valid.safetensors").read_bytes()


def malformed(folder: Path) -> dict[str, tuple[bytes, str]]:
    """Return {what is wrong: (content, part of the message)}."""
    valid = valid_file(folder)
    (length,) = struct.unpack("<Q", valid[:8])
    text, data = valid[8 : 8 + length], valid[8 + length :]
    result: dict[str, tuple[bytes, str]] = {}

    def edit(name: str, message: str, change: Callable[[dict[str, Any]], Any], data: bytes = data) -> None:
        header = json.loads(text)
        change(header)
        result[name] = (pack(header, data), message)

    def replace(name: str, message: str, old: bytes, new: bytes) -> None:
        assert old in text
        result[name] = (pack(text.replace(old, new, 1), data), message)

    def described(name: str, message: str, description: str) -> None:
        result[name] = (pack({"__metadata__": metadata(description)}), message)

    def exchange(header: dict[str, Any]) -> None:
        header["a"]["dtype"], header["b"]["dtype"] = "I32", "U8"

    # The length and the size of the file
    result |= {
        "empty": (b"", "has 0 bytes"),
        "7 bytes": (valid[:7], "has 7 bytes"),
        "length alone": (valid[:8], "truncated"),
        "length 0": (pack(b""), "byte 8: cannot be read"),
        "length 2^63": (pack(text, data, 1 << 63), "at most 1048576 are accepted"),
        "length 2^64 - 1": (pack(text, data, (1 << 64) - 1), "at most 1048576 are accepted"),
        "length 100 MB + 1": (pack(text, data, 100_000_001), "at most 1048576 are accepted"),
        "length one over the cap": (pack(b" " * (MIB + 1)), "at most 1048576 are accepted"),
        "length past the end": (pack(text, data, length + len(data) + 1), "truncated"),
        "length one short": (pack(text.rstrip(), data, len(text.rstrip()) - 1), "cannot be read"),
        "length one long": (pack(text, data, length + 1), "cannot be read: Extra data"),
        "1 MiB of spaces": (pack(b" " * MIB), "cannot be read"),
        "one byte too many": (valid + b"\0", "1 bytes after the last tensor"),
        "another file appended": (valid + valid, "bytes after the last tensor"),
        "last byte missing": (valid[:-1], "1 bytes past the end"),
        "no data": (valid[: 8 + length], "past the end"),
    }
    # Other kinds of files
    archive, module = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("model.keras", b"x" * 100)
    np.save(module, np.zeros(9))
    result |= {
        "pickle": (pickle.dumps({"a": 1, "text": "x" * 100}, 4), "a Python pickle"),
        "pickle, protocol 2": (pickle.dumps({"a": 1, "text": "x" * 100}, 2), "a Python pickle"),
        "pickle that calls": (b"cos\nsystem\n(S'touch /tmp/xpnet-was-here'\ntR.", "at most"),
        "zip": (archive.getvalue(), "a zip archive"),
        "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file"),
        "npy": (module.getvalue(), "a NumPy .npy file"),
        "gzip": (gzip.compress(valid), "a gzip file"),
        "HTML": (b"<!DOCTYPE html><html>404</html>", "at most"),
        "Python source": (b"import os\nos.system('touch /tmp/xpnet-was-here')\n", "at most"),
        "zeros": (bytes(1000), "cannot be read"),
        "safetensors of another program": (pack({"a": entry("F32", [1], 0, 4)}, bytes(4)), "another program"),
    }
    # The text
    result |= {
        "not UTF-8": (pack(text.replace(b'"a"', b'"\xff"'), data), "not UTF-8"),
        "UTF-8 of half a surrogate pair": (pack(text.replace(b'"a"', b'"\xed\xa0\x80"'), data), "not UTF-8"),
        "UTF-16": (pack(text.decode().encode("utf-16"), data), "byte 8: not UTF-8"),
        "byte order mark": (pack(b"\xef\xbb\xbf" + text, data), "byte 8: cannot be read"),
        "not JSON": (pack(b"hello"), "byte 8: cannot be read"),
        "a list": (pack([]), "must be an object"),
        "null": (pack(None), "must be an object"),
        "100,000 brackets": (pack(b"[" * 100_000), "brackets are nested deeper than 128"),
        "100,000 brackets as a tensor": (pack(b'{"a":' + b"[" * 100_000), "brackets are nested deeper than 128"),
        "100,000 brackets as a shape": (
            pack(b'{"a":{"shape":' + b"[" * 100_000),
            "brackets are nested deeper than 128",
        ),
        "100,000 objects": (pack(b'{"a":' * 100_000), "brackets are nested deeper than 128"),
        "cut": (pack(text[: len(text) // 2], data), "cannot be read"),
        "two objects": (pack(text + b"{}", data), f"byte {8 + length}: cannot be read"),
        "trailing comma": (pack(b'{"a":' + json.dumps(entry("F32", [0], 0, 0)).encode() + b",}"), "cannot be read"),
        "no comma": (pack(text.replace(b'","', b'""', 1), data), "cannot be read"),
        "single quotes": (pack(text.replace(b'"', b"'"), data), "byte 9: cannot be read"),
        "a comment": (pack(b"{/* */" + text[1:], data), "byte 9: cannot be read"),
        "padded with NUL": (pack(text.rstrip() + bytes(5), data), f"byte {8 + len(text.rstrip())}: cannot be read"),
        "control character": (pack(text.replace(b'"a"', b'"a\n"'), data), "cannot be read: Invalid control character"),
        "wrong escape": (pack(text.replace(b'"a"', b'"\\q"'), data), "cannot be read: Invalid \\escape"),
        "half a surrogate pair": (pack(text.replace(b'"a"', b'"\\ud800"'), data), "surrogate pair"),
        "unterminated string": (pack(b'{"' + b"a" * 1000), "byte 9: cannot be read: Unterminated string"),
        "half a million quotes in a string without an end": (
            pack(b'{"' + b'\\"' * 500_000),
            "byte 9: cannot be read: a string of",
        ),
        "name of 1025 bytes": (
            pack(b'{"' + b"a" * 1025 + b'":{},' + text[1:], data),
            "name of 1025 bytes; at most 1024",
        ),
        "name of 1 MB": (
            pack(b'{"' + b"a" * 1_000_000 + b'":{}}'),
            "byte 9: cannot be read: a string of 1000000 characters",
        ),
        "name of escapes": (
            pack(b'{"' + b"\\n" * 500_000 + b'":{}}'),
            "byte 9: cannot be read: a string of 1000000 characters",
        ),
    }
    # Numbers
    for number, message in {
        "NaN": "NaN is no number, or too large",
        "Infinity": "Infinity is no number, or too large",
        "1e999": "1e999 is no number, or too large",
        "3.0": "tensor 'a' needs a dtype, a shape and two data_offsets, integers from 0 to 2^63 - 1",
        "3e0": "integers from 0 to 2^63 - 1, and nothing else, got {'dtype': 'F32', 'shape': [",
        "03": "cannot be read",
        "true": "integers from 0 to 2^63 - 1, and nothing else, got {'dtype': 'F32', 'shape': [",
        '"3"': "integers from 0 to 2^63 - 1, and nothing else, got {'dtype': 'F32', 'shape': [",
        "null": "integers from 0 to 2^63 - 1, and nothing else, got {'dtype': 'F32', 'shape': [",
        "-3": "'shape': [-3]",
        "9223372036854775808": "'shape': [9223372036854775808]",
        "1" + "0" * 5000: "a number of 5001 characters",
        "4611686018427387904": "impossible shape",
        "4": "does not fit 12 bytes",
        "0": "does not fit 12 bytes",
        "3,9223372036854775807,9223372036854775807": "impossible shape",
        "0,9223372036854775808": "integers from 0 to 2^63 - 1, and nothing else, got {'dtype': 'F32', 'shape': [",
        "0,4611686018427387904": "impossible shape",
        "4294967296,4294967296": "impossible shape",
        "1," * 65 + "1": "needs a dtype, a shape",
        "": "does not fit 12 bytes",
    }.items():
        replace(f"shape [{number[:40]}]", message, b'"shape":[3]', b'"shape":[' + number.encode() + b"]")
    # Fields of a tensor
    for field in ("dtype", "shape", "data_offsets"):
        edit(f"no {field}", "needs a dtype, a shape and two data_offsets", lambda h, field=field: h["a"].pop(field))
        replace(f"{field} twice", "appears twice", b'"a":{', b'"a":{"' + field.encode() + json_of(valid, field) + b",")
    edit(
        "unknown field",
        "needs a dtype, a shape and two data_offsets",
        lambda h: h["a"].update(more=1),
    )
    for dtype in ("BF16", "Q99", "f32", "", "os.system", "__class__"):
        edit(
            f"dtype {dtype!r}", f"has the dtype {dtype!r}; accepted are BOOL", lambda h, d=dtype: h["a"].update(dtype=d)
        )
    edit("dtype 1", "has the dtype 1; accepted are", lambda h: h["a"].update(dtype=1))
    edit("dtype of another size", "does not fit", lambda h: h["a"].update(dtype="F64"))
    edit("dtype of the same size", "sha256 of tensor 'a' differs", lambda h: h["a"].update(dtype="I32"))
    edit("shape of the same size", "sha256 of tensor 'a' differs", lambda h: h["a"].update(shape=[3, 1]))
    edit("tensor null", "tensor 'a' needs a dtype", lambda h: h.update(a=None))
    # Where the data is
    edit(
        "offset negative",
        "'data_offsets': [-4, 8]",
        lambda h: h["a"].update(data_offsets=[-4, 8]),
    )
    edit("offsets reversed", "does not fit", lambda h: h["a"].update(data_offsets=[12, 0]))
    edit("offsets past the end", "past the end", lambda h: h["a"].update(data_offsets=[1000, 1012]))
    edit(
        "offset 2^63",
        "integers from 0 to 2^63 - 1, and nothing else, got {'dtype': 'F32', 'shape': [",
        lambda h: h["a"].update(data_offsets=[2**63 - 12, 2**63]),
    )
    edit("three offsets", "'data_offsets': [0, 12, 12]", lambda h: h["a"].update(data_offsets=[0, 12, 12]))
    edit("one offset", "two data_offsets", lambda h: h["a"].update(data_offsets=[0]))
    edit("overlap", "overlaps the one before", lambda h: h["b"].update(data_offsets=[11, 13]))
    edit("the same bytes", "overlaps the one before", lambda h: h.update(c=h["b"]))
    edit("hole", "leaves a hole", lambda h: h["b"].update(data_offsets=[13, 15]), data + b"\0")
    edit("hole at the beginning", "leaves a hole", lambda h: h["a"].update(data_offsets=[4, 16]), data + bytes(9))
    edit("misaligned", "no multiple of 4", lambda h: h["a"].update(data_offsets=[2, 14]), data)
    # Names
    replace(
        "name twice", "name 'a' appears twice", b'"b":{"dtype":"BOOL","shape":[2]', b'"a":{"dtype":"U8","shape":[2]'
    )
    replace("name twice, escaped", "name 'a' appears twice", b'"b":', b'"\\u0061":')
    replace("metadata twice", "'__metadata__' appears twice", b'"b":', b'"__metadata__":{},"b":')
    replace("metadata name twice", "name 'xpnet_format' appears twice", b'{"xpnet', b'{"xpnet_format":"1","xpnet')
    many = {f"{k:x}": entry("F32", [0], 0, 0) for k in range(100_000)}
    result["100,000 tensors"] = (pack(many), "at most 1048576 are accepted")
    compact = json.dumps(dict(list(many.items())[:10_001]), separators=(",", ":")).encode()
    result["10,001 tensors"] = (pack(compact), "more than 10000 tensors")
    compact = json.dumps(
        dict(list(many.items())[:9_000]) | {"__metadata__": metadata()}, separators=(",", ":")
    ).encode()
    result["9,000 tensors without checksums"] = (pack(compact), "no 'sha256:0', 'sha256:1', ")
    # Metadata
    for version, message in {
        "2": "written by format 2, this xpnet reads <= 1; upgrade xpnet",
        "3": "written by format 3, this xpnet reads <= 1; upgrade xpnet",
        "0": "must be a positive integer",
        "-1": "must be a positive integer",
        "1e3": "must be a positive integer",
        "": "must be a positive integer",
        "9" * 99: "must be a positive integer",
    }.items():
        edit(f"format {version[:9]!r}", message, lambda h, v=version: h["__metadata__"].update(xpnet_format=v))
    edit("no metadata", "another program", lambda h: h.pop("__metadata__"))
    edit("no format", "another program", lambda h: h["__metadata__"].pop("xpnet_format"))
    edit(
        "format a number",
        "must be a positive integer in a string, got 1",
        lambda h: h["__metadata__"].update(xpnet_format=1),
    )
    edit("unknown metadata", "metadata 'more' is unknown", lambda h: h["__metadata__"].update(more="1"))
    edit("no description", "metadata 'description' is missing", lambda h: h["__metadata__"].pop("description"))
    edit(
        "description altered", "sha256 of the description differs", lambda h: h["__metadata__"].update(description="{}")
    )
    edit("description not a string", "no JSON in a string", lambda h: h["__metadata__"].update(description={}))
    key = "sha256:a"
    edit("sha256 missing", "no 'sha256:a' in the metadata", lambda h: h["__metadata__"].pop(key))
    edit(
        "sha256 of nothing",
        "'sha256:no' is unknown, or the checksum of no tensor",
        lambda h: h["__metadata__"].update({"sha256:no": "0" * 64}),
    )
    edit("renamed", "no 'sha256:x' in the metadata", lambda h: h.update(x=h.pop("a")))
    edit("two types exchanged", "sha256 of tensor 'a' and of 'b' differs", exchange)
    replace(
        "sha256 twice", "name 'sha256:b' appears twice", b'"sha256:a"', b'"sha256:b":"' + b"0" * 64 + b'","sha256:a"'
    )
    edit("sha256 wrong", "sha256 of tensor 'a' differs", lambda h: h["__metadata__"].update({key: "0" * 64}))
    edit("sha256 short", "sha256 of tensor 'a' differs", lambda h: h["__metadata__"].update({key: "0" * 62}))
    edit("sha256 not hexadecimal", "sha256 of tensor 'a' differs", lambda h: h["__metadata__"].update({key: "x" * 64}))
    edit("sha256 not a string", "sha256 of tensor 'a' differs", lambda h: h["__metadata__"].update({key: [1]}))
    edit(
        "sha256 with capitals",
        "sha256 of tensor 'a' differs",
        lambda h: h["__metadata__"].update({key: h["__metadata__"][key].upper()}),
    )
    # The description
    described("description NaN", "NaN is no number, or too large", '{"a":NaN}')
    described("description -Infinity", "-Infinity is no number, or too large", '{"a":-Infinity}')
    described("description 1e999", "1e999 is no number, or too large", '{"a":1e999}')
    described("description name twice", "the name 'a' appears twice", '{"a":1,"a":2}')
    described("description 100,000 brackets", "brackets are nested deeper than 128", "[" * 100_000)
    described("description 20,000 objects", "brackets are nested deeper than 128", '{"a":' * 20_000)
    described("description 60,000 lists", "more values", "[" + "[]," * 60_000 + "0]")
    described("description 60,000 numbers", "more values", "[" + "0," * 60_000 + "0]")
    described("description two values", "description, byte 2: cannot be read", "{}{}")
    described("description empty", "description, byte 0: cannot be read", "")
    described("description half a surrogate pair", "surrogate pair", '"\\ud800"')
    described("description long number", "a number of 5000 characters", "1" * 5000)
    described("description long string", "at most 4096", '"' + "a" * 5000 + '"')
    described("description of 200 KiB", "at most 196608", '"' + "a" * 200 * 1024 + '"')
    described("description not ASCII", "plain ASCII", '"é"')
    described("description wrong word", "description, byte 0: cannot be read", "nil")
    # The data
    for position in range(len(data)):
        for bit in (0, 7):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            name = "a" if position < 12 else "b"
            message = f"byte {8 + length + (0 if name == 'a' else 12)}: sha256 of tensor '{name}' differs"
            result[f"bit {bit} of data byte {position} flipped"] = (pack(text, bytes(damaged)), message)
    truth = metadata(**{"sha256:t": checksum("t", "BOOL", [2], b"\2\0")})
    result["truth value 2"] = (
        pack({"__metadata__": truth, "t": entry("BOOL", [2], 0, 2)}, b"\2\0"),
        "other than 0 and 1",
    )
    return result


def json_of(valid: bytes, field: str) -> bytes:
    """The field of tensor "a" as it stands in the header, after its name."""
    (length,) = struct.unpack("<Q", valid[:8])
    return b'":' + json.dumps(json.loads(valid[8 : 8 + length])["a"][field]).encode()
