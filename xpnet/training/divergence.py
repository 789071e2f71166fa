"""When numbers stop being finite: which step, which layer, which quantity."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite, nan
from typing import TYPE_CHECKING, Any

from xpnet.errors import NonFiniteError
from xpnet.typing import Array

if TYPE_CHECKING:
    from xpnet.training.trainer import Trainer


def is_finite(xp: Any, a: Array) -> bool:
    """Say whether every entry is finite; one NaN or infinity poisons the sum, which is quick."""
    return isfinite(float(xp.sum(a))) or bool(xp.all(xp.isfinite(a)))


def state_is_finite(trainer: Trainer) -> bool:
    """Say whether the loss, the parameters, the optimizer's slots and the running statistics are finite."""
    xp = trainer.net.backend.xp
    return all(is_finite(xp, a) for a in trainer.mutable().values() if xp.isdtype(a.dtype, "real floating"))


def find(trainer: Trainer, rewind: Callable[[int], None], steps: int) -> tuple[int, NonFiniteError]:
    """Repeat the last `steps` steps singly; return how many stay finite, and the error that says what comes next."""
    rewind(0)
    good, last = 0, nan
    while good < steps:
        before, weight = float(trainer.arrays["loss"][0]), trainer.weight_done()
        trainer._advance(1)
        if not state_is_finite(trainer):
            break
        good += 1
        if trainer.weight_done() > weight:
            last = (float(trainer.arrays["loss"][0]) - before) / (trainer.weight_done() - weight)
    rewind(good)
    place = f"epoch {trainer.epoch + 1}, step {trainer.position + 1}"
    rate = float(trainer._rates(range(trainer.step, trainer.step + 1))[0])
    known = f"the last finite loss was {last:.6g}" if isfinite(last) else "no loss since the last look was finite"
    narrow = (
        "" if trainer.mixed is None else f", or precision=None ({trainer.mixed.name} ends at {trainer.mixed.largest:g})"
    )
    return good, NonFiniteError(
        f"{place}: {first_bad_quantity(trainer)}; {known}. The parameters are those of the last finite step. "
        f"Try a learning rate below {rate:g}, clip_norm=1.0 in the optimizer, or scaled inputs{narrow}."
    )


def first_bad_quantity(trainer: Trainer) -> str:
    """Name the first quantity of the coming step that is not finite."""
    net = trainer.net
    xp = net.backend.xp
    x, t = trainer._next_batch()
    size = x.shape[0]
    weight = xp.full((size,), 1.0 / size, dtype=net.theta.dtype, device=net.theta.device)
    theta, scale = net.theta, None
    if trainer.mixed is not None:
        theta, scale = xp.astype(theta, trainer.mixed.dtype), trainer.arrays["scaling.scale"]
    params, contexts = net.split(xp, theta), net.contexts(True, trainer.arrays["step"])
    caches = []
    for k, layer in enumerate(net.layers):
        x, cache = layer.forward(xp, params[k], x, contexts[k])
        caches.append(cache)
        if not is_finite(xp, x):
            return f"the output of layer {k} ({layer}) has {_count(xp, x)}"
    value, delta = net.loss(xp, x if scale is None else xp.astype(x, weight.dtype), t, weight)
    if not is_finite(xp, value):
        return f"the loss {net.loss} is {float(value)}"
    if not is_finite(xp, delta):
        return f"the delta of the loss {net.loss} has {_count(xp, delta)}"
    if scale is not None:
        delta = xp.astype(scale * delta, theta.dtype)
        if not is_finite(xp, delta):
            return f"the delta of the loss {net.loss}, scaled by {float(scale[0]):g}, has {_count(xp, delta)}"
    for k in range(len(net.layers) - 1, -1, -1):
        delta, grads = net.layers[k].backward(xp, params[k], caches[k], delta, contexts[k], need_dx=True)
        for name, gradient in grads.items():
            if not is_finite(xp, gradient):
                return f"the gradient of {name} of layer {k} ({net.layers[k]}) has {_count(xp, gradient)}"
        if not is_finite(xp, delta):
            return f"the delta passed back by layer {k} ({net.layers[k]}) has {_count(xp, delta)}"
    return f"the update of the parameters by {type(trainer.optimizer).__name__} is not finite"


def _count(xp: Any, a: Array) -> str:
    nans = int(xp.sum(xp.astype(xp.isnan(a), xp.int64)))
    infs = int(xp.sum(xp.astype(xp.isinf(a), xp.int64)))
    return f"{nans} NaN and {infs} infinite of {a.size} entries"
