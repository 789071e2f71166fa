"""First guesses of a newcomer: what is called otherwise here is said, in an error of xpnet's own."""

import copy
import inspect
import pickle

import numpy as np
import pytest

import xpnet
from xpnet.errors import ArgumentError, ConfigError
from xpnet.estimators import MLPClassifier, MLPRegressor

net = xpnet.mlp([2, 3])
GUESSES = {
    "fit takes no argument 'learning_rate'; the optimizer has it": lambda: net.fit([[1, 2]], [1], learning_rate=0.1),
    "fit takes no argument 'epoch'. Did you mean 'epochs'": lambda: net.fit([[1, 2]], [1], epoch=3),
    "Adam takes no argument 'lr'; it is called learning_rate here": lambda: xpnet.Adam(lr=0.1),
    "Adam takes no argument 'betas'; it is called beta1 and beta2": lambda: xpnet.Adam(betas=(0.9, 0.99)),
    "mlp takes no argument 'bakend'. Did you mean 'backend'": lambda: xpnet.mlp([2, 3], bakend="numpy"),
    "MLPClassifier takes no argument 'epochs'; it is called max_iter": lambda: MLPClassifier(epochs=3),
    "Linear takes no argument 'in_features'; it is called inputs": lambda: xpnet.Linear(in_features=3, outputs=2),
    "Linear takes no argument 'activation'; it is a layer": lambda: xpnet.Linear(2, 3, activation="relu"),
    "Network takes no argument 'optimizer'; fit takes it": lambda: xpnet.Network([], "huber", optimizer="adam"),
    "Huber takes no argument 'zzz'; arguments are delta": lambda: xpnet.Huber(zzz=1),
}


@pytest.mark.parametrize(("message", "guess"), GUESSES.items(), ids=[key[:40] for key in GUESSES])
def test_an_argument_by_another_name_is_answered_with_the_right_one(message, guess):
    with pytest.raises(ArgumentError) as caught:
        guess()
    assert str(caught.value).startswith(message)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ("name", "cure"), [("score", "evaluate"), ("compile", "nothing to compile"), ("predct", "predict")]
)
def test_an_attribute_by_another_name_is_answered_with_the_right_one(name, cure):
    with pytest.raises(AttributeError, match=f"a Network has no attribute '{name}'.*{cure}"):
        getattr(net, name)
    assert not hasattr(net, name)


@pytest.mark.parametrize(("name", "right"), [("mse", "mean_squared_error"), ("bce", "binary_cross_entropy")])
def test_a_loss_by_another_name_is_answered_with_the_right_one(name, right):
    with pytest.raises(ConfigError, match=f"Did you mean '{right}'"):
        xpnet.mlp([2, 3], loss=name)


def test_signatures_are_those_that_are_written():
    assert list(inspect.signature(xpnet.Linear).parameters)[:2] == ["inputs", "outputs"]
    assert "epochs" in inspect.signature(net.fit).parameters
    assert "seed" in inspect.signature(xpnet.mlp).parameters
    assert next(iter(inspect.signature(MLPClassifier).parameters)) == "hidden_layer_sizes"
    assert list(inspect.signature(xpnet.Adam).parameters)[:2] == ["learning_rate", "beta1"]


def test_copies_need_no_arguments():
    for item in (net, xpnet.Adam(learning_rate=0.1), xpnet.Linear(2, outputs=3), xpnet.Huber(delta=2.0)):
        for again in (copy.deepcopy(item), pickle.loads(pickle.dumps(item))):
            assert repr(again) == repr(item)


X, T = np.zeros((6, 2)), np.arange(6) % 3
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
    "'Linear' object has no attribute 'W'; a layer owns no arrays, its network does: net.parameters['0.W']":
        lambda: net.layers[0].W,
    "module 'xpnet.datasets' has no attribute 'iris'; it has fashion_mnist,": lambda: xpnet.datasets.iris,
}  # fmt: skip


@pytest.mark.parametrize(("message", "mistake"), MISTAKES.items(), ids=[key[:40] for key in MISTAKES])
def test_a_mistake_of_the_first_hour_is_answered_with_what_to_do(message, mistake):
    with pytest.raises((xpnet.XpnetError, AttributeError)) as caught:
        mistake()
    assert str(caught.value).startswith(message.rstrip())
