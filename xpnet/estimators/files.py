"""Estimators as files that cannot run code: the network's, with the labels and the names of the features beside it."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.validation import check_is_fitted

from xpnet.backends import Backend
from xpnet.errors import CheckpointError
from xpnet.keywords import named_methods
from xpnet.network import Network
from xpnet.saving.description import Own, build, describe, own_names
from xpnet.saving.network import members, read_with, save

FITTED = ("n_features_in_", "n_outputs_", "out_activation_", "n_iter_", "loss_")
"""What is kept as it is."""
MEMBERS = ("class", "parameters", *FITTED)


@named_methods
class Files:
    """Gives an estimator `save` and `load`."""

    def save(self: Any, path: Any) -> None:
        """Write the fitted estimator to a safetensors file, which cannot run code; `load` reads it.

        The file has the parameters that differ from their defaults, the network, the labels and the names of the
        features. `xpnet.load` reads the network alone, which answers with the labels. How the training went is not
        kept: what goes on is a new one.

        Parameters
        ----------
        path : str or path

        Raises
        ------
        CheckpointError
            A parameter or a label is of a kind that a file cannot describe, such as a RandomState.
        """
        check_is_fitted(self)
        defaults = type(self)().get_params(deep=False)
        changed = {name: v for name, v in self.get_params(deep=False).items() if v is not defaults[name]}
        functions: dict[str, Any] = {}
        content = {
            "class": type(self).__name__,
            "parameters": {name: describe(_plain(v), name, functions) for name, v in changed.items()},
            **{name: describe(getattr(self, name), name) for name in FITTED},
        }
        if hasattr(self, "feature_names_in_"):
            content["feature_names"] = [str(name) for name in self.feature_names_in_]
        if hasattr(self, "classes_"):
            if len(self.classes_) < 2:
                raise CheckpointError(f"a classifier of the single class {self.classes_[0]!r} cannot be saved")
            content["kind_of_labels"] = self._label_binarizer.y_type_
        save(self._network(), path, estimator=content)

    @classmethod
    def load(cls, path: Any, backend: str | Backend | None = None, classes: Own = ()) -> Self:
        """Return the fitted estimator that a file holds, which may come from anybody.

        Parameters
        ----------
        path : str or path
            What `save` wrote.
        backend : str, Backend or None
            The parameter `backend` of the estimator, where it computes from now on.
        classes : sequence of classes and functions, or dict of such by name
            Those of one's own that the network is made of.

        Raises
        ------
        CheckpointError
            The file has no estimator of this class, or is damaged; the message says where.
        """
        net, data = read_with(path, "numpy" if backend is None else backend, classes, Network, "estimator")
        where = f"{str(path)!r}, estimator"
        parts = members(data, where, MEMBERS, ("feature_names", "kind_of_labels"))
        known = cls().get_params(deep=False)  # type: ignore[attr-defined]
        if (
            parts["class"] != cls.__name__
            or not isinstance(parts["parameters"], dict)
            or parts["parameters"].keys() - known
        ):
            raise CheckpointError(f"{where}: expected {cls.__name__} and its parameters, got {parts['class']!r:.80}")
        own = own_names(classes)
        parameters = {name: build(value, f"{where}, {name}", own) for name, value in parts["parameters"].items()}
        est: Any = cls(**parameters | {"backend": backend})
        vars(est).update({name: parts[name] for name in FITTED}, _follows_data=False)
        if (est.n_features_in_,) != net.input_shape or (est.n_outputs_,) != net.output_shape:
            raise CheckpointError(f"{where}: the numbers of features or outputs are not those of the network")
        if "feature_names" in parts:
            est.feature_names_in_ = np.asarray(parts["feature_names"], dtype=object)
        if hasattr(est, "_weights_of_classes"):
            _take_labels(est, net, parts.get("kind_of_labels"), where)
        est._publish(net)
        return est  # type: ignore[no-any-return]


def _plain(value: Any) -> Any:
    """Return a backend by its name, an array as a list, and anything else as it is."""
    return value.name if isinstance(value, Backend) else value.tolist() if isinstance(value, np.ndarray) else value


def _take_labels(est: Any, net: Network, kind: Any, where: str) -> None:
    """Give a classifier the labels of its network, or raise."""
    kinds = ("binary",) if est.n_outputs_ == 1 else ("multiclass", "multilabel-indicator")
    several = kind == "multilabel-indicator"
    if kind not in kinds or several != (net.labels is None):
        raise CheckpointError(f"{where}: labels {net.labels!r:.200} are impossible for the kind {kind!r:.50}")
    est.classes_ = np.arange(est.n_outputs_) if net.labels is None else net.labels
    est._label_binarizer = LabelBinarizer().fit(np.eye(est.n_outputs_, dtype=int) if several else est.classes_)
