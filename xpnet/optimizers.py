"""Optimizers, in the order of their complexity. Each is a few lines over one flat vector of parameters.

theta is the vector of all parameters, g = dL/dtheta, t = 1, 2, ... the number of the step. `update` changes
theta and the optimizer's own vectors (its slots) in place and is elementwise, so that a backend can make one
kernel of it. What depends on t alone is computed on the host by `scalars`, in double precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from xpnet.errors import ConfigError, missing_method
from xpnet.keywords import Named, public
from xpnet.typing import Array, HostArray
from xpnet.validation import BELOW_ONE, NOT_NEGATIVE, POSITIVE, check_fields, check_flag, check_rate, optional

Schedule = float | Callable[[int], float]


@dataclass(frozen=True)
class Optimizer(Named):
    """What every optimizer has.

    Parameters
    ----------
    learning_rate : float or callable ``step -> float``
        The learning rate, or a function of the number of steps done before (0, 1, ...); see `xpnet.schedules`.
    weight_decay : float >= 0
        Decoupled decay: before each step the decayed parameters (weights, not biases) are multiplied by
        1 - learning_rate * weight_decay. For a penalty in the loss itself see `Network`'s l1 and l2.
    clip_norm : float > 0, optional
        The gradient of all parameters together is scaled down to this Euclidean norm if it is longer.
    clip_value : float > 0, optional
        Each entry of the gradient is cut off at plus and minus this value; before `clip_norm`.
    factors : mapping of str to float >= 0
        By what the learning rate of some parameters is multiplied: ``{"b": 64, "gamma": 64, "beta": 64}`` for all
        biases and normalisations, ``{"0.W": 0}`` for weights that stay as they are; 1 for those that are not named.

    Examples
    --------
    >>> import xpnet
    >>> xpnet.RMSProp(0.001, clip_norm=1.0)  # an optimizer by its name, optimizer="rmsprop", has the usual settings
    RMSProp(learning_rate=0.001, weight_decay=0.0, clip_norm=1.0, clip_value=None, factors=(), decay=0.9, eps=1e-08)
    """

    learning_rate: Schedule = 0.01
    _: KW_ONLY
    weight_decay: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None
    factors: Mapping[str, float] | tuple[tuple[str, float], ...] = field(default=(), metadata={"optional": True})

    slots: ClassVar[tuple[str, ...]] = ()
    """Names of the vectors that the optimizer keeps, each of theta's shape and initially zero."""

    def __post_init__(self) -> None:
        name, limit = type(self).__name__, optional(POSITIVE)
        check_fields(self, learning_rate=check_rate, weight_decay=NOT_NEGATIVE, clip_norm=limit, clip_value=limit)
        try:
            pairs = sorted(dict(self.factors).items())
            if not all(isinstance(k, str) for k, _ in pairs):
                raise TypeError
        except (TypeError, ValueError):
            raise ConfigError(
                f"{name}: factors must map names to numbers, as {{'b': 2}}, got {self.factors!r}"
            ) from None
        factors = tuple((k, NOT_NEGATIVE(f"{name}: factors[{k!r}]", v)) for k, v in pairs)
        object.__setattr__(self, "factors", factors)

    def rates(self, steps: range) -> HostArray:
        """Return the learning rate of each step of `steps`, counted from 0."""
        if not callable(self.learning_rate):
            return np.full(len(steps), float(self.learning_rate))
        rates = np.asarray([float(self.learning_rate(step)) for step in steps])
        bad = np.flatnonzero(~(np.isfinite(rates) & (rates >= 0)))
        if bad.size:
            raise ConfigError(
                f"{type(self).__name__}: learning_rate({steps[int(bad[0])]}) returned {rates[bad[0]]}; "
                "a schedule must return finite numbers >= 0"
            )
        return rates

    def scalars(self, t: HostArray, rate: HostArray) -> dict[str, HostArray]:
        """Return the numbers that `update` needs at steps `t`, given their learning rates; the first in proportion.

        With `factors` the first is an array of theta's shape in `update`.
        """
        return {"rate": rate}

    def update(self, xp: Any, theta: Array, g: Array, *slots_and_scalars: Array) -> None:
        """Change theta and the slots in place, given theta, g, the slots and the scalars, in this order."""
        raise missing_method(self, "update(xp, theta, g, *slots, *scalars)")


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum.

    Parameters
    ----------
    learning_rate : float or callable
        See `Optimizer`, also for weight_decay, clip_norm and clip_value.
    momentum : float in [0, 1)
        How much of the last velocity is kept.
    nesterov : bool
        Look ahead: step by where the velocity is about to go.

    References
    ----------
    Polyak 1964; Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in
    deep learning", ICML 2013, in the form where the learning rate multiplies the velocity.

    Examples
    --------
    >>> import xpnet
    >>> x, t = xpnet.datasets.spirals(200, seed=0)
    >>> history = xpnet.mlp([2, 16, 3]).fit(x, t, optimizer=xpnet.SGD(0.1, momentum=0.9), epochs=20)
    >>> bool(history["loss"][-1] < history["loss"][0])
    True
    """

    learning_rate: Schedule = 0.01
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, momentum=BELOW_ONE, nesterov=check_flag)
        if self.nesterov and self.momentum == 0.0:
            raise ConfigError("SGD: nesterov=True needs momentum > 0, got momentum=0.0")

    @property
    def slots(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("v",) if self.momentum else ()

    def update(self, xp: Any, theta: Array, g: Array, *slots_and_scalars: Array) -> None:
        """One step; without momentum v = g.

        v = momentum * v + g                          (P,)     (1)
        theta = theta - rate * v                      (P,)     (2)
        theta = theta - rate * (g + momentum * v)     (P,)     (2')
        """
        *velocity, rate = slots_and_scalars
        if not velocity:
            theta -= rate * g
            return
        (v,) = velocity
        v *= self.momentum
        v += g
        theta -= rate * (g + self.momentum * v) if self.nesterov else rate * v


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Steps shrink where gradients have been large.

    References
    ----------
    Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic
    optimization", JMLR 12 (2011), the diagonal form; eps outside the root.
    """

    learning_rate: Schedule = 0.01
    eps: float = 1e-10

    slots: ClassVar[tuple[str, ...]] = ("s",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, eps=POSITIVE)

    def update(self, xp: Any, theta: Array, g: Array, s: Array, rate: Array) -> None:
        """One step.

        s = s + g ** 2                                  (P,)     (1)
        theta = theta - rate * g / (sqrt(s) + eps)      (P,)     (2)
        """
        s += g * g
        theta -= rate * (g / (xp.sqrt(s) + self.eps))


@dataclass(frozen=True)
class RMSProp(Optimizer):
    """Steps are divided by a running root mean square of the gradient.

    References
    ----------
    Tieleman and Hinton, "Lecture 6.5: RMSProp", COURSERA Neural Networks for Machine Learning, 2012;
    eps outside the root.
    """

    learning_rate: Schedule = 0.001
    decay: float = 0.9
    eps: float = 1e-8

    slots: ClassVar[tuple[str, ...]] = ("s",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, decay=BELOW_ONE, eps=POSITIVE)

    def update(self, xp: Any, theta: Array, g: Array, s: Array, rate: Array) -> None:
        """One step.

        s = decay * s + (1 - decay) * g ** 2            (P,)     (1)
        theta = theta - rate * g / (sqrt(s) + eps)      (P,)     (2)
        """
        s *= self.decay
        s += (1.0 - self.decay) * (g * g)
        theta -= rate * (g / (xp.sqrt(s) + self.eps))


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adaptive moments: a running mean of the gradient over the root of a running mean of its square.

    Both means are corrected for their start at zero. This is algorithm 1 of the paper, eps outside the
    corrected root (the default form of PyTorch, optax and JAX's examples), not the variant of its section 2
    that hides the corrections in the learning rate.

    References
    ----------
    Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.

    Examples
    --------
    >>> import xpnet
    >>> x, t = xpnet.datasets.spirals(200, seed=0)
    >>> history = xpnet.mlp([2, 16, 3]).fit(x, t, optimizer=xpnet.Adam(0.01), epochs=20)
    >>> bool(history["loss"][-1] < history["loss"][0])
    True
    """

    learning_rate: Schedule = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    slots: ClassVar[tuple[str, ...]] = ("m", "v")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, beta1=BELOW_ONE, beta2=BELOW_ONE, eps=POSITIVE)

    def scalars(self, t: HostArray, rate: HostArray) -> dict[str, HostArray]:
        """The two corrections for the start at zero.

        scale = rate / (1 - beta1 ** t)             ()     (1)
        correction = 1 / sqrt(1 - beta2 ** t)       ()     (2)
        """
        return {"scale": rate / (1.0 - self.beta1**t), "correction": 1.0 / np.sqrt(1.0 - self.beta2**t)}

    def update(self, xp: Any, theta: Array, g: Array, m: Array, v: Array, scale: Array, correction: Array) -> None:
        """One step.

        m = beta1 * m + (1 - beta1) * g                                (P,)     (3)
        v = beta2 * v + (1 - beta2) * g ** 2                           (P,)     (4)
        theta = theta - scale * m / (sqrt(v) * correction + eps)       (P,)     (5)
        """
        m *= self.beta1
        m += (1.0 - self.beta1) * g
        v *= self.beta2
        v += (1.0 - self.beta2) * (g * g)
        theta -= scale * (m / (xp.sqrt(v) * correction + self.eps))


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay, 0.01 by default.

    References
    ----------
    Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2, with the
    decay multiplied by the learning rate.
    """

    weight_decay: float = 0.01


OPTIMIZERS: dict[str, type[Optimizer]] = {cls.__name__.lower(): cls for cls in (SGD, Adagrad, RMSProp, Adam, AdamW)}
"""Every optimizer by the name that a string may use."""

if not TYPE_CHECKING:  # to whom every name would then be right
    __getattr__, __dir__ = public(__name__, ["Optimizer", *(cls.__name__ for cls in OPTIMIZERS.values())])
