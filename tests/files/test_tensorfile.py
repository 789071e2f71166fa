"""The file of tensors: what was written comes back to the bit, and nothing else is ever accepted."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import re
import string
import struct
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from fault_injection import Calls, same, small_file, try_mutations
from malformed import DESCRIPTION, MIB, TENSORS, malformed, pack, valid_file

import xpnet.files.tensors
from xpnet.errors import CheckpointError, CheckpointIOError, DTypeError, OutOfMemoryError
from xpnet.files.json import Limits, parse
from xpnet.files.tensors import read_tensors, write_tensors

RNG = np.random.default_rng(0)
CODES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


# ------------------------------------------------------------------------------------------ round trip


@pytest.mark.parametrize("code", CODES)
def test_every_type_and_layout_comes_back_to_the_bit(tmp_path: Path, code: str) -> None:
    dtype = np.dtype(code)
    base = np.frombuffer(RNG.bytes(4 * 6 * 8 * dtype.itemsize), np.uint8)
    base = (base & 1).astype(bool) if code == "?" else base.view(dtype)
    base = base[:192].reshape(4, 6, 8)
    arrays = {
        "plain": base,
        "transposed": base.T,
        "swapped": base.swapaxes(0, 1),
        "strided": base[:, ::2, 1::3],
        "reversed": base[::-1, :, ::-2],
        "Fortran": np.asfortranarray(base),
        "big-endian": base.astype(dtype.newbyteorder(">")),
        "big-endian, transposed": base.astype(dtype.newbyteorder(">")).T,
        "broadcast": np.broadcast_to(base[0, 0], (5, 8)),
        "0-d": base[1, 2, 3],
        "0-d, big-endian": np.array(base[1, 2, 3], dtype.newbyteorder(">")),
        "empty": base[:0],
        "read-only": base.copy(),
        "unaligned": np.frombuffer(b"\0" + base.tobytes(), np.uint8)[1:].view(dtype),
    }
    arrays["read-only"].flags.writeable = False
    write_tensors(tmp_path / "f", arrays, {})
    got, _ = read_tensors(tmp_path / "f")
    assert got.keys() == arrays.keys()
    for name, array in arrays.items():
        assert got[name].shape == array.shape, name
        assert got[name].dtype == dtype, name
        assert got[name].dtype.isnative
        assert got[name].flags.writeable
        assert got[name].flags.aligned
        assert got[name].tobytes() == array.astype(dtype).tobytes(), name


def test_special_numbers_come_back_to_the_bit(tmp_path: Path) -> None:
    bits = np.array([0x7FC00001, 0xFFC12345, 0x7F800001, 0x7F800000, 0xFF800000, 0x80000000, 1], np.uint32)
    write_tensors(tmp_path / "f", {"a": bits.view(np.float32)}, {})
    assert (read_tensors(tmp_path / "f")[0]["a"].view(np.uint32) == bits).all()


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "0.W",
        "a\0b",
        "new\nline",
        "\u202eright to left",
        "é😀",
        '"quoted\\"',
        "__class__",
        "../../x",
        "x" * 1000,
    ],
)
def test_any_name_comes_back(tmp_path: Path, name: str) -> None:
    write_tensors(tmp_path / "f", {name: np.ones(2)}, {})
    assert list(read_tensors(tmp_path / "f")[0]) == [name]
    damaged = bytearray((tmp_path / "f").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "f").write_bytes(damaged)
    with pytest.raises(CheckpointError, match="sha256 of tensor") as caught:
        read_tensors(tmp_path / "f")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        None,
        True,
        -7,
        2**200,
        0.1,
        -0.0,
        5e-324,
        1.7976931348623157e308,
        'é😀"\\\n\0\u202e',
        {"a": [1, [2.5, [None, {"": False}]]], "é": {}},
        [[[[[[[[[["deep"]]]]]]]]]],
        [
            {"class": "Linear", "inputs": 512, "outputs": 512, "bias": True, "weight": "glorot_uniform"},
            {"class": "ReLU"},
        ]
        * 800,
        {f"{k:x}": 257 + k for k in range(12_000)},
    ],
)
def test_any_description_comes_back(tmp_path: Path, value: Any) -> None:
    write_tensors(tmp_path / "f", {}, value)
    got = read_tensors(tmp_path / "f")[1]
    assert got == value
    assert repr(got) == repr(value)


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    names = [f"{k}" for k in RNG.permutation(50)]
    files = []
    for order in (names, names[::-1]):
        write_tensors(tmp_path / "f", {n: np.full(2, int(n), CODES[int(n) % 12]) for n in order}, DESCRIPTION)
        files.append((tmp_path / "f").read_bytes())
    assert files[0] == files[1]


def test_other_programs_read_the_file_and_the_checksums_are_as_documented(tmp_path: Path) -> None:
    arrays = {code: RNG.integers(0, 2, (3, 2)).astype(code) for code in CODES} | {
        "empty": np.zeros((0, 3)),
        "0-d": np.float32(2),
    }
    path = tmp_path / "f"
    write_tensors(path, arrays, DESCRIPTION)
    assert same(safetensors.numpy.load_file(path), {k: np.asarray(v) for k, v in arrays.items()})
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    assert length % 8 == 0
    assert json.loads(metadata["description"]) == DESCRIPTION
    assert metadata["description_sha256"] == hashlib.sha256(metadata["description"].encode()).hexdigest()
    dtypes = json.loads(path.read_bytes()[8 : 8 + length])
    for name, array in arrays.items():
        prefix = json.dumps([name, dtypes[name]["dtype"], list(np.shape(array))]).encode()
        assert metadata[f"sha256:{name}"] == hashlib.sha256(prefix + array.tobytes()).hexdigest()


def test_a_file_that_another_program_wrote_again_is_read(tmp_path: Path) -> None:
    write_tensors(tmp_path / "f", TENSORS, DESCRIPTION)
    with safetensors.safe_open(tmp_path / "f", "numpy") as file:
        metadata = file.metadata()
    safetensors.numpy.save_file(safetensors.numpy.load_file(tmp_path / "f"), tmp_path / "g", metadata)
    tensors, description = read_tensors(tmp_path / "g")
    assert same(tensors, TENSORS)
    assert description == DESCRIPTION


def test_white_space_and_the_order_of_fields_do_not_matter(tmp_path: Path) -> None:
    valid = valid_file(tmp_path)
    (length,) = struct.unpack("<Q", valid[:8])
    header = json.loads(valid[8 : 8 + length])
    turned = {k: dict(reversed(v.items())) for k, v in reversed(header.items())}
    (tmp_path / "f").write_bytes(pack(json.dumps(turned, indent=3).encode() + b"\r\n\t ", valid[8 + length :]))
    tensors, description = read_tensors(tmp_path / "f")
    assert same(tensors, TENSORS)
    assert description == DESCRIPTION


# ------------------------------------------------------------------------------- what cannot be written


@pytest.mark.parametrize(
    ("tensors", "description", "error", "message"),
    [
        ({"a": np.zeros(2, complex)}, {}, DTypeError, "'a' has the dtype complex128; a file holds bool, uint8"),
        ({"a": np.array(["x"])}, {}, DTypeError, "dtype <U1"),
        ({"a": np.array([None])}, {}, DTypeError, "dtype object"),
        ({"a": np.zeros(2, np.longdouble)}, {}, DTypeError, "dtype float128"),
        ({"a": np.zeros(2, "f4,i4")}, {}, DTypeError, "a file holds"),
        ({"__metadata__": np.zeros(2)}, {}, CheckpointError, "name must be a str other than"),
        ({3: np.zeros(2)}, {}, CheckpointError, "name must be a str other than '__metadata__', got 3"),
        ({"\ud800": np.zeros(2)}, {}, CheckpointError, "surrogates not allowed"),
        ({"x" * 1025: np.zeros(2)}, {}, CheckpointError, "at most 1024"),
        ({f"{k}": np.zeros(2) for k in range(10_001)}, {}, CheckpointError, "use fewer tensors"),
        ({}, {"a": float("nan")}, CheckpointError, "not expressible in JSON"),
        ({}, {"a": float("inf")}, CheckpointError, "not expressible in JSON"),
        ({}, {"a": np.float32(1)}, CheckpointError, "float32 is not JSON serializable"),
        ({}, {"a": (1, 2)}, CheckpointError, "no tuples"),
        ({}, {1: 2}, CheckpointError, "JSON's own types"),
        ({}, {"a": "x" * 5000}, CheckpointError, "at most 4096"),
        ({}, ["x" * 4000] * 60, CheckpointError, "at most 196608"),
        ({}, [0] * 60_000, CheckpointError, "more values"),
        ({}, "\ud800", CheckpointError, "surrogate"),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path: Path, tensors, description, error, message: str) -> None:
    small_file(tmp_path)
    path = tmp_path / "small.safetensors"
    before = path.read_bytes()
    with pytest.raises(error, match=message):
        write_tensors(path, tensors, description)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_description_that_contains_itself_is_not_written(tmp_path: Path) -> None:
    loop: list[Any] = []
    loop.append(loop)
    nested: list[Any] = []
    for _ in range(130):
        nested = [nested]
    for value in (loop, nested):
        with pytest.raises(CheckpointError, match=r"Circular|nested deeper than 128, the most"):
            write_tensors(tmp_path / "f", {}, value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_whichever_call_fails_the_old_tensors_are_there(tmp_path: Path, error: int) -> None:
    path = tmp_path / "f"
    write_tensors(path, TENSORS, DESCRIPTION)
    before = path.read_bytes()
    with Calls().watching() as calls:
        write_tensors(path, TENSORS, DESCRIPTION)
    for k in range(len(calls.log)):
        with Calls(fail_at=k, error=error).watching(), pytest.raises(CheckpointIOError, match=os.strerror(error)):
            write_tensors(path, {"a": np.ones(9), "b": np.ones(2)}, {})
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["f"]
    assert same(read_tensors(path)[0], TENSORS)


def test_twenty_kills_while_saving_lose_nothing(tmp_path: Path) -> None:
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1] / 'support')!r})\n" + (
        "from pathlib import Path; from fault_injection import kill_savers\n"
        "print(kill_savers(Path(sys.argv[1]), 20)['left a temporary'])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0  # otherwise no kill came during a save, and nothing was tested


# --------------------------------------------------------------------------------- files from strangers


def corpus() -> list[str]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return list(malformed(Path(folder)))


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, str]]:
    return malformed(tmp_path_factory.mktemp("corpus"))


@pytest.mark.parametrize("name", corpus())
def test_a_malformed_file_is_refused_with_its_reason(tmp_path: Path, bad_files: Any, name: str) -> None:
    content, message = bad_files[name]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError) as caught:
            read_tensors(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert type(caught.value) is CheckpointError
    assert repr(str(path)) in str(caught.value)
    assert message in str(caught.value)
    assert re.search(r", (byte \d+|header|description)[:,] |upgrade", str(caught.value))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < len(str(path)) + 400
    assert peak <= len(content) + 16 * MIB, f"{(peak - len(content)) / MIB:.2f} MiB more than the file"


def test_the_corpus_is_large(bad_files: Any) -> None:
    assert len([name for name in bad_files if "flipped" not in name]) >= 100


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    valid = small_file(tmp_path)
    path = tmp_path / "cut"
    for size in range(len(valid)):
        path.unlink(missing_ok=True)
        path.write_bytes(valid[:size])
        with pytest.raises(CheckpointError) as caught:
            read_tensors(path)
        assert type(caught.value) is CheckpointError
        assert repr(str(path)) in str(caught.value)


def test_any_single_byte_changed_is_noticed_or_means_the_same(tmp_path: Path) -> None:
    valid = small_file(tmp_path)
    tensors, description = read_tensors(tmp_path / "small.safetensors")
    path, accepted = tmp_path / "changed", 0
    for position in range(len(valid)):
        for value in {valid[position] ^ 1, valid[position] ^ 0x80, 0x20, 0x30} - {valid[position]}:
            path.unlink(missing_ok=True)
            path.write_bytes(valid[:position] + bytes([value]) + valid[position + 1 :])
            try:
                got, got_description = read_tensors(path)
            except CheckpointError:
                continue
            accepted += 1
            assert same(got, tensors)
            assert got_description == description
    assert accepted == 0


def test_ten_thousand_random_mutations(tmp_path: Path) -> None:
    found = try_mutations(tmp_path, small_file(tmp_path), 10_000, seed=0)
    assert found["refused"] > 9900


def test_a_file_of_the_largest_size_is_checked_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_tensors(path, {f"{k:x}": np.zeros(1, "f4") for k in range(7000)}, {"n": 7000})
    content = bytearray(path.read_bytes())
    assert len(read_tensors(path)[0]) == 7000
    content[-1] ^= 1
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=r"sha256 of tensor '[0-9a-f]+' differs"):
            read_tensors(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= len(content) + 16 * MIB


def costly(values: str, per: int) -> bytes:
    """As many members as a header may have, `per` an object, in text that one character makes four times as large."""
    names = map("".join, itertools.product(string.ascii_letters, repeat=3))
    objects = [",".join(f'"{name}":{values}' for name in itertools.islice(names, per)) for _ in range(84_000 // per)]
    return ('{"😀":[' + ",".join(f"{{{members}}}" for members in objects) + "]}").encode()


@pytest.mark.parametrize("per", [5, 500, 9000])
@pytest.mark.parametrize("values", ["257", "1e1", "[]", '"ab"'])
def test_whatever_a_header_holds_it_takes_little_memory_and_time(tmp_path: Path, values: str, per: int) -> None:
    content = pack(costly(values, per)[:MIB])
    (tmp_path / "f").write_bytes(content)
    begin = time.process_time()
    with pytest.raises(CheckpointError, match=r"header: no 'xpnet_format'|more values"):
        read_tensors(tmp_path / "f")
    assert time.process_time() - begin < 5  # 0.2 s on a quiet machine
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            read_tensors(tmp_path / "f")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= len(content) + 16 * MIB, f"{(peak - len(content)) / MIB:.2f} MiB more than the file"


def test_loading_a_corpus_imports_and_runs_nothing(tmp_path: Path, bad_files: Any) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for k, (content, _) in enumerate(bad_files.values()):
        (folder / f"{k}").write_bytes(content)
    (folder / "valid").write_bytes(valid_file(tmp_path))
    script = """
import os, pickle, sys
from xpnet.errors import CheckpointError
from xpnet.files.tensors import read_tensors
events, active = [], False
FORBIDDEN = ("import", "exec", "compile", "marshal", "pickle", "subprocess", "socket", "ctypes", "os.", "code.")
sys.addaudithook(lambda event, args: events.append(event) if active and event.startswith(FORBIDDEN) else None)
paths = [os.path.join(sys.argv[1], name) for name in os.listdir(sys.argv[1])]
read, active = 0, True
for path in paths:
    try:
        read_tensors(path)
        read += 1
    except CheckpointError:
        pass
active = False
print(len(paths), read, events)
active = True  # the hook would have seen it
import colorsys
eval("1"); pickle.loads(b"cbuiltins\\nlen\\n.")
active = False
print(all(any(e.startswith(w) for e in events) for w in ("import", "exec", "compile", "marshal", "pickle")))
"""
    command = [sys.executable, "-c", script, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{len(bad_files) + 1} 1 []", "True"]
    assert not Path("/tmp/xpnet-was-here").exists()


def test_what_the_system_refuses_while_reading_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_file(tmp_path)
    with pytest.raises(CheckpointIOError, match="No such file") as caught:
        read_tensors(tmp_path / "missing")
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(CheckpointIOError, match="Is a directory"):
        read_tensors(tmp_path)
    with (
        Calls(("fstat",), 1, errno.EIO).watching() as calls,
        pytest.raises(CheckpointIOError, match="Input/output error"),
    ):
        read_tensors(tmp_path / "small.safetensors")
    assert len(calls.log) == 2

    def no_memory(*args: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(xpnet.files.tensors.np, "empty", no_memory)
    with pytest.raises(OutOfMemoryError, match="needs 60 bytes of memory"):
        read_tensors(tmp_path / "small.safetensors")


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    valid = small_file(tmp_path)
    path, header = tmp_path / "small.safetensors", xpnet.files.tensors.Header

    def shrink(*args: Any) -> Any:
        os.truncate(path, len(valid) - 3)
        return header(*args)

    monkeypatch.setattr(xpnet.files.tensors, "Header", shrink)
    with pytest.raises(CheckpointError, match="3 bytes are missing"):
        read_tensors(path)


# ------------------------------------------------------------------------------------------------- JSON

LIMITS = Limits(characters=100, items=100, tokens=10_000)


@pytest.mark.parametrize(
    "text",
    [
        "[1,]",
        "[,1]",
        "{,}",
        '{"a" 1}',
        '{"a":1 "b":2}',
        "[1 2]",
        "+1",
        ".5",
        "1.",
        "0x1",
        "1e",
        "--1",
        "tru",
        "'a'",
        '"\t"',
        "{1:2}",
    ],
)
def test_what_json_does_not_allow_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match=r"^text, byte \d+: cannot be read"):
        parse(text.encode(), "text", LIMITS)


@pytest.mark.parametrize("seed", range(20))
def test_what_json_writes_is_read(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def draw(depth: int) -> Any:
        kind = rng.integers(0, 8 if depth else 6)
        if kind == 0:
            return rng.normal() * 10.0 ** int(rng.integers(-300, 300))
        if kind == 1:
            return int(rng.integers(-(2**62), 2**62))
        if kind == 2:
            return "".join(map(chr, rng.integers(1, 0xD7FF, rng.integers(0, 9))))
        if kind < 6:
            return (None, True, False)[kind - 3]
        if kind == 6:
            return [draw(depth - 1) for _ in range(rng.integers(0, 6))]
        return {f"é{k}\n": draw(depth - 1) for k in range(rng.integers(0, 6))}

    for indent in (None, 2):
        value = [draw(4) for _ in range(20)]
        for ascii_only in (True, False):
            text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
            assert repr(parse(text.encode(), "text", LIMITS)) == repr(value)
