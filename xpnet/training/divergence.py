"""When numbers stop being finite: which step, which layer, which quantity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf, isfinite, log, nan, prod
from typing import Any

from xpnet.errors import NonFiniteError, warn_user
from xpnet.layers.shapes import every_layer
from xpnet.model.core import Model
from xpnet.training.step import new_statistics
from xpnet.training.steps import Steps
from xpnet.typing import Array, HostArray


def is_finite(xp: Any, a: Array) -> bool:
    """Say whether every entry is finite; one NaN or infinity poisons the sum, which is quick."""
    return isfinite(float(xp.sum(a))) or bool(xp.all(xp.isfinite(a)))


def state_is_finite(trainer: Steps) -> bool:
    """Say whether the loss, the parameters, the optimizer's slots and the running statistics are finite.

    One NaN or infinity poisons a sum, so that a look at the sums of all arrays tells; a sum that overflows does not.
    """
    xp, sums = trainer.net.backend.xp, trainer.look(again=True)
    return all(isfinite(total) or bool(xp.all(xp.isfinite(trainer.arrays[name]))) for name, total in sums.items())


def say_if_worse(net: Model, history: Mapping[str, HostArray]) -> None:
    """Warn if the loss ended far above where it began, or where guessing is, though all numbers are finite."""
    if not history:
        return
    first, last = float(history["loss"][0]), float(history["loss"][-1])
    guess = log(net.output_shape[0]) if net.loss.kind == "classification" and not (net.l1 or net.l2) else inf
    rises = len(history["loss"]) > 1 and last > 0.5 * first
    if rises and (0 < 10 * first < last or last > 20 * guess):
        told = f"it was {first:.4g} in the first epoch" if 10 * first < last else f"guessing would cost {guess:.4g}"
        warn_user(
            f"the loss of the last epoch is {last:.4g}, and {told}: the training diverges, or the inputs are too "
            f"large. Lower the learning rate, now {history['learning_rate'][-1]:g}, or scale x"
        )


def find(trainer: Steps, rewind: Callable[[int], None], steps: int) -> tuple[int, NonFiniteError]:
    """Repeat the last `steps` steps singly; return how many stay finite, and the error that says what comes next."""
    rewind(0)
    good, last = 0, nan
    while good < steps:
        before, weight = trainer.look()["loss"], trainer.weight_done()
        trainer._advance(1)
        if not state_is_finite(trainer):
            break
        good += 1
        if trainer.weight_done() > weight:
            last = (trainer.look()["loss"] - before) / (trainer.weight_done() - weight)
    rewind(good)
    place = f"epoch {trainer.epoch + 1}, step {trainer.position + 1}"
    rate = float(trainer.rates(range(trainer.step, trainer.step + 1))[0])
    known = f"the last finite loss was {last:.6g}" if isfinite(last) else "no loss since the last look was finite"
    more = trainer.objective.advice()
    return good, NonFiniteError(
        f"{place}: {first_bad_quantity(trainer)}; {known}. The parameters are those of the last finite step. "
        f"Try a learning rate below {rate:g}, clip_norm=1.0 in the optimizer, or scaled inputs{more}."
    )


class _Found(Exception):
    """Ends the passes at the first quantity that is not finite."""


def first_bad_quantity(trainer: Steps) -> str:
    """Name the first quantity of the coming step that is not finite."""
    net, xp, last = trainer.net, trainer.net.backend.xp, str(len(trainer.net.layers) - 1)
    scaled = f", scaled by {trainer.loss_scale:g}," if trainer.objective.skips else ""

    layers = {item.place: item.layer for item in every_layer(net.layers, net.input_shape)}

    def watch(place: str, name: str, array: Array) -> None:
        layer = f"of layer {place} ({layers[place]})"
        what = {
            "x": "",
            "y": f"the output {layer}",
            "loss": f"the loss {net.loss}",
            "delta": f"the delta of the loss {net.loss}{scaled}" if place == last else "",
            "dx": f"the delta passed back by layer {place} ({layers[place]})",
        }.get(name, f"the gradient of {name[1:]} {layer}")
        if what and not is_finite(xp, array):
            raise _Found(f"{what} is {float(array)}" if array.ndim == 0 else f"{what} has {_count(xp, array)}")

    contexts = trainer.contexts(watch)
    try:
        *_, caches = trainer.objective.differentiate(xp, trainer.arrays, trainer.next_batch(), contexts)
    except _Found as found:
        return str(found)
    for name, array in new_statistics(xp, net, contexts, caches).items():
        if not is_finite(xp, array):
            place, _, short = name.rpartition(".")
            return f"the running {short} of layer {place} ({layers[place]}) has {_count(xp, array)}"
    return f"the update of the parameters by {type(trainer.optimizer).__name__} is not finite"


def _count(xp: Any, a: Array) -> str:
    nans = int(xp.sum(xp.astype(xp.isnan(a), xp.int64)))
    infs = int(xp.sum(xp.astype(xp.isinf(a), xp.int64)))
    return f"{nans} NaN and {infs} infinite of {prod(a.shape)} entries"
