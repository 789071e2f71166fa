"""What `fit` makes of its arguments before anything changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from xpnet.errors import ConfigError, DataError, warn_user
from xpnet.model.core import Model
from xpnet.model.data import check_inputs, check_targets
from xpnet.model.predict import checked
from xpnet.model.rows import Rows
from xpnet.model.sources import in_memory
from xpnet.model.weights import check_sample_weight, class_weights, decided
from xpnet.optimizers import OPTIMIZERS, Optimizer
from xpnet.training.feed import AS_IT_IS, Feed, Treatment, epoch_order
from xpnet.training.objective import Objective
from xpnet.training.promises import check_signature
from xpnet.training.windows import Windows
from xpnet.typing import Array, HostArray
from xpnet.validation import check_flag, check_number, check_size, named


class Validation(NamedTuple):
    """Checked validation data on the device, or rows to be read; inputs count by `scale`."""

    x: Any
    t: Any
    weight: HostArray
    scale: float | None = None


class Samples(NamedTuple):
    """Checked inputs and targets on the device; weights on the host, or None."""

    x: Array
    t: Array
    weight: HostArray | None


def check_optimizer(optimizer: Any) -> Optimizer:
    """Return the optimizer that a name or object stands for."""
    found = named("optimizer", optimizer, OPTIMIZERS, Optimizer)
    check_signature(found)
    return found


def check_samples(
    net: Model, x: Any, t: Any, sample_weight: Any, class_weight: Mapping[int, float] | str | None,
    dtype: str | None = None,
) -> Samples:  # fmt: skip
    """Check the training data, and move it to the device; inputs in the network's data type, or in another one.

    Each sample's weight is the product of both kinds, scaled to a mean of 1.
    """
    x = check_inputs(in_memory(x), net.input_shape, net.backend, net.dtype if dtype is None else dtype)
    samples = int(x.shape[0])
    t = check_targets(in_memory(t), samples, net.output_shape[0], net.loss, net.backend, net.dtype)
    return Samples(x, t, check_weights(net, samples, sample_weight, class_weight, lambda: net.backend.to_numpy(t)))


def check_weights(
    net: Model, samples: int, sample_weight: Any, class_weight: Mapping[int, float] | str | None,
    labels: Callable[[], HostArray],
) -> HostArray | None:  # fmt: skip
    """Return each sample's weight, the product of both kinds with a mean of 1, or None if there are no weights."""
    weight = None
    if sample_weight is not None:
        weight = check_sample_weight(in_memory(sample_weight), samples, net.backend)
    if class_weight is not None:
        if net.loss.kind == "regression":
            raise ConfigError(f"class_weight needs a classification loss, the network has {type(net.loss).__name__}")
        yes_or_no = net.loss.kind == "binary"
        t = decided(labels()) if yes_or_no else labels()
        by_class = class_weights(class_weight, t, 2 if yes_or_no else net.output_shape[0])
        weight = by_class if weight is None else weight * by_class
        if not weight.sum() > 0:
            raise DataError("class_weight and sample_weight together give every sample the weight zero")
    return _of_mean_one(weight)


def _of_mean_one(weight: HostArray | None) -> HostArray | None:
    """Return weights whose mean is 1: only their ratios matter, and these are within the range of float32."""
    return None if weight is None else weight * (len(weight) / weight.sum())


def resident(
    net: Model, objective: Objective, samples: Samples, batch_size: int, shuffle: bool, window: int | None = None,
    scale: float | None = None,
) -> Feed:  # fmt: skip
    """Return the feed of samples that lie on the device, in an order by the network's seed, or as they come."""
    count = int(samples.x.shape[0])
    order: Callable[[int], HostArray] | None = None
    if check_flag("shuffle", shuffle) and window is None:
        order = partial(epoch_order, net.seed, samples=count)
    elif shuffle and window is not None:
        order = Windows(count, window, net.seed).order
    x = samples.x if scale is not None else objective.inputs(samples.x)
    treatment = AS_IT_IS if scale is None else Treatment(scale, objective.rounded)
    size = check_size("batch_size", batch_size)
    return Feed(x, samples.t, samples.weight, size, order, treatment=treatment, window=window)


def set_aside(
    net: Model, samples: Samples, validation_data: Any, validation_split: float, scale: float | None = None
) -> tuple[Samples, Validation | None]:
    """Return what to train on and what to validate on."""
    check_number("validation_split", validation_split, 0.0, 1.0, high_open=True)
    validation = None
    if validation_data is not None:
        if validation_split:
            raise ConfigError("give either validation_data or validation_split, not both")
        validation = other_samples(net, validation_data, samples.t, scale)
    elif validation_split:
        samples, validation = _split(net, samples, validation_split, scale)
    return samples._replace(weight=_of_mean_one(samples.weight)), validation


def fitting_batch(batch_size: int, samples: int) -> int:
    """Return the batch size, or the number of samples if that is smaller, with a warning."""
    if check_size("batch_size", batch_size) <= samples:
        return batch_size
    warn_user(f"batch_size {batch_size} is larger than the {samples} samples; {samples} is used")
    return samples


def other_samples(net: Model, data: Any, t: Array | None, scale: float | None, by_pieces: bool = False) -> Validation:
    """Check data to validate on; targets `t` that are trained on must have all of their classes."""
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise ConfigError(
            f"validation_data must be a pair (x, t) or a triple (x, t, sample_weight), got {type(data).__name__}"
        )
    xv, tv = checked(net, data[0], data[1], by_pieces, "_validation")
    count = int(xv.shape[0])
    labels = net.loss.kind == "classification" and len(tv.shape) == 1
    if t is not None and t.ndim == 1 and labels and not isinstance(tv, Rows):
        unseen = np.setdiff1d(net.backend.to_numpy(tv), net.backend.to_numpy(t))
        if unseen.size:
            raise DataError(
                f"validation_data has the classes {unseen.tolist()}, of which the training data has no sample"
            )
    weight = np.ones(count) if len(data) == 2 else check_sample_weight(in_memory(data[2]), count, net.backend)
    return Validation(xv, tv, weight, scale)


def _split(net: Model, given: Samples, part: float, scale: float | None) -> tuple[Samples, Validation]:
    """Set aside a random part of the samples, chosen by the network's seed."""
    x, t, weight = given
    samples = int(x.shape[0])
    count = round(samples * part)
    if not 0 < count < samples:
        empty = "validation" if count == 0 else "training"
        raise ConfigError(f"validation_split={part}: the {empty} set would have 0 of {samples} samples")
    order = np.random.default_rng([net.seed, 0x5117]).permutation(samples)
    held, kept = np.sort(order[:count]), np.sort(order[count:])
    xp, backend = net.backend.xp, net.backend

    def rows(a: Array, which: HostArray) -> Array:
        return xp.take(a, backend.asarray(which), axis=0)

    if weight is not None and not (weight[kept].sum() > 0 and weight[held].sum() > 0):
        raise DataError("validation_split leaves only samples of weight zero on one side; pass validation_data instead")
    validation = Validation(rows(x, held), rows(t, held), np.ones(count) if weight is None else weight[held], scale)
    return Samples(rows(x, kept), rows(t, kept), None if weight is None else weight[kept]), validation
