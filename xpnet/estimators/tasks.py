"""scikit-learn's callback protocol: `fit` is a task, and so is every epoch within it."""

from __future__ import annotations

from typing import Any, TypeAlias

Estimator: TypeAlias = Any
"""An `MLPClassifier` or `MLPRegressor`: its attributes, most of which scikit-learn gives it, have no static types."""


class Tasks:
    """Tells the estimator's callbacks what happens in one call of `fit` or `partial_fit`.

    Parameters
    ----------
    est : estimator
    X, y, sample_weight
        The data as the user passed them.
    epochs : int
        The largest number of epochs or iterations.
    """

    def __init__(self, est: Estimator, X: Any, y: Any, sample_weight: Any, epochs: int) -> None:
        self.est = est
        metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
        self.data = {"estimator": est, "X": X, "y": y, "metadata": metadata}
        self.begun = 0
        self.root = est._init_callback_context(max_subtasks=epochs)
        self.root.call_on_fit_task_begin(**self.data)

    def begin_epoch(self) -> Any:
        """Begin a task for an epoch, and return it."""
        self.begun += 1
        task = self.root.subcontext(task_name=f"epoch {self.begun}")
        task.call_on_fit_task_begin(**self.data)
        return task

    def end_epoch(self, task: Any) -> bool:
        """End it; return whether a callback wants training to end."""
        return bool(task.call_on_fit_task_end(**self.data, reconstruction_attributes=self._as_if_fitted))

    def end(self) -> None:
        """End the call as a whole."""
        self.root.call_on_fit_task_end(**self.data, reconstruction_attributes=self._as_if_fitted)

    def _as_if_fitted(self) -> dict[str, Any]:
        net = self.est.network_.copy()
        return {"network_": net, **self.est._weight_attributes(net)}
