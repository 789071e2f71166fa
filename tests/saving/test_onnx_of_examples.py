"""The networks of the examples as ONNX files, and one step of each of their trainings."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx_files import File, far

import xpnet

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RUNS = {
    "descent": [], "fashion, plain": ["--images", "few", "--network", "plain"],
    "fashion, convolutions": ["--images", "few", "--network", "convolutions"],
    "fashion, augmented": ["--images", "few", "--network", "augmented"], "mnist": ["--samples", "6000"],
    "mnist_cnn": ["--samples", "3000"], "mnist_cnn, beautiful": ["--samples", "3000", "--network", "beautiful"],
    "neuron": [], "parity": [], "quadrants": [], "streaming": [], "tutorial_mnist": ["--samples", "6000"], "zeros": [],
}  # fmt: skip


class Reached(Exception):
    """The example has come to its training."""


def test_every_example_is_here():
    names = {name.partition(",")[0] for name in RUNS}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == names | {"common"}


@pytest.mark.parametrize("name", RUNS)
def test_a_network_of_an_example(name, tmp_path, monkeypatch):
    seen = []

    def fit(net, *data, **options):
        seen.append((net, options.get("optimizer", "adam")))
        raise Reached

    monkeypatch.setattr(xpnet.Network, "fit", fit)
    monkeypatch.setattr(sys, "argv", [name, *RUNS[name]])
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    with pytest.raises(Reached):
        runpy.run_path(str(EXAMPLES / f"{name.partition(',')[0]}.py"), run_name="__main__")
    ((net, optimizer),) = seen
    rng = np.random.default_rng(0)
    net.theta[...] += (0.02 * rng.normal(size=net.theta.shape)).astype(net.dtype)
    x = rng.random((3, *net.input_shape)).astype(net.dtype)
    net.to_onnx(tmp_path / "net.onnx")
    assert far(File(tmp_path / "net.onnx")(x=x)["y"], net.forward(x)) < 1e-5
    xpnet.saving.export_training(net, optimizer, tmp_path / "step.onnx", batch_size=3)
    assert "loss" in File(tmp_path / "step.onnx").outputs
