"""Loops over any number of axes: found, merged, and done by machine code with NumPy's bits."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from test_replay import assert_same

import xpnet
from xpnet.backends.cpu import openblas
from xpnet.backends.cpu.replay import Replay
from xpnet.backends.numpy import NumpyBackend
from xpnet.backends.tape import plan
from xpnet.backends.tape.fusion import adding, group, home, within
from xpnet.backends.tape.loop import Loop, Maker, Number, merged
from xpnet.backends.tape.record import Tape, record

XP = NumpyBackend().xp
Step = Callable[[Any, Mapping[str, Any]], None]


def loops(step: Step, arrays: dict[str, np.ndarray]) -> list[Loop]:
    """Return the loops of a step's units; all of them have to be loops."""
    operations, places = plan.write_in_place(plan.without_dead(record(step, XP, arrays).operations))
    units = group(operations, places)
    inner = within(units, places)
    return [Maker(unit, places, inner, lambda a: home(a, places)).loop for unit in units]


def compiled(step: Step, arrays: dict[str, np.ndarray]) -> Replay:
    tape = record(step, XP, arrays)
    program = Replay(tape)
    program.compile(tape)
    return program


# ------------------------------------------------------------------------------------------------- axes


def test_neighbouring_axes_through_which_all_go_alike_are_merged() -> None:
    assert merged((3, 4, 5), [(80, 20, 4)]) == ((60,), ((4,),))
    assert merged((3, 4, 5), [(80, 20, 4), (0, 0, 4)]) == ((12, 5), ((20, 4), (0, 4)))
    assert merged((3, 4, 5), [(160, 20, 4)]) == ((3, 20), ((160, 4),))
    assert merged((3, 4, 5), [(4, 12, 48)]) == ((60,), ((4,),))  # the longest steps are outermost
    assert merged((3, 1, 5), [(20, 7, 4)]) == ((15,), ((4,),))
    assert merged((), [()]) == merged((1, 1), [(8, 8)]) == ((), ((),))
    assert merged((4, 0), [(8, 8)])[0].count(0) == 1  # nothing is not one


def test_one_long_axis_where_arrays_lie_in_one_piece_and_more_where_one_is_repeated() -> None:
    def step(xp: Any, a: Any) -> None:
        a["y"][...] = a["x"] * 2.0 + a["x"]
        a["z"][...] = a["x"] * a["channel"] - a["picture"]

    shapes = {"x": (6, 5, 4, 3), "y": (6, 5, 4, 3), "z": (6, 5, 4, 3), "channel": (3,), "picture": (6, 1, 1, 1)}
    arrays = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    assert [loop.axes for loop in loops(lambda xp, a: a["y"].__setitem__(..., a["x"] * 2.0), arrays)] == [(360,)]
    (both,) = loops(step, arrays)
    assert both.axes == (6, 20, 3)
    assert {place.steps for place in both.places} == {(240, 12, 4), (0, 0, 4), (4, 0, 0)} | {(240, 12, 4)}
    assert_same(step, arrays)


def test_a_loop_knows_its_constants_by_their_bits() -> None:
    """Equal loops are compiled once: the code for 0.0 must not be that for -0.0."""
    zeros = [Number(np.float32(zero).tobytes(), np.dtype(np.float32)) for zero in (0.0, -0.0)]
    assert zeros[0] != zeros[1]
    assert [np.signbit(zero.value) for zero in zeros] == [False, True]

    def step(xp: Any, a: Any) -> None:
        a["plus"][...] = a["x"] * 1.0 + 0.0
        a["minus"][...] = a["x"] * 1.0 + -0.0

    arrays = {name: np.full(40, -0.0, np.float32) for name in ("x", "plus", "minus")}
    compiled(step, arrays)()
    assert not np.signbit(arrays["plus"]).any()
    assert np.signbit(arrays["minus"]).all()


# --------------------------------------------------------------------------- what may not be in one loop


def test_what_writes_over_what_an_earlier_operation_reads_is_a_loop_of_its_own() -> None:
    """The twin of a read after a write: h needs x as it was."""

    def step(xp: Any, a: Any) -> None:
        h = a["x"][:-1] + 1.0
        behind = a["x"][1:]
        behind *= 2.0
        a["y"][...] = h * 1.0

    arrays = {"x": np.arange(1.0, 301.0), "y": np.zeros(299)}
    assert len(loops(step, arrays)) == 2
    assert_same(step, arrays)


def test_what_reads_its_neighbours_after_they_were_written_is_a_loop_of_its_own() -> None:
    def step(xp: Any, a: Any) -> None:
        ahead = a["x"][:-1]
        ahead *= 2.0
        a["y"][...] = a["x"][1:] + 1.0

    arrays = {"x": np.arange(1.0, 301.0), "y": np.zeros(299)}
    assert len(loops(step, arrays)) == 2
    assert_same(step, arrays)


def test_a_square_array_and_its_transpose_are_told_apart() -> None:
    def step(xp: Any, a: Any) -> None:
        W = a["W"]
        a["sum"][...] = W + W.T
        a["difference"][...] = (W - W.T) * 0.5

    arrays = {name: np.random.default_rng(0).normal(size=(7, 7)) for name in ("W", "sum", "difference")}
    assert len(loops(step, arrays)) == 1
    assert_same(step, arrays)

    def turn(xp: Any, a: Any) -> None:
        a["W"][...] = a["W"].T + 1.0

    assert_same(turn, arrays)


def test_memory_is_not_given_to_a_result_whose_axes_lie_in_another_order() -> None:
    """It would be written over where it is still to be read."""

    def step(xp: Any, a: Any) -> None:
        turned = xp.exp(a["x"].T)  # lies as x does, columns first
        plain = xp.where(a["x"] > 0, turned, a["x"])  # lies in rows
        a["y"][...] = xp.exp(plain) + xp.exp(plain * 0.5).T

    arrays = {name: np.random.default_rng(1).normal(size=(9, 9)) for name in ("x", "y")}
    assert_same(step, arrays)


# ----------------------------------------------------------------------------------- NumPy's small print


def test_conditions_of_any_kind() -> None:
    """A number, integers, floats: all but zero is true, NaN too."""

    def step(xp: Any, a: Any) -> None:
        x, y = a["x"], a["y"]
        a["0"][...] = xp.where(2.0, x, y)
        a["1"][...] = xp.where(0, x * 2.0, y)
        a["2"][...] = xp.where(a["n"], x, y)
        a["3"][...] = xp.where(x, x, y)
        a["4"][...] = xp.astype(xp.astype(a["n"] * 2, xp.bool), xp.float32)
        a["5"][...] = xp.astype(xp.astype(x, xp.bool), xp.float32)

    x = np.asarray([0.0, -0.0, 0.5, np.nan, -3.0] * 8, np.float32)
    arrays = {"x": x, "y": x[::-1].copy(), "n": np.arange(40) % 3 - 1} | {str(k): np.zeros_like(x) for k in range(6)}
    assert_same(step, arrays)
    if importlib.util.find_spec("llvmlite"):
        assert len(compiled(step, arrays)._calls) == 1


def test_comparisons_of_integers_that_no_type_holds_both() -> None:
    def step(xp: Any, a: Any) -> None:
        a["0"][...] = a["small"] < 300
        a["1"][...] = a["small"] > -1
        a["2"][...] = a["signed"] > a["unsigned"]
        a["3"][...] = a["signed"] == a["unsigned"]
        a["4"][...] = a["signed"] > 0.5

    large = np.asarray([2**63 - 1, 2**63 - 2, 2**53 + 1, -1, 0] * 4, np.int64)
    arrays = {"small": np.arange(20, dtype=np.uint8) * 13, "signed": large}
    arrays |= {"unsigned": np.asarray([2**63, 2**63 - 2, 2**53, 5, 0] * 4, np.uint64)}
    assert_same(step, arrays | {str(k): np.zeros(20, bool) for k in range(5)})


def test_the_larger_of_two_zeros_is_the_one_that_numpy_takes() -> None:
    def step(xp: Any, a: Any) -> None:
        for k, f in enumerate((xp.maximum, xp.minimum)):
            a["out"][k, ...] = f(a["x"], a["y"]) * 1.0
            a["out"][k + 2, ...] = f(a["x"], 0.0) * 1.0

    zeros = np.asarray([0.0, -0.0, 0.0, -0.0] * 9)
    arrays = {"x": zeros, "y": np.roll(zeros, 1), "out": np.zeros((4, 36))}
    compiled(step, arrays)()
    found = np.signbit(arrays["out"])
    step(XP, arrays)
    np.testing.assert_array_equal(found, np.signbit(arrays["out"]))


VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rows": lambda a: a[:9, :9],
    "columns": lambda a: a.T[:9, :9],
    "backwards": lambda a: a[8::-1, 8::-1],
    "every other": lambda a: a[::2, ::2][:9, :9],
    "every other row": lambda a: a[:18:2, :9],
    "whole": lambda a: a,
}


@pytest.mark.parametrize("left", VIEWS)
@pytest.mark.parametrize("right", VIEWS)
def test_small_products_of_views_of_any_layout(left: str, right: str) -> None:
    def step(xp: Any, a: Any) -> None:
        x, y = VIEWS[left](a["x"]), VIEWS[right](a["y"])
        a["out"][...] = xp.matmul(x, y)
        a["row"][...] = xp.matmul(x[:1, :], y)
        a["column"][...] = xp.matmul(x, y[:, -1:])
        a["outer"][...] = xp.matmul(x[:, 2:3], y[1:2, :])
        a["sum"][...] = xp.sum(x, axis=0)

    rng = np.random.default_rng(0)
    shapes = {
        "x": (20, 20),
        "y": (20, 20),
        "out": (9, 9),
        "row": (1, 9),
        "column": (9, 1),
        "outer": (9, 9),
        "sum": (9,),
    }
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    arrays |= {name: arrays[name][:9, :9].copy() for name, how in (("x", left), ("y", right)) if how == "whole"}
    assert_same(step, arrays)


# ------------------------------------------------------------------------------------------- whole steps


def test_concatenating_and_padding_by_copies_into_parts_is_one_loop() -> None:
    def step(xp: Any, a: Any) -> None:
        a["padded"][:, 1:-1, 2:-2, ...] = a["x"] * 1.0
        a["both"][..., :3] = a["x"]
        a["both"][..., 3:] = a["x"][..., ::-1] + a["row"]

    rng = np.random.default_rng(0)
    shapes = {"x": (2, 4, 5, 3), "row": (3,), "padded": (2, 6, 9, 3), "both": (2, 4, 5, 6)}
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    assert len(loops(step, arrays)) == 1
    assert len(compiled(step, {name: a.copy() for name, a in arrays.items()})._calls) == 1
    assert_same(step, arrays)


@pytest.mark.parametrize("inner", [2, 100, 128, 129, 3000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_product_is_added_as_the_sum_of_both_would_be(inner: int, dtype: str) -> None:
    def step(xp: Any, a: Any) -> None:
        y = a["y"]
        y += xp.matmul(a["a"], a["b"])
        y += xp.matmul(a["b"].T, a["a"].T).T[:, :]

    shapes = {"a": (137, inner), "b": (inner, 121), "y": (137, 121)}
    rng = np.random.default_rng(inner)
    arrays = {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
    assert_same(step, arrays)


def added(step: Step, arrays: dict[str, np.ndarray]) -> list[str]:
    tape = record(step, XP, arrays)
    operations, places = plan.write_in_place(plan.without_dead(tape.operations))
    return [op.kind for op in adding(operations, places, lambda a, b, y: True)]


def test_a_product_adds_itself_only_where_nothing_else_sees_it() -> None:
    arrays = {"a": np.ones((4, 4)), "b": np.full((4, 4), 2.0), "y": np.eye(4), "z": np.eye(4)}

    def twice(xp: Any, a: Any) -> None:
        y, product = a["y"], xp.matmul(a["a"], a["b"])
        y += product
        a["z"][...] = product

    def changed(xp: Any, a: Any) -> None:
        y, b, product = a["y"], a["b"], xp.matmul(a["a"], a["b"])
        b += 1.0
        y += product

    def own(xp: Any, a: Any) -> None:
        y = a["y"]
        y += xp.matmul(y, a["b"])

    def simple(xp: Any, a: Any) -> None:
        y = a["y"]
        y += xp.matmul(a["a"], a["b"])

    assert added(simple, arrays) == ["adding"]
    for step in (twice, changed, own):
        assert "adding" not in added(step, arrays)
    for step in (simple, twice, changed, own):
        assert_same(step, arrays)


@dataclass(frozen=True)
class Pictures(xpnet.Layer):
    """Rows become pictures of four channels."""

    def output_shape(self, shape: Any) -> Any:
        return (4, 3, shape[0] // 12)

    def forward(self, xp: Any, params: Any, x: Any, context: Any = xpnet.layers.INFERENCE) -> Any:
        return xp.reshape(x, (x.shape[0], *self.output_shape(x.shape[1:]))), x.shape

    def backward(
        self, xp: Any, params: Any, cache: Any, dy: Any, context: Any = xpnet.layers.INFERENCE, need_dx: bool = True
    ) -> Any:
        return xp.reshape(dy, cache), {}


@dataclass(frozen=True)
class Rows(Pictures):
    """Pictures become rows."""

    def output_shape(self, shape: Any) -> Any:
        return (shape[0] * shape[1] * shape[2],)


@dataclass(frozen=True)
class BatchNorm(xpnet.Layer):
    """Every channel gets mean 0 and variance 1 over all places of all pictures, and then a scale and a shift."""

    channels: int

    def parameter_shapes(self) -> Any:
        return {"gamma": (self.channels,), "beta": (self.channels,)}

    def init(self, rng: Any) -> Any:
        return {"gamma": np.ones(self.channels), "beta": np.zeros(self.channels)}

    def mean(self, xp: Any, a: Any) -> Any:
        return xp.sum(a, axis=(0, 1, 2), keepdims=True) / (a.shape[0] * a.shape[1] * a.shape[2])

    def forward(self, xp: Any, params: Any, x: Any, context: Any = xpnet.layers.INFERENCE) -> Any:
        centred = x - self.mean(xp, x)
        r = 1.0 / xp.sqrt(self.mean(xp, centred * centred) + 1e-5)
        normal = centred * r
        return params["gamma"] * normal + params["beta"], (normal, r)

    def backward(
        self, xp: Any, params: Any, cache: Any, dy: Any, context: Any = xpnet.layers.INFERENCE, need_dx: bool = True
    ) -> Any:
        normal, r = cache
        along = self.mean(xp, dy * normal)
        dx = params["gamma"] * r * (dy - self.mean(xp, dy) - normal * along)
        return dx, {"gamma": xp.sum(dy * normal, axis=(0, 1, 2)), "beta": xp.sum(dy, axis=(0, 1, 2))}


@pytest.mark.skipif(openblas.of_numpy() is None, reason="this NumPy does not come with an OpenBLAS of its own")
def test_a_batch_norm_of_pictures_is_one_call_of_machine_code_a_step() -> None:
    pytest.importorskip("llvmlite", reason="the extra fast is not installed")
    x = np.random.default_rng(0).normal(size=(64, 20)).astype(np.float32)
    thetas, calls = [], []
    for native in (False, True):
        layers = [xpnet.Linear(20, 48), Pictures(), BatchNorm(4), xpnet.ReLU(), Rows(), xpnet.Linear(48, 3)]
        net = xpnet.Network(layers, "cross_entropy", seed=1)
        assert xpnet.check_gradients(net, x[:8], np.arange(8) % 3)
        trainer = xpnet.Trainer(net, xpnet.Adam(1e-2), x, np.arange(64) % 3, batch_size=16)
        tape: Tape = record(trainer.make_step(16), net.backend.xp, trainer.arrays)
        program = Replay(tape)
        program._tape = None
        if native:
            program.compile(tape)
            calls = program._calls
        trainer._programs[16] = program
        trainer.run(20)
        thetas.append(net.theta)
    assert len(calls) == 1
    assert thetas[0].tobytes() == thetas[1].tobytes()
