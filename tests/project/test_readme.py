"""What the README says is run: its Python, and, in the continuous integration, its commands."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import xpnet
from xpnet import estimators

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = README) -> list[str]:
    """Return the code blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[str]:
    """Return the shell commands, without comments."""
    lines = "".join(blocks("sh", text)).splitlines()
    return [re.sub(r"\s+# .*", "", line) for line in lines if line]


def test_python_blocks_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # they may write files
    names: dict[str, object] = {}
    parts = blocks("python")
    assert len(parts[0].splitlines()) == 10
    for k, part in enumerate(parts):
        exec(compile(part, f"README.md, block {k + 1}", "exec"), names)
        if k == 0:
            loaded = xpnet.load("spirals.safetensors")
            assert (loaded.predict([[0.5, 0.5]]) == 2).all()
    shown = capsys.readouterr().out
    promised = blocks("text")[1:]
    accuracy, found = promised[0].split("\n", 1)
    lines = shown.splitlines()
    assert float(lines[0]) == pytest.approx(float(accuracy), abs=0.0075)
    expected = re.sub(r"\d+ of", r"\\d+ of", " ".join(found.split()))  # how many units die depends on rounding
    assert re.fullmatch(expected, lines[1])
    assert promised[1] in shown  # the equations, letter by letter
    about = re.search(r"cross_val_score.*# about ([\d.]+)", README)
    assert about is not None
    scores = [float(score) for score in re.findall(r"[\d.]+", lines[-1])]
    assert sum(scores) / 3 == pytest.approx(float(about[1]), abs=0.03)


def test_the_two_commands_are_those_of_the_continuous_integration() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    lines = [
        re.sub(r'"\$venv(/bin/\w+)?"', r".venv\1", line.removesuffix(" || exit 1")).replace(" --epochs 1", "")
        for line in script.splitlines()
    ]
    first, second = commands(README)[:2]
    assert first.startswith("python3 -m venv .venv && ")
    assert first.endswith(" examples/mnist.py")
    assert second.endswith(" && .venv/bin/pytest")
    assert first in lines
    assert second in lines


def test_commands_name_files_modules_and_extras_that_exist() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    every = commands(README) + commands(CONTRIBUTING)
    assert len(every) > 10
    named = [extra for command in every for extra in re.findall(r'"\.\[(\w+)\]"', command)]
    assert set(named) == {"test", "cuda13", "cuda12", "torch", "dev", "docs", "fast"}
    assert set(named) <= set(extras)
    paths = [path for command in every for path in re.findall(r"(?:examples|tests|\.ci)/\S+", command)]
    assert {"examples/mnist.py"} <= set(paths)
    for path in paths:
        assert (ROOT / path).exists(), path


def test_links_lead_to_files() -> None:
    for name, text in (("README.md", README), ("CONTRIBUTING.md", CONTRIBUTING)):
        links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
        assert links or name != "README.md"
        for link in links:
            assert (ROOT / link).exists(), f"{name}: {link}"


def test_the_figures_beside_others_are_those_of_the_benchmarks() -> None:
    """The last two lines of the table are the results."""
    results = (ROOT / "benchmarks" / "results" / "README.md").read_text(encoding="utf-8")
    rows: dict[str, tuple[str, str]] = {}
    for line in results.split("| system | MNIST to 98 %")[1].split("\n\n")[0].splitlines()[2:]:
        name, seconds, memory, *_ = (cell.strip(" *") for cell in line.strip("|").split("|"))
        rows[name] = (seconds, memory)
    systems = ("scikit-learn", "Keras on JAX", "PyTorch, eager", "xpnet, plain NumPy", "xpnet, extra `fast`")
    (times,) = re.findall(r"(?m)^\| MNIST to 98 %.*$", README)
    (memory,) = re.findall(r"(?m)^\| memory, for an epoch .*$", README)
    assert re.findall(r"[\d.]+ s", times) == [rows[name][0] for name in systems]
    assert re.findall(r"\d+ MiB", memory) == [rows[name][1] for name in systems]


def test_the_picture_has_words_and_is_small() -> None:
    (words, path) = re.findall(r"(?s)!\[(.+?)\]\((.+?)\)", README)[0]
    assert len(words) > 80
    assert (ROOT / path).stat().st_size < 60_000
    assert (ROOT / path).with_suffix(".py").exists()  # the program that made it


def test_names_exist() -> None:
    """Every `xpnet.name` and every layer, loss and optimizer that the documents mention can be imported."""
    for text in (README, CONTRIBUTING, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")):
        for dotted in re.findall(r"\bxpnet((?:\.\w+)+)\b(?!\.\w|/)", text):
            pkgutil.resolve_name("xpnet" + dotted)  # imports what is imported on demand only
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for name in re.findall(r"`([A-Z]\w+)`", changes):
        assert any(hasattr(place, name) for place in (xpnet, xpnet.errors, estimators)), name
    missing = {
        name
        for name in xpnet.__all__
        if isinstance(value := getattr(xpnet, name), type)
        and issubclass(value, xpnet.Layer | xpnet.Loss | xpnet.Optimizer)
        and f"`{name}`" not in changes
    }
    assert missing == {"Layer", "Loss", "Optimizer"}


def test_module_reports_versions_and_backends() -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "xpnet"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"xpnet {xpnet.__version__}, Python {sys.version_info.major}.")
    for word in ("backends", "numpy", "cupy", "packages", "rich"):
        assert re.search(rf"^ *{word}\b", result.stdout, flags=re.MULTILINE), word
