"""Arguments of every odd kind, over the public calls: each is accepted, or refused by an error of xpnet's own."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet.errors import ConfigError, ShapeError, XpnetError

RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(6, 2)).astype(np.float32), RNG.integers(0, 2, 6)
ODD: list[Any] = [
    *(None, True, 0, -1, 1.5, np.float64(2.0), np.int32(2), 10**25, np.nan, np.inf, complex(1), "2", b"x"),
    *({2}, object(), (), (2,), (2, 3), (2, 3, 4), [], [2, 3], {}, np.zeros((0, 2)), np.asarray([2, 3])),
    *(np.asarray(2), np.asarray(2.5), np.asarray(None), [np.zeros(2)], [np.asarray(2)]),
]  # fmt: skip


def check(target: Any, **given: Any) -> Any:
    return xpnet.check_gradients(target, **{"x": X, "t": T} | given)


NET = xpnet.mlp([2, 3, 2])
CALLS: dict[str, Callable[[Any], Any]] = {
    **{
        f"check_gradients of a {kind}, {name}": lambda v, target=target, name=name: check(target, **{name: v})
        for kind, target in {"network": NET, "layer": xpnet.Linear(2, 2), "loss": xpnet.CrossEntropy()}.items()
        for name in ("x", "t", "sample_weight", "tolerance", "max_elements", "jitter", "seed", "strict", "training")
    },
    "check_gradients, parameters": lambda v: check(xpnet.Linear(2, 2), parameters=v),
    "check_gradients, a parameter": lambda v: check(xpnet.Linear(2, 2, bias=False), parameters={"W": v}),
    "explain": NET.explain,
    "save": lambda v: None if isinstance(v, str | bytes) else NET.save(v),
    "load": xpnet.load,
    "gradients, training": lambda v: NET.gradients(X, T, training=v),
    "trace, training": lambda v: NET.trace(X, T, training=v),
    "predict, allow_nonfinite": lambda v: NET.predict(X, allow_nonfinite=v),
    "mlp, dropout": lambda v: xpnet.mlp([2, 2], dropout=v),
    "GELU": xpnet.GELU,
    "RandomShift": xpnet.RandomShift,
    "trace[...]": lambda v: NET.trace(X, T)[v],
    "callbacks": lambda v: NET.fit(X, T, callbacks=v, epochs=0, batch_size=6, verbose=False),
    "metrics": lambda v: NET.fit(X, T, metrics=v, epochs=0, batch_size=6, verbose=False),
    "factors": lambda v: xpnet.SGD(factors=v),
    "factors, a name": lambda v: xpnet.SGD(factors=[(v, 2.0)]),
}


@pytest.mark.parametrize("name", CALLS)
def test_no_argument_ends_in_a_foreign_error(name: str) -> None:
    for value in ODD:
        try:
            CALLS[name](value)
        except XpnetError:
            continue


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NET.save(3), r"path must be a str or a path, such as 'net\.safetensors', got 3"),
        (lambda: check(NET, max_elements=-1), "max_elements must be an integer >= 1, got -1"),
        (lambda: check(NET, tolerance="small"), "tolerance must be a finite number in .*, got 'small'"),
        (lambda: check(xpnet.Linear(2, 2), parameters={"W": X}), "Linear must map W, b to arrays, got .*'W'"),
        (lambda: NET.gradients(X, T, training="no"), "training must be True or False, got 'no'"),
        (lambda: NET.predict(X, allow_nonfinite=1), "allow_nonfinite must be True or False, got 1"),
        (lambda: xpnet.SGD(factors={2: 1.0}), "factors must map names to numbers"),
        (lambda: xpnet.RandomShift(40_000), "pixels must be an integer from 1 to 32767, got 40000"),  # 32 bits wrap
    ],
)  # fmt: skip
def test_what_was_wrong_is_said(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()


@pytest.mark.parametrize("size", [1e12, 1e30])
def test_gradients_are_checked_at_numbers_that_no_small_step_changes(size: float) -> None:
    assert xpnet.check_gradients(xpnet.Linear(2, 2), size * X).passed


@pytest.mark.parametrize("shape", [(3, 2), (4, 4, 2)])
def test_softmax_takes_rows_and_no_images(shape: tuple[int, ...]) -> None:
    """Its probabilities would sum to 1 down each column of an image."""
    with pytest.raises(ShapeError, match=r"Softmax\(\) takes samples that are a row .*: put Flatten\(\)"):
        xpnet.Network([xpnet.Softmax(), xpnet.Flatten(), xpnet.Linear(2, 2)], "huber", input_shape=shape)
