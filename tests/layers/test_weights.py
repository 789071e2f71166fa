"""Weights of samples and of classes."""

import numpy as np
import problems
import pytest
from numpy.testing import assert_allclose
from problems import classifier, flat

import xpnet


@pytest.fixture
def classes():
    return problems.three_classes()


# ----------------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_weights_are_the_same_as_repeated_samples(training_backend, classes, optimizer):
    x, t = classes
    times = np.random.default_rng(1).integers(0, 4, len(x))
    weighted, repeated = classifier(backend=training_backend), classifier(backend=training_backend)
    one = weighted.fit(x, t, sample_weight=times, optimizer=optimizer, epochs=4, batch_size=len(x), verbose=False)
    rows = np.repeat(np.arange(len(x)), times)
    two = repeated.fit(x[rows], t[rows], optimizer=optimizer, epochs=4, batch_size=len(rows), verbose=False)
    assert_allclose(flat(weighted), flat(repeated), rtol=1e-9, atol=1e-12)
    assert_allclose(one["loss"], two["loss"], rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-35, 1e-3, 1e39])
def test_only_the_proportions_of_weights_matter(classes, scale):
    x, t = classes
    weight = np.random.default_rng(2).uniform(0.5, 1.5, len(x))
    results = []
    for factor in (1.0, scale):
        net = classifier(dtype="float32")
        history = net.fit(
            x.astype(np.float32), t, sample_weight=factor * weight, epochs=2, batch_size=16, verbose=False
        )
        results.append([flat(net), history["loss"]])
    assert_allclose(results[0][0], results[1][0], rtol=1e-4, atol=1e-6)
    assert_allclose(results[0][1], results[1][1], rtol=1e-5)


@pytest.mark.parametrize("memory", [None, "1 MB"])
def test_class_weights_of_yes_or_no_are_sample_weights(memory):
    x = np.random.default_rng(0).normal(size=(60, 2)).astype("float32")
    t = np.arange(60) % 4 == 0
    for class_weight, weight in (({1: 3.0}, [1.0, 3.0]), ("balanced", [60 / 90, 60 / 30])):
        by_class, by_sample = (xpnet.mlp([2, 4, 1], loss="binary_cross_entropy") for _ in range(2))
        one = by_class.fit(x, t, class_weight=class_weight, epochs=2, memory=memory, verbose=False)
        two = by_sample.fit(x, t, sample_weight=np.asarray(weight)[t.astype(int)], epochs=2, verbose=False)
        assert_allclose(one["loss"], two["loss"], rtol=1e-6)
        assert_allclose(flat(by_class), flat(by_sample), rtol=1e-5, atol=1e-7)


def test_class_weights_are_sample_weights(classes):
    x, t = classes
    for class_weight in ({0: 0.5, 2: 3.0}, "balanced"):
        by_class, by_sample = classifier(), classifier()
        own = np.linspace(0.5, 1.0, len(x))
        weight = own * xpnet.model.weights.class_weights(class_weight, t, 3)
        one = by_class.fit(x, t, class_weight=class_weight, sample_weight=own, epochs=2, verbose=False)
        two = by_sample.fit(x, t, sample_weight=weight, epochs=2, verbose=False)
        assert_allclose(flat(by_class), flat(by_sample), rtol=1e-12, atol=1e-15)
        assert_allclose(one["loss"], two["loss"], rtol=1e-12)
