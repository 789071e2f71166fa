"""Layers as users write them: what each does to x of shape (rows, 6), and whether a step with it can be recorded.

Each entry makes the function anew, so that what it keeps on the host starts from the same. A function may come with
another that is called after each epoch. Functions that only look like derivatives would fail `check_gradients`; here
it matters only that the same is computed.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

import xpnet

RECORDED: dict[str, Any] = {}
REFUSED: dict[str, tuple[Any, str]] = {}


def recorded(make: Any) -> Any:
    RECORDED[make.__name__] = make
    return make


def refused(why: str) -> Any:
    """Note a function with a part of what is said of it."""

    def note(make: Any) -> Any:
        REFUSED[make.__name__] = make, why
        return make

    return note


def simple(**functions: Any) -> None:
    """Note functions without anything of their own."""
    for name, f in functions.items():
        RECORDED[name] = lambda f=f: f


@dataclass(frozen=True)
class Own(xpnet.Layer):
    """y = f(xp, x), and dx = dy f(xp, x)."""

    f: Any

    def forward(self, xp: Any, params: Any, x: Any, context: Any = xpnet.layers.INFERENCE) -> Any:
        return self.f(xp, x), x

    def backward(
        self, xp: Any, params: Any, cache: Any, dy: Any, context: Any = xpnet.layers.INFERENCE, need_dx: bool = True
    ) -> Any:
        return dy * self.f(xp, cache), {}


# --------------------------------------------------------------------------- functions of the standard, and views

simple(
    roll=lambda xp, x: xp.roll(x, 1, axis=0) + xp.roll(x, (1, 2), axis=(0, 1)),
    sort=lambda xp, x: xp.sort(x, axis=1) - xp.sort(x, axis=0, descending=True),
    argsort=lambda xp, x: xp.take_along_axis(x, xp.argsort(x, axis=1), axis=1),
    cumulative_sum=lambda xp, x: xp.cumulative_sum(x, axis=1) * 0.1,
    tensordot=lambda xp, x: xp.tensordot(x, xp.tensordot(x.T, x, axes=1), axes=([1], [0])) * 0.01,
    einsum=lambda xp, x: xp.einsum("bi,bj,bk->bk", x, x, x) * 0.01,
    clip=lambda xp, x: xp.clip(x, -0.5, 0.5),
    triangle=lambda xp, x: xp.matmul(x, xp.tril(xp.matmul(x.T, x))) * 0.1,
    tile_and_repeat=lambda xp, x: xp.tile(x, (1, 2))[:, ::2] + xp.repeat(x, 2, axis=1)[:, :6],
    flip=lambda xp, x: xp.flip(x, axis=1) + xp.flip(x),
    squeeze=lambda xp, x: xp.squeeze(xp.expand_dims(x, axis=1), axis=1) * 2.0,
    moveaxis=lambda xp, x: xp.reshape(xp.moveaxis(xp.reshape(x, (-1, 2, 3)), 1, 2), x.shape),
    unstack=lambda xp, x: xp.stack([2.0 * column for column in xp.unstack(x, axis=1)], axis=1),
    broadcast_arrays=lambda xp, x: xp.multiply(*xp.broadcast_arrays(x, xp.max(x, axis=1, keepdims=True))),
    concat=lambda xp, x: xp.concat([x[:, 3:], x[:, :1] * 2.0, x[:, 1:3]], axis=1),
    concat_of_columns=lambda xp, x: xp.concat([x.T[:3, :], x.T[3:, :] * 2.0]).T,
    stack=lambda xp, x: xp.sum(xp.stack([x, x * x, -x], axis=1), axis=1),
    mean_and_variance=lambda xp, x: (x - xp.mean(x, axis=0)) / xp.sqrt(xp.var(x, axis=0) + 1e-5),
    layer_norm=lambda xp, x: (x - xp.mean(x, axis=1, keepdims=True)) / (0.1 + xp.std(x, axis=1, keepdims=True)),
    unbiased=lambda xp, x: x / (1.0 + xp.var(x, axis=1, correction=1, keepdims=True)) + xp.mean(x),
    other_correction=lambda xp, x: x / (1.0 + xp.std(x, axis=(0, 1), correction=0.3)),
    mean_of_integers=lambda xp, x: x + xp.astype(xp.mean(xp.astype(8.0 * x, xp.int32), axis=1), x.dtype)[:, None],
    softmax=lambda xp, x: xp.exp(x - xp.max(x, axis=1, keepdims=True)) / xp.sum(xp.exp(x), axis=1, keepdims=True),
    products_of_three_axes=lambda xp, x: xp.sum(xp.matmul(x[:, :, None], x[:, None, :]), axis=1) * 0.1,
    attention=lambda xp, x: (
        lambda h: xp.reshape(xp.matmul(xp.exp(xp.matmul(h, xp.matrix_transpose(h)) * 0.1), h), x.shape)
    )(xp.reshape(x, (-1, 3, 2))),
    matmul_operator=lambda xp, x: x @ (x.T @ x) * 0.01,
    matmul_of_linalg=lambda xp, x: xp.linalg.matmul(x, xp.linalg.matmul(x.T, x)) * 0.01,
    product_with_a_vector=lambda xp, x: x + xp.matmul(x, x[0, :])[:, None] * 0.1,
    outer_sums=lambda xp, x: x + xp.sum(x[:, 0][:, None] - x[:, 1][None, :], axis=1, keepdims=True) * 0.01,
    numbers_without_axes=lambda xp, x: x * xp.sum(x * x) ** 0.5 / (1.0 + xp.max(xp.abs(x))) + xp.sum(x) / 100.0,
    powers=lambda xp, x: x**2 * 0.1 + xp.abs(x) ** 0.5 + x**3 * 0.01 + (xp.abs(x) + 1.0) ** -1 + x**1 + x**2.0 * 0.1,
    roots_and_powers=lambda xp, x: xp.pow(xp.abs(x), 0.5) + 2.0**x + xp.pow(xp.abs(x) + 0.1, x),
    where=lambda xp, x: xp.where(x > 0, x, 0.1 * x) + xp.astype(xp.where(x > 1.0, 1.0, 0.0), x.dtype),
    where_a_number_is_not_zero=lambda xp, x: xp.where(xp.astype(x, xp.int32), x, 0.5) + xp.where(x, 1.0, x),
    where_yes=lambda xp, x: xp.where(True, x, -x) * xp.where(0, 3.0, x),
    comparisons=lambda xp, x: (
        x * xp.astype(xp.logical_and(x > -1, x <= 1) | (x != x), x.dtype) + xp.astype((x > 0) * 0.5, x.dtype)
    ),
    remainders=lambda xp, x: x % 0.7 + x // 0.3 * 0.01 + xp.remainder(x, 1.5),
    integers=lambda xp, x: x * xp.astype((xp.astype(x * 16.0, xp.int32) >> 1) & 3 ^ 5, x.dtype),
    argmax=lambda xp, x: x * xp.astype(xp.argmax(x, axis=1)[:, None] == xp.arange(6)[None, :], x.dtype),
    made_arrays=lambda xp, x: x + xp.linspace(0, 1, 6, dtype=x.dtype) + xp.sum(xp.eye(6, dtype=x.dtype)[2, :] * x),
    columns_backwards=lambda xp, x: xp.take(x, xp.asarray([-1, -2, 3, 2, 1, 0]), axis=1),
    rows_by_numbers_in_the_data=lambda xp, x: xp.take(x, xp.astype(xp.abs(x[:, 0]), xp.int64) % 5, axis=0),
    a_row=lambda xp, x: x - xp.take(x, xp.asarray(2), axis=0),
    shapes_and_types=lambda xp, x: x * len(x) / x.shape[1] * xp.finfo(x.dtype).eps * 1e6 if x.ndim == 2 else x,
    result_type=lambda xp, x: x * xp.ones(6, dtype=xp.result_type(x, xp.float32)),
    a_question_of_type=lambda xp, x: x * (2.0 if xp.isdtype(x.dtype, "real floating") else 3.0),
    numpys_own_ufuncs=lambda xp, x: xp.astype(np.sin(x) + np.float64(0.5) * x + np.maximum(x, 0.25), x.dtype),
    numpys_own_ufuncs_in_place=lambda xp, x: (lambda h: np.multiply(np.add(h, 0.5, out=h), h, out=h))(x * 1.0),
    ufuncs_that_the_standard_lacks=lambda xp, x: xp.cbrt(x) + xp.fmax(x, 0.1) * xp.rint(x) + xp.heaviside(x, 0.5),
    reversed_rows=lambda xp, x: (x * 3.0)[::-1, ::-1] + (x * 2.0)[::-1],
    types=lambda xp, x: xp.astype(xp.astype(x, xp.float64) * np.float64(1 / 3) + xp.astype(x, xp.float32), x.dtype),
    extreme_numbers=lambda xp, x: xp.where(xp.isnan(x * math.inf - x * math.inf), x, x) + xp.minimum(x / 0.5, math.inf),
    asked_in_a_try=lambda xp, x: xp.special if hasattr(xp, "special") else x * 1.5,
)  # fmt: skip


@recorded
def isinstance_of_an_array() -> Any:
    def f(xp: Any, x: Any) -> Any:
        total = xp.sum(x)
        assert not isinstance(total, list | tuple | str)
        return x * (2.0 if isinstance(x, np.ndarray) else 3.0) * (1.0 if isinstance(total, np.ndarray) else 0.5)

    return f


@recorded
def a_view_that_is_changed_later() -> Any:
    def f(xp: Any, x: Any) -> Any:
        h = x * 1.0
        backwards, same, copy = xp.flip(h, axis=1), xp.asarray(h), xp.asarray(h, copy=True)
        other_shape, columns = xp.reshape(h, (-1,)), xp.reshape(h.T, (-1,))
        h *= 2.0
        return backwards + same * copy + xp.reshape(other_shape, x.shape) + xp.reshape(columns, (6, -1)).T

    return f


@recorded
def changes_in_views() -> Any:
    def f(xp: Any, x: Any) -> Any:
        h = x * 1.0
        h[1:, :] += h[:-1, :]
        h[:, 0] = 0.5
        h[0, 1] -= 1.0
        left, right = h[:, :3], h[:, 3:]
        left *= right
        right[...] = left - right
        return h

    return f


@recorded
def a_number_before_a_change() -> Any:
    def f(xp: Any, x: Any) -> Any:
        h, total = x * 1.0, xp.sum(x)
        first, before = h[0, 0], total
        h += 1.0
        total += 1.0
        return h * first + before * total * 1e-3

    return f


@recorded
def arrays_without_axes() -> Any:
    """Unlike NumPy's numbers they are changed in place, for all who hold them."""

    def f(xp: Any, x: Any) -> Any:
        total = xp.zeros((), dtype=x.dtype)
        same = total
        total += xp.sum(x)
        chosen = xp.where(total > 0, total, -total)
        also = chosen
        chosen *= 0.5
        number = xp.sum(x * x)
        before, row = number, x[0, ...] * 0.1
        number *= 3.0
        row[0] += number * 0.01
        three = xp.stack([number, before, total])
        return xp.tanh(x * same * also + before + row) + xp.tanh(xp.concat([three, three]) * 0.1)

    return f


@recorded
def padding_by_slices() -> Any:
    def f(xp: Any, x: Any) -> Any:
        padded = xp.zeros((x.shape[0], 8), dtype=x.dtype)
        padded[:, 1:-1] = x
        return padded[:, :-2] - 2.0 * padded[:, 1:-1] + padded[:, 2:]

    return f


@recorded
def made_arrays_that_change() -> Any:
    def f(xp: Any, x: Any) -> Any:
        weights, count, full = (
            xp.arange(6, dtype=x.dtype),
            xp.ones(6, dtype=x.dtype),
            xp.full((6,), 0.25, dtype=x.dtype),
        )
        before = x * weights + count
        weights += xp.max(x, axis=0)
        weights *= 0.1
        count[2:] *= 3.0
        full[::2] = x[0, ::2]
        made = xp.empty_like(x)
        made[...] = before * weights
        return made + count * full

    return f


@recorded
def sums_of_products() -> Any:
    def f(xp: Any, x: Any) -> Any:
        y = x * 0.5
        y += xp.matmul(x, xp.matmul(x.T, x)) * 0.01
        y -= xp.matmul(x, xp.matmul(x.T, y)) * 0.01
        return y

    return f


@recorded
def an_array_of_its_own() -> Any:
    table = np.random.default_rng(0).normal(size=(6, 12))[:, ::2]

    def f(xp: Any, x: Any) -> Any:
        own = xp.astype(xp.asarray(table), x.dtype)
        return xp.matmul(x, own) + xp.exp(own[0, :]) + xp.asarray(table.T[1], dtype=x.dtype)

    return f


@recorded
def an_array_that_a_callback_changes() -> Any:
    scale = np.ones(6)
    return lambda xp, x: xp.astype(x * scale, x.dtype), lambda run: np.multiply(scale, 0.5, out=scale)


@recorded
def an_array_of_equal_numbers_that_a_callback_changes() -> Any:
    scale = np.full((1, 6), 2.0, np.float32)

    def change(run: Any) -> None:
        scale[...] -= 0.25

    return lambda xp, x: x * xp.astype(scale, x.dtype), change


@recorded
def an_array_of_its_own_that_it_writes_to() -> Any:
    last = np.zeros(6)

    def f(xp: Any, x: Any) -> Any:
        y = x + xp.astype(xp.asarray(last), x.dtype)
        kept = xp.asarray(last)
        kept[...] = xp.astype(xp.mean(x, axis=0), xp.float64)
        return y

    return f


@recorded
def kept_from_the_first_call() -> Any:
    kept: dict[str, Any] = {}

    def f(xp: Any, x: Any) -> Any:
        if not kept:
            kept["mask"] = np.tri(6)
        return xp.astype(xp.matmul(x, xp.asarray(kept["mask"])), x.dtype)

    return f


# -------------------------------------------------------------------------------- what the host has in its hands


@refused("made by NumPy itself")
def random_arrays() -> Any:
    draws = np.random.default_rng(0)
    return lambda xp, x: x * xp.asarray(draws.uniform(0.5, 1.5, size=6), dtype=x.dtype)


@refused("such as random numbers")
def random_numbers() -> Any:
    draws = np.random.default_rng(0)
    return lambda xp, x: x * float(draws.uniform(0.5, 1.5))


@refused("such as random numbers")
def numbers_of_the_module_random() -> Any:
    random.seed(0)
    return lambda xp, x: x + random.gauss(0.0, 0.1)


@refused("such as random numbers")
def numbers_of_numpys_old_generator() -> Any:
    draws = np.random.RandomState(0)
    return lambda xp, x: xp.maximum(x, draws.normal())


@refused("")
def a_clock() -> Any:
    return lambda xp, x: x + 1e-9 * time.perf_counter()


@refused("a counter")
def a_counter() -> Any:
    count = 0

    def f(xp: Any, x: Any) -> Any:
        nonlocal count
        count += 1
        return x / count

    return f


@refused("such as random numbers")
def layers_left_out_by_chance() -> Any:
    draws = np.random.default_rng(3)
    return lambda xp, x: x if draws.random() < 0.9 else -x


@refused("such as random numbers")
def left_out_by_the_module_random() -> Any:
    random.seed(1)
    return lambda xp, x: x if random.random() < 0.9 else -x


@refused("a counter")
def every_fifth_time() -> Any:
    class Counting:
        count = 0

        def __call__(self, xp: Any, x: Any) -> Any:
            self.count += 1
            return x if self.count % 5 else -x

    return Counting()


class CountingBase:
    """Counts in a slot, and its method is inherited."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, xp: Any, x: Any) -> Any:
        self.count += 1
        return x if self.count % 7 else -x


class CountingInSlots(CountingBase):
    __slots__ = ()


REFUSED["a_counter_in_a_slot"] = CountingInSlots, "a counter"


@refused("a counter")
def an_iterator() -> Any:
    numbers = itertools.count(1)
    return lambda xp, x: x * (1.0 / next(numbers))


@refused("a counter")
def another_way_each_time() -> Any:
    ways = itertools.cycle([lambda xp, x: xp.exp(-x * x), lambda xp, x: xp.sin(x), lambda xp, x: x])
    return lambda xp, x: next(ways)(xp, x)


@refused("a counter")
def more_each_time() -> Any:
    times: list[int] = []

    def f(xp: Any, x: Any) -> Any:
        times.append(0)
        for _ in times[:9]:
            x = x * 0.9
        return x

    return f


@refused("a counter")
def an_array_that_it_counts_in() -> Any:
    count = np.zeros(1)

    def f(xp: Any, x: Any) -> Any:
        np.add(count, 1.0, out=count)
        return xp.astype(x / count, x.dtype)

    return f


@refused("made by NumPy itself")
def arrays_made_by_numpy() -> Any:
    return lambda xp, x: xp.astype(x * np.linspace(0.5, 1.0, 6), x.dtype)


@refused("an array of the step is kept")
def the_activation_before() -> Any:
    before: list[Any] = []

    def f(xp: Any, x: Any) -> Any:
        y = x + xp.mean(before[0], axis=0) if before else x
        before[:] = [x]
        return y

    return f


# ------------------------------------------------------------------------------------------- functions not known


def changes(change: Any) -> Any:
    def f(xp: Any, x: Any) -> Any:
        h = xp.matmul(x.T, x) * 0.1
        change(xp, h)
        return xp.matmul(x, h)

    return lambda: f


for name, change in {
    "fill_diagonal": lambda xp, h: xp.fill_diagonal(h, 0.0),
    "putmask": lambda xp, h: xp.putmask(h, h > 0.5, 0.5),
    "place": lambda xp, h: xp.place(h, h < 0, [0.0]),
    "put_along_axis": lambda xp, h: xp.put_along_axis(h, xp.argmax(h, axis=1)[:, None], 0.0, 1),
    "copyto": lambda xp, h: xp.copyto(h, h.T * 2.0),
}.items():
    REFUSED[name] = changes(change), f"xp.{name} is not known here"

for name, (f, why) in {
    "allclose": (lambda xp, x: x if xp.allclose(x, 0.0) else x * 2.0, "allclose is not known"),
    "array_equal": (lambda xp, x: x if xp.array_equal(x, x[::-1]) else x * 2.0, "array_equal is not known"),
    "a_decision": (lambda xp, x: x if xp.any(x > 0.1) else x * 2.0, "a value decides"),
    "a_counted_decision": (lambda xp, x: x if xp.count_nonzero(x > 0.1) > 3 else x * 2.0, "a value decides|returns a"),
    "a_loop_until": (lambda xp, x: x * float(next(k for k in range(9) if xp.max(x) < k + 9)), "a value decides"),
    "unique": (lambda xp, x: x * xp.unique_values(xp.astype(x * 4.0, xp.int32)).shape[0] * 0.1, "unique_values is not"),
    "extract": (lambda xp, x: x * xp.sum(xp.extract(x > 0, x)) * 0.01, "extract is not known"),
    "nonzero": (lambda xp, x: x * xp.nonzero(x > 0)[0].shape[0] * 0.01, "nonzero is not known"),
    "repeat_by_values": (
        lambda xp, x: x + xp.repeat(x[0, ...], xp.astype(x[0, ...] > 0, int)).shape[0],
        "depends on val",
    ),
    "a_mask": (lambda xp, x: x + xp.sum(x[x > 0]), "an index is an array or a mask"),
    "indices": (lambda xp, x: x + x[xp.argsort(x[:, 0]), ...], "an index is an array or a mask"),
    "assignment_to_a_mask": (lambda xp, x: (lambda h: h.__setitem__(h > 0, 0.0) or h)(x * 1.0), "an array or a mask"),
    "numpys_own_sum": (lambda xp, x: x + np.sum(x, axis=1, keepdims=True), "NumPy's own sum"),
    "numpys_own_reduction": (lambda xp, x: x + np.add.reduce(x), "NumPy's own add"),
    "a_function_of_pythons": (
        lambda xp, x: x * np.frompyfunc(lambda v: v, 1, 1)(x).astype(x.dtype),
        "in a way that is",
    ),
    "a_method": (lambda xp, x: x.clip(-1.0, 1.0), "the attribute clip"),
    "math": (lambda xp, x: x * math.exp(-abs(xp.mean(x))), "a value is read back"),
    "printing": (lambda xp, x: x * len(f"{x}") * 0.001, "a value is read back"),
    "rows_in_a_loop": (lambda xp, x: x + sum(row[0] for row in x), "a value is read back"),
    "a_list": (lambda xp, x: x * [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "a list is combined"),
    "out": (lambda xp, x: (lambda h: xp.add(x, 1.0, out=h))(x * 1.0), "by keyword"),
    "a_view_of_einsum": (lambda xp, x: xp.einsum("ij->ji", x).T * 1.0, "returns a view"),
    "an_inverse": (lambda xp, x: x @ xp.linalg.inv(x.T @ x + xp.eye(6, dtype=x.dtype)), "inv"),
    "a_spectrum": (lambda xp, x: xp.astype(xp.real(xp.fft.fft(x)), x.dtype), "fft"),
    "several_results": (lambda xp, x: x * xp.divmod(x, 0.7)[1], "divmod is not known"),
    "another_data_type_in_place": (
        lambda xp, x: xp.astype((lambda h: h.__iadd__(x * np.float64(0.1)))(xp.astype(x, xp.float32)), x.dtype),
        "would change the data type",
    ),
}.items():
    REFUSED[name] = (lambda f=f: f), why


@refused("a value is read back")
def a_decision_in_a_broad_try() -> Any:
    def f(xp: Any, x: Any) -> Any:
        try:
            scale = float(xp.max(x))
        except Exception:
            scale = 1.0
        return x * scale

    return f


@refused("NumPy's own")
def numpy_in_a_bare_try() -> Any:
    def f(xp: Any, x: Any) -> Any:
        try:
            return x * np.median(x)
        except:  # noqa: E722
            return x

    return f
