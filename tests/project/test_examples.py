"""The examples, run as a reader runs them, at a small size; each must print its result, and refuse a wrong one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

# Full size where that takes a second, else as small as the example's weaker check allows.
SIZES = {
    "descent": [],
    "fashion": ["--images", "few", "--epochs", "3"],
    "mnist": ["--epochs", "1", "--samples", "6000"],
    "mnist_cnn": ["--epochs", "1", "--samples", "3000"],
    "neuron": ["--epochs", "150"],
    "parity": [],
    "quadrants": ["--samples", "20000"],
    "streaming": [],
    "tutorial_mnist": ["--epochs", "8", "--samples", "6000"],
    "zeros": [],
}

# What a broken optimizer does: every step leaves the parameters as they are.
IDLE = """
import xpnet
def update(self, xp, theta, *arrays):  # one that changes nothing at all would be refused
    theta *= 0.999999
for optimizer in (xpnet.SGD, xpnet.Adam):
    optimizer.update = update
"""

# A machine without CuPy, whatever is installed on this one.
NO_CUPY = """
import sys
class Absent:
    def find_spec(name, path=None, target=None):
        if name == "cupy":
            raise ModuleNotFoundError("No module named 'cupy'", name=name)
sys.meta_path.insert(0, Absent)
"""


def run(name: str, *options: str, before: str = "", folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run an example in a process of its own, after the statements `before`."""
    path = str(EXAMPLES / f"{name}.py")
    # As `python path options` sets things up: the script's folder first on the path, its arguments in sys.argv.
    start = f"import runpy, sys\n{before}\nsys.path.insert(0, {str(EXAMPLES)!r})\nsys.argv = {[path, *options]!r}\n"
    command = ["-c", f"{start}runpy.run_path({path!r}, run_name='__main__')"] if before else [path, *options]
    return subprocess.run(
        [sys.executable, "-W", "error", *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )


def succeed(name: str, *options: str, folder: Path | None = None) -> str:
    """Run an example, require that it ends well and says nothing on stderr, and return what it printed."""
    result = run(name, *(options or SIZES[name]), folder=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    assert "NOT TRUE" not in result.stdout
    return result.stdout


def numbers(pattern: str, text: str) -> list[float]:
    """Return the groups of the only match of `pattern` as numbers."""
    (match,) = re.finditer(pattern, text)
    return [float(group.replace(",", "")) for group in match.groups()]


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*SIZES, "common"}


def test_mnist(tmp_path: Path) -> None:
    out = succeed("mnist", folder=tmp_path)  # from another folder: the data lie beside the example
    loss, accuracy = numbers(
        r"epoch 1/1  loss ([\d.]+)  validation loss [\d.]+  validation accuracy ([\d.]+)  [\d.]+ s", out
    )
    assert 0 < loss < 2.3  # ln 10 is what guessing costs
    assert 0.8 < accuracy < 1
    # The line of the result is the last one.
    (tested,) = numbers(r"^test accuracy ([\d.]+) % after [\d.]+ s of training on numpy$", out.splitlines()[-1])
    assert 80 < tested < 99


def test_mnist_keeps_its_test_images_out_of_training() -> None:
    # Every twelfth image is set aside from the training set: 550 of 6,600 leave 6,050 to train with, 31 batches of 200.
    before = (
        "import xpnet\n"
        "def fit(net, x, t, validation_split, epochs, batch_size, optimizer, **options):\n"
        "    print('fit', x.shape, round(len(x) * validation_split), optimizer.learning_rate.steps, sorted(options))\n"
        "xpnet.Network.fit = fit"
    )
    result = run("mnist", "--samples", "6600", "--epochs", "2", before=before)
    assert "fit (6600, 784) 550 62 ['parallel', 'verbose']" in result.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_mnist_shows_a_progress_bar_on_a_terminal() -> None:
    import pty

    here, there = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "100"}
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / "mnist.py"), *SIZES["mnist"]],
        stdin=subprocess.DEVNULL,
        stdout=there,
        stderr=there,
        env=environment,
    ) as process:
        os.close(there)
        seen = bytearray()
        while True:
            try:
                part = os.read(here, 4096)
            except OSError:  # Linux's way to say that the other side is closed
                break
            if not part:
                break
            seen += part
        os.close(here)
        assert process.wait(timeout=60) == 0
    shown = seen.decode()
    assert "━" in shown  # the bar
    assert re.search(r"\d+/28\b", shown)  # of 28 steps: 5,500 images in batches of 200
    assert re.search(r"epoch 1/1  loss [\d.]+  validation loss", shown)
    assert "test accuracy" in shown.splitlines()[-1]


def test_mnist_cnn() -> None:
    out = succeed("mnist_cnn")
    assert re.search(r"^epoch 1/1  loss [\d.]+  [\d.]+ s$", out, re.MULTILINE)
    (tested,) = numbers(r"^test accuracy ([\d.]+) % after [\d.]+ s of training on numpy$", out.splitlines()[-1])
    assert 70 < tested < 99


# What a training would be given, and a network that answers as if it had learned.
INSTEAD_OF_TRAINING = """
import numpy, xpnet
def fit(net, x, t, epochs, batch_size, optimizer, **options):
    kinds = [type(layer).__name__ for layer in net.layers]
    print("fit", x.shape, epochs, batch_size, optimizer.learning_rate.steps, *kinds)
xpnet.Network.fit = fit
xpnet.Network.predict = lambda net, x: numpy.zeros(len(x), dtype=int)
"""


def test_the_beautiful_network_sees_70_batches_of_512() -> None:
    out = run("mnist_cnn", "--network", "beautiful", before=INSTEAD_OF_TRAINING).stdout
    two = "Conv2D ReLU Conv2D ReLU BatchNorm MaxPool2D"
    assert f"fit (35840, 784) 1 512 70 Reshape {two} {two} Flatten Linear\n" in out
    assert "87,850 parameters" in out


@pytest.mark.parametrize(
    ("network", "first"), [("convolutions", "Conv2D"), ("augmented", "RandomFlip RandomCutout Conv2D")]
)
def test_fashion_with_convolutions(network: str, first: str) -> None:
    out = run("fashion", "--network", network, *SIZES["fashion"], before=INSTEAD_OF_TRAINING).stdout
    assert f"fit (1600, 784) 3 128 39 Reshape {first} MaxPool2D" in out


def test_fashion() -> None:
    out = succeed("fashion")
    wrong, images = numbers(r"(\d+) of the (\d+) test images are taken for something else", out)
    assert images == 400
    (tested,) = numbers(r"^test accuracy ([\d.]+) % after [\d.]+ s of training on numpy$", out.splitlines()[-1])
    assert tested == pytest.approx(100 - wrong / 4, abs=0.01)
    assert 60 < tested < 95


def test_an_unknown_network_is_refused() -> None:
    result = run("fashion", "--network", "deep")
    assert result.returncode == 2
    assert "invalid choice: 'deep'" in result.stderr


def test_descent() -> None:
    rows = [line.split() for line in succeed("descent").splitlines()[1:8]]
    assert [row[3] for row in rows] == ["200", "32", "5.12", "0.8192", "0.13107", "0.020972", "0.0033554"]
    assert [float(row[1]) for row in rows] == [float(row[2]) for row in rows]
    assert rows[1][1] == "4.00000"  # 10 - 0.3 * 2 * 10


def test_neuron() -> None:
    out = succeed("neuron")
    for way in ("single samples", "the whole batch", "minibatches of 4"):
        one, zero = numbers(rf"linear neuron, {way}: unseen \(1, 0, 0\) gives ([\d.]+) .* gives (-?[\d.]+),", out)
        assert abs(one - 1) < 0.1
        assert abs(zero) < 0.1
    for network in ("tanh neuron", "sigmoid neuron", "ReLU neuron", "deep network 3-4-4-1"):
        one, zero = numbers(rf"{network}: unseen \(1, 0, 0\) gives ([\d.]+) .* gives (-?[\d.]+),", out)
        assert one > 0.75
        assert zero < 0.3


def test_neuron_at_full_size() -> None:
    out = succeed("neuron", "--epochs", "1000")
    weights = re.findall(r"its weights \((-?[\d.]+), (-?[\d.]+), (-?[\d.]+)\)", out)
    assert len(weights) == 3
    for row in weights:
        assert [float(w) for w in row] == pytest.approx([1, 0, 0], abs=0.01)
    assert min(float(one) for one in re.findall(r"linear neuron.* \(1, 0, 0\) gives ([\d.]+)", out)) > 0.99


def test_zeros() -> None:
    steps, before, after = numbers(
        r"in ([\d,]+) steps the summed loss falls from ([\d.]+) to ([\d.]+), below 0.1", succeed("zeros")
    )
    assert steps == 10_000
    assert 8 < before < 13
    assert after < 0.1


def test_quadrants() -> None:
    out = succeed("quadrants")
    for way in ("minibatches of 32", "single samples"):
        before, after = numbers(rf"checked: {way}: the accuracy rises from ([\d.]+) to ([\d.]+)", out)
        assert before < 0.6
        assert after > 0.9
    # The last picture: o in the corners of quadrants I and III, a point in those of II and IV.
    rows = [line.split() for line in out.splitlines() if re.fullmatch(r"    ([.o] ?)+", line)][-12:]
    assert (rows[0][-1], rows[0][0], rows[-1][0], rows[-1][-1]) == ("o", ".", "o", ".")


def test_parity() -> None:
    out = succeed("parity")
    assert "the weights found bit 9, worth 1\n" in out
    assert numbers(r"on the (324) unseen numbers, ([\d.]+),", out) == [324, 1.0]


def test_streaming() -> None:
    out = succeed("streaming", "--gigabytes", "0.01")
    assert out.startswith(
        "12755 images, 10 MB; of these 1.2 MB are in memory at a time\ninterrupted in the first epoch\n"
    )
    (accuracy,) = numbers(r"the accuracy on the images of the file, ([\d.]+),", out)
    assert accuracy > 0.6


def test_tutorial_mnist() -> None:
    out = succeed("tutorial_mnist")
    goal, epochs = numbers(r"squared error: ([\d.]+)% of the test images are right after (\d+) epochs", out)
    curve = [float(value) for value in re.findall(r"test accuracy ([\d.]+)", out)]
    assert len(curve) == 8
    # The epoch that it names is the first that is good enough.
    assert curve[int(epochs) - 1] >= goal / 100 > max([0, *curve[: int(epochs) - 1]])
    adam, plain = numbers(r"cross-entropy and Adam, 8 epochs: ([\d.]+)% are right; squared error: ([\d.]+)%", out)
    assert adam > 85
    assert adam > plain == pytest.approx(100 * curve[-1], abs=0.01)


@pytest.mark.parametrize("name", SIZES)
def test_a_network_that_does_not_learn_fails(name: str) -> None:
    result = run(name, *SIZES[name], before=IDLE)
    assert result.returncode == 1
    assert re.fullmatch(r"NOT TRUE: .+\n", result.stderr)


def test_a_wrong_derivative_fails() -> None:
    # The factor 2 of the squared error's derivative forgotten: the errors fall, but not by 0.16 a step.
    before = (
        "import xpnet\n"
        "right = xpnet.SumSquaredError.__call__\n"
        "def wrong(self, *arguments):\n"
        "    value, dy = right(self, *arguments)\n"
        "    return value, 0.5 * dy\n"
        "xpnet.SumSquaredError.__call__ = wrong"
    )
    for name in ("descent", "neuron"):
        result = run(name, before=before)
        assert result.returncode == 1
        assert result.stderr.startswith("NOT TRUE: ")


@pytest.mark.parametrize("name", SIZES)
def test_cupy_without_cupy_is_one_clear_sentence(name: str) -> None:
    result = run(name, "--backend", "cupy", before=NO_CUPY)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("backend 'cupy' needs CuPy, which is not installed. Install it: pip install ")
    assert result.stderr.count("\n") == 1


def test_auto_says_what_it_chose_and_why() -> None:
    result = run("descent", "--backend", "auto", before=NO_CUPY)
    assert result.returncode == 0
    assert result.stdout.startswith("backend auto: numpy is used (backend 'cupy' needs CuPy, which is not installed.")


def test_an_unknown_backend_is_one_clear_sentence() -> None:
    result = run("descent", "--backend", "numpi")
    assert result.returncode == 1
    assert result.stderr == "unknown backend 'numpi'; backends are numpy, cupy, torch and auto. Did you mean 'numpy'?\n"


def test_an_impossible_size_is_refused() -> None:
    result = run("parity", "--epochs", "0")
    assert result.returncode == 2
    assert result.stderr.endswith("error: --epochs must be at least 1, got 0\n")
