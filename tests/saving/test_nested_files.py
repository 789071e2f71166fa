"""Layers inside of layers in files: there and back, and what strangers may put there."""

import copy
import pickle

import nested
import numpy as np
import pytest
from nested import Counted, T, Undeclared, X, network
from numpy.testing import assert_array_equal

import xpnet
from xpnet import Linear, Residual, Sequence, Tanh
from xpnet.errors import CheckpointError
from xpnet.files.tensors import read_tensors, write_tensors


def test_a_nested_network_comes_back_to_the_bit(tmp_path):
    net = network()
    net.fit(X, T, epochs=2, verbose=False)
    net.save(tmp_path / "f")
    again = xpnet.load(tmp_path / "f")
    assert again.layers == net.layers
    assert repr(again) == repr(net)
    assert_array_equal(again.theta, net.theta)
    assert_array_equal(again.predict_proba(X), net.predict_proba(X))
    assert set(read_tensors(tmp_path / "f")[0]) == set(net.parameters)
    for other in (again, net):  # the layers inside draw the same random numbers
        other.fit(X, T, epochs=2, verbose=False)
    assert_array_equal(again.theta, net.theta)


@pytest.mark.parametrize("make", [copy.deepcopy, copy.copy, lambda net: net.to("numpy"), lambda net: net.copy()])
def test_copies_are_equal(make):
    net = network()
    assert_array_equal(make(net).predict_proba(X), net.predict_proba(X))
    again = pickle.loads(pickle.dumps(net))
    again.fit(X, T, epochs=1, verbose=False)
    net.fit(X, T, epochs=1, verbose=False)
    assert_array_equal(again.theta, net.theta)


def test_functions_and_layers_of_ones_own_inside(tmp_path):
    class Half(xpnet.layers.Identity):
        pass

    def cube(xp, x):
        return x * x * x

    inner = [Half(), xpnet.Activation(cube, lambda xp, x: 3 * x * x, name="cube"), Linear(5, 5, weight_init=weights)]
    net = xpnet.Network([Residual([Sequence(inner)]), Linear(5, 2)], "huber")
    net.save(tmp_path / "f")
    with pytest.raises(
        CheckpointError, match=r"layers\[0\]\.layers\[0\]\.layers\[0\]: unknown object type 'Half' is not"
    ):
        xpnet.load(tmp_path / "f")
    own = {"Half": Half, "cube": cube, "weights": weights, "layers[0].layers[0].layers[1].df": inner[1].df}
    again = xpnet.load(tmp_path / "f", classes=own)
    assert again.layers == net.layers
    assert_array_equal(again.forward(X), net.forward(X))


def weights(rng, *shape):
    return np.full((5, 5), 0.1)


def described(tmp_path, layers, tensors=None):
    """Write a file with these descriptions of layers."""
    network().save(tmp_path / "f")
    kept, description = read_tensors(tmp_path / "f")
    description["network"]["layers"] = layers
    write_tensors(tmp_path / "f", kept if tensors is None else tensors, description)
    return tmp_path / "f"


RELU = {"class": "ReLU"}
HUGE = {
    "class": "Linear",
    "inputs": 10**6,
    "outputs": 10**6,
    "bias": True,
    "weight_init": "zeros",
    "bias_init": "zeros",
}


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"class": "Sequence", "layers": []}, "'Sequence' refuses its values: Sequence: layers is empty"),
        ({"class": "Sequence", "layers": "abc"}, "refuses its values: Sequence: layers must be a sequence of layers"),
        ({"class": "Sequence", "layers": 3}, "refuses its values"),
        ({"class": "Sequence", "layers": {"tuple": [3]}}, r"refuses its values: Sequence: layers\[0\] must be a layer"),
        ({"class": "Sequence", "layers": [{"class": "CrossEntropy"}]}, "refuses its values"),
        ({"class": "Sequence", "layers": [{"class": "os.system"}]}, "unknown object type 'os.system'"),
        ({"class": "Sequence", "layers": [RELU], "shortcut": []}, "unknown are"),
        ({"class": "Residual", "layers": [RELU]}, "missing are"),
        ({"class": "Residual", "layers": [RELU], "shortcut": None}, "shortcut must be a sequence of layers"),
        ({"class": "Residual", "layers": [HUGE], "shortcut": []}, r"'0\.0\.W' \(1000000, 1000000\) is missing"),
    ],
)  # fmt: skip
def test_impossible_layers_inside(tmp_path, layer, message):
    with pytest.raises(CheckpointError, match=message):
        xpnet.load(described(tmp_path, [layer, {**HUGE, "inputs": 2, "outputs": 2}]))


def test_layers_inside_that_do_not_fit(tmp_path):
    path = described(tmp_path, [{"class": "Residual", "layers": [{**HUGE, "inputs": 2, "outputs": 3}], "shortcut": []}],
                     {"0.0.W": np.zeros((2, 3), np.float32), "0.0.b": np.zeros(3, np.float32)})  # fmt: skip
    with pytest.raises(CheckpointError, match=r"no network can be made.*layers\[0\] Residual adds f\(x\) of shape"):
        xpnet.load(path)


def test_a_deep_nest_from_a_stranger_is_an_error_or_a_network(tmp_path):
    """However many brackets: no crash, and no exception but one."""
    for depth in (5, 20, 60, 120, 240, 480, 1000):
        layer = {**HUGE, "inputs": 2, "outputs": 2}
        for _ in range(depth):
            layer = {"class": "Sequence", "layers": [layer]}
        name = "0." * (depth + 1)
        tensors = {f"{name}W": np.zeros((2, 2), np.float32), f"{name}b": np.zeros(2, np.float32)}
        try:
            net = xpnet.load(described(tmp_path, [layer], tensors))
        except CheckpointError:
            assert depth > 5
        else:
            assert net.predict(np.zeros((1, 2), np.float32)).shape == (1,)


@pytest.mark.parametrize("kind", [xpnet.Sequence, xpnet.Residual])
def test_41_layers_inside_of_each_other_are_saved_and_more_are_refused_for_what_they_are(tmp_path, kind):
    def nested(depth):
        layer = xpnet.Linear(2, 2)
        for _ in range(depth):
            layer = kind([layer])
        return xpnet.Network([layer], "cross_entropy")

    net = nested(41)
    net.save(tmp_path / "net")
    assert xpnet.load(tmp_path / "net").layers == net.layers
    with pytest.raises(CheckpointError, match=r"nested deeper than 128.* for 41 layers inside .* with fewer$"):
        nested(42).save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_training_of_nested_layers_goes_on_to_the_bit(tmp_path):
    options = {"batch_size": 7, "verbose": False, "optimizer": "adam", "averaging": 0.9}
    whole, part, rest = (network(l2=1e-3) for _ in range(3))
    history = whole.fit(X, T, epochs=6, **options)

    class Boom(Exception):
        pass

    class Stop(xpnet.Callback):
        every = 1

        def on_steps(self, run):
            if run.step == 15:
                raise Boom

    with pytest.raises(Boom):
        part.fit(X, T, epochs=6, checkpoint=tmp_path / "f", callbacks=[Stop()], **options)
    rest.theta[...] = 0
    resumed = rest.fit(X, T, epochs=6, checkpoint=tmp_path / "f", resume=True, **options)
    assert_array_equal(rest.theta, whole.theta)
    assert_array_equal(resumed["loss"], history["loss"])
    assert {"training.slot.m.0.shortcut.0.W", "training.average.0.1.0.b"} <= set(read_tensors(tmp_path / "f")[0])
    with pytest.raises(CheckpointError, match=r"layers\[0\]\.layers\[1\]\.layers\[2\]\.rate is 0\.3 in the file, 0\.1"):
        nested.network(dropout=0.1, l2=1e-3).fit(X, T, epochs=7, checkpoint=tmp_path / "f", resume=True, **options)


def test_running_statistics_inside_are_stored(tmp_path):
    block = Residual([Counted(), Tanh()])
    net = xpnet.Network([Linear(5, 3), block], "cross_entropy")
    net.fit(X, T, epochs=2, batch_size=10, verbose=False, checkpoint=tmp_path / "f")
    again = xpnet.load(tmp_path / "f", classes=[Counted])
    assert again.state["1.0.count"].tolist() == [8.0]
    assert_array_equal(again.predict_proba(X), net.predict_proba(X))


def test_all_differences_inside_are_listed_at_once(tmp_path):
    xpnet.Network([Linear(5, 3), Sequence([Undeclared(), Counted()])], "huber").save(tmp_path / "f")
    tensors, description = read_tensors(tmp_path / "f")
    del tensors["state.1.1.count"]
    write_tensors(tmp_path / "f", tensors | {"1.0.a": np.zeros(2, np.float32)}, description)
    with pytest.raises(CheckpointError, match=r"'1\.0\.a' has shape \(2,\).*'state\.1\.1\.count' \(1,\) is missing"):
        xpnet.load(tmp_path / "f", classes=[Undeclared, Counted])
