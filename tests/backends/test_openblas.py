"""The hint for who has told OpenBLAS to leave the processor's better kernels aside."""

import types
from pathlib import Path

import pytest

import xpnet
from xpnet.backends.cpu import openblas

ALL = "flags : fpu avx2 avx512f avx512dq avx512bw avx512vl"


def test_the_library_names_its_kernels_or_is_not_there(tmp_path: Path) -> None:
    assert openblas.in_folder(tmp_path) is None
    (tmp_path / "libopenblas.so").write_bytes(b"not a library")
    assert openblas.in_folder(tmp_path) is None
    blas = openblas.of_numpy()
    if blas is None:
        pytest.skip("this NumPy does not come with an OpenBLAS of its own")
    assert blas.kernels.isalnum()
    assert blas.address("cblas_sgemm") not in (0, blas.address("cblas_dgemm"))


@pytest.mark.parametrize(("text", "has"), [(ALL, True), (ALL.replace("avx512vl", ""), False), ("flags : fpu", False)])
def test_what_the_processor_has(tmp_path: Path, text: str, has: bool) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert openblas.has_avx512(tmp_path / "cpuinfo") is has
    assert openblas.has_avx512(tmp_path / "missing") is False


@pytest.mark.parametrize(
    ("kernels", "told", "wide", "hint", "named"),
    [
        ("Haswell", "Haswell", True, True, True),
        ("Haswell", "Haswell", False, False, True),
        ("Haswell", None, True, False, True),
        ("SkylakeX", "SkylakeX", True, False, True),
        (None, "Haswell", True, False, False),
    ],
)
def test_the_hint(
    monkeypatch: pytest.MonkeyPatch, kernels: str | None, told: str | None, wide: bool, hint: bool, named: bool
) -> None:
    blas = None if kernels is None else types.SimpleNamespace(kernels=kernels, threads=lambda: 1)
    monkeypatch.setattr(openblas, "of_numpy", lambda: blas)
    monkeypatch.setattr(openblas, "has_avx512", lambda: wide)
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    if told is not None:
        monkeypatch.setenv("OPENBLAS_CORETYPE", told)
    line = xpnet.backends.get("numpy").describe()
    assert ("OPENBLAS_CORETYPE is 'Haswell'" in line) is hint
    assert ("OpenBLAS" in line) is named
