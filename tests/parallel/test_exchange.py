"""What processes do that share a training, with threads in their place."""

import signal
import sys
import types

import numpy as np
import pytest
import shared_faults
from shared_threads import Aborted, DeviceArray, nccl, stand_for_cupy, together

import xpnet
from xpnet.backends import numpy as numpy_backend
from xpnet.errors import ConfigError, DataError, NonFiniteError
from xpnet.estimators import MLPClassifier
from xpnet.parallel import MPI, mpi
from xpnet.training.scores import Scores
from xpnet.training.slices import tree_sum

NUMPY = xpnet.backends.get("numpy")


class Eager(numpy_backend.NumpyBackend):
    """Calls the step itself each time."""

    compile = xpnet.backends.Backend.compile


def trained(workers):
    return shared_faults.train(shared_faults.network(), None, workers)


def test_a_training_has_the_same_bits_on_1_2_and_4():
    (alone,) = together(1, trained)
    assert isinstance(alone, str)
    assert together(2, trained) == [alone] * 2
    assert together(4, trained) == [alone] * 4


def pictures(workers, *layers):
    """Train a network of images with everything that acts on whole batches; return it."""
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(37, 5, 5, 2)), rng.integers(0, 3, 37)
    layers = [*layers, xpnet.Conv2D(2, 3, 3), xpnet.ReLU(), xpnet.Dropout(0.2), xpnet.Flatten(), xpnet.Linear(75, 3)]
    net = xpnet.Network(layers, "cross_entropy", dtype="float64", input_shape=(5, 5, 2), seed=0, l1=1e-4, l2=1e-3)
    weights = {"sample_weight": rng.uniform(0.5, 2, 37), "class_weight": "balanced", "averaging": 0.9}
    optimizer = xpnet.Adam(0.01, clip_norm=0.5, weight_decay=0.01)
    net.fit(x, t, epochs=3, batch_size=10, verbose=False, optimizer=optimizer, parallel=workers, **weights)
    return net


@pytest.mark.parametrize("layers", [(), (xpnet.RandomShift(1), xpnet.RandomFlip(), xpnet.RandomCutout(2))])
def test_a_training_by_slices_is_the_ordinary_one_up_to_rounding(layers):
    (shared,) = together(1, lambda workers: pictures(workers, *layers).theta)
    ordinary = pictures(None, *layers).theta
    np.testing.assert_allclose(shared, ordinary, rtol=1e-7, atol=1e-12)
    assert not np.array_equal(shared, ordinary)


def test_running_means_of_slices_are_those_of_the_batch():
    first = xpnet.BatchNorm(2)
    (shared,) = together(1, lambda workers: pictures(workers, first).state)
    ordinary = pictures(None, first).state
    np.testing.assert_allclose(shared["0.mean"], ordinary["0.mean"], rtol=1e-12)


@pytest.mark.parametrize("length", [1, 7, 64])
@pytest.mark.parametrize("size", [2, 4, 8])
def test_the_sum_over_processes_is_that_of_the_tree(size, length):
    parts = np.random.default_rng(length).normal(size=(size, length)).astype(np.float32)

    def work(workers):
        first, again = parts[workers.rank].copy(), 2 * parts[workers.rank]
        workers.total(first, NUMPY)
        workers.total(again, NUMPY)
        return first, again, workers._comm.sent

    for first, again, sent in together(size, work, slices=8):
        assert first.tobytes() == tree_sum([*parts]).tobytes()
        assert again.tobytes() == tree_sum([*(2 * parts)]).tobytes()
        assert abs(sent - 2 * 2 * (size - 1) / size * length * 4) <= 2 * 2 * size * 4  # two calls of 2 N (P - 1) / P


def test_a_process_that_does_not_come_is_named(capsys):
    def work(workers):
        return workers.decide(3) if workers.rank != 2 else None

    results = together(4, work, timeout=0.2)
    assert sorted(type(result).__name__ for result in results) == ["Aborted", "Aborted", "Aborted", "NoneType"]
    assert "waited 0.2 s for process 2" in capsys.readouterr().err


def test_what_one_process_raises_ends_all_and_is_told(capsys):
    def work(workers):
        x = shared_faults.X.copy()
        x[3, 1] = np.nan if workers.rank else 0.0
        return shared_faults.train(shared_faults.network(), None, workers, x=x)

    results = together(2, work, timeout=1.0)
    assert all(isinstance(result, Aborted) for result in results)
    assert "process 1 of 2 on" in (said := capsys.readouterr().err)
    assert f"{DataError.__name__}: x contains NaN: x[3, 1]" in said


def test_after_what_one_process_raises_no_step_is_done_with_the_others():
    """They are in another step, and might wait for ever."""
    sent = []

    def work(workers):
        def forward(xp, x):
            calls.append(1)
            if len(calls) == 20 and workers.rank:
                sent.append(workers._comm.sent)
                raise LookupError("in the step")
            return x

        calls, own = [], xpnet.Activation(forward, lambda xp, x: xp.ones_like(x))
        net = xpnet.Network([xpnet.Linear(6, 3), own, xpnet.Linear(3, 3)], "cross_entropy", Eager())
        try:
            return shared_faults.train(net, None, workers)
        finally:
            if workers.rank:
                sent.append(workers._comm.sent)

    results = together(2, work, timeout=1.0)
    assert all(isinstance(result, Aborted) for result in results)
    assert sent[0] == sent[1] > 0


def test_a_process_that_is_alone_has_the_state_after_its_last_step():
    seen = []

    def forward(xp, x):
        seen.append(net.theta.copy())
        if len(seen) == 9:  # in the third step, of four slices
            raise LookupError("in the step")
        return x

    own = xpnet.Activation(forward, lambda xp, x: xp.ones_like(x))
    net = xpnet.Network([xpnet.Linear(6, 3), own, xpnet.Linear(3, 3)], "cross_entropy", Eager())
    (result,) = together(1, lambda workers: shared_faults.train(net, None, workers))
    assert isinstance(result, LookupError)
    assert net.theta.tobytes() == seen[8].tobytes() != seen[4].tobytes()


def test_what_all_raise_is_raised_on_all():
    def work(workers):
        net = shared_faults.network()
        shared_faults.train(net, None, workers, optimizer=xpnet.SGD(1e38))

    assert [type(result) for result in together(2, work)] == [NonFiniteError] * 2


def test_facts_of_which_one_process_has_more_are_an_error_on_both():
    def work(workers):
        workers.agree("training", {"a": 1} | ({"b": 2} if workers.rank == 0 else {}))

    results = together(2, work)
    assert [type(result) for result in results] == [ConfigError] * 2
    assert all("b: 2 on process 0, None on process 1" in str(result) for result in results)


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_to_one_process_ends_all_after_the_same_step(number, expected):
    steps = []

    def work(workers):
        def ask(run):
            if workers.rank == 1:
                workers._signal = number

        try:
            shared_faults.train(net := shared_faults.network(), None, workers, callbacks=[ask])
        finally:
            steps.append(net.theta.tobytes())

    assert [type(result) for result in together(2, work)] == [expected] * 2
    assert steps[0] == steps[1]


def test_process_0_decides_when_to_stop():
    def work(workers):
        def stop(run):
            if workers.rank == 0 and run.epoch == 1:
                run.stop()

        net = shared_faults.network()
        history = net.fit(shared_faults.X, shared_faults.T, epochs=9, verbose=False, callbacks=stop, parallel=workers)
        return len(history["loss"])

    assert together(2, work) == [2, 2]


@pytest.mark.parametrize(("size", "slices"), [(3, 4), (4, 2), (1, 3), (2, 6)])
def test_numbers_of_processes_and_slices_that_do_not_go_together_are_refused(size, slices):
    results = together(size, lambda workers: None, slices=slices)
    assert all(isinstance(result, ConfigError) for result in results)
    assert f"{size} processes cannot share {slices} slices" in str(results[0])


def test_without_mpi4py_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ConfigError, match=r"pip install .*xpnet\[mpi\]"):
        shared_faults.network().fit(shared_faults.X, shared_faults.T, parallel="mpi")
    with pytest.raises(ConfigError, match="unknown parallel 'mpj'"):
        shared_faults.network().fit(shared_faults.X, shared_faults.T, parallel="mpj")


class Devices(xpnet.backends.Backend):
    """A backend of CuPy's name whose arrays are `DeviceArray`."""

    def __init__(self, name, gpu):
        self.name, self.gpu = name, gpu

    def address(self):
        return f"0000:0{self.gpu}:00.0"

    def asarray(self, a, dtype=None):
        return DeviceArray(a)

    def to_numpy(self, a):
        return a.host


@pytest.mark.parametrize("names", [("cupy", "cupy:1"), ("cupy", "cupy")])  # as each sees all GPUs, or its own only
@pytest.mark.parametrize("by_nccl", [True, False])
def test_arrays_on_devices_are_added_up_in_the_same_order(by_nccl, names, monkeypatch):
    groups = []
    stand_for_cupy(monkeypatch, nccl(2, groups) if by_nccl else types.SimpleNamespace(available=False))
    parts = np.random.default_rng(0).normal(size=(2, 9)).astype(np.float32)

    def work(workers):
        backend = Devices(names[workers.rank], workers.rank)
        vector, short = (DeviceArray(parts[workers.rank, :n].copy()) for n in (9, 1))  # of one number rank 0 has none
        workers.total(vector, backend)
        workers.total(short, backend)
        assert short.host.tobytes() == (parts[0] + parts[1])[:1].tobytes()
        return vector.host, len(workers._nccl)

    if by_nccl:
        results = together(2, work)
    else:
        with pytest.warns(RuntimeWarning, match=r"by way of the host.*pip install nvidia-nccl-cu13 .*nvidia-nccl-cu12"):
            results = together(2, work)
    assert all(result.tobytes() == (parts[0] + parts[1]).tobytes() for result, _ in results)
    assert [made for _, made in results] == [by_nccl] * 2  # for both vectors
    expected = [(0, 1, 0), (0, 1, 1), (0, 1, 4), (0, 1, 5), (1, 0, 0), (1, 0, 1), (1, 0, 4), (1, 0, 5)]
    assert sorted(groups) == (expected if by_nccl else [])


@pytest.mark.parametrize("asked", [0.0, 1.0])
def test_all_leave_nccl_together_when_a_training_ends(asked, monkeypatch):
    stand_for_cupy(monkeypatch, nccl(2, []))

    def work(workers):
        try:
            with workers.shared():
                workers.total(DeviceArray(np.ones(3, np.float32)), Devices("cupy", workers.rank))
                (used,) = workers._nccl.values()
                if asked:
                    raise workers.leave(asked)
        except KeyboardInterrupt:
            pass
        return used._communicator.open, {**workers._nccl}, {**workers._exchanges}

    assert together(2, work) == [(False, {}, {})] * 2


def test_two_processes_on_one_device_are_an_error_on_both():
    def work(workers):
        workers.total(DeviceArray(np.zeros(3, np.float32)), Devices(("cupy", "cupy:1")[workers.rank], 3))

    results = together(2, work)
    assert all(isinstance(result, ConfigError) for result in results)
    assert "processes 0 and 1 both compute on device 0000:03:00.0 of" in str(results[0])


def test_processes_of_one_machine_are_numbered():
    assert together(4, lambda workers: workers.local_rank) == [0, 1, 2, 3]


def test_what_is_said_of_an_mpi_is_kept_in_a_copy():
    def work(workers):
        twin = MPI(*workers.__reduce__()[1])
        return twin.slices, twin.timeout, twin.size

    assert together(2, work, slices=8) == [(8, 20.0, 2)] * 2


@pytest.mark.parametrize(
    ("places", "shares"),
    [
        ([("a", [0, 1])], [2]),
        ([("a", [0, 1])] * 2, [1, 1]),
        ([("a", [0, 1])] * 4, [1, 1, 1, 1]),  # more processes than cores
        ([("a", [0, 1])] * 2 + [("b", [0, 1, 2, 3])] * 2, [1, 1, 2, 2]),
        ([("a", [0, 1]), ("a", [2, 3])], [2, 2]),  # the launcher has bound each to cores of its own
        ([("a", [0, 1, 2, 3]), ("a", [2, 3])], [3, 1]),
    ],
)
def test_processes_of_one_machine_share_its_cores(places, shares):
    assert [mpi.own_cores(places, rank) for rank in range(len(places))] == shares


@pytest.mark.parametrize(("asked", "expected"), [(None, 3), (5, 5)])
def test_a_shared_training_uses_its_share_of_the_cores_unless_it_was_told_otherwise(asked, expected, monkeypatch):
    monkeypatch.setattr(mpi, "usable_cores", lambda: [0, 1, 2, 3, 4, 5])
    monkeypatch.setattr(numpy_backend, "usual_threads", lambda: 6)

    def work(workers):
        backend, seen = numpy_backend.NumpyBackend(asked), []

        def look(run):
            seen.extend([backend.threads, *(p._threads for p in run.trainer._programs[30]._programs)])

        shared_faults.train(shared_faults.network(backend=backend), None, workers, callbacks=[look])
        return {*seen}, backend.threads

    assert together(2, work) == [({expected}, asked or 6)] * 2


def test_a_shared_estimator_uses_its_share_of_the_cores(monkeypatch):
    monkeypatch.setattr(mpi, "usable_cores", lambda: [0, 1])
    monkeypatch.setattr(numpy_backend, "usual_threads", lambda: 2)

    seen = []
    monkeypatch.setattr(Scores, "__call__", lambda scores: seen.append(scores.net.backend.threads) or {})

    def work(workers):
        backend = numpy_backend.NumpyBackend()
        est = MLPClassifier(backend=backend, parallel=workers, random_state=0)
        data = shared_faults.X, shared_faults.T
        est.partial_fit(*data, classes=[0, 1, 2], validation_data=data)
        return backend.threads

    assert together(2, work) == [2, 2]
    assert seen == [1, 1]
