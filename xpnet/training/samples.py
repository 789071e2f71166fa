"""What `fit` makes of its arguments before anything changes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from xpnet.errors import ConfigError, DataError, warn_user
from xpnet.model.core import Model
from xpnet.model.data import check_inputs, check_sample_weight, check_targets, class_weights
from xpnet.optimizers import OPTIMIZERS, Optimizer
from xpnet.training.feed import Feed, epoch_order
from xpnet.training.objective import Objective
from xpnet.training.promises import check_signature
from xpnet.typing import Array, HostArray
from xpnet.validation import check_flag, check_number, check_size, named


class Validation(NamedTuple):
    """Checked validation data on the device."""

    x: Array
    t: Array
    weight: HostArray


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
    net: Model, x: Any, t: Any, sample_weight: Any, class_weight: Mapping[int, float] | str | None
) -> Samples:
    """Check the training data, and move it to the device.

    Each sample's weight is the product of both kinds, scaled to a mean of 1.
    """
    x = check_inputs(x, net.input_shape, net.backend, net.dtype)
    samples = int(x.shape[0])
    t = check_targets(t, samples, net.output_shape[0], net.loss, net.backend, net.dtype)
    weight = None
    if sample_weight is not None:
        weight = check_sample_weight(sample_weight, samples, net.backend)
    if class_weight is not None:
        if net.loss.kind != "classification":
            raise ConfigError(f"class_weight needs a classification loss, the network has {type(net.loss).__name__}")
        by_class = class_weights(class_weight, net.backend.to_numpy(t), net.output_shape[0])
        weight = by_class if weight is None else weight * by_class
        if not weight.sum() > 0:
            raise DataError("class_weight and sample_weight together give every sample the weight zero")
    return Samples(x, t, _of_mean_one(weight))


def _of_mean_one(weight: HostArray | None) -> HostArray | None:
    """Return weights whose mean is 1: only their ratios matter, and these are within the range of float32."""
    return None if weight is None else weight * (len(weight) / weight.sum())


def resident(net: Model, objective: Objective, samples: Samples, batch_size: int, shuffle: bool) -> Feed:
    """Return the feed of samples that lie on the device, in an order by the network's seed, or as they come."""
    count = int(samples.x.shape[0])
    order = partial(epoch_order, net.seed, samples=count) if check_flag("shuffle", shuffle) else None
    return Feed(objective.inputs(samples.x), samples.t, samples.weight, check_size("batch_size", batch_size), order)


def set_aside(
    net: Model, samples: Samples, validation_data: Any, validation_split: float
) -> tuple[Samples, Validation | None]:
    """Return what to train on and what to validate on."""
    check_number("validation_split", validation_split, 0.0, 1.0, high_open=True)
    validation = None
    if validation_data is not None:
        if validation_split:
            raise ConfigError("give either validation_data or validation_split, not both")
        validation = _validation(net, validation_data, samples.t)
    elif validation_split:
        samples, validation = _split(net, samples, validation_split)
    return samples._replace(weight=_of_mean_one(samples.weight)), validation


def fitting_batch(batch_size: int, samples: int) -> int:
    """Return the batch size, or the number of samples if that is smaller, with a warning."""
    if check_size("batch_size", batch_size) <= samples:
        return batch_size
    warn_user(f"batch_size {batch_size} is larger than the {samples} samples; {samples} is used")
    return samples


def _validation(net: Model, data: Any, t: Array) -> Validation:
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise ConfigError(
            f"validation_data must be a pair (x, t) or a triple (x, t, sample_weight), got {type(data).__name__}"
        )
    xv = check_inputs(data[0], net.input_shape, net.backend, net.dtype, name="x_validation")
    count = int(xv.shape[0])
    tv = check_targets(data[1], count, net.output_shape[0], net.loss, net.backend, net.dtype, name="t_validation")
    if net.loss.kind == "classification" and tv.ndim == 1 and t.ndim == 1:
        unseen = np.setdiff1d(net.backend.to_numpy(tv), net.backend.to_numpy(t))
        if unseen.size:
            raise DataError(
                f"validation_data has the classes {unseen.tolist()}, of which the training data has no sample"
            )
    weight = np.ones(count) if len(data) == 2 else check_sample_weight(data[2], count, net.backend)
    return Validation(xv, tv, weight)


def _split(net: Model, given: Samples, part: float) -> tuple[Samples, Validation]:
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
    validation = Validation(rows(x, held), rows(t, held), np.ones(count) if weight is None else weight[held])
    return Samples(rows(x, kept), rows(t, kept), None if weight is None else weight[kept]), validation
