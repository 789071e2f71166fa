"""The affine layer: a weighted sum of the inputs and a bias for each output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from xpnet.errors import ShapeError
from xpnet.initializers import Initializer, initialize, resolve
from xpnet.layers.base import INFERENCE, Context, Gradient, Layer, Result
from xpnet.typing import Array, HostArray, Params, Shape
from xpnet.validation import check_fields, check_flag, check_size


@dataclass(frozen=True)
class Linear(Layer):
    """Affine map y = x W + b.

    Parameters
    ----------
    inputs, outputs : int
        Numbers I and O of inputs and outputs.
    bias : bool
        Whether there is a bias b; without it y = x W.
    weight_init, bias_init : str or callable
        The law of the initial values, a name of `xpnet.initializers` or a function
        ``(rng, shape, fan_in, fan_out) -> array``; see there. `xpnet.mlp` chooses by the activation. The fans of W
        are I and O, those of b are 1 and O.

    Notes
    -----
    Parameters are ``W`` of shape (I, O) and ``b`` of shape (O,). The network that consists of this
    layer alone, under a squared error, is linear regression.

    References
    ----------
    Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors",
    Nature 323 (1986), equations 1, 6 and 7.

    Examples
    --------
    >>> import numpy as np
    >>> import xpnet
    >>> layer = xpnet.Linear(2, 3)
    >>> {name: a.shape for name, a in layer.init(np.random.default_rng(0)).items()}
    {'W': (2, 3), 'b': (3,)}
    """

    inputs: int
    outputs: int
    bias: bool = True
    weight_init: Initializer = "glorot_uniform"
    bias_init: Initializer = "zeros"

    decayed: ClassVar[tuple[str, ...]] = ("W",)

    def __post_init__(self) -> None:
        check_fields(self, inputs=check_size, outputs=check_size, bias=check_flag)
        resolve(self.weight_init)
        resolve(self.bias_init)

    @property
    def input_shape(self) -> Shape:
        return (self.inputs,)

    def output_shape(self, shape: Shape) -> Shape:
        if shape != (self.inputs,):
            raise ShapeError(f"{self} takes samples of shape ({self.inputs},), got {shape}")
        return (self.outputs,)

    def parameter_shapes(self) -> dict[str, Shape]:
        return {"W": (self.inputs, self.outputs)} | ({"b": (self.outputs,)} if self.bias else {})

    def init(self, rng: np.random.Generator) -> dict[str, HostArray]:
        params = {"W": initialize(self.weight_init, rng, (self.inputs, self.outputs), self.inputs, self.outputs)}
        if self.bias:
            params["b"] = initialize(self.bias_init, rng, (self.outputs,), 1, self.outputs)
        return params

    def forward(self, xp: Any, params: Params, x: Array, context: Context = INFERENCE) -> Result:
        """Weighted sums of the inputs.

        y = x @ W + b          (B, O) = (B, I) @ (I, O) + (O,)     (1)
        """
        y = xp.matmul(x, params["W"])
        if self.bias:
            y = y + params["b"]
        return y, x

    def backward(
        self, xp: Any, params: Params, cache: Any, dy: Array, context: Context = INFERENCE, need_dx: bool = True
    ) -> Gradient:
        """Vector-Jacobian product of `forward`; dy = dL/dy is this layer's delta.

        dx = dy @ W.T          (B, I) = (B, O) @ (O, I)     (2)
        dW = x.T @ dy          (I, O) = (I, B) @ (B, O)     (3)
        db = sum(dy, axis=0)   (O,)                         (4)
        """
        x, W = cache, params["W"]
        dx = xp.matmul(dy, W.T) if need_dx else None
        grads = {"W": xp.matmul(x.T, dy)}
        if self.bias:
            # A row of ones times dy adds up the rows, faster than a sum over the first axis.
            ones = xp.ones_like(dy[:, :1])
            grads["b"] = xp.reshape(xp.matmul(ones.T, dy), (-1,))
        return dx, grads
