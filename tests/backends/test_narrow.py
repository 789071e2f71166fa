"""Products of few columns in code of our own: they have NumPy's bits, or are not used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from labels import label

from xpnet.backends.cpu import openblas

pytest.importorskip("llvmlite", reason="the extra fast is not installed")

from llvmlite import ir

from xpnet.backends.cpu import borrowed, narrow
from xpnet.backends.cpu.chain import Chain, Task
from xpnet.backends.cpu.functions import Call
from xpnet.backends.cpu.narrow import FAR, Narrow, Product

BLAS = openblas.of_numpy()
AVX512 = BLAS is not None and BLAS.kernels in openblas.WIDE

# rows, sums, registers for a row, whether the first factor lies transposed, whether it is added
PRODUCTS = [
    (2, 2, 1, False, False),
    (15, 7, 1, False, True),
    (16, 48, 1, False, False),
    (17, 48, 1, True, False),
    (1024, 48, 1, False, True),
    (9, 128, 1, True, True),
    (48, 128, 1, True, True),
    (100, 33, 2, False, False),
    (48, 320, 2, True, False),
    (50, 16, 3, False, False),
    (23, 100, 3, True, True),
    (66, 200, 4, False, False),
    (6, 180, 4, True, False),
]
KINDS = ["f", "d"]


@pytest.fixture(autouse=True)
def anew() -> Any:
    """Forget what was tried, before and after."""
    narrow.agrees.cache_clear()
    yield
    narrow.agrees.cache_clear()


def arrays(kind: str, product: tuple[int, int, int, bool, bool], apart: int = 0) -> tuple[np.ndarray, ...]:
    """Return factors and a result, with some numbers between their rows."""
    rows, inner, vectors, turned, _ = product
    columns, rng = vectors * (16 if kind == "f" else 8), np.random.default_rng(0)

    def matrix(height: int, width: int) -> np.ndarray:
        return rng.normal(size=(height, width + apart)).astype(kind)[:, :width]

    a = matrix(inner, rows).T if turned else matrix(rows, inner)
    return a, matrix(inner, columns), matrix(rows, columns)


def described(kind: str, product: tuple[int, int, int, bool, bool], apart: int = 0) -> Product:
    rows, inner, vectors, turned, add = product
    columns = vectors * (16 if kind == "f" else 8)
    steps = (rows if turned else inner) + apart, columns + apart, columns + apart
    return Product(kind, rows, inner, columns, turned, steps, add)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("apart", [0, 3])
@pytest.mark.parametrize("product", PRODUCTS, ids=label)
def test_a_product_of_few_columns(kind: str, product: tuple[int, int, int, bool, bool], apart: int) -> None:
    a, b, out = arrays(kind, product, apart)
    whole = out if out.base is None else out.base
    exact = a.astype(np.longdouble) @ b + (out if product[-1] else 0)
    around = whole[:, out.shape[1] :].copy()
    Chain([Task([[described(kind, product, apart).piece(a, b, out)]])])()
    np.testing.assert_allclose(out, exact.astype(kind), rtol=0, atol=300 * np.finfo(kind).eps)
    np.testing.assert_array_equal(whole[:, out.shape[1] :], around)


@pytest.mark.skipif(BLAS is None, reason="this NumPy does not come with an OpenBLAS of its own")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("product", PRODUCTS, ids=label)
def test_whatever_the_processor_the_bits_are_those_of_numpy(
    monkeypatch: pytest.MonkeyPatch, kind: str, product: tuple[int, int, int, bool, bool]
) -> None:
    monkeypatch.setattr(openblas, "WIDE", (BLAS.kernels,))  # with other kernels most are tried in vain
    a, b, out = arrays(kind, product)
    expected = out + a @ b if product[-1] else a @ b
    made = borrowed.product(a, b, out, product[-1])
    Chain([Task([made])])()
    assert out.tobytes() == expected.tobytes()


def code(made: list[Any]) -> type:
    (piece,) = made
    return type(piece.code)


@pytest.mark.skipif(not AVX512, reason="OpenBLAS's kernels here are not those for AVX-512")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("product", PRODUCTS, ids=label)
def test_kernels_for_avx512_add_up_in_the_same_way(kind: str, product: tuple[int, int, int, bool, bool]) -> None:
    assert narrow.agrees(described(kind, product))
    worth = product[2] % 2 == 1 or product[1] * product[2] * 64 > narrow.NEAREST
    a, b, out = arrays(kind, product)
    assert code(borrowed.product(a, b, out, product[-1])) is (Narrow if worth else Call)


@pytest.mark.skipif(not AVX512, reason="OpenBLAS's kernels here are not those for AVX-512")
def test_what_is_no_product_of_few_columns_is_left_to_openblas() -> None:
    a, b, out = arrays("f", (64, 48, 1, False, False))
    assert code(borrowed.product(a, b, out)) is Narrow
    assert code(borrowed.product(a, np.asfortranarray(b), out)) is Call  # the second lies transposed
    assert code(borrowed.product(a, b[:, :15], out[:, :15])) is Call
    assert code(borrowed.product(np.zeros((64, FAR + 1), "f")[:, :48], b, out)) is Call
    a, b, out = arrays("f", (2000, 48, 1, False, False))  # larger than a small one
    assert code(borrowed.product(a, b, out)) is Call


class Rounded(Narrow):
    """Rounds the product before it is added."""

    def _fused(self, module: Any, vector: Any) -> Any:
        made = ir.Function(module, ir.FunctionType(vector, [vector] * 3), module.get_unique_name("rounded"))
        b = ir.IRBuilder(made.append_basic_block())
        b.ret(b.fadd(b.fmul(*made.args[:2]), made.args[2]))
        return made


@pytest.mark.skipif(not AVX512, reason="OpenBLAS's kernels here are not those for AVX-512")
@pytest.mark.parametrize("product", PRODUCTS, ids=label)
def test_other_bits_are_found_in_a_trial(
    monkeypatch: pytest.MonkeyPatch, product: tuple[int, int, int, bool, bool]
) -> None:
    monkeypatch.setattr(narrow, "Narrow", Rounded)
    assert not narrow.agrees(described("f", product))
    a, b, out = arrays("f", product)
    assert code(borrowed.product(a, b, out, product[-1])) is Call
