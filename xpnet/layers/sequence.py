"""Layers made of layers: one after another, and with a way around them."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as AnySequence
from dataclasses import dataclass, is_dataclass
from typing import Any

import numpy as np

from xpnet.errors import ConfigError, ShapeError
from xpnet.layers.base import INFERENCE, Context, Gradient, Layer, Result, joined, under
from xpnet.layers.shapes import first_shape, shape_after
from xpnet.layers.walk import backward_pass, forward_pass
from xpnet.typing import Array, HostArray, LayerParams, Params, Shape


def check_layers(name: str, layers: Any) -> tuple[Layer, ...]:
    """Return layers as a tuple, or raise `ConfigError`."""
    if isinstance(layers, Layer) or not isinstance(layers, AnySequence) or isinstance(layers, str):
        raise ConfigError(
            f"{name} must be a sequence of layers, e.g. [xpnet.Linear(2, 3), xpnet.ReLU()], got {layers!r}"
        )
    for k, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            hint = " (write xpnet.ReLU(), with parentheses)" if isinstance(layer, type) else ""
            if isinstance(layer, int | str):
                hint = "; write one, such as xpnet.Linear(2, 3) or xpnet.ReLU(): numbers and names are for xpnet.mlp"
            raise ConfigError(f"{name}[{k}] must be a layer, got {layer!r}{hint}")
        if not is_dataclass(layer) and vars(layer):
            raise ConfigError(
                f"{name}[{k}] {type(layer).__name__} keeps {', '.join(vars(layer))}, but is no dataclass, so that it "
                "could not be saved; write @dataclass(frozen=True) above the class, and what it keeps as fields: "
                "momentum: float = 0.9"
            )
    return tuple(layers)


@dataclass(frozen=True)
class Sequence(Layer):
    """Layers applied one after another, as one layer: y = f(x).

    Parameters
    ----------
    layers : sequence of Layer

    Notes
    -----
    The parameters and running statistics are those of the layers inside, whose names have their places before them:
    ``0.W`` is the ``W`` of the first, and ``3.0.W`` in a network in which the sequence is layer 3. Random numbers of
    each are its own.

    Examples
    --------
    >>> import xpnet
    >>> block = xpnet.Sequence([xpnet.Linear(3, 4), xpnet.ReLU()])
    >>> block.parameter_shapes()
    {'0.W': (3, 4), '0.b': (4,)}
    """

    layers: AnySequence[Layer]

    def __post_init__(self) -> None:
        name = f"{type(self).__name__}: layers"
        object.__setattr__(self, "layers", check_layers(name, self.layers))
        if not self.layers:
            raise ConfigError(f"{name} is empty; give at least one, e.g. [xpnet.Linear(2, 3), xpnet.ReLU()]")

    @property
    def chains(self) -> Mapping[str, AnySequence[Layer]]:
        return {"": self.layers}

    @property
    def parts(self) -> dict[str, Layer]:
        """The layers inside by their places here, such as "0"."""
        return {f"{name}{k}": layer for name, chain in self.chains.items() for k, layer in enumerate(chain)}

    @property
    def decayed(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(f"{place}.{name}" for place, layer in self.parts.items() for name in layer.decayed)

    @property
    def input_shape(self) -> Shape | None:
        return first_shape([*self.parts.values()])

    def output_shape(self, shape: Shape) -> Shape:
        return shape_after(self.layers, shape)

    def parameter_shapes(self) -> dict[str, Shape]:
        return joined({place: layer.parameter_shapes() for place, layer in self.parts.items()})

    def init(self, rng: np.random.Generator) -> dict[str, HostArray]:
        return joined({place: layer.init(rng) for place, layer in self.parts.items()})

    def init_state(self) -> dict[str, HostArray]:
        return joined({place: layer.init_state() for place, layer in self.parts.items()})

    def update_state(self, xp: Any, state: Params, cache: Any) -> dict[str, Array]:
        inner = zip(self.parts.items(), cache, strict=True)
        return joined({place: layer.update_state(xp, under(place, state), own) for (place, layer), own in inner})

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """f is the layers' forward passes in their order.

        y = f(x)          (B, O)     (1)
        """
        return self.along("", xp, params, x, context)

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """df is their backward passes, from the last to the first.

        dx = df(dy)          (B, I)     (2)
        """
        return self.back_along("", xp, params, cache, dy, context, need_dx)

    def along(self, name: str, xp: Any, params: Params, x: Array, context: Context) -> tuple[Array, list[Any]]:
        """Return the output of a chain, and its layers' caches."""
        chain, _, own, contexts = self._told(name, params, context)
        return forward_pass(xp, chain, own, x, contexts)

    def back_along(
        self, name: str, xp: Any, params: Params, caches: list[Any], dy: Array, context: Context, need_dx: bool
    ) -> Gradient:
        """Return dL/dx of a chain given its dL/dy, and its layers' gradients."""
        chain, places, own, contexts = self._told(name, params, context)
        first = next((k for k, p in enumerate(own) if p), len(own))  # no delta is needed below parameters
        dx, grads = backward_pass(xp, chain, own, caches, dy, contexts, -1 if need_dx else first)
        return dx if need_dx else None, joined(dict(zip(places, grads, strict=True)))

    def _told(
        self, name: str, params: Params, context: Context
    ) -> tuple[AnySequence[Layer], list[str], LayerParams, list[Context]]:
        """Return a chain, and each layer's place, parameters and context."""
        chain = self.chains[name]
        places = [f"{name}{k}" for k in range(len(chain))]
        return chain, places, [under(p, params) for p in places], [context.child(p) for p in places]


@dataclass(frozen=True)
class Residual(Sequence):
    """Layers with a way around them: y = f(x) + s(x), where s(x) = x unless there are layers on that way.

    Parameters
    ----------
    layers : sequence of Layer
        The branch f.
    shortcut : sequence of Layer
        The way around, s; it is needed where f changes the shape of samples.

    Notes
    -----
    Names are those of `Sequence` in the branch, such as ``0.W``, and ``shortcut.0.W`` in the shortcut.

    Raises
    ------
    ShapeError
        The network is built, and f(x) and s(x) have different shapes.

    References
    ----------
    He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016, equations 1 and 2.

    Examples
    --------
    >>> import xpnet
    >>> block = xpnet.Residual([xpnet.Linear(3, 4), xpnet.ReLU()], shortcut=[xpnet.Linear(3, 4, bias=False)])
    >>> block.parameter_shapes()
    {'0.W': (3, 4), '0.b': (4,), 'shortcut.0.W': (3, 4)}
    """

    shortcut: AnySequence[Layer] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "shortcut", check_layers("Residual: shortcut", self.shortcut))

    @property
    def chains(self) -> Mapping[str, AnySequence[Layer]]:
        return {"": self.layers, "shortcut.": self.shortcut}

    def output_shape(self, shape: Shape) -> Shape:
        after, around = shape_after(self.layers, shape), shape_after(self.shortcut, shape, "shortcut")
        if after != around:
            example = f", e.g. shortcut=[Linear({shape[0]}, {after[0]})]" if len(shape) == len(after) == 1 else ""
            raise ShapeError(
                f"Residual adds f(x) of shape {after} to s(x) of shape {around}; give it a shortcut from {shape} to "
                f"{after}{example}"
            )
        return after

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """f is the forward passes of the branch, s those of the shortcut; without any s(x) = x.

        y = f(x) + s(x)          (B, O)     (1)
        """
        f, caches = self.along("", xp, params, x, context)
        s, others = self.along("shortcut.", xp, params, x, context)
        return f + s, [*caches, *others]

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """The delta goes back along both ways, and what comes out is added: a sum has the derivative 1 by each term.

        dx = df(dy) + ds(dy)          (B, I)     (2)
        """
        caches, others = cache[: len(self.layers)], cache[len(self.layers) :]
        df, grads = self.back_along("", xp, params, caches, dy, context, need_dx)
        ds, more = self.back_along("shortcut.", xp, params, others, dy, context, need_dx)
        return None if df is None or ds is None else df + ds, grads | more
