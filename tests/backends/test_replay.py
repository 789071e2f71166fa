"""The NumPy backend's recorded steps: whatever a step does, its replay gives the same bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnet
from xpnet.backends.base import Eager
from xpnet.backends.cpu.calls import calls
from xpnet.backends.cpu.replay import Replay
from xpnet.backends.numpy import NumpyBackend
from xpnet.backends.tape import fusion as native
from xpnet.backends.tape import record as tape
from xpnet.errors import NotRecordedWarning

XP = NumpyBackend().xp
ROWS, COLUMNS = 5, 7


def fresh_arrays(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=40).astype(np.float32)
    return {
        "theta": theta,
        "g": np.zeros(40, dtype=np.float32),
        "a": rng.normal(size=(ROWS, COLUMNS)).astype(np.float32),
        "b": rng.normal(size=(ROWS, COLUMNS)).astype(np.float32),
        "square": rng.normal(size=(COLUMNS, COLUMNS)).astype(np.float32),
        "column": rng.normal(size=(ROWS, 1)).astype(np.float32),
        "total": np.zeros(1),
        "step": np.zeros(1, dtype=np.uint32),
        "order": rng.permutation(ROWS),
    }


def replays(step: Callable[[Any, Mapping[str, Any]], None], arrays: dict[str, np.ndarray]) -> list[Any]:
    """Return the eager step, its replay by NumPy's calls, and its replay with kernels, each on its own copy."""
    copies = [{name: a.copy() for name, a in arrays.items()} for _ in range(3)]
    recorded = Replay(tape.record(step, XP, copies[1]))
    recorded._seconds = -np.inf
    compiled = tape.record(step, XP, copies[2])
    kernels = Replay(compiled)
    kernels.compile(compiled)
    return [*zip((Eager(step, XP, copies[0]), recorded, kernels), copies, strict=True)]


def assert_same(step: Callable[[Any, Mapping[str, Any]], None], arrays: dict[str, np.ndarray], times: int = 3) -> None:
    (eager, expected), *others = replays(step, arrays)
    with np.errstate(all="ignore"):
        for _ in range(times):
            eager()
            for program, found in others:
                program()
                for name in arrays:
                    np.testing.assert_array_equal(found[name], expected[name], err_msg=f"{program}: {name}")


BINARY = ["add", "subtract", "multiply", "divide", "maximum", "minimum"]
KINDS = ["binary", "scalar", "unary", "mask", "row", "column", "reduce", "product", "where", "take"]
KINDS += ["backwards", "changed", "padded", "joined", "mean"]
KINDS += ["in place", "write", "slice"]  # these change an array of the caller
UNARY = ["exp", "tanh", "abs", "negative", "square", "sqrt"]


@st.composite
def programs(draw: Any) -> list[tuple[Any, ...]]:
    """Statements over a pool of (ROWS, COLUMNS) arrays, which grows; some change an array in place."""
    statements: list[tuple[Any, ...]] = []
    size = 2
    for _ in range(draw(st.integers(1, 14))):
        pick = st.integers(0, size - 1)
        kind = draw(st.sampled_from(KINDS))
        statements.append(
            (
                kind,
                draw(pick),
                draw(pick),
                draw(st.sampled_from(BINARY)),
                draw(st.sampled_from(UNARY)),
                draw(st.integers(0, 4)),
            )
        )
        if kind not in KINDS[-3:]:
            size += 1
    return statements


def run_program(statements: list[tuple[Any, ...]]) -> Callable[[Any, Mapping[str, Any]], None]:
    def step(xp: Any, a: Mapping[str, Any]) -> None:
        pool = [a["a"], a["b"]]
        for kind, i, j, binary, unary, number in statements:
            x, y = pool[i], pool[j]
            if kind == "binary":
                pool.append(getattr(xp, binary)(x, y))
            elif kind == "scalar":
                pool.append(0.5 * number - x)
            elif kind == "unary":
                pool.append(getattr(xp, unary)(x))
            elif kind == "mask":
                pool.append(x * xp.astype(y > 0, x.dtype))
            elif kind == "row":
                pool.append(x + a["theta"][number : number + COLUMNS])
            elif kind == "column":
                pool.append(x * a["column"])
            elif kind == "reduce":
                pool.append(x - xp.sum(y, axis=number % 2, keepdims=True))
            elif kind == "product":
                pool.append(xp.matmul(x, a["square"].T if number % 2 else a["square"]))
            elif kind == "where":
                pool.append(xp.where(x > y, x, y))
            elif kind == "take":
                pool.append(xp.take(x, a["order"], axis=0))
            elif kind == "backwards":
                pool.append(y - (x * 1.5)[::-1])  # of a result that nobody else reads
            elif kind == "changed":
                h = x + y
                earlier = h[1:, ::-1]
                h[:-1] *= 0.5
                h[number % ROWS] = 0.25 * number
                pool.append(h)
                pool[-1] += xp.matmul(earlier.T, earlier)[:ROWS] * 0.125
            elif kind == "padded":
                h = xp.zeros((ROWS + 2, COLUMNS), dtype=x.dtype)
                h[1:-1] = x
                parts = xp.empty((2 * ROWS, COLUMNS), dtype=x.dtype)
                parts[:ROWS] = y
                parts[ROWS:] = xp.astype(x, xp.float64) * 2.0
                pool.append(h[2:] - h[:-2] + parts[::2] * parts[1::2])
            elif kind == "joined":
                pool.append(xp.concat([x[number:], y[:number] * 2.0]))
            elif kind == "mean":
                pool.append((x - xp.mean(x, axis=number % 2, keepdims=True)) / (1.0 + xp.var(y)))
            elif kind == "in place":
                target = pool[i % 2]
                target *= 0.5
                target += y
            elif kind == "write":
                view = xp.reshape(a["g"][:35], (ROWS, COLUMNS))
                view[...] = x * y
            else:
                part = a["theta"][number : number + 20]
                part -= 0.25 * a["g"][2 * number : 2 * number + 20]
        total = a["total"]
        total += xp.sum(pool[-1] * pool[-1])
        count = a["step"]
        count += 1
        a["g"][...] = a["g"] + 0.1 * a["theta"]

    return step


@settings(max_examples=150, deadline=None)
@given(programs(), st.integers(0, 3))
def test_random_programs_replay_to_the_bit(statements: list[tuple[Any, ...]], seed: int) -> None:
    assert_same(run_program(statements), fresh_arrays(seed))


def test_kernels_follow_numpy_for_nan_infinity_and_signed_zero() -> None:
    special = np.asarray([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e-45, 3e38], dtype=np.float32)
    grid = np.stack(np.meshgrid(special, special)).reshape(2, -1)

    def step(xp: Any, a: Mapping[str, Any]) -> None:
        x, y = a["x"], a["y"]
        for k, f in enumerate((xp.maximum, xp.minimum, xp.multiply, xp.divide, xp.add)):
            a["out"][k, ...] = f(x, y) * 1.0
        for k, f in enumerate((xp.greater, xp.less, xp.greater_equal, xp.less_equal, xp.equal, xp.not_equal), 5):
            a["out"][k, ...] = xp.astype(f(x, y), xp.float32) * 1.0
        a["out"][11, ...] = xp.abs(-x) * 1.0
        a["out"][12, ...] = xp.sqrt(xp.abs(x)) + 0.0

    assert_same(step, {"x": grid[0].copy(), "y": grid[1].copy(), "out": np.zeros((13, 81), dtype=np.float32)}, times=1)


def test_integers_wrap_and_convert_as_in_numpy() -> None:
    def step(xp: Any, a: Mapping[str, Any]) -> None:
        h = (a["i"] ^ (a["i"] >> 15)) * 0x7FEB352D + a["step"]
        a["i"][...] = h ^ (h >> 16)
        a["x"][...] = xp.astype(h >= 2**31, xp.float32) * 2.0 + xp.astype(a["n"], xp.float32)
        n = a["n"]
        n += 3
        step_number = a["step"]
        step_number += 1

    arrays = {
        "i": np.arange(1000, dtype=np.uint32),
        "x": np.zeros(1000, dtype=np.float32),
        "n": np.arange(-500, 500),
        "step": np.asarray([2**32 - 2], dtype=np.uint32),
    }
    assert_same(step, arrays, times=4)


def test_a_transposed_intermediate_keeps_its_order_in_memory() -> None:
    def step(xp: Any, a: Mapping[str, Any]) -> None:
        a["s"][...] = xp.sum(a["x"].T * 1.5, axis=0)

    x = np.random.default_rng(0).normal(size=(200, 300)).astype(np.float32)
    assert_same(step, {"x": x, "s": np.zeros(200, dtype=np.float32)})


def test_a_product_is_written_straight_into_its_view() -> None:
    def step(xp: Any, a: Mapping[str, Any]) -> None:
        view = xp.reshape(a["g"][:49], (7, 7))
        view[...] = xp.matmul(a["x"].T, a["x"])

    arrays = {"x": np.ones((3, 7)), "g": np.zeros(60)}
    recorded = tape.record(step, XP, arrays)
    assert [op.kind for op in recorded.operations] == ["matmul", "copy"]
    assert len(calls(recorded)) == 1
    assert_same(step, arrays)


def test_a_product_is_not_written_early_over_what_is_still_read() -> None:
    def step(xp: Any, a: Mapping[str, Any]) -> None:
        product = xp.matmul(a["x"], a["y"])
        a["y"][...] = a["x"] + 1.0  # between the product and its copy, the target's memory is read and written
        a["x"][...] = product

    assert_same(step, {"x": np.eye(4) * 2, "y": np.arange(16.0).reshape(4, 4)})

    def swap(xp: Any, a: Mapping[str, Any]) -> None:
        a["x"][...] = xp.matmul(a["x"], a["y"])  # the product reads where it is going to be written

    assert_same(swap, {"x": np.arange(16.0).reshape(4, 4), "y": np.eye(4)[::-1].copy() * 0.5})


@pytest.mark.parametrize("first", [0, 1])
def test_a_result_that_is_written_in_parts_does_not_lie_on_what_a_part_is_read_from(first: int) -> None:
    """As large as each other are n numbers of float64 and 2 n of float32."""
    n = 64

    def step(xp: Any, a: Mapping[str, Any]) -> None:
        h = xp.cumulative_sum(a["x"], axis=0)
        parts = [(slice(n, None), h), (slice(n), a["f"])]
        joined = xp.empty((2 * n,), dtype=xp.float32)
        for part, value in (parts[first], parts[1 - first]):
            joined[part] = value
        a["out"][...] = joined * joined

    arrays = {"x": np.arange(1.0, n + 1), "f": np.ones(n, np.float32), "out": np.zeros(2 * n, np.float32)}
    assert_same(step, arrays)


def test_runs_of_elementwise_operations_become_one_kernel() -> None:
    adam = xpnet.Adam()
    names = ("theta", "gradient", "m", "v", "scale", "correction")
    arrays = {name: np.full(1000 if k < 4 else 1, 0.1, dtype=np.float32) for k, name in enumerate(names)}

    def step(xp: Any, a: Mapping[str, Any]) -> None:
        adam.update(xp, *(a[name] for name in names))

    operations = tape.record(step, XP, arrays).operations
    units = native.group(operations, {})
    assert len(operations) > 8
    assert len(units) == 1
    assert_same(step, arrays)


def test_overlapping_views_do_not_share_a_kernel() -> None:
    def step(xp: Any, a: Mapping[str, Any]) -> None:
        left, right = a["theta"][:20], a["theta"][1:21]
        left += 1.0
        right *= left  # reads what the line before wrote, one place further on

    operations = tape.record(step, XP, fresh_arrays(0)).operations
    assert len(native.group(operations, {})) == 2
    assert_same(step, fresh_arrays(0))


def test_what_is_written_over_while_it_is_still_read_does_not_share_a_kernel() -> None:
    """The other way round than above: the second operation writes what the first reads, one place further on."""

    def step(xp: Any, a: Any) -> None:
        h = a["theta"][:20] + 1.0
        right = a["theta"][1:21]
        right *= 2.0
        a["g"][:20] = h

    operations = tape.record(step, XP, fresh_arrays(0)).operations
    assert len(native.group(operations, {})) >= 2
    assert_same(step, fresh_arrays(0))


def test_what_writes_over_its_own_input_further_on_is_no_kernel() -> None:
    def step(xp: Any, a: Mapping[str, Any]) -> None:
        right, other = a["theta"][1:21], a["g"][:20]
        right += a["theta"][:20]
        other += 1.0  # could be done in the same loop

    operations = tape.record(step, XP, fresh_arrays(0)).operations
    assert len(native.group(operations, {})) == 2
    assert_same(step, fresh_arrays(0))


class Deciding(xpnet.Identity):
    """A layer that looks at a value, which a recording cannot."""

    def forward(self, xp: Any, params: Any, x: Any, context: Any = xpnet.layers.INFERENCE) -> Any:
        return (x if float(xp.sum(x)) > -1e30 else -x), None


def test_a_step_that_looks_at_values_is_run_eagerly() -> None:
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    layers = [xpnet.Linear(3, 2), Deciding(), xpnet.Linear(2, 1)]
    trainers = [
        xpnet.Trainer(xpnet.Network(list_, "mean_squared_error"), xpnet.SGD(0.1), x, x[:, :1], batch_size=5)
        for list_ in (layers, [layers[0], xpnet.Identity(), layers[2]])
    ]
    with pytest.warns(NotRecordedWarning, match=r"a value is read back to the host, in Deciding.forward \(test_replay"):
        losses = [trainer.run(8) for trainer in trainers]
    assert isinstance(trainers[0]._program(5), Eager)
    assert isinstance(trainers[1]._program(5), Replay)
    assert losses[0] == losses[1]


def test_recording_changes_nothing() -> None:
    arrays = fresh_arrays(1)
    before = {name: a.copy() for name, a in arrays.items()}
    tape.record(run_program([("in place", 0, 1, "add", "exp", 1), ("write", 0, 1, "add", "exp", 1)]), XP, arrays)
    for name, a in arrays.items():
        np.testing.assert_array_equal(a, before[name])


@pytest.mark.parametrize("look", [float, int, bool, list, np.asarray, lambda x: np.sum(x), str, lambda x: x.item()])
def test_looking_at_a_value_cannot_be_recorded(look: Callable[[Any], Any]) -> None:
    with pytest.raises(tape.CannotRecord):
        tape.record(lambda xp, a: look(a["total"] + 1.0), XP, fresh_arrays(0))


def test_the_kernels_take_over_during_a_training_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(90, 6)).astype(np.float32), rng.integers(0, 3, 90)
    thetas = []
    for patience in (0.0, np.inf):
        monkeypatch.setattr(Replay, "patience", patience)
        layers = [xpnet.Linear(6, 8), xpnet.GELU(), xpnet.Dropout(0.25), xpnet.Linear(8, 3)]
        net = xpnet.Network(layers, "cross_entropy", l1=1e-3, l2=1e-2)
        trainer = xpnet.Trainer(net, xpnet.AdamW(0.01, clip_norm=0.5, clip_value=0.1), x, t, batch_size=32)
        trainer.run(30)
        assert (trainer._program(32)._tape is None) == (patience == 0.0)
        thetas.append(net.theta)
    np.testing.assert_array_equal(*thetas)
