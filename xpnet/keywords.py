"""Arguments by names that are not taken: which one may be meant. Type checkers still see the true signatures."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from xpnet.errors import ArgumentError, closest

P = ParamSpec("P")
R = TypeVar("R")

OTHERS = {
    # optimizers
    "lr": "learning_rate", "alpha": "learning_rate", "betas": "beta1 and beta2", "beta_1": "beta1", "beta_2": "beta2",
    "epsilon": "eps", "clipnorm": "clip_norm", "clipvalue": "clip_value", "global_clipnorm": "clip_norm",
    "rho": "decay",
    # layers
    "units": "outputs", "out_features": "outputs", "out_channels": "outputs", "filters": "outputs",
    "in_features": "inputs", "in_channels": "inputs", "num_features": "inputs", "kernel_size": "size",
    "pool_size": "size", "strides": "stride", "use_bias": "bias", "kernel_initializer": "weight_init", "p": "rate",
    "negative_slope": "slope",
    # networks, and how they are trained
    "layers": "sizes", "hidden": "sizes", "hidden_layer_sizes": "sizes", "device": "backend", "random_state": "seed",
    "nb_epoch": "epochs", "n_epochs": "epochs", "max_iter": "epochs", "validation": "validation_data",
    "eval_set": "validation_data", "weights": "sample_weight", "y": "t", "X": "x",
    # estimators
    "epochs": "max_iter", "hidden_layers": "hidden_layer_sizes",
}  # fmt: skip
"""Other libraries' names of arguments, and ours; where the callable takes them."""
ELSEWHERE = {
    "learning_rate": "the optimizer has it: optimizer=xpnet.Adam(learning_rate=0.01)",
    "lr": "the optimizer has it: optimizer=xpnet.Adam(learning_rate=0.01)",
    "weight_decay": "the optimizer has it: optimizer=xpnet.AdamW(weight_decay=0.01)",
    "loss": "the network has it: xpnet.mlp([2, 3], loss='cross_entropy')",
    "optimizer": "fit takes it: net.fit(x, t, optimizer='adam')",
    "epochs": "fit takes it: net.fit(x, t, epochs=10)",
    "batch_size": "fit takes it: net.fit(x, t, batch_size=32)",
    "activation": "it is a layer of its own behind this one: xpnet.ReLU()",
    "patience": "a callback has it: callbacks=[xpnet.EarlyStopping(patience=5)]",
    "early_stopping": "it is a callback: callbacks=[xpnet.EarlyStopping()]",
}
"""Arguments that another callable takes."""


ATTRIBUTES = {
    "score": "evaluate(x, t) returns loss and accuracy",
    "compile": "there is nothing to compile: the loss is given to the network, the optimizer to fit",
    "history": "fit returns the History",
    "history_": "fit returns the History",
    "train": "use fit(x, t, epochs=10)",
    "weights": "use parameters, and set_parameters to change them",
    "get_weights": "use parameters",
    "set_weights": "use set_parameters({'0.W': array})",
    "state_dict": "use parameters, or save(path)",
    "coefs_": "use parameters['0.W']",
    "fit_transform": "use fit and predict",
}
"""Other libraries' attributes of networks, and what serves here."""


def refuse(owner: str, given: Iterable[str], taken: Iterable[str]) -> None:
    """Raise `ArgumentError` for the first name given that is not taken."""
    known = [*taken]
    for name in given:
        if name not in known:
            meant = OTHERS.get(name, "")
            if meant.partition(" ")[0] in known:
                cure = f"; it is called {meant} here"
            elif name in ELSEWHERE:
                cure = f"; {ELSEWHERE[name]}"
            else:
                cure = f".{closest(name, known)}" if closest(name, known) else f"; arguments are {', '.join(known)}"
            raise ArgumentError(f"{owner} takes no argument {name!r}{cure}")


def no_attribute(owner: object, name: str) -> AttributeError:
    """Return the error for an attribute that is not there."""
    cure = f"; {ATTRIBUTES[name]}" if name in ATTRIBUTES else f".{closest(name, dir(type(owner)))}"
    return AttributeError(f"a {type(owner).__name__} has no attribute {name!r}{cure}", name=name, obj=owner)


@functools.cache
def _taken(f: Callable[..., Any]) -> list[str] | None:
    """Return the names that a function takes, or None if it takes any."""
    parameters = inspect.signature(f).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return None
    return [name for name, p in parameters.items() if p.kind is not p.VAR_POSITIONAL and name != "self"]


def named(f: Callable[P, R]) -> Callable[P, R]:
    """Return `f`, whose calls with a name that it does not take say which one may be meant."""
    taken = _taken(f) or []

    @functools.wraps(f)
    def call(*args: P.args, **options: P.kwargs) -> R:
        if not options.keys() <= set(taken):
            refuse(f.__name__, options, taken)
        return f(*args, **options)

    return call


class Named:
    """Base of classes whose constructors say which argument may be meant."""

    if not TYPE_CHECKING:  # to whom this would be a constructor that takes everything

        def __new__(cls, *args: Any, **options: Any) -> Self:
            if options and (taken := _taken(cls.__init__)) is not None:
                refuse(cls.__name__, options, taken)
            return super().__new__(cls)
