"""The parameters and attributes of `MLPClassifier` and `MLPRegressor`, which have most of them in common.

scikit-learn reads the names of the parameters from the signatures, so that each class has to spell out its own.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sklearn.utils._param_validation import StrOptions

from xpnet.estimators.base import BaseMultilayerPerceptron
from xpnet.losses import Loss

PARAMETERS = """\
    hidden_layer_sizes : sequence of int, default (100,)
        Units of each hidden layer; an int is one layer, ``()`` none.
    activation : str, Layer, or a sequence of one for each hidden layer, default "relu"
        ``"identity"``, ``"logistic"``, ``"tanh"``, ``"relu"``, any name of `xpnet.layers.ACTIVATIONS`, or a
        layer of one's own such as `xpnet.Activation`.
    solver : {"adam", "sgd", "lbfgs"} or Optimizer, default "adam"
        An xpnet optimizer brings its own learning rate; the parameters below for "adam" and "sgd" are then unused.
    alpha : float >= 0, default 0.0001
        The objective of a batch has the term alpha / (2 s) times the sum of the squared weights (biases are left
        out), where s is the sum of the batch's sample weights, or its number of samples.
    batch_size : int or "auto", default "auto"
        "auto" is min(200, n_samples). Solver "lbfgs" takes all samples at once.
    learning_rate : {"constant", "invscaling", "adaptive"}, default "constant"
        For solver "sgd". "invscaling": learning_rate_init / (t_ + 1) ** power_t after each epoch. "adaptive": divided
        by 5 each time that training would stop, until it is below 1e-6.
    learning_rate_init : float > 0, default 0.001
        For solvers "sgd" and "adam".
    power_t : float >= 0, default 0.5
    max_iter : int, default 200
        Largest number of epochs, or of iterations of "lbfgs".
    shuffle : bool, default True
        Whether each epoch takes the samples in a new order.
    random_state : int, RandomState or None, default None
        Source of initial weights, order and validation split, drawn as scikit-learn draws them.
    tol : float >= 0, default 0.0001
        What counts as an improvement of the loss, or of the validation score; for "lbfgs" the size of the gradient.
    verbose : bool, default False
        Print a line an epoch.
    warm_start : bool, default False
        Whether `fit` goes on from the fitted weights. The estimator then keeps the compiled training step, and with it
        a copy of the samples, for the next call with as many samples; copies and files of it have neither.
    momentum : float in [0, 1], default 0.9
        For solver "sgd".
    nesterovs_momentum : bool, default True
        For solver "sgd".
    early_stopping : bool, default False
        Stop when the score on held-out samples has not improved by `tol` for `n_iter_no_change` epochs, and go back to
        the best parameters; without it the training loss decides when to stop.
    validation_fraction : float in [0, 1), default 0.1
        The part held out for it, if `fit` is given no validation_data.
    beta_1, beta_2 : float in [0, 1), default 0.9, 0.999
        For solver "adam".
    epsilon : float > 0, default 1e-8
        For solver "adam".
    n_iter_no_change : int or inf, default 10
    max_fun : int, default 15000
        Largest number of evaluations by solver "lbfgs".
    backend : str, Backend or None, default None
        Where to compute: ``"numpy"``, ``"cupy"``, ``"cupy:1"``. None follows the arrays: CuPy arrays are computed on
        their device, everything else with NumPy. A backend that is named also takes NumPy arrays, moves them there
        once, and answers with NumPy arrays."""
DROPOUT = """\
    dropout : float in [0, 1), default 0.0
        Rate of an `xpnet.Dropout` after each hidden activation."""
ON_DIVERGENCE = """\
    on_divergence : {"stop", "raise"}, default "stop"
        When numbers stop being finite: "raise" raises `DivergenceError`; "stop" does so too, unless early stopping
        has a best epoch to go back to, which it does with a ConvergenceWarning.
    parallel : "mpi", xpnet.parallel.MPI or None, default None
        Let the processes that ``mpiexec`` has started share each step of solver "sgd", "adam" or an optimizer. All of
        them need the same data and a `random_state`; process 0 prints."""
ATTRIBUTES = """\
    coefs_, intercepts_ : list of arrays
        Weights (I, O) and biases (O,) of each layer: views of ``network_.theta``, or, if `backend` names a device,
        read-only copies on the host.
    network_ : xpnet.Network
        To look into (`trace`, `gradients`), to save. It has no penalty of its own, since that depends on the batch.
    history_ : xpnet.History
        Curves ``loss``, ``learning_rate``, ``seconds``, and ``validation_loss``, ``validation_score`` where there are
        validation data.
    loss_, best_loss_ : float
        The last loss and the smallest; the latter None under early stopping.
    loss_curve_ : list of float
        The mean objective of each epoch.
    validation_scores_, best_validation_score_ : list of float and float, or None
        Under early stopping.
    stopped_ : bool
        Whether training, or the last `partial_fit`, ended because nothing improved.
    n_iter_, t_, n_layers_, n_outputs_ : int
        Epochs or iterations done; samples seen; layers, inputs included; outputs of the network.
    out_activation_ : str
        Name of the output activation.
    n_features_in_ : int
    feature_names_in_ : array of str
        If the samples were a data frame."""


class ClassifierParameters(BaseMultilayerPerceptron):
    __doc__: str | None = f"""Classifier: a multi-layer perceptron, trained by backpropagation.

    The network has one output under binary cross-entropy for two classes, one output a class under cross-entropy
    for more, and one a label under binary cross-entropy where a sample can have several labels. Everything that
    ``sklearn.neural_network.MLPClassifier`` takes and has is here by the same name; from the same random_state the
    same weights come out, up to rounding.

    Parameters
    ----------
{PARAMETERS}
    class_weight : dict, "balanced" or None, default None
        Weights of the classes, which multiply the sample weights. "balanced" makes all classes' sums equal.
{DROPOUT}
    loss : "log_loss" or Loss, default "log_loss"
        A loss of one's own must be of kind "classification" for more than two classes, else "binary".
{ON_DIVERGENCE}

    Attributes
    ----------
    classes_ : array
        The classes in the order of the columns of `predict_proba`.
{ATTRIBUTES}

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from xpnet.estimators import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = MLPClassifier((20,), solver="lbfgs", max_iter=500, random_state=0).fit(X, y)
    >>> clf.predict(X[:3])
    array([0, 0, 0])
    >>> clf.network_.summary().splitlines()[1]
    '0      Linear  (B, 20)         100'
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMultilayerPerceptron._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "loss": [StrOptions({"log_loss"}), Loss],
    }

    def __init__(
        self, hidden_layer_sizes: Any = (100,), activation: Any = "relu", *,
        solver: Any = "adam", alpha: float = 0.0001, batch_size: Any = "auto",
        learning_rate: str = "constant", learning_rate_init: float = 0.001, power_t: float = 0.5, max_iter: int = 200,
        shuffle: bool = True, random_state: Any = None, tol: float = 1e-4, verbose: Any = False,
        warm_start: bool = False, momentum: float = 0.9, nesterovs_momentum: bool = True, early_stopping: bool = False,
        validation_fraction: float = 0.1, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8,
        n_iter_no_change: float = 10, max_fun: int = 15000, backend: Any = None,
        class_weight: Any = None, dropout: float = 0.0, loss: Any = "log_loss", on_divergence: str = "stop",
        parallel: Any = None,
    ) -> None:  # fmt: skip
        self._keep(locals())


class RegressorParameters(BaseMultilayerPerceptron):
    __doc__: str | None = f"""Regressor: a multi-layer perceptron, trained by backpropagation.

    Everything that ``sklearn.neural_network.MLPRegressor`` takes and has is here by the same name; with one output and
    the same random_state the same weights come out, up to rounding. With several outputs their gradient is
    n_outputs times that of their loss, and ours is not: see the page on migration.

    Parameters
    ----------
    loss : {{"squared_error", "poisson", "gaussian"}} or Loss, default "squared_error"
        "squared_error" is half the squared error, averaged over the outputs; "poisson" half the Poisson deviance,
        summed over the outputs, of counts y >= 0 whose logarithm the network gives; "gaussian" learns a mean and a
        variance of each target, see `xpnet.Gaussian`: scale the targets to about 1 for it. The score of early stopping
        is R^2; for "gaussian" and for `quantiles` it is minus the loss.
{PARAMETERS}
{DROPOUT}
{ON_DIVERGENCE}
    quantiles : sequence of float in (0, 1) or None, default None
        Learn these quantiles of each target, by `xpnet.Quantile` in the place of `loss`: [0.05, 0.5, 0.95] are the
        median and an interval of 90 %.

    Attributes
    ----------
{ATTRIBUTES}

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.estimators import MLPRegressor
    >>> X = np.linspace(-1, 1, 50)[:, None]
    >>> reg = MLPRegressor(hidden_layer_sizes=(20,), solver="lbfgs", max_iter=500, random_state=0).fit(X, X[:, 0] ** 2)
    >>> bool(reg.score(X, X[:, 0] ** 2) > 0.99)
    True
    >>> reg = MLPRegressor(quantiles=[0.1, 0.5, 0.9], solver="lbfgs", tol=0.1, random_state=0).fit(X, X[:, 0])
    >>> reg.predict(X).shape, reg.predict(X, quantiles=True).shape
    ((50,), (50, 3))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMultilayerPerceptron._parameter_constraints,
        "loss": [StrOptions({"squared_error", "poisson", "gaussian"}), Loss],
        "quantiles": ["array-like", None],
    }

    def __init__(
        self, loss: Any = "squared_error", hidden_layer_sizes: Any = (100,), activation: Any = "relu", *,
        solver: Any = "adam", alpha: float = 0.0001, batch_size: Any = "auto",
        learning_rate: str = "constant", learning_rate_init: float = 0.001, power_t: float = 0.5, max_iter: int = 200,
        shuffle: bool = True, random_state: Any = None, tol: float = 1e-4, verbose: Any = False,
        warm_start: bool = False, momentum: float = 0.9, nesterovs_momentum: bool = True, early_stopping: bool = False,
        validation_fraction: float = 0.1, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8,
        n_iter_no_change: float = 10, max_fun: int = 15000, backend: Any = None,
        dropout: float = 0.0, on_divergence: str = "stop",
        parallel: Any = None, quantiles: Any = None,
    ) -> None:  # fmt: skip
        self._keep(locals())
