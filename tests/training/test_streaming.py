"""Data that do not fit: streamed and resident trainings give the same bits, whatever the data lie in."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import array_backends
import numpy as np
import pytest
import sources
from cuda_host import HostCupy, Pinned, Stream
from guarded import GuardedBackend
from numpy.testing import assert_array_equal
from sources import FEATURES, MEMORY, SAMPLES, WINDOW, Pairs, Sliced, network, streamed, train

import xpnet
from xpnet.backends.cuda.pinned import PinnedLoader
from xpnet.errors import CheckpointError, ConfigError, DataError
from xpnet.model.memory import bytes_of
from xpnet.model.rows import MappedRows
from xpnet.model.sources import rows_of
from xpnet.training import intake
from xpnet.training.reader import Reader
from xpnet.training.windows import BLOCKS, Windows

X, T = sources.samples()
ROWS = Sliced(X)


def resident(**options: Any) -> xpnet.Network:
    net = network()
    train(net, X, T, **{"window": WINDOW, "scale": 1 / 255} | options)
    return net


# ------------------------------------------------------------------------------------------------------- the order


@pytest.mark.parametrize("window", [2, 16, 100, 160, 999, 1000, 4000])
@pytest.mark.parametrize("samples", [1, 99, 1000, 1001])
def test_an_epoch_takes_each_sample_once_and_in_another_order(samples: int, window: int) -> None:
    windows = Windows(samples, window, 5)
    orders = [windows.order(epoch) for epoch in (0, 1, 0)]
    assert_array_equal(np.sort(orders[0]), np.arange(samples))
    assert_array_equal(orders[0], orders[2])
    assert samples == 1 or not np.array_equal(orders[0], orders[1])
    assert max(np.diff(windows.starts(0))) <= window


def test_rows_are_shuffled_beyond_their_block_and_within_their_window() -> None:
    windows = Windows(1000, WINDOW, 5)
    first = windows.order(0)[:WINDOW]
    assert len({*(first // windows.block)}) == BLOCKS
    assert np.sum(np.abs(np.diff(first)) == 1) < 10


def test_without_shuffling_rows_come_as_they_lie() -> None:
    assert_array_equal(Windows(1000, WINDOW, None).order(3), np.arange(1000))


# -------------------------------------------------------------------------------------------------------- same bits


@pytest.mark.parametrize(
    "backend",
    ["numpy", *array_backends.DEVICES, GuardedBackend, HostCupy],
    ids=lambda b: b if isinstance(b, str) else b.__name__,
)
def test_streamed_and_resident_trainings_are_equal_to_the_bit(backend: Any, tmp_path: Path) -> None:
    made = array_backends.make(backend) if isinstance(backend, str) else backend()
    options: dict[str, Any] = {"sample_weight": np.arange(SAMPLES) + 1.0, "averaging": 0.9, "epochs": 2}
    thetas = []
    for x, more in ((X, {"memory": "1 GB"}), (sources.mapped(tmp_path, X), {})):
        net = network(made)
        history = streamed(net, x, T, **options | more)
        with made.active():
            thetas.append((np.array(made.to_numpy(net.theta)), history["loss"]))
    assert_array_equal(thetas[0][0], thetas[1][0])
    assert_array_equal(thetas[0][1], thetas[1][1])
    assert sources.no_threads()


def test_on_a_gpu_rows_go_through_pinned_memory_on_a_stream_of_their_own_into_a_step_captured_once() -> None:
    backend, before = HostCupy(), Pinned.taken
    streams: list[Any] = []
    loader = backend.loader
    backend.loader = lambda: streams.append(loader()) or streams[-1]  # type: ignore[method-assign]
    graphs = []

    def look(run: Any) -> None:
        graphs.append([id(program) for program in run.trainer._programs.values()])

    streamed(network(backend), ROWS, T, callbacks=look)
    blocks = 3 * 101  # of 10 rows, in three epochs; inputs and targets
    assert streams[0]._stream.copied == Pinned.taken - before == 2 * blocks
    assert graphs[0] == graphs[-1]
    assert "kernels" in backend.compiled


def test_pinned_memory_is_kept_until_its_copy_is_done() -> None:
    """Who is given it before writes over rows that are still on their way."""
    backend, gone, seen = HostCupy(), set[int](), []

    class Memory(Pinned):
        def __init__(self, size: int) -> None:
            super().__init__(size)
            weakref.finalize(self, gone.add, self.taken)

    class Copies(Stream):
        def record(self) -> Any:  # one event a copy, from the first on
            number = Memory.taken
            return SimpleNamespace(synchronize=lambda: seen.append(number in gone))

    backend._cupy.cuda.alloc_pinned_memory, backend._cupy.cuda.Stream = Memory, Copies
    loader, array = PinnedLoader(backend, backend._cupy), backend.asarray(np.zeros((40, 3), np.float32))
    for row in range(40):
        loader.send(loader.room(array, row, row + 1, array.dtype), array, row)
    assert len(seen) > 30
    assert not any(seen)


def test_copies_under_way_are_waited_for_when_reading_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory of both ends is given to others when the training has ended."""
    backend, reached, closing, loaders = HostCupy(), threading.Event(), threading.Event(), []

    class Slow(PinnedLoader):
        sent = 0

        def send(self, room: Any, array: Any, start: int) -> None:
            super().send(room, array, start)
            self.sent += 1
            if self.sent == 40:  # within the second window, which has 16 blocks of inputs and targets
                reached.set()
                assert closing.wait(60)

    def close(reader: Any, own: Any = Reader.close) -> None:
        reader._coming[3].set()
        closing.set()
        own(reader)

    class Stop(xpnet.Callback):
        every = 1

        def on_steps(self, run: Any) -> None:
            assert reached.wait(60)
            raise RuntimeError("stop")

    backend.loader = lambda: loaders.append(Slow(backend, backend._cupy)) or loaders[-1]  # type: ignore[method-assign]
    monkeypatch.setattr(Reader, "close", close)
    with pytest.raises(RuntimeError, match="stop"):
        streamed(network(backend), ROWS, T, callbacks=[Stop()])
    assert loaders[0].sent == 40
    assert not loaders[0]._under_way


def test_a_file_is_read_in_blocks_by_one_thread_and_each_row_once_an_epoch() -> None:
    rows = Sliced(X)
    streamed(network(), rows, T, epochs=3)
    assert sorted(rows.slices) == sorted([(k, min(k + 10, SAMPLES)) for k in range(0, SAMPLES, 10)] * 3)
    assert {name.rpartition("_")[0] for name in rows.threads} == {"xpnet-reader"}


@pytest.mark.parametrize("precision", [None, "float16"])
@pytest.mark.parametrize("scale", [None, 1 / 255])
@pytest.mark.parametrize("dtype", ["uint8", "float32", ">f4", "float64", "bool", "int16", "int64", "float16"])
def test_numbers_of_any_type_are_those_of_resident_data(
    dtype: str, scale: float | None, precision: str | None, tmp_path: Path
) -> None:
    x = (X % 50).astype(dtype)
    nets = [network(), network()]
    for net, data, memory in zip(nets, (x, sources.mapped(tmp_path, x)), (None, 36_000), strict=True):
        train(net, data, T, window=WINDOW, scale=scale, memory=memory, precision=precision, epochs=1)
    assert_array_equal(nets[0].theta, nets[1].theta)


def test_bytes_lie_on_the_device_as_they_are() -> None:
    seen = []
    for x in (X, ROWS):
        streamed(network(), x, T, epochs=1, callbacks=lambda run: seen.append(run.trainer.arrays["x"].dtype))
        train(network(), X, T, epochs=1, scale=0.5, callbacks=lambda run: seen.append(run.trainer.arrays["x"].dtype))
    assert set(seen) == {np.dtype(np.uint8)}


def test_data_that_fit_are_resident_and_the_log_says_when_they_do_not(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with caplog.at_level(logging.INFO, "xpnet"):
        nets = [network(), network()]
        train(nets[0], sources.mapped(tmp_path, X), T)
        train(nets[1], X, T)
        assert not caplog.records
        streamed(network(), ROWS, T, epochs=1)
    assert "the data take 47 KiB, more than memory, 19.5 KiB: they are streamed" in caplog.text
    assert_array_equal(nets[0].theta, nets[1].theta)


def test_windows_that_are_not_asked_for_fill_the_memory() -> None:
    arrays = []
    train(network(), ROWS, T, memory=MEMORY, epochs=1, callbacks=lambda run: arrays.append(run.trainer.arrays))
    taken = sum(arrays[0][name].nbytes for name in ("x", "t", "order", "begin"))
    assert 0.6 * MEMORY < taken <= 1.1 * MEMORY


def test_targets_validation_and_weights_of_classes_are_read_from_files_too(tmp_path: Path) -> None:
    t = sources.mapped(tmp_path, T)
    curves = []
    for x, targets in ((X, T), (Sliced(X), t)):
        memory = None if x is X else MEMORY
        history = train(
            network(), x, targets, window=WINDOW, memory=memory, scale=1 / 255, class_weight="balanced",
            validation_data=(x, targets),
        )  # fmt: skip
        curves.append({name: values.tolist() for name, values in history.to_numpy().items() if name != "seconds"})
    assert curves[0] == curves[1]
    assert "validation_accuracy" in curves[0]


def test_predictions_and_scores_of_files_are_those_of_arrays(tmp_path: Path) -> None:
    net, rows = resident(), Sliced(np.tile(X, (2, 1)))
    whole, targets = rows.array, np.tile(T, 2)
    out = np.memmap(tmp_path / "out.bin", np.int64, "w+", shape=(2 * SAMPLES,))
    options: dict[str, Any] = {"scale": 1 / 255, "batch_size": 64}
    wanted = net.predict(whole * np.float32(1 / 255), batch_size=64)
    assert net.predict(rows, out=out, **options) is out
    assert_array_equal(out, wanted)
    assert_array_equal(net.predict(whole, **options), wanted)
    assert_array_equal(net.predict_proba(rows, **options), net.predict_proba(whole, **options))
    assert net.evaluate(rows, targets, **options) == net.evaluate(whole, targets, **options)
    assert net.predict(Sliced(X[:0])).shape == (0,)
    with pytest.raises(xpnet.errors.ShapeError, match=r"out must have shape \(2006,\), got \(3,\)"):
        net.predict(rows, out=np.zeros(3))
    with pytest.raises(xpnet.errors.DTypeError, match="out must take float32, got dtype int64"):
        net.predict_proba(rows, out=np.zeros((2006, 3), np.int64))


@pytest.mark.parametrize(
    ("text", "count"),
    [("2 GB", 2 * 10**9), ("1.5kb", 1500), ("3 MiB", 3 << 20), ("7 B", 7), (12, 12), ("1TiB", 1 << 40)],
)
def test_numbers_of_bytes(text: Any, count: int) -> None:
    assert bytes_of("memory", text) == count


@pytest.mark.parametrize("view", ["whole", "saved", "later", "stepped", "turned", "columns", "changed"])
def test_parts_and_views_of_a_mapped_file_are_what_they_show(view: str, tmp_path: Path) -> None:
    x = X.astype(np.float32)
    np.save(tmp_path / "x.npy", np.asfortranarray(x) if view == "turned" else x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="c" if view == "changed" else "r")
    if view == "changed":
        mapped[500] = 9  # in memory alone
    data = {"whole": sources.mapped(tmp_path, x), "later": mapped[100:900][50:], "stepped": mapped[::2]}.get(
        view, mapped
    )
    data = data[:, ::-1] if view == "columns" else data
    rows = sources_of(data)
    wanted = np.asarray(data)
    found = np.zeros_like(wanted)
    for start, stop in ((0, 1), (1, 333), (333, len(wanted))):
        assert_array_equal(rows.read(start, stop), wanted[start:stop])
        rows.read_into(start, stop, found[start:stop])
    assert_array_equal(found, wanted)


def sources_of(data: Any) -> Any:
    rows = rows_of(data)
    assert type(rows) is MappedRows
    return rows


@pytest.mark.parametrize("data", [X, [[1.0]], X.tolist(), np.float32(3), "text", None, 7])
def test_what_is_in_memory_is_not_read(data: Any) -> None:
    assert rows_of(data) is None


# -------------------------------------------------------------------------------------------------------- libraries


@pytest.mark.parametrize("library", ["h5py", "zarr", "pyarrow"])
def test_data_of_other_libraries_are_those_of_arrays(library: str, tmp_path: Path) -> None:
    pytest.importorskip(library, reason=f"{library} is an optional import of users who have it")
    x, t = X.astype(np.float32), T
    wanted = network()
    train(wanted, x, t, window=WINDOW)
    for data, targets in _stored(library, tmp_path, x, t):
        for memory in (None, 40_000):
            net = network()
            train(net, data, targets, window=WINDOW, memory=memory)
            assert_array_equal(net.theta, wanted.theta)
        assert_array_equal(net.predict(data), wanted.predict(x))
        assert net.evaluate(data, targets) == wanted.evaluate(x, t)


def _stored(library: str, folder: Path, x: Any, t: Any) -> list[tuple[Any, Any]]:
    if library == "h5py":
        import h5py

        file = h5py.File(folder / "data.h5", "w")
        return [
            (
                file.create_dataset("x", data=x, chunks=(30, FEATURES), compression="gzip"),
                file.create_dataset("t", data=t),
            )
        ]
    if library == "zarr":
        import zarr

        stored = zarr.open(str(folder / "data.zarr"), mode="w", shape=x.shape, chunks=(30, FEATURES), dtype="f4")
        stored[:] = x
        return [(stored, t)]
    import pyarrow
    from pyarrow import parquet

    names = [f"c{k}" for k in range(FEATURES)]
    lists = pyarrow.FixedSizeListArray.from_arrays(x.reshape(-1), FEATURES)
    table = pyarrow.table({name: x[:, k] for k, name in enumerate(names)} | {"t": t, "rows": lists})
    parquet.write_table(table, folder / "data.parquet", row_group_size=70)
    path = folder / "data.parquet"
    return [
        (table.select(names), table["t"]),
        (table["rows"], table.select(["t"])),
        (table.select(["rows"]).to_batches()[0], t),
        (xpnet.Parquet(path, names), xpnet.Parquet(path, "t")),
        (xpnet.Parquet(path, "rows"), xpnet.Parquet(path, ["t"])),
    ]


def test_arrow_says_what_it_cannot_give(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is an optional import of users who have it")
    from pyarrow import parquet

    table = pyarrow.table({"a": pyarrow.array([1.0, None, 3.0], "float32"), "b": ["x", "y", "z"]})
    parquet.write_table(table, tmp_path / "f.parquet")
    with pytest.raises(DataError, match="column 'a' has 1 nulls"):
        xpnet.mlp([1, 2]).fit(table.select(["a"]), [0, 1, 0], verbose=False)
    with pytest.raises(xpnet.errors.DTypeError, match="column 'b' is of type string; expected numbers"):
        network().predict(table.select(["b"]))
    with pytest.raises(ConfigError, match=r"has no columns \['c'\]; there are a, b"):
        xpnet.Parquet(tmp_path / "f.parquet", "c")


# ----------------------------------------------------------------------------------------------------- going on


@pytest.mark.parametrize("again", range(3))
def test_a_training_that_is_killed_goes_on_to_the_bit(again: int, tmp_path: Path) -> None:
    step = int(np.random.default_rng().integers(1, 126))
    script = Path(sources.__file__)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, script, "kill", tmp_path, str(step)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    net = network()
    path = tmp_path / "run.safetensors"
    streamed(net, sources.mapped(tmp_path, X), T, checkpoint=path, resume=True)
    assert_array_equal(net.theta, resident().theta, err_msg=f"killed after step {step}")


@pytest.mark.parametrize("here", ["resident", "streamed, less memory", "streamed, another kind"])
def test_the_window_of_a_checkpoint_is_that_of_whoever_goes_on(here: str, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    train(network(), ROWS, T, memory=30_000, scale=1 / 255, epochs=1, checkpoint=path)  # a window by the memory
    nets = [network(), network()]
    train(nets[0], ROWS, T, memory=30_000, scale=1 / 255)
    data = X if here == "resident" else Sliced(X) if here.endswith("memory") else sources.mapped(tmp_path, X)
    memory = {"resident": None, "streamed, less memory": 29_900}.get(here, 30_000)
    train(nets[1], data, T, memory=memory, scale=1 / 255, checkpoint=path, resume=True)
    assert_array_equal(nets[0].theta, nets[1].theta)


def test_a_training_goes_on_where_less_memory_is_free_by_now(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path, nets = tmp_path / "run.safetensors", [network(), network()]
    monkeypatch.setattr(intake, "free_memory", lambda backend: 60_000)
    train(nets[0], ROWS, T, scale=1 / 255)
    train(network(), ROWS, T, scale=1 / 255, epochs=1, checkpoint=path)
    monkeypatch.setattr(intake, "free_memory", lambda backend: 58_000)
    train(nets[1], ROWS, T, scale=1 / 255, checkpoint=path, resume=True)
    assert_array_equal(nets[0].theta, nets[1].theta)


def test_another_window_another_scale_and_other_data_are_another_training(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    streamed(network(), ROWS, T, epochs=1, checkpoint=path)
    other = X.copy()
    other[0] += 1
    for data, options, problem in (
        (ROWS, {"window": 96}, "window is 160 in the file, 96 here"),
        (ROWS, {"scale": 0.5}, "scale is "),
        (Sliced(other), {}, "data is "),
    ):
        with pytest.raises(CheckpointError, match=problem):
            streamed(network(), data, T, checkpoint=path, resume=True, **options)
    with pytest.raises(ConfigError, match=r"memory=4.88 KiB holds two windows of 52 rows.* window=160"):
        streamed(network(), ROWS, T, checkpoint=path, resume=True, memory=5_000, window=None)


def test_batches_of_ones_own_are_steps_and_go_on_where_they_were(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    wanted = network()
    train(wanted, X, T, shuffle=False, scale=1 / 255)
    for memory in (None, 3_000, "10 kB"):
        net = network()
        train(net, Pairs(X, T), memory=memory, scale=1 / 255)
        assert_array_equal(net.theta, wanted.theta)
    stopping = 41

    class Stop(xpnet.Callback):
        every = 1

        def on_steps(self, run: Any) -> None:
            if run.step == stopping:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(network(), Pairs(X, T), scale=1 / 255, memory=3_000, checkpoint=path, callbacks=[Stop()])
    net = network()
    train(net, [*Pairs(X, T)], scale=1 / 255, memory=3_000, checkpoint=path, resume=True)
    assert_array_equal(net.theta, wanted.theta)


def test_a_recorder_sees_a_streamed_training() -> None:
    recorder = xpnet.Recorder(every=5)
    net = network()
    streamed(net, ROWS, T, callbacks=[recorder])
    assert len(recorder.steps)
    assert_array_equal(net.theta, resident().theta)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"memory": "2 pounds"}, "memory must be a number of bytes or a text such as '2 GB'"),
        ({"memory": "1.2.3 GB"}, "memory must be a number of bytes or a text such as '2 GB'"),
        ({"memory": 0}, "memory must be an integer >= 1"),
        ({"memory": 1_000, "x": Pairs(X, T), "t": None, "window": None}, "memory=1e.03 bytes must hold two batches"),
        ({"memory": 2_000}, "holds two windows of 20 rows, of 48 bytes each"),
        ({"window": 47}, r"window must be at least 2 \* batch_size = 48 rows, got 47"),
        ({"scale": 0}, "scale must not be 0"),
        ({"scale": float("nan")}, "scale must be a finite number"),
        ({"validation_split": 0.1}, "validation_split takes samples from everywhere"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], problem: str) -> None:
    net = network()
    before = net.theta.copy()
    with pytest.raises(ConfigError, match=problem):
        streamed(net, **{"x": ROWS, "t": T} | options)
    assert_array_equal(net.theta, before)
    assert sources.no_threads()


def test_metrics_of_scaled_bytes_are_computed_in_the_networks_data_type() -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 6), dtype=np.uint8)
    found = []

    def dtype(t: Any, p: Any) -> float:
        found.append(p.dtype)
        return 0.0

    xpnet.mlp([6, 2], seed=0).fit(x, x[:, 0] % 2, epochs=1, scale=1 / 255, metrics=dtype, verbose=False)
    assert found == [np.float32]
