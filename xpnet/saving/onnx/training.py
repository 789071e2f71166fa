"""One training step as a graph: forwards, backwards by hand, and the optimizer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnet.backends.tape.record import CannotRecord, record
from xpnet.errors import ExportError
from xpnet.keywords import named
from xpnet.model.core import Model
from xpnet.optimizers import Optimizer
from xpnet.saving.onnx import shaping
from xpnet.saving.onnx.functions import NoOperator, elementwise
from xpnet.saving.onnx.graph import Graph
from xpnet.saving.onnx.model import write
from xpnet.saving.onnx.package import USUAL, check_opset
from xpnet.saving.onnx.tape import Translator
from xpnet.saving.onnx.whereabouts import Whereabouts
from xpnet.training.arrays import VECTOR
from xpnet.training.feed import Batch, Feed
from xpnet.training.objective import Objective
from xpnet.training.samples import check_optimizer
from xpnet.training.steps import Steps
from xpnet.typing import Array
from xpnet.validation import check_size


class Handed(Feed):
    """The one batch of samples that a step is handed, as it is."""

    def batch(self, xp: Any, a: Mapping[str, Array], size: int, part: slice | None = None) -> Batch:
        weight = xp.full((size,), 1.0 / size, dtype=a["theta"].dtype, device=a["theta"].device)
        return Batch(a["x"], a["t"], weight, 1.0, 1.0)


@named
def export_training(
    net: Model, optimizer: Optimizer | str, path: str | os.PathLike[str], *, batch_size: int, steps: int = 20_000,
    opset: int = USUAL,
) -> None:  # fmt: skip
    """Write one training step of a network as an ONNX graph of standard operators, which other programs can repeat.

    theta, slots, state, loss = step(theta, slots, state, x, t, k)

    The graph is the step that `Network.fit` does, with its hand-written backward pass, dropout and the optimizer. What
    it takes, all of the network's data type unless said otherwise:

    - ``theta`` (P,): all parameters; begin with ``net.theta``.
    - ``slot.m`` and the like (P,): the optimizer's vectors; begin with zeros.
    - ``state.1.mean`` and the like: running statistics, if there are any; begin with ``net.state``.
    - ``x`` (B, ...): the inputs of a batch.
    - ``t``: its targets, int64 classes (B,) for `CrossEntropy`, else (B, O).
    - ``step`` (1,) of int64: the number of steps done before: 0, 1, ...

    It gives ``next.theta``, ``next.slot.m`` and so on, which are handed in at the next step, and ``loss`` (1,), the
    batch's mean loss before the step, with penalties.

    Where a parameter lies in theta stands in the file's metadata, under ``parameters``, as JSON:
    ``{"0.W": [start, stop, shape], ...}``.

    Parameters
    ----------
    net : Model
        Only its description matters; the numbers are not in the file.
    optimizer : Optimizer or str
    path : str or path
        By custom it ends with ``.onnx``.
    batch_size : int
        The number B of samples of a step, which is fixed.
    steps : int
        For so many steps the file holds the optimizer's numbers (learning rates and the like). Later ones use the last.
    opset : int
        The version of the standard's operators, 18 or newer.

    Raises
    ------
    ExportError
        A layer, loss or optimizer of one's own does what cannot be recorded, or has no form as operators: which layer,
        where it stands, and what is missing.
    BackendUnavailableError
        The package onnx is missing.
    CheckpointIOError
        The system refused to write; an old file is as it was.

    Notes
    -----
    The numbers are those of xpnet to rounding, not to the bit: runtimes add up in other orders. Dropout's masks are the
    same bits.
    """
    optimizer, opset = check_optimizer(optimizer), check_opset(opset)
    size, count = check_size("batch_size", batch_size), check_size("steps", steps)
    net = net.to("numpy")
    training = Steps(net, optimizer, _feed(net, size, count), Objective(net), None)
    table = training.table(range(count))
    changing = np.flatnonzero((table[1:] != table[:-1]).any(axis=1))
    table = table[: int(changing[-1]) + 2 if changing.size else 1]
    arrays = training.arrays | {"scalars": table, "loss": np.zeros(1, net.dtype)}
    g = _graph(training, arrays, opset)
    layout = {place.key: [place.start, place.stop, place.shape] for place in net.layout.places}
    description = {"network": repr(net), "optimizer": repr(optimizer), "seed": net.seed, "batch_size": size}
    about = (
        f"One training step of an xpnet network. To make it again: build the network and the optimizer of the metadata "
        f"and call xpnet.saving.export_training(net, optimizer, path, batch_size={size}, steps={count})."
    )
    write(g, path, about, description | {"parameters": layout, "steps": len(table)})


def _feed(net: Model, size: int, steps: int) -> Feed:
    """Return samples that are all zeros, of the right shapes and data types, for so many steps."""
    columns = net.output_shape[0] // net.loss.per_target
    classes = net.loss.kind == "classification"
    x = np.zeros((size, *net.input_shape), net.dtype)
    feed = Handed(x, np.zeros(size, np.int64) if classes else np.zeros((size, columns), net.dtype), None, size)
    feed.steps_per_epoch = steps
    return feed


def _graph(training: Steps, arrays: Mapping[str, Array], opset: int) -> Graph:
    """Return the graph of a step, or say which layer has no form as one."""
    net, size, g = training.net, training.feed.batch_size, Graph(opset)
    where, reason = Whereabouts(net), "this training has no form as an ONNX graph: "
    try:
        tape = record(training.make_step(size, where), net.backend.xp, arrays)
    except CannotRecord as error:
        raise ExportError(f"{reason}{where}{error}") from None
    kept = ["theta", *(name for name, kind in training.arrays.kinds.items() if kind == VECTOR)]
    kept += [name for name in arrays if name.startswith("state.")]
    given = {name: g.input(name, arrays[name].shape, arrays[name].dtype) for name in (*kept, "x", "t")}
    step = g.input("step", (1,), np.int64)
    given["position"] = elementwise(g, "minimum", [step, len(arrays["scalars"]) - 1], np.dtype(np.int64))
    given["step"] = shaping.cast(g, step, np.uint32)
    given["scalars"] = g.constant(arrays["scalars"], "scalars")
    try:
        done = Translator(g, tape, given)
    except NoOperator as error:
        raise ExportError(f"{reason}{where.of(tape, error.operation)}{error}") from None
    g.outputs = {f"next.{name}": done[name] for name in kept} | {"loss": done["loss"]}
    return g
