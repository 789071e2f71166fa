"""``python -m xpnet prove``: what it goes through, that it can fail, and how it ends."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cuda_c
import cuda_host
import numpy as np
import pytest
from array_backends import NO_TORCH
from cases import public

import xpnet
from xpnet import prove
from xpnet.backends.numpy import NumpyBackend


def test_every_layer_loss_and_optimizer_has_its_turn() -> None:
    assert {type(layer) for layer, _ in prove.LAYERS} == public(xpnet.Layer)
    assert {type(loss) for loss, _ in prove.LOSSES} == public(xpnet.losses.Loss)
    assert {type(optimizer) for optimizer in prove.OPTIMIZERS} == public(xpnet.Optimizer)


@pytest.mark.skipif(cuda_c.COMPILER is None, reason=cuda_c.NO_COMPILER)
@pytest.mark.parametrize("make", [NumpyBackend, cuda_host.HostCupy], ids=["numpy", "cupy"])
def test_some_of_every_kind_of_proof_hold(monkeypatch: pytest.MonkeyPatch, make: Any) -> None:
    seen: dict[str, int] = {}
    chosen = []
    for proof, case, attempt in prove.proofs(make()):
        seen[proof] = seen.get(proof, 0) + 1
        if seen[proof] in (1, 24):
            chosen.append((proof, case, attempt))
    monkeypatch.setattr(prove, "proofs", lambda backend: chosen)
    outcomes = prove.prove(make())
    assert [o for o in outcomes if not o.holds] == []
    assert len(seen) == (7 if make is NumpyBackend else 9)


@pytest.mark.skipif(NO_TORCH is not None, reason=str(NO_TORCH))
def test_what_is_proven_of_a_backend_that_does_not_compile() -> None:
    """That its numbers are NumPy's, for a few of the layers."""
    chosen = list(prove.proofs(xpnet.backends.get("torch")))
    kinds = dict.fromkeys(proof for proof, _, _ in chosen)
    numbers = ["like NumPy, float64", "like NumPy, float32"]
    assert list(kinds) == [*numbers, "products", "half precision", "files", "way back"]
    for proof, case, attempt in chosen:
        if proof not in numbers or "Norm" in case:
            assert attempt(), case


def test_a_wrong_number_fails_the_proof_and_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    layer, shape = prove.LAYERS[0]
    backend = xpnet.backends.get("numpy")
    right = partial(prove._compiled, backend, layer, shape, xpnet.SGD(0.1), "float32")
    proofs = [("compiled", "a layer", right), ("files", "one", lambda: "equal")]
    monkeypatch.setattr(prove, "proofs", lambda backend: proofs)
    assert prove.main(["--backend", "numpy"]) == 0
    assert "2 of 2 hold on NumPy" in capsys.readouterr().out

    call = prove.Replay.__call__

    def wrong(self: Any, steps: int = 1) -> None:
        call(self, steps)
        call(self, 1)

    monkeypatch.setattr(prove.Replay, "__call__", wrong)
    assert prove.main(["--json", str(tmp_path / "outcomes.json")]) == 1
    assert "FAILS  compiled             a layer" in capsys.readouterr().out
    first, second = json.loads((tmp_path / "outcomes.json").read_text())["outcomes"]
    assert (first["holds"], second["holds"]) == (False, True)
    assert first["found"].startswith("differs from the step as it is written by ")


def test_a_backend_that_is_not_there_is_said_to_be_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert prove.main(["--backend", "cupy"]) == 1
    assert "backend 'cupy' needs CuPy, which is not installed" in capsys.readouterr().out


def test_a_wrong_product_is_found() -> None:
    right = xpnet.backends.get("numpy")
    assert prove._products(right, "float32").startswith("within ")
    wrong = prove._like(right, xp=SimpleNamespace(**vars(right.xp) | {"matmul": lambda a, b: np.matmul(a, b[::-1])}))
    with pytest.raises(AssertionError, match="differs from NumPy's float64 by "):
        prove._products(wrong, "float32")


def test_a_step_that_does_not_say_that_memory_ran_out_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = xpnet.backends.get("numpy")
    assert "Try batch_size=4" in prove._memory(right)
    monkeypatch.setattr(prove, "TOO_MANY", 7)
    with pytest.raises(AssertionError, match="nothing was said"):
        prove._memory(right)


def test_a_difference_is_told_by_the_largest_number() -> None:
    a = {"x": np.asarray([4.0, 1.0])}
    assert prove._apart(a, a) == 0.0
    assert prove._apart({"x": np.asarray([4.0, 1.5])}, a) == 0.125
    assert prove._apart({"x": np.asarray([np.nan, 1.0])}, a) == np.inf
