"""Recording a step: nothing is computed, nothing is frozen that changes, and NumPy's rules are kept to the bit."""

from __future__ import annotations

import gc
import itertools
import os
import random
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnet
from xpnet.backends.base import Eager
from xpnet.backends.cpu.replay import Replay
from xpnet.backends.numpy import NumpyBackend
from xpnet.backends.tape import surroundings
from xpnet.backends.tape.hollow import Hollow
from xpnet.backends.tape.plan import Memory
from xpnet.backends.tape.record import Buffer, CannotRecord, NotRepeated, Tape, record
from xpnet.errors import NotRecordedWarning

XP = NumpyBackend().xp
MIB = 1 << 20


class Device:
    """Stands for the type of a device's arrays."""


def recorded(f: Callable[..., Any], *arrays: Any, array_type: type = np.ndarray) -> tuple[Tape, Any]:
    """Return the tape of a function of arrays, and the stand-in for its result."""
    found: list[Any] = []

    def step(xp: Any, a: Any) -> None:
        result = f(xp, *a.values())
        found.append(result)

    step.__module__ = "xpnet"  # what it keeps is not part of it
    tape = record(step, XP, {str(k): a for k, a in enumerate(arrays)}, array_type)
    return tape, found[0]


def kinds(tape: Tape) -> list[str]:
    return [op.kind for op in tape.operations]


# --------------------------------------------------------------------------------------------------- no numbers


@pytest.mark.parametrize("array_type", [np.ndarray, Device])
def test_recording_takes_no_memory_and_computes_nothing(array_type: type) -> None:
    """8192 samples through 8192 units would take a minute and tens of gigabytes."""
    arrays = {name: np.zeros(shape, np.float32) for name, shape in {"x": (8192, 8192), "b": (8192,)}.items()}

    def step(xp: Any, a: Any) -> None:
        y = a["x"]
        for _ in range(20):
            y = xp.maximum(xp.matmul(y, a["x"]) + xp.mean(y, axis=0) + a["b"], 0.0)
            y = xp.concat([y[:4096, ...], xp.reshape(y.T, (8192, 8192))[4096:, ...]]) * xp.sum(y)
        a["x"][...] = y

    tracemalloc.start()
    tape = record(step, XP, arrays, array_type)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(tape.operations) > 200
    assert peak < MIB
    results = {id(op.target.buffer): op.target for op in tape.operations if op.target.buffer.kind == "result"}
    assert all(isinstance(a.array, Hollow) for a in results.values())
    ends = sorted((a.buffer.array.ctypes.data, a.buffer.array.nbytes) for a in results.values())
    assert all(start + size <= after for (start, size), (after, _) in itertools.pairwise(ends)), "each has its place"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells a process's size")
def test_zeros_of_a_recording_take_no_memory_and_lie_as_numpys_do() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def step(xp: Any, a: Any) -> None:
        for k in range(64):
            z = xp.zeros((1024, k + 1000), dtype=a["x"].dtype)
            z[:, 1:] += z[:, :-1]
            a["x"][...] += xp.sum(z + xp.zeros_like(z.T).T)

    before = resident()
    tape = record(step, XP, {"x": np.zeros(1, np.float32)})
    assert resident() < before + 8 * MIB
    sums = [op for op in tape.operations if op.kind == "elementwise" and op.target.size > 1][1::2]
    zeros = [op.reads[1].buffer.array for op in sums]
    assert {(a.shape, a.strides) for a in zeros} == {((k, 1024), (4, 4 * k)) for k in range(1000, 1064)}
    assert not np.may_share_memory(*zeros[:2])
    assert not zeros[0].any()


def test_zeros_have_the_shape_of_an_array_or_the_shape_itself() -> None:
    shapes: list[Any] = []

    def step(xp: Any, a: Any) -> None:
        made = (xp.zeros(3), xp.empty((2, 1)), xp.zeros([4]), xp.zeros(np.int64(5)), xp.zeros_like(np.float32(1)))
        shapes[:] = [z.shape for z in (*made, xp.empty_like(a["x"][:, None]), xp.zeros((0, 2)), xp.zeros(()))]
        a["x"][...] += xp.zeros(1, dtype=xp.float32)

    record(step, XP, {"x": np.zeros(6, np.float32)})
    assert shapes == [(3,), (2, 1), (4,), (5,), (), (6, 1), (0, 2), ()]


def test_the_plan_that_replaces_another_takes_its_memory() -> None:
    buffers = [Buffer(np.empty(n, np.uint8)) for n in (100, 300, 200, 150, 400)]
    first = Memory()
    for buffer in buffers[:3]:
        first.place(buffer)
    second = Memory(before=first)
    for buffer in buffers[3:]:
        second.place(buffer)
    shared = [
        [np.may_share_memory(first.arrays[id(a)], second.arrays[id(b)]) for a in buffers[:3]] for b in buffers[3:]
    ]
    assert shared == [[False, False, True], [False, False, False]]


def test_a_replay_keeps_no_more_than_it_needs() -> None:
    """Thirty results of a MiB each fit into two, of which one is written while the other is read."""

    def step(xp: Any, a: Any) -> None:
        y = a["x"]
        for _ in range(30):
            y = xp.matmul(y, a["W"])
        a["x"][...] = y

    arrays = {"x": np.ones((512, 512), np.float32), "W": np.ones((512, 512), np.float32)}
    tracemalloc.start()
    replay = Replay(record(step, XP, arrays))
    gc.collect()
    left, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert left < peak < 2.5 * MIB
    assert replay.unroll == 1


def test_a_hollow_array_shows_what_it_is_and_refuses_to_be_read() -> None:
    _, result = recorded(lambda xp, x: x[1:, ...] * 2.0, np.ones((3, 4), np.float32))
    assert f"{result.array}" == repr(result.array) == "<hollow float32 (2, 4)>"
    assert repr(result.array.T[None]) == "<hollow float32 (1, 4, 2)>"
    with pytest.raises(TypeError, match="does not support ufuncs"):
        result.array + 1


# -------------------------------------------------------------------------------------- NumPy's types and layouts

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "exp": lambda xp, a, b: xp.exp(a),
    "sum of two": lambda xp, a, b: a + b,
    "sum with a number": lambda xp, a, b: 2.5 * a,
    "comparison": lambda xp, a, b: a > b,
    "conversion": lambda xp, a, b: xp.astype(a, xp.float16),
    "where": lambda xp, a, b: xp.where(a > 0, b, 0.0),
    "product": lambda xp, a, b: xp.matmul(a, xp.matrix_transpose(b)),
    "product with a vector": lambda xp, a, b: xp.matmul(a, b[0, 0, :] if b.ndim == 3 else b[0, :]),
    "sum over the first axis": lambda xp, a, b: xp.sum(a, axis=0),
    "largest of the last axis": lambda xp, a, b: xp.max(a, axis=-1, keepdims=True),
    "sum over all": lambda xp, a, b: xp.sum(a),
    "sum over two axes": lambda xp, a, b: xp.sum(a, axis=(0, -1), keepdims=True),
    "mean": lambda xp, a, b: xp.mean(a, axis=0),
    "variance": lambda xp, a, b: xp.var(a, axis=-1, keepdims=True),
    "selection": lambda xp, a, b: xp.take(a, xp.asarray([1, 0, 1, 1]), axis=-1),
    "concatenation": lambda xp, a, b: xp.concat([a, b], axis=-1),
    "stack": lambda xp, a, b: xp.stack([a, b], axis=1),
    "reshaped": lambda xp, a, b: xp.reshape(xp.matrix_transpose(a), (-1, 2)),
    "outer": lambda xp, a, b: a[..., None] * b[:1, ..., None, :],
    "sort": lambda xp, a, b: xp.sort(a, axis=0),
    "roll": lambda xp, a, b: xp.roll(a, 1),
    "like": lambda xp, a, b: xp.ones_like(a) * b,
    "half product": lambda xp, a, b: xp.matmul(xp.astype(a, xp.float16), xp.astype(xp.matrix_transpose(b), xp.float16)),
}


@st.composite
def layouts(draw: Any) -> np.ndarray:
    """Return an array whose axes lie in any order, reversed, repeated, or with gaps."""
    ndim = draw(st.integers(2, 3))
    shape = tuple(draw(st.sampled_from([2, 4, 6])) for _ in range(ndim))
    order = draw(st.permutations(range(ndim)))
    a = np.random.default_rng(0).normal(size=[2 * shape[axis] for axis in order]).astype(np.float32)
    a = a.transpose(np.argsort(order))
    for axis, n in enumerate(shape):
        gap, back = draw(st.booleans()), draw(st.booleans())
        a = a.swapaxes(0, axis)[:: 2 if gap else 1][:n][:: -1 if back else 1].swapaxes(0, axis)
    if draw(st.booleans()):
        axis = draw(st.integers(0, ndim - 1))
        a = np.broadcast_to(a.swapaxes(0, axis)[:1].swapaxes(0, axis), shape)
    return a if draw(st.booleans()) else np.ascontiguousarray(a)


def described(a: Any) -> Any:
    a = np.asarray(a)
    return a.dtype, a.shape, [s for s, n in zip(a.strides, a.shape, strict=True) if n > 1]


@settings(max_examples=60, deadline=None)
@given(layouts(), layouts(), st.booleans())
def test_results_lie_in_memory_as_numpys_do(a: np.ndarray, b: np.ndarray, same: bool) -> None:
    """Sums of theirs depend on it."""
    b = b if b.shape == a.shape else a.T.copy().T if same else a[::-1]
    for name, f in FUNCTIONS.items():
        with np.errstate(all="ignore"):
            expected = f(XP, a, b)
        _, found = recorded(f, a, b)
        assert described(found.array) == described(expected), name


@settings(max_examples=60, deadline=None)
@given(
    layouts(),
    st.sampled_from([None, 0, 1, -1, (0, 1), (1, 0)]),
    st.booleans(),
    st.sampled_from([0.0, 1, 0.5, 0.3, 100]),
    st.sampled_from(["float32", "float64", "int32", "bool", "float16"]),
)
def test_means_and_variances_are_numpys_to_the_bit(
    a: np.ndarray, axis: Any, keepdims: bool, correction: float, dtype: str
) -> None:
    """They are recorded as sums, products and quotients, wherever that gives the same."""
    a = (a * 100).astype(dtype)

    def step(xp: Any, arrays: Any) -> None:
        x = arrays["a"]
        numbers = (
            xp.mean(x, axis=axis, keepdims=keepdims),
            xp.var(x, axis=axis, correction=correction, keepdims=keepdims),
            xp.std(x, axis=axis, correction=correction, keepdims=keepdims),
        )
        for k, number in enumerate(numbers):
            arrays["out"][k, ...] = xp.sum(xp.reshape(number, (-1,)) * arrays["random"][: number.size])

    arrays = {"a": a, "random": np.random.default_rng(1).normal(size=300), "out": np.zeros(3)}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of divisions by nothing
        tape = record(step, XP, arrays)
        step(XP, arrays)
        expected = arrays["out"].copy()
        Replay(tape)()
    np.testing.assert_array_equal(arrays["out"], expected)
    if dtype in ("float32", "float64") and correction in (0.0, 1):
        assert "other" not in kinds(tape)


def test_means_over_more_than_float32_can_count_are_left_to_numpy() -> None:
    for n, expected in ((1 << 24, ["reduce", "elementwise"]), ((1 << 24) + 1, ["other"])):
        x = np.broadcast_to(np.float32(1), (n,))
        assert kinds(recorded(lambda xp, x: xp.mean(x), x)[0]) == expected


def batch_norm(xp: Any, x: Any, dy: Any, gamma: Any, beta: Any) -> Any:
    """Return y and dx of a normalisation over all axes but the last."""
    axes, n = (0, 1, 2), x.size // x.shape[-1]
    centre, variance = xp.mean(x, axis=axes), xp.var(x, axis=axes)
    scale = 1.0 / xp.sqrt(variance + 1e-5)
    h = (x - centre) * scale
    dh = dy * gamma
    dx = scale * (dh - xp.sum(dh, axis=axes) / n - h * (xp.sum(dh * h, axis=axes) / n))
    return h * gamma + beta, dx


def test_a_batch_norm_of_images_consists_of_known_operations() -> None:
    x = np.ones((2, 5, 4, 3), np.float32)
    tape, _ = recorded(batch_norm, x, x, np.ones(3, np.float32), np.zeros(3, np.float32))
    assert set(kinds(tape)) == {"elementwise", "reduce"}


def test_padding_is_a_fill_and_a_copy_into_a_slice() -> None:
    def pad(xp: Any, x: Any) -> Any:
        y = xp.zeros((2, 7, 6, 3), dtype=x.dtype)
        y[:, 1:-1, 1:-1, :] = x
        return y

    tape, _ = recorded(pad, np.ones((2, 5, 4, 3), np.float32))
    fill, copy = tape.operations
    assert (fill.kind, fill.operands, fill.target.shape, fill.target.path) == ("copy", [0.0], (2, 7, 6, 3), ())
    assert (copy.kind, copy.target.shape) == ("copy", (2, 5, 4, 3))
    assert fill.target.buffer is copy.target.buffer
    assert fill.target.buffer.kind == "result"


def test_what_is_written_may_have_more_axes_of_one_entry_and_not_more_numbers() -> None:
    def onto(xp: Any, y: Any, x: Any) -> Any:
        y[...] = x
        return y

    tape, _ = recorded(onto, np.zeros(3), np.ones((1, 1, 3)))
    assert kinds(tape) == ["copy"]
    with pytest.raises(CannotRecord, match="too large for the place"):
        recorded(onto, np.zeros(3), np.ones((2, 3)))


def test_arrays_are_put_side_by_side_along_a_first_axis_if_none_is_named() -> None:
    _, both = recorded(lambda xp, x, y: xp.stack([x, y]), np.zeros(3), np.ones(3))
    assert both.shape == (2, 3)


def test_a_product_that_is_added_in_place_is_an_addition_to_its_target() -> None:
    def add(xp: Any, y: Any, a: Any) -> None:
        y += xp.matmul(a, a)

    product, addition = recorded(add, np.ones((3, 3)), np.ones((3, 3)))[0].operations
    assert (addition.function, addition.operands[1]) == (np.add, product.target)
    assert addition.operands[0] is addition.target


# -------------------------------------------------------------------------------------------------- selections


def selection(rows: Any, *, key: str = "x") -> Callable[..., None]:
    def step(xp: Any, a: Any) -> None:
        a["out"][...] = xp.take(a[key], rows(xp, a), axis=0)

    return step


def of_data(**changed: Any) -> dict[str, Any]:
    arrays = {"x": np.arange(10.0).reshape(5, 2), "order": np.asarray([4, 2, 0]), "cursor": np.zeros(1, np.int64)}
    return arrays | {"floats": np.asarray([4.0, 2.0, 0.0]), "out": np.zeros((3, 2))} | changed


def test_rows_of_a_caller_by_its_own_numbers_are_selected_without_a_look() -> None:
    step = selection(lambda xp, a: xp.take(a["order"], a["cursor"] + xp.arange(3), axis=0))
    assert kinds(record(step, XP, of_data())) == ["elementwise", "take", "take", "copy"]


@pytest.mark.parametrize(
    "rows",
    [
        lambda xp, a: xp.astype(a["floats"], xp.int64),
        lambda xp, a: xp.astype(a["floats"], xp.int64) + a["order"] * 0,
        lambda xp, a: a["order"] * 1,
    ],
)
def test_other_selections_beyond_the_end_are_errors_in_every_step(rows: Any) -> None:
    arrays = of_data()
    tape = record(selection(rows), XP, arrays)
    assert "take" not in kinds(tape)
    replay = Replay(tape)
    replay()
    np.testing.assert_array_equal(arrays["out"], arrays["x"][[4, 2, 0]])
    arrays["floats"][1] = arrays["order"][1] = 5
    with pytest.raises(IndexError, match="out of bounds"):
        replay()


def test_a_selection_from_what_the_step_changes_is_looked_at() -> None:
    def step(xp: Any, a: Any) -> None:
        a["x"][...] = xp.take(a["x"], a["order"], axis=0)

    assert kinds(record(step, XP, of_data(x=np.ones((3, 2))))) == ["other", "copy"]


def test_constant_indices_are_looked_at_once() -> None:
    assert kinds(record(selection(lambda xp, a: xp.asarray([-5, 4, 0])), XP, of_data())) == ["take", "copy"]
    for beyond in ([-6, 0, 0], [0, 5, 0]):
        with pytest.raises(IndexError, match="out of bounds"):
            record(selection(lambda xp, a, beyond=beyond: xp.asarray(beyond)), XP, of_data())


# ---------------------------------------------------------------------------------------- what the host changes


def test_an_array_of_a_layer_is_read_in_each_step() -> None:
    table = np.arange(12.0).reshape(3, 4)

    def step(xp: Any, a: Any) -> None:
        a["x"][...] = xp.sum(xp.asarray(table)[:, 1:], axis=1) + xp.exp(table.T[0])

    arrays = {"x": np.zeros(3)}
    replay = Replay(record(step, XP, arrays))
    for _ in range(2):
        replay()
        np.testing.assert_array_equal(arrays["x"], table[:, 1:].sum(axis=1) + np.exp(table[:, 0]))
        table[...] = -table / 10


def test_what_numpy_makes_of_it_outside_of_the_step_is_not_recorded() -> None:
    table = np.ones(3)

    def step(xp: Any, a: Any) -> None:
        a["x"][...] = a["x"] * (table * 2.0)

    with pytest.raises(NotRepeated, match="an array is made by NumPy itself"):
        record(step, XP, {"x": np.zeros(3)})


@pytest.mark.parametrize("array", [np.ma.masked_array([1.0]), np.asarray([1.0 + 1j]), np.asarray([None])])
def test_other_kinds_of_arrays_are_not_recorded(array: Any) -> None:
    with pytest.raises(CannotRecord, match="of the layer's own is among the arrays"):
        recorded(lambda xp, x: xp.multiply(x, array), np.ones(1))


def test_an_array_of_the_host_is_not_one_of_the_device() -> None:
    with pytest.raises(CannotRecord, match="a ndarray of the layer's own"):
        recorded(lambda xp, x: x * np.ones(2), np.ones(2), array_type=Device)


class Chance:
    """A layer's function with things of its own, which it may change."""

    def __init__(self) -> None:
        self.count, self.log, self.draws = 0, [0.5], np.random.default_rng(0)
        self.table, self.named = np.zeros(3), {"a": {"b": 1}}

    def state(self) -> Any:
        return self.count, [*self.log], self.draws.bit_generator.state, self.table.tolist(), repr(self.named)


CHANGES: dict[str, Callable[[Chance], Any]] = {
    "nothing": lambda own: None,
    "count": lambda own: setattr(own, "count", own.count + 1),
    "log": lambda own: own.log.append(1.0),
    "draws": lambda own: own.draws.random(),
    "table": lambda own: np.add(own.table, 1.0, out=own.table),
    "named": lambda own: own.named["a"].update(b=own.named["a"]["b"] + 1),
    "module random": lambda own: random.random(),
    "NumPy's old generator": lambda own: np.random.random(),  # noqa: NPY002
    "global": lambda own: globals().update(COUNT=globals()["COUNT"] + 1),
}
COUNT = 0


@pytest.mark.parametrize("name", CHANGES)
def test_what_the_step_changes_on_the_host_is_undone_and_the_step_not_recorded(name: str) -> None:
    """Even where it makes no difference this time."""
    own = Chance()

    def step(xp: Any, a: Any) -> None:
        CHANGES[name](own)
        a["x"][...] = a["x"] * (2.0 if COUNT < 100 else 3.0)

    everything = own.state(), random.getstate(), repr(np.random.get_state()), COUNT  # noqa: NPY002
    if name == "nothing":
        record(step, XP, {"x": np.ones(3)})
    else:
        with pytest.raises(NotRepeated, match="from the host, such as"):
            record(step, XP, {"x": np.ones(3)})
    assert everything == (own.state(), random.getstate(), repr(np.random.get_state()), COUNT)  # noqa: NPY002


def test_what_a_backend_changes_of_its_own_is_none_of_the_steps() -> None:
    class Counting(NumpyBackend):
        count = 0

    backend = Counting()

    def step(xp: Any, a: Any) -> None:
        backend.count += 1
        a["x"][...] = a["x"] * 2.0

    record(step, XP, {"x": np.ones(3)})
    assert backend.count == 2


def test_what_is_made_in_the_first_call_and_kept_does_not_matter() -> None:
    own = Chance()
    own.mask = None

    def step(xp: Any, a: Any) -> None:
        if own.mask is None:
            own.mask = np.tri(3)
        a["x"][...] = xp.matmul(own.mask, a["x"])

    arrays = {"x": np.ones(3)}
    Replay(record(step, XP, arrays))()
    assert arrays["x"].tolist() == [1.0, 2.0, 3.0]
    np.testing.assert_array_equal(own.mask, np.tri(3))


def test_stand_ins_do_not_stay_in_a_layer() -> None:
    class Remembering(xpnet.Identity):
        def forward(self, xp: Any, params: Any, x: Any, context: Any = xpnet.layers.INFERENCE) -> Any:
            object.__setattr__(self, "last", x)
            return x, None

    layer = Remembering()
    net = xpnet.Network([xpnet.Linear(2, 2), layer], "huber")
    x = np.ones((4, 2), np.float32)
    with pytest.warns(NotRecordedWarning, match="an array of the step is kept"):
        net.fit(x, x, epochs=1, batch_size=2, verbose=False)
    assert type(layer.last) is np.ndarray


class Doubled(xpnet.Identity):
    """A layer of one's own."""


@pytest.mark.parametrize("layer", [xpnet.Identity(), Doubled()])
def test_shared_generators_count_where_a_step_has_code_of_the_users_alone(layer: xpnet.Layer) -> None:
    """Another thread may draw from them while a step is recorded."""
    net = xpnet.Network([xpnet.Linear(2, 3), layer, xpnet.Dropout(0.5)], "cross_entropy")
    step = xpnet.Trainer(net, "adam", np.ones((4, 2), np.float32), np.zeros(4, int), batch_size=4).make_step(4)
    before = surroundings.Surroundings(step).facts
    for draw in (random.random, np.random.random):
        draw()
        after = surroundings.Surroundings(step).facts
        assert (before == after) == (type(layer) is xpnet.Identity)
        before = after


def test_looking_for_what_may_change_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "MOST", 50)
    around = [[k] for k in range(100_000)]
    around.append(around)
    found = surroundings.Surroundings(lambda xp, a: around)
    assert len(found.facts) < 150  # of two walks


# --------------------------------------------------------------------------------------------------- the refusal


def test_a_refusal_cannot_be_caught_away() -> None:
    def step(xp: Any, a: Any) -> None:
        try:
            scale = float(xp.max(a["x"]))
        except Exception:
            scale = 2.0
        a["x"][...] = a["x"] * scale

    with pytest.raises(CannotRecord, match=r"a value is read back to the host, in step \(test_tape.py, line \d+\)"):
        record(step, XP, {"x": np.ones(3)})


@pytest.mark.parametrize(
    "differ",
    [
        lambda xp, x, k: x * (2.0 + k),
        lambda xp, x, k: x * xp.full((3,), 2.0 + k),
        lambda xp, x, k: x * (-0.0 if k else 0.0),
        lambda xp, x, k: x * np.float32(k),
        lambda xp, x, k: xp.exp(x) if k else xp.sin(x),
        lambda xp, x, k: xp.sum(x, axis=0, keepdims=not k),
        lambda xp, x, k: xp.roll(x, k),
        lambda xp, x, k: x + xp.sum((x * 2.0)[k : k + 2]),
        lambda xp, x, k: xp.maximum(x, x * x) if k else x * x,
        lambda xp, x, k: x * x if k else xp.maximum(x, x * x),
        lambda xp, x, k: (lambda y, z: y * 2.0 if k else z * 2.0)(x + 1.0, x + 2.0),
    ],
)
def test_two_recordings_that_differ_are_no_recording(differ: Any) -> None:
    """An iterator is not among the things that are looked at beforehand."""
    numbers = itertools.count()

    def step(xp: Any, a: Any) -> None:
        a["x"][...] = differ(xp, a["x"], next(numbers) % 2)

    with pytest.raises(NotRepeated, match="random numbers, a clock or a counter"):
        record(step, XP, {"x": np.ones(3)})


@pytest.mark.parametrize("longer", [0, 1])
def test_two_recordings_are_of_the_same_length(longer: int) -> None:
    numbers = itertools.count()

    def step(xp: Any, a: Any) -> None:
        a["x"][...] = a["x"] * 2.0
        if next(numbers) == longer:
            a["x"][...] = a["x"] * 2.0

    with pytest.raises(NotRepeated):
        record(step, XP, {"x": np.ones(3)})


def test_a_large_array_that_the_step_changes_itself_is_found_by_its_content() -> None:
    large = np.zeros(100_000)
    assert large.nbytes > surroundings.SMALL

    def step(xp: Any, a: Any) -> None:
        np.add(large, 1.0, out=large)
        a["x"][...] = a["x"] * xp.sum(large)

    with pytest.raises(NotRepeated):
        record(step, XP, {"x": np.ones(3)})


def test_what_is_read_only_cannot_be_changed_in_a_recording_either() -> None:
    def step(xp: Any, a: Any) -> None:
        view = xp.broadcast_to(a["x"] * 2.0, (4, 3))
        view += 1.0

    fixed = np.ones(3)
    fixed.flags.writeable = False
    for f in (step, lambda xp, a: a["x"].__setitem__(0, 1.0)):
        with pytest.raises(CannotRecord, match="read-only"):
            record(f, XP, {"x": fixed})


def test_powers_of_single_numbers_are_those_of_numpys_numbers() -> None:
    """NumPy takes them by the mathematical library, and those of arrays by loops of its own."""
    tape, _ = recorded(lambda xp, x: xp.sum(x) ** 0.3 + 2.0 ** xp.max(x), np.ones(3, np.float32))
    assert kinds(tape) == ["reduce", "other", "reduce", "other", "elementwise"]
    assert {op.target.dtype for op in tape.operations} == {np.dtype(np.float32)}

    def in_place(xp: Any, x: Any) -> Any:
        total = xp.sum(x)
        total **= 3.0
        return total

    assert kinds(recorded(in_place, np.ones(3, np.float32))[0]) == ["reduce", "other"]


def test_matrices_of_a_stack_are_transposed_each_by_itself() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    _, turned = recorded(lambda xp, x: x.mT, x)
    assert (turned.shape, turned.array.strides) == (x.mT.shape, x.mT.strides)


def test_an_error_of_the_steps_own_is_not_spoken_of_twice() -> None:
    def step(xp: Any, a: Any) -> None:
        raise LookupError("in the step")

    with pytest.raises(LookupError, match="in the step"):
        NumpyBackend().compile(step, {"x": np.ones(3)}, [])()


def test_an_error_that_only_a_recording_has_is_told_after_the_first_step() -> None:
    def step(xp: Any, a: Any) -> None:
        if type(a["x"]) is not np.ndarray:
            raise LookupError("no array")

    backend = NumpyBackend()
    program = backend.compile(step, {"x": np.ones(3)}, [])
    assert isinstance(program, Eager)
    with pytest.warns(NotRecordedWarning, match="run as it is written, .*: no array"):
        program()
    program(3)
    backend.compile(step, {"x": np.ones(3)}, [])()


def test_the_warning_is_given_at_the_callers_line_once_for_each_network() -> None:
    net = xpnet.Network(
        [xpnet.Linear(2, 2), xpnet.Activation(lambda xp, x: x.clip(0), lambda xp, x: x > 0)], "huber", dtype="float64"
    )
    x = np.ones((7, 2))
    for times in (1, 0):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            net.fit(x, x, epochs=1, batch_size=4, verbose=False)
        assert [(w.filename, w.category) for w in said] == times * [(__file__, NotRecordedWarning)]
