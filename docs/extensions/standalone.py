"""The programs of ``examples/`` without the module that they share: copied from a page, they run alone.

The command line becomes constants, a demand becomes the sentence that it proves, and pictures open in windows.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from pathlib import Path

COMMON = Path(__file__).resolve().parents[2] / "examples" / "common.py"

GONE = "# gone"
"""Marks a line that is left out."""

Edit = tuple[int, int, str]
Written = Callable[[ast.AST], str]


def standalone(text: str, smaller: Mapping[str, str] | None = None) -> str:
    """Return the program `text` with nothing from `common`.

    `smaller` are options that are not to have their defaults, as source: ``{"epochs": "1"}``.
    """
    text = without_common(text, dict(smaller or {}))
    if "bars(" in text:
        text = text.replace("\nbackend = ", f"\n\n{function('bars')}\n\n\nbackend = ", 1)
    if "plots." in text:
        imports = "from matplotlib import pyplot\n\nimport xpnet\nfrom xpnet import plots\n"
        text = re.sub(r"\n*\nimport xpnet\n", f"\n\n{imports}", text, count=1) + "pyplot.show()\n"
    text = text.replace('Path(__file__).with_name("data")', 'Path("examples/data")')  # from the folder of a clone
    return text.replace("import numpy as np\n\nfrom ", "import numpy as np\nfrom ")


def without_common(text: str, smaller: dict[str, str]) -> str:
    """Return the program after the changes that follow from its syntax tree."""
    source = text.encode()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    edits: list[Edit] = []

    def place(node: ast.expr | ast.stmt) -> tuple[int, int]:
        return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset

    def written(node: ast.expr | ast.stmt) -> str:
        begin, end = place(node)
        inner = [(a - begin, b - begin, new) for a, b, new in edits if begin <= a and b <= end]
        return apply(source[begin:end], inner).decode()

    # From the innermost nodes outwards: what an outer one writes contains what was changed within it.
    for node in reversed([*ast.walk(ast.parse(text))]):
        new = replaced(node, written, smaller)
        if new is not None:
            begin, end = place(node)
            edits = [edit for edit in edits if not begin <= edit[0] < end]
            edits.append((begin, end, new))
    text = re.sub(r"\[: (\w+)\]", r"[:\1]", apply(source, edits).decode())
    text = re.sub(rf"\n\n{GONE}.*\n\n", "\n\n", without_goals(text))
    return re.sub(rf"(?m)^ *({GONE}.*|(\w+) = \2)\n", "", text)


def apply(source: bytes, edits: list[Edit]) -> bytes:
    """Return the source with parts replaced, which do not overlap."""
    for begin, end, new in sorted(edits, reverse=True):
        source = source[:begin] + new.encode() + source[end:]
    return source


def replaced(node: ast.AST, written: Written, smaller: dict[str, str]) -> str | None:
    """Return what stands in the place of a node, or None if it stays."""
    match node:
        case ast.Import(names=[ast.alias(name="common")]):
            return GONE
        case ast.Assign(value=ast.Call(func=ast.Attribute(value=ast.Name("common"), attr="arguments")) as call):
            return constants(call, written, smaller)
        case ast.IfExp(test=ast.Attribute(value=ast.Name("args"), attr="full" | "plots" as name)):
            return written(node.orelse if name == "full" and smaller else node.body)
        case ast.If(
            test=ast.UnaryOp(op=ast.Not(), operand=ast.Attribute(value=ast.Name("args"), attr="full" | "first"))
        ):
            return GONE
        case ast.If(test=ast.Attribute(value=ast.Name("args"), attr="first"), body=[statement]):
            return written(statement)
        case ast.keyword(value=ast.Attribute(value=ast.Name("args"), attr="parallel")):
            return GONE
        case ast.Attribute(value=ast.Name("args"), attr=name):
            return {"full": str(not smaller), "plots": "True"}.get(name, name)
        case ast.Attribute(value=ast.Name("common"), attr="bars"):
            return "bars"
        case ast.Call(func=func, args=[ast.Attribute(value=ast.Name("common"), attr="MNIST")]):
            return f"{written(func)}()"
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name("common"), attr="require"), args=[claim, _])):
            return f"print({said(written(claim))})"
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name("common"), attr="draw"), args=[_, pictures])):
            return ("\n" + " " * node.col_offset).join(written(value) for value in pictures.body.values)
    return None


def said(claim: str) -> str:
    """Return a claim with what came out, without what is demanded."""
    claim = re.sub(r", (\{[^{}]*\}), is at least \{[^{}]*\}", r": \1", claim)
    return re.sub(r", (at least|below) \{[^{}]*\}", "", claim)


def constants(call: ast.Call, written: Written, smaller: dict[str, str]) -> str:
    """Return an assignment for each option of the command line."""
    values, choices = {}, call.args[1:]
    for keyword in call.keywords:
        if keyword.arg == "choices":
            choices.append(keyword.value)
        elif keyword.arg != "shared":
            values[keyword.arg] = written(keyword.value)
    for words in choices:
        values |= {key.value: written(w.elts[0]) for key, w in zip(words.keys, words.values, strict=True)}
    lines = ['backend = "numpy"  # or "cupy", "torch:cuda", "torch:mps"']
    return "\n".join([*lines, *(f"{name} = {value}" for name, value in (values | smaller).items())])


def without_goals(text: str) -> str:
    """Return the program without its assignments to ``goal``, if nothing but these reads it any more."""

    def reads(node: ast.AST) -> int:
        return sum(isinstance(n, ast.Name) and n.id == "goal" and isinstance(n.ctx, ast.Load) for n in ast.walk(node))

    tree = ast.parse(text)
    found = [n for n in ast.walk(tree) if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "goal"]
    if reads(tree) > sum(map(reads, found)):
        return text
    lines = text.splitlines(keepends=True)
    for node in found:
        lines[node.lineno - 1 : node.end_lineno] = [f"{GONE}\n"] * (node.end_lineno - node.lineno + 1)
    return "".join(lines)


def function(name: str) -> str:
    """Return a function of `common` without its types and its words."""
    tree = ast.parse(COMMON.read_text(encoding="utf-8"))
    (found,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    for argument in found.args.args:
        argument.annotation = None
    found.returns, found.body = None, found.body[1:]
    return ast.unparse(found)
