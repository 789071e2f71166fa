"""What every public layer and loss promises, on every backend."""

import dataclasses

import cases
import numpy as np
import pytest
from array_backends import freeze
from cases import LAYERS, LOSSES
from labels import label
from numpy.testing import assert_allclose, assert_array_equal

import xpnet
from xpnet.layers import ACTIVATIONS
from xpnet.layers import LAYERS as NAMED_LAYERS
from xpnet.losses import LOSSES as NAMED_LOSSES
from xpnet.optimizers import OPTIMIZERS as NAMED_OPTIMIZERS

B = 4  # samples in a batch
BASES = (xpnet.Layer, xpnet.Loss, xpnet.Optimizer)

each_layer = pytest.mark.parametrize("case", LAYERS, ids=label)
each_loss = pytest.mark.parametrize(("loss", "targets"), LOSSES, ids=[f"{loss}-{t.__name__}" for loss, t in LOSSES])


# ------------------------------------------------------------------------------------- every class has a case


@pytest.mark.parametrize(
    ("base", "having", "named"),
    [
        (xpnet.Layer, {type(case.layer) for case in LAYERS}, {*NAMED_LAYERS.values(), *ACTIVATIONS.values()}),
        (xpnet.Loss, {type(loss) for loss, _ in LOSSES}, set(NAMED_LOSSES.values())),
        (xpnet.Optimizer, {type(optimizer) for optimizer in cases.OPTIMIZERS}, set(NAMED_OPTIMIZERS.values())),
    ],
)
def test_every_public_class_has_a_case_and_a_name(base, having, named):
    assert cases.public(base) == having
    assert named == having - {xpnet.Activation}  # which holds functions, so that no name can stand for it


@pytest.mark.parametrize("cls", sorted(set().union(*map(cases.public, BASES)), key=lambda cls: cls.__name__))
def test_is_a_frozen_dataclass_in_the_namespace(cls):
    assert getattr(xpnet, cls.__name__) is cls
    assert cls.__name__ in xpnet.__all__
    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen


def test_the_namespace_has_what_it_lists():
    assert sorted(set(xpnet.__all__)) == sorted(xpnet.__all__)
    for name in xpnet.__all__:
        assert getattr(xpnet, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Linaer'"):
        xpnet.Linaer  # noqa: B018


# ------------------------------------------------------------------------------------------------------ layers


class Bench:
    """A layer of a case with its arrays on a backend."""

    def __init__(self, case, backend, dtype="float64", rows=B, seed=3):
        self.layer, self.backend, self.xp = case.layer, backend, backend.xp
        rng = np.random.default_rng(seed)
        drawn = case.layer.init(rng)
        self.host = {name: rng.normal(size=value.shape) for name, value in drawn.items()}
        self.x_host = cases.away_from_kinks(rng.normal(size=(rows, *case.shape)))
        self.dy_host = rng.normal(size=(rows, *case.layer.output_shape(case.shape)))
        self.params = {name: self.put(value, dtype) for name, value in self.host.items()}
        self.x, self.dy = self.put(self.x_host, dtype), self.put(self.dy_host, dtype)
        state = {name: self.put(value, dtype) for name, value in case.layer.init_state().items()}
        step = backend.asarray(np.asarray([5], dtype=np.uint32))
        self.context = xpnet.Context(case.training, 12345, step, state)

    def put(self, a, dtype="float64"):
        return self.backend.asarray(a.astype(dtype))

    def get(self, a):
        return self.backend.to_numpy(a).copy()

    def forward(self, x=None, params=None):
        x, params = self.x if x is None else x, self.params if params is None else params
        with self.backend.active():
            y, cache = self.layer.forward(self.xp, params, x, self.context)
        return y, freeze(self.backend, cache)

    def backward(self, cache, dy=None, **options):
        dy = self.dy if dy is None else dy
        with self.backend.active():
            return self.layer.backward(self.xp, self.params, cache, dy, self.context, **options)

    def objective(self, x, params):
        """Return sum(dy * y) for host arrays, whose gradient `backward` computes."""
        y, _ = self.forward(self.put(x), {name: self.put(value) for name, value in params.items()})
        return float((self.get(y) * self.dy_host).sum())


def central_differences(f, a, h=1e-5):
    """Return the gradient of the scalar function f at the array a."""
    gradient = np.zeros(a.shape)
    for index in np.ndindex(a.shape):
        up, down = a.copy(), a.copy()
        up[index] += h
        down[index] -= h
        gradient[index] = (f(up) - f(down)) / (2 * h)
    return gradient


@each_layer
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, B])
def test_layer_shapes_and_data_types(case, backend, dtype, rows):
    bench = Bench(case, backend, dtype, rows)
    y, cache = bench.forward()
    dx, grads = bench.backward(cache)
    assert y.shape == (rows, *case.layer.output_shape(case.shape))
    assert dx.shape == bench.x.shape
    assert {name: g.shape for name, g in grads.items()} == case.layer.parameter_shapes()
    assert case.layer.parameter_shapes() == {name: value.shape for name, value in bench.host.items()}
    assert set(case.layer.decayed) <= set(grads)
    for a in (y, dx, *grads.values()):
        assert a.dtype == getattr(backend.xp, dtype)
        assert backend.owns(a)


@each_layer
def test_layer_leaves_its_arguments_as_they_are(case, backend):
    bench = Bench(case, backend)
    y, cache = bench.forward()
    kept = bench.get(y)
    bench.backward(cache)
    assert_array_equal(bench.get(y), kept)
    assert_array_equal(bench.get(bench.x), bench.x_host)
    assert_array_equal(bench.get(bench.dy), bench.dy_host)
    for name, value in bench.params.items():
        assert_array_equal(bench.get(value), bench.host[name])


@each_layer
def test_layer_remembers_nothing_but_the_cache(case, backend):
    bench = Bench(case, backend)
    y, cache = bench.forward()
    alone, y = bench.backward(cache), bench.get(y)
    first_y, first = bench.forward()
    _, second = bench.forward(bench.put(2.0 * bench.x_host[:2]))
    bench.backward(second, bench.put(bench.dy_host[:2]))
    for _ in range(2):  # through the first cache, twice
        dx, grads = bench.backward(first)
        assert_array_equal(bench.get(dx), bench.get(alone[0]))
        for name, g in grads.items():
            assert_array_equal(bench.get(g), bench.get(alone[1][name]))
    assert_array_equal(bench.get(first_y), y)


@each_layer
def test_layer_without_dx_has_the_same_gradients(case, backend):
    bench = Bench(case, backend)
    _, cache = bench.forward()
    dx, grads = bench.backward(cache)
    other, same = bench.backward(cache, need_dx=False)
    assert same.keys() == grads.keys()
    for name, g in grads.items():
        assert_array_equal(bench.get(same[name]), bench.get(g))
    if grads:
        assert other is None  # a whole matrix product that nobody reads
    elif other is not None:
        assert_array_equal(bench.get(other), bench.get(dx))


@pytest.mark.parametrize("case", [case for case in LAYERS if case.by_sample], ids=label)
def test_layer_treats_a_batch_as_its_samples(case, backend):
    bench = Bench(case, backend)
    y, cache = bench.forward()
    dx, grads = bench.backward(cache)
    sums = dict.fromkeys(grads, 0.0)
    for i in range(B):
        yi, cache = bench.forward(bench.put(bench.x_host[i : i + 1]))
        dxi, parts = bench.backward(cache, bench.put(bench.dy_host[i : i + 1]))
        assert_allclose(bench.get(yi)[0], bench.get(y)[i], rtol=1e-13, atol=1e-15)
        assert_allclose(bench.get(dxi)[0], bench.get(dx)[i], rtol=1e-13, atol=1e-15)
        sums = {name: total + bench.get(parts[name]) for name, total in sums.items()}
    for name, g in grads.items():
        assert_allclose(bench.get(g), sums[name], rtol=1e-12, atol=1e-14)


@each_layer
def test_layer_gradients_are_central_differences(case, backend):
    bench = Bench(case, backend)
    _, cache = bench.forward()
    dx, grads = bench.backward(cache)
    numeric = central_differences(lambda x: bench.objective(x, bench.host), bench.x_host)
    assert_allclose(bench.get(dx), numeric, rtol=1e-7, atol=1e-9)
    for name, g in grads.items():
        numeric = central_differences(
            lambda v, k=name: bench.objective(bench.x_host, bench.host | {k: v}), bench.host[name]
        )
        assert_allclose(bench.get(g), numeric, rtol=1e-7, atol=1e-9)


@each_layer
def test_layer_gives_every_backend_the_same_numbers(case, backend):
    here, there = Bench(case, backend), Bench(case, xpnet.backends.get("numpy"))
    results = []
    for bench in (here, there):
        y, cache = bench.forward()
        dx, grads = bench.backward(cache)
        results.append([bench.get(a) for a in (y, dx, *grads.values())])
    for a, b in zip(*results, strict=True):
        if backend.name in ("cupy", "torch"):  # whose products, sums and functions round otherwise
            assert_allclose(a, b, rtol=1e-12, atol=1e-14)
        else:
            assert_array_equal(a, b)


@each_layer
def test_layer_in_float32_is_near_float64(case, backend):
    low, high = Bench(case, backend, "float32"), Bench(case, backend, "float64")
    for a, b in zip(_all(low), _all(high), strict=True):
        assert_allclose(a, b, rtol=1e-5, atol=2e-6)


def _all(bench):
    y, cache = bench.forward()
    dx, grads = bench.backward(cache)
    return [bench.get(a) for a in (y, dx, *grads.values())]


@pytest.mark.parametrize("case", [case for case in LAYERS if not isinstance(case.layer, xpnet.Activation)], ids=label)
def test_layer_takes_extreme_numbers(case, backend):
    """Nothing overflows on the way to a finite result."""
    bench = Bench(case, backend, "float32")
    x = np.zeros((2, *case.shape))
    x[0], x[1] = 1e4, -1e4
    x[0, 0] = -1e4  # both signs in one row
    y, cache = bench.forward(bench.put(x, "float32"))
    dx, grads = bench.backward(cache, bench.put(np.ones((2, *bench.dy_host.shape[1:])), "float32"))
    for a in (y, dx, *grads.values()):
        assert np.isfinite(bench.get(a)).all()


@each_layer
def test_layer_state_is_named_arrays(case, backend):
    bench = Bench(case, backend)
    _, cache = bench.forward()
    state = case.layer.init_state()
    assert set(case.layer.update_state(backend.xp, bench.context.state, cache)) <= set(state)
    assert all(isinstance(value, np.ndarray) for value in state.values())


def test_dropout_has_the_same_mask_on_every_backend(backend):
    x = backend.asarray(np.ones((200, 7), dtype=np.float32))
    step = backend.asarray(np.asarray([9], dtype=np.uint32))
    y, _ = xpnet.Dropout(0.3).forward(backend.xp, {}, x, xpnet.Context(True, 77, step))
    y = backend.to_numpy(y)
    reference, _ = xpnet.Dropout(0.3).forward(
        xpnet.backends.get("numpy").xp, {}, np.ones((200, 7), dtype=np.float32),
        xpnet.Context(True, 77, np.asarray([9], dtype=np.uint32)),
    )  # fmt: skip
    assert_array_equal(y, reference)
    assert 0.65 < (y > 0).mean() < 0.75
    assert_allclose(y[y > 0], 1 / 0.7, rtol=1e-6)


def test_dropout_mask_depends_on_step_and_key():
    xp, x = xpnet.backends.get("numpy").xp, np.ones((8, 8))
    masks = set()
    for key, step in ((1, 0), (1, 1), (2, 0)):
        context = xpnet.Context(True, key, np.asarray([step], dtype=np.uint32))
        masks.add(xpnet.Dropout().forward(xp, {}, x, context)[0].tobytes())
    assert len(masks) == 3


def test_dropout_in_training_needs_a_step():
    with pytest.raises(xpnet.errors.ConfigError, match=r"Dropout in training needs context\.step, a uint32 array"):
        xpnet.Dropout().forward(xpnet.backends.get("numpy").xp, {}, np.ones((1, 2)), xpnet.Context(training=True))


# ------------------------------------------------------------------------------------------------------ losses


class LossBench:
    """Output, target and weights for a loss on a backend."""

    def __init__(self, loss, targets, backend, dtype="float64", rows=B, outputs=3, seed=4):
        self.loss, self.backend, self.dtype = loss, backend, dtype
        rng = np.random.default_rng(seed)
        self.t_host = targets(rng, rows, outputs)
        self.y_host = rng.normal(size=(rows, outputs * loss.per_target))
        weight = rng.uniform(0.2, 1.0, rows)
        self.w_host = weight / weight.sum()

    def target(self, t):
        return self.backend.asarray(t if t.dtype.kind == "i" else t.astype(self.dtype))

    def __call__(self, y=None, t=None, w=None):
        y, t, w = (
            a if b is None else b for a, b in ((self.y_host, y), (self.t_host, t), (self.w_host, w))
        )  # fmt: skip
        arguments = (
            self.backend.asarray(y.astype(self.dtype)),
            self.target(t),
            self.backend.asarray(w.astype(self.dtype)),
        )
        before = [self.backend.to_numpy(a).copy() for a in arguments]
        with self.backend.active():
            value, dy = self.loss(self.backend.xp, *arguments)
        for a, kept in zip(arguments, before, strict=True):
            assert_array_equal(self.backend.to_numpy(a), kept)  # no argument is changed
        assert value.shape == ()
        assert dy.shape == y.shape
        assert value.dtype == dy.dtype == getattr(self.backend.xp, self.dtype)
        assert self.backend.owns(dy)
        assert self.backend.owns(value) or isinstance(value, np.generic)  # NumPy's own kind of 0-d array
        return float(value), self.backend.to_numpy(dy)


@each_loss
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, B])
@pytest.mark.parametrize("outputs", [2, 3])
def test_loss_shapes_data_types_and_arguments(loss, targets, backend, dtype, rows, outputs):
    value, dy = LossBench(loss, targets, backend, dtype, rows, outputs)()
    assert np.isfinite(value)
    assert np.isfinite(dy).all()


@each_loss
def test_loss_gradient_is_central_differences(loss, targets, backend):
    bench = LossBench(loss, targets, backend)
    is_row = bench.t_host.ndim == 2
    error = bench.y_host - np.tile(bench.t_host, loss.per_target) if is_row else np.ones(1)
    for kink in (0.0, *([loss.delta, -loss.delta] if isinstance(loss, xpnet.Huber) else [])):
        assert np.abs(error - kink).min() > 1e-4  # or differences would look across it
    _, dy = bench()
    assert_allclose(dy, central_differences(lambda y: bench(y)[0], bench.y_host), rtol=1e-7, atol=1e-9)


@each_loss
def test_loss_of_a_batch_is_the_weighted_sum_over_samples(loss, targets, backend):
    bench = LossBench(loss, targets, backend)
    value, dy = bench()
    total = 0.0
    for i in range(B):
        one = slice(i, i + 1)
        part, row = bench(bench.y_host[one], bench.t_host[one], bench.w_host[one])
        alone, _ = bench(bench.y_host[one], bench.t_host[one], np.ones(1))
        assert part == pytest.approx(bench.w_host[i] * alone, rel=1e-12)
        assert_allclose(row[0], dy[i], rtol=1e-12, atol=1e-15)
        total += part
    assert value == pytest.approx(total, rel=1e-12)


@each_loss
def test_loss_ignores_samples_of_weight_zero(loss, targets, backend):
    bench = LossBench(loss, targets, backend)
    weight = np.asarray([0.5, 0.0, 0.5, 0.0])
    other = bench.y_host.copy()
    other[1::2] = 50.0 - other[1::2]
    (value, dy), (same, dy_same) = bench(w=weight), bench(other, w=weight)
    assert value == same
    assert_array_equal(dy[::2], dy_same[::2])
    assert not dy[1::2].any()


@each_loss
def test_loss_prediction_has_the_targets_shape(loss, targets, backend):
    y = backend.asarray(np.random.default_rng(0).normal(size=(B, 3 * loss.per_target)).astype(np.float32))
    p = loss.predict(backend.xp, y)
    assert p.shape == (B, 3)
    assert p.dtype == backend.xp.float32
    p = backend.to_numpy(p)
    if loss.kind == "classification":
        assert_allclose(p.sum(axis=1), 1.0, rtol=1e-6)
    if loss.kind in ("classification", "binary"):
        assert ((p > 0) & (p < 1)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
@pytest.mark.parametrize(("loss", "targets"), [pair for pair in LOSSES if pair[0].takes_logits])
def test_loss_on_logits_is_finite_however_large_they_are(loss, targets, backend, dtype, size):
    bench = LossBench(loss, targets, backend, dtype)
    value, dy = bench(size * np.sign(bench.y_host))
    assert np.isfinite(value)
    assert np.isfinite(dy).all()
    with backend.active():
        p = loss.predict(backend.xp, backend.asarray((size * np.sign(bench.y_host)).astype(dtype)))
    assert np.isfinite(backend.to_numpy(p)).all()


def test_integer_classes_and_rows_with_a_one_are_the_same(backend):
    bench = LossBench(xpnet.CrossEntropy(), cases.LOSSES[-2][1], backend)
    value, dy = bench()
    same, dy_same = bench(t=np.eye(3)[bench.t_host])
    assert value == pytest.approx(same, rel=1e-15)
    assert_allclose(dy, dy_same, rtol=1e-14, atol=1e-16)
