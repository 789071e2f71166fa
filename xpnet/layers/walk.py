"""All of backpropagation: forwards through the layers, and back again with the delta.

The layers of a network go this way, and so do those inside of a layer (see `xpnet.Sequence` and `xpnet.Residual`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpnet.layers.base import Context, Layer
from xpnet.layers.promises import delta_and_gradients, output_and_cache
from xpnet.typing import Array, LayerParams


def forward_pass(
    xp: Any, layers: Sequence[Layer], params: LayerParams, x: Array, contexts: Sequence[Context]
) -> tuple[Array, list[Any]]:
    """Return the last layer's output, and every layer's cache: layer k's output is layer k+1's input.

    Whoever watches (see `Context`) is shown each layer's input "x" and its output "y".
    """
    caches = []
    for layer, p, context in zip(layers, params, contexts, strict=True):
        context.show("x", x)
        y, cache = output_and_cache(xp, layer, context, x, layer.forward(xp, p, x, context))
        x = _of_type(xp, y, x.dtype)
        context.show("y", x)
        caches.append(cache)
    return x, caches


def backward_pass(
    xp: Any, layers: Sequence[Layer], params: LayerParams, caches: list[Any], dy: Array, contexts: Sequence[Context],
    last: int = 0,
) -> tuple[Array | None, LayerParams]:  # fmt: skip
    """Return dL/dx and every layer's parameter gradients: layer k's dL/dx is layer k-1's delta.

    Layers below number `last` have no parameters and are skipped; layer `last` itself need not pass a delta on if
    `last` is the first with parameters, since nobody would read it. Whoever watches is shown each layer's "delta", its
    gradients "dW" and the like, and "dx".
    """
    grads: LayerParams = [{} for _ in layers]
    delta: Array | None = dy
    for k in range(len(layers) - 1, max(last, 0) - 1, -1):
        contexts[k].show("delta", delta)
        result = layers[k].backward(xp, params[k], caches[k], delta, contexts[k], need_dx=k > last)
        dx, grads[k] = delta_and_gradients(layers[k], contexts[k], result)
        for name, gradient in grads[k].items():
            contexts[k].show(f"d{name}", gradient)
        delta = None if dx is None else _of_type(xp, dx, dy.dtype)
        if delta is not None:
            contexts[k].show("dx", delta)
    return delta, grads


def _of_type(xp: Any, a: Array, dtype: Any) -> Array:
    """Return `a` in the data type of the pass: of bfloat16 and a Python number some libraries make float32."""
    return a if a.dtype == dtype else xp.astype(a, dtype)
