"""How a loss, or an output, depends on the inputs: the backward pass, down to where the forward pass begins."""

from __future__ import annotations

from typing import Any

from xpnet.errors import ConfigError
from xpnet.layers.walk import backward_pass, forward_pass
from xpnet.model.core import Model
from xpnet.model.data import check_inputs, check_targets
from xpnet.model.memory import explained
from xpnet.typing import Array
from xpnet.validation import check_size


def input_gradients(net: Model, x: Any, t: Any = None, output: int | None = None) -> Array:
    """Return dL/dx, or how one of the outputs depends on x; see `xpnet.Network.input_gradients`."""
    if (t is None) == (output is None):
        raise ConfigError("input_gradients takes either targets t or output=, the number of an output")
    with net.backend.active(), explained(net.backend, "computing gradients"):
        xp, x = net.backend.xp, check_inputs(x, net.input_shape, net.backend, net.dtype)
        params, contexts = net.layout.split(xp, net.theta), net.contexts()
        y, caches = forward_pass(xp, net.layers, params, x, contexts)
        if output is not None:
            dy = xp.zeros_like(y)
            dy[:, check_size("output", output, 0, net.output_shape[0] - 1)] = 1.0
        else:
            t = check_targets(t, x.shape[0], net.output_shape[0], net.loss, net.backend, net.dtype)
            _, dy = net.loss(xp, y, t, xp.ones((x.shape[0],), dtype=x.dtype, device=x.device))
        return backward_pass(xp, net.layers, params, caches, dy, contexts, last=-1)[0]
