"""Dropout's masks against the same hash in Python's own integers, and what chance they leave."""

import numpy as np
import pytest

import xpnet

from . import devices

xp = xpnet.backends.get("numpy").xp
WORD = 2**32


def mix(x):
    """The finaliser "lowbias32", in integers without a size."""
    x ^= x >> 16
    x = x * 0x7FEB352D % WORD
    x ^= x >> 15
    x = x * 0x846CA68B % WORD
    return x ^ (x >> 16)


def bits(counter, key, step):
    h = mix((step * 0x9E3779B9 + key) % WORD)
    return mix((mix((counter + h) % WORD) + h) % WORD)


def context(key=1, step=0, training=True):
    return xpnet.Context(training, key, np.array([step], dtype=np.uint32))


WRAPS = 380825806
"""A key whose hash at step 0 is 2^32 - 17, to which counters are added."""


@pytest.mark.parametrize("name", ["numpy", *devices.NAMES])
@pytest.mark.parametrize(
    ("key", "step"), [(0, 0), (1, 0), (0, 1), (WRAPS, 0), (0xDEADBEEF, 12345), (WORD - 1, WORD - 1)]
)
def test_bits(key, step, name):
    backend = devices.get(name)
    x, number = backend.asarray(np.ones((7, 5))), backend.asarray(np.array([step], dtype=np.uint32))
    for rate in (0.1, 0.5, 0.875):
        mask = xpnet.Dropout(rate).mask(backend.xp, x, xpnet.Context(True, key, number))
        kept = [bits(counter, key, step) >= int(rate * WORD) for counter in range(35)]
        assert backend.to_numpy(mask).ravel().tolist() == [(1.0 / (1.0 - rate)) * k for k in kept]


@pytest.mark.parametrize("name", ["numpy", *devices.OTHERS])
@pytest.mark.parametrize("step", [3, 2**31 - 1, 2**31 + 3, WORD - 1, WORD + 3])
def test_a_network_takes_the_mask_of_the_step_it_is_told(step, name):
    """Through `gradients` and `trace`, on both sides of 2^31, where a signed number would end."""
    layers = [xpnet.Linear(1, 40, bias_init="zeros"), xpnet.Dropout(0.5), xpnet.Linear(40, 1)]
    net = xpnet.Network(layers, "huber", devices.get(name))
    key = np.random.SeedSequence([0, 1]).generate_state(1)[0]  # of the seed and the layer's place
    kept = [bits(counter, int(key), step % WORD) >= WORD // 2 for counter in range(40)]
    _, gradients = net.gradients([[1.0]], [[7.0]], training=True, step=step)
    assert (gradients["2.W"][:, 0] != 0).tolist() == kept
    trace = net.trace([[1.0]], [[7.0]], training=True, step=step)
    assert (trace[1].y[0] != 0).tolist() == kept


@pytest.mark.parametrize("name", ["eager", *devices.OTHERS])
def test_masks_go_on_in_a_training_beyond_the_last_32_bit_step(name):
    """The step's number wraps, whether the library keeps it in uint32 or in int64."""

    def trained(backend):
        layers = [xpnet.Linear(1, 40), xpnet.Dropout(0.5), xpnet.Linear(40, 1)]
        net = xpnet.Network(layers, "huber", backend, "float64")
        trainer = xpnet.Trainer(net, xpnet.SGD(0.1), np.ones((1, 1)), np.ones((1, 1)))
        trainer.arrays["step"][...] = WORD - 2
        trainer.run(5)
        return net.backend.to_numpy(net.theta)

    there, here = trained(devices.get(name)), trained("numpy")
    np.testing.assert_allclose(there, here, rtol=1e-12)


def test_the_threshold_itself_is_kept():
    threshold = bits(0, 1, 0)
    mask = xpnet.Dropout(threshold / WORD).mask(xp, np.ones((1, 1)), context())
    assert mask[0, 0] > 0
    assert xpnet.Dropout((threshold + 1) / WORD).mask(xp, np.ones((1, 1)), context())[0, 0] == 0


def test_frequency_and_independence():
    """The rate is kept to 4 standard deviations, over elements and steps; neighbours know nothing of each other."""
    n, rate = 40000, 0.3
    deviation = np.sqrt(rate * (1 - rate) / n)
    dropout = xpnet.Dropout(rate)
    here = dropout.mask(xp, np.ones((200, 200)), context(5, 0)) == 0
    assert abs(here.mean() - rate) < 4 * deviation
    steps = np.array([dropout.mask(xp, np.ones((1, 4)), context(5, step))[0] == 0 for step in range(10000)])
    assert abs(steps.mean() - rate) < 4 * deviation
    other_step = dropout.mask(xp, np.ones((200, 200)), context(5, 1)) == 0
    other_key = dropout.mask(xp, np.ones((200, 200)), context(6, 0)) == 0
    for other in (other_step, other_key, np.roll(here, 1, axis=0), np.roll(here, 1, axis=1), here.T):
        assert abs(np.corrcoef(here.ravel(), other.ravel())[0, 1]) < 4 / np.sqrt(n)


def test_nothing_is_dropped():
    x = np.ones((3, 2))
    for layer, where in ((xpnet.Dropout(0.5), context(training=False)), (xpnet.Dropout(0.0), context())):
        y, cache = layer.forward(xp, {}, x, where)
        assert y is x
        dx, grads = layer.backward(xp, {}, cache, x, where)
        assert dx is x
        assert grads == {}


def test_training_needs_a_step():
    with pytest.raises(xpnet.errors.ConfigError, match=r"Dropout in training needs context\.step"):
        xpnet.Dropout(0.5).forward(xp, {}, np.ones((1, 1)), xpnet.Context(training=True))


def test_float32_stays():
    y, _ = xpnet.Dropout(0.3).forward(xp, {}, np.ones((3, 3), dtype="float32"), context())
    assert y.dtype == "float32"
