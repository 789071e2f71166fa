"""scikit-learn's two stochastic solvers as xpnet optimizers, and what is kept of one between two calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from xpnet.network import Network
from xpnet.optimizers import Adam, Optimizer
from xpnet.typing import Array, HostArray


@dataclass(frozen=True)
class MomentumSGD(Optimizer):
    """Gradient descent with the learning rate inside the velocity, so that past steps keep their own rates.

    Parameters
    ----------
    momentum : float in [0, 1]
        How much of the last velocity is kept.
    nesterov : bool
        Look ahead: step by where the velocity is about to go.

    References
    ----------
    Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in deep learning",
    ICML 2013, equations 1 to 4.
    """

    momentum: float = 0.9
    nesterov: bool = True

    slots: ClassVar[tuple[str, ...]] = ("v",)

    def update(self, xp: Any, theta: Array, g: Array, v: Array, rate: Array) -> None:
        """One step.

        v = momentum * v - rate * g                    (P,)     (1)
        theta = theta + v                              (P,)     (2)
        theta = theta + momentum * v - rate * g        (P,)     (2')
        """
        v *= self.momentum
        v -= rate * g
        theta += self.momentum * v - rate * g if self.nesterov else v


@dataclass(frozen=True)
class ShortAdam(Adam):
    """Adam with both corrections inside the learning rate, so that eps is added to the uncorrected root.

    References
    ----------
    Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, the remark before section 2.1.
    """

    def scalars(self, t: HostArray, rate: HostArray) -> dict[str, HostArray]:
        """The corrected learning rate.

        scale = rate * sqrt(1 - beta2 ** t) / (1 - beta1 ** t)      ()     (1)
        correction = 1                                              ()     (2)
        """
        scale = rate * np.sqrt(1.0 - self.beta2**t) / (1.0 - self.beta1**t)
        return {"scale": scale, "correction": np.ones_like(scale)}


class SolverState:
    """An optimizer with its slots, its learning rate and its count of steps: what `partial_fit` goes on with.

    Attributes
    ----------
    optimizer : Optimizer
    learning_rate : float
        The rate of the coming steps.
    step : int
        The number of steps done.
    slots : dict of arrays
        On the network's device.
    """

    def __init__(self, optimizer: Optimizer, net: Network) -> None:
        self.optimizer, self.backend, self.step = optimizer, net.backend, 0
        rate = optimizer.learning_rate
        self.learning_rate = float("nan") if callable(rate) else float(rate)
        with net.backend.active():
            self.slots = {name: net.backend.xp.zeros_like(net.theta) for name in optimizer.slots}

    def rates(self, steps: range) -> HostArray:
        """Return the learning rate of each step."""
        if callable(self.optimizer.learning_rate):
            return self.optimizer.rates(steps)
        return np.full(len(steps), self.learning_rate)

    def fits(self, net: Network) -> bool:
        """Say whether the slots belong to a network of this size, place and precision."""
        return self.backend.same_place(net.backend) and all(
            a.shape == net.theta.shape and a.dtype == net.theta.dtype for a in self.slots.values()
        )

    def to(self, net: Network) -> SolverState:
        """Return a copy for a network elsewhere."""
        moved = SolverState(self.optimizer, net)
        moved.learning_rate, moved.step = self.learning_rate, self.step
        moved.slots = {name: net.backend.asarray(np.array(self.backend.to_numpy(a))) for name, a in self.slots.items()}
        return moved

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"slots": {name: self.backend.to_numpy(a) for name, a in self.slots.items()}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # A copy, since a loaded array may be a read-only map of a file.
        self.slots = {name: self.backend.asarray(np.array(a)) for name, a in state["slots"].items()}
