"""The fitted weights as scikit-learn's lists and as xpnet's network, which are the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sklearn import config_context
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from xpnet.estimators import wiring
from xpnet.estimators.arrays import backend_of, check_same_place, choose_backend
from xpnet.estimators.intake import check_X, dtype_name
from xpnet.estimators.predicting import outputs
from xpnet.estimators.sampling import to_device
from xpnet.estimators.solvers import SolverState
from xpnet.network import Network
from xpnet.typing import Array


class FittedState:
    """Keeps `coefs_` and `intercepts_` beside `network_`, through copies, files and a user's own changes."""

    if TYPE_CHECKING:
        activation: Any
        backend: Any
        dropout: float
        network_: Network
        coefs_: list[Array]
        intercepts_: list[Array]
        _follows_data: bool
        _make_loss: Any
        _optimizer: SolverState

    def _weight_attributes(self, net: Network) -> dict[str, Any]:
        """Return the fitted attributes that hold the weights of `net`."""
        coefs, intercepts = wiring.weights(net, on_host=not self._follows_data)
        return {
            "coefs_": coefs,
            "intercepts_": intercepts,
            "n_layers_": len(coefs) + 1,
            "_own_weights": (*coefs, *intercepts),
        }

    def _labels(self) -> Any:
        """Return what the classes are called, or None."""
        return None

    def _publish(self, net: Network) -> None:
        net.labels = self._labels()
        self.network_ = net
        vars(self).update(self._weight_attributes(net))

    def _unchanged(self) -> bool:
        """Say whether `coefs_` and `intercepts_` are still the network's own."""
        own, now = getattr(self, "_own_weights", ()), (*self.coefs_, *self.intercepts_)
        return "network_" in vars(self) and len(own) == len(now) and all(a is b for a, b in zip(own, now, strict=True))

    def _network(self) -> Network:
        """Return the network that `coefs_` and `intercepts_` describe: `network_` unless a user has changed them."""
        if self._unchanged():
            return self.network_
        units = [self.coefs_[0].shape[0], *(W.shape[1] for W in self.coefs_)]
        fitted = vars(self).get("network_")
        if fitted is not None and wiring.units_of(fitted) == units:
            net: Network = fitted.copy()
        else:
            backend = choose_backend(self.backend, self.coefs_[0])
            vars(self).setdefault("_follows_data", self.backend is None and backend_of(self.coefs_[0]) is not None)
            layers = wiring.make_layers(units, self.activation, self.dropout)
            net = Network(layers, self._make_loss(None)[0], backend=backend, dtype=dtype_name(self.coefs_[0]))
            net.labels = self._labels()
        wiring.write(net, self.coefs_, self.intercepts_)
        return net

    # ----------------------------------------------------------------------------------- predicting

    def _outputs(self, X: Any, method: str) -> tuple[Network, Array, str]:
        """Return the network, its outputs for the samples, and the precision in which to answer."""
        check_is_fitted(self)
        net = self._network()
        check_same_place(X, net.backend, self._follows_data, type(self).__name__, method)
        x = check_X(self, X, reset=False)
        wide = "float32" if (dtype_name(x), net.dtype) == ("float32", "float32") else "float64"
        return net, outputs(net, to_device(x, net.backend, net.dtype)), wide

    def _answer(self, net: Network, a: Array, X: Any, dtype: str | None = None) -> Array:
        """Return `a` in the library in which `X` came."""
        if dtype is not None:
            with net.backend.active():
                a = net.backend.xp.astype(a, getattr(net.backend.xp, dtype), copy=False)
        return net.backend.to_numpy(a) if backend_of(X) is None else a

    # ------------------------------------------------------------------------------- copies, files

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = {**super().__getstate__()}  # type: ignore[dict-item]
        state.pop("_trainer", None)  # compiled steps, which belong to this very object
        if "coefs_" in state and self._unchanged():
            for name in ("coefs_", "intercepts_", "_own_weights"):
                del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        if "network_" in vars(self) and "coefs_" not in vars(self):
            self._publish(self.network_)

    def __sklearn_array_api_convert__(self, convert: Callable[[Array], Array]) -> Any:
        """Return a copy whose network is where `convert` takes its parameters."""
        moved = clone(self)
        vars(moved).update(vars(self))
        vars(moved).pop("_trainer", None)
        with config_context(array_api_dispatch=True):
            vector = convert(self._network().theta)
            net = self._network().to(choose_backend(None, vector))
            moved._follows_data = backend_of(vector) is not None
            moved._publish(net)
        if "_optimizer" in vars(self):
            moved._optimizer = self._optimizer.to(net)
        return moved
