"""The house: a folder is a subject, and folders do not look back. Every import is read, also those inside functions."""

import ast
import re
from pathlib import Path

import pytest

import xpnet

PACKAGE = Path(xpnet.__file__).parent
CONTRIBUTING = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
FLOORS = re.search(r"```text\n(.*?)```", CONTRIBUTING.partition("## The folders")[2], re.DOTALL)[1].splitlines()
"""From the lowest to the highest. Rooms on one floor do not know each other."""


def rooms():
    """Return the floor of each room, by the names as they stand in the map: "model", "backends.tape"."""
    found = {}
    for floor, line in enumerate(FLOORS):
        found |= dict.fromkeys(line.partition("  ")[0].split(), floor)
    return found


ROOMS = rooms()


def module(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


MODULES = {module(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room(name):
    """Return the room of a module: the longest name in the map that it begins with."""
    if name in ("", "__main__"):
        return "."  # the package itself
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        if ".".join(parts[:count]) in ROOMS:
            return ".".join(parts[:count])
    raise AssertionError(f"xpnet.{name} has no room: CONTRIBUTING.md has the map of the house")


def imports(source, known=MODULES):
    """Return the modules of xpnet that a source imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            named = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name.removeprefix("xpnet.") in known else node.module for name in named}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name.removeprefix("xpnet").lstrip(".") for name in found if name.partition(".")[0] == "xpnet"}


def arrows():
    return {name: imports(path.read_text(encoding="utf-8")) - {name} for name, path in MODULES.items()}


def problems(graph):
    """Return the arrows that go upwards or between rooms of one floor, and the circles within a room."""
    found = []
    for name, targets in graph.items():
        for target in targets:
            here, there = room(name), room(target)
            if here != there and ROOMS[there] >= ROOMS[here]:
                found.append(f"xpnet.{name} ({here}) imports xpnet.{target} ({there})")
    state = {}

    def walk(name, path):
        state[name] = "open"
        for target in graph.get(name, ()):
            if state.get(target) == "open":
                found.append("circle: " + " -> ".join([*path[path.index(target) :], target]))
            elif target not in state:
                walk(target, [*path, target])
        state[name] = "done"

    for name in graph:
        if name not in state:
            walk(name, [name])
    return found


def test_no_arrow_goes_upwards_and_none_in_a_circle():
    assert problems(arrows()) == []


def test_every_module_has_a_room_and_every_room_a_module():
    assert {room(name) for name in MODULES} == set(ROOMS)


@pytest.mark.parametrize(
    ("name", "source", "problem"),
    [
        (
            "model.core",
            "def f():\n    from xpnet.training import fit",
            "xpnet.model.core (model) imports xpnet.training.fit",
        ),
        ("layers.base", "if X:\n    from xpnet.network import mlp", "xpnet.layers.base (layers) imports xpnet.network"),
        ("backends.tape.plan", "import xpnet.backends.cpu.replay", "xpnet.backends.tape.plan (backends.tape) imports"),
        ("backends.cpu.replay", "import xpnet.backends.cuda.graph", "xpnet.backends.cpu.replay (backends.cpu) imports"),
        ("layers.base", "from xpnet.layers import linear", "circle: "),
    ],
)
def test_an_arrow_that_does_not_belong_is_seen(name, source, problem):
    graph = arrows()
    found = problems(graph | {name: graph[name] | imports(source)})
    assert any(line.startswith(problem) for line in found)
