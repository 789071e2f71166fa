"""What the documentation promises to be the same to the bit, in processes of their own."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import numpy as np
import pytest

import xpnet

PROGRAM = """
import hashlib, sys
import numpy as np
if sys.argv[2] == "plain":
    import importlib.util
    find = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *rest: None if name == "llvmlite" else find(name, *rest)
import xpnet
from xpnet.backends.numpy import Replay
Replay.patience = 0.0  # machine code from the second step on, where there is any
np.random.seed(int(sys.argv[3]))
for _ in range(int(sys.argv[3])):
    np.random.random()
x, t = xpnet.datasets.spirals(300, seed=0)
net = xpnet.Network(
    [xpnet.Linear(2, 32), xpnet.GELU(), xpnet.Dropout(0.2), xpnet.Linear(32, 16), xpnet.Tanh(), xpnet.Linear(16, 3)],
    "cross_entropy", seed=int(sys.argv[1]), l2=1e-3,
)
history = net.fit(x, t, optimizer=xpnet.AdamW(0.01, clip_norm=1.0), epochs=4, batch_size=37, validation_split=0.2)
numbers = [net.theta.tobytes(), history["loss"].tobytes(), history["validation_loss"].tobytes()]
numbers += [net.predict_proba(x).tobytes()]
print([hashlib.sha256(n).hexdigest() for n in numbers])
"""


def run(seed: int, kernels: str = "fast", global_state: int = 0, hash_seed: str = "0") -> str:
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, str(seed), kernels, str(global_state)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def first() -> str:
    return run(0)


def test_a_fresh_process_repeats_every_bit(first: str) -> None:
    assert first.count("'") == 8
    assert run(0, hash_seed="1") == first


def test_numpys_global_generator_has_no_say(first: str) -> None:
    assert run(0, global_state=5) == first


def test_the_extra_fast_changes_no_bit(first: str) -> None:
    assert run(0, kernels="plain") == first


def test_another_seed_is_another_training(first: str) -> None:
    ours, theirs = ast.literal_eval(first), ast.literal_eval(run(1))
    assert all(a != b for a, b in zip(ours, theirs, strict=True))


def test_numpys_global_generator_is_not_touched() -> None:
    before = np.random.get_state()  # noqa: NPY002
    x, t = xpnet.datasets.spirals(60, seed=0)
    net = xpnet.mlp([2, 8, 3], dropout=0.5, seed=None)
    net.fit(x, t, epochs=2, validation_split=0.25)
    net.predict(x)
    after = np.random.get_state()  # noqa: NPY002
    assert before[0] == after[0]
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]
