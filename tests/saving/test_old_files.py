"""Files that earlier versions wrote are read, give what they gave, and are written again to the byte."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import old_files
import pytest

import xpnet
from xpnet.files.tensors import read_tensors

DATA = Path(__file__).parents[1] / "data" / "0.1.0"
EXPECTED = json.loads((DATA / "expected.json").read_text())
ROUNDING = {"rtol": 1e-4, "atol": 1e-6}  # another processor, or another library of products


@pytest.fixture(scope="module")
def own() -> list:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # three iterations are few
        return old_files.own()


def test_every_file_is_expected() -> None:
    names = {*EXPECTED["networks"], *(f"training {name}" for name in EXPECTED["trainings"])}
    assert {path.stem for path in DATA.glob("*.safetensors")} == names
    assert EXPECTED["trainings"].keys() == old_files.trainings().keys()


@pytest.mark.parametrize("name", EXPECTED["networks"])
def test_an_old_network_is_read_and_written_to_the_byte(tmp_path: Path, name: str, own: list) -> None:
    net = xpnet.load(DATA / f"{name}.safetensors", classes=own)
    assert old_files.digest(net) == EXPECTED["networks"][name]["digest"]
    np.testing.assert_allclose(old_files.outcome(net), EXPECTED["networks"][name]["outputs"], **ROUNDING)
    net.save(tmp_path / "f")
    if name != "regressor":  # its loss was a class of one's own for the file, and need not stay one
        assert (tmp_path / "f").read_bytes() == (DATA / f"{name}.safetensors").read_bytes()


@pytest.mark.parametrize("name", EXPECTED["trainings"])
def test_an_old_training_goes_on(tmp_path: Path, name: str) -> None:
    path, expected = tmp_path / "f", EXPECTED["trainings"][name]
    shutil.copy(DATA / f"training {name}.safetensors", path)
    stopped = xpnet.load(path)
    assert old_files.digest(stopped) == expected["digest"]
    stopped.save(tmp_path / "g")  # of the two, only the first holds a training
    assert {*read_tensors(path)[0]} > {*read_tensors(tmp_path / "g")[0]}
    net, history = old_files.train(path, old_files.trainings()[name], resume=True)
    np.testing.assert_allclose(old_files.outcome(net), expected["outputs"], **ROUNDING)
    np.testing.assert_allclose(history["loss"], expected["loss"], **ROUNDING)
