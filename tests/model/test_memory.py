"""Memory that runs out, at every allocation of a training: a clear error, whole steps, and the next try works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import scarce
from array_backends import EagerBackend

import xpnet
from xpnet.errors import OutOfMemoryError

RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(50, 4)).astype(np.float32), RNG.integers(0, 3, 50)


class Scarce:
    """An array namespace whose k-th product fails as an allocation does."""

    def __init__(self, xp: Any, fail_at: int) -> None:
        self._xp, self.left = xp, fail_at

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._xp, name)
        if name not in ("matmul", "take", "maximum", "exp", "sum", "full", "sqrt"):
            return function

        def allocate(*args: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise MemoryError("Unable to allocate 7.28 TiB for an array")
            return function(*args, **options)

        return allocate


def scarce_backend(fail_at: int) -> Any:
    backend = EagerBackend()
    backend.xp = Scarce(backend.xp, fail_at)
    return backend


def make(backend: Any) -> xpnet.Network:
    return xpnet.mlp([4, 5, 3], backend=backend)


def fit(net: xpnet.Network, batch_size: int) -> None:
    net.fit(X, T, epochs=2, batch_size=batch_size, optimizer=xpnet.Adam(0.01))


def whole_steps(batch_size: int) -> list[bytes]:
    """Return the parameters after every whole number of steps."""
    net = make(EagerBackend())
    trainer = xpnet.Trainer(net, xpnet.Adam(0.01), X, T, batch_size=batch_size)
    states = [net.theta.tobytes()]
    for _ in range(2 * trainer.steps_per_epoch):
        trainer.run(1)
        states.append(net.theta.tobytes())
    return states


@pytest.mark.parametrize("fail_at", [*range(1, 40), 77, 100])
def test_training_names_the_batch_size_and_leaves_a_whole_step(fail_at: int) -> None:
    backend = scarce_backend(fail_at)
    net = make(backend)
    message = r"training with batch_size=20 ran out of memory on .*: Unable to allocate 7\.28 TiB.*Try batch_size=10\."
    with pytest.raises(OutOfMemoryError, match=message):
        fit(net, 20)
    states = whole_steps(20)
    assert net.theta.tobytes() in states
    fit(net, 10)  # the same process, the same network
    assert np.isfinite(net.theta).all()
    assert net.theta.tobytes() not in states


def test_prediction_names_the_batch_size() -> None:
    backend = scarce_backend(2)
    net = make(backend)
    with pytest.raises(OutOfMemoryError, match=r"prediction with batch_size=512 .*Try batch_size=256"):
        net.predict(X)
    assert net.predict(X).shape == (50,)


def test_a_batch_of_one_cannot_be_halved() -> None:
    net = make(scarce_backend(5))
    with pytest.raises(OutOfMemoryError, match="Use a smaller network or less data"):
        fit(net, 1)


# --------------------------------------------------------------------------------- the process's own limit


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each call of `scarce` ends with, where 40 MiB are left to it."""
    command = [sys.executable, "-W", "error", scarce.__file__, str(tmp_path_factory.mktemp("scarce"))]
    alone = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # a fork has one thread
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=alone)
    assert done.returncode == 0, done.stderr
    return dict(map(json.loads, done.stdout.splitlines()))


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="only Linux says how much memory a process has")
def test_a_file_larger_than_the_memory_that_is_left_is_streamed(outcomes: dict[str, str]) -> None:
    assert outcomes[scarce.STREAMED] == "nothing happened"


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="only Linux says how much memory a process has")
def test_of_two_limits_the_smaller_one_is_named(outcomes: dict[str, str]) -> None:
    assert "This process may have" in outcomes["Network, far too large"]


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="only Linux says how much memory a process has")
@pytest.mark.parametrize("name", scarce.CALLS)
def test_every_call_that_runs_out_names_bytes_and_a_way_out(outcomes: dict[str, str], name: str) -> None:
    assert re.fullmatch(
        r"OutOfMemoryError: .* \d+(\.\d*)? ?(bytes|[MG]iB)\b.*"
        r"(Free some memory, or|[Uu]se a smaller|Make the layer smaller|Try batch_size=\d|free some, or use).*"
        r" The process goes on\.",
        outcomes[name],
    )
