"""Does a system compute what the others compute? Runs in the system's own process."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import reference
import workloads
from systems.base import System
from workloads import Workload

# The weights' is wider than float32 asks for: of a million ReLUs, one or two have an input so near to zero that
# rounding decides their sign, and one such sign alone makes an error of about 2e-4.
TOLERANCES = {"loss": 1e-4, "weights": 1e-3, "outputs": 1e-4}
# Networks of images have twenty million ReLUs and windows of a pool, and some libraries' convolutions round more.
TOLERANCES_OF_IMAGES = {"loss": 1e-4, "weights": 1e-2, "outputs": 1e-3}


def same_steps(system: System, workload: Workload, steps: int, budget: float = 0.0) -> dict[str, Any]:
    """Train on one batch of the workload for `steps` steps; compare every loss, the weights and the outputs.

    The data set is that one batch, so that each system's own shuffling gives the same batch whatever its order.
    Errors: of a loss, relative to the reference's; of the weights, for each array, the Euclidean norm of the
    difference relative to the distance that the reference's array went; of the outputs, relative to the largest. A
    wrong gradient, momentum or bias correction has an error of order one in the weights' measure, however small the
    learning rate.
    """
    wanted, note = system.adapt(replace(workload, batches=1))
    x, t = workloads.training_data(wanted)
    start = workloads.initial_weights(wanted)
    losses, final, running = reference.train(wanted, start, x, t, steps)
    system.load(wanted, x, t, workloads.initial_weights(wanted), 0)
    # A step may be compiled only after it has run for a while. Then begin anew: no trace of it may be left.
    began = time.perf_counter()
    system.run(2)
    while time.perf_counter() - began < budget:
        system.run(2)
    system.reset(start)
    got = []
    for _ in range(steps):
        system.run(1)
        got.append(system.loss())
    y = reference.outputs(wanted, final, x, running)
    if system.gives_probabilities and wanted.loss == "cross_entropy":
        y = reference.softmax(y)
    errors = {
        "loss": max(abs(a - b) / abs(b) for a, b in zip(got, losses, strict=True)),
        "weights": max(
            float(np.linalg.norm(mine - theirs) / np.linalg.norm(theirs - before))
            for pairs in zip(system.weights(), final, start, strict=True)
            for mine, theirs, before in zip(*pairs, strict=True)
        ),
        "outputs": float(np.abs(system.outputs(x) - y).max() / np.abs(y).max()),
    }
    # Written so that NaN fails.
    tolerances = TOLERANCES
    if wanted.layers:
        tolerances = {key: system.rounding_of_images * error for key, error in TOLERANCES_OF_IMAGES.items()}
    return {"note": note, "errors": errors, "ok": all(error < tolerances[key] for key, error in errors.items())}


def picked_rows(system: System) -> dict[str, Any]:
    """Read off the weights which rows each batch of an epoch had, for two epochs.

    Row i of the data is the i-th unit vector, every target is 1, the network is one linear layer that starts at zero:
    only the step that takes row i changes W[i], to a value that depends on the bias at that moment, and the bias
    grows with every step. So W[i] tells in which step row i was taken, and how often.
    """
    w = workloads.PICKS
    (inputs, outputs), rate = w.sizes, w.learning_rate
    x, t = np.eye(inputs, dtype=np.float32), np.ones((inputs, outputs), np.float32)
    zero = [(np.zeros((inputs, outputs), np.float32), np.zeros(outputs, np.float32))]
    system.load(w, x, t, zero, 3)
    epochs = []
    gain = 2.0 * rate / outputs  # of the mean over B rows and O outputs: the bias moves by gain * (1 - b) a step
    taken_at = gain / w.batch * (1.0 - gain) ** np.arange(w.batches)
    for _ in range(2):
        system.set_weights(zero)
        system.run(w.batches)
        W = system.weights()[0][0][:, 0]
        step = np.abs(W[:, None] - taken_at[None, :]).argmin(axis=1)
        if not np.allclose(W, taken_at[step], rtol=1e-4):
            return {"ok": False, "why": "some row was taken not once but never or several times in an epoch"}
        if not np.array_equal(np.bincount(step, minlength=w.batches), np.full(w.batches, w.batch)):
            return {"ok": False, "why": f"not every batch has {w.batch} rows"}
        epochs.append(step)
    if np.array_equal(epochs[0], np.arange(inputs) // w.batch):
        return {"ok": False, "why": "the rows are not shuffled"}
    if np.array_equal(epochs[0], epochs[1]):
        return {"ok": False, "why": "every epoch has the same order"}
    return {"ok": True, "why": ""}
