"""First guesses of a newcomer: what is called otherwise here is said, in an error of xpnet's own."""

import copy
import inspect
import pickle
import subprocess
import sys

import numpy as np
import pytest

import xpnet
from xpnet import elsewhere
from xpnet.errors import ArgumentError, ConfigError, PromiseError, UnknownAttributeError
from xpnet.estimators import MLPClassifier, MLPRegressor

net = xpnet.mlp([2, 3])
X, T = np.zeros((6, 2)), np.arange(6) % 3
GUESSES = {
    "fit takes no argument 'learning_rate'; the optimizer has it": lambda: net.fit([[1, 2]], [1], learning_rate=0.1),
    "fit takes no argument 'epoch'. Did you mean 'epochs'": lambda: net.fit([[1, 2]], [1], epoch=3),
    "Adam takes no argument 'lr'; it is called learning_rate here": lambda: xpnet.Adam(lr=0.1),
    "Adam takes no argument 'betas'; it is called beta1 and beta2": lambda: xpnet.Adam(betas=(0.9, 0.99)),
    "mlp takes no argument 'bakend'. Did you mean 'backend'": lambda: xpnet.mlp([2, 3], bakend="numpy"),
    "MLPClassifier takes no argument 'epochs'; it is called max_iter": lambda: MLPClassifier(epochs=3),
    "Linear takes no argument 'in_features'; it is called inputs": lambda: xpnet.Linear(in_features=3, outputs=2),
    "Linear takes no argument 'activation'; it is a layer": lambda: xpnet.Linear(2, 3, activation="relu"),
    "Network takes no argument 'optimizer'; a network's fit": lambda: xpnet.Network([], "huber", optimizer="adam"),
    "Huber takes no argument 'zzz'; arguments are delta": lambda: xpnet.Huber(zzz=1),
    "ReLU takes no argument 'inplace'; arguments are none": lambda: xpnet.ReLU(inplace=True),
    "MLPClassifier takes no argument 'lr'; it is called learning_rate_init": lambda: MLPClassifier(lr=0.1),
    "fit takes no argument 'epochs'; a network's fit takes it": lambda: MLPClassifier().fit(X, T, epochs=3),
    "evaluate takes no argument 'verbose'; a network's fit": lambda: net.evaluate(X, T, verbose=0),
    "EarlyStopping takes no argument 'mode'; accuracies": lambda: xpnet.EarlyStopping(mode="max"),
    "spirals takes no argument 'n_samples'; it is called samples": lambda: xpnet.datasets.spirals(n_samples=9),
    "loss takes no argument 'title'; set it on what is returned": lambda: xpnet.plots.loss(None, title="a"),
    "Network needs loss; loss is 'cross_entropy' for classes": lambda: xpnet.Network([xpnet.Linear(2, 3)]),
    "Network needs layers and loss; layers is a list": lambda: xpnet.Network(),
    "mlp needs sizes; sizes is numbers of inputs": lambda: xpnet.mlp(),
    "Linear needs outputs; it is Linear(inputs, outputs)": lambda: xpnet.Linear(2),
    "evaluate needs t; t is the targets": lambda: net.evaluate(X),
    "forward needs x": lambda: net.forward(),
    "fit needs y": lambda: MLPClassifier().fit(X),
    "fit takes x, t by position, got 3 values; give others by name, such as optimizer=": lambda: net.fit(X, T, 3),
    "ReLU takes nothing by position, got 1 values": lambda: xpnet.ReLU(0.1),
    "Huber: multiple values for argument 'delta'": lambda: xpnet.Huber(1.0, delta=2.0),
    "a network is not called: net.predict(x) answers": lambda: net(X),
    "a layer is not called; layer.forward": lambda: net.layers[0](X),
    "a network is no list: its layers are net.layers, such as net.layers[0]": lambda: net[0],
    "parameters is no method: net.parameters['0.W']": lambda: net.parameters(),
    "parameters are read here, and written by net.set_parameters": lambda: net.parameters.__setitem__("0.W", X),
}


@pytest.mark.parametrize(("message", "guess"), GUESSES.items(), ids=[key[:40] for key in GUESSES])
def test_an_argument_by_another_name_is_answered_with_the_right_one(message, guess):
    with pytest.raises(ArgumentError) as caught:
        guess()
    assert str(caught.value).startswith(message)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("score", "evaluate"),
        ("compile", "nothing to compile"),
        ("predct", "Did you mean 'predict'"),
        ("eval", "switch"),
    ],
)
def test_an_attribute_by_another_name_is_answered_with_the_right_one(name, cure):
    with pytest.raises(AttributeError, match=f"a Network has no attribute '{name}'.*{cure}"):
        getattr(net, name)
    assert not hasattr(net, name)


def test_an_attribute_that_nothing_would_read_cannot_be_set():
    with pytest.raises(UnknownAttributeError, match="fit takes it"):
        net.learning_rate = 0.1
    net.mine = 3
    assert net.mine == 3


def test_a_class_that_is_no_dataclass_is_not_given_arguments_in_silence():
    for base in (xpnet.Layer, xpnet.Loss, xpnet.Callback):
        with pytest.raises(ArgumentError, match=r"Mine takes no arguments; is @dataclass\(frozen=True\) missing"):
            type("Mine", (base,), {"__annotations__": {"factor": float}})(2.0)


def test_what_must_be_overridden_is_named():
    mine = type("Mine", (xpnet.Layer,), {})
    with pytest.raises(PromiseError, match=r"Mine must have forward\(xp, params, x, context\)"):
        xpnet.Network([mine(), xpnet.Linear(2, 3)], "cross_entropy").forward(X)
    mine.forward = lambda self, xp, params, x, context=None: (x, None)
    with pytest.raises(PromiseError, match=r"Mine must have backward"):
        xpnet.Network([xpnet.Linear(2, 2), mine()], "cross_entropy").gradients(X, T % 2)
    with pytest.raises(PromiseError, match=r"Mine must have __call__\(xp, y, t, weight\)"):
        xpnet.mlp([2, 3], loss=type("Mine", (xpnet.Loss,), {})()).gradients(X, np.zeros((6, 3)))
    with pytest.raises(PromiseError, match=r"Mine must have update"):
        net.copy().fit(X, T, batch_size=6, optimizer=type("Mine", (xpnet.Optimizer,), {})())


def test_a_property_that_asks_for_what_is_not_there_says_what_that_is():
    class Mine(xpnet.Layer):
        @property
        def input_shape(self):
            return (self.inptus,)

    with pytest.raises(AttributeError, match="a Mine has no attribute 'inptus'"):
        _ = Mine().input_shape


def test_a_type_error_of_the_users_own_code_is_left_as_it_is():
    def wrong(run):
        return len(3)

    with pytest.raises(TypeError, match="has no len") as caught:
        net.fit(X, T, epochs=1, batch_size=6, callbacks=wrong)
    assert not isinstance(caught.value, xpnet.XpnetError)


def test_names_of_other_libraries_are_each_answered_with_one_that_is_there():
    """What the tables promise: arguments that are taken, names that modules have, attributes that are really absent."""
    homes = (xpnet, xpnet.layers, xpnet.losses, xpnet.initializers, xpnet.schedules, xpnet.plots)
    for other, name in elsewhere.NAMES.items():
        assert any(name in vars(home) or name in getattr(home, "__all__", ()) for home in homes), name
        assert not any(other in vars(home) for home in homes if other != "history"), other
    assert not [name for name in elsewhere.ATTRIBUTES["Network"] if hasattr(net, name)]
    assert not [name for name in elsewhere.ATTRIBUTES["Layer"] if name in vars(xpnet.Layer)]


@pytest.mark.parametrize(("name", "right"), [("mse", "mean_squared_error"), ("bce", "binary_cross_entropy")])
def test_a_loss_by_another_name_is_answered_with_the_right_one(name, right):
    with pytest.raises(ConfigError, match=f"Did you mean '{right}'"):
        xpnet.mlp([2, 3], loss=name)


def test_signatures_are_those_that_are_written():
    assert list(inspect.signature(xpnet.Linear).parameters)[:2] == ["inputs", "outputs"]
    assert "epochs" in inspect.signature(net.fit).parameters
    assert "seed" in inspect.signature(xpnet.mlp).parameters
    assert str(inspect.signature(xpnet.Callback)) == str(inspect.signature(xpnet.Layer)) == "()"
    code = "import inspect, xpnet; print(*inspect.signature(xpnet.Network).parameters)"  # before there is a network
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("layers loss backend")
    assert next(iter(inspect.signature(MLPClassifier).parameters)) == "hidden_layer_sizes"
    assert list(inspect.signature(xpnet.Adam).parameters)[:2] == ["learning_rate", "beta1"]


def test_copies_need_no_arguments():
    for item in (net, xpnet.Adam(learning_rate=0.1), xpnet.Linear(2, outputs=3), xpnet.Huber(delta=2.0)):
        for again in (copy.deepcopy(item), pickle.loads(pickle.dumps(item))):
            assert repr(again) == repr(item)


REG, YES = xpnet.mlp([2, 1], loss="huber"), xpnet.mlp([2, 1], loss="binary_cross_entropy")
MISTAKES = {
    "x is a dict; make a table: pandas.DataFrame(x)": lambda: net.predict({"a": X[:, 0], "b": X[:, 1]}),
    "x is a generator; make an array: numpy.stack([*x])": lambda: net.predict(row for row in X),
    "x has dtype object; expected booleans, integers or real numbers; numpy.asarray(x, dtype=float) makes numbers":
        lambda: net.predict([[1.0, None]]),
    "x has dtype <U1; expected booleans, integers or real numbers; numpy.asarray(x, dtype=float)":
        lambda: net.predict([["1", "2"]]),
    "t is 'a'; give the targets themselves, such as table['a']": lambda: net.fit(X, "a"),
    "t: label 'c' at index 0 (dtype <U1); expected integers 0..2. Encode": lambda: net.fit(X, list("cacaca")),
    "t: label 3 at index 2; expected integers 0..2. Encode other labels, e.g. classes, t = np.unique":
        lambda: net.fit(X, T + 1),
    "t is text, but a binary target is 0 or 1: t == 'yes', for example": lambda: YES.fit(X, ["yes", "no"] * 3),
    "t[0] = -1.0; a binary target lies between 0 and 1: 0 for no and 1 for yes, such as t == 1":
        lambda: YES.fit(X, [-1, 1] * 3),
    "t has dtype <U1; expected booleans, integers or real numbers; numpy.asarray(t, dtype=float)":
        lambda: REG.fit(X, list("123456")),
    "callbacks must be a sequence of Callbacks or functions, such as [xpnet.EarlyStopping()], got 'early'":
        lambda: net.fit(X, T, callbacks="early"),
    "callbacks[0] must be a Callback or a function of the run, got <class 'xpnet.training.callbacks.EarlyStopping'> "
    "(write EarlyStopping(...)": lambda: net.fit(X, T, callbacks=[xpnet.EarlyStopping]),
    "layers[0] must be a layer, got 2; write one": lambda: xpnet.Network([2, 3], "huber"),
    "unknown backend 'gpu'; backends are numpy, cupy, torch and auto. Did you mean 'cupy'?":
        lambda: xpnet.mlp([2, 3], backend="gpu"),
    "Dropout: rate must be a finite number in [0, 1), got 50; 50 % is 0.5": lambda: xpnet.Dropout(50),
    "validation_split must be a finite number in [0, 1), got 20; 20 % is 0.2":
        lambda: net.fit(X, T, validation_split=20),
    "Quantile: levels[0] must be a finite number in (0, 1), got 5; 5 % is 0.05": lambda: xpnet.Quantile([5, 95]),
    "history must be what fit returned, got a Network": lambda: xpnet.plots.loss(net),
    "history must be what fit returned, got a Network ": lambda: xpnet.plots.accuracy(net),
    "quantiles must be True or False, got [0.1]": lambda: MLPRegressor().predict(X, quantiles=[0.1]),
    "a History has no attribute 'history'; curves are asked for by name: history['loss']":
        lambda: xpnet.History().history,
    "a Linear has no attribute 'W'; its network has the arrays: net.parameters['0.W']": lambda: net.layers[0].W,
    "a MLPClassifier has no attribute 'network'; after fit it is called so with a _": lambda: MLPClassifier().network,
    "module 'xpnet.datasets' has no attribute 'iris'. It has fashion_mnist,": lambda: xpnet.datasets.iris,
    "module 'xpnet.layers' has no attribute 'Dense'. It is called xpnet.layers.Linear": lambda: xpnet.layers.Dense,
    "module 'xpnet.schedules' has no attribute 'StepLR'. It is called": lambda: xpnet.schedules.StepLR,
    "module 'xpnet' has no attribute 'relu'. It is a layer, xpnet.ReLU()": lambda: xpnet.relu,
    "no parameter is called '0.w'; names are 0.W, 0.b. Did you mean '0.W'": lambda: net.parameters["0.w"],
    "directory must be an existing folder, got '3'": lambda: xpnet.datasets.mnist(3),
    "ax must be an Axes of matplotlib, got 3": lambda: xpnet.plots.activation("relu", 3),
}  # fmt: skip


@pytest.mark.parametrize(("message", "mistake"), MISTAKES.items(), ids=[key[:40] for key in MISTAKES])
def test_a_mistake_of_the_first_hour_is_answered_with_what_to_do(message, mistake):
    with pytest.raises((xpnet.XpnetError, AttributeError)) as caught:
        mistake()
    assert str(caught.value).startswith(message.rstrip())
