"""The CUDA source that is made of a training step: a compiler takes it, and what it computes is what NumPy computes."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import array_api_compat.numpy as xp
import cuda_c
import cuda_host
import numpy as np
import pytest
from cuda_steps import STEPS, trainer

import xpnet
from xpnet.backends.cuda import launches as cuda_launches
from xpnet.backends.cuda.formulas import FLOATING, known, literal, whole
from xpnet.backends.cuda.kernels import Kernel, write
from xpnet.backends.cuda.launches import Launch, launches
from xpnet.backends.cuda.program import FusedStep
from xpnet.backends.cuda.rewrites import sums
from xpnet.backends.cupy import CupyBackend
from xpnet.backends.numpy import NumpyBackend
from xpnet.backends.tape.fusion import within
from xpnet.backends.tape.hollow import Hollow
from xpnet.backends.tape.loop import Number
from xpnet.backends.tape.plan import without_dead, write_in_place
from xpnet.backends.tape.record import CannotRecord, record

FLOATS = ["float32", "float64"]
needs_compiler = pytest.mark.skipif(cuda_c.COMPILER is None, reason=cuda_c.NO_COMPILER)


class NotUsed:
    """Stands for the device's arrays where nothing is done on a device."""


def planned(step: Any, arrays: Mapping[str, Any]) -> tuple[list[Launch], list[Kernel]]:
    """Return what a step starts, and the kernels among that."""
    tape = record(step, xp, arrays, NotUsed)
    operations, places = write_in_place(without_dead(tape.operations))
    instead = sums(tape, operations, places, known)
    made, links = launches([op for own in instead for op in own], places, known)
    inner = within([launch.operations for launch in made], places) | links
    return made, [write(launch.parts, places, inner) for launch in made if launch.parts]


def kernels(step: Any, arrays: Mapping[str, Any]) -> list[Kernel]:
    return planned(step, arrays)[1]


def kernels_of(name: str, dtype: str) -> list[Kernel]:
    with np.errstate(all="ignore"):
        made = trainer(name, dtype=dtype)
        return kernels(made.make_step(8), made.arrays)


# ------------------------------------------------------------------------------------------- NVIDIA's compiler


@pytest.fixture(scope="module")
def nvrtc() -> Any:
    """Return NVIDIA's run-time compiler, which needs no GPU."""
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()] if spec else []
    found = [path for folder in folders for path in sorted(folder.glob("*/lib/libnvrtc.so.*"))]
    if not found:
        pytest.skip("NVIDIA's compiler is not installed (pip install nvidia-cuda-nvrtc); it needs no GPU")
    return ctypes.CDLL(str(found[0]))


def compile_for(library: Any, source: str, architecture: str) -> tuple[str, str]:
    """Compile, and return what the compiler says, and the code in NVIDIA's virtual language."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    assert library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"step.cu", 0, None, None) == 0
    options = (ctypes.c_char_p * 2)(f"-arch={architecture}".encode(), b"-ftz=true")  # as CuPy compiles everything
    status = library.nvrtcCompileProgram(program, 2, options)

    def read(what: str) -> str:
        assert getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) == 0
        text = ctypes.create_string_buffer(size.value)
        assert getattr(library, f"nvrtcGet{what}")(program, text) == 0
        return text.value.decode()

    log = [line for line in read("ProgramLog").splitlines() if "Architectures prior to" not in line]
    assert bool(status) == any("error" in line for line in log)
    return "\n".join(log), "" if status else read("PTX")


@pytest.mark.parametrize(
    ("architecture", "every"), [("sm_75", 9), ("sm_80", 9), ("sm_90", 1), ("sm_100", 9), ("sm_120", 9)]
)
def test_cudas_compiler_takes_every_kernel(nvrtc: Any, architecture: str, every: int) -> None:
    count = ctypes.c_int()
    nvrtc.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    numbers = (ctypes.c_int * count.value)()
    nvrtc.nvrtcGetSupportedArchs(numbers)
    if int(architecture[3:]) not in list(numbers):
        pytest.skip(f"this NVIDIA compiler is for sm_{min(numbers)} and newer")
    names = [*STEPS][::every]
    found = {k.name: k.source for name in names for dtype in ("float32", "float64") for k in kernels_of(name, dtype)}
    assert len(found) > 400 / every
    said, code = compile_for(nvrtc, whole("".join(found.values())), architecture)
    assert said == ""
    assert code.count(".entry") == len(found)
    assert "error" in compile_for(nvrtc, 'extern "C" __global__ void f(float* p) { p[0] = q; }', architecture)[0]


@pytest.mark.parametrize("dtype", FLOATS)
def test_sums_of_products_are_rounded_twice(nvrtc: Any, dtype: str) -> None:
    """As they are by CuPy, whose sums and products are kernels of their own; a fused multiply-add rounds once."""
    (adam,) = (kernel.source for kernel in kernels_of("optimizer 9: Adam", dtype) if "sqrt" in kernel.source)
    assert "fma." not in compile_for(nvrtc, adam, "compute_80")[1]
    contracted = re.sub(r"__[fd]add_rn\((\w+), (\w+)\)", r"\1 + \2", adam)
    contracted = re.sub(r"__[fd]mul_rn\(([^;]+), ([^;]+)\);", r"\1 * \2;", contracted)
    assert "fma." in compile_for(nvrtc, contracted, "compute_80")[1]


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_smallest_numbers_are_zeros_where_they_are_for_cupy(nvrtc: Any, dtype: str) -> None:
    """In float32, by the option ftz; sums and products that are never merged obey it like those that may be."""
    c = {"float32": "float", "float64": "double"}[dtype]
    pairs = {"x + y": "add", "x - y": "subtract", "x * y": "multiply", "x / y": "divide", "sqrt(x)": "sqrt"}
    for expression, name in pairs.items():
        plain = f'extern "C" __global__ void f({c}* p) {{ {c} x = p[0], y = p[1]; p[0] = {expression}; }}'
        own = FLOATING[name].format("x", "y", r="f" if c == "float" else "d")
        codes = [compile_for(nvrtc, source, "compute_90")[1] for source in (plain, plain.replace(expression, own))]
        found = [re.findall(r"(?:add|sub|mul|div|sqrt)(?:\.rn)?((?:\.ftz)?\.f\d\d)", code) for code in codes]
        assert found[0] == found[1] == [".ftz.f32" if c == "float" else ".f64"]


@pytest.mark.parametrize("name", ["expf", "log", "log1p", "tanhf"])
def test_functions_have_the_code_that_they_have_by_themselves(nvrtc: Any, name: str) -> None:
    """CuPy compiles them without options; some, as log of float64, get other code if multiply-adds are forbidden."""
    kind = "float" if name.endswith("f") else "double"
    alone = f'extern "C" __global__ void f({kind}* p) {{ p[0] = {name}(p[0]); }}'
    (kernel,) = kernels(
        lambda xp, a: a["x"].__setitem__(..., getattr(xp, name.removesuffix("f"))(a["x"])),
        {"x": np.zeros(1, "float32" if kind == "float" else "float64")},
    )
    codes = [compile_for(nvrtc, source, "compute_80")[1] for source in (alone, kernel.source)]
    arithmetic = [re.findall(r"\b(?:fma|mul|add|sub)\.(?:rn\.)?(?:ftz\.)?f\d\d", code) for code in codes]
    assert arithmetic[0] == arithmetic[1] != []


# ------------------------------------------------------------------------------------------- NumPy's numbers


def outcome(step: Any, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what the kernels of a step make of the arrays; the step has to be nothing but kernels."""
    copies = {name: a.copy().view(cuda_host.Numbers) for name, a in arrays.items()}
    program = FusedStep(cuda_host.make_cupy(), xp, step, copies)
    assert len(program.kernels) == len(program.units), program.describe()
    program()
    return {name: a.view(np.ndarray) for name, a in copies.items()}


def assert_numpys(step: Callable[[Any, Any], None], arrays: dict[str, np.ndarray]) -> None:
    found, expected = outcome(step, arrays), {name: a.copy() for name, a in arrays.items()}
    with np.errstate(all="ignore"):
        step(xp, expected)
    for name, a in expected.items():
        np.testing.assert_array_equal(found[name], a, err_msg=name)
        signs = [np.signbit(b[~np.isnan(b)]) if b.dtype.kind == "f" else b for b in (found[name], a)]
        if not name.startswith("unsigned"):
            np.testing.assert_array_equal(*signs, err_msg=name)


SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.1, -3.7, 1e-45, 1e-310, 3e38, 1e300]
INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


@needs_compiler
@pytest.mark.parametrize("dtype", ["float16", *FLOATS])
def test_arithmetic_of_floats_is_numpys_to_the_bit(dtype: str) -> None:
    """NaN, infinities, signed zeros and the smallest numbers included."""
    with np.errstate(all="ignore"):
        special = np.asarray(SPECIAL).astype(dtype)
    x, y = np.stack(np.meshgrid(special, special)).reshape(2, -1)
    two = ["add", "subtract", "multiply", "divide"]
    compare = ["greater", "less", "greater_equal", "less_equal", "equal", "not_equal", "logical_and", "logical_or"]
    one = ["negative", "abs", "square", "sqrt", "sign", "floor", "ceil", "trunc", "positive", "reciprocal"]
    ask = ["isnan", "logical_not"]

    def step(xp: Any, a: Any) -> None:
        for k, name in enumerate(two):
            a["two"][k, ...] = getattr(xp, name)(a["x"], a["y"])
        for k, name in enumerate(one):
            a["one"][k, ...] = getattr(xp, name)(a["x"])
        for k, name in enumerate(("maximum", "minimum")):  # of two zeros either may come: only CUDA's rule is known
            a["unsigned zeros"][k, ...] = getattr(xp, name)(a["x"], a["y"])
        for k, name in enumerate(compare):
            a["compare"][k, ...] = getattr(xp, name)(a["x"], a["y"])
        for k, name in enumerate(ask):
            a["compare"][k + len(compare), ...] = getattr(xp, name)(a["x"])
        a["chosen"][...] = xp.where(a["x"] > a["y"], a["x"] * 0.1, a["y"] + xp.asarray(np.inf, dtype=a["x"].dtype))

    sizes = {"two": len(two), "one": len(one), "unsigned zeros": 2}
    arrays = {name: np.zeros((rows, x.size), dtype) for name, rows in sizes.items()}
    arrays |= {"x": x.copy(), "y": y.copy(), "compare": np.zeros((len(compare) + 2, x.size), bool)}
    assert_numpys(step, arrays | {"chosen": np.zeros(x.size, dtype)})


@needs_compiler
@pytest.mark.parametrize("dtype", INTEGERS)
def test_arithmetic_of_integers_wraps_as_numpys(dtype: str) -> None:
    limits = np.iinfo(dtype)
    few = np.asarray([limits.min, limits.min + 1, 0, 1, 2, 7, limits.max // 3, limits.max - 1, limits.max], dtype)
    x, y = np.stack(np.meshgrid(few, few)).reshape(2, -1)
    two = ["add", "subtract", "multiply", "maximum", "minimum", "bitwise_and", "bitwise_or", "bitwise_xor"]
    compare = ["greater", "less", "greater_equal", "less_equal", "equal", "not_equal", "logical_and"]

    def step(xp: Any, a: Any) -> None:
        x, y = a["x"], a["y"]
        for k, name in enumerate(two):
            a["two"][k, ...] = getattr(xp, name)(x, y)
        for k, name in enumerate(compare):
            a["compare"][k, ...] = getattr(xp, name)(x, y)
        for k, value in enumerate((-x, xp.abs(x), x >> 3, x << 2, ~x, x * 5 + 1, xp.square(y))):
            a["one"][k, ...] = value

    sizes = {"two": len(two), "one": 7}
    arrays = {name: np.zeros((rows, x.size), dtype) for name, rows in sizes.items()}
    assert_numpys(step, arrays | {"x": x.copy(), "y": y.copy(), "compare": np.zeros((len(compare), x.size), bool)})


@needs_compiler
def test_conversions_are_numpys() -> None:
    names = ["bool", *INTEGERS, *FLOATS]

    def step(xp: Any, a: Any) -> None:
        for name in names:
            for other in names:
                a[f"{name} to {other}"][...] = xp.astype(a[name], getattr(xp, other))
        a["mixed"][...] = a["float32"] * a["float64"] + a["int32"] - a["uint8"] * a["bool"]

    values = {name: np.asarray([0, 1, 3, 100]).astype(name) for name in names}
    values |= {name: np.asarray([0.5, 1.75, -0.0, 100.3], name) for name in FLOATS}
    values |= {name: np.asarray([-5, -1, 0, 100], name) for name in INTEGERS if name[0] == "i"}
    outputs = {f"{name} to {other}": np.zeros(4, other) for name in names for other in names}
    assert_numpys(step, values | outputs | {"mixed": np.zeros(4)})


@needs_compiler
def test_every_half_is_rounded_as_by_numpy() -> None:
    def step(xp: Any, a: Any) -> None:
        a["wide"][...] = xp.astype(a["half"], xp.float32)
        a["narrow"][...] = xp.astype(a["float"], xp.float16)
        a["sum"][...] = a["half"] + 0.1 * a["half"] - xp.astype(a["half"] > 0, xp.float16)
        a["mixed"][...] = a["half"] * a["float"]

    with np.errstate(all="ignore"):
        half = np.arange(2**16, dtype=np.uint16).view(np.float16)
        float32 = np.linspace(-1.1, 1.1, 2**16).astype(np.float32) ** 15 * 65504
    arrays = {"half": half, "float": float32, "wide": np.zeros(half.size, np.float32), "narrow": np.zeros_like(half)}
    assert_numpys(step, arrays | {"sum": np.zeros_like(half), "mixed": np.zeros_like(float32)})


@needs_compiler
def test_every_bfloat16_is_rounded_to_the_nearest_and_of_two_to_the_even_one() -> None:
    """By the source of the kernels itself, against whole numbers of NumPy's."""
    kernel = """extern "C" __global__ void f(float* x, unsigned short* narrow, float* wide) {
    const int i = blockIdx.x * 256 + threadIdx.x;
    narrow[i] = to_bfloat(x[i]);
    wide[i] = from_bfloat((unsigned short)i);
}"""
    x = np.random.default_rng(0).integers(0, 2**32, 2**16, dtype=np.uint32)
    x[: 2**12] = (x[: 2**12] & 0xFFFF0000) | 0x8000  # half-way
    narrow, wide = np.zeros(x.size, np.uint16), np.zeros(x.size, np.float32)
    cuda_c.run(cuda_c.compiled(whole(kernel)), "f", x.size // 256, 256, [x.view(np.float32), narrow, wide])
    down = (x >> 16).astype(np.uint16)
    error = x & 0xFFFF
    up = (error > 0x8000) | ((error == 0x8000) & (down & 1 == 1))
    number = (x & 0x7FFFFFFF) <= 0x7F800000
    np.testing.assert_array_equal(narrow[number], (down + up)[number])
    assert ((narrow[~number] & 0x7FFF) > 0x7F80).all()
    np.testing.assert_array_equal(wide.view(np.uint32), np.arange(2**16, dtype=np.uint32) << 16)


@needs_compiler
@pytest.mark.skipif(importlib.util.find_spec("ml_dtypes") is None, reason="ml_dtypes, which has bfloat16, is missing")
def test_kernels_of_bfloat16_are_rounded_as_by_ml_dtypes() -> None:
    """A Python number makes float32 of them, as with ml_dtypes' own."""
    bfloat16 = np.dtype(importlib.import_module("ml_dtypes").bfloat16)

    def step(xp: Any, a: Any) -> None:
        x, y = a["x"], a["y"]
        a["sum"][...] = x + y
        a["product"][...] = xp.maximum(x * y - y, x)
        a["wide"][...] = x * 0.3
        a["narrow"][...] = xp.astype(a["wide"], bfloat16)
        a["mask"][...] = x > y
        a["total"][...] = xp.sum(xp.astype(x, xp.float32), axis=0)

    rng = np.random.default_rng(0)
    shapes = dict.fromkeys(("x", "y", "sum", "product", "narrow"), bfloat16) | {"wide": np.float32, "mask": bool}
    arrays = {name: rng.normal(size=(40, 7)).astype(kind) for name, kind in shapes.items()}
    arrays["total"] = np.zeros(7, np.float32)
    found, expected = outcome(step, arrays), {name: a.copy() for name, a in arrays.items()}
    step(xp, expected)
    total, exact = found.pop("total"), expected.pop("total")
    np.testing.assert_allclose(total, exact, rtol=1e-5)
    for name, a in expected.items():
        np.testing.assert_array_equal(found[name].view(f"u{a.itemsize}"), a.view(f"u{a.itemsize}"), err_msg=name)
    assert len(kernels(step, arrays)) == 1


@needs_compiler
def test_views_and_shapes() -> None:
    """Rows, columns, transposes, every other one, backwards: each by its own steps through memory."""

    def step(xp: Any, a: Any) -> None:
        m, row, column, vector = a["m"], a["row"], a["column"], a["vector"]
        a["sum"][...] = m + row - column * a["one"]
        a["turned"][...] = m.T * 2.0 + xp.permute_dims(row[None, :], (1, 0))
        a["part"][1:4, 2:5] = m[:3, 1:4] * column[2:5, :]
        a["steps"][::2, ...] = vector[::-2] + m[3, ::1][:4]
        a["flat"][...] = xp.reshape(m, (-1,)) + 1.0
        vector += 0.5
        vector *= vector
        a["same"][...] = xp.broadcast_to(row, (5, 7)) * column

    rng = np.random.default_rng(0)
    shapes = {"m": (5, 7), "row": (7,), "column": (5, 1), "one": (1,), "vector": (8,), "sum": (5, 7), "turned": (7, 5),
              "part": (6, 6), "steps": (8,), "flat": (35,), "same": (5, 7)}  # fmt: skip
    assert_numpys(step, {name: rng.normal(size=shape) for name, shape in shapes.items()})


@needs_compiler
def test_a_square_array_and_its_transpose_are_told_apart() -> None:
    def step(xp: Any, a: Any) -> None:
        a["sum"][...] = a["W"] + a["W"].T
        a["difference"][...] = (a["W"] - a["W"].T) * 0.5

    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(7, 7)) for name in ("W", "sum", "difference")}
    assert len(kernels(step, arrays)) == 1
    assert_numpys(step, arrays)


@needs_compiler
def test_kernels_go_over_any_number_of_axes() -> None:
    def step(xp: Any, a: Any) -> None:
        x = a["x"]
        a["y"][...] = (x - a["channel"]) * a["picture"] + xp.permute_dims(a["turned"], (3, 1, 2, 0))
        a["padded"][:, 1:-1, 2:-2, ::-1] = x

    rng = np.random.default_rng(0)
    shapes = {"x": (2, 5, 4, 3), "channel": (3,), "picture": (2, 1, 1, 1), "turned": (3, 5, 4, 2), "y": (2, 5, 4, 3),
              "padded": (2, 7, 8, 3)}  # fmt: skip
    assert_numpys(step, {name: rng.normal(size=shape) for name, shape in shapes.items()})


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_zero_in_a_kernel_has_its_sign(dtype: str) -> None:
    def written(value: float) -> str:
        return literal(Number(np.asarray(value, dtype).tobytes(), np.dtype(dtype)))

    assert float(written(-0.0).strip("()f")) == 0.0
    assert written(-0.0).startswith("(-0.0")
    assert written(0.0).startswith("(0.0")


def test_what_reads_its_neighbours_is_no_kernel() -> None:
    """One thread would read what another writes."""

    def step(xp: Any, a: Any) -> None:
        a["x"][1:] = a["x"][:-1]
        a["square"][...] = a["square"].T
        a["y"][1:] = a["x"][:-1]

    found = kernels(step, {"x": np.zeros(5), "y": np.zeros(5), "square": np.zeros((3, 3))})
    assert [[a.array.shape for a in kernel.arguments] for kernel in found] == [[(4,), (4,)]]


@needs_compiler
@pytest.mark.parametrize(("dtype", "ulps"), [("float32", 2), ("float64", 4)])
def test_functions_are_the_ones_of_their_names(dtype: str, ulps: int) -> None:
    names = ["exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "sinh", "cosh", "tanh"]
    names += ["asin", "acos", "atan", "asinh", "atanh"]
    x = np.linspace(0.01, 0.99, 1000).astype(dtype)

    def step(xp: Any, a: Any) -> None:
        for name in names:
            a[name][...] = getattr(xp, name)(a["x"])
        a["acosh"][...] = xp.acosh(a["x"] + 1.0)

    names += ["acosh"]
    found = outcome(step, {"x": x} | {name: np.zeros_like(x) for name in names})
    for name in names:
        exact = getattr(xp, name)(x.astype("float64") if name != "acosh" else (x + x.dtype.type(1)).astype("float64"))
        np.testing.assert_allclose(found[name], exact, rtol=ulps * np.finfo(dtype).eps, err_msg=name)


@pytest.mark.parametrize(
    ("f", "kinds"),
    [
        (lambda xp, a, b: xp.astype(a, xp.float16), ["float64"]),  # through float32 it would be rounded twice
        (lambda xp, a, b: xp.astype(a, xp.float16), ["int64"]),
        (lambda xp, a, b: a > b, ["int64", "uint64"]),  # NumPy and CuPy have rules of their own for these
        (lambda xp, a, b: a >> 32, ["uint32"]),  # undefined in C
        (lambda xp, a, b: a << -1, ["int64"]),
        (lambda xp, a, b: a >> b, ["int64", "int64"]),
        (lambda xp, a, b: a**b, ["float32", "float32"]),  # CuPy has several
        (lambda xp, a, b: xp.remainder(a, b), ["float32", "float32"]),
        (lambda xp, a, b: a / b, ["int64", "int64"]),
        (lambda xp, a, b: xp.exp(a), ["int64"]),
        (lambda xp, a, b: xp.matmul(xp.reshape(a, (3, 1)), xp.reshape(b, (1, 3)))[:, 0], ["bool", "bool"]),
        (lambda xp, a, b: xp.matmul(xp.reshape(a, (3, 1)), xp.reshape(b, (1, 3)))[:, 0], ["float32", "float64"]),
        (lambda xp, a, b: xp.broadcast_to(xp.max(a, keepdims=True), (3,)), ["bool"]),
    ],
)
def test_what_is_left_to_cupy(f: Any, kinds: list[str]) -> None:
    arrays = dict(zip("ab", (np.ones(3, kind) for kind in kinds), strict=False))

    def step(xp: Any, a: Any) -> None:
        a["y"][...] = xp.reshape(f(xp, a["a"], a.get("b")), (3, 1))

    with contextlib.suppress(CannotRecord):  # what is not even recorded, as powers on NumPy 2.1, is left to CuPy, too
        assert [kernel.name[:10] for kernel in kernels(step, arrays | {"y": np.zeros((3, 1), complex)})] == []


def test_shapes_that_do_not_fit_are_left_to_cupy_to_complain_about() -> None:
    """A kernel would read past the end."""
    for x, y in (((4,), (3,)), ((4, 1), (4, 2))):
        with pytest.raises((CannotRecord, ValueError)):
            kernels(lambda xp, a: a["x"].__iadd__(a["y"]), {"x": np.zeros(x), "y": np.zeros(y)})


def test_large_arrays_are_counted_in_64_bits() -> None:
    """Only the source is looked at."""
    shapes = {"small": (2**30, 1), "large": (2**31, 1)}
    for name, shape in shapes.items():
        arrays = {"x": np.zeros(shape, bool)}  # memory that nobody touches
        (kernel,) = kernels(lambda xp, a: a["x"].__setitem__(..., a["x"] ^ (a["x"] > False)), arrays)
        assert kernel.blocks == shape[0] // 256
        assert f"const {'long long' if name == 'large' else 'int'} i = " in kernel.source


def test_one_step_through_memory_for_adam() -> None:
    """The whole update of a network, however many operations: each number is read once and written once."""
    (adam,) = (kernel for kernel in kernels_of("optimizer 9: Adam", "float32") if "sqrt" in kernel.source)
    assert adam.source.count("p0[i]") <= 2
    assert len(adam.arguments) == 6  # m, g, v, correction, scale, theta


def test_the_same_operations_on_the_same_shapes_are_one_kernel() -> None:
    def step(xp: Any, a: Any) -> None:
        x = a["x"]
        for _ in range(2):
            x = xp.matmul(xp.maximum(xp.sum(x) + x, 0.0), a["W"])
        a["x"][...] = x

    first, second = kernels(step, {"x": np.zeros((3, 40)), "W": np.zeros((40, 40))})
    assert (first.name, first.source) == (second.name, second.source)
    assert first.name.startswith("xpnet_reduce_add_maximum_")
    assert [a.buffer for a in first.arguments] != [a.buffer for a in second.arguments]


def test_recording_a_large_network_takes_no_memory() -> None:
    """Nothing of it is computed: 8192 samples through 8192 units would take a minute and tens of gigabytes."""
    shapes = {"x": (8192, 8192), "W": (8192, 8192), "b": (8192,)}

    def step(xp: Any, a: Any) -> None:
        y = a["x"]
        for _ in range(20):
            y = xp.maximum(xp.matmul(y, a["W"]) + a["b"], 0.0)
        a["x"][...] = y

    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    assert [kernel.blocks for kernel in kernels(step, arrays)] == [8192 * 8192 // 256] * 20
    assert all(isinstance(op.target.array, Hollow) for op in record(step, xp, arrays, NotUsed).operations)


@pytest.mark.parametrize("name", STEPS)
def test_the_steps_of_xpnet_are_made_of_kernels(name: str) -> None:
    """What is left to CuPy are products, sums and the choice of a batch, and nothing else."""
    made = trainer(name)
    found, _ = planned(made.make_step(8), made.arrays)
    others = {op.kind for launch in found for op in launch.alone}
    assert others <= {"matmul"}, others
    kernels = [launch.operations for launch in found if launch.parts]
    most = 0.85 if "Conv" in name else 0.75  # a convolution has a product for each row of a window, which part them
    assert len(kernels) < most * sum(map(len, kernels))
    assert isinstance(made.net, xpnet.Network)


def test_a_convolutional_network_is_kernels_and_products() -> None:
    """With the sums of its normalisation in kernels, and windows that do not touch each other copied by one of them."""
    layers = [
        xpnet.Conv2D(1, 8, size=3), xpnet.BatchNorm(8), xpnet.ReLU(), xpnet.MaxPool2D(), xpnet.Flatten(),
        xpnet.Linear(8 * 14 * 14, 10),
    ]  # fmt: skip
    net = xpnet.Network(layers, "cross_entropy", NumpyBackend(), input_shape=(28, 28, 1))
    net.backend.at_once = CupyBackend.at_once
    made = xpnet.Trainer(net, xpnet.Adam(), np.zeros((64, 28, 28, 1), np.float32), np.zeros(64, int), batch_size=32)
    found, kernels = planned(made.make_step(32), made.arrays)
    assert {op.kind for launch in found for op in launch.alone} == {"matmul"}
    assert (len(found), len(kernels)) == (31, 28)


@needs_compiler
@pytest.mark.parametrize("dtype", ["float16", *FLOATS])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((5, 3), 1), ((40, 1100), 1), ((70, 9), 0), ((1100, 260), 0), ((3, 7, 4), (0, 2)), ((6,), None),
        ((1, 5, 3), 1), ((1, 1, 7, 4), (0, 3)),
    ],
)  # fmt: skip
def test_sums_between_other_operations_are_one_kernel(shape: tuple[int, ...], axis: Any, dtype: str) -> None:
    """Along rows and columns, with more numbers than threads; what is computed from them, and what is written."""
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)

    def step(xp: Any, a: Any) -> None:
        x = a["x"]
        e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
        s = xp.sum(e, axis=axis, keepdims=True)
        a["p"][...] = e / s
        a["s"][...] = xp.reshape(xp.log(s), a["s"].shape)
        a["product"][...] = xp.prod(x, axis=axis) + xp.min(x, axis=axis)
        x += a["s"] * 0.5 if axis is None else xp.reshape(a["s"], s.shape) * 0.5

    lead = np.asarray(x.sum(axis=axis))
    arrays = {"x": x, "p": np.zeros_like(x), "s": np.zeros_like(lead), "product": np.zeros_like(lead)}
    wide = "float64" if dtype == "float16" else dtype  # NumPy rounds sums of halves down a column at each addition
    found, expected = outcome(step, arrays), {name: a.astype(wide) for name, a in arrays.items()}
    with np.errstate(all="ignore"):
        step(xp, expected)
    tolerance = {"float16": 5e-3, "float32": 1e-5, "float64": 1e-13}[dtype]
    for name, a in expected.items():
        np.testing.assert_allclose(found[name], a, rtol=tolerance, atol=tolerance, err_msg=name)
    assert len(kernels(step, arrays)) == 1


@needs_compiler
@pytest.mark.parametrize("dtype", ["float16", *FLOATS])
@pytest.mark.parametrize(("shape", "axis"), [((41, 13, 31), None), ((16400, 3), 0), ((5, 4100, 2), (0, 1))])
def test_sums_of_many_numbers_are_done_in_two_stages(shape: tuple[int, ...], axis: Any, dtype: str) -> None:
    """What is computed beside them is written once, by whichever block has it."""

    def step(xp: Any, a: Any) -> None:
        y = a["x"] * 0.5
        a["y"][...] = y
        a["s"][...] = xp.sum(y, axis=axis) + 1.0
        a["m"][...] = xp.max(y, axis=axis)

    x = np.random.default_rng(0).uniform(size=shape).astype(dtype)
    few = np.asarray(x.sum(axis=axis))
    arrays = {"x": x, "y": np.zeros_like(x), "s": np.zeros_like(few), "m": np.zeros_like(few)}
    made, _ = planned(step, arrays)
    assert len(made) == 2
    found = outcome(step, arrays)
    np.testing.assert_array_equal(found["y"], x * x.dtype.type(0.5))
    np.testing.assert_array_equal(found["m"], found["y"].max(axis=axis))
    exact = found["y"].astype(float).sum(axis=axis) + 1.0
    np.testing.assert_allclose(found["s"], exact, rtol={"float16": 2e-3, "float32": 1e-6, "float64": 1e-14}[dtype])


@needs_compiler
def test_selections_by_indices_that_are_selected_are_one_kernel() -> None:
    """An index from the end, and one beyond it, are those that CuPy takes."""

    def step(xp: Any, a: Any) -> None:
        rows = xp.take(a["order"], a["cursor"] + xp.arange(3), axis=0)
        a["x"][...] = xp.take(a["data"], rows, axis=0) * 2.0
        a["t"][...] = xp.take(a["labels"], rows, axis=0)

    arrays = {"order": np.asarray([4, 0, -1, 7, 2]), "cursor": np.asarray([1]), "data": np.arange(20.0).reshape(5, 4),
              "labels": np.arange(5), "x": np.zeros((3, 4)), "t": np.zeros(3, int)}  # fmt: skip
    found = outcome(step, arrays)
    assert found["t"].tolist() == [0, 4, 2]
    np.testing.assert_array_equal(found["x"], 2.0 * arrays["data"][[0, 4, 2]])
    assert len(kernels(step, arrays)) == 1


@needs_compiler
@pytest.mark.parametrize("dtype", ["float16", *FLOATS])
def test_a_product_of_few_terms_is_part_of_a_kernel(dtype: str) -> None:
    def step(xp: Any, a: Any) -> None:
        a["y"][...] = xp.maximum(xp.matmul(a["x"], a["W"].T) + a["b"], 0.0)

    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=shape).astype(dtype)
              for name, shape in {"x": (7, 5), "W": (9, 5), "b": (9,), "y": (7, 9)}.items()}  # fmt: skip
    expected = np.maximum(arrays["x"].astype(float) @ arrays["W"].T + arrays["b"], 0.0)
    tolerance = {"float16": 4e-3, "float32": 1e-6, "float64": 1e-14}[dtype]
    np.testing.assert_allclose(outcome(step, arrays)["y"], expected, rtol=tolerance, atol=tolerance)
    assert len(kernels(step, arrays)) == 1


@needs_compiler
def test_what_another_place_needs_ends_a_loop() -> None:
    """A sum is not there before all blocks are done that add it up: what reads it by other axes is another loop."""

    def step(xp: Any, a: Any) -> None:
        x = a["x"]
        s = xp.sum(x * 2.0, axis=1)
        a["y"][...] = x + s  # as a row: s was added up for columns
        x -= xp.sum(a["y"])  # over all, in one block
        x += xp.sum(x, axis=0)

    arrays = {"x": np.random.default_rng(0).normal(size=(4, 4)), "y": np.zeros((4, 4))}
    assert len(kernels(step, arrays)) == 3
    found, expected = outcome(step, arrays), {name: a.copy() for name, a in arrays.items()}
    step(xp, expected)
    for name, a in expected.items():
        np.testing.assert_allclose(found[name], a, rtol=1e-13, atol=1e-13, err_msg=name)


@needs_compiler
def test_loops_that_have_nothing_to_do_with_each_other_share_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as its arguments have room for; what reads another's result waits for the next."""

    def step(xp: Any, a: Any) -> None:
        for k in range(6):
            a[f"{k}"][...] = a[f"{k}"] * 2.0
        a["0"][...] = a["0"] + xp.sum(a["5"])

    arrays = {f"{k}": np.arange(3.0 + k) for k in range(6)}
    assert [len(launch.parts) for launch in planned(step, arrays)[0]] == [6, 1]
    found = outcome(step, arrays)
    np.testing.assert_array_equal(found["0"], 2.0 * np.arange(3.0) + 2.0 * np.arange(8.0).sum())
    for k in range(1, 6):
        np.testing.assert_array_equal(found[f"{k}"], 2.0 * arrays[f"{k}"])
    monkeypatch.setattr(cuda_launches, "MOST", 2)
    assert max(len(launch.parts) for launch in planned(step, arrays)[0]) == 2
