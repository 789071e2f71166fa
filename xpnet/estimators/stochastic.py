"""Solvers "sgd" and "adam", and any xpnet optimizer: epochs, early stopping, schedules, what is printed."""

from __future__ import annotations

import time
import warnings
from math import isfinite, nan
from typing import Any

from sklearn.exceptions import ConvergenceWarning

from xpnet.errors import NonFiniteError
from xpnet.estimators.sampling import Samples
from xpnet.estimators.solvers import MomentumSGD, ShortAdam, SolverState
from xpnet.estimators.tasks import Estimator
from xpnet.estimators.trainer import Call, EpochTrainer
from xpnet.network import Network
from xpnet.optimizers import Optimizer
from xpnet.training.scores import Scores
from xpnet.training.slices import Workers
from xpnet.training.state import training_facts, training_numbers

SMALLEST_RATE = 1e-6
"""At this learning rate the schedule "adaptive" gives up."""


NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)


class DivergenceError(NonFiniteError, ValueError):
    """Training produced NaN or infinity; the network has the parameters of the last finite step."""


def make_optimizer(est: Estimator) -> Optimizer:
    """Return the optimizer that the estimator's parameters ask for."""
    if isinstance(est.solver, Optimizer):
        return est.solver
    rate = float(est.learning_rate_init)
    if est.solver == "sgd":
        return MomentumSGD(learning_rate=rate, momentum=float(est.momentum), nesterov=bool(est.nesterovs_momentum))
    return ShortAdam(learning_rate=rate, beta1=float(est.beta_1), beta2=float(est.beta_2), eps=float(est.epsilon))


class Fit:
    """One call of `fit` or `partial_fit` with a stochastic solver.

    Parameters
    ----------
    est : estimator
        Its fitted attributes are brought up to date after every epoch.
    net : Network
    train : Samples
    validation : Samples, optional
        Scored after every epoch.
    batch_size : int
    incremental : bool
        Whether this is `partial_fit`: one epoch, and the optimizer goes on from where it was.
    kept : EpochTrainer, optional
        That of the last call, with its compiled steps.
    workers : Workers, optional
        The processes that share each step. All do everything; the first one prints and decides when to stop.
    """

    def __init__(
        self, est: Estimator, net: Network, train: Samples, validation: Samples | None,
        batch_size: int, incremental: bool, kept: EpochTrainer | None = None, workers: Workers | None = None,
    ) -> None:  # fmt: skip
        self.est, self.net, self.incremental = est, net, incremental
        measured = None if validation is None else validation.to_measure(net.backend)
        self.scores = Scores(net, est._scores_by(net.loss), None, measured)
        self.workers, self.verbose = workers, est.verbose and (workers is None or workers.rank == 0)
        state = getattr(est, "_optimizer", None)
        if not incremental or not isinstance(state, SolverState) or not state.fits(net):
            state = est._optimizer = SolverState(make_optimizer(est), net)
        self.state: SolverState = state
        call = Call(
            net, state, train, batch_size, float(est.alpha), bool(est.shuffle), est._random_state,
            1 if incremental else est.max_iter, workers,
        )  # fmt: skip
        if kept is not None and kept.serves(call):
            self.trainer = kept
            kept.begin(call)
        else:
            self.trainer = EpochTrainer(call, incremental or est.warm_start)

    def run(self, context: Any) -> None:
        """Train until convergence, the last epoch, an interruption or a callback's wish."""
        est = self.est
        if not self.incremental or getattr(est, "_best_theta", None) is None:
            self._keep_best()
        if self.workers is not None:
            asked = {"alpha": float(est.alpha), "max_iter": int(est.max_iter)}
            self.workers.agree("training", training_facts(self.trainer) | asked)
        cores = None if self.workers is None else self.workers.cores
        try:
            with self.net.backend.using(cores):
                self._epochs(context)
        except KeyboardInterrupt:  # the trainer has gone back to the last whole step
            warnings.warn("Training interrupted by user.", stacklevel=5)
        except NonFiniteError as error:
            self._diverged(error)
        finally:
            self.trainer.feed.close()
        if est.early_stopping and (not self.incremental or est.stopped_):
            with self.net.backend.active():
                self.net.theta[...] = est._best_theta
        if not self.incremental:
            est._best_theta = None
        if self.trainer.again:
            est._trainer = self.trainer

    def _keep_best(self) -> None:
        backend, early_stopping = self.net.backend, self.est.early_stopping
        with backend.active():
            self.est._best_theta = backend.xp.asarray(self.net.theta, copy=True) if early_stopping else None

    def _epochs(self, context: Any) -> None:
        est = self.est
        est.n_iter_ = 0
        est.stopped_ = False
        for _ in range(1 if self.incremental else est.max_iter):
            task = context.begin_epoch()
            began, rate = time.perf_counter(), self._rate()
            est.loss_ = self.trainer.run_epoch()
            est.n_iter_ += 1
            est.t_ += self.trainer.feed.samples
            est.loss_curve_.append(est.loss_)
            values = {"loss": est.loss_} | self._validate()
            if self.verbose:
                print(f"Iteration {est.n_iter_}, loss = {est.loss_:.8f}")
            self._count_improvement(values)
            est.history_.append(values | {"seconds": time.perf_counter() - began, "learning_rate": rate})
            if est.solver == "sgd" and est.learning_rate == "invscaling":
                self.state.learning_rate = float(est.learning_rate_init) / (est.t_ + 1) ** est.power_t
            if est._no_improvement_count > est.n_iter_no_change and self._converged():
                est.stopped_ = True
            if self._ends(context.end_epoch(task) or est.stopped_):
                return
            if not self.incremental and est.n_iter_ == est.max_iter:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({est.max_iter}) reached and the optimization hasn't "
                    "converged yet.",
                    ConvergenceWarning,
                    stacklevel=6,
                )

    def _ends(self, ended: bool) -> bool:
        """Say whether training ends here; of several processes the first one decides, once all have the same."""
        if self.workers is None:
            return ended
        self.workers.agree("numbers after an epoch", training_numbers(self.trainer))
        return bool(self.workers.decide(ended))

    def _rate(self) -> float:
        return float(self.state.rates(range(self.trainer.step, self.trainer.step + 1))[0])

    def _validate(self) -> dict[str, float]:
        found = self.scores()
        if not found:
            return {}
        loss = found["validation_loss"]
        score = found.get("validation_score", found.get("validation_accuracy", -loss))
        return {"validation_loss": loss, "validation_score": score if isfinite(loss) else nan}

    def _count_improvement(self, values: dict[str, float]) -> None:
        """Count the epochs in a row that were not better by `tol`: in score under early stopping, else in loss."""
        est = self.est
        if not est.early_stopping:
            est._no_improvement_count = est._no_improvement_count + 1 if est.loss_ > est.best_loss_ - est.tol else 0
            if est.loss_ < est.best_loss_:
                est.best_loss_ = est.loss_
            return
        score = values["validation_score"]
        est.validation_scores_.append(score)
        if self.verbose:
            print(f"Validation score: {score:f}")
        worse = score < est.best_validation_score_ + est.tol
        est._no_improvement_count = est._no_improvement_count + 1 if worse else 0
        if score > est.best_validation_score_:
            est.best_validation_score_ = score
            self._keep_best()

    def _converged(self) -> bool:
        """Say whether to stop now that nothing improves; the schedule "adaptive" tries smaller rates first."""
        est = self.est
        what = "Validation score" if est.early_stopping else "Training loss"
        message = f"{what} did not improve more than tol={est.tol:f} for {est.n_iter_no_change} consecutive epochs."
        stop, then = True, "Stopping."
        if est.solver == "sgd" and est.learning_rate == "adaptive":
            if self.state.learning_rate <= SMALLEST_RATE:
                then = "Learning rate too small. Stopping."
            else:
                self.state.learning_rate /= 5.0
                est._no_improvement_count = 0
                stop, then = False, f"Setting learning rate to {self.state.learning_rate:f}"
        if self.verbose:
            print(f"{message} {then}")
        return stop

    def _diverged(self, error: NonFiniteError) -> None:
        """Raise, or under early stopping and `on_divergence="stop"` keep the best parameters, with a warning."""
        est = self.est
        if not est.early_stopping or est.on_divergence == "raise":
            raise DivergenceError(f"{NOT_FINITE} {error}") from error
        est.n_iter_ += 1
        est.loss_ = float("nan")
        est.loss_curve_.append(est.loss_)
        est.validation_scores_.append(float("nan"))
        warnings.warn(
            f"Training diverged and was ended; the parameters of the best epoch are kept. {error}",
            ConvergenceWarning,
            stacklevel=5,
        )
