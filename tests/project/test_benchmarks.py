"""The benchmark harness: a small run from end to end, and that its check sees what it is there to see."""

import importlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import xpnet

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SYSTEMS = ("--systems", "floor,xpnet-numpy,xpnet-cupy")
MODULES = (
    "networks",
    "workloads",
    "systems",
    "systems.base",
    "reference",
    "check",
    "machine",
    "pool",
    "measure",
    "report",
    "run",
)


@pytest.fixture(scope="module")
def bench():
    """Return the harness's modules; they are scripts beside each other, not a package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield SimpleNamespace(**{name.rpartition(".")[2]: importlib.import_module(name) for name in MODULES})
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(BENCHMARKS)):
            del sys.modules[name]


def run(*arguments, **options):
    """Run the benchmark's command."""
    command = [sys.executable, str(BENCHMARKS / "run.py"), "--threads", "1", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


# ------------------------------------------------------------------------------------- from end to end


def test_a_quick_run_measures_in_turns_and_writes_what_it_printed(tmp_path):
    workloads = "tiny,huge,predict,predict-conv1d,mnist,memory,memory-conv1d"
    done = run("--quick", *SYSTEMS, "--workloads", workloads, "--seconds", "0.01", "--output", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "out.json").read_text())
    results = {result["workload"]: result for result in content["results"]}
    assert list(results) == [*workloads.split(",")[:-1], "import", "memory-conv1d"]
    for name, result in results.items():
        assert result["failed"] == {}
        both = {"xpnet-numpy"} if name == "mnist" else set() if name == "huge" else {"floor", "xpnet-numpy"}
        assert both <= set(result["samples"])
        expected = 1 if name.startswith("memory") else 2
        assert all(len(values) == expected and min(values) > 0 for values in result["samples"].values())
    assert results["huge"]["not_measured"]["floor"] == "this workload is for GPUs"
    epochs = results["mnist"]["details"]["runs"]["xpnet-numpy"]["mnist, batch 240, learning rate 0.002"]
    assert all(run["accuracy"][-1] >= 0.85 for run in epochs)
    assert results["memory"]["samples"]["xpnet-numpy"][0] > 12_000 * 784 * 4  # the data set alone
    assert results["predict-conv1d"]["details"]["rows"] == 64
    assert content["options"]["threads"] == 1
    assert {"xpnet", "numpy", "python"} <= set(content["versions"])
    table = (tmp_path / "out.md").read_text()
    assert table.strip() == done.stdout.strip()
    assert "| xpnet-numpy |" in table


def test_without_a_gpu_nothing_is_said_about_one(tmp_path):
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = run(
        "--quick", *SYSTEMS, "--workloads", "tiny", "--seconds", "0.01", "--output", str(tmp_path / "o"), env=hidden
    )
    assert "- xpnet-cupy: not measured: no CUDA device" in done.stdout
    assert "| xpnet-cupy |" not in done.stdout


def test_xpnet_computes_what_the_reference_computes():
    # Half a second of training is enough for the kernels of the `fast` extra to be compiled where it is installed.
    done = run("--check", "--systems", "xpnet", "--workloads", "mlp,tiny,conv1d", "--seconds", "0.5")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("xpnet-numpy          ") == 4
    assert "DIFFERENT" not in done.stdout
    assert "shuffled epochs" in done.stdout


@pytest.mark.parametrize("arguments", [("--systems", "xpnot"), ("--workloads", "x"), ("--rounds", "0")])
def test_unknown_names_and_impossible_numbers_are_refused(bench, arguments):
    with pytest.raises(SystemExit):
        bench.run.arguments(list(arguments))


# ------------------------------------------------------------------------- the check can say "different"


def plain_system(bench, flaw):
    """Return a system that trains with the reference's own gradients, with one flaw."""

    class Plain(bench.base.System):
        def load(self, workload, x, t, weights, seed):
            self.workload, self.x, self.t = workload, x, t
            self.rng = np.random.default_rng(seed)
            self.reset(weights)

        def set_weights(self, weights):
            self.theta = [p.astype(np.float64) for pair in weights for p in pair]

        def set_rate(self, rate):
            raise NotImplementedError

        def reset(self, weights):
            self.set_weights(weights)
            if not (flaw == "reset keeps the momentum" and hasattr(self, "velocity")):
                self.velocity = [np.zeros_like(p) for p in self.theta]
            self.order = np.zeros(0, int)

        def next_rows(self):
            rows, B = self.workload.rows, self.workload.batch
            if len(self.order) < B:
                self.order = {
                    "not shuffled": lambda: np.arange(rows),
                    "with replacement": lambda: self.rng.integers(rows, size=rows),
                    "the same order": lambda: np.random.default_rng(0).permutation(rows),
                }.get(flaw, lambda: self.rng.permutation(rows))()
            taken, self.order = self.order[:B], self.order[B:]
            return taken

        def run(self, steps):
            losses = []
            for _ in range(steps):
                rows = self.next_rows()
                pairs = self.weights()
                loss, gradient = bench.reference.gradients(self.workload, pairs, self.x[rows], self.t[rows])
                losses.append(loss * (10 if flaw == "loss summed over the outputs" else 1))
                for p, v, g in zip(self.theta, self.velocity, gradient, strict=True):
                    if flaw == "no bias" and p.ndim == 1:
                        continue
                    keep = 0.9 if self.workload.optimizer == "momentum" and flaw != "no momentum" else 0.0
                    v[...] = keep * v + g * (0.999 if flaw == "gradients off by a thousandth" else 1.0)
                    p -= self.workload.learning_rate * v
            self.mean = float(np.mean(losses))

        def loss(self):
            return self.mean

        def weights(self):
            return [(W.copy(), b.copy()) for W, b in zip(self.theta[::2], self.theta[1::2], strict=True)]

        def put(self, x):
            return x

        def forward(self, x):
            return bench.reference.outputs(self.workload, self.weights(), x) + (flaw == "outputs shifted")

        def versions(self):
            return {}

    return Plain(1, False)


def small(bench, **changes):
    """Return a small workload with momentum."""
    fields = {"sizes": (2, 5, 4, 3), "activation": "sigmoid", "output": "identity", "batch": 8, "optimizer": "momentum"}
    return bench.workloads.Workload(
        name="small", **{**fields, "learning_rate": 0.1, "loss": "squared_error", "batches": 4, **changes}
    )


@pytest.mark.parametrize(
    ("flaw", "quantity"),
    [
        ("loss summed over the outputs", "loss"),
        ("no bias", "weights"),
        ("no momentum", "weights"),
        ("gradients off by a thousandth", "weights"),
        ("reset keeps the momentum", "weights"),
        ("outputs shifted", "outputs"),
    ],
)
def test_the_check_finds_a_wrong_step(bench, flaw, quantity):
    found = bench.check.same_steps(plain_system(bench, flaw), small(bench), 4)
    assert not found["ok"]
    assert found["errors"][quantity] > 5 * bench.check.TOLERANCES[quantity] or flaw.endswith("thousandth")


@pytest.mark.parametrize(
    ("flaw", "words"),
    [
        ("not shuffled", "not shuffled"),
        ("with replacement", "not once"),
        ("the same order", "same order"),
    ],
)
def test_the_check_finds_wrong_batches(bench, flaw, words):
    found = bench.check.picked_rows(plain_system(bench, flaw))
    assert not found["ok"]
    assert words in found["why"]


def test_the_check_passes_a_right_system(bench):
    system = plain_system(bench, None)
    assert bench.check.same_steps(system, small(bench), 4)["ok"]
    assert bench.check.picked_rows(system)["ok"]


@pytest.mark.parametrize("output", ["identity", "sigmoid"])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "sigmoid"])
@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_the_reference_itself_has_the_gradient_of_its_loss(bench, activation, output, loss):
    workload = small(bench, activation=activation, output=output, loss=loss)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 2))
    t = rng.integers(3, size=6) if loss == "cross_entropy" else rng.standard_normal((6, 3))
    weights = [(W.astype(float), b.astype(float)) for W, b in bench.workloads.initial_weights(workload)]
    _, gradient = bench.reference.gradients(workload, weights, x, t)
    for p, g in zip([p for pair in weights for p in pair], gradient, strict=True):
        direction, start, h = rng.standard_normal(p.shape), p.copy(), 1e-6
        values = []
        for sign in (1, -1):
            p[...] = start + sign * h * direction
            values.append(bench.reference.gradients(workload, weights, x, t)[0])
        p[...] = start
        assert (values[0] - values[1]) / (2 * h) == pytest.approx((g * direction).sum(), rel=1e-6, abs=1e-10)


@pytest.mark.parametrize("shape", [(7, 10, 2), (9, 2)], ids=["images", "signals"])
def test_the_reference_has_the_gradient_of_convolutions_and_normalisations_too(bench, shape):
    block = [["conv", 3, 4, 3, 2, 1, True], ["sigmoid"], ["norm", 4]]
    shortcut = [["conv", 3, 4, 1, 2, 0, False], ["norm", 4]]
    layers = [["conv", 2, 3, 3, 1, 2, True], ["relu"], ["norm", 3], ["residual", block, shortcut], ["pool", 2]]
    inner = shape
    for layer in layers:
        inner = bench.networks.after(layer, inner)
    for end in ([["mean"], ["linear", 4, 2]], [["flatten"], ["linear", int(np.prod(inner)), 2]]):
        fields = {"sizes": (1, 2), "shape": shape, "layers": [*layers, *end], "loss": "cross_entropy"}
        workload = small(bench, **fields)
        rng = np.random.default_rng(0)
        x, t = rng.standard_normal((4, *shape)), rng.integers(2, size=4)
        weights = [tuple(p.astype(float) for p in own) for own in bench.workloads.initial_weights(workload)]

        def loss(workload=workload, weights=weights, x=x, t=t):
            return bench.reference.gradients(workload, weights, x, t, bench.reference.running_statistics(workload))

        for p, g in zip([p for own in weights for p in own], loss()[1], strict=True):
            direction, start, h = rng.standard_normal(p.shape), p.copy(), 1e-6
            values = []
            for sign in (1, -1):
                p[...] = start + sign * h * direction
                values.append(loss()[0])
            p[...] = start
            assert (values[0] - values[1]) / (2 * h) == pytest.approx((g * direction).sum(), rel=1e-5, abs=1e-9)


# ------------------------------------------------------------------------------------------ CIFAR-10


@pytest.fixture
def colours(tmp_path):
    """Make tar files of images: reddish aeroplanes and bluish cats."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    rng = np.random.default_rng(0)
    for part, count in (("train", 96), ("test", 40)):
        with tarfile.open(tmp_path / f"{part}.tar.xz", "w:xz") as tar:
            for k in range(count):
                name = ("airplane", "cat")[k % 2]
                pixels = rng.integers(0, 200, (32, 32, 3), dtype=np.uint8)
                pixels[:, :, 2 * (k % 2)] = 250
                content = io.BytesIO()
                image.fromarray(pixels).save(content, "png")
                member = tarfile.TarInfo(f"{part}/{name}/{k:04}.png")
                member.size = content.tell()
                content.seek(0)
                tar.addfile(member, content)
    return tmp_path


def test_cifar10_from_tar_files(colours):
    options = ("--widths", "4", "8", "8", "--epochs", "20", "--output", str(colours / "result.json"))
    command = [sys.executable, str(BENCHMARKS / "cifar10.py"), str(colours), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads((colours / "result.json").read_text())
    assert result["data"] == "CIFAR-10"
    assert result["measured on"] == "the test images"
    assert len(result["loss"]) == 20
    assert result["accuracy"] > 0.7
    assert {"cpu", "processors"} <= set(result["machine"])
    missing = subprocess.run([*command[:2], str(BENCHMARKS)], capture_output=True, text=True, timeout=60, check=False)
    assert missing.returncode == 1
    assert missing.stderr.endswith("give the folder of images\n")


def test_cifar10_as_published_is_read_as_from_tar_files(bench, colours, tmp_path):
    """A record is a byte for the class and the pixels, a colour at a time; five files are for training."""
    cifar10 = importlib.import_module("cifar10")
    (x, t), (x_test, t_test), called = cifar10.load(colours)
    published = tmp_path / "cifar-10-batches-bin"
    published.mkdir()
    for part in ("train", "test"):
        images, names, _ = cifar10.read_images(colours, part)
        classes = np.asarray([["airplane", "cat"].index(name) for name in names], np.uint8)
        records = np.concatenate([classes[:, None], images.transpose(0, 3, 1, 2).reshape(len(images), -1)], axis=1)
        files = [f"data_batch_{k}.bin" for k in range(1, 6)] if part == "train" else ["test_batch.bin"]
        for name, batch in zip(files, np.array_split(records, len(files)), strict=True):
            batch.tofile(published / name)
    again = cifar10.load(published)
    for ours, theirs in zip(((x, t), (x_test, t_test)), again, strict=False):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])
    assert called == again[2] == "CIFAR-10"


def test_a_published_file_that_is_cut_short_is_named(bench, tmp_path):
    cifar10 = importlib.import_module("cifar10")
    (tmp_path / "test_batch.bin").write_bytes(bytes(3073 + 5))
    with pytest.raises(SystemExit, match="is cut short"):
        cifar10.read_images(tmp_path, "test")


def test_products_by_openblas_and_by_code_of_our_own(bench, monkeypatch, capsys):
    pytest.importorskip("llvmlite", reason="the extra fast is not installed")
    products = importlib.import_module("products")
    small = {"small": (20, 30, 16, (30, 1), (16, 1), 16), "turned": (40, 130, 128, (1, 40), (1, 130), 128)}
    for name, value in (("PRODUCTS", small), ("ROUNDS", 3), ("SECONDS", 1e-4)):
        monkeypatch.setattr(products, name, value)
    products.main()
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [name for name, *_ in rows] == [*small]
    assert all(int(figure) > 0 for _, *figures in rows for figure in figures)


def test_images_from_jpeg_files_are_called_so(bench, tmp_path):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    cifar10 = importlib.import_module("cifar10")
    image.new("RGB", (32, 32)).save(tmp_path / "0.jpg")
    with tarfile.open(tmp_path / "train.tar", "w") as tar:
        tar.add(tmp_path / "0.jpg", "train/cat/0.jpg")
    assert cifar10.read_images(tmp_path, "train")[1:] == (["cat"], "CIFAR-10 (JPEG)")


def test_whitened_patches_are_uncorrelated(bench, monkeypatch):
    cifar10 = importlib.import_module("cifar10")
    monkeypatch.setattr(cifar10, "NOISE", 0.0)
    rng = np.random.default_rng(1)
    x = np.cumsum(rng.normal(size=(40, 32, 32, 3)), axis=1).astype(np.float32)
    W = cifar10.whitening(x)
    net = xpnet.Network([xpnet.Conv2D(3, 24, 2, padding="valid", bias=False), xpnet.Flatten()], "mean_squared_error",
                        input_shape=(32, 32, 3))  # fmt: skip
    net.set_parameters({"0.W": W})
    y = net.forward(x).reshape(-1, 24).astype(np.float64)
    np.testing.assert_allclose(y.T[:12] @ y[:, :12] / len(y), np.eye(12), atol=0.02)
    np.testing.assert_allclose(y[:, 12:], -y[:, :12], atol=1e-3)


# ------------------------------------------------------------------------------------ failures are told


@pytest.fixture
def worker(bench):
    """Return a started process of the floor."""
    with bench.pool.Worker("floor", 1, False) as worker:
        worker.ask("hello")
        yield worker


def test_an_exception_in_a_system_is_an_error_here_and_the_process_goes_on(bench, worker):
    with pytest.raises(bench.pool.Failed, match="TypeError"):
        worker.ask("time", stepz=1)
    with pytest.raises(bench.pool.Unavailable, match="does not learn"):
        worker.ask("check", workload=small(bench).to_json(), steps=1, budget=0.0)
    assert "numpy" in worker.ask("hello")["versions"]


def test_a_process_that_dies_is_told(bench, worker):
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(bench.pool.Failed, match="the process"):
        worker.ask("hello")


def test_a_process_that_hangs_is_ended(bench, worker):
    worker.ask("load", workload=small(bench, sizes=(2, 2), batch=1, batches=1).to_json(), budget=0.01)
    worker.timeout = 0.2
    with pytest.raises(bench.pool.Failed, match=r"no answer to 'time' in 0\.2 s"):
        worker.ask("time", steps=10**9)
    with pytest.raises(ProcessLookupError):
        os.kill(worker.pid, 0)


def test_a_system_that_fails_midway_has_no_figures(bench):
    result = bench.measure.Result("tiny", "s/step")
    harness = bench.measure.Bench(("a", "b"), 1, False, 3, 0.01, 0, pause=0.0)
    calls = {"a": 0, "b": 0}

    def sample(name):
        calls[name] += 1
        if name == "b" and calls["b"] == 2:
            raise bench.pool.Failed("broken")
        return 1.0

    harness.rounds_of(result, ["a", "b"], sample, 3)
    assert result.samples == {"a": [1.0] * 3}
    assert result.failed == {"b": "broken"}
    assert calls["b"] == 2
    assert "- b: FAILED: broken" in bench.report.table(bench.measure.Result("w", "s", failed=result.failed))


# --------------------------------------------------------------------------------------------- figures


def test_ratios_compare_within_a_round(bench):
    samples = {"floor": [1.0, 10.0, 1.0], "jax-jit": [2.0, 20.0, 4.0], "xpnet-numpy": [1.0, 40.0, 2.0]}
    result = bench.measure.Result("mlp", "s/step", samples)
    assert bench.report.ratios(result, "jax-jit", "floor") == [2.0, 2.0, 4.0]
    row = next(line for line in bench.report.table(result).splitlines() if line.startswith("| jax-jit"))
    assert row == "| jax-jit | Python | 4 s | 2 s to 20 s | 2.00 | 2.00 |  |"


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [(0.01234, "s", "12.3 ms"), (1.5, "s", "1.5 s"), (2e-7, "s", "0.2 µs"), (3 * 2**20, "bytes", "3 MiB")],
)
def test_quantities_are_readable(bench, value, unit, shown):
    assert bench.report.quantity(value, unit) == shown


def test_results_survive_json(bench, tmp_path):
    result = bench.measure.Result("tiny", "s/step", {"floor": [0.1, 0.2]}, notes={"floor": "x"})
    bench.report.write_json([result], {"machine": {"cpu": "c"}}, tmp_path / "r.json")
    assert bench.report.read_json(tmp_path / "r.json") == ([result], {"machine": {"cpu": "c"}})


def test_other_programs_are_seen(bench):
    watch = bench.machine.Intruders([os.getpid()])
    child = subprocess.Popen([sys.executable, "-c", "import time; a = time.time()\nwhile time.time() < a + 0.6: pass"])
    child_seen = bench.machine.Intruders([os.getpid(), child.pid])
    while child.poll() is None:
        with_child, without_child = watch.share(), child_seen.share()
    assert with_child is None or with_child > without_child


def test_what_lies_in_the_intervals_is_counted(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    intervals = importlib.import_module("intervals")
    y = np.arange(10.0)
    monkeypatch.setattr(intervals, "intervals", lambda X, y, X_test, seed: {"way": (X_test - 0.5, X_test + 1.5)})
    assert intervals.measure(np.where(y < 7, y, y + 1), y, 2) == {"way": {"coverage": 0.7, "width": 2.0 / y.std()}}


# --------------------------------------------------------------------------------------------------- scaling


def test_the_text_on_scaling_is_made_of_its_figures(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    report = importlib.import_module("scaling_report")
    for name in ("scaling.json", "scaling.md"):
        (tmp_path / name).write_bytes((BENCHMARKS / "results" / name).read_bytes())
    before = (tmp_path / "scaling.md").read_text()
    assert report.write(tmp_path / "scaling") == before
    assert (tmp_path / "scaling.png").stat().st_size > 20_000


def test_the_model_of_scaling_shares_the_work_and_pays_for_the_exchange(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    report = importlib.import_module("scaling_report")
    runs = {"1": {"mlp, 2048 rows": 1.0}, "2": {"exchange of 1000 numbers": 0.0, "exchange of 5800000 numbers": 0.0}}
    assert report.modelled("mlp", runs, None) == list(report.MACHINES)
    assert report.modelled("mlp", runs, (1.0, 0.0))[:3] == [1.0, 1 / 1.5, 1 / 1.25]
    a_second_for_all = (0.0, 1 / report.PARAMETERS["mlp"])
    assert report.modelled("mlp", runs, a_second_for_all)[1] == 1 / (0.5 + 1.0)
