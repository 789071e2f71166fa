"""The notebooks: made from pages and programs that tests run, and committed without outputs."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from documents import run_blocks

import xpnet

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "notebooks"


@pytest.fixture(scope="module")
def make() -> ModuleType:
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    spec = importlib.util.spec_from_file_location("make_notebooks", FOLDER / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(name: str, kind: str) -> list[str]:
    """Return the text of the cells of a notebook, code or words."""
    found: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == kind]


def test_the_notebooks_are_those_that_are_made(make: ModuleType) -> None:
    made = make.every()
    assert len(made) == 5
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(made)
    for name, text in made.items():
        message = f"{name}: run python docs/notebooks/make.py"
        assert (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8") == text, message


def test_they_have_a_title_an_installation_and_no_outputs(make: ModuleType) -> None:
    for name in make.every():
        notebook = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
        assert notebook["nbformat"] == 4
        assert notebook["cells"][0]["source"][0].startswith("# ")
        assert notebook["cells"][1]["source"][0].startswith("%pip install")
        assert all(not cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code")
        for words in cells(name, "markdown"):
            assert not re.search(r"\]\((?!https://)|\{\w+\}`", words), words  # links lead out, roles are gone


def test_the_programs_of_a_page_are_the_cells_of_its_notebook(make: ModuleType) -> None:
    """Those of a page are run by the tests of the documentation, one after the other and under the same names."""
    for name, page in make.PAGES.items():
        programs = [text.strip() for text in run_blocks((ROOT / "docs" / page).read_text(encoding="utf-8"))]
        assert cells(name, "code")[1:] == programs


def test_mnist_on_a_gpu_runs_without_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="the extra plot is not installed")
    pyplot.switch_backend("agg")
    monkeypatch.setattr(pyplot, "show", lambda: None)
    monkeypatch.setattr(inspect.unwrap(xpnet.datasets.mnist), "__defaults__", (ROOT / "examples" / "data" / "mnist",))
    program = "\n".join(cells("mnist_on_a_gpu", "code")[1:])
    for large, small in (("epochs = 7", "epochs = 1"), ("samples = 60_000", "samples = 6_000")):
        assert large in program
        program = program.replace(large, small)
    try:
        exec(compile(program, "mnist_on_a_gpu", "exec"), {"__name__": "__main__"})
        assert len(pyplot.get_fignums()) == 5
    finally:
        pyplot.close("all")
    accuracy = re.search(r"test accuracy ([\d.]+) %", capsys.readouterr().out)
    assert accuracy is not None
    assert float(accuracy[1]) > 80
