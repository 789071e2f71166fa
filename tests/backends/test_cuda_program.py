"""Training steps for a GPU, done in the host's memory: planned arrays, graphs, the proof, and the way back.

`cuda_host` says what stands in for CuPy and CUDA. What it cannot show is how fast anything is, and whether cuBLAS and
CUDA's exponentials do what their documentation says.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import re
import threading
import types
import warnings
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import cublas_host
import cuda_c
import cuda_host
import numpy as np
import pytest
from cuda_steps import STEPS, trainer
from hypothesis import given, settings
from test_replay import fresh_arrays, programs, run_program

import xpnet
from xpnet.backends.base import Eager
from xpnet.backends.cuda import compare, formulas, units, writer
from xpnet.backends.cuda import products as cublas
from xpnet.backends.cuda import program as cuda_program
from xpnet.backends.cuda import proof as cuda_proof
from xpnet.backends.cuda.graph import UNROLL, CapturedStep
from xpnet.backends.cuda.program import DeviceMemory, FusedStep
from xpnet.backends.tape.record import Buffer
from xpnet.errors import NotRecordedWarning
from xpnet.inspection.probe import Probe
from xpnet.inspection.recorder import default_every

pytestmark = [
    pytest.mark.skipif(cuda_c.COMPILER is None, reason=cuda_c.NO_COMPILER),
]


def backend(fusion: bool = True) -> cuda_host.HostCupy:
    made = cuda_host.HostCupy()
    made.fusion = fusion
    return made


def state(made: xpnet.Trainer) -> dict[str, np.ndarray]:
    return {name: np.array(a.view(np.ndarray)) for name, a in made.arrays.carried.items()}


def trained(name: str, on: Any, dtype: str = "float32", steps: int = 2 * UNROLL + 3) -> dict[str, np.ndarray]:
    with np.errstate(all="ignore"):
        made = trainer(next(key for key in STEPS if key.startswith(name)), on, dtype)
        made.run(steps)
    return state(made)


def is_fused(on: cuda_host.HostCupy) -> bool:
    return bool(re.fullmatch(r"\d+ operations in \d+ calls: .*\d+ kernels.*", on.compiled))


@pytest.mark.parametrize("name", STEPS)
def test_a_fused_step_gives_the_bits_of_the_step_as_it_is_written(name: str) -> None:
    dtype = ("float32", "float64")[len(name) % 2]
    fused, written = backend(), cuda_host.InOrder()
    found, expected = trained(name, fused, dtype), trained(name, written, dtype)
    assert is_fused(fused), fused.compiled
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)
    numpys = trained(name, "numpy", dtype)
    for key, value in numpys.items():
        tolerance = 1e-4 if dtype == "float32" else 1e-11
        np.testing.assert_allclose(found[key], value, rtol=tolerance, atol=tolerance, err_msg=key)


class Given:
    """The arrays of a step of one's own, and what its program makes of them."""

    def __init__(self, step: Callable[[Any, Any], None], arrays: Mapping[str, np.ndarray], fusion: bool = True) -> None:
        self.backend = backend() if fusion else cuda_host.InOrder()
        self.arrays = {name: a.copy().view(cuda_host.Numbers) for name, a in arrays.items()}
        self.before = {name: a.copy() for name, a in arrays.items()}
        self.program = self.backend.compile(step, self.arrays, [*self.arrays.values()])

    def values(self) -> dict[str, np.ndarray]:
        return {name: np.array(a.view(np.ndarray)) for name, a in self.arrays.items()}


@settings(max_examples=25, deadline=None)
@given(programs())
def test_random_programs(statements: list[tuple[Any, ...]]) -> None:
    with np.errstate(all="ignore"):
        fused, written = (Given(run_program(statements), fresh_arrays(0), fusion) for fusion in (True, False))
        assert is_fused(fused.backend), fused.backend.compiled
        for name, value in fused.values().items():
            np.testing.assert_array_equal(value, fused.before[name], err_msg="compiling leaves arrays as they were")
        for steps in (1, UNROLL + 1):
            fused.program(steps)
            written.program(steps)
            for name, value in written.values().items():
                np.testing.assert_array_equal(fused.values()[name], value, err_msg=name)


@pytest.mark.parametrize(
    ("fusion", "compiled", "nodes"),
    [
        (True, "60 operations in 14 calls: 7 kernels, 7 products", 14),
        (False, "as it is written, since fusion is switched off", 72),  # 60 if CuPy fuses the optimizer's 13
    ],
)
def test_what_a_step_of_a_network_consists_of(fusion: bool, compiled: str, nodes: int) -> None:
    """The numbers that the documentation gives."""
    on = backend(fusion)
    net = xpnet.mlp([784, 512, 512, 10], backend=on)
    x, t = np.zeros((128, 784), np.float32), np.zeros(128, int)
    with np.errstate(all="ignore"):
        program = xpnet.Trainer(net, xpnet.Adam(), x, t, batch_size=128)._program(128)
    assert on.compiled == program.description == compiled
    assert len(program._graphs[1].nodes) == nodes
    assert [*program._graphs] == [1]  # the other is made when it is first wanted
    assert len(program._graph(UNROLL).nodes) == UNROLL * nodes


def test_a_record_takes_less_than_a_twentieth_of_the_steps_between_records() -> None:
    """By the number of what is started."""
    on = backend()
    net = xpnet.mlp([40, 60, 50, 10], backend=on)
    x, t = np.zeros((400, 40), np.float32), np.arange(400) % 10
    with np.errstate(all="ignore"):
        made = xpnet.Trainer(net, xpnet.Adam(), x, t, batch_size=200)
        step, record = made._program(200), Probe(made)._program
    nodes = [len(program._graphs[1].nodes) for program in (step, record)]
    assert nodes == [14, 17]  # a copy, the record, and counts that begin at 0
    assert nodes[1] < nodes[0] * default_every(made) / 20


def test_arrays_in_another_order_are_put_in_order_on_their_way_in() -> None:
    on, wide = backend(), np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32)
    x, t = wide.view(cuda_host.Numbers)[:, :3], np.asfortranarray(wide[:, 3:]).view(cuda_host.Numbers)
    made = xpnet.Trainer(xpnet.mlp([3, 4, 2], loss="huber", backend=on), xpnet.SGD(0.1), x, t, batch_size=8)
    made.run(2)
    assert is_fused(on), on.compiled


def test_the_backend_says_what_became_of_the_last_step() -> None:
    on = backend()
    device = "CuPy 14.2.0, CUDA 13.2, device 0: the host, 16 GiB"
    assert on.describe() == device
    made = trainer(next(key for key in STEPS if key.startswith("layer 3: ")), on)
    made.run(1)
    assert on.describe() == f"{device}; last training step: {on.compiled}"
    assert on.compiled == made._program(8).description


def test_products_are_written_straight_into_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "FEW", 0)
    on = backend()
    made = trainer("optimizer 0: SGD", on)
    program = FusedStep(on._cupy, on.xp, made.make_step(8), made.arrays)
    gradient = made.arrays["gradient"]
    products = [unit[0].target for unit in program.units if unit[0].kind == "matmul"]
    inside = [program.memory.resolve(a) for a in products if id(a.buffer) in program.places]
    assert len(inside) == 2
    assert sum(a.size for a in inside) == 3 * 4 + 4 * 3
    assert all(np.may_share_memory(a, gradient) for a in inside)


def test_products_of_halves_stay_products_of_halves() -> None:
    on = backend()
    made = trainer("half precision", on)
    program = FusedStep(on._cupy, on.xp, made.make_step(8), made.arrays)
    products = [unit[0] for unit in program.units if unit[0].kind == "matmul"]
    assert {a.dtype for op in products for a in (*op.operands, op.target)} == {np.dtype(np.float16)}


@pytest.mark.skipif(importlib.util.find_spec("ml_dtypes") is None, reason="ml_dtypes, which has bfloat16, is missing")
def test_a_network_of_bfloat16_is_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as its layers have no Python numbers beside arrays: these make float32 of it."""
    monkeypatch.setitem(cublas_host.TYPES, 14, np.dtype(importlib.import_module("ml_dtypes").bfloat16))
    on = backend()
    layers = [xpnet.Linear(3, 20), xpnet.Linear(20, 30), xpnet.Tanh(), xpnet.Linear(30, 2)]
    x = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    made = xpnet.Trainer(
        xpnet.Network(layers, "cross_entropy", on), xpnet.Adam(), x, np.arange(32) % 2, precision="bfloat16"
    )
    made.run(1)
    assert is_fused(on), on.compiled


def test_memory_is_used_again_for_results_of_the_same_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "FEW", 0)

    def step(xp: Any, a: Any) -> None:
        x = a["x"]
        for _ in range(10):
            x = xp.matmul(x + 1.0, a["x"])
        a["x"][...] = x

    on = backend()
    program = FusedStep(on._cupy, on.xp, step, {"x": np.zeros((5, 5)).view(cuda_host.Numbers)})
    places = {program.memory.resolve(op.target).ctypes.data for unit in program.units for op in unit}
    assert len(places) <= 4


def test_a_loop_does_not_write_over_what_one_beside_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a kernel run in any order. A loop that has a kernel to itself may write over what it reads."""
    monkeypatch.setattr(units, "FEW", 0)

    def step(beside: bool, xp: Any, a: Any) -> None:
        sums = a["x"] + 1.0
        a["p"][...] = xp.matmul(sums, a["x"])
        twice = sums * 2.0
        a["q"][...] = xp.matmul(twice, a["x"])
        if beside:
            a["r"][...] = sums * 3.0

    for beside in (True, False):
        arrays = {name: np.arange(16.0).reshape(4, 4) for name in "xpqr"}
        on = backend()
        given = {name: a.view(cuda_host.Numbers) for name, a in arrays.items()}
        program = FusedStep(on._cupy, on.xp, partial(step, beside), given)
        assert [len(launch.parts) for launch in program.launches] == [1, 0, 1 + beside, 0]
        first, second = (program.memory.resolve(program.units[k][0].target).ctypes.data for k in (0, 2))
        assert (first == second) is not beside
        assert_same_both_ways(partial(step, beside), arrays)


def assert_same_both_ways(step: Callable[[Any, Any], None], arrays: Mapping[str, np.ndarray]) -> None:
    fused, written = (Given(step, arrays, fusion) for fusion in (True, False))
    assert is_fused(fused.backend), fused.backend.compiled
    for program in (fused.program, written.program):
        program(2)
    for name, value in written.values().items():
        np.testing.assert_array_equal(fused.values()[name], value, err_msg=name)


def test_a_transposed_result_keeps_its_order_in_memory() -> None:
    def step(xp: Any, a: Any) -> None:
        turned = a["x"].T * 1.5
        a["s"][...] = xp.sum(turned, axis=0)
        a["p"][...] = xp.matmul(turned, a["x"])

    x = np.random.default_rng(0).normal(size=(4, 3))
    assert_same_both_ways(step, {"x": x, "s": np.zeros(4), "p": np.zeros((3, 3))})


def test_sums_in_another_data_type_and_choices() -> None:
    def step(xp: Any, a: Any) -> None:
        a["s"][...] = xp.sum(a["x"], axis=1, dtype=xp.float64)
        a["n"][...] = xp.sum(a["x"] > 0)
        a["c"][...] = xp.take(a["x"], a["order"], axis=1) + xp.max(a["x"])
        three = xp.reshape(a["x"], (4, 1, 3))  # no kernels of three axes
        a["x"][...] = xp.reshape(xp.where(three > 0.5, three, xp.concat([three], axis=0) ** 2 + xp.prod(three)), (4, 3))

    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    zeros = {"s": np.zeros(4), "n": np.zeros(1, int), "c": np.zeros((4, 2), np.float32)}
    assert_same_both_ways(step, {"x": x, "order": np.asarray([2, 0]), **zeros})


def test_other_functions_are_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(xp: Any, a: Any) -> None:
        a["y"][...] = xp.tile(xp.roll(a["x"], 1), 2)

    on = backend()
    for name in ("tile", "roll"):
        function = getattr(on.xp, name)
        monkeypatch.setattr(on.xp, name, lambda *a, f=function, **options: f(*a, **options) * 2.0)
    arrays = {"x": np.arange(3.0).view(cuda_host.Numbers), "y": np.zeros(6).view(cuda_host.Numbers)}
    FusedStep(on._cupy, on.xp, step, arrays)()
    assert arrays["y"].view(np.ndarray).tolist() == [8.0, 0.0, 4.0, 8.0, 0.0, 4.0]


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_planned_arrays_lie_as_those_of_the_recording(order: tuple[int, ...]) -> None:
    memory, buffers = DeviceMemory(backend()._cupy), [Buffer(np.zeros((2, 3, 4)).transpose(order)) for _ in range(3)]
    for buffer in buffers[:2]:
        memory.place(buffer)
    first, second = (memory.arrays[id(buffer)] for buffer in buffers[:2])
    assert (first.shape, first.strides) == (buffers[0].array.shape, buffers[0].array.strides)
    assert not np.may_share_memory(first, second)
    memory.release(buffers[0])
    memory.place(buffers[2])
    assert memory.arrays[id(buffers[2])] is first


def test_arrays_in_another_order_are_left_to_the_step_as_it_is_written() -> None:
    def step(xp: Any, a: Any) -> None:
        a["x"][...] = a["x"] * 2.0

    on, arrays = backend(), {"x": np.ones((3, 2)).T.view(cuda_host.Numbers)}
    with pytest.warns(NotRecordedWarning, match="an array of the step is not contiguous"):
        program = on.compile(step, arrays, [*arrays.values()])
    program()
    assert "an array of the step is not contiguous" in on.compiled
    assert arrays["x"].view(np.ndarray).tolist() == [[2.0] * 3] * 2


def test_a_result_that_does_not_lie_as_it_was_recorded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "REDUCTIONS", ())  # CuPy's own sums

    def step(xp: Any, a: Any) -> None:
        a["y"][...] = xp.sum(a["x"], axis=1) * 2.0

    def odd(x: Any, axis: int, keepdims: bool) -> Any:
        return np.repeat(x.sum(axis=axis), 2)[::2].view(cuda_host.Numbers)

    on = backend()
    on.xp.sum = odd
    arrays = {"x": np.ones((4, 3)).view(cuda_host.Numbers), "y": np.zeros(4).view(cuda_host.Numbers)}
    program = FusedStep(on._cupy, on.xp, step, arrays)
    with pytest.raises(cuda_program.Rejected, match="another layout"):
        program()


# --------------------------------------------------------------------------------------------- the way back


def assert_way_back(step: str) -> str:
    """Assert that the training is right although the program is not; return why it was not used."""
    on = backend()
    found, expected = trained(step, on), trained(step, backend(fusion=False))
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)
    assert on.compiled.startswith("as it is written, since fusing it failed: ")
    return on.compiled


WRONG = {
    "a sign": ("optimizer 0: ", "FLOATING", "subtract", "__{r}sub_rn({1}, {0})"),
    "a rounding": ("optimizer 0: ", "FLOATING", "add", "(({0}) + ({1})) * (1 + 1e-7{f})"),
    "another function": ("layer 9: ", "FLOATING", "tanh", "sin{f}({0})"),
    "an approximation": ("layer 8: ", "FLOATING", "exp", "exp2{f}({0} * 1.4426950408889634{f})"),
    "a mask": ("layer 4: ", "DECISIONS", "greater", "{0} > {1} - 0.5"),
}


def assert_left_out(step: str, sums_too: bool = False) -> None:
    """Assert that the training is right, without the kernels that are not; or without their sums, either."""
    on = backend()
    found = trained(step, on)
    expected = trained(step, backend(fusion=False) if sums_too else cuda_host.InOrder())
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)
    said = r"\d+ functions of CuPy, \d+ kernels.*; not used: kernel xpnet_\w+ and CuPy's functions differ at \d+ of "
    assert re.search(said, on.compiled), on.compiled


@pytest.mark.parametrize(("step", "table", "name", "formula"), WRONG.values(), ids=WRONG)
def test_a_wrong_kernel_is_left_out_alone(
    monkeypatch: pytest.MonkeyPatch, step: str, table: str, name: str, formula: str
) -> None:  # fmt: skip
    monkeypatch.setitem(getattr(formulas, table), name, formula)
    assert_left_out(step, sums_too=name == "add")


def test_long_vectors_are_compared_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam's kernel has a dozen intermediate results, each of which would be as long as all parameters."""
    monkeypatch.setattr(cuda_proof, "WINDOW", 5)
    longest: list[int] = []
    compared = cuda_proof.differs
    monkeypatch.setattr(cuda_proof, "differs", lambda a, b: (longest.append(a.size), compared(a, b))[1])
    on = backend()
    trained("optimizer 9: ", on, steps=1)
    assert is_fused(on), on.compiled
    assert longest.count(5) > 20
    monkeypatch.setitem(formulas.FLOATING, "sqrt", "__{r}sqrt_rn({0}) * 1.5{f}")
    on = backend()
    trained("optimizer 9: ", on, steps=1)
    assert re.search(r"not used: kernel xpnet_multiply\w+ and CuPy's functions differ at \d+ of 93 places", on.compiled)


def test_wrong_steps_through_memory_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "FEW", 0)
    monkeypatch.setattr(cuda_host, "FEW", 0)
    read = writer.Writer._read

    def wrong(self: Any, place: Any, *further: str) -> str:
        text = read(self, place, *further)
        return text if further or self.loop.reduced else text.replace("i0 * ", "i0 * 0 * ")

    monkeypatch.setattr(writer.Writer, "_read", wrong)
    assert_left_out("layer 4: ")


@pytest.mark.parametrize("name", ["optimizer 9: ", "layer 4: ", "half precision"])
def test_products_that_are_summed_up_in_another_order_are_no_reason_to_refuse(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:  # fmt: skip
    """As cuBLAS may do it for another address; the first step of Adam has a rounding's sign in every small gradient."""
    product, program_calls = cublas.Product.__call__, []

    def another_order(self: Any, a: Any, b: Any, out: Any = None) -> Any:
        result = product(self, a, b, out)
        if out is None and result.ndim == 2:
            result[...] = np.nextafter(result.view(np.ndarray), result.dtype.type(9)).view(cuda_host.Numbers)
            program_calls.append(1)
        return result

    monkeypatch.setattr(cublas.Product, "__call__", another_order)
    monkeypatch.setattr(units, "FEW", 0)
    on = backend()
    trained(name, on, steps=1)
    assert is_fused(on), on.compiled
    assert program_calls


def test_a_wrong_product_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    product = cublas.Product.__call__

    def wrong(self: Any, a: Any, b: Any, out: Any = None) -> Any:
        return product(self, a if out is None else a + 0.001, b, out)

    monkeypatch.setattr(cublas.Product, "__call__", wrong)
    monkeypatch.setattr(units, "FEW", 0)
    on = backend()
    trained("optimizer 9: ", on, steps=1)
    assert re.search(r"Rejected: after one step a product of \(.*\) differs at \d+ of \d+ places", on.compiled)


def test_the_proof_looks_at_the_device_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    on, looks = backend(), []
    asnumpy = on._cupy.asnumpy
    on._cupy.asnumpy = lambda a: looks.append(a.dtype) or asnumpy(a)
    made = trainer(next(key for key in STEPS if key.startswith("optimizer 9: ")), on)
    looks.clear()
    monkeypatch.setattr(cuda_host.Numbers, "__bool__", lambda self: pytest.fail("a look at one number"))
    cuda_proof.proven(on._cupy, on.xp, made.make_step(8), made.arrays, [*made.arrays.carried.values()])
    assert looks == [np.int64, np.int64]  # the kernels, and the whole step


def test_a_missing_rule_for_nan_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(xp: Any, a: Any) -> None:
        a["y"][...] = xp.maximum(a["x"], 0.0)

    arrays = {"x": np.asarray([1.0, np.nan, -1.0]), "y": np.zeros(3)}
    assert is_fused(Given(step, arrays).backend)
    monkeypatch.setitem(formulas.FLOATING, "maximum", "fmax{f}({0}, {1})")
    given = Given(step, arrays)
    assert "differ at 1 of 3 places" in given.backend.compiled
    given.program()
    np.testing.assert_array_equal(given.values()["y"], [1.0, np.nan, 0.0])


def test_a_wrong_conversion_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    formula = writer.Writer._formula

    def narrow(self: Any, step: Any) -> str:
        return formula(self, step).replace("(double)", "(unsigned char)")

    monkeypatch.setattr(writer.Writer, "_formula", narrow)

    def step(xp: Any, a: Any) -> None:
        a["x"][...] = xp.astype(a["n"], xp.float64) * 2.0

    given = Given(step, {"x": np.zeros(2), "n": np.asarray([3, 300], np.uint32)})
    assert "differ at 1 of 2 places" in given.backend.compiled


def test_memory_given_away_too_early_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    place = DeviceMemory.place

    def share(self: DeviceMemory, buffer: Any) -> None:
        place(self, buffer)
        self.release(buffer)  # while it is still needed

    monkeypatch.setattr(DeviceMemory, "place", share)
    assert "Rejected: " in assert_way_back("layer 4: ")


def test_what_is_not_written_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An array that the program does not touch at all."""
    monkeypatch.setattr(cuda_program, "without_dead", lambda operations: operations[:-1])
    assert "Rejected: after one step 'step' differs" in assert_way_back("layer 4: ")


def test_a_graph_that_cannot_be_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FusedStep, "__call__", lambda self: (_ for _ in ()).throw(RuntimeError("no capture")))
    assert "RuntimeError: no capture" in assert_way_back("layer 4: ")


def test_the_memory_of_a_refused_program_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    programs: list[Any] = []

    def refuse(program: FusedStep, cupy: Any) -> None:
        programs.append(weakref.ref(program))
        raise cuda_program.Rejected("not right")

    monkeypatch.setattr(cuda_proof, "check", refuse)
    made = trainer(next(iter(STEPS)), backend())
    gc.disable()  # which knows nothing of a GPU's memory
    try:
        made._program(8)
        assert [program() for program in programs] == [None]
    finally:
        gc.enable()


def test_gradients_of_weights_are_made_beside_the_deltas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing between a product on the side and what waits for it touches what that reads or writes."""
    on, order = backend(), list[Any]()
    net = xpnet.mlp([40, 50, 50, 50, 50, 50, 30], backend=on)
    made = xpnet.Trainer(net, xpnet.Adam(), np.zeros((64, 40), np.float32), np.arange(64) % 30, batch_size=32)
    program = FusedStep(on._cupy, on.xp, made.make_step(32), made.arrays)
    assert {program.units[k][0].target.shape for k in program.beside} == {(50, 30), (50, 50)}
    for k, waits in program.beside.items():
        (op,) = program.units[k]
        own = [program.memory.resolve(a) for a in op.touched()]
        for unit in program.units[k + 1 : waits]:
            for other in unit:
                if id(other.target.buffer) not in program.inner:
                    written = program.memory.resolve(other.target)
                    assert not any(np.may_share_memory(written, a) for a in own)
                read = [program.memory.resolve(a) for a in other.touched() if id(a.buffer) not in program.inner]
                assert not any(np.may_share_memory(a, own[-1]) for a in read)
    program.branch = on.xp.matmul.lane("beside")
    monkeypatch.setattr(cuda_host.Stream, "record", lambda stream: order.append(("record", stream.ptr)))
    monkeypatch.setattr(cuda_host.Stream, "wait_event", lambda stream, event: order.append(("wait", stream.ptr)))
    side = program.branch.stream.ptr
    with on.xp.matmul.lane() as _, np.errstate(all="ignore"):
        program()
    assert order.count(("wait", side)) == 5  # each product on the side after what comes before it
    assert order[-1][0] == "wait"  # and the step ends on its own stream, once all is done
    assert order[-1] != ("wait", side)


@pytest.mark.parametrize("fails", ["beside", "main"])
def test_a_graph_that_cannot_have_branches_has_none(monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    call = FusedStep.__call__

    def no_branches(self: FusedStep) -> None:
        if self.branch is not None or fails == "main":
            raise cuda_host.CUDARuntimeError("no branches")
        call(self)

    monkeypatch.setattr(FusedStep, "__call__", no_branches)
    on = backend()
    net = xpnet.mlp([40, 60, 50, 30], backend=on)
    made = xpnet.Trainer(net, xpnet.Adam(), np.zeros((64, 40), np.float32), np.arange(64) % 30, batch_size=32)
    made.run(1)
    assert is_fused(on) == (fails == "beside"), on.compiled


def bytes_on_device() -> int:
    """Return how many bytes of the device's arrays somebody holds."""
    gc.collect()
    arrays = (a for a in gc.get_objects() if isinstance(a, cuda_host.Numbers))
    return sum(a.nbytes for a in arrays if not isinstance(a.base, cuda_host.Numbers))


def test_a_hundred_trainings_leave_the_device_as_the_second_did() -> None:
    on = backend()
    x, t, before = (
        np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32),
        np.arange(60) % 2,
        bytes_on_device(),
    )
    held = []
    for _ in range(100):
        net = xpnet.mlp([3, 4, 2], backend=on, seed=1)
        net.fit(x, t, epochs=2, batch_size=8, validation_split=0.2, verbose=False)
        during = bytes_on_device() - before if len(held) < 2 else 0
        assert during or len(held) >= 2
        del net
        held.append((bytes_on_device() - before, len(on.xp.matmul._library.handles)))
    assert held[1][0] == 0
    assert {*held[1:]} == {held[1]}


def test_many_trainings_hold_one_stream_and_two_handles() -> None:
    on = backend()
    before, handles = cuda_host.Scratch.used, on.xp.matmul._library.handles
    streams = set()
    for _ in range(5):
        made = trainer("optimizer 0: SGD", on)
        made.run(UNROLL + 1)
        streams.add(made._program(8)._stream.ptr)
    assert len(streams) == 1
    assert len(handles) <= 3  # for the stream of the graphs, for one beside it, and for the caller's
    assert cuda_host.Scratch.used - before <= 3 * (32 << 20)


def test_a_graph_keeps_the_scratch_memory_of_the_thread_that_captured_it() -> None:
    on, programs = backend(), []
    handles = on.xp.matmul._library.handles
    made = trainer("optimizer 0: SGD", on)
    thread = threading.Thread(target=lambda made: programs.append(made._program(8)), args=(made,))
    thread.start()
    thread.join()
    assert len(handles) == 1
    programs[0](UNROLL + 1)  # captures the large graph in this thread, with the handle of the other
    assert len(handles) == 1
    del made
    programs.clear()
    gc.collect()
    assert not handles


def test_a_capture_that_something_else_ends_is_tried_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    end, failures, collecting = cuda_host.Stream.end_capture, [1], []

    def end_capture(self: Any) -> Any:
        collecting.append(gc.isenabled())
        graph = end(self)
        if failures:
            failures.pop()
            raise cuda_host.CUDARuntimeError("the capture was invalidated")
        return graph

    monkeypatch.setattr(cuda_host.Stream, "end_capture", end_capture)
    on = backend()
    trained("optimizer 0: SGD", on, steps=1)
    assert is_fused(on), on.compiled
    assert collecting == [False, False]
    assert gc.isenabled()


def test_where_the_larger_graph_cannot_be_captured_steps_are_launched_singly() -> None:
    """The smaller one is there, and nothing is done twice."""
    on, calls = cuda_host.HostCupy(), []
    x = on.asarray(np.zeros(1))

    def step() -> None:
        calls.append(id(cuda_host.TIMELINE.pool))
        if len(calls) == 8:  # twice to warm up, once for the graph of one step, and the fifth of sixteen
            raise MemoryError
        x[...] = x + 1.0

    program = CapturedStep(on._cupy, on.xp.matmul.lane(), step, [x])
    for steps, total in ((3, 3), (33, 36), (20, 56)):
        program(steps)
        assert float(x[0]) == total
    assert (program.unroll, len(calls)) == (1, 8)
    assert len({*calls[:3]}) == len({*calls[3:]}) == 1  # what one graph's pool gives back the other one does not know
    assert calls[0] != calls[3]


def test_what_the_proof_took_is_given_back_before_a_step_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph's own pool cannot have what the common one keeps."""
    on, events, begin = backend(), [], cuda_host.Stream.begin_capture
    pool = types.SimpleNamespace(free_all_blocks=lambda: events.append("given back"))
    on._cupy.get_default_memory_pool = lambda: pool
    monkeypatch.setattr(cuda_host.Stream, "begin_capture", lambda self: events.append("capture") or begin(self))
    trainer("optimizer 0: SGD", on)._program(8)
    assert events == ["given back", "capture"]


def test_the_caller_waits_for_what_is_launched_though_it_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    on, waits, launched = backend(), [], []
    x = on.asarray(np.zeros(1))

    def step() -> None:
        x[...] = x + 1.0

    def launch(stream: Any) -> None:
        if launched:
            raise KeyboardInterrupt
        launched.append(stream)

    program = CapturedStep(on._cupy, on.xp.matmul.lane(), step, [x])
    program._graphs[1].launch = launch
    monkeypatch.setattr(cuda_host.Stream, "wait_event", lambda self, event: waits.append((self, event)))
    with pytest.raises(KeyboardInterrupt):
        program(2)
    caller = cuda_host.LEGACY
    assert waits == [(launched[0], caller), (caller, launched[0])]


def test_a_compiler_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any, code: str) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(cuda_host.RawModule, "__init__", fail)
    assert "RuntimeError: no compiler" in assert_way_back("layer 4: ")


def test_a_step_that_cannot_be_recorded_is_not_captured_either() -> None:
    """A graph repeats what the step asked for while it was captured, whatever that depended on."""
    draws = np.random.default_rng(0)

    def f(xp: Any, x: Any) -> Any:
        return x * float(draws.uniform(0.5, 1.5))

    on = backend()
    layers = [xpnet.Linear(3, 2), xpnet.Activation(f, lambda xp, x: xp.ones_like(x)), xpnet.Linear(2, 1)]
    x = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    made = xpnet.Trainer(xpnet.Network(layers, "huber", on), xpnet.SGD(0.1), x, x[:, :1], batch_size=8)
    before = state(made)["theta"]
    with pytest.warns(NotRecordedWarning, match=r"such as random numbers, .*in f \(test_cuda_program.py, line"):
        made.run(4)
    assert isinstance(made._program(8), Eager)
    assert on.compiled.startswith("as it is written, since it cannot be recorded: recorded twice it was not the same")
    assert (state(made)["theta"] != before).any()


def test_the_proof_compares_with_the_optimizer_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """CuPy's own fusion merges products and sums, and so gives other bits."""

    def refuse(*arrays: Any) -> None:
        raise AssertionError("the optimizer is fused by CuPy")

    on = backend()
    monkeypatch.setattr(on._cupy, "fuse", lambda f: refuse)
    trained("optimizer 9: ", on)
    assert is_fused(on), on.compiled


def test_whatever_the_program_writes_is_put_back() -> None:
    def step(xp: Any, a: Any) -> None:
        a["y"][...] = a["x"] * 2.0

    on, arrays = backend(), {name: np.ones(3).view(cuda_host.Numbers) for name in "xy"}
    program = cuda_proof.proven(on._cupy, on.xp, step, arrays, [])
    assert arrays["y"].view(np.ndarray).tolist() == [1.0, 1.0, 1.0]
    program()
    assert arrays["y"].view(np.ndarray).tolist() == [2.0, 2.0, 2.0]


def test_arrays_are_as_they_were_after_a_failure() -> None:
    def step(xp: Any, a: Any) -> None:
        a["x"][...] = a["x"] + 1.0
        raise LookupError("in the step")

    given = Given(step, {"x": np.zeros(3)})
    assert given.backend.compiled.startswith("step by step, since capturing it failed: LookupError: in the step; ")
    assert not given.values()["x"].any()
    with pytest.raises(LookupError, match="in the step"):
        given.program()


class Looking:
    """An activation's function that decides by a value, and one that picks by a mask."""

    @staticmethod
    def clipped(xp: Any, x: Any) -> Any:
        return xp.clip(x, -1.0, 1.0) + xp.sign(x)

    @staticmethod
    def masked(xp: Any, x: Any) -> Any:
        y = xp.asarray(x, copy=True)
        y[x < 0] = 0.0 * x[x < 0]
        return y


@pytest.mark.parametrize(
    ("name", "fused", "captured"),
    [
        ("clipped", r"\d+ operations in", "as it is written, since fusion is switched off$"),
        (
            "masked",
            "as it is written, since it cannot be recorded: ",
            "step by step, since capturing it failed: Runtime",
        ),
    ],
)
def test_what_trains_on_numpy_trains(name: str, fused: str, captured: str) -> None:
    f, outcomes = getattr(Looking, name), []
    x = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    for on in ("numpy", backend(), backend(fusion=False)):
        layers = [xpnet.Linear(3, 4), xpnet.Activation(f, lambda xp, x: xp.ones_like(x)), xpnet.Linear(4, 1)]
        made = xpnet.Trainer(xpnet.Network(layers, "huber", on, seed=0), xpnet.SGD(0.1), x, x[:, :1], batch_size=8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotRecordedWarning)
            made.run(4)
        outcomes.append(state(made)["theta"])
        if on != "numpy":
            assert re.match(fused if on.fusion else captured, on.compiled), on.compiled
            program = made._program(8)
            if on.compiled.startswith("step by step"):  # what was tried is not kept with the reason
                assert isinstance(program, Eager)
                assert program.after.args[0].__traceback__ is program.after.args[0].__context__ is None  # type: ignore[attr-defined]
    for found in outcomes[1:]:
        np.testing.assert_allclose(found, outcomes[0], rtol=1e-5, atol=1e-6)


def test_memory_that_runs_out_is_not_taken_for_a_step_that_cannot_be_captured() -> None:
    def step(xp: Any, a: Any) -> None:
        raise MemoryError("no more")

    with pytest.raises(MemoryError, match="no more"):
        Given(step, {"x": np.zeros(3)})


# ------------------------------------------------------------------------------- what counts as no difference


def places(wrong: np.ndarray) -> list[int]:
    return np.flatnonzero(wrong).tolist()


def test_numbers_are_the_same_if_their_bits_are_and_nan_is_nan() -> None:
    a, b = np.asarray([np.nan, 1.0, 0.0, 1e-310, np.inf]), np.asarray([-np.nan, 1.0, -0.0, 2e-310, np.inf])
    assert places(compare.differs(a, b)) == [2, 3]
    assert places(compare.differs(a, np.asarray([2.0, np.nan, 0.0, 1e-310, -np.inf]))) == [0, 1, 4]
    assert places(compare.differs(np.asarray([1, 2]), np.asarray([1, 3]))) == [1]
    assert places(compare.differs(np.asarray([True]), np.asarray([False]))) == [0]


@pytest.mark.parametrize(
    ("dtype", "tf32", "small", "large"),
    [("float64", False, 1e-14, 1e-12), ("float32", False, 1e-5, 1e-3), ("float32", True, 5e-3, 0.5),
     ("float16", False, 1e-3, 0.1)],
)  # fmt: skip
def test_products_may_differ_by_roundings(dtype: str, tf32: bool, small: float, large: float) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.5, 1.0, size=(3, 100)).astype(dtype), rng.uniform(0.5, 1.0, size=(100, 2)).astype(dtype)
    own = (a.astype(float) @ b.astype(float)).astype(dtype)
    for change, expected in ((small, []), (large, [1])):
        found = own.copy()
        found[0, 1] *= 1 + change
        assert places(compare.differs_in_product(found, own, a, b, tf32)) == expected
    found[0, 1] = np.nan
    assert places(compare.differs_in_product(found, own, a, b, tf32)) == [1]
    assert places(compare.differs_in_product(found, found, a, b, tf32)) == []
