"""Matrix products in code of our own: they have NumPy's bits, or are not used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from labels import label

from xpnet.backends.cpu import openblas

pytest.importorskip("llvmlite", reason="the extra fast is not installed")

from llvmlite import ir

from xpnet.backends.cpu import borrowed, gemm, own
from xpnet.backends.cpu.chain import Chain, Piece, Task
from xpnet.backends.cpu.functions import Call
from xpnet.backends.cpu.gemm import Gemm
from xpnet.backends.cpu.own import DEEP, FAR, LEAST, LONGEST, NEAREST, Product
from xpnet.backends.cpu.products import SMALL

BLAS = openblas.of_numpy()
AVX512 = BLAS is not None and BLAS.kernels in openblas.WIDE
KINDS = ["f", "d"]

# rows, sums, registers for a row of the result, how the factors lie ("T": transposed), whether it is added
CASES = [
    (2, 2, 1, "NN", False),
    (15, 7, 1, "NN", True),
    (16, 48, 1, "NN", False),
    (17, 48, 1, "TN", False),
    (1024, 48, 1, "NN", True),
    (9, 128, 1, "TN", True),
    (48, 128, 1, "TN", True),
    (50, 16, 3, "NN", False),
    (23, 100, 3, "TN", True),
    (100, 33, 2, "NN", False),
    (48, 320, 2, "TN", False),
    (66, 200, 4, "NN", False),
    (6, 180, 4, "TN", False),
    # not small for OpenBLAS
    (64, 500, 8, "NN", False),
    (128, 784, 8, "NN", False),
    (65, 1000, 10, "NN", False),
    (31, 900, 7, "NN", False),
    (4, 700, 48, "NN", False),
    (128, 120, 16, "NN", True),
    (100, 470, 12, "NT", False),
    (33, 449, 9, "NT", False),
    (70, 128, 18, "NT", True),
    (192, 128, 16, "TN", False),
    (77, 128, 22, "TN", True),
    (90, 190, 15, "TT", False),
    (130, 500, 80, "NN", False),
    (20, 500, 81, "NT", False),
    (700, 64, 4, "NN", False),
]
Case = tuple[int, int, int, str, bool]


@pytest.fixture(autouse=True)
def anew() -> Any:
    """Forget what was tried, before and after."""
    own.agrees.cache_clear()
    yield
    own.agrees.cache_clear()


def described(kind: str, case: Case, apart: int = 0, more: int = 0) -> Product:
    """Return what a case is like, with so many numbers between the rows, and so many more columns."""
    rows, inner, vectors, how, add = case
    columns, (a, b) = vectors * (16 if kind == "f" else 8) + more, (letter == "T" for letter in how)
    steps = (rows if a else inner) + apart, (inner if b else columns) + apart, columns + apart
    return Product(kind, rows, inner, columns, (a, b), steps, add)


def arrays(wanted: Product) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return factors and a result like these."""
    rng = np.random.default_rng(0)

    def matrix(height: int, width: int, step: int, turned: bool = False) -> np.ndarray:
        if turned:
            return matrix(width, height, step).T
        return rng.normal(size=(height, step)).astype(wanted.kind)[:, :width]

    (a, b), (first, second, third) = wanted.turned, wanted.steps
    return (
        matrix(wanted.rows, wanted.inner, first, a), matrix(wanted.inner, wanted.columns, second, b),
        matrix(wanted.rows, wanted.columns, third),
    )  # fmt: skip


def run(pieces: list[Piece]) -> None:
    Chain([Task([pieces])])()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("apart", "more"), [(0, 0), (7, 5)])
@pytest.mark.parametrize("case", CASES, ids=label)
def test_a_product(kind: str, case: Case, apart: int, more: int) -> None:
    wanted = described(kind, case, apart, more)
    a, b, out = arrays(wanted)
    assert out.base is not None
    exact = a.astype(np.longdouble) @ b + (out if wanted.add else 0)
    around = out.base[:, wanted.columns :].copy()
    run(wanted.pieces(a, b, out))
    np.testing.assert_allclose(out, exact.astype(kind), rtol=0, atol=1000 * np.finfo(kind).eps)
    np.testing.assert_array_equal(out.base[:, wanted.columns :], around)


@pytest.mark.skipif(BLAS is None, reason="this NumPy does not come with an OpenBLAS of its own")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("more", [0, 3])
@pytest.mark.parametrize("case", CASES, ids=label)
def test_whatever_the_processor_the_bits_are_those_of_numpy(
    monkeypatch: pytest.MonkeyPatch, kind: str, case: Case, more: int
) -> None:
    monkeypatch.setattr(openblas, "WIDE", (BLAS.kernels,))  # with other kernels most are tried in vain
    a, b, out = arrays(described(kind, case, more=more))
    with openblas.single():
        expected = out + a @ b if case[-1] else a @ b
    run([piece for piece in borrowed.product(a, b, out, case[-1]) if piece])
    assert out.tobytes() == expected.tobytes()


def code(made: list[Any]) -> type:
    (found,) = {type(piece.code) for piece in made}
    return found


only_with_avx512 = pytest.mark.skipif(not AVX512, reason="OpenBLAS's kernels here are not those for AVX-512")


@only_with_avx512
@pytest.mark.parametrize(("kind", "more"), [("f", 0), ("f", 5), ("d", 0)])
@pytest.mark.parametrize("case", CASES, ids=label)
def test_kernels_for_avx512_add_up_in_the_same_way(kind: str, more: int, case: Case) -> None:
    wanted = described(kind, case, more=more)
    assert own.agrees(wanted) or (wanted.small and more)  # the last columns of small ones: now so, now so
    a, b, out = arrays(wanted)
    made = code(borrowed.product(a, b, out, case[-1]))
    assert made is (Gemm if wanted.worth and own.agrees(wanted) else Call)
    assert wanted.worth or wanted.small


@pytest.mark.parametrize(("inner", "lengths"), [
    (2, [2]), (448, [448]), (449, [224, 225]), (784, [400, 384]), (896, [448, 448]), (1800, [448, 448, 448, 240, 216]),
])  # fmt: skip
def test_sums_are_cut_as_openblas_does(inner: int, lengths: list[int]) -> None:
    starts = np.cumsum([0, *lengths[:-1]])
    assert Product("f", SMALL, inner, 16, (False, False), (1, 1, 1), False).runs() == [
        *zip(starts, lengths, strict=True)
    ]
    assert Product("f", 2, inner, 16, (False, False), (1, 1, 1), False).runs() == [(0, inner)]


@only_with_avx512
def test_what_openblas_does_as_fast_is_left_to_it() -> None:
    def made(*size: int, how: str = "NN", apart: int = 0) -> type:
        rows, inner, columns = size
        wanted = described("f", (rows, inner, 1, how, False), apart)._replace(columns=columns)
        wanted = wanted._replace(steps=(wanted.steps[0], inner if how[1] == "T" else columns, columns))
        return code(borrowed.product(*arrays(wanted)))

    assert made(1024, 48, 16) is Gemm
    assert made(1024, 48, 15) is Gemm
    assert made(LEAST // 768 - 1, 48, 16) is Call
    assert made(1024, 48, 16, how="NT") is Call
    assert made(1024, 48, 16, apart=FAR) is Call
    assert made(500, 48, 32) is Call
    assert made(80, NEAREST // 256, 64) is Call
    assert made(80, NEAREST // 256 + 1, 64) is Gemm
    assert made(128, 784, 128) is Gemm
    assert made(128, 784, 127) is Gemm
    assert made(3, 784, 512) is Call
    assert made(100, 15, 1008) is Call
    assert made(100, DEEP, 128, how="TN") is Gemm
    assert made(100, DEEP + 1, 128, how="TN") is Call


@pytest.mark.skipif(BLAS is None, reason="this NumPy does not come with an OpenBLAS of its own")
def test_each_thread_has_room_of_its_own() -> None:
    """Two threads copy columns of other matrices at the same time, again and again."""
    wanted = described("f", (128, 448, 8, "NT", False))
    every = [arrays(wanted) for _ in range(8)]
    for k, (a, _, _) in enumerate(every):
        a *= k + 1
    tasks = [Task([wanted.pieces(*three)], 0, 1 << 24) for three in every]
    chain = Chain(tasks, 2)
    first, second = ([p.table.raw[:8] for p in chain.pieces[k::2]] for k in (0, 1))
    assert len({*first}) == len({*second}) == 1
    assert first[0] != second[0]
    for _ in range(20):
        for *_, out in every:
            out[...] = np.nan
        chain()
        for a, b, out in every:
            np.testing.assert_allclose(out, a @ b, atol=1e-2)


class Rounded(gemm.Sums):
    """Rounds the product before it is added."""

    def fused(self) -> Any:
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        made = ir.Function(self._module, kind, self._module.get_unique_name("rounded"))
        b = ir.IRBuilder(made.append_basic_block())
        b.ret(b.fadd(b.fmul(*made.args[:2]), made.args[2]))
        return made


class OfAnotherOrder(Gemm):
    """The same code, compiled anew since its class is another one."""


@only_with_avx512
@pytest.mark.parametrize("case", CASES, ids=label)
def test_other_bits_are_found_in_a_trial(monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    monkeypatch.setattr(own, "Gemm", OfAnotherOrder)
    monkeypatch.setattr(gemm, "Sums", Rounded)
    wanted = described("f", case)
    assert not own.agrees(wanted)
    assert code(borrowed.product(*arrays(wanted), case[-1])) is Call


@only_with_avx512
def test_other_runs_are_found_in_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LONGEST, "f", 432)
    assert not own.agrees(described("f", (64, 900, 8, "NN", False)))
