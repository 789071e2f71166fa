"""The kernels against CuPy itself: its own definitions where it is installed, its own results where there is a GPU."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from array_backends import NO_CUPY
from cuda_steps import STEPS, trainer

import xpnet
from xpnet.backends.cuda.formulas import BOOLEAN, DECISIONS, FLOATING, HALVES, INTEGER, TYPES
from xpnet.backends.cupy import CupyBackend

# What CUDA C has and C++ has not.
HEADER = """
#include <cmath>
static float max(float a, float b) { return fmaxf(a, b); }
static float min(float a, float b) { return fminf(a, b); }
static double max(double a, double b) { return fmax(a, b); }
static double min(double a, double b) { return fmin(a, b); }
template<class T> static T max(T a, T b) { return a > b ? a : b; }
template<class T> static T min(T a, T b) { return a < b ? a : b; }
"""
ROUNDED = "".join(
    f"static {kind} __{letter}{name}_rn({kind} a, {kind} b) {{ return a {sign} b; }}\n"
    for kind, letter in (("float", "f"), ("double", "d"))
    for name, sign in (("add", "+"), ("sub", "-"), ("mul", "*"), ("div", "/"))
)
FUNCTIONS = "exp expm1 log log1p log2 log10 sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh floor ceil"
USED = "".join(f"using std::{name};\n" for name in [*FUNCTIONS.split(), "trunc", "sqrt", "copysign", "isnan"])
ROOTS = "".join(
    f"static {kind} __{letter}sqrt_rn({kind} a) {{ return sqrt(a); }}\n"
    for kind, letter in (("float", "f"), ("double", "d"))
)
KINDS = [name for name in TYPES if name not in HALVES]


def awkward(name: str) -> np.ndarray:
    dtype = np.dtype(name)
    if dtype.kind == "b":
        return np.asarray([False, True])
    if dtype.kind == "f":
        with np.errstate(all="ignore"):
            special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1, -1, 0.1, -3.7, 1e-45, 1e-310, 3e38, 1e300, 0.5, 0.99, 2.5]
            return np.asarray(special).astype(dtype)
    limits = np.iinfo(dtype)
    few = [limits.min, limits.min + 1, 0, 1, 2, 7, limits.max // 3, limits.max - 1, limits.max]
    return np.asarray(few, dtype)


def definition(ufunc: Any, name: str) -> Any:
    """Return CuPy's loop for numbers of one data type; comparisons have one for all signed, all unsigned integers."""
    wanted = [np.dtype(name).char, {"i": "q", "u": "Q"}.get(np.dtype(name).kind)]
    found = {"".join(np.dtype(t).char for t in loop.in_types): loop for loop in ufunc._ops.ops}
    loops = [found.get(letter * ufunc.nin) for letter in wanted if letter]
    return next((loop for loop in loops if loop is not None and loop.routine is not None), None)


def test_every_formula_is_cupys(tmp_path: Path) -> None:
    """Both as C++, on numbers that overflow, are not numbers, or are zeros with a sign."""
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed; a GPU is not needed")
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler (c++) here")
    functions, source = {}, HEADER + USED + ROUNDED + ROOTS
    for kind in KINDS:
        table = {"f": FLOATING, "b": BOOLEAN}.get(np.dtype(kind).kind, INTEGER)
        for name, template in (table | DECISIONS).items():
            loop = definition(getattr(cupy, name), kind)
            if loop is None:
                assert name == "isnan"  # of integers, which CuPy converts first
                continue
            result = "bool" if name in DECISIONS else TYPES[kind]
            letters = {"r": "f", "f": "f"} if kind == "float32" else {"r": "d", "f": ""}
            own = template.format("a", "b", **letters)
            source += f"""
extern "C" void f{len(functions)}(const {TYPES[kind]}* x, const {TYPES[kind]}* y, {result}* p, {result}* q, long n) {{
    for (long i = 0; i < n; i++) {{
        typedef {TYPES[np.dtype(loop.in_types[0]).name]} in0_type; typedef {result} out0_type;
        const {TYPES[kind]} a = x[i], b = y[i];
        p[i] = {own};
        in0_type in0 = a, in1 = b; out0_type out0; {loop.routine}; q[i] = out0;
    }}
}}"""
            functions[kind, name] = result
    code, library = tmp_path / "formulas.cpp", tmp_path / "formulas.so"
    code.write_text(source)
    options = ["-O1", "-w", "-fwrapv", "-ffp-contract=off", "-shared", "-fPIC"]
    subprocess.run([compiler, *options, str(code), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    assert len(functions) > 280
    for k, ((kind, name), result) in enumerate(functions.items()):
        x, y = (a.ravel().copy() for a in np.meshgrid(awkward(kind), awkward(kind)))
        if name.endswith("shift"):
            y = (np.abs(y.astype(float)) % (8 * y.itemsize)).astype(y.dtype)
        own, cupys = (np.zeros(x.size, bool if result == "bool" else kind) for _ in range(2))
        addresses = [ctypes.c_void_p(a.ctypes.data) for a in (x, y, own, cupys)]
        getattr(loaded, f"f{k}")(*addresses, ctypes.c_long(x.size))
        np.testing.assert_array_equal(own, cupys, err_msg=f"{name} of {kind}")
        if own.dtype.kind == "f":
            signs = [np.signbit(a) & ~np.isnan(a) for a in (own, cupys)]
            np.testing.assert_array_equal(*signs, err_msg=f"{name} of {kind}")


def on_gpu(fusion: bool) -> Any:
    backend = CupyBackend()  # of its own, since its ways are changed
    backend.fusion, backend.fuse = fusion, lambda f: f  # type: ignore[method-assign]  # CuPy's fusion rounds otherwise
    return backend


@pytest.mark.skipif(NO_CUPY is not None, reason=str(NO_CUPY))
def test_on_a_gpu_every_step_is_fused_and_right() -> None:
    for name in STEPS:
        outcomes = []
        for fusion in (True, False):
            backend = on_gpu(fusion)
            made = trainer(name, backend)
            made.run(35)
            assert fusion == (" kernels" in backend.compiled), (name, backend.compiled)
            assert "not used" not in backend.compiled, (name, backend.compiled)
            outcomes.append({key: backend.to_numpy(a) for key, a in made.arrays.carried.items()})
        for key, value in outcomes[1].items():  # cuBLAS may add up in another order
            np.testing.assert_allclose(outcomes[0][key], value, rtol=1e-3, atol=1e-4, err_msg=f"{name}: {key}")


@pytest.mark.parametrize("precision", [None, "float16"])
@pytest.mark.skipif(NO_CUPY is not None, reason=str(NO_CUPY))
def test_on_a_gpu_epochs_of_forty_batches_and_a_ragged_one(precision: Any) -> None:
    """Of real size: graphs of sixteen steps and of one, a rest, a recorder, and numbers like NumPy's."""
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(40 * 64 + 17, 784)).astype(np.float32), rng.integers(0, 10, 40 * 64 + 17)
    losses = {}
    for name, backend in (("fused", on_gpu(True)), ("written", on_gpu(False)), ("numpy", "numpy")):
        net = xpnet.mlp([784, 512, 512, 10], backend=backend, seed=1)
        recorder = xpnet.Recorder(every=20)
        history = net.fit(
            x, t, epochs=2, batch_size=64, optimizer=xpnet.SGD(0.05), precision=precision, callbacks=[recorder]
        )
        losses[name] = history["loss"]
        if name == "fused":
            assert " kernels" in backend.compiled, backend.compiled
            assert "not used" not in backend.compiled, backend.compiled
    tolerance = 1e-4 if precision is None else 1e-2
    for name in ("fused", "written"):
        np.testing.assert_allclose(losses[name], losses["numpy"], rtol=tolerance, err_msg=name)
