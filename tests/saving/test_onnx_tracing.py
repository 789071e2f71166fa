"""Array code as ONNX: views, parts written in place, and functions, each against NumPy."""

import numpy as np
import onnx_files
import pytest

import xpnet.backends.numpy
from xpnet.errors import ConfigError
from xpnet.saving.onnx.functions import NoOperator
from xpnet.saving.onnx.graph import Graph
from xpnet.saving.onnx.model import made
from xpnet.saving.onnx.package import check_opset
from xpnet.saving.onnx.tracing import trace

XP = xpnet.backends.numpy.NumpyBackend().xp


def both(f, *arrays, opset=21):
    """Return what `f` gives in NumPy, and what its graph gives in onnxruntime."""
    expected = np.asarray(f(XP, *(a.copy() for a in arrays)))
    g = Graph(opset)
    named = {f"a{k}": g.input(f"a{k}", a.shape, a.dtype) for k, a in enumerate(arrays)}

    def call(xp, a):
        return xp.astype(f(xp, *(a[name] for name in named)), xp.float64)

    g.outputs = {"result": trace(g, call, named, expected.shape)}
    model = made(g, "", {}).SerializeToString()
    session = onnx_files.onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, dict(zip(named, arrays, strict=True)))
    return expected, found, [node.op for node in g.written()]


def put(key, value, in_place=False):
    def f(xp, x):
        y = x * 2.0
        if in_place:
            y[key] += value(xp, x)
        else:
            y[key] = value(xp, x)
        return y

    return f


def into(new, *writes):
    """Return a function that writes to parts of a new array."""

    def f(xp, x):
        y = new(xp, x)
        for key, factor in writes:
            y[key] = factor * x[key]
        return y

    return f


VIEWS = {
    "every other": lambda xp, x: x[:, ::2, 1:],
    "from behind": lambda xp, x: x[:, ::-1, ::-2],
    "backwards in the middle": lambda xp, x: x[:, 3:0:-1, :],
    "one of an axis": lambda xp, x: x[:, -1, 2:3],
    "a new axis": lambda xp, x: x[:, None, 1, :] + x[:, :, 0, None],
    "turned, then in a row": lambda xp, x: xp.reshape(xp.permute_dims(x, (2, 0, 1)), (-1, 6)),
    "turned twice": lambda xp, x: xp.permute_dims(xp.permute_dims(x, (2, 0, 1)), (1, 2, 0)),
    "turned and cut": lambda xp, x: xp.permute_dims(x, (2, 0, 1))[1::3, :, ::-1],
    "repeated": lambda xp, x: xp.broadcast_to(x[:, :1, :], x.shape) * x,
    "repeated and in a row": lambda xp, x: xp.reshape(xp.broadcast_to(x[:, :1, :], x.shape), (6, 20)),
    "repeated and cut": lambda xp, x: xp.broadcast_to(x[:, :, :1], x.shape)[:, 1:3, ::2],
    "cut of a cut": lambda xp, x: x[:, 1:, :][:, 1:3, :][:, :, 1:][:, :1, ::2],
    "in a row and cut": lambda xp, x: xp.reshape(x, (6, -1))[1:, 3:15:4],
    "side by side": lambda xp, x: xp.concat([x[:, 2:, :], x[:, :2, :], x], axis=1)[:, 1:5, :],
    "put together again": lambda xp, x: xp.concat([x[:, :2, :], x[:, 2:, :]], axis=1),
    "stacked": lambda xp, x: xp.stack([x, x * x], axis=1)[:, 1, :, :],
    "turned round": lambda xp, x: xp.flip(x, axis=2),
}
WRITES = {
    "a part": put((slice(None), slice(1, 3)), lambda xp, x: x[:, 2:4, :]),
    "added to a part": put((slice(None), slice(1, 3)), lambda xp, x: x[:, 2:4, :], True),
    "several axes": put((slice(0, 4), slice(1, 3), slice(2, 5)), lambda xp, x: x[:4, :2, :3]),
    "every other": put((slice(None), slice(0, None, 2), slice(1, None, 3)), lambda xp, x: x[:, 1:3, 1:3], True),
    "from behind": put((slice(None), slice(None, None, -1)), lambda xp, x: x),
    "from behind, every third": put((Ellipsis, slice(4, None, -3)), lambda xp, x: x[:, :, :2], True),
    "one row": put((slice(None), 2), lambda xp, x: x[:, 0, :]),
    "a number": put((slice(None), 2, slice(1, 3)), lambda xp, x: 7.0),
    "all of it": put(Ellipsis, lambda xp, x: x[:, :1, :]),
    "parts of zeros": into(
        lambda xp, x: xp.zeros_like(x), (np.s_[:, 1:, 2:], 2.0), (np.s_[:, :2, ::2], 3.0), (np.s_[1:3, ::3, 1:4], 5.0)
    ),
    "parts of ones": into(lambda xp, x: xp.ones_like(x), (np.s_[:, ::2, 1:2], 2.0), (np.s_[:, :, 4:], 3.0)),
    "the parts of an empty one": into(lambda xp, x: xp.empty_like(x), (np.s_[:, :2], 2.0), (np.s_[:, 2:], 3.0)),
}


@pytest.mark.parametrize("f", [*VIEWS.values(), *WRITES.values()], ids=[*VIEWS, *(f"write {name}" for name in WRITES)])
def test_views_and_parts_that_are_written(f):
    expected, found, _ = both(f, np.random.default_rng(0).normal(size=(6, 4, 5)))
    assert (expected == found).all()


def test_what_is_undone_again_is_never_written():
    x = np.random.default_rng(0).normal(size=(6, 4, 5))
    for name in ("turned twice", "put together again"):
        assert both(VIEWS[name], x)[2] == []
    assert both(VIEWS["cut of a cut"], x)[2] == ["Slice", "Slice", "Slice"]
    assert both(WRITES["the parts of an empty one"], x)[2].count("Concat") == 1


REAL = [
    "abs", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "exp", "expm1", "floor", "log", "log10",
    "log1p", "log2", "negative", "positive", "reciprocal", "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh",
    "trunc", "isfinite", "isnan", "isinf", "logical_not",
]  # fmt: skip
PAIRS = [
    "add", "divide", "equal", "floor_divide", "greater", "greater_equal", "hypot", "less", "less_equal", "logaddexp",
    "logical_and", "logical_or", "logical_xor", "maximum", "minimum", "multiply", "not_equal", "pow", "remainder",
    "subtract",
]  # fmt: skip


@pytest.mark.parametrize("name", [*REAL, *PAIRS])
def test_functions_of_each_number(name):
    rng = np.random.default_rng(0)
    x, y = (rng.uniform(0.05, 0.95, (4, 3)).astype(np.float32) for _ in range(2))
    x = x + 1.0 if name == "acosh" else x
    x, y = (x, y[:1]) if name in PAIRS else (x - 0.5 if name in ("sign", "trunc", "floor", "abs", "sinh") else x, y)
    arrays = (x, y) if name in PAIRS else (x,)
    expected, found, _ = both(lambda xp, *a: getattr(xp, name)(*a), *arrays)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "f",
    [
        lambda xp, n: (n ^ (n >> 3)) * 0x846CA68B + (n << 5),
        lambda xp, n: (n & 12) | 3,
        lambda xp, n: xp.astype(n > 2**31, xp.int64) * 5 + 2,
        lambda xp, n: (n > 2**31) & (n < 4 * 10**9) | ~(n != 77),
        lambda xp, n: xp.bitwise_invert(n),
    ],
)
def test_integers_wrap_and_keep_their_bits(f):
    n = np.asarray([[0, 1, 77, 2**31, 2**32 - 1, 123456789]], np.uint32)
    expected, found, _ = both(f, n)
    assert (found == expected).all()


@pytest.mark.parametrize(
    "f",
    [
        lambda xp, x: xp.sum(x, axis=1),
        lambda xp, x: xp.sum(x, axis=(1, 2), keepdims=True) * x,
        lambda xp, x: xp.max(x, axis=-1) - xp.min(x, axis=2),
        lambda xp, x: xp.prod(x, axis=1),
        lambda xp, x: xp.std(x, axis=1) + xp.mean(x, axis=1),
        lambda xp, x: xp.var(x, axis=(1, 2), correction=1.0)[:, None],
        lambda xp, x: x * xp.astype(xp.argmax(x, axis=1), x.dtype)[:, None, :],
        lambda xp, x: x * xp.astype(xp.argmin(x, axis=2, keepdims=True), x.dtype),
        lambda xp, x: xp.cumulative_sum(x, axis=2),
        lambda xp, x: xp.clip(x, -0.5, 0.5) + xp.clip(x, 0.0) + xp.clip(x, max=0.3) + xp.round(x),
        lambda xp, x: xp.where(x > 0, x, 0.1),
        lambda xp, x: xp.matmul(x, xp.permute_dims(x, (0, 2, 1))),
        lambda xp, x: xp.matmul(x[:, 0, :], xp.matmul(x[:, 1, :].T, x[:, 2, :])) + x[0, 0, :],
        lambda xp, x: xp.take(x, xp.asarray([2, 0, 2]), axis=1),
        lambda xp, x: x**2 + 2.0**x,
    ],
)
def test_functions_of_whole_arrays(f):
    expected, found, _ = both(f, np.random.default_rng(0).normal(size=(6, 4, 5)))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_what_has_no_operator_is_refused():
    with pytest.raises(NoOperator, match="copysign of float64 numbers"):
        both(lambda xp, x: xp.copysign(x, x), np.ones((2, 2)))
    with pytest.raises(NoOperator, match=r"xp\.tril"):
        both(lambda xp, x: xp.tril(x), np.ones((2, 2)))


def test_the_newest_operators_can_be_asked_for():
    assert check_opset(onnx_files.onnx.defs.onnx_opset_version())
    with pytest.raises(ConfigError, match="opset"):
        check_opset(True)
