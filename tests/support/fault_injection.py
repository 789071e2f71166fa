"""Makes system calls fail, kills savers, and damages files; also a script for longer runs than the suite's:

python tests/support/fault_injection.py kills 200
python tests/support/fault_injection.py mutations 1000000
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.errors import CheckpointError
from xpnet.files.atomic import TEMPORARY
from xpnet.files.tensors import read_tensors, write_tensors

SYSTEM_CALLS = ("write", "fsync", "replace", "link")


class Calls:
    """Counts calls of `os` functions; the `fail_at`-th (from 0) of them raises `error` instead of being done.

    With `forever`, all later ones raise too. `log` holds the names of the calls in order.
    """

    def __init__(self, names: tuple[str, ...] = SYSTEM_CALLS, fail_at: int | None = None, error: Any = None) -> None:
        self.names, self.fail_at, self.error = names, fail_at, error
        self.forever = False
        self.log: list[str] = []

    def _wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.log.append(name)
            number = len(self.log) - 1
            if self.fail_at is not None and (number == self.fail_at or (self.forever and number > self.fail_at)):
                raise OSError(self.error, os.strerror(self.error)) if isinstance(self.error, int) else self.error
            return function(*args, **options)

        return call

    @contextmanager
    def watching(self) -> Iterator[Calls]:
        originals = {name: getattr(os, name) for name in self.names}
        try:
            for name, function in originals.items():
                setattr(os, name, self._wrap(name, function))
            yield self
        finally:
            for name, function in originals.items():
                setattr(os, name, function)


def temporaries(folder: Path) -> list[str]:
    """Names of the temporary files in a folder."""
    return [entry.name for entry in folder.iterdir() if TEMPORARY.fullmatch(entry.name)]


def kill_savers(folder: Path, kills: int, seed: int = 0, size: int = 50_000) -> Counter[str]:
    """Kill `kills` processes that save without end, each at a random time; count what was found afterwards.

    After each kill the file must hold one complete save, the last or the one in progress, and after one more save
    no temporary file may be left. Anything else raises.
    """
    path, rng, found = folder / "saved.safetensors", random.Random(seed), Counter[str]()
    write_tensors(path, {"a": np.zeros(size)}, {"number": 0})
    for _ in range(kills):
        first = read_tensors(path)[1]["number"]
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                for number in range(first + 1, first + 100_000):
                    write_tensors(path, {"a": np.full(size, float(number))}, {"number": number})
                    os.write(writer, b".")
            finally:
                os._exit(1)
        os.close(writer)
        os.read(reader, 1)  # the first save is done
        time.sleep(rng.uniform(0.0, 0.02))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        completed = first + 1
        while piece := os.read(reader, 4096):
            completed += len(piece)
        os.close(reader)
        tensors, description = read_tensors(path)
        number = description["number"]
        assert np.array_equal(tensors["a"], np.full(size, float(number)))
        assert number in (completed, completed + 1), f"saves were lost: {number} found, {completed} completed"
        found["left a temporary"] += bool(temporaries(folder))
        found["new file in place, not yet reported"] += number == completed + 1
        write_tensors(folder / "other.safetensors", {}, {})
        assert not temporaries(folder), f"not removed by the next save: {temporaries(folder)}"
    return found


TOKENS = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"\\",
    b"\x00",
    b"\xff",
    b"null",
    b"NaN",
    b"1e999",
    b"-1",
    b"[" * 99,
]
TOKENS += [
    b"9223372036854775808",
    b'"dtype"',
    b'"F64"',
    b"\\ud800",
    b"\xed\xa0\x80",
    b" " * 30,
    b"\xff" * 8,
    b"\x00" * 8,
]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return `data` with one to three random changes: bits, bytes, pieces cut, doubled, moved, or tokens put in."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(data)) if data else 0
        # Half of the changes go to the header's fields, which are few of the bytes.
        if rng.random() < 0.3:
            at = min(at, rng.randrange(16))
        to = min(len(data), at + rng.choice((1, 1, 2, 4, 8, 64)))
        kind = rng.randrange(7)
        if kind == 0:
            data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)] if data else []) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + rng.randbytes(to - at) + data[to:]
        elif kind == 2:
            data = data[:at] + data[to:]
        elif kind == 3:
            data = data[:to] + data[at:]
        elif kind == 4:
            data = data[:at] + rng.choice(TOKENS) + data[to:]
        elif kind == 5:
            data = data[:at] + rng.choice(TOKENS) + data[at:]
        else:
            other = rng.randrange(len(data) + 1)
            data = data[:other] + data[at:to] + data[other:]
    return data


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    """Whether two sets of arrays are equal in names, types, shapes and bits."""
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and a[k].tobytes() == b[k].tobytes() for k in a
    )


def try_mutations(
    folder: Path, valid: bytes, count: int, seed: int, read: Callable[[Path], Any] = read_tensors
) -> Counter[str]:
    """Read `count` damaged copies of a file; each must be refused with a CheckpointError or have the same content."""
    path, rng, found = folder / "mutant.safetensors", random.Random(seed), Counter[str]()
    path.write_bytes(valid)
    tensors, description = read(path)
    for _ in range(count):
        data = mutate(valid, rng)
        path.unlink()  # a new file is written in memory; an overwritten one makes the system wait for the disk
        path.write_bytes(data)
        try:
            got, got_description = read(path)
        except CheckpointError as error:
            if str(path) not in str(error):
                raise AssertionError(f"no path in {error}") from error
            found["refused"] += 1
            continue
        if not same(got, tensors) or got_description != description:
            raise AssertionError(f"a damaged file was read as another: {data!r}")
        found["unchanged" if data == valid else "same content"] += 1
    return found


def small_file(folder: Path) -> bytes:
    """Return the bytes of a small valid file with arrays of several types."""
    rng = np.random.default_rng(0)
    tensors = {"0.W": rng.normal(size=(3, 2)), "0.b": rng.normal(size=2).astype("float32"), "step": np.uint32(7)}
    description = {"layers": [{"class": "Linear", "inputs": 3, "outputs": 2}], "rate": 0.1, "best": None, "on": True}
    write_tensors(folder / "small.safetensors", tensors, description)
    return (folder / "small.safetensors").read_bytes()


def main() -> None:
    what, count = sys.argv[1], int(sys.argv[2])
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if what == "kills":
            found = kill_savers(folder, count)
        else:
            found = try_mutations(folder, small_file(folder), count, seed=1)
    print(f"{count} {what} in {time.perf_counter() - begin:.1f} s: {dict(found)}")


if __name__ == "__main__":
    main()
