"""Mistakes that no derivative sees, in statistics and in augmentation: each is planted, and a test fails."""

import numpy as np
import pytest
import test_augmentation as augmentation
import test_normalization as normalization
from array_backends import make

import xpnet
from xpnet.layers.augmentation import shifted
from xpnet.layers.normalization import sum_over_places

NUMPY = make("numpy")


def statistics():
    """The tests of values and statistics of BatchNorm."""
    normalization.test_outside_of_training_the_running_statistics_are_used((2, 4, 5, 3))
    normalization.test_running_statistics_follow_their_own_recursion(0.1)
    normalization.test_two_rows_by_hand()
    normalization.test_a_batch_of_one_row_has_variance_zero()
    for shape in ((2, 4, 5, 3), (12, 2, 3)):
        for at_once in (2**17, 1):
            normalization.test_values_and_gradients_are_those_of_loops(xpnet.BatchNorm(3), shape, 1e-3, at_once)
    for shape in ((300, 2), (128, 28, 28, 2)):
        normalization.test_a_mean_far_above_the_spread_loses_no_digits_in_float32(shape)
    normalization.test_a_constant_channel_becomes_beta()
    for rows in (1, 7):
        normalization.test_a_row_gives_the_same_bits_in_any_batch_outside_of_training(
            xpnet.BatchNorm(6), (20, 4, 5, 6), rows
        )


def images():
    """The tests of augmentation."""
    for layer in augmentation.CASES:
        augmentation.test_every_backend_does_to_an_image_what_the_hash_says(layer, NUMPY, "float64")
        augmentation.test_backward_is_the_adjoint(layer, NUMPY)
        augmentation.test_nothing_happens_outside_of_training(layer)
        augmentation.test_an_image_fares_alike_in_any_batch_and_otherwise_in_another_step(layer)


HONEST = xpnet.BatchNorm.forward


def updated(momentum=None, bias=True, variance=True):
    """Return an `update_state` with a mistake."""

    def update_state(self, xp, state, cache):
        x, mu, var, _ = cache
        m, share = np.prod(x.shape[:-1]), self.momentum if momentum is None else 1 - self.momentum
        unbiased = var if bias else var * m / (m - 1)
        new = (1 - share) * state["variance"] + share * unbiased
        return {"mean": (1 - share) * state["mean"] + share * mu} | ({"variance": new} if variance else {})

    return update_state


def always_of_the_batch(self, xp, params, x, context):
    return HONEST(self, xp, params, x, xpnet.Context(True, context.key, context.step, context.state))


def running_in_training(self, xp, params, x, context):
    return HONEST(self, xp, params, x, xpnet.Context(False, state=context.state or self.init_state()))


def by_squares(self, xp, params, x, context):
    """The variance as the mean of squares minus the square of the mean."""
    y, (x, mu, var, s) = HONEST(self, xp, params, x, context)
    if context.training:
        m = np.prod(x.shape[:-1]).astype(x.dtype)
        var = sum_over_places(xp, x * x) / m - mu * mu
        s = np.sqrt(var + self.eps)
        y = (x - mu) * (params["gamma"] / s) + params["beta"]
    return y, (x, mu, var, s)


def eps_outside(self, xp, params, x, context):
    _, (x, mu, var, _) = HONEST(self, xp, params, x, context)
    s = np.sqrt(var) + self.eps
    return (x - mu) * (params["gamma"] / s) + params["beta"], (x, mu, var, s)


def one_sum(xp, x):
    """All rows in one sum, one after another."""
    return xp.sum(xp.reshape(x, (-1, x.shape[-1])), axis=0)


def of_the_last_part(xp, at_once, terms, *arrays):
    """Where the samples are taken in parts, the last of these decides."""
    B = arrays[0].shape[0]
    rows = B // np.gcd(B, 8) if np.prod(arrays[0].shape) > at_once else B
    return [B // rows * sum_over_places(xp, total) for total in terms(*(a[B - rows :] for a in arrays))]


STATISTICS = {
    "never updated": (xpnet.BatchNorm, "update_state", lambda self, xp, state, cache: {}),
    "the variance never updated": (xpnet.BatchNorm, "update_state", updated(bias=False, variance=False)),
    "biased variance kept": (xpnet.BatchNorm, "update_state", updated()),
    "momentum taken for its complement": (xpnet.BatchNorm, "update_state", updated(momentum=1, bias=False)),
    "divided by zero at one place": (xpnet.BatchNorm, "update_state", updated(bias=False)),
    "the batch's statistics in inference": (xpnet.BatchNorm, "forward", always_of_the_batch),
    "the running statistics in training": (xpnet.BatchNorm, "forward", running_in_training),
    "squares minus the square": (xpnet.BatchNorm, "forward", by_squares),
    "eps outside of the root": (xpnet.BatchNorm, "forward", eps_outside),
    "one long sum": (xpnet.layers.normalization, "sum_over_places", one_sum),
    "a part of the samples for all": (xpnet.layers.normalization, "sums_over_places", of_the_last_part),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_a_mistake_in_statistics_is_caught(monkeypatch, name):
    with np.errstate(all="ignore"):
        statistics()
        monkeypatch.setattr(*STATISTICS[name])
        with pytest.raises(AssertionError):
            statistics()


def goes_on(layer):
    """Let the layer act outside of training, too."""
    honest = layer.forward
    return (
        layer,
        "forward",
        lambda self, xp, params, x, context: honest(
            self, xp, params, x, xpnet.Context(True, context.key, context.step)
        ),
    )


def shift_again(self, xp, params, cache, dy, context):
    return (dy, {}) if cache is None else (shifted(xp, dy, *cache), {})


def same_for_all(self, xp, x, context):
    bits, other = BITS(self, xp, x, context)
    return 0 * bits + bits[:1], 0 * other + other[:1]


def whatever_the_step(self, xp, x, context):
    return BITS(self, xp, x, xpnet.Context(True, context.key, 0 * context.step))


def wrapped(xp, x, i, j):
    """What leaves the image on one side comes in on the other."""
    return np.stack([np.roll(image, (a[0], b[0]), (0, 1)) for image, a, b in zip(x, i, j, strict=True)])


BITS = xpnet.layers.augmentation.Augmentation.bits

AUGMENTATION = {
    "a flip in inference": goes_on(xpnet.RandomFlip),
    "a shift in inference": goes_on(xpnet.RandomShift),
    "a cutout in inference": goes_on(xpnet.RandomCutout),
    "the delta shifted as the image": (xpnet.RandomShift, "backward", shift_again),
    "the delta not flipped": (xpnet.RandomFlip, "backward", lambda self, xp, params, cache, dy, context: (dy, {})),
    "the delta not cut out": (xpnet.RandomCutout, "backward", lambda self, xp, params, cache, dy, context: (dy, {})),
    "all images alike": (xpnet.layers.augmentation.Augmentation, "bits", same_for_all),
    "all steps alike": (xpnet.layers.augmentation.Augmentation, "bits", whatever_the_step),
    "no zeros come in": (xpnet.layers.augmentation, "shifted", wrapped),
}


@pytest.mark.parametrize("name", AUGMENTATION)
def test_a_mistake_in_augmentation_is_caught(monkeypatch, name):
    images()
    monkeypatch.setattr(*AUGMENTATION[name])
    with pytest.raises(AssertionError):
        images()
