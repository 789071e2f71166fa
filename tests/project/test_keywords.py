"""First guesses of a newcomer: what is called otherwise here is said, in an error of xpnet's own."""

import copy
import inspect
import pickle

import pytest

import xpnet
from xpnet.errors import ArgumentError, ConfigError
from xpnet.estimators import MLPClassifier

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
