"""Augmentation: what happens to each image by an oracle of loops and whole numbers, and how often it happens."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import xpnet

NP = xpnet.backends.get("numpy").xp
KEY, STEP = 0x9ABCDEF0, 2**31 + 3
SHAPE = (6, 5, 4, 3)  # H is not W
CASES = [xpnet.RandomFlip(), xpnet.RandomShift(1), xpnet.RandomShift(7), xpnet.RandomCutout(2), xpnet.RandomCutout(3)]


def mix(h):
    """lowbias32 in whole numbers."""
    h ^= h >> 16
    h = h * 0x7FEB352D % 2**32
    h ^= h >> 15
    h = h * 0x846CA68B % 2**32
    return h ^ h >> 16


def bits(sample):
    """Return the two hashes of a sample."""
    h = mix((STEP * 0x9E3779B9 + KEY) % 2**32)
    return [mix((mix((counter + h) % 2**32) + h) % 2**32) for counter in (2 * sample, 2 * sample + 1)]


def below(bits, n):
    """The upper half of the bits, as a fraction of 65536, times n."""
    return n * (bits >> 16) // 65536


def oracle(layer, x):
    """Return what becomes of each image, pixel by pixel."""
    y, (_, H, W, _) = np.zeros_like(x), x.shape
    for b in range(len(x)):
        first, second = bits(b)
        for h in range(H):
            for w in range(W):
                if isinstance(layer, xpnet.RandomFlip):
                    y[b, h, w] = x[b, h, W - 1 - w if first >= 2**31 else w]
                elif isinstance(layer, xpnet.RandomShift):
                    count = 2 * layer.pixels + 1
                    to = h + below(first, count) - layer.pixels, w + below(second, count) - layer.pixels
                    if 0 <= to[0] < H and 0 <= to[1] < W:
                        y[b, to[0], to[1]] = x[b, h, w]
                else:
                    top, left = below(first, H) - layer.size // 2, below(second, W) - layer.size // 2
                    covered = top <= h < top + layer.size and left <= w < left + layer.size
                    y[b, h, w] = 0.0 if covered else x[b, h, w]
    return y


def context(backend, step=STEP, training=True):
    return xpnet.Context(training, KEY, backend.asarray(np.asarray([step], dtype=np.uint32)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layer", CASES, ids=str)
def test_every_backend_does_to_an_image_what_the_hash_says(layer, backend, dtype):
    x = np.random.default_rng(0).normal(size=SHAPE).astype(dtype)
    with backend.active():
        y, _ = layer.forward(backend.xp, {}, backend.asarray(x), context(backend))
    assert_array_equal(backend.to_numpy(y), oracle(layer, x))
    assert (oracle(layer, x) != x).any()


@pytest.mark.parametrize("layer", CASES, ids=str)
def test_backward_is_the_adjoint(layer, backend):
    """<f(x), dy> = <x, f'(dy)> for any two, and each number of dy goes to one place or to none."""
    rng = np.random.default_rng(1)
    x, dy = rng.normal(size=(2, *SHAPE))
    with backend.active():
        y, cache = layer.forward(backend.xp, {}, backend.asarray(x), context(backend))
        dx, grads = layer.backward(backend.xp, {}, cache, backend.asarray(dy), context(backend))
    assert grads == {}
    assert_allclose((backend.to_numpy(y) * dy).sum(), (x * backend.to_numpy(dx)).sum(), rtol=1e-13)
    counted, cache = layer.forward(NP, {}, np.arange(1.0, 1 + dy.size).reshape(SHAPE), context(backend_of("numpy")))
    back, _ = layer.backward(NP, {}, cache, dy, context(backend_of("numpy")))
    expected = np.zeros(dy.size)
    for place, delta in zip(counted.ravel(), dy.ravel(), strict=True):
        if place:
            expected[int(place) - 1] += delta
    assert_array_equal(back.ravel(), expected)


def backend_of(name):
    return xpnet.backends.get(name)


@pytest.mark.parametrize("layer", CASES, ids=str)
def test_nothing_happens_outside_of_training(layer):
    x = np.random.default_rng(0).normal(size=SHAPE)
    inference = context(backend_of("numpy"), training=False)
    y, cache = layer.forward(NP, {}, x, inference)
    assert y is x
    assert layer.backward(NP, {}, cache, x, inference)[0] is x


@pytest.mark.parametrize("layer", CASES, ids=str)
def test_an_image_fares_alike_in_any_batch_and_otherwise_in_another_step(layer):
    x = np.broadcast_to(np.random.default_rng(0).normal(size=SHAPE[1:]), SHAPE)
    y, _ = layer.forward(NP, {}, x, context(backend_of("numpy")))
    part, _ = layer.forward(NP, {}, x[:2], context(backend_of("numpy")))
    assert_array_equal(part, y[:2])
    assert len({image.tobytes() for image in y}) > 1  # images of a batch fare differently
    other, _ = layer.forward(NP, {}, x, context(backend_of("numpy"), STEP + 1))
    assert (other != y).any()


def test_every_shift_flip_and_place_is_equally_likely():
    x, there = np.ones((9000, 3, 5, 1)), context(backend_of("numpy"))
    assert_allclose(xpnet.RandomFlip().flips(NP, x, there).mean(), 0.5, atol=0.02)
    for shift in xpnet.RandomShift(2).shifts(NP, x, there):
        values, counts = np.unique(shift, return_counts=True)
        assert_array_equal(values, [-2, -1, 0, 1, 2])
        assert_allclose(counts / 9000, 0.2, atol=0.02)
    down, right = (shift.ravel() for shift in xpnet.RandomShift(2).shifts(NP, x, there))
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.05  # one says nothing of the other
    covered = 1.0 - xpnet.RandomCutout(1).mask(NP, x, there)
    assert_array_equal(covered.sum(axis=(1, 2, 3)), np.ones(9000))
    assert_allclose(covered.mean(axis=(0, 3)), 1 / 15, atol=0.01)


def network():
    augmented = [xpnet.RandomFlip(), xpnet.RandomShift(1), xpnet.RandomCutout(2)]
    return xpnet.Network([*augmented, xpnet.Flatten(), xpnet.Linear(60, 2)], "cross_entropy", input_shape=SHAPE[1:])


def test_a_training_that_is_resumed_sees_the_same_images(tmp_path):
    rng = np.random.default_rng(3)
    x, t = rng.normal(size=(20, *SHAPE[1:])).astype("float32"), rng.integers(0, 2, 20)
    options = {"batch_size": 8, "verbose": False, "checkpoint": tmp_path / "run.safetensors"}
    whole, part, other = network(), network(), network()
    whole.fit(x, t, epochs=4, **(options | {"checkpoint": None}))
    for epochs in (2, 4):
        part.fit(x, t, epochs=epochs, resume=True, **options)
    assert_array_equal(part.theta, whole.theta)
    other._keys = [key + 1 for key in other._keys]  # other shifts
    other.fit(x, t, epochs=4, **(options | {"checkpoint": None}))
    assert (other.theta != whole.theta).any()


def test_the_estimators_trainer_counts_steps_for_them():
    pytest.importorskip("sklearn", reason="the extra sklearn is not installed")
    from xpnet.estimators.sampling import Samples
    from xpnet.estimators.solvers import SolverState
    from xpnet.estimators.trainer import Call, EpochTrainer

    rng = np.random.default_rng(3)
    x, t = rng.normal(size=(20, *SHAPE[1:])).astype("float32"), rng.integers(0, 2, 20)
    net, other = network(), network()
    state = SolverState(xpnet.SGD(0.1), net)
    EpochTrainer(Call(net, state, Samples(x, t, None), 5, 0.0, False, np.random, 99), False).run(12)
    xpnet.Trainer(other, xpnet.SGD(0.1), x, t, batch_size=5, shuffle=False).run(12)
    assert_array_equal(net.theta, other.theta)


def test_an_explanation_says_what_happens_to_the_images():
    layers = [xpnet.RandomFlip(), xpnet.RandomShift(2), xpnet.RandomCutout(3), xpnet.GroupNorm(1, 3), xpnet.Flatten()]
    net = xpnet.Network([*layers, xpnet.Linear(60, 2)], "cross_entropy", input_shape=SHAPE[1:])
    text = net.explain()
    assert "y0 = f0 * x[:, :, ::-1, :] + (1 - f0) * x" in text
    assert "# f is 1 for each image that is mirrored and else 0; outside of training 0" in text
    assert "y1 = shifted(y0, i1, j1)" in text
    assert "# shifted moves each image down by i and right by j, zeros come in" in text
    assert "# m2 is 0 in a square of 3 by 3 places and else 1; outside of training 1" in text
    assert "# N counts a sample's places, and G its groups of K channels each" in text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: xpnet.RandomShift(0), "RandomShift: pixels must be an integer from 1 to 32767, got 0"),
        (lambda: xpnet.RandomCutout(2.5), r"RandomCutout: size must be an integer >= 1, got 2\.5"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(xpnet.errors.ConfigError, match=message):
        make()


@pytest.mark.parametrize("layer", CASES, ids=str)
def test_what_is_missing_is_said(layer):
    name = type(layer).__name__
    with pytest.raises(xpnet.errors.ShapeError, match=rf"{name}.* takes images of shape \(H, W, C\), got .* \(784,\)"):
        layer.output_shape((784,))
    with pytest.raises(xpnet.errors.ConfigError, match=rf"{name}.* in training needs context\.step, a uint32 array"):
        layer.forward(NP, {}, np.ones(SHAPE), xpnet.Context(training=True))
