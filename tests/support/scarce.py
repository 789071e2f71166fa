"""Calls for which this process has too little memory; as a script, all of them, each in a fork of its own.

python tests/support/scarce.py FOLDER      print as JSON, by name, the error and whether the process could go on
"""

from __future__ import annotations

import copy
import gzip
import json
import os
import resource
import struct
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import xpnet
from xpnet.datasets.idx import read_idx

MIB = 1 << 20
EVENTS = ("on_begin", "on_steps", "on_epoch_end", "on_end")
Call = Callable[[], object]


class Greedy(xpnet.Callback):
    """A callback that asks for more memory than there is when a training comes to an event."""

    def __init__(self, event: str) -> None:
        self.every = 1
        setattr(self, event, lambda run: np.ones(1 << 30))


def network(size: int, law: str = "zeros") -> xpnet.Network:
    return xpnet.mlp([size, size, 2], weight_init=law)


def samples(count: int) -> tuple[Any, Any]:
    """Return samples that take no memory until somebody makes an array of them."""
    return np.broadcast_to(np.zeros(1, np.float32), (count, 100)), np.zeros(count, int)


def train(net: xpnet.Network, many: tuple[Any, Any], callbacks: Any = ()) -> None:
    net.fit(*many, epochs=1, batch_size=10, callbacks=callbacks, verbose=False)


class Hungry(xpnet.Layer):
    """A layer whose backward pass asks for more memory than there is."""

    def forward(self, xp: Any, params: Any, x: Any, context: Any = None) -> Any:
        return x, None

    def backward(self, xp: Any, params: Any, cache: Any, dy: Any, context: Any = None, need_dx: bool = True) -> Any:
        return np.ones(1 << 30), {}


def traced(count: int, measured: bool = False) -> Any:
    """Return a trace whose numbers take more memory once more than there will be."""
    net = xpnet.mlp([500, 500, 2], activation="sigmoid", weight_init="zeros")
    trace = net.trace(np.ones((count, 500), np.float32), np.zeros(count, int))
    if measured:
        _ = trace.statistics
    return trace


def idx_file(path: Path, count: int) -> Path:
    """Write images of 28 by 28, compressed."""
    path.write_bytes(gzip.compress(struct.pack(">HBB3I", 0, 8, 3, count // 784, 28, 28) + bytes(count // 784 * 784)))
    return path


def saved(net: xpnet.Network, path: Path) -> Path:
    net.save(path)
    return path


def calls(folder: Path) -> dict[str, tuple[Call, Callable[[Any], object]]]:
    """Return by name what is made while there is memory, and what is then done with it."""
    many, few = samples(200_000), samples(20)
    small, large = (lambda: network(100)), (lambda: network(4000))
    return {
        "Network, far too large": (small, lambda _: network(10**5)),
        "Network": (small, lambda _: network(2000)),
        "Network, orthogonal": (small, lambda _: network(1700, "orthogonal")),
        "load": (lambda: saved(network(2500), folder / "f"), xpnet.load),
        "load, far too large": (lambda: saved(network(4000), folder / "g"), xpnet.load),
        "copy": (large, lambda net: net.copy()),
        "to": (large, lambda net: net.to("numpy")),
        "forward": (small, lambda net: net.forward(many[0])),
        "predict": (small, lambda net: net.predict(many[0])),
        "evaluate": (small, lambda net: net.evaluate(*many)),
        "gradients": (small, lambda net: net.gradients(*many)),
        "input_gradients": (small, lambda net: net.input_gradients(*many)),
        "trace": (small, lambda net: net.trace(*many)),
        "Trace.statistics": (lambda: traced(5000), lambda trace: trace.statistics),
        "Trace.findings": (lambda: traced(10_000, measured=True), lambda trace: trace.findings),
        "check_gradients": (small, lambda net: xpnet.check_gradients(net, *many)),
        "check_gradients, a layer": (small, lambda _: xpnet.check_gradients(Hungry(), np.ones((2, 2)))),
        "quadrants": (small, lambda _: xpnet.datasets.quadrants(10**8)),
        "quadrants, far too many": (small, lambda _: xpnet.datasets.quadrants(10**30)),
        "parity": (small, lambda _: xpnet.datasets.parity(20)),
        "xor": (small, lambda _: xpnet.datasets.xor(10**8)),
        "spirals": (small, lambda _: xpnet.datasets.spirals(10**8)),
        "IDX files": (lambda: idx_file(folder / "i", 100_000_000), read_idx),
        "deepcopy": (large, copy.deepcopy),
        "Trainer": (small, lambda net: xpnet.Trainer(net, "sgd", *many)),
        "fit": (small, lambda net: train(net, many)),
        **{f"fit, {event}": (small, lambda net, e=event: train(net, few, Greedy(e))) for event in EVENTS},
    }


def file_of_rows(folder: Path) -> tuple[xpnet.Network, Any]:
    """Return a network, and rows of 50 MB in a file."""
    return network(100), np.memmap(folder / "rows", np.uint8, "w+", shape=(500_000, 100))


def stream(given: tuple[xpnet.Network, Any]) -> None:
    """Train with an eighth of the rows in memory."""
    net, x = given
    warnings.filterwarnings("ignore", "Steps are not compiled")  # for LLVM there is no memory
    net.fit(x, np.zeros(len(x), np.uint8), epochs=1, batch_size=1000, memory="6.25 MB", scale=1.0, verbose=False)


STREAMED = "fit, streamed"
CALLS = tuple(calls(Path()))


def outcome(prepare: Call, call: Callable[[Any], object]) -> str:
    """Return the error of a call for which 40 MiB are left."""
    given = prepare()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 40 * MIB, resource.RLIM_INFINITY))
    try:
        call(given)
    except MemoryError as error:
        text = f"{type(error).__name__}: {error}"
        train(network(100), samples(20))
        return f"{text} The process goes on."
    return "nothing happened"


if __name__ == "__main__":
    train(network(100), samples(20))  # what is loaded when it is needed is loaded before there is no memory for it
    to_do = calls(Path(sys.argv[1])) | {STREAMED: (lambda: file_of_rows(Path(sys.argv[1])), stream)}
    for name, (prepare, call) in to_do.items():
        if not (child := os.fork()):
            print(json.dumps([name, outcome(prepare, call)]), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
