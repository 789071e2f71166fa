"""Samples of more axes than one: everything that takes, shows or stores them."""

import re

import images
import numpy as np
import pytest
from images import Flat, Mixed, data, network
from numpy.testing import assert_array_equal

import xpnet
from xpnet.errors import CheckpointError, ConfigError, DataError, ShapeError
from xpnet.files.tensors import read_tensors, write_tensors

X, T = data()


def build(*layers, loss="cross_entropy", **options):
    return xpnet.Network(list(layers), loss, **options)


# -------------------------------------------------------------------------------------------- the shape of a sample


def test_the_shape_of_a_sample_can_be_given():
    net = network()
    assert net.input_shape == net.given_shape == (4, 3, 2)
    assert net.output_shape == (3,)
    assert repr(net).endswith("dtype='float32', input_shape=(4, 3, 2))")
    assert build(Mixed(1, 2), Flat(), input_shape=[1, np.int64(2), 1]).input_shape == (1, 2, 1)


def test_a_shape_that_the_layers_tell_themselves_need_not_be_given():
    for net in (build(xpnet.Linear(4, 2)), build(xpnet.Linear(4, 2), input_shape=(4,))):
        assert net.input_shape == (4,)
        assert net.given_shape is None
        assert "input_shape" not in repr(net)


IMPOSSIBLE = [
    (lambda: build(xpnet.ReLU()), ConfigError, r"no layer says how many inputs .* e\.g\. input_shape=\(28, 28, 1\)"),
    (lambda: build(Flat(), input_shape=()), ConfigError, r"input_shape must be the shape of one sample.*got \(\)"),
    (lambda: build(Flat(), input_shape="abc"), ConfigError, "input_shape must be the shape of one sample.*got 'abc'"),
    (lambda: build(Flat(), input_shape=3), ConfigError, "input_shape must be the shape of one sample.*got 3"),
    (lambda: build(Flat(), input_shape=(3, 0)), ConfigError, r"input_shape\[1\] must be an integer >= 1, got 0"),
    (lambda: build(Flat(), input_shape=(3, None)), ConfigError, r"input_shape\[1\] must be an integer >= 1"),
    (lambda: build(xpnet.Linear(4, 2), input_shape=(5,)), ShapeError,
     r"^layers\[0\] Linear.* takes 4 inputs, but a sample has 5$"),
    (lambda: build(xpnet.ReLU(), xpnet.Linear(6, 2), input_shape=(3, 2, 1)), ShapeError,
     r"^layers\[1\] L.* 6 inputs, but layers\[0\] ReLU\(\) before it gives \(3, 2, 1\): put Flatten\(\) before it$"),
    (lambda: build(xpnet.Linear(7, 2), input_shape=(3, 2)), ShapeError,
     r"takes 7 inputs, but a sample has \(3, 2\): put Flatten\(\) before it, which gives 6$"),
    (lambda: build(Mixed(1, 2), Flat(), xpnet.Linear(8, 2)), ShapeError,
     r"^layers\[0\] Mixed\(1, 2\) takes samples \(H, W, 1\), got \(8,\); give the shape of one sample, e\.g\."),
    (lambda: build(xpnet.Linear(4, 4), Mixed(1, 2), Flat()), ShapeError,
     r"^layers\[1\] Mixed\(1, 2\) takes samples \(H, W, 1\), got \(4,\); before it comes layers\[0\] Linear\(.*\)$"),
    (lambda: build(Mixed(1, 2), input_shape=(2, 2, 1)), ShapeError,
     r"the network gives \(2, 2, 2\) for a sample, but CrossEntropy takes a row of numbers: put Flatten\(\) at"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "error", "message"), IMPOSSIBLE)
def test_impossible_shapes(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("last", [xpnet.Softmax(), xpnet.Sigmoid()])
def test_what_stands_at_the_end_of_a_sequence_stands_at_the_end(last):
    inner = xpnet.Sequence([xpnet.Tanh(), xpnet.Sequence([last])])
    with pytest.raises(ConfigError, match=f"takes logits; remove the {type(last).__name__} layer at the end"):
        build(xpnet.Linear(3, 2), inner)
    build(xpnet.Linear(3, 2), inner, loss="huber")
    build(xpnet.Linear(3, 2), xpnet.Residual([last]))  # gives no probabilities


# -------------------------------------------------------------------------------------------------------- the data


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (X.reshape(30, 24), ShapeError,
         r"have shape \(samples, 4, 3, 2\), got \(30, 24\)\. Reshape your data, e\.g\. x\.reshape\(-1, 4, 3, 2\)\."),
        (X[0], ShapeError, r"got \(4, 3, 2\)\. Reshape your data: x\[None, \.\.\.\] if it is a single sample\."),
        (X[..., 0], ShapeError, r"got \(30, 4, 3\)\. Reshape your data\.$"),
        (X[:, :, :, :1][0], ShapeError, r"got \(4, 3, 1\)\. Reshape your data\.$"),
        (X.transpose(0, 2, 1, 3), ShapeError, r"x has samples of shape \(3, 4, 2\), but the network takes \(4, 3, 2\)"),
        (X[:0], DataError, r"x has 0 sample\(s\)"),
        (X * np.where(np.arange(2) == 1, np.nan, 1.0), DataError, r"x contains NaN: x\[0, 0, 0, 1\] is not finite"),
    ],
)  # fmt: skip
def test_data_that_does_not_fit(x, error, message):
    with pytest.raises(error, match=message):
        network().fit(x, T[: len(x)], verbose=False)


def test_everything_works_with_images(training_backend):
    net = network(training_backend)
    recorder = xpnet.Recorder(3)
    before = net.evaluate(X, T)["loss"]
    history = net.fit(X, T, epochs=4, batch_size=8, validation_split=0.2, callbacks=[recorder], verbose=False)
    assert history["loss"][-1] < history["loss"][0]
    assert net.evaluate(X, T)["loss"] < before
    assert net.predict(X, batch_size=7).shape == (30,)
    assert net.predict_proba(X).shape == (30, 3)
    assert recorder["1.0.y"].rms.shape == (len(recorder.steps),)
    trace = net.trace(X, T)
    assert trace["1.shortcut.0"].y.shape == (30, 4, 3, 5)
    assert "(30, 4, 3, 5)" in str(trace)


def test_the_numbers_of_a_record_are_those_of_images():
    net, recorder = network(dtype="float64"), xpnet.Recorder(1, parameters=True)
    net.fit(X.astype(float), T, epochs=1, batch_size=30, shuffle=False, callbacks=[recorder], verbose=False)
    trace = recorder.network(0).trace(X.astype(float), T)
    for place, name in (("1.0", "y"), ("1.0", "delta"), ("1", "y"), ("2", "y")):
        a = getattr(trace[place], name)
        assert recorder[f"{place}.{name}"].rms[0] == pytest.approx(np.sqrt(np.mean(a**2)))


def test_the_gradients_of_images_are_checked():
    report = xpnet.check_gradients(network(), X[:4], T[:4])
    assert report.passed, report
    assert {row.name for row in report.arrays} == {"x", "1.0.W", "1.shortcut.0.W", "3.W", "3.b"}


def test_a_dead_unit_of_an_image_is_a_channel():
    layers = [Mixed(2, 3), xpnet.ReLU(), Flat(), xpnet.Linear(36, 3)]
    net = build(*layers, input_shape=(4, 3, 2))
    net.set_parameters({"0.W": [[-1.0, 1.0, 1.0], [0.0, 0.0, 1.0]]})
    (sentence,) = net.trace(np.abs(X), T).findings
    assert "1 of 3 units of layer 1 ReLU give 0 for all 30 samples" in sentence


def test_the_table_and_the_equations_have_the_shapes_of_images():
    net = network()
    assert re.search(r"\n  1\.0 +Mixed +\(B, 4, 3, 5\) +10\n", net.summary())
    text = net.explain()
    assert "x is (B, 4, 3, 2), a row a sample" in text
    assert re.search(r"\ny0 = maximum\(x, 0\) +# \(B, 4, 3, 2\)\n", text)
    assert re.search(r"\ny1_1 = tanh\(y1_0\) +# \(B, 4, 3, 5\)\n", text)
    assert re.search(r"\ny1 = y1_1 \+ y1_shortcut_0 +# \(B, 4, 3, 5\)\n", text)


# ----------------------------------------------------------------------------------------------------------- files


def test_the_shape_is_stored_if_it_had_to_be_given(tmp_path):
    net = network()
    net.save(tmp_path / "f")
    assert read_tensors(tmp_path / "f")[1]["network"]["input_shape"] == [4, 3, 2]
    again = xpnet.load(tmp_path / "f", classes=[Mixed, Flat])
    assert again.input_shape == (4, 3, 2)
    assert_array_equal(again.predict_proba(X), net.predict_proba(X))
    for options in ({}, {"input_shape": (4,)}):
        build(xpnet.Linear(4, 2), **options).save(tmp_path / "g")
        assert "input_shape" not in read_tensors(tmp_path / "g")[1]["network"]


@pytest.mark.parametrize("shape", [[], [0], "x", 3, [1.5], [True], [[1]], {"tuple": [4, 3, 2]}, [5, 3, 2], [24]])
def test_a_file_with_an_impossible_shape(tmp_path, shape):
    network().save(tmp_path / "f")
    tensors, description = read_tensors(tmp_path / "f")
    description["network"]["input_shape"] = shape
    write_tensors(tmp_path / "f", tensors, description)
    with pytest.raises(CheckpointError, match="no network can be made of this description"):
        xpnet.load(tmp_path / "f", classes=[Mixed, Flat])


def test_a_training_on_images_goes_on_to_the_bit(tmp_path):
    options = {"batch_size": 7, "verbose": False, "optimizer": "adam"}
    whole, part, rest = network(), network(), network()
    whole.fit(X, T, epochs=5, **options)
    part.fit(X, T, epochs=2, checkpoint=tmp_path / "f", **options)
    rest.fit(X, T, epochs=5, checkpoint=tmp_path / "f", resume=True, **options)
    assert_array_equal(rest.theta, whole.theta)
    other = X.copy()
    other[0, 0, 0, 0] += 1
    with pytest.raises(CheckpointError, match="data is"):
        network().fit(other, T, epochs=6, checkpoint=tmp_path / "f", resume=True, **options)


def test_mistaken_images_are_drawn():
    plots = pytest.importorskip("xpnet.plots")
    pytest.importorskip("matplotlib", reason="pictures need matplotlib").use("agg")
    assert images.data()[0].shape[1:] == (4, 3, 2)
    ones = X[..., :1]
    plots.errors(ones, T, (T + 1) % 3, (4, 3))
    with pytest.raises(ShapeError, match="expected"):
        plots.errors(X, T, T, (4, 3))


def test_a_network_that_begins_with_reshape_takes_rows():
    net = xpnet.Network(
        [xpnet.Reshape((4, 4, 2)), xpnet.Conv2D(2, 3), xpnet.Flatten(), xpnet.Linear(48, 2)], loss="huber"
    )
    assert net.input_shape == (32,)
    assert net.forward(np.ones((5, 32))).shape == (5, 2)
    images = xpnet.Network(net.layers, loss="huber", input_shape=(4, 8))
    assert images.forward(np.ones((5, 4, 8))).shape == (5, 2)
    assert build(xpnet.Reshape((4, 2)), xpnet.Flatten()).input_shape == (8,)  # no other layer says anything
