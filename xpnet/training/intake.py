"""What `fit` trains on: samples that all lie on the device, or those that are streamed, for they do not fit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np

from xpnet.errors import ConfigError
from xpnet.model.core import Model
from xpnet.model.data import (
    check_length,
    check_numeric,
    check_shape,
    on_host,
    stays,
    target_values,
    to_host,
)
from xpnet.model.memory import bytes_of, free_memory, readable
from xpnet.model.rows import Rows
from xpnet.model.sources import rows_of
from xpnet.training.batches import Batches
from xpnet.training.feed import Feed, Treatment
from xpnet.training.objective import Objective
from xpnet.training.samples import (
    Validation,
    check_samples,
    check_weights,
    fitting_batch,
    other_samples,
    resident,
    set_aside,
)
from xpnet.training.streamed import StreamedFeed
from xpnet.training.supply import Blocks, Supply, located, storage
from xpnet.training.windows import BLOCKS, Windows
from xpnet.typing import HostArray
from xpnet.validation import check_flag, check_number, check_size

logger = logging.getLogger("xpnet")

ORDER = 16
"""Bytes of a sample for the order: an integer, which is drawn for two windows, and put together, on the host."""


class Plan(NamedTuple):
    """How `fit` is to take its data; see `xpnet.Network.fit`."""

    batch_size: int
    epochs: int
    shuffle: bool
    memory: Any = None
    window: int | None = None
    scale: float | None = None


class Data(NamedTuple):
    """What a training is made of: a feed, which is yet to be made, and what to validate and to measure on."""

    batch_size: int
    feed: Callable[[], Feed]
    validation: Validation | None
    training: Validation | None = None


def take_in(
    net: Model, objective: Objective, x: Any, t: Any, sample_weight: Any, class_weight: Any, validation_data: Any,
    validation_split: float, plan: Plan,
) -> Data:  # fmt: skip
    """Check what comes before anything changes; what is streamed is checked block by block, when it comes."""
    memory = check_plan(plan)
    if t is None:
        return _of_batches(net, objective, x, (sample_weight, class_weight, plan.window), validation_data, plan, memory)
    found = beyond(net, x, t, memory, plan)
    if found is not None:
        if validation_split:
            raise ConfigError(
                "validation_split takes samples from everywhere, which data that are streamed do not allow; give "
                "validation_data=(x[n:], t[n:]) and train on x[:n], t[:n]"
            )
        return _of_rows(net, objective, *found, t, (sample_weight, class_weight), validation_data, plan)
    x, dtype = here(net, x, plan)
    samples = check_samples(net, x, t, sample_weight, class_weight, dtype)
    samples, validation = set_aside(net, samples, validation_data, validation_split, plan.scale)
    size = fitting_batch(plan.batch_size, int(samples.x.shape[0]))
    make = partial(resident, net, objective, samples, size, plan.shuffle, plan.window, plan.scale)
    weight = np.ones(int(samples.x.shape[0])) if samples.weight is None else samples.weight
    return Data(size, make, validation, Validation(samples.x, samples.t, weight, plan.scale))


def check_plan(plan: Plan) -> int | None:
    """Check what was asked for, and return the bytes of memory that were, or None."""
    check_flag("shuffle", plan.shuffle)
    memory = None if plan.memory is None else bytes_of("memory", plan.memory)
    if plan.scale is not None and not check_number("scale", plan.scale):
        raise ConfigError("scale must not be 0, by which all inputs would be the same")
    if plan.window is not None and check_size("window", plan.window) < 2 * check_size("batch_size", plan.batch_size):
        raise ConfigError(f"window must be at least 2 * batch_size = {2 * plan.batch_size} rows, got {plan.window}")
    return memory


def here(net: Model, x: Any, plan: Plan) -> tuple[Any, str | None]:
    """Return inputs that fit, read if they lie elsewhere, and the data type in which they travel if not the usual."""
    dtype = None if plan.scale is None or not hasattr(x, "dtype") else _storage(net, x, plan.scale)
    rows = rows_of(x)
    if rows is not None:
        check_shape("x", rows.shape, net.input_shape)
        check_numeric("x", rows)
        x = rows.all(np.dtype(net.dtype if dtype is None else dtype))
    return x, dtype


def _storage(net: Model, x: Any, scale: float | None) -> str:
    """Return the name of the data type in which inputs travel to the device and lie there."""
    host = isinstance(x.dtype, np.dtype)
    return str(storage(x.dtype, net.dtype, scale is not None).name) if host else net.dtype


def _bytes_of_row(net: Model, rows: Rows, t: Any, plan: Plan) -> int:
    """Return how many bytes a sample takes on the device: inputs, target, weight, and its place in the order."""
    number = np.dtype(net.dtype).itemsize
    labels = net.loss.kind == "classification" and prod(getattr(t, "shape", ())[1:]) == 1
    target = 8 if labels else number * prod(net.output_shape)
    return prod(rows.shape[1:]) * np.dtype(_storage(net, rows, plan.scale)).itemsize + target + number + ORDER


def beyond(net: Model, x: Any, t: Any, memory: int | None, plan: Plan) -> tuple[Rows, float] | None:
    """Return inputs that do not fit, as rows to be read, and how many bytes there are for them; None if they fit.

    What is there already fits: arrays of the device, and if that is the host, all that lies in its memory, unless a
    limit is given.
    """
    rows, host = rows_of(x), net.backend.free_bytes() is None
    if rows is None:
        if stays(x, net.backend) or (memory is None and (host or not isinstance(x, np.ndarray))):
            return None
        rows = Rows(to_host("x", x, net.backend))
    check_numeric("x", rows)
    check_shape("x", rows.shape, net.input_shape)
    limit = free_memory(net.backend) / 2 if memory is None else memory
    need = len(rows) * _bytes_of_row(net, rows, t, plan)
    if need <= limit:
        return None
    whose = "half of the free memory" if memory is None else "memory"
    logger.info("the data take %s, more than %s, %s: they are streamed", readable(need), whose, readable(limit))
    return rows, limit


def with_window(net: Model, rows: Rows, t: Any, limit: float, plan: Plan) -> Plan:
    """Return the plan with the rows that are shuffled together: as asked for, or as there is memory for, twice."""
    row, window, least = _bytes_of_row(net, rows, t, plan), plan.window, 2 * plan.batch_size
    if plan.memory is None and window is not None:
        limit *= 2  # a checkpoint's window was chosen when half of the memory was perhaps more: all of it may be used
    room = int(limit // (2 * row))
    if window is None:
        block = room // BLOCKS
        window = max(least, BLOCKS * (block - block % rows.unit if block >= rows.unit else block))
    if window <= room:
        return plan._replace(window=window)
    raise ConfigError(
        f"memory={readable(limit)} holds two windows of {room} rows, of {row} bytes each, but {window} are needed for "
        f"window={plan.window} and batch_size={plan.batch_size}; use more memory, or make these smaller"
    )


def stream(
    net: Model, objective: Objective, rows: Rows, targets: Rows, weight: HostArray | None, plan: Plan, seed: int
) -> StreamedFeed:  # fmt: skip
    """Return the feed of rows of files or the like, by a plan that has a window, in an order by a seed."""
    assert plan.window is not None
    windows = Windows(len(rows), plan.window, seed if plan.shuffle else None)
    dtype = np.dtype(_storage(net, rows, plan.scale))
    supply = Blocks(net, rows, targets, weight, windows, plan.batch_size, dtype, _largest(objective, plan))
    return _streamed(net, objective, supply, plan, plan.shuffle, plan.window)


def _of_rows(
    net: Model, objective: Objective, rows: Rows, limit: float, t: Any, weights: tuple[Any, Any], validation_data: Any,
    plan: Plan,
) -> Data:  # fmt: skip
    """Return streamed rows of files or the like."""
    targets = rows_of(t) or Rows(on_host("t", t, net.backend))
    check_length(len(rows), targets.shape)
    plan = with_window(net, rows, t, limit, plan._replace(batch_size=fitting_batch(plan.batch_size, len(rows))))

    def labels() -> HostArray:
        with located("t"):
            return target_values(targets.all(), len(rows), net.output_shape[0], net.loss, net.dtype)

    weight = check_weights(net, len(rows), *weights, labels)
    validation = None if validation_data is None else other_samples(net, validation_data, None, plan.scale, True)
    make = partial(stream, net, objective, rows, targets, weight, plan, net.seed)
    measured = Validation(rows, targets, np.ones(len(rows)) if weight is None else weight, plan.scale)
    return Data(plan.batch_size, make, validation, measured)


def _of_batches(
    net: Model, objective: Objective, feed: Any, others: tuple[Any, ...], validation_data: Any, plan: Plan,
    memory: int | None,
) -> Data:  # fmt: skip
    """Return a user's own batches."""
    if not isinstance(feed, Iterable) or hasattr(feed, "shape"):
        raise ConfigError(
            f"t is missing: give fit(x, t), or fit(feed) with a feed of batches (x, t), got {type(feed).__name__}"
        )
    if any(other is not None for other in others):
        raise ConfigError(
            "sample_weight, class_weight and window are not for a feed of batches, whose order is its own"
        )
    supply = Batches(net, feed, plan.scale is not None, _largest(objective, plan), memory)
    validation = None if validation_data is None else other_samples(net, validation_data, None, plan.scale, True)
    make = partial(_streamed, net, objective, supply, plan, False, None)
    return Data(supply.batch_size, make, validation)


def _largest(objective: Objective, plan: Plan) -> float:
    """Return the largest number that an input may be before it is scaled."""
    return objective.largest / abs(plan.scale or 1.0)


def _streamed(
    net: Model, objective: Objective, supply: Supply, plan: Plan, shuffle: bool, window: int | None
) -> StreamedFeed:  # fmt: skip
    stored = objective.inputs if plan.scale is None else lambda x: x
    treatment = Treatment(plan.scale, objective.rounded)
    return StreamedFeed(supply, net.backend, treatment, stored, shuffle, window, plan.epochs)
