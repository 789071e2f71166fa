"""`MLPRegressor`."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from xpnet.errors import ConfigError, DataError, DTypeError
from xpnet.estimators.arrays import to_host
from xpnet.estimators.parameters import RegressorParameters
from xpnet.estimators.sampling import Samples, is_sparse
from xpnet.losses import HalfSquaredError, Loss, Poisson, PoissonDeviance
from xpnet.network import Network
from xpnet.saving.onnx.inference import to_onnx
from xpnet.saving.onnx.package import USUAL
from xpnet.typing import Array, HostArray


class MLPRegressor(RegressorMixin, RegressorParameters):  # type: ignore[misc]
    __doc__ = RegressorParameters.__doc__

    _numeric_targets = True

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None) -> MLPRegressor:
        """Train on samples `X` and targets `y`.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)
        y : array-like (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like (n_samples,), optional
        validation_data : (X, y) or (X, y, sample_weight), optional
            Measured after every epoch, in ``history_``; under early stopping in place of a part of `X`.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, validation_data)  # type: ignore[no-any-return]

    @available_if(lambda est: est._check_solver())  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None) -> MLPRegressor:
        """Go through the samples once, from where the last call ended.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        validation_data : (X, y) or (X, y, sample_weight), optional
            With ``early_stopping=True`` the score on it decides when ``stopped_`` becomes True and the best
            parameters come back.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, validation_data, incremental=True)  # type: ignore[no-any-return]

    def predict(self, X: Any) -> Array:
        """Return the predicted values (n_samples,), or (n_samples, n_outputs) if there are several outputs.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)

        Returns
        -------
        array
            In NumPy, or in the library of `X` if that is an array of another one.
        """
        net, y, wide = self._outputs(X, "predict")
        with net.backend.active():
            y = net.loss.predict(net.backend.xp, y)
        return self._answer(net, y[:, 0] if y.shape[1] == 1 else y, X, wide)

    def to_onnx(
        self, path: Any, batch: int | None = None, *, dtype: str | None = "float32", opset: int = USUAL
    ) -> None:  # fmt: skip
        """Write the fitted regressor to an ONNX file, which other programs run.

        Names are those of scikit-learn's converters: the input ``X`` (n_samples, n_features), and the output
        ``variable`` (n_samples, n_outputs), of `predict`; beside it ``y``, what the last layer gives.

        Parameters
        ----------
        path : str or path
        batch : int, optional
            The number of samples, if it shall be fixed; any by default.
        dtype : "float32", "float64" or None
            Of the input; None for that of the data in `fit`.
        opset : int
            The version of the standard's operators, 18 or newer.

        Raises
        ------
        ExportError, ConfigError, DTypeError, BackendUnavailableError, CheckpointIOError
            See `xpnet.Network.to_onnx`.
        """
        check_is_fitted(self)
        to_onnx(self._network(), path, batch, dtype, opset, name="X")

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R^2, the part of the variance of `y` that is explained.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)
        y : array-like (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like (n_samples,), optional

        Returns
        -------
        float
        """
        return float(r2_score(to_host(y), to_host(self.predict(X)), sample_weight=to_host(sample_weight)))

    def _encode(self, y: Any, classes: Any, incremental: bool) -> HostArray:
        return self._targets_of_other(y)

    def _targets_of_other(self, y: Any) -> HostArray:
        if is_sparse(y):
            raise DTypeError("y: sparse targets are not supported; call .toarray()")
        y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
        t = np.asarray(y, dtype=np.float64)
        if (self.loss == "poisson" or isinstance(self.loss, Poisson)) and (t < 0).any():
            raise DataError(f"y has negative values (smallest {t.min()}), but loss={self.loss!r} is for counts, y >= 0")
        return t.reshape(-1, 1) if t.ndim == 1 else t

    def _make_loss(self, t: Any) -> tuple[Loss, int, str]:
        outputs = self.n_outputs_ if t is None else t.shape[1]
        if isinstance(self.loss, Loss):
            if self.loss.kind != "regression":
                raise ConfigError(f"loss must be of kind 'regression', got {self.loss!r}")
            return self.loss, outputs, "exp" if isinstance(self.loss, Poisson) else "identity"
        if self.loss == "poisson":
            return PoissonDeviance(), outputs, "exp"
        return HalfSquaredError(), outputs, "identity"

    def _validation_score(self, net: Network, y: Array, samples: Samples) -> float:
        p = net.backend.to_numpy(net.loss.predict(net.backend.xp, y))
        if not np.isfinite(p).all():
            return float("nan")
        with np.errstate(all="ignore"):  # an overflow on the way to a divergence
            return float(r2_score(net.backend.to_numpy(samples.t), p, sample_weight=samples.weight))
