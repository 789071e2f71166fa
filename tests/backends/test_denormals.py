"""Numbers too small to have all digits count as zero, in every way to run a step, and nowhere else."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet.backends.base import Backend
from xpnet.backends.cpu import denormals
from xpnet.backends.cpu.threads import Helpers
from xpnet.backends.numpy import NumpyBackend

SMALLEST = np.finfo(np.float32).tiny
pytestmark = pytest.mark.skipif(not denormals.known, reason="denormal numbers cost nothing here, or are left alone")


def half_is_zero() -> bool:
    return bool((np.full(4, SMALLEST) * np.float32(0.5) == 0).all())


def test_within_a_backend_only_and_a_failure_ends_it_too() -> None:
    def fail() -> None:
        with NumpyBackend().active():
            with NumpyBackend().active():
                assert half_is_zero()
            assert half_is_zero()
            raise KeyError

    assert not half_is_zero()
    with pytest.raises(KeyError):
        fail()
    assert not half_is_zero()


@pytest.mark.parametrize("inside", [True, False])
def test_helping_threads_have_the_numbers_of_whom_they_help(inside: bool) -> None:
    helpers, found = Helpers(), []
    for within in (not inside, inside):
        before = denormals.setting(denormals.ZERO if within else 0)
        try:
            helpers.share([lambda: found.append(half_is_zero())] * 40, 2)
        finally:
            denormals.setting(before)
    assert found == 40 * [not inside] + 40 * [inside]


@pytest.mark.parametrize("how", ["written", "replayed", "compiled"])
def test_a_running_mean_that_shrinks_becomes_zero(how: str) -> None:
    if how == "compiled":
        pytest.importorskip("llvmlite")
    x, t = np.zeros((64, 8), np.float32), np.arange(64) % 2
    net = xpnet.mlp([8, 2], seed=0, backend="numpy")
    trainer = xpnet.Trainer(net, xpnet.SGD(0.1, momentum=0.5), x, t, batch_size=8)
    program: Any = trainer._program(8)
    if how == "compiled":
        program.compile(program._tape)
    elif how == "written":
        trainer._programs[8] = Backend.compile(net.backend, trainer.make_step(8), trainer.arrays, [])
    else:
        program._tape = None
    trainer.arrays["slot.v"][:16] = 8 * SMALLEST  # of weights whose gradient is zero
    trainer.run(3)
    assert (trainer.arrays["slot.v"][:16] == SMALLEST).all()
    trainer.run(1)
    assert (trainer.arrays["slot.v"][:16] == 0).all()


def test_numpy_has_nothing_to_say_about_its_types() -> None:
    with warnings.catch_warnings(), NumpyBackend().active():
        warnings.simplefilter("error")
        for dtype in ("float16", "float32", "float64"):
            assert np.finfo(dtype).tiny > 0
