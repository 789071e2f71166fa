"""What the source of xpnet must not contain: no layer names an array library, takes a side, or reads a number back."""

import ast
from pathlib import Path

import pytest

import xpnet

PACKAGE = Path(xpnet.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MATHEMATICS = [
    *(path for folder in ("layers", "losses") for path in sorted((PACKAGE / folder).glob("*.py"))),
    *(PACKAGE / f"{n}.py" for n in ("optimizers", "special")),
]
LIBRARIES = {"numpy", "np", "cupy", "cp", "torch", "jax", "array_api_strict", "array_api_compat"}
OWN_GENERATORS = {"Generator", "SeedSequence", "default_rng", "PCG64", "BitGenerator", "RandomState"}
READS_BACK = {"item", "tolist", "get", "__array__"}
ASKS_THE_DEVICE = {"clip", "sign", "where", "nonzero", "unique_values", "unique_all", "unique_counts", "count_nonzero"}


def functions_of_arrays(tree):
    """Yield every function that is handed an array namespace."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.Lambda) and "xp" in [a.arg for a in node.args.args]:
            yield node


def body(function):
    """Yield what a function does: not its annotations, not its docstring."""
    for statement in function.body if isinstance(function, ast.FunctionDef) else [function.body]:
        yield from ast.walk(statement)


def offences(source):
    """Return what is wrong with the code of layers, losses and optimizers, one line each."""
    tree, found = ast.parse(source), []
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.MatMult):
            found.append(f"line {node.lineno}: @ instead of xp.matmul")
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [
                f"line {node.lineno}: imports {name}" for name in names if name.split(".")[0] in LIBRARIES - {"numpy"}
            ]
    for function in functions_of_arrays(tree):
        for node in body(function):
            place = f"line {getattr(node, 'lineno', '?')}"
            if isinstance(node, ast.Name) and node.id in LIBRARIES:
                found.append(f"{place}: names {node.id}")
            if isinstance(node, ast.Name) and node.id in {
                "float",
                "bool",
                "complex",
                "isinstance",
                "hasattr",
                "getattr",
                "backend",
            }:
                found.append(f"{place}: {node.id}")
            if isinstance(node, ast.Attribute) and node.attr in READS_BACK | {"__name__", "backend"}:
                found.append(f"{place}: .{node.attr}")
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "xp":
                found += [f"{place}: xp.{node.attr}"] * (node.attr in ASKS_THE_DEVICE)
            if isinstance(node, ast.Compare) and any(
                (isinstance(side, ast.Name) and side.id == "xp")
                or (isinstance(side, ast.Attribute) and side.attr == "device")
                for side in (node.left, *node.comparators)
            ):
                found.append(f"{place}: a branch on the backend")
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Compare):
                found.append(f"{place}: a boolean mask")
    return found


@pytest.mark.parametrize("path", MATHEMATICS, ids=lambda path: path.name)
def test_mathematics_is_written_against_the_standard_alone(path):
    assert offences(path.read_text()) == []


def test_there_is_mathematics_to_look_at():
    count = sum(len(list(functions_of_arrays(ast.parse(path.read_text())))) for path in MATHEMATICS)
    assert count >= 40


def test_the_heart_of_the_step_follows_the_same_rules():
    heart = ("layers/walk.py", "model/parameters.py", "model/core.py", "training/step.py", "training/objective.py")
    names = {
        "forward_pass",
        "backward_pass",
        "split",
        "objective",
        "differentiate",
        "collect",
        "step",
        "pass_through",
        "finish",
    }
    trees = [ast.parse((PACKAGE / name).read_text()) for name in heart]
    chosen = [f for tree in trees for f in functions_of_arrays(tree) if f.name in names]
    assert {f.name for f in chosen} == names
    for function in chosen:
        found = offences(ast.unparse(function))
        # in half precision a step that is skipped writes the old values: a choice between them, without a look at any
        assert [line for line in found if not line.endswith("xp.where")] == []


@pytest.mark.parametrize(
    ("line", "offence"),
    [
        ("y = x @ x", "@ instead of xp.matmul"),
        ("x @= x", "@ instead of xp.matmul"),
        ("y = np.sqrt(2) * x", "names np"),
        ("y = numpy.exp(x)", "names numpy"),
        ("import cupy", "imports cupy"),
        ("from array_api_compat import device", "imports array_api_compat"),
        ("y = xp.clip(x, 0, 1)", "xp.clip"),
        ("y = xp.sign(x)", "xp.sign"),
        ("y = xp.where(x > 0, x, 0.0)", "xp.where"),
        ("y = x.item()", ".item"),
        ("y = float(xp.sum(x))", "float"),
        ("y = bool(xp.any(x > 0))", "bool"),
        ("y = 1 if xp.__name__ == 'cupy' else 2", ".__name__"),
        ("y = 1 if x.device == 'cpu' else 2", "a branch on the backend"),
        ("y = 1 if xp is fast else 2", "a branch on the backend"),
        ("y = 1 if hasattr(xp, 'linalg') else 2", "hasattr"),
        ("y = x[x > 0]", "a boolean mask"),
    ],
)
def test_an_offence_is_seen(line, offence):
    assert any(found.endswith(offence) for found in offences(f"def f(xp, x):\n    '''y = x @ W'''\n    {line}\n"))
    assert offences("def f(xp, x):\n    '''y = np.clip(x @ W)'''\n    return xp.matmul(x, x)\n") == []


ONLY = {"cupy": "cupy", "cupyx": "cupy", "cupy_backends": "cupy", "torch": "torch"}
"""Libraries, and the only file in `backends` that imports each."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_backend_of_a_library_imports_it(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            named = {ONLY[name.split(".")[0]] for name in modules if name.split(".")[0] in ONLY}
            assert named <= {path.stem}, f"line {node.lineno}"
            assert not named or path.parent == PACKAGE / "backends", f"line {node.lineno}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_global_random_state_is_not_named(path):
    """Every random number comes from a Generator that is passed on, or made from a seed."""
    if path.name == "surroundings.py":
        return  # looks whether a user's layer has drawn from it
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "random":
            assert node.attr in OWN_GENERATORS, f"line {node.lineno}"
