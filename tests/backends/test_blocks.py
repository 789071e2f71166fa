"""Blocks of a step that threads do beside each other: which ones are found, and that nothing is done too early."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet.backends.numpy import NumpyBackend
from xpnet.backends.tape import blocks as module
from xpnet.backends.tape.blocks import Blocks, blocks
from xpnet.backends.tape.fusion import adding, group, home, within
from xpnet.backends.tape.plan import Memory, assign, inputs, without_dead, write_in_place
from xpnet.backends.tape.record import record

XP = NumpyBackend().xp
ROWS, SIZE = 8, 64
Step = Callable[[Any, dict[str, Any]], None]


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    shapes = {"x": (ROWS, SIZE, SIZE), "y": (ROWS, SIZE, SIZE), "W": (SIZE, SIZE), "s": (SIZE, SIZE), "t": (SIZE,)}
    return {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}


def found(step: Step, least: int = 0) -> tuple[Blocks, dict[int, Any], set[int]]:
    operations, places = write_in_place(without_dead(record(step, XP, arrays()).operations))
    operations = adding(operations, places, lambda a, b, y: True)
    units = group(operations, places)
    inner = within(units, places)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LEAST", least)
        return blocks(units, places, inner), places, inner


def parts(step: Step, least: int = 0) -> list[int]:
    """Return how many units each block has."""
    return [len(job) for job in found(step, least)[0].jobs if len(job) > 1]


def by_parts(xp: Any, a: dict[str, Any]) -> None:
    """Each row's result depends on no other."""
    for k in range(ROWS):
        a["y"][k, ...] = xp.matmul(xp.exp(a["x"][k, ...]), a["W"])


def with_a_sum(xp: Any, a: dict[str, Any]) -> None:
    """What is added up has to wait, in order, and so does what comes of the sum."""
    for k in range(ROWS):
        z = xp.matmul(xp.exp(a["x"][k, ...]), a["W"])
        a["y"][k, ...] = z * 2.0
        a["t"] += xp.sum(z, axis=0)
    a["s"] += a["t"]


def one_after_another(xp: Any, a: dict[str, Any]) -> None:
    """Each row is made of the one before it."""
    for k in range(1, ROWS):
        a["y"][k, ...] = xp.matmul(xp.exp(a["y"][k - 1, ...]), a["W"])


def written_over(xp: Any, a: dict[str, Any]) -> None:
    """Each row reads what the next one changes."""
    for k in range(ROWS - 1):
        a["y"][k, ...] = xp.matmul(xp.exp(a["y"][k + 1, ...]), a["W"])


def at_the_same_place(xp: Any, a: dict[str, Any]) -> None:
    """All write to one place: the last has to be the last."""
    for k in range(ROWS):
        a["s"][...] = xp.matmul(xp.exp(a["x"][k, ...]), a["W"])
        a["t"] += a["s"][0, :]


def layers(xp: Any, a: dict[str, Any]) -> None:
    """Products one after another, as in a perceptron."""
    h = a["x"][0, ...]
    for _ in range(6):
        h = xp.maximum(xp.matmul(h, a["W"]), 0.0)
    a["s"][...] = h


STEPS = [by_parts, with_a_sum, one_after_another, written_over, at_the_same_place, layers]


def test_parts_of_a_batch_are_blocks() -> None:
    assert len(parts(by_parts)) == ROWS
    assert parts(by_parts, least=1 << 30) == []  # too little to be worth a thread's while


def test_what_is_added_up_is_a_block_of_its_own_behind_the_others() -> None:
    made, _, _ = found(with_a_sum)
    jobs = [job for job in made.jobs if len(job) > 1]
    assert len(jobs) == ROWS + 1
    assert len(jobs[-1]) == ROWS - 1  # the first sum may be written by the first block
    assert {op.target.shape for k in jobs[-1] for op in made.units[k]} == {(SIZE,)}


@pytest.mark.parametrize("step", [one_after_another, written_over, at_the_same_place, layers])
def test_where_one_needs_another_there_are_none(step: Step) -> None:
    assert parts(step) == []


@pytest.mark.parametrize("step", STEPS)
def test_what_touches_the_same_numbers_stays_in_order_or_in_one_block(step: Step) -> None:
    made, places, _inner = found(step)
    job = {k: number for number, job in enumerate(made.jobs) for k in job}
    assert [k for job in made.jobs for k in job] == [*range(len(made.units))]
    beside = [[*members] for _, members in itertools.groupby(range(len(made.units)), lambda k: made.until.get(k, -k))]
    for members in beside:
        late = job[members[-1]]
        for first, second in itertools.combinations(members, 2):
            if job[first] != job[second] and job[second] != late:
                assert not meet(made.units[first], made.units[second], places)


def meet(first: Any, second: Any, places: dict[int, Any]) -> bool:
    def spans(unit: Any) -> tuple[list[Any], list[Any]]:
        return [home(a, places) for op in unit for a in inputs(op)], [home(op.target, places) for op in unit]

    (reads, writes), (read_later, written_later) = spans(first), spans(second)
    pairs = [*itertools.product(writes, read_later + written_later), *itertools.product(reads, written_later)]
    return any(np.may_share_memory(a, b) for a, b in pairs)


def test_each_thread_has_memory_of_its_own_for_what_a_block_alone_sees() -> None:
    made, places, inner = found(with_a_sum)
    memory = assign(made.units, places, inner, Memory(made.own), until=made.until)
    other = memory.of_another_thread()
    assert made.own
    for key, a in memory.arrays.items():
        b = other.arrays[key]
        assert (a.shape, a.strides, a.dtype) == (b.shape, b.strides, b.dtype)
        assert np.may_share_memory(a, b) == (key not in made.own)
    own = [a for m in (memory, other) for key, a in m.arrays.items() if key in made.own]
    shared = [a for key, a in memory.arrays.items() if key not in made.own]
    assert not any(np.may_share_memory(a, b) for a in own for b in shared)


def test_what_blocks_hand_on_lies_apart_for_each_of_them() -> None:
    made, places, inner = found(with_a_sum)
    memory = assign(made.units, places, inner, Memory(made.own), until=made.until)
    handed = [op.target for unit in made.units for op in unit if op.target.shape == (SIZE,) and op.kind == "reduce"]
    handed = [a for a in handed if id(a.buffer) not in made.own]
    assert len(handed) >= ROWS - 1
    for a, b in itertools.combinations(handed, 2):
        assert not np.may_share_memory(memory.resolve(a), memory.resolve(b))


def test_what_the_last_block_reads_last_is_kept_until_all_have_read_it() -> None:
    def step(xp: Any, a: dict[str, Any]) -> None:
        h = xp.exp(a["x"][:, :8, :])
        for k in range(ROWS):
            z = h[k, ...]
            for _ in range(9):
                z = xp.matmul(z, a["W"])
            a["s"] -= xp.matmul(z.T, z)

    made, places, inner = found(step)
    memory = assign(made.units, places, inner, Memory(made.own), until=made.until)
    reads = [a for unit in made.units for op in unit for a in inputs(op) if a.buffer.kind == "result"]
    h = next(a for a in reads if a.buffer.array.shape == (ROWS, 8, SIZE))
    products = [op.target for unit in made.units for op in unit if op.target.shape == (SIZE, SIZE)]
    assert len(made.jobs[-1]) == ROWS - 1
    assert products[-1].buffer.array.nbytes == h.buffer.array.nbytes
    assert not any(np.may_share_memory(memory.resolve(h), memory.resolve(a)) for a in products)


def test_the_convolutions_of_a_step_are_done_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llvmlite", reason="the extra fast is not installed")
    from xpnet.backends.cpu import native

    backend = xpnet.backends.get("numpy", threads=2)
    convolutions = [xpnet.Conv2D(3, 16), xpnet.BatchNorm(16), xpnet.ReLU(), xpnet.Conv2D(16, 16), xpnet.ReLU()]
    net = xpnet.Network(
        [*convolutions, xpnet.Flatten(), xpnet.Linear(4096, 3)], "cross_entropy", backend, input_shape=(16, 16, 3)
    )
    x = np.random.default_rng(0).normal(size=(64, 16, 16, 3)).astype("float32")

    seen: list[Any] = []
    tasks = native.tasks
    monkeypatch.setattr(native, "tasks", lambda works, threads: seen.extend(works) or tasks(works, threads))
    trainer = xpnet.Trainer(net, "adam", x, np.arange(64) % 3, batch_size=64)
    program: Any = trainer._program(64)
    program.compile(program._tape)
    for_each_thread = [work for work in seen if len(work.parts[0]) == 2]
    # Four blocks at least of each of two convolutions, forwards and backwards, and the sums of their parts of dW.
    assert len(for_each_thread) >= 2 * (4 + 4 + 1)
    assert sum(work.weight for work in for_each_thread) > 0.8 * sum(work.weight for work in seen)
