"""``python -m xpnet``, the report for bug reports."""

import platform
import subprocess
import sys

import numpy as np
import pytest
from fake_cupy import CUDARuntimeError, fake_cupy

import xpnet
from xpnet import __main__ as report


def test_the_report(capsys):
    report.main()
    text = capsys.readouterr().out
    first, *_ = text.splitlines()
    assert first == f"xpnet {xpnet.__version__}, Python {platform.python_version()}, {platform.platform()}"
    assert any(line.startswith(f"  numpy    NumPy {np.__version__} on the CPU") for line in text.splitlines())
    for line in ("backends", "packages"):
        assert line in text.splitlines()
    for package in (
        "numpy",
        "array-api-compat",
        "rich",
        "pooch",
        "cupy-cuda13x",
        "llvmlite",
        "scikit-learn",
    ):
        assert f"  {package} " in text
    assert xpnet.__version__ in text


@pytest.mark.parametrize(
    ("cupy", "reason"),
    [
        (None, "which is not installed"),
        (fake_cupy(count=CUDARuntimeError("cudaErrorNoDevice: none")), "there is no usable NVIDIA driver or GPU"),
        (fake_cupy(kernel=RuntimeError("libnvrtc")), "the CUDA compiler library (NVRTC) is missing"),
        (fake_cupy(product=ImportError("libcublasLt")), "the CUDA matrix library (cuBLAS) is missing"),
    ],
    ids=["absent", "driver", "compiler", "products"],
)
def test_the_report_says_what_cuda_lacks(monkeypatch, capsys, cupy, reason):
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    report.main()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  cupy  ")]
    assert reason in line
    assert "nstall" in line


def test_a_reader_that_stops_early():
    command = f"{sys.executable} -m xpnet | head -n 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("xpnet ")
    assert "Traceback" not in done.stderr
