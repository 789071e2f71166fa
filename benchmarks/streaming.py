"""Does a training that streams its data from a file keep up with one that has them all in memory?

Makes a file of random images (bytes), and trains the same network on it twice, each in a process of its own: with all
data in memory, and with `memory` bytes of them at a time. Prints the seconds of the faster epoch, those of the whole
and of all threads' work, how far the process's memory rose above that before the training, and whether the parameters
are the same bits. Exit status 1 means that a bar was missed: 1.15 times the time, 1.1 times the memory.

python benchmarks/streaming.py                         4 GB of data, 512 MB of them in memory
python benchmarks/streaming.py --gigabytes 1 --memory "128 MB" --backend cupy
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import xpnet
from xpnet.model.memory import bytes_of, readable
from xpnet.training.windows import BLOCKS

PIXELS, CLASSES, BATCH = 784, 10, 256
SLOWER, LARGER = 1.15, 1.1
"""The bars."""
ROWS = 1 << 14
"""Rows that are made at a time."""


def make(path: Path, rows: int) -> None:
    """Write random images, a part at a time."""
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, rows, ROWS):
            file.write(rng.bytes(PIXELS * min(ROWS, rows - start)))


def network(backend: str, hidden: int) -> xpnet.Network:
    return xpnet.mlp([PIXELS, hidden, CLASSES], backend=backend, seed=0)


def resident_bytes() -> int:
    """Return the largest resident memory that this process has had since it was last asked to forget."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Train in this process; return seconds of the fastest epoch, bytes, and the parameters' bits."""
    x = np.memmap(args.file, np.uint8, "r").reshape(-1, PIXELS)
    t = np.random.default_rng(1).integers(0, CLASSES, len(x))
    options: dict[str, Any] = {"batch_size": BATCH, "scale": 1 / 255, "verbose": False, "window": args.window}
    # First a little training of the same kind: what is loaded and compiled once is not measured.
    network(args.backend, args.hidden).fit(np.zeros((64 * BATCH, PIXELS), np.uint8), t[: 64 * BATCH], **options)
    Path("/proc/self/clear_refs").write_text("5")
    before, net = resident_bytes(), network(args.backend, args.hidden)
    began, worked = time.perf_counter(), time.process_time()
    history = net.fit(x, t, epochs=args.epochs, memory=args.limit, **options)
    whole, worked = time.perf_counter() - began, time.process_time() - worked
    bits = hashlib.sha256(net.backend.to_numpy(net.theta).tobytes()).hexdigest()
    return {
        "seconds": float(history["seconds"].min()), "whole": whole, "worked": worked,
        "bytes": resident_bytes() - before, "bits": bits,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--memory", default="512 MB", help="of the data that lie on the device")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--folder", type=Path, help="where the file is made; the system's temporary folder if left out")
    for name, kind in (("file", Path), ("limit", int), ("window", int)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)  # for the processes that are measured
    args = parser.parse_args()
    if args.file is not None:
        print(json.dumps(measure(args)))
        return 0
    rows = int(args.gigabytes * 1e9) // PIXELS
    limit = bytes_of("memory", args.memory)
    window = limit // (2 * (PIXELS + 28)) // BLOCKS * BLOCKS
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "images.bin"
        make(path, rows)
        print(f"{rows} images, {readable(path.stat().st_size)}; windows of {window} rows; batches of {BATCH}")
        found = {}
        for name, own in (("resident", 1 << 50), ("streamed", limit)):
            given = {"file": path, "limit": own, "window": window} | {
                option: getattr(args, option) for option in ("backend", "epochs", "hidden")
            }
            options = [part for option, value in given.items() for part in (f"--{option}", str(value))]
            done = subprocess.run([sys.executable, __file__, *options], stdout=subprocess.PIPE, text=True, check=True)
            found[name] = json.loads(done.stdout)
            seconds = "{seconds:.2f} s an epoch, {whole:.2f} s in all, {worked:.2f} s of work".format(**found[name])
            print(f"{name}: {seconds}, memory +{readable(found[name]['bytes'])}")
    slower = found["streamed"]["seconds"] / found["resident"]["seconds"]
    larger = found["streamed"]["bytes"] / limit
    same = found["streamed"]["bits"] == found["resident"]["bits"]
    print(f"streamed: {slower:.3f} of the time, {larger:.3f} of the limit; the same bits: {same}")
    return int(slower > SLOWER or (args.backend == "numpy" and larger > LARGER) or not same)


if __name__ == "__main__":
    sys.exit(main())
