"""The documentation without building it: its programs run, its names exist, its pages and links are complete."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import xpnet
import xpnet.estimators
import xpnet.plots

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if not {"_build", "auto_examples", "generated"} & set(p.parts))
NAMES = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}

# Pages whose programs have tests of their own, with these.
OTHERS = {
    "migration.md": "tests/estimators",
    "tutorials/check_gradients.md": "tests/gradients",
    "worked_example.md": "tests/gradients",
    "convolution.md": "tests/gradients",
    "howto/processes.md": "tests/parallel",
}
LANGUAGES = {"sh", "text", "{run}", "{toctree}", "{eval-rst}", "{literalinclude}", "{include}", "{raw}"}
LANGUAGES |= {"{results}", "{names}"}


def fences(text: str) -> list[tuple[str, str]]:
    """Return the language and the content of each fenced block."""
    return re.findall(r"(?ms)^```(\S*)[^\n]*\n(.*?)^```$", text)


def run_blocks(text: str) -> list[str]:
    """Return the programs that the build runs, without the options of their directives."""
    return [re.sub(r"\A(:.*\n)+", "", content) for language, content in fences(text) if language == "{run}"]


# ----------------------------------------------------------------------------------------- programs


@pytest.mark.parametrize("page", [name for name, text in NAMES.items() if run_blocks(text)])
def test_the_programs_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    matplotlib.use("agg")
    from matplotlib import pyplot

    monkeypatch.chdir(tmp_path)  # some write files
    names: dict[str, object] = {"__name__": "__main__"}
    words = [re.match(r":alt: (.+)", content) for language, content in fences(NAMES[page]) if language == "{run}"]
    try:
        for k, program in enumerate(run_blocks(NAMES[page])):
            films = len(list(tmp_path.glob("*.gif")))
            exec(compile(program, f"{page}, program {k + 1}", "exec"), names)
            pictures = len(pyplot.get_fignums()) + len(list(tmp_path.glob("*.gif"))) - films
            alt = words[k]
            assert pictures == (len(alt[1].split("|")) if alt else 0), program  # as the build asks for
            pyplot.close("all")
    finally:
        pyplot.close("all")


def test_there_are_programs() -> None:
    assert sum(len(run_blocks(text)) for text in NAMES.values()) > 40


def test_no_program_is_left_out() -> None:
    """Python stands in blocks that are run; other pages have tests of their own, which name them."""
    for page, text in NAMES.items():
        languages = {language for language, _ in fences(text)}
        if page in OTHERS:
            sources = [path.read_text(encoding="utf-8") for path in (ROOT / OTHERS[page]).rglob("*.py")]
            assert any(Path(page).name in source for source in sources), page
        else:
            assert languages <= LANGUAGES, page


def test_programs_fit_on_the_page() -> None:
    for page, text in NAMES.items():
        for program in run_blocks(text):
            assert max(map(len, program.splitlines())) <= 88, (page, program)


def test_pictures_have_words() -> None:
    """A block that draws says what is to be seen, for those who do not see it."""
    for page, text in NAMES.items():
        for language, content in fences(text):
            if language == "{run}" and re.search(r"\bplots\.|\bpyplot\.sub", content):
                alt = re.match(r":alt: (.+)", content)
                assert alt is not None, (page, content)
                assert min(map(len, alt[1].split("|"))) > 25, (page, content)


def test_commands_name_what_exists() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    commands = [content for text in NAMES.values() for language, content in fences(text) if language == "sh"]
    assert len(commands) > 5
    for command in commands:
        assert set(re.findall(r'"\.\[(\w+)\]"', command)) <= set(extras)
        for path in re.findall(r"(?:examples|benchmarks|\.ci)/[\w./]+", command):
            assert (ROOT / path).exists(), path
    for text in NAMES.values():
        for path in re.findall(r"`(?:python )?((?:benchmarks|examples|backends|tests)/[\w./]+)", text):
            assert (ROOT / path).exists(), path


def modules() -> list[str]:
    """Return the names of all modules of xpnet."""
    names = {name for _, name, _ in pkgutil.walk_packages(xpnet.__path__, "xpnet.")}
    return ["xpnet", *sorted(names - {"xpnet.__main__"})]


def test_examples_in_docstrings() -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="the extra plot is not installed")
    pyplot.switch_backend("agg")
    attempted = 0
    for name in modules():
        result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
        pyplot.close("all")
        assert result.failed == 0, name
        attempted += result.attempted
    assert attempted > 250


# ---------------------------------------------------------------------------------------- reference


def documented() -> set[str]:
    """Return every name that the reference describes."""
    found = set()
    for page, text in NAMES.items():
        if page.startswith("api/"):
            for kind, target, options in re.findall(
                r"(?m)^\.\. auto(class|function|module):: (\S+)\n((?:   :.*\n)*)", text
            ):
                found.add(target)
                members = re.search(r":members:(.*)", options)
                if kind == "module" and members:
                    module = importlib.import_module(target)
                    listed = [name.strip() for name in members[1].split(",") if name.strip()]
                    left_out = re.search(r":exclude-members:(.*)", options)
                    own = [name for name, value in vars(module).items() if is_own(module, value)]
                    listed = listed or [name for name in own if not (left_out and name in left_out[1])]
                    found |= {f"{target}.{name}" for name in listed}
                elif members:
                    found |= {f"{target}.{name.strip()}" for name in members[1].split(",") if name.strip()}
    return found


def is_own(module: object, value: object) -> bool:
    return (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == module.__name__


def test_the_reference_names_what_exists() -> None:
    names = documented()
    assert len(names) > 120
    for name in names:
        pkgutil.resolve_name(name)


def test_the_reference_has_every_public_name() -> None:
    names = documented()
    wanted = {f"xpnet.{name}" for name in xpnet.__all__ if name != "XpnetError"} | {"xpnet.errors.XpnetError"}
    wanted |= {f"xpnet.plots.{name}" for name in xpnet.plots.__all__}
    wanted |= {f"xpnet.estimators.{name}" for name in xpnet.estimators.__all__}
    wanted |= {f"xpnet.backends.{name}" for name in xpnet.backends.__all__ if name != "NAMES"}
    wanted |= {f"xpnet.schedules.{name}" for name in xpnet.schedules.SCHEDULES}
    wanted |= {f"xpnet.initializers.{name}" for name in xpnet.initializers.INITIALIZERS}
    wanted |= {f"xpnet.{layer}" for layer in xpnet.layers.LAYERS}
    wanted |= {f"xpnet.{loss.__name__}" for loss in xpnet.losses.LOSSES.values()}
    wanted |= {f"xpnet.{optimizer.__name__}" for optimizer in xpnet.optimizers.OPTIMIZERS.values()}
    wanted |= {f"xpnet.errors.{name}" for name, value in vars(xpnet.errors).items() if is_own(xpnet.errors, value)}
    wanted -= {"xpnet.errors.closest", "xpnet.errors.warn_user", "xpnet.errors.needs"}  # helpers of the messages
    wanted |= {
        f"xpnet.datasets.{name}"
        for name, value in vars(xpnet.datasets).items()
        if inspect.isfunction(value) and is_own(xpnet.datasets, value) and not name.startswith("_")
    }
    assert wanted <= names | {"xpnet.schedules", "xpnet.initializers"}, sorted(wanted - names)


def test_public_names_have_docstrings() -> None:
    for name in documented():
        assert inspect.getdoc(pkgutil.resolve_name(name)), name


@pytest.mark.parametrize(
    "owner", [xpnet.Network, xpnet.Trainer, xpnet.Recorder, xpnet.History, xpnet.Callback], ids=lambda c: c.__name__
)
def test_the_methods_that_users_call_are_described(owner: type) -> None:
    """Every public method is in the reference, but for those that only xpnet itself calls."""
    inner = {
        "split",
        "named",
        "contexts",
        "objective",
        "penalize",
        "check_batch",
        "on_begin",
        "on_steps",
        "get_state",
        "set_state",
    }
    inner |= {"append", "truncate", "unknown", "mutable", "weight_done", "repair"}
    public = {name for name, value in vars(owner).items() if not name.startswith("_") and callable(value)}
    text = "".join(NAMES[page] for page in NAMES if page.startswith("api/"))
    block = re.search(rf"autoclass:: xpnet\.{owner.__name__}\n   :members:(.*)", text)
    assert block is not None
    listed = {name.strip() for name in block[1].split(",") if name.strip()}
    assert not listed or public - inner <= listed, public - inner - listed


# What users are given and do not make, or write themselves by one of the how-to pages.
GIVEN = {"Context", "Backend", "Layer", "Schedule", "Trace", "LayerTrace", "Statistics", "Curves", "Run", "Checkpoint"}
GIVEN |= {"GradientReport", "ArrayReport"}
# What layers, optimizers and losses have in common is described once, by their base classes.
CONTRACT = {"forward", "backward", "update", "update_state", "scalars", "__call__"}


def functions_and_classes() -> dict[str, object]:
    """Return what of the reference can be called, but for errors."""
    found = {name: pkgutil.resolve_name(name) for name in documented()}
    return {
        name: value
        for name, value in found.items()
        if callable(value) and not (isinstance(value, type) and issubclass(value, Exception))
    }


def owner(name: str) -> object:
    """Return the class that a method is of, or None."""
    place = pkgutil.resolve_name(name.rpartition(".")[0])
    return place if isinstance(place, type) else None


def test_everything_public_has_an_example_that_runs() -> None:
    """Its own or that of its class; losses and optimizers may share that of their base class."""
    without = set()
    for name, value in functions_and_classes().items():
        classes = [owner(name) or value]
        for shared in (xpnet.Loss, xpnet.Optimizer):
            if isinstance(classes[0], type) and issubclass(classes[0], shared):
                classes.append(shared)
        texts = [inspect.getdoc(value) or "", *(inspect.getdoc(c) or "" for c in classes)]
        if not any(">>> " in text for text in texts) and getattr(classes[0], "__name__", "") not in GIVEN:
            without.add(name)
    # What needs a file or an extra has its example on a page.
    elsewhere = {"xpnet.plots.animate_regions", "xpnet.Parquet", "xpnet.saving.export_training", "xpnet.parallel.MPI"}
    elsewhere |= {"xpnet.TensorBoardLog", "xpnet.datasets.fashion_mnist"}
    elsewhere |= {"xpnet.saving.network.save", "xpnet.inspection.recorder.default_every"}
    assert without == elsewhere


def test_everything_public_says_what_it_returns() -> None:
    """In a section, or in the first line where that is all there is to say."""
    without = set()
    for name, value in functions_and_classes().items():
        if isinstance(value, type) or name.rpartition(".")[2] in CONTRACT:
            continue
        text = inspect.getdoc(value) or ""
        returned = inspect.signature(value).return_annotation
        if (
            returned not in ("None", None)
            and "Returns\n-------" not in text
            and not re.match("Return|Say whether", text)
        ):
            without.add(name)
    assert without == {"xpnet.training.checkpoint.exit_on_sigterm"}  # for a `with`


def test_literal_sources_exist() -> None:
    found = 0
    for page, text in NAMES.items():
        for path, name in re.findall(r"```\{literalinclude\} (\S+)\n:pyobject: (\S+)", text):
            source = (DOCS / page).parent / path
            tree = ast.parse(source.read_text(encoding="utf-8"))
            places = {"": tree} | {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
            owner, _, short = name.rpartition(".")
            assert short in {getattr(node, "name", "") for node in places[owner].body}, (page, name)
            found += 1
    assert found >= 10


# -------------------------------------------------------------------------------------------- pages


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = ["index"]
    for page, text in NAMES.items():
        for language, content in fences(text):
            if language == "{toctree}":
                for line in content.splitlines():
                    if line and not line.startswith(":"):
                        target = re.sub(r".*<(.+)>", r"\1", line)
                        listed.append(os.path.normpath(Path(page).parent / target))
    pages = {page.removesuffix(".md") for page in NAMES}
    assert sorted(listed) == sorted({*pages, "auto_examples/index"})  # each once


def test_the_results_of_benchmarks_are_on_their_page() -> None:
    included = re.findall(r"```\{(?:include|results)\} (\S+)", NAMES["benchmarks.md"])
    assert included == ["../benchmarks/README.md", "../benchmarks/results/README.md", "../benchmarks/results"]
    assert all((DOCS / path).exists() for path in included)
    assert any(path.stem != "quick" for path in (DOCS / included[-1]).glob("*.png"))


def test_the_font_of_the_formulas_has_its_licence_beside_it() -> None:
    fonts = re.findall(r'url\("(fonts/[^"]+)"\)', (DOCS / "static" / "xpnet.css").read_text(encoding="utf-8"))
    assert fonts == ["fonts/xpnet-math.woff2"]
    licence = (DOCS / "static" / "fonts" / "LICENCE.txt").read_text(encoding="utf-8")
    for font in fonts:
        assert (DOCS / "static" / font).read_bytes()[:4] == b"wOF2"
        assert Path(font).name in licence


def test_links_between_pages_lead_somewhere() -> None:
    examples = {path.stem for path in (ROOT / "examples").rglob("*.py")}
    links = 0
    for page, text in NAMES.items():
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", re.sub(r"(?s)```.*?```", "", text)):
            if "://" in link:
                continue
            links += 1
            if "auto_examples/" in link:
                assert Path(link).stem in {*examples, "index"}, (page, link)
            else:
                assert (DOCS / page).parent.joinpath(link).is_file(), (page, link)
    assert links > 30


def test_messages_of_the_installation_page_are_those_of_the_library() -> None:
    """The headings of the page on trouble are pieces of the messages that one sees."""
    source = (ROOT / "xpnet" / "backends" / "cupy.py").read_text(encoding="utf-8")
    pieces = re.sub(r'"\n\s+f?"', "", source)  # messages that go over several lines
    headings = re.findall(r"(?m)^## (.*)$", NAMES["howto/gpu_installation.md"])
    quoted = [text for heading in headings for text in re.findall(r'"([^"]+)"', heading)]
    assert len(quoted) >= 5
    for text in quoted:
        library = text.removesuffix(" is missing")  # the source hands its name to one message for all libraries
        expected = re.sub(r" \d+$", "", text) if library == text else f'part = "{library}"'
        assert expected in pieces, text


# ------------------------------------------------------------------------------------------ gallery


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
