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
from xpnet.estimators.sampling import is_sparse
from xpnet.keywords import named_methods
from xpnet.losses import Gaussian, HalfSquaredError, Loss, Poisson, PoissonDeviance, Quantile
from xpnet.model.metrics import Metric
from xpnet.saving.onnx.inference import to_onnx
from xpnet.saving.onnx.package import USUAL
from xpnet.typing import HostArray
from xpnet.validation import check_flag

BY_NAME: dict[str, Loss] = {
    "squared_error": HalfSquaredError(), "poisson": PoissonDeviance(), "gaussian": Gaussian()
}  # fmt: skip
"""The losses that a name stands for."""


@named_methods
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

    def predict(self, X: Any, return_std: bool = False, quantiles: bool = False) -> Any:
        """Return the predicted values (n_samples,), or (n_samples, n_targets) if there are several targets.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)
        return_std : bool
            Whether to return the standard deviations beside the values, for ``loss="gaussian"``.
        quantiles : bool
            Whether to return all quantiles instead of the median, or of the one that is the next to it, for a regressor
            with the parameter `quantiles`: (n_samples, n_quantiles), or (n_samples, n_targets, n_quantiles). They
            never cross: each sample's are in increasing order.

        Returns
        -------
        array, or a tuple of two
            In NumPy, or in the library of `X` if that is an array of another one.

        Raises
        ------
        ConfigError
            The loss knows no standard deviation, or no quantiles.
        """
        check_flag("return_std", return_std)
        check_flag("quantiles", quantiles)
        net, y, wide = self._outputs(X, "predict")
        loss, xp = net.loss, net.backend.xp
        if return_std and not isinstance(loss, Gaussian):
            raise ConfigError(f"return_std needs loss='gaussian', but the loss is {loss}; fit such a regressor first")
        if quantiles and not isinstance(loss, Quantile):
            raise ConfigError(
                f"quantiles=True needs MLPRegressor(quantiles=[0.05, 0.5, 0.95]) or the like, but the loss is {loss}; "
                "fit such a regressor first"
            )
        with net.backend.active():
            found = [loss.quantiles(xp, y) if quantiles else loss.predict(xp, y)]  # type: ignore[attr-defined]
            if return_std:
                found.append(loss.deviation(xp, y))  # type: ignore[attr-defined]
        answers = [self._answer(net, a[:, 0, ...] if a.shape[1] == 1 else a, X, wide) for a in found]
        return tuple(answers) if return_std else answers[0]

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
        loss = self.loss if isinstance(self.loss, Loss) else BY_NAME[self.loss]
        if loss.kind != "regression":
            raise ConfigError(f"loss must be of kind 'regression', got {loss!r}")
        if self.quantiles is not None:
            if self.loss != "squared_error":
                raise ConfigError(f"quantiles have a loss of their own; leave the default of loss, got {self.loss!r}")
            loss = Quantile(self.quantiles)
        outputs = self.n_outputs_ if t is None else t.shape[1] * loss.per_target
        return loss, outputs, "exp" if isinstance(loss, Poisson | PoissonDeviance) else "identity"

    def _scores_by(self, loss: Loss) -> dict[str, Metric]:
        # R^2 does not see how wide an interval is.
        return {} if isinstance(loss, Quantile | Gaussian) else {"score": r_squared}


def r_squared(t: HostArray, p: HostArray, weight: HostArray) -> float:
    """Return scikit-learn's R^2; NaN if the predictions are not finite."""
    if not np.isfinite(p).all():
        return float("nan")
    with np.errstate(all="ignore"):  # an overflow on the way to a divergence
        return float(r2_score(t, p, sample_weight=weight))
