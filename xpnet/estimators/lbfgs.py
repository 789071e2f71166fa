"""Solver "lbfgs": scipy's limited-memory quasi-Newton method over the network's flat vector."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import scipy.optimize
from sklearn.exceptions import ConvergenceWarning

from xpnet.errors import ConfigError
from xpnet.estimators.sampling import Samples, dense, is_sparse, rows_between
from xpnet.estimators.tasks import Estimator
from xpnet.layers import Dropout
from xpnet.network import Network
from xpnet.typing import HostArray

ROWS = 4096
"""Sparse rows that are made dense at once."""


def loss_and_gradient(net: Network, theta: HostArray, samples: Samples, alpha: float) -> tuple[float, HostArray]:
    """Return the objective over all samples and its gradient at `theta`, both in double precision.

    L = weighted mean of the samples' losses + alpha / (2 s) sum W^2, where s is the sum of the sample weights.
    """
    backend, xp = net.backend, net.backend.xp
    weight = np.ones(len(samples)) if samples.weight is None else samples.weight
    total = float(weight.sum())
    step = ROWS if is_sparse(samples.x) else max(len(samples), 1)
    with backend.active():
        vector = backend.asarray(np.array(theta, dtype=net.dtype))
        W = vector[: net.layout.decayed]
        value = 0.5 * alpha / total * xp.sum(W * W)
        gradient = xp.zeros_like(vector)
        g = gradient[: net.layout.decayed]
        g += (alpha / total) * W
        part = xp.zeros_like(vector)
        for start in range(0, len(samples), step):
            x = dense(rows_between(samples.x, start, start + step), backend, net.dtype)
            t = rows_between(samples.t, start, start + step)
            w = backend.asarray((weight[start : start + step] / total).astype(net.dtype))
            loss, _ = net.objective(xp, vector, part, x, t, w, net.contexts())
            value = value + loss
            gradient += part
        return float(value), backend.to_numpy(gradient).astype(np.float64)


def _write(net: Network, theta: HostArray) -> None:
    with net.backend.active():
        net.theta[...] = net.backend.asarray(theta.astype(net.dtype))


def fit(est: Estimator, net: Network, samples: Samples, context: Any) -> None:
    """Minimise the objective; the network has the parameters of the last whole iteration at any time."""
    if any(isinstance(layer, Dropout) for layer in net.layers):
        raise ConfigError("dropout needs a stochastic solver: its masks change with every step; got solver='lbfgs'")
    est.n_iter_ = 0
    task, began = context.begin_epoch(), time.perf_counter()

    def iteration(intermediate_result: Any) -> None:
        nonlocal task, began
        _write(net, intermediate_result.x)
        est.n_iter_, est.loss_ = est.n_iter_ + 1, float(intermediate_result.fun)
        est.history_.append({"loss": est.loss_, "seconds": time.perf_counter() - began})
        if est.verbose:
            print(f"Iteration {est.n_iter_}, loss = {est.loss_:.8f}")
        stop = context.end_epoch(task)
        task = None
        if stop:
            raise StopIteration
        if est.n_iter_ < est.max_iter:
            task, began = context.begin_epoch(), time.perf_counter()

    result = scipy.optimize.minimize(
        lambda theta: est._loss_grad_lbfgs(theta, samples.x, samples.t, samples.weight),
        net.backend.to_numpy(net.theta).astype(np.float64),
        method="L-BFGS-B",
        jac=True,
        callback=iteration,
        options={"maxfun": est.max_fun, "maxiter": est.max_iter, "gtol": est.tol},
    )
    if task is not None:
        context.end_epoch(task)
    _write(net, result.x)
    est.n_iter_, est.loss_ = min(int(result.nit), est.max_iter), float(result.fun)
    if result.status not in (0, STOPPED_BY_CALLBACK):
        more = f" Increase max_iter (now {est.max_iter})." if est.n_iter_ == est.max_iter else ""
        warnings.warn(
            f"lbfgs failed to converge after {est.n_iter_} iteration(s) (status={result.status}): {result.message}."
            f"{more} You might also want to scale the data, e.g. with sklearn.preprocessing.StandardScaler.",
            ConvergenceWarning,
            stacklevel=5,
        )


STOPPED_BY_CALLBACK = 99
"""scipy's status when a callback raised StopIteration."""
