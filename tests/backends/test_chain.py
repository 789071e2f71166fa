"""A step as one call: each of its pieces gives NumPy's bits, and what would not is left to NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from labels import label

import xpnet
from xpnet.backends.cpu import openblas
from xpnet.backends.cpu.replay import MOST, Replay
from xpnet.backends.numpy import NumpyBackend
from xpnet.backends.tape import record as tape

pytest.importorskip("llvmlite", reason="the extra fast is not installed")

from xpnet.backends.cpu import borrowed, chain, products, trial
from xpnet.backends.cpu.chain import Chain, Piece, Task
from xpnet.backends.cpu.driver import PLAN, SLOTS, THREADS, TOTAL, TURNS

DTYPES = ["float32", "float64"]


def bits(a: Any) -> bytes:
    return np.ascontiguousarray(a).tobytes()


def run(made: list[Piece] | None) -> None:
    assert made is not None
    Chain([Task([made])])()


def product(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> list[Piece] | None:
    return borrowed.build("matmul", np.matmul, (), [a, b], out)


def function(ufunc: np.ufunc, operands: list[Any], out: np.ndarray) -> list[Piece] | None:
    return borrowed.build("elementwise", ufunc, (), operands, out)


def reduction(ufunc: np.ufunc, a: np.ndarray, axis: Any, out: np.ndarray) -> list[Piece] | None:
    return borrowed.build("reduce", ufunc, (axis, a.dtype, False), [a], out)


def selection(a: np.ndarray, indices: np.ndarray, axis: int, out: np.ndarray) -> list[Piece] | None:
    return borrowed.build("take", np.take, (axis,), [a, indices], out)


def laid_out(shape: tuple[int, int], dtype: str, how: str) -> np.ndarray:
    rng = np.random.default_rng(1)
    rows, columns = shape
    if how == "rows":
        return rng.normal(size=shape).astype(dtype)
    if how == "columns":
        return rng.normal(size=(columns, rows)).astype(dtype).T
    return rng.normal(size=(rows + 3, columns + 5)).astype(dtype)[2 : rows + 2, 1 : columns + 1]


SHAPES = [
    (128, 784, 64),
    (784, 128, 10),
    (5, 3, 2),
    (1, 40, 30),
    (40, 30, 1),
    (7, 1, 9),
    (1, 1, 6),
    (6, 1, 1),
    (2, 2, 2),
]


@pytest.mark.skipif(openblas.of_numpy() is None, reason="this NumPy does not come with an OpenBLAS of its own")
@pytest.mark.parametrize("shape", SHAPES, ids=label)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("left", ["rows", "columns", "part"])
@pytest.mark.parametrize("right", ["rows", "columns", "part"])
def test_products_call_the_library_as_numpy_does(
    shape: tuple[int, int, int], dtype: str, left: str, right: str
) -> None:
    rows, inner, columns = shape
    a, b = laid_out((rows, inner), dtype, left), laid_out((inner, columns), dtype, right)
    out = np.full((rows, columns), np.nan, dtype)
    made = product(a, b, out)
    if made is None:  # a vector that does not lie in one piece
        assert 1 in (rows, columns)
        return
    run(made)
    assert bits(out) == bits(a @ b)


CUT = {  # by shape and how the left factor lies: of how many products the parts are
    (3000, 48, 16, "rows"): [1, 1, 1],
    (3000, 16, 48, "rows"): [1, 1],
    (700, 160, 32, "rows"): [1, 1, 1, 1],
    (48, 2000, 16, "columns"): [16],
    (48, 2001, 16, "columns"): [16],
    (48, 2049, 16, "columns"): [17],
    (48, 2000, 16, "rows"): [1],
    (210, 512, 64, "columns"): [4, 4, 1],
    (96, 500, 128, "columns"): [8],
    (193, 512, 64, "columns"): [4, 4],
    (256, 200, 150, "columns"): [1, 1, 1, 1],
    (100, 784, 300, "columns"): [1, 1, 1, 1],
    (1, 90_000, 32, "rows"): [1],
    (4, 90_000, 32, "columns"): [1],
    (30, 128, 20, "columns"): [1],
}


@pytest.mark.skipif(openblas.of_numpy() is None, reason="this NumPy does not come with an OpenBLAS of its own")
@pytest.mark.parametrize("product", CUT, ids=label)
@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_few_columns_are_small_ones_in_every_path(
    monkeypatch: pytest.MonkeyPatch, product: tuple[int, int, int, str], dtype: str
) -> None:
    monkeypatch.setattr(borrowed, "own", lambda *_: None)
    rows, inner, columns, how = product
    a, b = laid_out((rows, inner), dtype, how), laid_out((inner, columns), dtype, "rows")
    out = np.full((rows, columns), np.nan, dtype)
    made = borrowed.build_parts("matmul", np.matmul, ("tiles",), [a, b], out, 1)
    assert made is not None
    assert [len(part) for part in made] == CUT[product]
    for part in made:
        run(part)
    np.testing.assert_allclose(out, a @ b, rtol=0, atol=2e3 * np.finfo(dtype).eps)
    assert bits(out) == bits(products.matmul(a, b))


@pytest.mark.skipif(openblas.of_numpy() is None, reason="this NumPy does not come with an OpenBLAS of its own")
@pytest.mark.parametrize("inner", [127, 128])
def test_a_product_that_is_added_at_once_is_not_cut_along_what_it_adds_up(inner: int) -> None:
    """It would be added run by run, which is not what the step says."""
    a, b = laid_out((200, inner), "float32", "columns"), laid_out((inner, 100), "float32", "rows")
    out = laid_out((200, 100), "float32", "rows")
    expected = out + products.matmul(a, b)
    for part in borrowed.build_parts("adding", np.matmul, ("tiles",), [a, b, out], out, 1) or []:
        run(part)
    assert bits(out) == bits(expected)


def test_products_that_numpy_does_in_another_way_are_left_to_it() -> None:
    a = np.ones((3, 4))
    for first, second in [
        (a, a.T),  # a factor and its transpose: half the work
        (a[:, ::2], a[:2]),  # lies neither in rows nor in columns
        (a[:1], a[:1].T.copy()),  # a scalar product
        (a.astype(int), a.T.astype(int).copy()),
        (a[:0], np.ones((4, 2))),
    ]:
        out = np.zeros((first.shape[0], second.shape[1]), first.dtype)
        assert product(first, second, out) is None


UNARY = ["exp", "expm1", "log", "log1p", "tanh", "sin", "cos", "sqrt", "floor", "cbrt", "arctan", "positive"]
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -3.0, 88.9, -104.0]


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 7, 16, 1000])
def test_functions_of_one_number(name: str, dtype: str, size: int) -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.normal(size=size) * 5, SPECIAL]).astype(dtype)
    out = np.zeros_like(x)
    run(function(getattr(np, name), [x], out))
    with np.errstate(all="ignore"):
        assert bits(out) == bits(getattr(np, name)(x))
    run(function(getattr(np, name), [x], x))  # in place
    assert bits(x) == bits(out)


def test_functions_of_many_numbers_are_pieces_too() -> None:
    """What goes through Python is done by one thread, and divides a step in two."""
    x = np.linspace(-3, 3, 3_000_000, dtype=np.float32)
    out = np.zeros_like(x)
    run(function(np.exp, [x], out))
    assert bits(out) == bits(np.exp(x))


@pytest.mark.parametrize("name", ["power", "arctan2", "logaddexp", "hypot", "remainder"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_functions_of_two_numbers(name: str, dtype: str) -> None:
    rng = np.random.default_rng(3)
    ufunc = getattr(np, name)
    a, b = rng.normal(size=(2, 9, 5)).astype(dtype)
    for first, second in [(a, b), (a, np.asarray(0.75, dtype)), (np.asarray(2.5, dtype), b)]:
        out = np.zeros((9, 5), dtype)
        run(function(ufunc, [first, second], out))
        with np.errstate(all="ignore"):
            assert bits(out) == bits(ufunc(first, second))


def test_functions_of_arrays_that_do_not_lie_in_order() -> None:
    a, b = np.random.default_rng(9).normal(size=(2, 5, 4, 4)).astype(np.float32)
    for first in (a[:, ::2], a[::-1, :2], a[:, 1:2]):
        for second in (b[:, 2:], b.transpose(0, 2, 1)[:, :2], b[:, 3:, :], b[0, 1], b[:1, :2, :1], b[0, 0, 0]):
            expected = np.hypot(first, second)
            out = np.zeros((5, 4, 9), np.float32)[:, : expected.shape[1], 3:7]
            run(function(np.hypot, [first, np.asarray(second)], out))
            assert bits(out) == bits(expected)


def test_functions_with_a_conversion_are_left_to_numpy() -> None:
    a = np.ones((4, 6))
    assert function(np.exp, [a], np.zeros((4, 6), np.float32)) is None
    assert function(np.exp, [a[:0]], np.zeros((0, 6))) is None


@pytest.mark.parametrize("ufunc", [np.add, np.maximum], ids=["sum", "max"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (128, 10), (3, 1000), (1000, 3), (40, 129), (12,), (8000,)])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_sums_and_maxima(ufunc: np.ufunc, dtype: str, shape: tuple[int, ...], axis: int | None) -> None:
    if axis == 1 and len(shape) == 1:
        axis = 0
    a = np.random.default_rng(4).normal(size=shape).astype(dtype)
    a[0, ...] *= -0.0
    for numbers in (a, np.where(np.arange(a.size).reshape(shape) == a.size // 2, np.nan, a).astype(dtype)):
        expected = ufunc.reduce(numbers, axis=axis)
        out = np.full(np.shape(expected), 7, dtype)
        run(reduction(ufunc, numbers, axis, out))
        assert bits(out) == bits(expected)


@pytest.mark.parametrize("shape", [(30_000,), (300, 100), (3, 10_000)])
def test_long_sums_are_those_of_this_numpy(shape: tuple[int, ...]) -> None:
    """Before NumPy 2.3 a long sum is cut into parts as long as a buffer: then it is left to NumPy."""

    def step(xp: Any, a: Any) -> None:
        a["all"][...] = xp.sum(a["x"])
        a["last"][...] = xp.sum(a["x"], axis=-1)

    x = np.random.default_rng(8).normal(size=shape)
    arrays = {"x": x, "all": np.zeros(()), "last": np.zeros(shape[:-1])}
    for call in compiled_plan(step, arrays):
        call()
    assert bits(arrays["all"]) == bits(x.sum())
    assert bits(arrays["last"]) == bits(x.sum(axis=-1))


AXES = [(0,), (1,), (2,), (3,), (0, 1, 2), (1, 2), (0, 3), (1, 3), (0, 2), (0, 1, 2, 3), (-1, 0)]


@pytest.mark.parametrize("ufunc", [np.add, np.maximum], ids=["sum", "max"])
@pytest.mark.parametrize("axes", AXES, ids=label)
@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (7, 1, 2, 33), (1, 9, 16, 1), (40, 2, 1, 17)], ids=label)
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions_along_any_axes(
    ufunc: np.ufunc, axes: tuple[int, ...], shape: tuple[int, ...], keepdims: bool
) -> None:  # fmt: skip
    a = np.random.default_rng(10).normal(size=shape).astype(np.float32)
    if ufunc is np.maximum:  # of two zeros it matters which comes first
        a = np.where(a > 1, 0.0, np.where(a > 0, -0.0, a)).astype(np.float32)
    options, expected = (axes, a.dtype, keepdims), np.asarray(ufunc.reduce(a, axis=axes, keepdims=keepdims))
    out = np.full_like(expected, 7)
    run(borrowed.build("reduce", ufunc, options, [a], out))
    assert bits(out) == bits(expected)
    assert trial._agree("reduce", ufunc, options, tuple((x.dtype.char, x.shape, x.strides) for x in (a, out)))


def test_other_reductions_are_left_to_numpy() -> None:
    a = np.ones((2, 3, 4))
    assert reduction(np.multiply, a, None, np.zeros(())) is None
    assert reduction(np.add, a[:, ::-1], 1, np.zeros((2, 4))) is None
    assert reduction(np.add, a[0].astype(np.float32), 0, np.zeros(4)) is None
    assert reduction(np.add, np.zeros((0, 3)), 0, np.zeros(3)) is None


@pytest.mark.parametrize("width", [1, 2, 3, 10, 16, 63, 64, 65, 80, 784])
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_rows_by_index(width: int, dtype: str) -> None:
    rng = np.random.default_rng(5)
    a = (rng.normal(size=(50, width)) * 9).astype(dtype)
    for count in (1, 2, 3, 40):
        indices = rng.integers(-50, 50, count)
        out = np.zeros((count, width), dtype)
        run(selection(a, indices, 0, out))
        assert bits(out) == bits(a[indices])
    for axis in (1, -1):
        block = np.stack([a.T, a.T[::-1]]).copy()
        moved, out = (
            np.moveaxis(block, 2, axis).copy(),
            np.zeros((2, 40, width) if axis == 1 else (2, width, 40), dtype),
        )
        run(selection(moved, indices, axis, out))
        assert bits(out) == bits(np.take(moved, indices, axis=axis, mode="wrap"))
    vector, out = a[:, 0].copy(), np.zeros(40, dtype)
    run(selection(vector, indices, 0, out))
    assert bits(out) == bits(vector[indices])
    assert width == 1 or selection(a.T, indices, 0, np.zeros((40, 50), dtype)) is None
    assert selection(a, indices.astype(np.int32), 0, np.zeros((40, width), dtype)) is None


def network(loss: str, hidden: str, output: int) -> tuple[Any, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(6)
    net = xpnet.mlp([12, 20, 9, output], activation=hidden, loss=loss)
    t = rng.integers(0, output, 64) if loss == "cross_entropy" else rng.uniform(size=(64, output)).astype("float32")
    return net, rng.normal(size=(64, 12)).astype("float32"), t


@pytest.mark.skipif(openblas.of_numpy() is None, reason="this NumPy does not come with an OpenBLAS of its own")
@pytest.mark.parametrize("hidden", ["relu", "leaky_relu", "sigmoid", "tanh", "gelu"])
@pytest.mark.parametrize(
    ("loss", "output"), [("cross_entropy", 3), ("mean_squared_error", 2), ("sum_squared_error", 2)]
)
@pytest.mark.parametrize("batch", [1, 16])
def test_a_whole_step_is_one_call(hidden: str, loss: str, output: int, batch: int) -> None:
    """Not one of the usual operations is left over, and ten steps in one call are ten steps."""
    thetas, calls = [], []
    for compiled in (False, True):
        net, x, t = network(loss, hidden, output)
        trainer = xpnet.Trainer(net, xpnet.Adam(1e-2), x, t, batch_size=batch, averaging=0.9)
        recorded = tape.record(trainer.make_step(batch), net.backend.xp, trainer.arrays)
        program = Replay(recorded)
        program._seconds = -np.inf
        if compiled:
            program.compile(recorded, 1e-5)
            calls = program._calls
        trainer._programs[batch] = program
        trainer.run(30)
        thetas.append(net.theta)
    assert [type(call).__name__ for call in calls] == ["Chain"]
    assert program.unroll > 30  # so that the thirty steps were one call
    assert bits(thetas[0]) == bits(thetas[1])


def test_many_steps_are_asked_for_only_where_they_are_short() -> None:
    net, x, t = network("cross_entropy", "relu", 3)
    trainer = xpnet.Trainer(net, xpnet.SGD(0.1), x, t, batch_size=16)
    for seconds, several in ((1.0, 1), (1e-3, 5), (1e-9, MOST)):
        recorded = tape.record(trainer.make_step(16), net.backend.xp, trainer.arrays)
        program = Replay(recorded)
        assert program.unroll == 1
        program.compile(recorded, seconds)
        assert program.unroll == several


def compiled_plan(step: Any, arrays: dict[str, np.ndarray]) -> list[Any]:
    recorded = tape.record(step, NumpyBackend().xp, arrays)
    program = Replay(recorded)
    program.compile(recorded)
    return program._calls


def a_step(xp: Any, a: Any) -> None:
    y = xp.exp(xp.matmul(a["x"], a["W"]))
    a["y"][...] = y / xp.sum(y, axis=1, keepdims=True)


def some_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {"x": rng.normal(size=(6, 5)), "W": rng.normal(size=(5, 4)), "y": np.zeros((6, 4))}


@pytest.fixture(autouse=True)
def nothing_known() -> Any:
    """What has been tried with other pieces is forgotten."""
    trial._agree.cache_clear()
    yield
    trial._agree.cache_clear()


@pytest.mark.parametrize("missing", ["library", "loops"])
def test_what_cannot_be_called_directly_is_called_through_numpy(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    if missing == "library":
        monkeypatch.setattr(openblas, "of_numpy", lambda: None)
    else:
        monkeypatch.setattr(borrowed, "inner_loop", lambda ufunc, dtypes: None)
    arrays = some_arrays()
    calls = compiled_plan(a_step, arrays)
    assert len(calls) > 1
    for call in calls:
        call()
    y = np.exp(arrays["x"] @ arrays["W"])
    assert bits(arrays["y"]) == bits(y / y.sum(axis=1, keepdims=True))


def test_a_piece_that_gives_other_bits_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if NumPy had changed its ways: sums from the other end."""
    right = borrowed.reduction

    def wrong(ufunc: np.ufunc, a: np.ndarray, axis: Any, out: np.ndarray) -> Any:
        made = right(ufunc, a, axis, out)
        return made and [*made[:-1], made[-1], made[-1]]  # adds up twice

    monkeypatch.setattr(borrowed, "reduction", wrong)
    arrays = some_arrays()
    calls = compiled_plan(a_step, arrays)
    assert len(calls) == 3  # before the sum, the sum, after it
    for call in calls:
        call()
    np.testing.assert_allclose(arrays["y"].sum(axis=1), 1.0)


def test_a_loop_is_found_only_where_the_layout_is_the_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    find = borrowed.inner_loop.__wrapped__
    assert find(np.exp, "f->f") is not None
    assert find(np.exp, "q->q") is None  # there is none

    class Other(borrowed.Ufunc):
        nin = borrowed.Ufunc.identity  # as if a field had come in between

    monkeypatch.setattr(borrowed, "Ufunc", Other)
    assert find(np.exp, "f->f") is None
    monkeypatch.undo()
    monkeypatch.setattr(borrowed.sys, "implementation", type("Other", (), {"name": "other"}))
    assert find(np.exp, "f->f") is None


def test_each_thread_does_its_own_pieces_of_a_task_that_has_some_for_each() -> None:
    ones, found = np.ones(4), np.zeros((3, 4))
    lanes = [(function(np.add, [ones, ones], out) or []) + (function(np.add, [out, ones], out) or []) for out in found]
    made = Chain([Task(lanes), Task([function(np.square, [ones], ones) or []], after=1)], threads=3)
    for threads_before in (1, 2, 0):  # who comes is the second thread, the third, the first
        run = chain.table("l" * SLOTS, *(threads_before if k == THREADS else 0 for k in range(SLOTS)))
        slots = chain.ctypes.cast(run, chain.ctypes.POINTER(chain.ctypes.c_int64))
        slots[TOTAL], slots[TURNS], slots[PLAN] = 2, 1, chain.ctypes.addressof(made._plan)
        found[...] = 0.0
        made._work(run)
        assert found[threads_before].tolist() == [3.0] * 4
        assert found.sum() == 12.0
