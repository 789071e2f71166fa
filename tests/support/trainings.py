"""Small trainings of many kinds, to be interrupted and resumed; as a script, each in a process of its own:

python tests/support/trainings.py kill FOLDER      start them all; each kills itself in the middle
python tests/support/trainings.py resume FOLDER    go on with them all in one other process
python tests/support/trainings.py kills 20         kill one training again and again until it is through
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import xpnet
from xpnet import schedules

SAMPLES, FEATURES, CLASSES = 50, 4, 3
_rng = np.random.default_rng(5)
X = _rng.normal(size=(SAMPLES, FEATURES)).astype("float32")
T = _rng.integers(0, CLASSES, SAMPLES)
VALUES = _rng.normal(size=(SAMPLES, 2)).astype("float32")
WEIGHTS = _rng.uniform(0.5, 2.0, SAMPLES)
VALIDATION = (X[:20] + 0.1, T[:20])


class Best(xpnet.Callback):
    """A callback of one's own with a state: the best loss so far and how often it was called. Old files name it."""

    def on_begin(self, run: Any) -> None:
        self.best, self.calls = np.inf, 0

    def on_epoch_end(self, run: Any) -> None:
        self.best, self.calls = min(self.best, run.history["loss"][-1]), self.calls + 1

    def get_state(self) -> dict[str, Any]:
        return {"best": self.best, "calls": self.calls}

    def set_state(self, state: dict[str, Any]) -> None:
        self.best, self.calls = float(state["best"]), int(state["calls"])


def halving(step: int) -> float:
    """A schedule of one's own, which old files name, too."""
    return 0.1 / (1 + step // 9)


def _case(
    optimizer: Any,
    step: int,
    *,
    regression: bool = False,
    dropout: float = 0.0,
    stopping: bool = False,
    net: Any = None,
    **options: Any,
) -> dict[str, Any]:
    return {"optimizer": optimizer, "step": step, "regression": regression, "dropout": dropout, "stopping": stopping,
            "net": net or {}, "options": {"epochs": 10, "batch_size": 8, "verbose": False} | options}  # fmt: skip


# By name: the optimizer, the step (of 7 an epoch, 70 in all) after which the training is killed, and what else differs.
COMBINATIONS = {
    "sgd": _case(xpnet.SGD(0.1), 24),
    "sgd, dropout": _case(xpnet.SGD(0.1), 30, dropout=0.3),
    "momentum, step decay": _case(xpnet.SGD(schedules.StepDecay(0.1, 13), momentum=0.9), 17),
    "nesterov, one cycle, dropout": _case(
        xpnet.SGD(schedules.OneCycle(0.2, 70), momentum=0.9, nesterov=True), 41, dropout=0.5
    ),
    "adagrad, averaging": _case(xpnet.Adagrad(0.1), 33, averaging=0.9),
    "rmsprop, exponential decay, clipping": _case(
        xpnet.RMSProp(schedules.ExponentialDecay(0.01, 20), clip_norm=0.5), 50
    ),
    "adam": _case(xpnet.Adam(), 36),
    "adam, cosine, dropout, averaging": _case(
        xpnet.Adam(schedules.CosineDecay(0.01, 60)), 47, dropout=0.2, averaging=0.99
    ),
    "adam, weights, penalties": _case(xpnet.Adam(0.01), 11, sample_weight=WEIGHTS, net={"l1": 1e-3, "l2": 1e-2}),
    "adamw, warm-up, class weights": _case(
        xpnet.AdamW(schedules.WarmUp(10, schedules.PolynomialDecay(0.01, 50))), 5, class_weight="balanced"
    ),
    "adamw, a function, double": _case(xpnet.AdamW(halving), 68, net={"dtype": "float64", "seed": 2**90}),
    "adam, regression, no shuffle": _case(xpnet.Adam(0.01), 29, regression=True, shuffle=False, dropout=0.1),
    "adam, one batch": _case(xpnet.Adam(0.05), 6, batch_size=50),
    "sgd, batches of one": _case(xpnet.SGD(0.01, momentum=0.5), 333, batch_size=1, averaging=0.5),
    "adam, validation, early stopping": _case(
        xpnet.Adam(0.1), 20, validation_data=VALIDATION, stopping=True, averaging=0.8, dropout=0.1
    ),
    "adam, split, stopped early": _case(xpnet.Adam(0.1), 8, validation_split=0.3, stopping=True),
    "at the end of an epoch": _case(xpnet.Adam(0.01), 21, dropout=0.2, averaging=0.9, sample_weight=WEIGHTS),
    "before the end of an epoch": _case(xpnet.Adam(0.01), 20, sample_weight=WEIGHTS),
}  # fmt: skip


def make(name: str) -> xpnet.Network:
    case = COMBINATIONS[name]
    outputs = 2 if case["regression"] else CLASSES
    loss = "mean_squared_error" if case["regression"] else "cross_entropy"
    return xpnet.mlp([FEATURES, 6, outputs], "tanh", loss, dropout=case["dropout"], **case["net"])


def train(name: str, net: xpnet.Network, callbacks: Any = (), **options: Any) -> xpnet.History:
    """Train one of the combinations; `options` replace its own."""
    case = COMBINATIONS[name]
    options = case["options"] | options
    x = X.astype(net.dtype)
    if case["stopping"]:
        callbacks = [Best(), xpnet.EarlyStopping("validation_loss", patience=2), *callbacks]
    return net.fit(x, VALUES if case["regression"] else T, optimizer=case["optimizer"], callbacks=callbacks, **options)


def curves(history: xpnet.History) -> dict[str, list[float]]:
    """The history without the durations, which nobody can repeat."""
    return {name: values.tolist() for name, values in history.to_numpy().items() if name != "seconds"}


class KillAfter(xpnet.Callback):
    """Kill the process, as the system would, after a step."""

    def __init__(self, step: int) -> None:
        self.every = self.step = step

    def on_steps(self, run: Any) -> None:
        if run.step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def kill_all(folder: Path) -> None:
    for name, case in COMBINATIONS.items():
        child = os.fork()
        if child == 0:
            try:
                step, path = case["step"], folder / f"{name}.safetensors"
                # The file is written two steps before the kill: those are done a second time.
                train(name, make(name), [KillAfter(step)], checkpoint=path, checkpoint_every=max(step - 2, 1))
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, name


def resume_all(folder: Path) -> None:
    for name in COMBINATIONS:
        net = make(name)
        net.theta[...] = 0  # what it was must not matter
        history = train(name, net, checkpoint=folder / f"{name}.safetensors", resume=True)
        np.savez(folder / f"{name}.npz", theta=net.theta, **curves(history))


def kill_again_and_again(folder: Path, kills: int, seed: int = 0) -> Counter[str]:
    """Kill a training at random times, `kills` times, let it end, and compare it with one that was not killed."""
    name, rng, found = "adam, cosine, dropout, averaging", random.Random(seed), Counter[str]()
    path, epochs = folder / "run.safetensors", 20 * kills
    for k in range(kills + 1):
        before = path.stat().st_mtime_ns if path.exists() else 0
        child = os.fork()
        if child == 0:
            status = 1
            try:
                net = make(name)
                train(name, net, epochs=epochs, checkpoint=path, checkpoint_every=3, resume=True)
                net.save(folder / "end.safetensors")
                status = 0
            finally:
                os._exit(status)
        if k < kills:
            while not path.exists() or path.stat().st_mtime_ns == before:
                time.sleep(0.001)
            time.sleep(rng.uniform(0.0, 0.03))
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        found[{0: "ended", -signal.SIGKILL: "killed"}.get(code, "failed")] += 1
        xpnet.load(path)  # always one whole file
    net = make(name)
    train(name, net, epochs=epochs)
    found["equal"] += int(xpnet.load(folder / "end.safetensors").theta.tobytes() == net.theta.tobytes())
    return found


def main() -> None:
    os.fsync = lambda handle: None  # a kill, unlike a loss of power, leaves what the system holds in memory
    if sys.argv[1] == "kills":
        with tempfile.TemporaryDirectory() as folder:
            print(dict(kill_again_and_again(Path(folder), int(sys.argv[2]))))
    else:
        {"kill": kill_all, "resume": resume_all}[sys.argv[1]](Path(sys.argv[2]))


if __name__ == "__main__":
    main()
