"""A network without a face: layers, a loss, one vector of parameters, and the gradients of the objective."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from xpnet.backends import Backend
from xpnet.backends import get as get_backend
from xpnet.errors import ConfigError, ShapeError
from xpnet.keywords import named_methods
from xpnet.layers import Context, Layer, Watch, backward_pass, forward_pass
from xpnet.layers.base import joined
from xpnet.layers.promises import gradient_of, value_and_delta
from xpnet.layers.shapes import first_shape
from xpnet.losses import LOSSES, Loss
from xpnet.model import build
from xpnet.model.casting import cast
from xpnet.model.data import check_inputs, check_numeric, check_targets, on_host
from xpnet.model.labels import check_labels
from xpnet.model.memory import explained
from xpnet.model.outputs import Outputs
from xpnet.model.parameters import Layout, Parameters
from xpnet.model.weights import check_sample_weight
from xpnet.typing import Array, HostArray, LayerParams, Shape
from xpnet.validation import check_flag, check_number, check_size, named


@named_methods
class Model:
    """The core of `xpnet.Network`, which documents the parameters.

    Attributes
    ----------
    theta : array (P,)
        All parameters as one vector.
    layout : Layout
        Where each parameter lies in it, and in every vector like it.
    state : dict of arrays
        Running statistics by names such as "1.mean".
    """

    _labels: HostArray | None = None

    def __init__(
        self, layers: Sequence[Layer], loss: Loss | str, backend: str | Backend = "numpy", dtype: str = "float32",
        seed: int | np.random.SeedSequence | None = 0, l1: float = 0.0, l2: float = 0.0, penalize_biases: bool = False,
        input_shape: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        self._describe(layers, loss, backend, dtype, seed, l1, l2, penalize_biases, input_shape)
        with explained(self.backend, "building the network"):
            rng = np.random.default_rng(self.seed)
            values, state = [layer.init(rng) for layer in self.layers], build.state(self.layers)
            shapes = [{name: value.shape for name, value in own.items()} for own in values]
            self.layout = Layout.of(self.layers, shapes, self.penalize_biases)
            named = joined({str(k): own for k, own in enumerate(values)})
            self.theta = self.backend.asarray(self.layout.join(named, self.dtype))
            self.state = {name: self.backend.asarray(v.astype(self.dtype)) for name, v in state.items()}

    @classmethod
    def without_values(cls, layers: Sequence[Layer], loss: Loss | str, backend: str | Backend, **settings: Any) -> Self:
        """Return a model whose `theta` and `state` are yet to be given, so that none are drawn to be thrown away."""
        model = cls.__new__(cls)
        model._describe(layers, loss, backend, **settings)
        shapes = [layer.parameter_shapes() for layer in model.layers]
        model.layout = Layout.of(model.layers, shapes, model.penalize_biases)
        return model

    def _describe(
        self, layers: Sequence[Layer], loss: Loss | str, backend: str | Backend, dtype: str,
        seed: int | np.random.SeedSequence | None, l1: float, l2: float, penalize_biases: bool,
        input_shape: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        """Check and keep everything but the numbers."""
        self.layers = build.network_layers(layers)
        self.loss = named("loss", loss, LOSSES, Loss)
        self.input_shape, self.output_shape = build.infer_shapes(self.layers, self.loss, input_shape)
        self.dtype = build.check_dtype(dtype)
        self.seed = build.check_seed(seed)
        self.l1, self.l2 = check_number("l1", l1, 0.0), check_number("l2", l2, 0.0)
        self.penalize_biases = check_flag("penalize_biases", penalize_biases)
        build.check_memory(self.layers, self.dtype)
        self.backend = get_backend(backend)
        self.backend.check_dtype(self.dtype)
        self._keys = [build.layer_key(self.seed, k) for k in range(len(self.layers))]
        self._lock, self._outputs = threading.Lock(), Outputs()

    @property
    def given_shape(self) -> Shape | None:
        """The shape of one sample if it had to be given, since the layers do not say it, and else None."""
        return None if self.input_shape == first_shape(self.layers) else self.input_shape

    @property
    def labels(self) -> HostArray | None:
        """What `Network.predict` answers instead of class numbers, one label a class; None for the numbers.

        An estimator's network has those of its training. Targets are numbers in any case.
        """
        return self._labels

    @labels.setter
    def labels(self, labels: Any) -> None:
        self._labels = None if labels is None else check_labels(labels, self.output_shape[0], self.loss)

    # ---------------------------------------------------------------------------------- parameters

    @property
    def parameters(self) -> Parameters:
        """The parameters by name, as views of `theta` (read-only ones where the library has such)."""
        views = self.layout.named(self.backend.xp, self.theta)
        for view in views.values():
            if isinstance(view, np.ndarray):
                view.flags.writeable = False
        return Parameters(views)

    def set_parameters(self, values: Mapping[str, Any]) -> None:
        """Write the named parameters, all or, if one of them does not fit, none.

        Raises
        ------
        ConfigError, ShapeError, DTypeError, DataError
            An unknown name, another shape, not real numbers, a value that is not finite.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"values must map names such as '0.W' to arrays, got {type(values).__name__}")
        views = self.layout.named(self.backend.xp, self.theta)
        ready = {}
        for name, value in values.items():
            if name not in views:
                raise ConfigError(f"no parameter is called {name!r}; names are {', '.join(views)}")
            host = on_host(name, value, self.backend)
            check_numeric(name, host)
            if host.shape != tuple(views[name].shape):
                raise ShapeError(f"parameter {name} has shape {tuple(views[name].shape)}, got {host.shape}")
            ready[name] = self.backend.asarray(cast(name, host, self.dtype, allow_nonfinite=False))
        with self.backend.active():
            for name, array in ready.items():
                views[name][...] = array

    @property
    def parameter_count(self) -> int:
        """The number P of parameters."""
        return self.layout.size

    # -------------------------------------------------------------------------------- mathematics

    def contexts(
        self, training: bool = False, step: Array | None = None, state: Mapping[str, Array] | None = None,
        watch: Watch | None = None, first: int = 0, at_once: int | None = None,
    ) -> list[Context]:  # fmt: skip
        """Return what each layer is told besides its parameters and input; `watch` is shown what passes through it.

        `first` is the place in its batch of the first sample; `at_once` is the backend's, if it is not given.
        """
        own: list[dict[str, Array]] = [{} for _ in self.layers]
        for name, value in (self.state if state is None else state).items():
            k, _, short = name.partition(".")
            own[int(k)][short] = value
        at_once = self.backend.at_once if at_once is None else at_once
        return [Context(training, key, step, own[k], str(k), watch, at_once, first) for k, key in enumerate(self._keys)]

    def objective(
        self, xp: Any, theta: Array, gradient: Array, x: Array, t: Array, weight: Array, contexts: Sequence[Context]
    ) -> tuple[Array, list[Any]]:
        """Write dL/dtheta into `gradient` and return L (0-d, penalties included) and the layers' caches.

        `weight`, shape (B,), sums to 1. Nothing is read back to the host: this is the heart of a training step.
        """
        params = self.layout.split(xp, theta)
        value, grads, caches = self.differentiate(xp, params, x, t, weight, contexts)
        self.collect(xp, gradient, grads)
        return self.penalize(xp, value, theta, gradient), caches

    def differentiate(
        self, xp: Any, params: LayerParams, x: Array, t: Array, weight: Array, contexts: Sequence[Context],
        loss: Callable[..., tuple[Array, Array]] | None = None, last: int | None = None,
    ) -> tuple[Array, LayerParams, list[Any]]:  # fmt: skip
        """Return L without penalties, every layer's parameter gradients and every layer's cache.

        `loss` takes the place of the network's own; the backward pass ends at layer `last`, by default the first with
        parameters. Who watches the last layer is shown the value as "loss".
        """
        y, caches = forward_pass(xp, self.layers, params, x, contexts)
        value, dy = value_and_delta(self.loss, y, (self.loss if loss is None else loss)(xp, y, t, weight))
        contexts[-1].show("loss", value)
        last = self.layout.first if last is None else last
        _, grads = backward_pass(xp, self.layers, params, caches, dy, contexts, last)
        return value, grads, caches

    def collect(self, xp: Any, gradient: Array, grads: LayerParams) -> None:
        """Write each layer's gradients to their places in the vector."""
        for k, (views, computed) in enumerate(zip(self.layout.split(xp, gradient), grads, strict=True)):
            for name, view in views.items():
                view[...] = gradient_of(name, view, self.layers[k], k, computed)

    def penalize(self, xp: Any, value: Array, theta: Array, gradient: Array) -> Array:
        """Add the penalties' gradient to `gradient`, and return `value` with the penalties added."""
        W, dW = theta[: self.layout.decayed], gradient[: self.layout.decayed]
        if self.l2:
            value = value + 0.5 * self.l2 * xp.sum(W * W)
            dW += self.l2 * W
        if self.l1:
            value = value + self.l1 * xp.sum(xp.abs(W))
            dW += self.l1 * (xp.astype(W > 0, W.dtype) - xp.astype(W < 0, W.dtype))
        return value

    def check_batch(self, x: Any, t: Any, sample_weight: Any = None) -> tuple[Array, Array, Array]:
        """Return checked (x, t, weight) on the device; the weights sum to 1."""
        x = check_inputs(x, self.input_shape, self.backend, self.dtype)
        t = check_targets(t, x.shape[0], self.output_shape[0], self.loss, self.backend, self.dtype)
        weight = np.ones(x.shape[0])
        if sample_weight is not None:
            weight = check_sample_weight(sample_weight, x.shape[0], self.backend)
        return x, t, self.backend.asarray((weight / weight.sum()).astype(self.dtype))

    def step_array(self, step: int) -> Array:
        """Return the number of a training step as layers are told it, on the device."""
        return self.backend.asarray(np.asarray([check_size("step", step, 0) % 2**32], dtype=np.uint32))

    def forward(self, x: Any) -> Array:
        """Return the last layer's output (logits, under a loss that takes them), in the network's library.

        Parameters
        ----------
        x : array (B, I)
        """
        with self.backend.active(), explained(self.backend, "the forward pass"):
            return self.output(check_inputs(x, self.input_shape, self.backend, self.dtype, minimum=0))

    def output(self, x: Array) -> Array:
        """Return the last layer's output for checked inputs on the device."""
        return self._outputs(self, x)

    def answer(self, xp: Any, theta: Array, state: Mapping[str, Array], x: Array, at_once: int | None = None) -> Array:
        """Return the same as a function of all that it depends on; `at_once` is for the layers."""
        contexts = self.contexts(state=state, at_once=at_once)
        return forward_pass(xp, self.layers, self.layout.split(xp, theta), x, contexts)[0]

    def gradients(
        self, x: Any, t: Any, sample_weight: Any = None, *, training: bool = False, step: int = 0
    ) -> tuple[float, dict[str, Array]]:
        """Return the objective L and dL/d(parameter) by name, by one forward and one backward pass.

        Parameters
        ----------
        x : array (B, I)
        t : array
            Targets in the form that the loss takes.
        sample_weight : array (B,), optional
            L is the weighted mean of the samples' losses, plus the penalties.
        training : bool
            Whether layers such as `Dropout` act as in training.
        step : int
            The training step whose random numbers they use.
        """
        xp = self.backend.xp
        check_flag("training", training)
        with self.backend.active(), explained(self.backend, "computing gradients"):
            x, t, weight = self.check_batch(x, t, sample_weight)
            gradient = xp.zeros_like(self.theta)
            contexts = self.contexts(training, self.step_array(step))
            value, _ = self.objective(xp, self.theta, gradient, x, t, weight, contexts)
            return float(value), self.layout.named(self.backend.xp, gradient)

    # ------------------------------------------------------------------------------------- copies

    def to(self, backend: str | Backend) -> Self:
        """Return a copy on another backend, with bit-identical parameters."""
        clone = copy.copy(self)
        clone.backend = get_backend(backend)
        clone.backend.check_dtype(self.dtype)
        to_numpy, asarray = self.backend.to_numpy, clone.backend.asarray
        with explained(clone.backend, "copying the network"):
            clone.theta = asarray(to_numpy(self.theta).copy())
            clone.state = {name: asarray(to_numpy(value).copy()) for name, value in self.state.items()}
        clone._lock, clone._outputs = threading.Lock(), Outputs()
        return clone

    def copy(self) -> Self:
        """Return an independent copy on the same backend."""
        return self.to(self.backend)

    def __getstate__(self) -> dict[str, Any]:
        with explained(self.backend, "copying the network to the host"):
            theta, *state = map(self.backend.to_numpy, (self.theta, *self.state.values()))
            own = {"theta": theta, "state": dict(zip(self.state, state, strict=True))}
            return self.__dict__ | own | {"_lock": None, "_outputs": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock(), _outputs=Outputs())
        with explained(self.backend, "copying the network"):
            self.theta = self.backend.asarray(state["theta"])
            self.state = {k: self.backend.asarray(v) for k, v in state["state"].items()}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.copy()
