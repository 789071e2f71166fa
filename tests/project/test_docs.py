"""The documentation without building it: its programs run, its pages, pictures and links are complete."""

from __future__ import annotations

import ast
import os
import re
from itertools import pairwise
from pathlib import Path

import pytest
from documents import DOCS, NAMES, ROOT, fences, run_blocks

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


@pytest.mark.parametrize("page", [name for name, text in NAMES.items() if run_blocks(text)])
def test_the_programs_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    matplotlib.use("agg")
    from matplotlib import pyplot

    monkeypatch.chdir(tmp_path)  # some write files
    names: dict[str, object] = {"__name__": "__main__"}
    words = [re.match(r":alt: (.+)", content) for language, content in fences(NAMES[page]) if language == "{run}"]
    pyplot.close("all")  # what other tests left open is not counted
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


def test_a_screen_reader_gets_headings_in_order_and_tables_with_heads() -> None:
    for page, text in NAMES.items():
        words = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        levels = [len(marks) for marks in re.findall(r"^(#+) ", words, re.MULTILINE)]
        if "{include}" not in text:  # else the first heading is in what is included
            assert levels[0] == 1, page
            assert all(1 < b <= a + 1 for a, b in pairwise(levels)), (page, levels)
        for head in re.findall(r"^\|(.*)\|\n\|[ :|-]+\|$", words, re.MULTILINE):
            assert all(cell.strip() for cell in head.split("|")), (page, head)
        for alt in re.findall(r"!\[(.*?)\]", words, re.DOTALL):
            assert len(alt) > 25, page


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
    results = "../benchmarks/results"
    assert included == ["../benchmarks/README.md", f"{results}/README.md", f"{results}/scaling.md", results]
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
