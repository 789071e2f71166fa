"""The gallery without building it: programs that stand alone, pictures with words, and the examples' own pictures."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from documents import DOCS, ROOT

import xpnet
import xpnet.plots


@pytest.fixture
def gallery(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(DOCS / "extensions"))
    return importlib.import_module("gallery")


def test_the_gallery_has_every_example(gallery: object) -> None:
    examples = ROOT / "examples"
    programs = {path.relative_to(examples).with_suffix("").as_posix() for path in examples.rglob("*.py")}
    assert set(gallery.ORDER) == programs - {"common"}
    assert set(gallery.THUMBNAILS) | set(gallery.SMALLER) <= {Path(place).name for place in gallery.ORDER}


def test_pictures_of_the_gallery_have_words(gallery: object) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="the extra plot is not installed")
    ax = xpnet.plots.confusion([0, 1, 1], [0, 1, 0])
    words = (
        "2 of 3 are right (66.67%); true class over predicted class; colours: share of the samples of the true class"
    )
    assert gallery.words(ax.figure) == words
    ax = xpnet.plots.activation(xpnet.Tanh())
    words = "output y, derivative dy/dx over input x; shown are Tanh: y = f(x), derivative f'(x)"
    assert gallery.words(ax.figure) == words
    pyplot.close("all")


PROGRAMS = sorted((ROOT / "examples").rglob("*.py"))
ALONE = [path for path in PROGRAMS if path.stem != "common"]


@pytest.mark.parametrize("path", ALONE, ids=lambda path: path.stem)
def test_pages_of_the_gallery_are_the_programs_standing_alone(path: Path, gallery: object) -> None:
    """A page has a title, and a program that needs nothing from the folder it comes from."""
    text = path.read_text(encoding="utf-8")
    alone = gallery.standalone(text) if "import common" in text else text
    page = gallery.titled(alone, 2)
    assert page.endswith("# sphinx_gallery_thumbnail_number = 2\n")
    title, line, *_ = ast.get_docstring(ast.parse(page)).splitlines()
    assert set(line) == {"="}
    assert len(line) == len(title) > 8
    assert ast.dump(ast.Module(ast.parse(page).body[1:], [])) == ast.dump(ast.Module(ast.parse(alone).body[1:], []))
    tree = ast.parse(alone)
    assert not {"common", "args", "__file__"} & {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not any(isinstance(node, ast.Import) and node.names[0].name == "common" for node in ast.walk(tree))
    for word in ("require", "at least {", "# gone"):
        assert word not in alone
    assert alone.endswith("pyplot.show()\n")


@pytest.mark.parametrize("name", ["descent", "parity", "zeros"])
def test_a_program_that_stands_alone_runs_alone(
    name: str, gallery: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_alone(gallery.standalone((ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")), monkeypatch, tmp_path)
    expected = {
        "descent": "the errors are 200, 32, 5.12, 0.8192, 0.13107, 0.020972, 0.0033554\n",
        "parity": "the accuracy on the 324 unseen numbers: 1.0000\n",
        "zeros": "in 10,000 steps the summed loss falls from ",
    }
    assert expected[name] in capsys.readouterr().out


def test_programs_standing_alone_are_smaller_where_it_is_asked_for(gallery: object) -> None:
    text = (ROOT / "examples" / "mnist.py").read_text(encoding="utf-8")
    assert "\nepochs = 1\nsamples = 60_000\n" in gallery.standalone(text, {"epochs": "1"})


@pytest.mark.parametrize(
    ("name", "pattern", "least"),
    [
        ("wine", r"five parts: \[([\d.]+)", 0.9),
        ("cancer", r"other tumours: ([\d.]+)", 0.97),
        ("diabetes", r"other patients: ([\d.]+)", 0.3),
    ],
)
def test_tables_of_the_gallery(
    name: str,
    pattern: str,
    least: float,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_alone((ROOT / "examples" / "tables" / f"{name}.py").read_text(encoding="utf-8"), monkeypatch, tmp_path)
    found = re.search(pattern, capsys.readouterr().out)
    assert found is not None
    assert float(found[1]) > least


def run_alone(program: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Run a program from another folder, with pictures that nobody sees."""
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="the extra plot is not installed")
    pyplot.switch_backend("agg")
    monkeypatch.setattr(pyplot, "show", lambda: None)
    monkeypatch.chdir(folder)
    try:
        exec(compile(program, "program", "exec"), {"__name__": "__main__"})
        assert pyplot.get_fignums()
    finally:
        pyplot.close("all")


def draw(name: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / f"{name}.py"), "--plots", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


PICTURES = {
    "descent": ([], {"error"}),
    "parity": ([], {"weights", "evolution", "deltas"}),
    "neuron": (
        ["--epochs", "150"],
        {"weights_1", "biases_1", "weights_6", "biases_6", "weights_4", "biases_4", "deltas"},
    ),
    "quadrants": (
        ["--samples", "20000"],
        {f"{kind}_{batch}" for kind in ("before", "after", "weights", "biases") for batch in (32, 1)},
    ),
    "streaming": ([], {"loss", "weights"}),
    "zeros": ([], {"outputs", "deltas"}),
    "tutorial_mnist": (["--epochs", "8", "--samples", "6000"], {"loss", "squared_error", "cross_entropy"}),
    "mnist": (["--epochs", "1", "--samples", "6000"], {"loss", "accuracy", "weights", "confusion", "errors"}),
    "mnist_cnn": (
        ["--epochs", "1", "--samples", "3000"],
        {"loss", "filters", "features", "pixels", "statistics", "confusion", "errors"},
    ),
    "fashion": (["--images", "few", "--epochs", "3"], {"loss", "confusion", "errors"}),
}


@pytest.mark.parametrize("name", PICTURES)
def test_an_example_draws(name: str, tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image", reason="the extra plot is not installed")
    options, expected = PICTURES[name]
    result = draw(name, tmp_path / "new" / "folder", *options)
    assert result.returncode == 0, result.stderr
    files = {path.stem: path for path in (tmp_path / "new" / "folder").glob("*.png")}
    assert set(files) == {f"{name}_{picture}" for picture in expected}
    for path in files.values():
        assert f"picture: {path}" in result.stdout
        pixels = image.imread(path)[:, :, :3]
        assert pixels.shape[0] > 400
        assert 0.005 < (pixels < 0.9).any(axis=2).mean() < 0.99


def test_every_example_draws() -> None:
    assert set(PICTURES) == {path.stem for path in (ROOT / "examples").glob("*.py")} - {"common"}


def test_plots_where_no_folder_can_be(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    (tmp_path / "file").touch()
    result = draw("descent", tmp_path / "file" / "folder")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == f"--plots {tmp_path / 'file' / 'folder'}: Not a directory\n"


def test_plots_without_matplotlib_is_one_clear_sentence(tmp_path: Path) -> None:
    program = ROOT / "examples" / "descent.py"
    hidden = f"import runpy, sys; sys.modules['matplotlib'] = None; sys.path.insert(0, {str(program.parent)!r}); "
    hidden += f"sys.argv = ['descent.py', '--plots', {str(tmp_path)!r}]; runpy.run_path({str(program)!r})"
    result = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == (
        '--plots needs matplotlib, which is not installed. Install it: pip install "xpnet[plot]"\n'
    )
