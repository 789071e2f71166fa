"""What both estimators share: constraints on parameters, and the order of things in `fit`."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions

from xpnet.backends import Backend
from xpnet.backends import get as get_backend
from xpnet.errors import ConfigError, DataError, ShapeError
from xpnet.estimators import lbfgs, wiring
from xpnet.estimators.arrays import backend_of, check_same_place, choose_backend
from xpnet.estimators.files import Files
from xpnet.estimators.fitted import FittedState
from xpnet.estimators.intake import check_weights, check_X, check_y, dtype_name
from xpnet.estimators.sampling import Samples, to_device
from xpnet.estimators.stochastic import NOT_FINITE, DivergenceError, Fit
from xpnet.estimators.tasks import Tasks
from xpnet.keywords import Named
from xpnet.layers import Layer
from xpnet.losses import Loss
from xpnet.model.memory import explained
from xpnet.model.metrics import Metric
from xpnet.network import Network
from xpnet.optimizers import Optimizer
from xpnet.parallel.mpi import MPI, shared
from xpnet.training.history import History
from xpnet.typing import HostArray


class BaseMultilayerPerceptron(Named, Files, FittedState, CallbackSupportMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """Base of `MLPClassifier` and `MLPRegressor`, which document the parameters and attributes."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(wiring.ACTIVATION_NAMES), Layer, "array-like"],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"}), Optimizer],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "backend": [str, Backend, None],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "on_divergence": [StrOptions({"stop", "raise"})],
        "parallel": [StrOptions({"mpi"}), MPI, None],
    }
    _numeric_targets: ClassVar[bool]

    def _keep(self, arguments: dict[str, Any]) -> None:
        """Make a constructor's arguments attributes, each as it came, which is all that scikit-learn lets it do."""
        self.__dict__.update({name: value for name, value in arguments.items() if name != "self"})

    # What the two kinds of estimator answer differently.

    @abstractmethod
    def _encode(self, y: Any, classes: Any, incremental: bool) -> HostArray:
        """Return checked targets in the form that the loss takes, and learn or check what values they can have."""

    @abstractmethod
    def _targets_of_other(self, y: Any) -> HostArray:
        """Return the targets of validation data in this form."""

    @abstractmethod
    def _make_loss(self, t: HostArray) -> tuple[Loss, int, str]:
        """Return the loss, the number of outputs and the name of the output activation."""

    def _scores_by(self, loss: Loss) -> dict[str, Metric]:
        """Return the metric "score" of validation, the larger the better; without one it is the accuracy, or -loss."""
        return {}

    def _weigh(self, t: HostArray, weight: HostArray | None) -> HostArray | None:
        """Return the samples' weights, with those of their classes if there are such."""
        return weight

    # ------------------------------------------------------------------------------------ fitting

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation_data: Any,
        *,
        incremental: bool = False,
        classes: Any = None,
    ) -> Any:
        with shared(self.parallel) as workers:
            return self._train(X, y, sample_weight, validation_data, incremental, classes, workers)

    def _train(
        self, X: Any, y: Any, sample_weight: Any, validation_data: Any, incremental: bool, classes: Any,
        workers: MPI | None,
    ) -> Any:  # fmt: skip
        before = self.__dict__.copy()
        try:
            with explained(get_backend("numpy"), "checking the data"):  # on the host, wherever they go then
                net, samples, validation = self._prepare(X, y, sample_weight, validation_data, incremental, classes)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)  # a call that is refused leaves the estimator as it was
            raise
        kept = self.__dict__.pop("_trainer", None)
        self._publish(net)
        tasks = Tasks(self, X, y, sample_weight, 1 if incremental else self.max_iter)
        try:
            with explained(net.backend, "training"):
                if self.solver == "lbfgs":
                    lbfgs.fit(self, net, samples, tasks)
                else:
                    size = self._batch(len(samples))
                    Fit(self, net, samples, validation, size, incremental, kept, workers).run(tasks)
        finally:
            self._publish(net)
        with net.backend.active():
            if not bool(net.backend.xp.all(net.backend.xp.isfinite(net.theta))):
                raise DivergenceError(NOT_FINITE)
        tasks.end()
        return self

    def _prepare(
        self, X: Any, y: Any, sample_weight: Any, validation_data: Any, incremental: bool, classes: Any
    ) -> tuple[Network, Samples, Samples | None]:
        """Check everything, and return the network to train and the data on its device."""
        if self.parallel is not None and self.solver == "lbfgs":
            raise ConfigError("solver='lbfgs' has no steps that processes could share; use parallel=None, or 'adam'")
        if isinstance(self.parallel, MPI) and self.parallel.sharded:
            raise ConfigError("estimators need all samples on every process; with sharded=True use xpnet.Network.fit")
        hidden = wiring.hidden_sizes(self.hidden_layer_sizes)
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        if y is None:
            check_y(self, y, 0)
        x = check_X(self, X, reset=first)
        y = check_y(self, y, int(x.shape[0]))
        weight = check_weights(sample_weight, int(x.shape[0]))
        t = self._encode(y, classes, incremental)
        loss, self.n_outputs_, self.out_activation_ = self._make_loss(t)
        self._random_state = check_random_state(self.random_state)
        if first:
            self._follows_data = self.backend is None and backend_of(X) is not None
            dtype = "float64" if self.solver == "lbfgs" else dtype_name(x)
            net = self._first_network(
                [x.shape[1], *hidden, self.n_outputs_], loss, choose_backend(self.backend, X), dtype
            )
        else:
            net = self._next_network(hidden, loss)
            if net.output_shape[0] != self.n_outputs_:
                raise ShapeError(f"y has {self.n_outputs_} outputs, the fitted network {net.output_shape[0]}")
            check_same_place(
                X, net.backend, self._follows_data, type(self).__name__, "partial_fit" if incremental else "fit"
            )
        self._begin_curves(first)
        samples = self._samples(net, x, t, self._weigh(t, weight))
        return net, *self._set_aside(net, samples, t, validation_data, incremental)

    def _samples(self, net: Network, x: Any, t: HostArray, weight: HostArray | None) -> Samples:
        target = net.backend.asarray(t if t.ndim == 1 else np.ascontiguousarray(t, dtype=net.dtype))
        return Samples(to_device(x, net.backend, net.dtype), target, weight)

    def _set_aside(
        self, net: Network, samples: Samples, t: HostArray, validation_data: Any, incremental: bool
    ) -> tuple[Samples, Samples | None]:
        """Return what to train on and what to validate on."""
        if validation_data is not None:
            return samples, self._other_samples(net, validation_data)
        if not self.early_stopping or self.solver == "lbfgs":
            return samples, None
        if incremental:
            raise ValueError("partial_fit does not support early_stopping=True, unless it is given validation_data")
        stratify = (t > 0).reshape(-1, 1) if self._stratified() else None
        train, held = train_test_split(
            np.arange(len(samples)), random_state=self._random_state, test_size=self.validation_fraction,
            stratify=stratify,
        )  # fmt: skip
        if len(held) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        parts = samples.rows(train, net.backend), samples.rows(held, net.backend)
        if any(part.weight is not None and not part.weight.sum() > 0 for part in parts):
            raise DataError("sample_weight leaves only zeros on one side of the validation split; pass validation_data")
        return parts

    def _stratified(self) -> bool:
        return False

    def _other_samples(self, net: Network, data: Any) -> Samples:
        if not isinstance(data, tuple | list) or len(data) not in (2, 3):
            raise ValueError(f"validation_data must be (X, y) or (X, y, sample_weight), got {type(data).__name__}")
        X, y, *weight = data
        check_same_place(X, net.backend, self._follows_data, type(self).__name__, "fit")
        x = check_X(self, X, reset=False)
        t = self._targets_of_other(check_y(self, y, int(x.shape[0])))
        return self._samples(net, x, t, check_weights(weight[0] if weight else None, int(x.shape[0])))

    def _batch(self, samples: int) -> int:
        if self.batch_size == "auto":
            return min(200, samples)
        if self.batch_size > samples:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=4
            )
        return int(min(self.batch_size, samples))

    # --------------------------------------------------------------------------- networks and curves

    def _first_network(self, units: list[int], loss: Loss, backend: Backend, dtype: str) -> Network:
        layers = wiring.make_layers(units, self.activation, self.dropout)
        values = wiring.draw(units, self.activation, self._random_state)
        seed = int(self._random_state.randint(2**31 - 1)) if self.dropout else 0
        net = Network(layers, loss, backend=backend, dtype=dtype, seed=seed)
        wiring.write(net, *zip(*values, strict=True))
        return net

    def _next_network(self, hidden: list[int], loss: Loss) -> Network:
        """Return the network to go on with: the fitted one, or its weights under what `set_params` has changed."""
        net = self._network()
        if self.backend is not None:
            wanted = choose_backend(self.backend, None)
            net = net if net.backend == wanted else net.to(wanted)
        units = wiring.units_of(net)
        if units[1:-1] != hidden:
            warnings.warn(
                f"hidden_layer_sizes is now {hidden}, but training goes on with the fitted network's {units[1:-1]}; "
                "use warm_start=False for a new network",
                stacklevel=5,
            )
        layers = tuple(wiring.make_layers(units, self.activation, self.dropout))
        dtype = "float64" if self.solver == "lbfgs" else net.dtype
        if (net.layers, net.loss, net.dtype) == (layers, loss, dtype):
            frozen = isinstance(net.theta, np.ndarray) and not net.theta.flags.writeable  # a file, mapped by joblib
            return net.copy() if frozen else net
        changed = Network(layers, loss, backend=net.backend, dtype=dtype, seed=net.seed)
        wiring.write(changed, *wiring.weights(net, on_host=False))
        return changed

    def _begin_curves(self, first: bool) -> None:
        """Give the attributes that epochs bring up to date their first values, where they are not there yet."""
        stopping = self.early_stopping
        start = {
            "t_": 0, "n_iter_": 0, "history_": History(), "loss_curve_": [], "_no_improvement_count": 0,
            "best_loss_": None if stopping else np.inf, "validation_scores_": [] if stopping else None,
            "best_validation_score_": -np.inf if stopping else None,
        }  # fmt: skip
        if self.solver == "lbfgs":
            start = {name: start[name] for name in ("t_", "n_iter_", "history_")}
        for name, value in start.items():
            if first or getattr(self, name, None) is None:
                setattr(self, name, value)

    def _loss_grad_lbfgs(
        self, packed: Any, X: Any, y: Any, sample_weight: Any, *buffers: Any
    ) -> tuple[float, HostArray]:
        """Return what solver "lbfgs" minimises, and its gradient, at all weights and then all biases as one vector.

        More arguments, which scikit-learn's method of this name takes to write to, are accepted and left alone.
        """
        net = self.network_
        t = y if y.ndim == 1 else to_device(y, net.backend, net.dtype)
        samples = Samples(to_device(X, net.backend, net.dtype), t, sample_weight)
        return lbfgs.loss_and_gradient(net, packed, samples, float(self.alpha))

    def _check_solver(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError("partial_fit is only available for stochastic optimizers. lbfgs is not stochastic.")
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = self.backend is None  # a backend that is named takes arrays of its own and NumPy's
        return tags
