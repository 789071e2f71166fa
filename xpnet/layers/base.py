"""What a layer promises to the backpropagation loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar
from zlib import crc32

import numpy as np

from xpnet.errors import ArgumentError, missing_method
from xpnet.keywords import Named
from xpnet.typing import Array, HostArray, Params, Shape

T = TypeVar("T")
Watch: TypeAlias = Callable[[str, str, Array], None]
Result: TypeAlias = tuple[Array, Any]
"""The output y of a forward pass, and its cache."""
Gradient: TypeAlias = tuple[Array | None, dict[str, Array]]
"""dL/dx, or None where nobody asks for it, and dL/d(parameter) by name."""
ALL_AT_ONCE = 2**62
"""The numbers to take at a time if no layer is to work part by part."""


@dataclass(frozen=True)
class Context:
    """What a layer may know besides its parameters and its input.

    Attributes
    ----------
    training : bool
        True inside a training step, False for predictions.
    key : int
        A 32-bit number made of the network's seed and the layer's place.
    step : array (1,) of uint32, or None
        The number of the training step, on the device; of int64 in a library that cannot compute with uint32.
    state : mapping of arrays
        The layer's running statistics; empty for most layers.
    place : str
        The layer's place in the network, such as "3"; "3.0" for the first layer inside of layer 3.
    watch : callable (place, name, array), optional
        Is shown what passes through the layer; see ``xpnet/layers/walk.py``.
    at_once : int
        How many numbers to take at a time where a layer works part by part.
    first : int
        The place of the first sample in its batch, if the samples are a slice of one.
    """

    training: bool = False
    key: int = 0
    step: Array | None = None
    state: Params = field(default_factory=dict)
    place: str = ""
    watch: Watch | None = None
    at_once: int = 2**15
    first: int = 0

    def show(self, name: str, array: Array) -> None:
        """Show an array of the layer to whoever watches."""
        if self.watch is not None:
            self.watch(self.place, name, array)

    def child(self, name: str) -> Context:
        """Return what the layer called `name` inside of this one is told: a key, a state and a place of its own.

        ``child("0.1")`` is ``child("0").child("1")``.
        """
        key = self.key
        for part in name.split("."):
            key = crc32(f"{key} {part}".encode())
        place, state = f"{self.place}.{name}".lstrip("."), under(name, self.state)
        return replace(self, key=key, state=state, place=place)


def under(place: str, named: Mapping[str, T]) -> dict[str, T]:
    """Return those whose names begin with a place and a dot, by the rest of their names."""
    prefix = f"{place}."
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}


def joined(named: Mapping[str, Mapping[str, T]]) -> dict[str, T]:
    """Return those of several places by one name each: the place, a dot, and the name there."""
    return {f"{place}.{name}": value for place, own in named.items() for name, value in own.items()}


INFERENCE = Context()


class Layer(Named):
    """A differentiable function of its input and its parameters.

    A layer is a frozen dataclass of hyper-parameters: it owns no arrays and remembers nothing between
    calls. Rows of `x` are samples. `backward` is the true vector-Jacobian product of `forward` for
    *any* upstream delta dy = dL/dy, and no argument is ever changed in place. `xp` is the array
    namespace of the standard; a layer names no library.

    A layer of one's own subclasses this class, overrides `forward` and `backward`, and, if it has
    parameters, `init`; `xpnet.check_gradients` then says whether the two agree.
    """

    if not TYPE_CHECKING:  # to whom a layer would then be a function

        def __call__(self, *args: Any, **options: Any) -> Any:
            """Say what is called instead."""
            raise ArgumentError(
                f"a layer is not called; layer.forward(xp, params, x) computes it, and a network of it does without xp "
                f"and params: xpnet.Network([{type(self).__name__}(...)], loss).forward(x)"
            )

    decayed: ClassVar[tuple[str, ...]] = ()
    """Names of the parameters that penalties and weight decay act on (biases are left out)."""

    @property
    def chains(self) -> Mapping[str, Sequence[Layer]]:
        """The layers inside of a composite layer: chains, each fed with its input, by what their places begin with."""
        return {}

    @property
    def input_shape(self) -> Shape | None:
        """The shape of one sample that the layer requires, or None if it takes several."""
        return None

    @property
    def usual_shape(self) -> Shape | None:
        """The shape of one sample that the layer takes at the beginning of a network that is not told any."""
        return self.input_shape

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape of one output sample for input samples of `shape`.

        Raises
        ------
        ShapeError
            The layer takes none of this shape. The message begins with the layer, and says what it takes.
        """
        return shape

    def init(self, rng: np.random.Generator) -> dict[str, HostArray]:
        """Draw the initial parameters on the host, as float64; the keys name them."""
        return {}

    def parameter_shapes(self) -> dict[str, Shape]:
        """Return the shape of each parameter; a layer that does not override this is asked to draw them."""
        return {name: value.shape for name, value in self.init(np.random.default_rng(0)).items()}

    def init_state(self) -> dict[str, HostArray]:
        """Return the initial running statistics, which are stored but not trained."""
        return {}

    def update_state(self, xp: Any, state: Params, cache: Any) -> dict[str, Array]:
        """Return the running statistics after a training step whose forward pass left `cache`."""
        return {}

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """Return the output y and a cache: everything that `backward` needs, and nothing else remembers."""
        raise missing_method(self, "forward(xp, params, x, context), which returns (y, cache)")

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """Return dL/dx (or None if `need_dx` is false) and dL/d(parameter) by name, given dy = dL/dy."""
        raise missing_method(self, "backward(xp, params, cache, dy, context, need_dx)")
