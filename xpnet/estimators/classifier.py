"""`MLPClassifier`."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels
from sklearn.utils.validation import check_is_fitted

from xpnet.errors import ConfigError
from xpnet.estimators.arrays import backend_of, to_host
from xpnet.estimators.parameters import ClassifierParameters
from xpnet.estimators.predicting import log_softmax
from xpnet.keywords import named_methods
from xpnet.losses import BinaryCrossEntropy, CrossEntropy, Loss
from xpnet.network import Network
from xpnet.saving.onnx.inference import to_onnx
from xpnet.saving.onnx.package import USUAL
from xpnet.typing import Array, HostArray


@named_methods
class MLPClassifier(ClassifierMixin, ClassifierParameters):  # type: ignore[misc]
    __doc__ = ClassifierParameters.__doc__

    _numeric_targets = False

    # ------------------------------------------------------------------------------------ fitting

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None) -> MLPClassifier:
        """Train on samples `X` and targets `y`.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)
        y : array-like (n_samples,) or (n_samples, n_labels)
            Class labels, or an indicator matrix for several labels at once.
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
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None, *, validation_data: Any = None
    ) -> MLPClassifier:
        """Go through the samples once, from where the last call ended.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : array (n_classes,), optional
            All classes of all calls; needed at the first.
        validation_data : (X, y) or (X, y, sample_weight), optional
            With ``early_stopping=True`` the score on it decides when ``stopped_`` becomes True and the best
            parameters come back.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, validation_data, incremental=True, classes=classes)  # type: ignore[no-any-return]

    def _encode(self, y: Any, classes: Any, incremental: bool) -> HostArray:
        if incremental and _check_partial_fit_first_call(self, classes):
            several = type_of_target(y).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(y if several else classes)
        y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
            return self._as_target(y)
        found = unique_labels(y)
        if self.warm_start and set(found) != set(self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {self.classes_}, `y` has {found}"
            )
        return self._targets_of_other(y)

    def _targets_of_other(self, y: Any) -> HostArray:
        y = column_or_1d(y) if y.ndim == 2 and y.shape[1] == 1 else y
        found = unique_labels(y)
        if len(np.setdiff1d(found, self.classes_, assume_unique=True)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {found}."
            )
        return self._as_target(y)

    def _as_target(self, y: Any) -> HostArray:
        """Return class numbers (N,), or 0 and 1 of shape (N, 1) for two classes, (N, O) for several labels."""
        if self._label_binarizer.y_type_ == "multiclass" and y.ndim == 1:
            return np.asarray(np.searchsorted(self.classes_, y), dtype=np.int64)
        return np.asarray(self._label_binarizer.transform(y), dtype=np.float64)

    def _make_loss(self, t: Any) -> tuple[Loss, int, str]:
        several = self._label_binarizer.y_type_ == "multiclass"
        outputs = 1 if self._label_binarizer.y_type_ == "binary" else len(self.classes_)
        loss: Loss = CrossEntropy() if several else BinaryCrossEntropy()
        if isinstance(self.loss, Loss):
            if self.loss.kind != loss.kind:
                raise ConfigError(
                    f"loss must be of kind {loss.kind!r} for {outputs} output(s), such as {loss}, got {self.loss!r}"
                )
            loss = self.loss
        return loss, outputs, "softmax" if several else "logistic"

    def _labels(self) -> HostArray | None:
        several = self._label_binarizer.y_type_.startswith("multilabel")
        return None if several or len(self.classes_) < 2 else self.classes_

    def _weigh(self, t: HostArray, weight: HostArray | None) -> HostArray | None:
        if self.class_weight is None:
            return weight
        if self._label_binarizer.y_type_.startswith("multilabel"):
            of_sample = compute_sample_weight(self.class_weight, t.astype(np.int64))
        else:
            codes = (t if t.ndim == 1 else t[:, 0]).astype(np.int64)
            of_sample = self._weights_of_classes(codes, weight)[codes]
        return np.asarray(of_sample if weight is None else weight * of_sample)

    def _weights_of_classes(self, codes: HostArray, weight: HostArray | None) -> HostArray:
        """Return each class's weight; "balanced" makes the sums of all classes' weights equal."""
        if self.class_weight != "balanced":
            labels = self.classes_[codes]
            result = np.ones(len(self.classes_))
            present = np.unique(codes)
            result[present] = compute_class_weight(self.class_weight, classes=self.classes_[present], y=labels)
            return result
        sums = np.bincount(codes, weight, minlength=len(self.classes_))
        counts = sums > 0
        return np.where(counts, sums.sum() / (counts.sum() * np.where(counts, sums, 1.0)), 0.0)

    def _stratified(self) -> bool:
        return self.n_outputs_ == 1

    # --------------------------------------------------------------------------------- predicting

    def predict(self, X: Any) -> Array:
        """Return the most probable class (n_samples,), or an indicator matrix (n_samples, n_labels).

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)

        Returns
        -------
        array
            In NumPy, or in the library of `X` if that is an array of another one.
        """
        net, p, _ = self._probabilities(X, "predict")
        if backend_of(X) is None or self.classes_.dtype.kind not in "biuf":
            host = net.backend.to_numpy(p)
            if self._label_binarizer.y_type_ == "multiclass":
                return self.classes_[host.argmax(axis=1)]  # which is what the binarizer returns, after many checks
            return self._label_binarizer.inverse_transform(host[:, 0] if self.n_outputs_ == 1 else host)
        xp = net.backend.xp
        with net.backend.active():
            yes = xp.astype(p > 0.5, xp.int64)
            if self._label_binarizer.y_type_.startswith("multilabel"):
                return yes
            code = yes[:, 0] if self.n_outputs_ == 1 else xp.argmax(p, axis=1)
            return xp.take(net.backend.asarray(self.classes_), xp.minimum(code, len(self.classes_) - 1), axis=0)

    def predict_proba(self, X: Any) -> Array:
        """Return probabilities (n_samples, n_classes), in the order of ``classes_``.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)

        Returns
        -------
        array
            In NumPy, or in the library of `X` if that is an array of another one.
        """
        net, p, wide = self._probabilities(X, "predict_proba")
        with net.backend.active():
            return self._answer(net, self._columns(net, p), X, wide)

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithm of `predict_proba` (n_samples, n_classes); `decision_function` loses less to rounding.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)

        Returns
        -------
        array
            In NumPy, or in the library of `X` if that is an array of another one.
        """
        net, p, wide = self._probabilities(X, "predict_log_proba")
        with net.backend.active():
            return self._answer(net, net.backend.xp.log(self._columns(net, p)), X, wide)

    def decision_function(self, X: Any) -> Array:
        """Return how sure the classifier is of each class, such that `predict_proba` is a simple function of it.

        For two classes (n_samples,) and for several labels (n_samples, n_labels) it is the logit, and the probability
        is 1 / (1 + exp(-d)); for more classes (n_samples, n_classes) the logarithm of the probability, and a softmax
        gives the probabilities.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)

        Returns
        -------
        array
            In NumPy, or in the library of `X` if that is an array of another one.
        """
        net, y, wide = self._outputs(X, "decision_function")
        if net.loss.kind == "classification":
            with net.backend.active():
                y = log_softmax(net.backend.xp, y)
        return self._answer(net, y[:, 0] if self.n_outputs_ == 1 else y, X, wide)

    def to_onnx(
        self, path: Any, batch: int | None = None, *, dtype: str | None = "float32", opset: int = USUAL
    ) -> None:  # fmt: skip
        """Write the fitted classifier to an ONNX file, which other programs run.

        Names are those of scikit-learn's converters: the input ``X`` (n_samples, n_features), the outputs ``label``, of
        `predict`, as int64 or strings, and ``probabilities``, of `predict_proba`; beside them ``y``, the logits.

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
        classes = None if self._label_binarizer.y_type_.startswith("multilabel") else self.classes_
        to_onnx(self._network(), path, batch, dtype, opset, classes=classes, name="X")

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy: the part of the samples whose label, or whose every label, is right.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)
        y : array-like (n_samples,) or (n_samples, n_labels)
        sample_weight : array-like (n_samples,), optional

        Returns
        -------
        float
        """
        return float(accuracy_score(to_host(y), to_host(self.predict(X)), sample_weight=to_host(sample_weight)))

    def _probabilities(self, X: Any, method: str) -> tuple[Network, Array, str]:
        net, y, wide = self._outputs(X, method)
        with net.backend.active():
            return net, net.loss.predict(net.backend.xp, y), wide

    def _columns(self, net: Network, p: Array) -> Array:
        """Return a column for each class also where the network has one output for two."""
        return net.backend.xp.concat([1.0 - p, p], axis=1) if self.n_outputs_ == 1 else p

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
