"""Layers made of layers: names, shapes, random numbers and statistics of those inside, and which deltas are made."""

import numpy as np
import pytest
from nested import Counted, Undeclared
from numpy.testing import assert_array_equal

import xpnet
from xpnet import Dropout, Identity, Linear, ReLU, Residual, Sequence, Tanh
from xpnet.errors import ConfigError, ShapeError
from xpnet.layers.shapes import every_layer, first_shape, shape_after

XP = xpnet.backends.get("numpy").xp
STEP = np.asarray([3], dtype=np.uint32)


# ------------------------------------------------------------------------------------------------ how it is made


def test_lists_become_tuples():
    block = Residual([Linear(2, 3), ReLU()], shortcut=[Linear(2, 3)])
    assert block == Residual((Linear(2, 3), ReLU()), (Linear(2, 3),))
    assert isinstance(block.layers, tuple)
    assert isinstance(block.shortcut, tuple)
    assert hash(block) == hash(Residual((Linear(2, 3), ReLU()), (Linear(2, 3),)))
    assert Residual([Tanh()]).shortcut == ()
    assert repr(Sequence([ReLU()])) == "Sequence(layers=(ReLU(),))"
    assert eval(repr(block), {name: getattr(xpnet, name) for name in xpnet.__all__}) == block


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sequence([]), r"Sequence: layers is empty; give at least one, e\.g\."),
        (lambda: Residual([]), r"Residual: layers is empty"),
        (lambda: Sequence(Linear(2, 3)), r"Sequence: layers must be a sequence of layers, e\.g\. \[xpnet\.Linear"),
        (lambda: Sequence("relu"), r"Sequence: layers must be a sequence of layers.*got 'relu'"),
        (lambda: Sequence([ReLU]), r"Sequence: layers\[0\] must be a layer.*write xpnet\.ReLU\(\), with parentheses"),
        (lambda: Residual([ReLU()], [3]), r"Residual: shortcut\[0\] must be a layer, got 3"),
        (lambda: Residual([ReLU()], ReLU()), r"Residual: shortcut must be a sequence of layers"),
    ],
)
def test_impossible_parts(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


# -------------------------------------------------------------------------------------------------------- names


def test_parameters_have_the_places_of_their_layers_before_their_names():
    block = Residual([Tanh(), Sequence([Linear(3, 4), Linear(4, 2, bias=False)])], shortcut=[Linear(3, 2)])
    names = ["1.0.W", "1.0.b", "1.1.W", "shortcut.0.W", "shortcut.0.b"]
    assert list(block.parameter_shapes()) == list(block.init(np.random.default_rng(0))) == names
    assert block.decayed == ("1.0.W", "1.1.W", "shortcut.0.W")
    net = xpnet.Network([Tanh(), block], "huber")
    assert list(net.parameters) == [f"1.{name}" for name in names]
    assert net.parameters["1.1.1.W"].shape == (4, 2)
    assert net.parameter_count == 12 + 4 + 8 + 6 + 2


def test_more_than_ten_layers_keep_their_order():
    block = Sequence([Linear(1 + k, 2 + k, bias=False) for k in range(12)])
    net = xpnet.Network([block], "huber")
    assert list(net.parameters) == [f"0.{k}.W" for k in range(12)]
    assert [a.shape for a in net.parameters.values()] == [(1 + k, 2 + k) for k in range(12)]


def test_inner_layers_draw_what_they_would_draw_by_themselves():
    flat = xpnet.Network([Linear(3, 4), Tanh(), Linear(4, 3), Linear(3, 3)], "huber", seed=8)
    nested = xpnet.Network([Sequence([Linear(3, 4), Sequence([Tanh(), Linear(4, 3)])]), Linear(3, 3)], "huber", seed=8)
    assert_array_equal(flat.theta, nested.theta)
    x, t = np.ones((5, 3), np.float32), np.zeros((5, 3), np.float32)
    assert_array_equal(flat.forward(x), nested.forward(x))
    for net in (flat, nested):
        net.fit(x, t, epochs=3, batch_size=2, verbose=False)
    assert_array_equal(flat.theta, nested.theta)


def test_penalties_act_on_the_weights_inside_alone():
    net = xpnet.Network([Residual([Linear(2, 2)], [Linear(2, 2)])], "huber", l2=1.0, dtype="float64")
    net.set_parameters({name: np.full(a.shape, 2.0) for name, a in net.parameters.items()})
    x, t = np.zeros((1, 2)), np.full((1, 2), 4.0)  # the output is 2 + 2, so that the loss is 0
    value, gradients = net.gradients(x, t)
    assert value == pytest.approx(0.5 * 8 * 4.0)
    for name, gradient in gradients.items():
        assert_array_equal(gradient, np.full(gradient.shape, 2.0 if name.endswith("W") else 0.0))


def test_parameters_inside_can_be_set_by_name():
    net = xpnet.Network([Sequence([Linear(2, 3)])], "huber")
    net.set_parameters({"0.0.b": [1.0, 2.0, 3.0]})
    assert net.forward([[0.0, 0.0]]).tolist() == [[1.0, 2.0, 3.0]]
    with pytest.raises(ConfigError, match=r"no parameter is called '0\.b'; names are 0\.0\.W, 0\.0\.b"):
        net.set_parameters({"0.b": [1.0, 2.0, 3.0]})
    with pytest.raises(ShapeError, match=r"parameter 0\.0\.b has shape \(3,\), got \(2,\)"):
        net.set_parameters({"0.0.b": [1.0, 2.0]})


def test_a_layer_that_does_not_declare_its_shapes_may_be_inside():
    block = Sequence([Undeclared(), Linear(2, 2)])
    assert block.parameter_shapes() == {"0.a": (1,), "1.W": (2, 2), "1.b": (2,)}
    net = xpnet.Network([block], "huber", dtype="float64")
    assert xpnet.check_gradients(net, np.ones((3, 2)), np.zeros((3, 2))).passed


# ----------------------------------------------------------------------------------------------- random numbers


def drawn(net, step=3):
    """Return the mask of every dropout layer by its place."""
    found = {}

    def watch(place, name, array):
        if name == "y":
            found[place] = array

    step = net.step_array(step)
    contexts = net.contexts(True, step, watch=watch)
    xpnet.layers.forward_pass(XP, net.layers, net.layout.split(XP, net.theta), np.ones((64, 8)), contexts)
    return {place: a == 0 for place, a in found.items() if isinstance(layer_at(net, place), Dropout)}


def layer_at(net, place):
    return next(item.layer for item in every_layer(net.layers, net.input_shape) if item.place == place)


def test_no_two_dropouts_share_a_mask():
    drop = Dropout(0.5)  # one object at all places
    ones = Linear(8, 8)
    block = Residual([drop, ones, Sequence([drop, ones, drop]), ones, drop], shortcut=[drop, ones, Sequence([drop])])
    net = xpnet.Network([ones, drop, ones, block, ones, block, ones, Sequence([block])], "huber", dtype="float64")
    net.set_parameters({name: np.full(a.shape, float(a.ndim == 1)) for name, a in net.parameters.items()})
    masks = drawn(net)
    assert len(masks) == 1 + 3 * 6
    assert "3.shortcut.2.0" in masks
    assert len({mask.tobytes() for mask in masks.values()}) == len(masks)
    for mask in masks.values():
        assert 0.35 < mask.mean() < 0.65
    again, other = drawn(net), drawn(net, step=4)
    for place, mask in masks.items():
        assert_array_equal(mask, again[place])
        assert (mask != other[place]).any()


def test_the_key_of_a_layer_inside_depends_on_its_place_alone():
    context = xpnet.Context(True, 12345, STEP, {}, "3")
    assert context.child("0.1").key == context.child("0").child("1").key
    assert context.child("0.1").place == "3.0.1"
    keys = {context.child(f"{way}{k}").key for way in ("", "shortcut.", "0.", "1.0.") for k in range(500)}
    assert len(keys) == 2000
    assert all(0 <= key < 2**32 for key in keys)
    assert context.child("0").key == 3539945963  # a resumed run draws the same masks in another version


def test_a_child_is_told_what_its_parent_is():
    seen = []
    state = {"0.mean": 1, "0.1.mean": 2, "1.mean": 3, "shortcut.0.mean": 4}
    context = xpnet.Context(True, 1, STEP, state, "2", lambda *shown: seen.append(shown))
    child = context.child("0")
    assert (child.training, child.step, child.place) == (True, STEP, "2.0")
    assert child.state == {"mean": 1, "1.mean": 2}
    assert context.child("shortcut.0").state == child.child("1").state | {"mean": 4}
    child.show("y", 5)
    assert seen == [("2.0", "y", 5)]
    assert xpnet.Context().child("0").place == "0"


# ---------------------------------------------------------------------------------------------------- statistics


def test_running_statistics_inside_are_updated_stored_and_used(training_backend):
    block = Residual([Counted(), Sequence([Counted()])], shortcut=[Counted()])
    net = xpnet.Network([Linear(2, 2), block], "huber", training_backend)
    assert list(net.state) == [f"1.{p}.{n}" for p in ("0", "1.0", "shortcut.0") for n in ("count", "total")]
    net.fit(np.ones((8, 2), np.float32), np.ones((8, 2), np.float32), epochs=3, batch_size=4, verbose=False)
    for name, value in net.state.items():
        assert float(value[0]) == 6.0 or name.endswith("total")
    assert float(net.state["1.0.total"][0]) == float(net.state["1.shortcut.0.total"][0]) != 0.0
    assert float(net.state["1.1.0.total"][0]) != float(net.state["1.0.total"][0])  # it sees 1.0's output
    y = training_backend.to_numpy(net.forward([[0.0, 0.0]]))
    b = training_backend.to_numpy(net.parameters["0.b"])
    np.testing.assert_allclose(y[0], 2 * b + 12 + 6, rtol=1e-6)


# -------------------------------------------------------------------------------------------------------- deltas


def told(layers, x, need):
    """Return the places at which a delta and a dx are made."""
    seen = []
    net = xpnet.Network(layers, "sum_squared_error", dtype="float64")
    contexts = net.contexts(watch=lambda place, name, a: seen.append((place, name)))
    net.differentiate(XP, net.layout.split(XP, net.theta), x, x * 0, np.full(len(x), 1 / len(x)), contexts, last=need)
    return [place for place, name in seen if name == "delta"], [place for place, name in seen if name == "dx"]


def test_no_delta_is_made_below_the_first_parameters():
    x = np.ones((2, 3))
    layers = [
        Tanh(),
        Residual([Tanh(), Sequence([Tanh(), Linear(3, 3)])], shortcut=[Tanh(), Tanh()]),
        Residual([Tanh()]),
    ]
    deltas, passed = told(layers, x, None)
    assert deltas == ["2", "2.0", "1", "1.1", "1.1.1"]
    assert passed == ["2.0", "2"]
    deltas, passed = told(layers, x, -1)  # as a trace and a gradient check ask for
    assert deltas == ["2", "2.0", "1", "1.1", "1.1.1", "1.1.0", "1.0", "1.shortcut.1", "1.shortcut.0", "0"]
    assert sorted(passed) == sorted(deltas)
    net = xpnet.Network(layers, "huber")
    reached = {item.place: item.reached for item in every_layer(net.layers, (3,))}
    assert {place for place, yes in reached.items() if yes} == {"2", "2.0", "1", "1.1", "1.1.1"}


def test_a_layer_with_parameters_in_the_shortcut_alone():
    deltas, passed = told([Residual([Tanh()], shortcut=[Linear(3, 3)])], np.ones((2, 3)), None)
    assert deltas == ["0", "0.shortcut.0"]
    assert passed == []


@pytest.mark.parametrize("layers", [[Residual([Identity()])], [Residual([Residual([Identity()])])]])
def test_the_delta_that_comes_in_stays_as_it_is(layers):
    dy, x = np.arange(6.0).reshape(2, 3), np.ones((2, 3))
    block = layers[0]
    y, cache = block.forward(XP, {}, x)
    dx, _ = block.backward(XP, {}, cache, dy)
    factor = 2 ** (1 + isinstance(block.layers[0], Residual)) - isinstance(block.layers[0], Residual)
    assert_array_equal(dx, factor * dy)
    assert_array_equal(dy, np.arange(6.0).reshape(2, 3))
    assert_array_equal(x, np.ones((2, 3)))
    assert not np.shares_memory(dx, dy)
    assert not np.shares_memory(y, x)
    assert block.backward(XP, {}, cache, dy, xpnet.Context(), False) == (None, {})


# -------------------------------------------------------------------------------------------------------- shapes


def test_every_layer_is_found_with_its_shapes():
    net = xpnet.Network([Linear(3, 4), Residual([Tanh(), Linear(4, 2)], [Linear(4, 2)]), Sequence([ReLU()])], "huber")
    found = [(i.place, type(i.layer).__name__, i.before, i.after, i.depth) for i in every_layer(net.layers, (3,))]
    assert found == [
        ("0", "Linear", (3,), (4,), 0),
        ("1", "Residual", (4,), (2,), 0),
        ("1.0", "Tanh", (4,), (4,), 1),
        ("1.1", "Linear", (4,), (2,), 1),
        ("1.shortcut.0", "Linear", (4,), (2,), 1),
        ("2", "Sequence", (2,), (2,), 0),
        ("2.0", "ReLU", (2,), (2,), 1),
    ]


def test_the_number_of_inputs_is_known_from_inside():
    assert first_shape([ReLU(), Residual([Tanh(), Sequence([Linear(7, 2)])], [Linear(7, 2)])]) == (7,)
    assert first_shape([Residual([Tanh()], [Linear(7, 7)])]) == (7,)
    assert first_shape([ReLU(), Sequence([Tanh()])]) is None
    assert xpnet.Network([Sequence([ReLU(), Linear(7, 2)])], "huber").input_shape == (7,)


WAY = r"^layers\[0\]\.layers\[0\]\.layers\[1\]"
INSIDE = r"\.layers\[0\] Linear\(inputs=4.* takes 4 inputs, but a sample has 3$"
MISFITS = [
    (
        [Sequence([Linear(3, 4), Linear(5, 2)])],
        r"\.layers\[1\] L.* 5 inputs, but layers\[0\] L.* before it gives 4",
    ),
    ([Linear(2, 3), Sequence([Linear(4, 2)])], r"^layers\[1\]" + INSIDE),
    ([Linear(2, 3), Residual([Tanh()], [Linear(4, 3)])], r"^layers\[1\]\.shortcut\[0\] Linear.* takes 4 inputs"),
    (
        [Sequence([Residual([Linear(2, 3), Sequence([Linear(4, 2)])])])],
        r"^layers\[0\]\.layers\[0\]\.layers\[1\]" + INSIDE,
    ),
    (
        [Tanh(), Residual([Linear(2, 3)])],
        r"^layers\[1\] Residual adds f\(x\) of shape \(3,\) to s\(x\) of",
    ),
    ([Residual([Linear(2, 3)])], r"give it a shortcut from \(2,\) to \(3,\), e\.g\. shortcut=\[Linear\(2, 3\)\]$"),
    ([Tanh(), Residual([Linear(2, 3)])], r"\[Linear\(2, 3\)\]; before it comes layers\[0\] Tanh\(\)$"),
    ([Residual([Linear(2, 1)])], r"to s\(x\) of shape \(2,\)"),  # which arrays would let pass
]


@pytest.mark.parametrize(("layers", "message"), MISFITS)
def test_layers_that_do_not_fit_are_named(layers, message):
    with pytest.raises(ShapeError, match=message):
        xpnet.Network(layers, "huber")


def test_shapes_go_through_in_order():
    assert shape_after([Linear(3, 4), Sequence([Linear(4, 2), ReLU()])], (3,)) == (2,)
    assert shape_after([], (3, 4)) == (3, 4)
