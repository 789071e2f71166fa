"""The network: layers, a loss, parameters, and the backpropagation loop."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backends import Backend
from xpnet.backends import get as get_backend
from xpnet.errors import ConfigError, ShapeError
from xpnet.layers.base import Context, Layer
from xpnet.losses import Loss
from xpnet.model import build
from xpnet.model.data import cast, check_inputs, check_numeric, check_sample_weight, check_targets, on_host
from xpnet.typing import Array, HostArray, LayerParams
from xpnet.validation import check_flag, check_number, check_size

if TYPE_CHECKING:
    from xpnet.inspection.trace import Trace
    from xpnet.training.fit import History


def forward_pass(
    xp: Any, layers: Sequence[Layer], params: LayerParams, x: Array, contexts: Sequence[Context]
) -> tuple[Array, list[Any]]:
    """Return the last layer's output, and every layer's cache: layer k's output is layer k+1's input."""
    caches = []
    for layer, p, context in zip(layers, params, contexts, strict=True):
        x, cache = layer.forward(xp, p, x, context)
        caches.append(cache)
    return x, caches


def backward_pass(
    xp: Any, layers: Sequence[Layer], params: LayerParams, caches: list[Any], dy: Array, contexts: Sequence[Context],
    last: int = 0, deltas: list[Array] | None = None,
) -> tuple[Array | None, LayerParams]:  # fmt: skip
    """Return dL/dx and every layer's parameter gradients: layer k's dL/dx is layer k-1's delta.

    Layers below number `last` have no parameters and are skipped; layer `last` itself need not pass a delta
    on if `last` is the first with parameters, since nobody would read it. `deltas` collects dL/dy by layer.
    """
    grads: LayerParams = [{} for _ in layers]
    delta: Array | None = dy
    for k in range(len(layers) - 1, max(last, 0) - 1, -1):
        if deltas is not None:
            deltas.insert(0, delta)
        delta, grads[k] = layers[k].backward(xp, params[k], caches[k], delta, contexts[k], need_dx=k > last)
    return delta, grads


class Network:
    """A feed-forward network: layers, a loss, and one flat vector of parameters.

    Parameters
    ----------
    layers : sequence of Layer
        Applied in order. A layer owns no arrays, so the same object may stand at two positions.
    loss : Loss or str
        What training makes small; a name of `xpnet.losses.LOSSES` stands for its default.
    backend : str or Backend
        The array library and device, see `xpnet.backends.get`.
    dtype : "float32" or "float64"
        Data type of the parameters and of all arithmetic.
    seed : int or None
        Every random number (initial values, shuffles, dropout) is a function of it. None draws one.
    l1, l2 : float >= 0
        The objective is loss + l1 sum |W| + l2 / 2 sum W^2 over the weights; never divided by the batch size.
    penalize_biases : bool
        Whether these penalties, and weight decay, also act on biases.

    Attributes
    ----------
    theta : array (P,)
        All parameters as one vector: first those that penalties act on, layer by layer, then the others.

    Examples
    --------
    >>> import xpnet
    >>> net = xpnet.Network([xpnet.Linear(2, 3), xpnet.Tanh(), xpnet.Linear(3, 1)], loss="mean_squared_error")
    >>> net.forward([[0.0, 0.0]]).shape
    (1, 1)
    """

    def __init__(
        self, layers: Sequence[Layer], loss: Loss | str, backend: str | Backend = "numpy", dtype: str = "float32",
        seed: int | np.random.SeedSequence | None = 0, l1: float = 0.0, l2: float = 0.0, penalize_biases: bool = False,
    ) -> None:  # fmt: skip
        self.layers = build.check_layers(layers)
        self.loss = build.check_loss(loss)
        self.input_shape, self.output_shape = build.infer_shapes(self.layers, self.loss)
        self.dtype = build.check_dtype(dtype)
        self.seed = build.check_seed(seed)
        self.l1, self.l2 = check_number("l1", l1, 0.0), check_number("l2", l2, 0.0)
        self.penalize_biases = check_flag("penalize_biases", penalize_biases)
        build.check_memory(self.layers, self.dtype)
        self.backend = get_backend(backend)
        values, state = build.draw(self.layers, self.seed)
        self._layout, self._decayed = build.layout(self.layers, values, self.penalize_biases)
        flat = [values[p.layer][p.name].reshape(-1) for p in self._layout]
        theta = np.concatenate([*flat, np.zeros(0)]).astype(self.dtype)
        self.theta = self.backend.asarray(theta)
        self.state = {name: self.backend.asarray(v.astype(self.dtype)) for name, v in state.items()}
        self._keys = [build.layer_key(self.seed, k) for k in range(len(self.layers))]
        self._lock = threading.Lock()

    # ---------------------------------------------------------------------------------- parameters

    def split(self, xp: Any, vector: Array) -> LayerParams:
        """Return, per layer, named views of a vector laid out like `theta`."""
        views: LayerParams = [{} for _ in self.layers]
        for p in self._layout:
            views[p.layer][p.name] = xp.reshape(vector[p.start : p.stop], p.shape)
        return views

    def named(self, vector: Array) -> dict[str, Array]:
        """Return views of a vector laid out like `theta`, by names such as "0.W", in the order of the layers."""
        views = self.split(self.backend.xp, vector)
        return {f"{k}.{name}": view for k, layer in enumerate(views) for name, view in layer.items()}

    @property
    def parameters(self) -> Mapping[str, Array]:
        """The parameters by name, as views of `theta` (read-only ones where the library has such)."""
        views = self.named(self.theta)
        for view in views.values():
            if isinstance(view, np.ndarray):
                view.flags.writeable = False
        return MappingProxyType(views)

    def set_parameters(self, values: Mapping[str, Any]) -> None:
        """Write the named parameters, all or, if one of them does not fit, none.

        Raises
        ------
        ConfigError, ShapeError, DTypeError, DataError
            An unknown name, another shape, not real numbers, a value that is not finite.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"values must map names such as '0.W' to arrays, got {type(values).__name__}")
        views = self.named(self.theta)
        ready = {}
        for name, value in values.items():
            if name not in views:
                raise ConfigError(f"no parameter is called {name!r}; names are {', '.join(views)}")
            host = on_host(name, value, self.backend)
            check_numeric(name, host)
            if host.shape != tuple(views[name].shape):
                raise ShapeError(f"parameter {name} has shape {tuple(views[name].shape)}, got {host.shape}")
            ready[name] = self.backend.asarray(cast(name, host, self.dtype, allow_nonfinite=False, warn=False))
        for name, array in ready.items():
            views[name][...] = array

    @property
    def parameter_count(self) -> int:
        """The number P of parameters."""
        return int(self.theta.shape[0])

    # -------------------------------------------------------------------------------- mathematics

    def contexts(
        self, training: bool = False, step: Array | None = None, state: Mapping[str, Array] | None = None
    ) -> list[Context]:
        """Return what each layer is told besides its parameters and input."""
        state = self.state if state is None else state
        own: list[dict[str, Array]] = [{} for _ in self.layers]
        for name, value in state.items():
            k, _, short = name.partition(".")
            own[int(k)][short] = value
        return [Context(training, key, step, s) for key, s in zip(self._keys, own, strict=True)]

    def objective(
        self, xp: Any, theta: Array, gradient: Array, x: Array, t: Array, weight: Array, contexts: Sequence[Context]
    ) -> tuple[Array, list[Any]]:
        """Write dL/dtheta into `gradient` and return L (0-d, penalties included) and the layers' caches.

        `weight`, shape (B,), sums to 1. Nothing is read back to the host: this is the heart of a training step.
        """
        params = self.split(xp, theta)
        y, caches = forward_pass(xp, self.layers, params, x, contexts)
        value, dy = self.loss(xp, y, t, weight)
        _, grads = backward_pass(xp, self.layers, params, caches, dy, contexts, self._first_trainable)
        for views, computed in zip(self.split(xp, gradient), grads, strict=True):
            for name, view in views.items():
                view[...] = computed[name]
        return self.penalize(xp, value, theta, gradient), caches

    def penalize(self, xp: Any, value: Array, theta: Array, gradient: Array) -> Array:
        """Add the penalties' gradient to `gradient`, and return `value` with the penalties added."""
        W, dW = theta[: self._decayed], gradient[: self._decayed]
        if self.l2:
            value = value + 0.5 * self.l2 * xp.sum(W * W)
            dW += self.l2 * W
        if self.l1:
            value = value + self.l1 * xp.sum(xp.abs(W))
            dW += self.l1 * (xp.astype(W > 0, W.dtype) - xp.astype(W < 0, W.dtype))
        return value

    @property
    def _first_trainable(self) -> int:
        return min((p.layer for p in self._layout), default=len(self.layers))

    def check_batch(self, x: Any, t: Any, sample_weight: Any = None) -> tuple[Array, Array, Array]:
        """Return checked (x, t, weight) on the device; the weights sum to 1."""
        x = check_inputs(x, self.input_shape, self.backend, self.dtype)
        t = check_targets(t, x.shape[0], self.output_shape[0], self.loss, self.backend, self.dtype)
        weight = np.ones(x.shape[0])
        if sample_weight is not None:
            weight = check_sample_weight(sample_weight, x.shape[0], self.backend)
        return x, t, self.backend.asarray((weight / weight.sum()).astype(self.dtype))

    def _step_array(self, step: int) -> Array:
        return self.backend.asarray(np.asarray([check_size("step", step, 0) % 2**32], dtype=np.uint32))

    def forward(self, x: Any) -> Array:
        """Return the last layer's output (logits, under a loss that takes them), in the network's library.

        Parameters
        ----------
        x : array (B, I)
        """
        x = check_inputs(x, self.input_shape, self.backend, self.dtype, minimum=0)
        with self.backend.active():
            return self._output(x)

    def _output(self, x: Array) -> Array:
        xp = self.backend.xp
        return forward_pass(xp, self.layers, self.split(xp, self.theta), x, self.contexts())[0]

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
        x, t, weight = self.check_batch(x, t, sample_weight)
        xp = self.backend.xp
        with self.backend.active():
            gradient = xp.zeros_like(self.theta)
            contexts = self.contexts(training, self._step_array(step))
            value, _ = self.objective(xp, self.theta, gradient, x, t, weight, contexts)
            return float(value), self.named(gradient)

    def trace(self, x: Any, t: Any, sample_weight: Any = None, *, training: bool = False, step: int = 0) -> Trace:
        """Return every layer's input, output, delta and parameter gradients for one batch; see `Trace`."""
        from xpnet.inspection.trace import trace

        return trace(self, x, t, sample_weight, training=training, step=step)

    # ------------------------------------------------------------------------- training, using it

    def fit(self, x: Any, t: Any, **options: Any) -> History:
        """Train by minibatch gradient descent; see `xpnet.training.fit.fit` for the options."""
        from xpnet.training.fit import fit

        return fit(self, x, t, **options)

    def predict(self, x: Any, *, batch_size: int = 512, allow_nonfinite: bool = False) -> HostArray:
        """Return class labels (B,) under a classification loss, else values (B, O), as a NumPy array.

        Under binary cross-entropy labels are 0 or 1: (B,) for one output, (B, O) for several.

        Parameters
        ----------
        x : array (B, I)
        batch_size : int
            Rows computed at a time; it limits memory only.
        allow_nonfinite : bool
            Whether rows with NaN or infinities may come in. They give NaN values, and the label -1.
        """
        from xpnet.model.predict import predict

        return predict(self, x, batch_size=batch_size, allow_nonfinite=allow_nonfinite)

    def predict_proba(self, x: Any, *, batch_size: int = 512, allow_nonfinite: bool = False) -> HostArray:
        """Return class probabilities (B, O), whose rows sum to 1, as a NumPy array.

        Under binary cross-entropy with one output the two columns are the probabilities of 0 and of 1;
        with several outputs each column is the probability of that output's yes.
        """
        from xpnet.model.predict import predict_proba

        return predict_proba(self, x, batch_size=batch_size, allow_nonfinite=allow_nonfinite)

    def evaluate(self, x: Any, t: Any, sample_weight: Any = None, *, batch_size: int = 512) -> dict[str, float]:
        """Return {"loss": ...} without penalties, and "accuracy" under a classification loss."""
        from xpnet.model.predict import evaluate

        return evaluate(self, x, t, sample_weight, batch_size=batch_size)

    # ------------------------------------------------------------------------------ copies, files

    def to(self, backend: str | Backend) -> Network:
        """Return a copy on another backend, with bit-identical parameters."""
        clone = copy.copy(self)
        clone.backend = get_backend(backend)
        clone.theta = clone.backend.asarray(self.backend.to_numpy(self.theta).copy())
        clone.state = {k: clone.backend.asarray(self.backend.to_numpy(v).copy()) for k, v in self.state.items()}
        clone._lock = threading.Lock()
        return clone

    def copy(self) -> Network:
        """Return an independent copy on the same backend."""
        return self.to(self.backend)

    def save(self, path: Any) -> None:
        """Write the network to a safetensors file, which `xpnet.load` reads and which cannot run code."""
        from xpnet.saving.network import save

        save(self, path)

    def __getstate__(self) -> dict[str, Any]:
        host = {k: self.backend.to_numpy(v) for k, v in self.state.items()}
        return self.__dict__ | {"_lock": None, "theta": self.backend.to_numpy(self.theta), "state": host}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())
        self.theta = self.backend.asarray(state["theta"])
        self.state = {k: self.backend.asarray(v) for k, v in state["state"].items()}

    def __deepcopy__(self, memo: dict[int, Any]) -> Network:
        return self.copy()

    def __repr__(self) -> str:
        inner = ", ".join(map(repr, self.layers))
        return f"Network([{inner}], loss={self.loss!r}, backend={self.backend.name!r}, dtype={self.dtype!r})"

    def summary(self) -> str:
        """Return a table of the layers, their output shapes and parameters."""
        rows = [("layer", "", "output", "parameters")]
        shape = self.input_shape
        for k, layer in enumerate(self.layers):
            shape = layer.output_shape(shape)
            count = sum(prod(s) for s in layer.parameter_shapes().values())
            rows.append((str(k), type(layer).__name__, "(B, " + ", ".join(map(str, shape)) + ")", f"{count:,}"))
        size = np.dtype(self.dtype).itemsize * self.parameter_count
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            "  ".join(f"{c:>{w}}" if i == 3 else f"{c:<{w}}" for i, (c, w) in enumerate(zip(row, widths, strict=True)))
            for row in rows
        ]
        total = f"{self.parameter_count:,} parameters, {size:,} bytes in {self.dtype}, on {self.backend.name}"
        return "\n".join([*lines, f"{type(self.loss).__name__}; {total}"])

    __str__ = summary

    def explain(self, format: str = "text") -> str:
        """Return the delta rule of this network, layer by layer.

        Parameters
        ----------
        format : "text", "markdown" or "latex"
        """
        from xpnet.inspection.explain import explain

        return explain(self, format)

    def _repr_html_(self) -> str:
        from xpnet.inspection.explain import summary_html

        return summary_html(self)


def mlp(
    sizes: Sequence[int], activation: str | Layer | Sequence[str | Layer] = "relu", loss: Loss | str = "cross_entropy",
    *, output_activation: str | Layer | None = None, dropout: float = 0.0, bias: bool = True, weight_init: Any = None,
    **options: Any,
) -> Network:  # fmt: skip
    """Build a multi-layer perceptron: `Linear` layers with an activation after each but the last.

    Parameters
    ----------
    sizes : sequence of int
        Numbers of inputs, hidden units and outputs, e.g. ``[784, 512, 10]``.
    activation : str, Layer, or a sequence of one for each hidden layer
        Names are those of `xpnet.layers.ACTIVATIONS`.
    loss : Loss or str
    output_activation : str or Layer, optional
        After the last layer; none by default, as suits a loss that takes logits, and regression.
    dropout : float
        Rate of a `Dropout` after each hidden activation.
    bias : bool
    weight_init : str or callable, optional
        By default He's normal law before a rectifier-like activation, Glorot's uniform law otherwise.
    **options
        Passed on to `Network`: backend, dtype, seed, l1, l2, penalize_biases.

    Examples
    --------
    >>> import xpnet
    >>> print(xpnet.mlp([784, 512, 10]))
    layer          output    parameters
    0      Linear  (B, 512)     401,920
    1      ReLU    (B, 512)           0
    2      Linear  (B, 10)        5,130
    CrossEntropy; 407,050 parameters, 1,628,200 bytes in float32, on numpy
    """
    layers = build.mlp_layers(sizes, activation, output_activation, dropout, bias, weight_init)
    return Network(layers, loss, **options)
