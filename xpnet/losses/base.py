"""What a loss is."""

from __future__ import annotations

from typing import Any, ClassVar

from xpnet.errors import missing_method
from xpnet.keywords import Named
from xpnet.typing import Array


class Loss(Named):
    """A scalar function of the network's output y, the target t and the samples' weights.

    A loss of one's own subclasses this class and overrides `__call__`; `xpnet.check_gradients` says
    whether its delta is the derivative of its value.

    Examples
    --------
    >>> import xpnet
    >>> xpnet.mlp([2, 8, 1], loss=xpnet.Huber(delta=2.0)).loss  # or its name, with what it has by default: "huber"
    Huber(delta=2.0)
    """

    kind: ClassVar[str] = "regression"
    """``"classification"``, ``"binary"`` (independent yes-or-no outputs) or ``"regression"``."""
    takes_logits: ClassVar[bool] = False
    """Whether y is a logit, so that a Softmax or Sigmoid layer before the loss is a mistake."""

    @property
    def per_target(self) -> int:
        """How many of the network's outputs speak of one column of the target."""
        return 1

    def __call__(self, xp: Any, y: Array, t: Array, weight: Array) -> tuple[Array, Array]:
        """Return the loss (a 0-d array) and the delta dL/dy (B, O)."""
        raise missing_method(self, "__call__(xp, y, t, weight), which returns (loss, dy)")

    def predict(self, xp: Any, y: Array) -> Array:
        """Return what the output `y` says about the target: probabilities, or the value to expect."""
        return y
