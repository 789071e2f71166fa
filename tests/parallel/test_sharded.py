"""Processes of which each has its own part of the samples, with threads in their place."""

import re

import numpy as np
import pytest
from shared_threads import together

import xpnet
from xpnet.errors import CheckpointError, ConfigError, NonFiniteError, XpnetError
from xpnet.estimators import MLPClassifier
from xpnet.parallel import MPI
from xpnet.training.feed import Feed
from xpnet.training.objective import Objective
from xpnet.training.sharded import sharded_order
from xpnet.training.trainer import Trainer

SAMPLES = 103  # the parts are not equally long, and the last batch is smaller than the others
RNG = np.random.default_rng(0)
X, T = RNG.integers(0, 255, (SAMPLES, 6)).astype("uint8"), RNG.integers(0, 3, SAMPLES)
WEIGHTS = RNG.uniform(0.5, 2.0, SAMPLES)
EVERYTHING = {"class_weight": "balanced", "averaging": 0.9, "validation_data": (X[:9], T[:9]), "metrics": "accuracy"}


def network(**options):
    layers = [xpnet.Linear(6, 12), xpnet.BatchNorm(12), xpnet.ReLU(), xpnet.Dropout(0.2), xpnet.Linear(12, 3)]
    return xpnet.Network(layers, "cross_entropy", **{"seed": 1, "l2": 1e-3} | options)


def fit(workers, net, samples=SAMPLES, x=X, weighted=True, **options):
    """Train with this process's own rows; return the bits of what comes out."""
    rows = workers.part(samples)
    weight = {"sample_weight": WEIGHTS[rows]} if weighted else {}
    fixed = {"epochs": 3, "batch_size": 20, "scale": 1 / 255, "verbose": False, "parallel": workers}
    net.fit(x[rows], T[rows], **fixed | weight | options)
    return b"".join(a.tobytes() for a in (net.theta, *net.state.values()))


@pytest.mark.parametrize(
    ("samples", "batch", "slices"), [(103, 20, 4), (64, 8, 8), (103, 103, 4), (3, 3, 4), (9, 4, 4)]
)
def test_each_slice_of_a_batch_is_taken_from_its_own_part_of_the_samples(samples, batch, slices):
    first, second = (sharded_order(5, samples, slices, batch, epoch) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == [*range(samples)]
    assert (first.tolist() == second.tolist()) == (samples < 4)
    by_part = {tuple(part - part.min()) for part in np.split(np.argsort(first), slices)} if samples == 64 else ()
    assert len(by_part) in (0, slices)  # parts of one length are not shuffled alike
    for start in range(0, samples, batch):
        rows = first[start : start + batch]
        for k in range(slices):
            own = rows[k * len(rows) // slices : (k + 1) * len(rows) // slices]
            assert all(k * samples // slices <= row < (k + 1) * samples // slices for row in own)


@pytest.mark.parametrize(
    "options", [EVERYTHING, {"precision": "float16"}, {"shuffle": False, "weighted": False}, {"batch_size": SAMPLES}]
)
def test_the_bits_are_the_same_for_1_2_and_4_processes(options):
    def work(workers):
        return fit(workers, network(), **options)

    (alone,) = together(1, work, sharded=True)
    assert isinstance(alone, bytes)
    assert together(2, work, sharded=True) == [alone] * 2
    assert together(4, work, sharded=True) == [alone] * 4


def test_it_is_the_training_by_slices_with_the_samples_in_this_order():
    x = X.astype("float32")

    def whole(workers):
        net, optimizer = network(), xpnet.Adam()
        feed = Feed(
            x, T, WEIGHTS * (SAMPLES / WEIGHTS.sum()), 20, lambda epoch: sharded_order(net.seed, SAMPLES, 4, 20, epoch)
        )
        Trainer.of(net, optimizer, feed, Objective(net), None, workers).run(3 * feed.steps_per_epoch)
        return b"".join(a.tobytes() for a in (net.theta, *net.state.values()))

    def parts(workers):
        return fit(workers, network(), x=x, scale=None)

    assert together(2, parts, sharded=True) == together(1, whole) * 2


def test_a_training_goes_on_with_another_number_of_processes_to_the_bit(tmp_path):
    stored = {"checkpoint": str(tmp_path / "run.safetensors"), "resume": True, "checkpoint_every": 4}
    for size, epochs in ((4, 1), (2, 2), (1, 3)):
        last = together(size, lambda workers, n=epochs: fit(workers, network(), epochs=n, **stored), sharded=True)
    assert last == together(1, lambda workers: fit(workers, network()), sharded=True)
    for what, other in {
        "data is": lambda workers: fit(workers, network(), x=X[::-1], **stored),
        "sharded is True in the file": lambda workers: network().fit(
            X, T, sample_weight=WEIGHTS, batch_size=20, scale=1 / 255, verbose=False, parallel=MPI(), **stored
        ),
    }.items():
        (error,) = together(1, other, sharded=True)
        assert isinstance(error, CheckpointError), error
        assert what in str(error)


def test_numbers_that_are_not_finite_are_explained_by_the_whole_batch_on_all():
    def work(workers):
        fit(workers, network(), optimizer=xpnet.SGD(1e38))

    (alone,) = together(1, work, sharded=True)
    assert isinstance(alone, NonFiniteError)
    assert [str(error) for error in together(2, work, sharded=True)] == [str(alone)] * 2


def test_samples_that_are_not_shared_out_evenly_are_an_error_on_all():
    def work(workers):
        rows = slice(0, 60) if workers.rank == 0 else slice(60, SAMPLES)
        network().fit(X[rows], T[rows], parallel=workers)

    results = together(2, work, sharded=True)
    assert all(isinstance(result, ConfigError) for result in results)
    assert "have 60, 43 samples, but 103 must be shared out as 51, 52: give each its own rows" in str(results[1])


def test_a_process_that_has_all_samples_beside_one_that_has_a_part_is_an_error_on_both():
    def work(workers):
        workers.sharded = workers.rank == 0
        fit(workers, network())

    results = together(2, work, sharded=True)
    assert all(isinstance(result, ConfigError) for result in results)
    assert all("sharded: True on process 0, " in str(result) for result in results)


def test_weights_that_only_one_process_gives_are_an_error_on_both():
    results = together(2, lambda workers: fit(workers, network(), weighted=workers.rank == 1), sharded=True)
    assert all("sample_weight: False on process 0, True on process 1" in str(result) for result in results)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 10}, "batch_size must be a multiple of 4, .* got 10"),
        ({"window": 60}, "neither window nor validation_split"),
        ({"validation_split": 0.2}, "give every process the same validation_data"),
        ({"memory": 1}, "nothing is streamed"),
        ({"callbacks": xpnet.Recorder()}, "a Recorder looks at samples from everywhere"),
        ({"sample_weight": WEIGHTS}, "sample_weight has 103 samples"),
    ],
)
def test_what_does_not_go_together_with_parts_is_refused(options, message):
    (error,) = together(1, lambda workers: fit(workers, network(), samples=101, **options), sharded=True)
    assert isinstance(error, XpnetError), error
    assert re.search(message, str(error))


def test_estimators_refuse_parts():
    with pytest.raises(ConfigError, match=r"with sharded=True use xpnet\.Network\.fit"):
        MLPClassifier(parallel=MPI(sharded=True)).fit(X, T)
