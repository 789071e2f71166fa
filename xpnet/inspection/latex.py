"""Python expressions of arrays as LaTeX, for the formulas that stand in docstrings."""

from __future__ import annotations

import ast
from collections.abc import Mapping

_SUM, _REDUCTION, _PRODUCT, _POWER, _ATOM = range(1, 6)  # how tightly an expression binds
_COMPARE = {ast.Gt: ">", ast.Lt: "<", ast.GtE: r"\ge", ast.LtE: r"\le", ast.Eq: "=", ast.NotEq: r"\ne"}
_FUNCTIONS = {
    "maximum": r"\max", "minimum": r"\min", "log": r"\log", "tanh": r"\tanh", "normal_cdf": r"\Phi",
    "sin": r"\sin", "cos": r"\cos",
}  # fmt: skip
_REDUCTIONS = {"sum": r"\sum", "max": r"\max"}
_SPECIAL = str.maketrans(
    {c: "\\" + c for c in "{}$&#_%"}
    | {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
)
_AXES = {0: "_{\\text{samples}}", 1: "_{\\text{outputs}}", 2: "_{\\text{places}}", None: ""}


def latex(expression: str, symbols: Mapping[str, str]) -> str:
    r"""Return LaTeX for a Python expression; `symbols` says how names are written.

    `*` of two arrays, number by number, becomes a circled dot, `@` a product of matrices, a comparison a bracket that
    is 1 where it holds and else 0. Names that stand in no bracket or call and are not in `symbols` are set as they are.

    >>> latex("dy * (y > 0)", {"dy": r"\delta"})
    '\\delta \\odot \\left[y > 0\\right]'
    """
    return _Writer(symbols).write(ast.parse(expression, mode="eval").body)[0]


def escaped(text: str) -> str:
    r"""Return LaTeX that shows `text` as it is, such as the name of a class.

    >>> escaped("My_Layer")
    'My\\_Layer'
    """
    return text.translate(_SPECIAL)


class _Writer:
    def __init__(self, symbols: Mapping[str, str]) -> None:
        self.symbols = symbols

    def within(self, node: ast.expr, level: int) -> str:
        """Return LaTeX for `node`, in brackets if it binds less tightly than `level`."""
        text, own = self.write(node)
        return text if own >= level else rf"\left({text}\right)"

    def write(self, node: ast.expr) -> tuple[str, int]:
        """Return LaTeX and how tightly it binds."""
        match node:
            case ast.Constant(value=value):
                return _number(value), _ATOM
            case ast.Name(id=name):
                return self.symbols.get(name, r"\pi" if name == "pi" else name), _ATOM
            case ast.Attribute(value=inner, attr="T" | "mT"):
                return self.within(inner, _ATOM) + r"^{\top}", _POWER
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return "-" + self.within(operand, _PRODUCT), _SUM
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
                return rf"\left[{self.write(left)[0]} {_COMPARE[type(op)]} {self.write(right)[0]}\right]", _ATOM
            case ast.BinOp(left=left, op=op, right=right):
                return self.operation(left, op, right)
            case ast.List(elts=parts):
                return rf"\left[{', '.join(self.write(part)[0] for part in parts)}\right]", _ATOM
            case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
                return self.call(name, args, {k.arg: ast.literal_eval(k.value) for k in keywords})
            case _:
                return rf"\texttt{{{escaped(ast.unparse(node))}}}", _ATOM

    def operation(self, left: ast.expr, op: ast.operator, right: ast.expr) -> tuple[str, int]:
        match op:
            case ast.Add():
                return f"{self.within(left, self._left(left))} + {self.within(right, _SUM)}", _SUM
            case ast.Sub():
                return f"{self.within(left, self._left(left))} - {self.within(right, _REDUCTION)}", _SUM
            case ast.Div():
                return rf"\frac{{{self.write(left)[0]}}}{{{self.write(right)[0]}}}", _PRODUCT
            case ast.Pow():
                return f"{self.within(left, _ATOM)}^{{{self.write(right)[0]}}}", _POWER
            case ast.Mult() if isinstance(left, ast.Constant) and left.value == 1:  # makes a number of a comparison
                return self.write(right)
            case ast.MatMult():
                return rf"{self.within(left, _PRODUCT)} \, {self.within(right, _PRODUCT)}", _PRODUCT
            case ast.Mult() | ast.BitAnd():
                a, b = self.within(left, _PRODUCT), self.within(right, _PRODUCT)
                dot = r"\cdot" if b[:1].isdigit() else r"\," if _is_number(left) or _is_number(right) else r"\odot"
                return f"{a} {dot} {b}", _PRODUCT
            case _:
                return rf"\texttt{{{escaped(ast.unparse(ast.BinOp(left, op, right)))}}}", _ATOM

    def _left(self, node: ast.expr) -> int:
        """Return how tightly what stands before a plus or minus must bind: a sum sign would take in what follows."""
        return _PRODUCT if self.write(node)[1] == _REDUCTION else _SUM

    def call(self, name: str, args: list[ast.expr], options: dict[str | None, object]) -> tuple[str, int]:
        # The array namespace is an argument of a user's functions, but not of the mathematics.
        inner = [self.write(a)[0] for a in args if not (isinstance(a, ast.Name) and a.id == "xp")]
        axis = options.get("axis")
        match name:
            case "exp":
                return f"e^{{{inner[0]}}}", _POWER
            case "sqrt":
                return rf"\sqrt{{{inner[0]}}}", _ATOM
            case "abs":
                return rf"\left|{inner[0]}\right|", _ATOM
            case "log1p":
                return rf"\log\left(1 + {inner[0]}\right)", _ATOM
            case "expm1":
                return rf"\left(e^{{{inner[0]}}} - 1\right)", _ATOM
            case "sum" | "max":
                return _REDUCTIONS[name] + _AXES[axis if isinstance(axis, int) else None] + self._body(
                    args[0]
                ), _REDUCTION
            case _:
                symbol = self.symbols.get(name, _FUNCTIONS.get(name, rf"\operatorname{{{escaped(name)}}}"))
                return rf"{symbol}\left({', '.join(inner)}\right)", _ATOM

    def _body(self, node: ast.expr) -> str:
        text, level = self.write(node)
        return f" {text}" if level >= _PRODUCT else rf"\left({text}\right)"


def _number(value: object) -> str:
    mantissa, _, exponent = repr(value).partition("e")
    return rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if exponent else mantissa


def _is_number(node: ast.expr) -> bool:
    """Say whether a factor is one number rather than an array: then no circled dot is set beside it."""
    match node:
        case ast.Constant():
            return True
        case ast.Name(id=name):
            return name == "pi"
        case ast.UnaryOp(operand=operand):
            return _is_number(operand)
        case ast.Call(func=ast.Name(id="sqrt"), args=[argument]):
            return _is_number(argument)
        case ast.BinOp(left=left, right=right):
            return _is_number(left) and _is_number(right)
        case _:
            return False
