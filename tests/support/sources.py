"""Samples that do not lie in memory, well and ill behaved; as a script, a training that is killed, and one in a fork of
which little memory is left.

python tests/support/sources.py kill FOLDER STEP     train from a file, and die after a step
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import xpnet

SAMPLES, FEATURES, CLASSES, BATCH = 1003, 20, 3, 24
"""The last block has 3 rows, the last batch 19, and most windows end within a batch."""
WINDOW, MEMORY = 160, 20_000
"""Of 160 rows two windows fit, and not many more: the whole takes about 48,000 bytes."""


def samples(dtype: str = "uint8") -> tuple[Any, Any]:
    rng = np.random.default_rng(3)
    x = rng.integers(0, 256, (SAMPLES, FEATURES)).astype(dtype)
    return x, rng.integers(0, CLASSES, SAMPLES)


def mapped(folder: Path, array: Any) -> Any:
    """Return an array as a file."""
    path = folder / f"{array.dtype.name}-{array.shape}.bin"
    array.tofile(path)
    return np.memmap(path, array.dtype, "r", shape=array.shape)


class Sliced:
    """Nothing but a shape, a data type and slices; notes which, and by which thread, and calls a hook before each."""

    def __init__(self, array: Any, hook: Callable[[int, int], None] = lambda start, stop: None) -> None:
        self.array, self.hook = array, hook
        self.shape, self.dtype = array.shape, array.dtype
        self.slices: list[tuple[int, int]] = []
        self.threads: set[str] = set()

    def __getitem__(self, key: slice) -> Any:
        assert isinstance(key, slice)
        assert key.step is None
        self.slices.append((key.start, key.stop))
        self.threads.add(threading.current_thread().name)
        self.hook(key.start, key.stop)
        return self.array[key]


class Pairs:
    """A feed of batches that can be gone through again; `change` may alter a batch, given the epoch and its number."""

    def __init__(self, x: Any, t: Any, size: int = BATCH, change: Any = None) -> None:
        self.x, self.t, self.size, self.change, self.epoch = x, t, size, change, -1

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        for k, start in enumerate(range(0, len(self.x), self.size)):
            batch = self.x[start : start + self.size], self.t[start : start + self.size]
            batch = batch if self.change is None else self.change(self.epoch, k, *batch)
            if batch is None:
                return
            yield batch


def network(backend: Any = "numpy", **options: Any) -> xpnet.Network:
    return xpnet.mlp([FEATURES, 8, CLASSES], seed=1, dropout=0.1, backend=backend, **options)


def train(net: xpnet.Network, x: Any, t: Any = None, **options: Any) -> xpnet.History:
    return net.fit(x, t, **{"epochs": 3, "batch_size": BATCH, "verbose": False} | options)


def streamed(net: xpnet.Network, x: Any, t: Any, **options: Any) -> xpnet.History:
    """Train on a window after the other."""
    return train(net, x, t, **{"window": WINDOW, "memory": MEMORY, "scale": 1 / 255} | options)


def no_threads() -> bool:
    return not any(thread.name.startswith("xpnet-reader") for thread in threading.enumerate())


def kill(folder: Path, step: int) -> None:
    """Train from a file, with a checkpoint each third step, and end the process after `step` steps."""
    x, t = samples()

    class Kill(xpnet.Callback):
        every = 1

        def on_steps(self, run: Any) -> None:
            if run.step == step:
                os.kill(os.getpid(), signal.SIGKILL)

    path = folder / "run.safetensors"
    streamed(network(), mapped(folder, x), t, checkpoint=path, checkpoint_every=3, callbacks=[Kill()])


if __name__ == "__main__":
    kill(Path(sys.argv[2]), int(sys.argv[3]))
