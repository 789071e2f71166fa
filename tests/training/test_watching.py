"""Callbacks that keep the best network and the curves, and slow a training down."""

import csv

import numpy as np
import problems
import pytest
from array_backends import make

import xpnet
from xpnet.errors import ConfigError

X, T = problems.three_classes()


def classifier(backend="numpy"):
    return problems.classifier(backend=make(backend))


def test_the_best_network_is_in_the_file_with_its_average(tmp_path):
    net, seen = classifier(), []
    best = xpnet.BestFile(tmp_path / "best", "loss")

    def spoil(run):
        with run.averaged():
            seen.append(net.theta.copy())
        if run.epoch == 2:
            net.theta[...] *= -3.0  # from here on it gets worse

    history = net.fit(X, T, epochs=5, averaging=0.5, callbacks=[best, spoil], verbose=False)
    wanted = int(np.argmin(history["loss"]))
    assert 0 < wanted < 4
    assert best.best_epoch == wanted
    assert np.array_equal(xpnet.load(tmp_path / "best").theta, seen[wanted])
    with pytest.raises(ConfigError, match="BestFile: there is no curve 'validation_loss'"):
        net.fit(X, T, epochs=1, callbacks=xpnet.BestFile(tmp_path / "best"), verbose=False)


@pytest.mark.parametrize("backend", ["numpy", "device1"])
def test_the_learning_rate_falls_on_a_plateau_and_goes_on_to_the_bit(tmp_path, backend):
    def fit(net, epochs, **options):
        slower = xpnet.ReduceOnPlateau("loss", factor=0.5, patience=2, min_delta=10.0, minimum=0.2)
        return net.fit(
            X, T, epochs=epochs, batch_size=8, callbacks=[slower], optimizer=xpnet.SGD(0.1), verbose=False, **options
        )

    whole, parted = classifier(backend), classifier(backend)
    history = fit(whole, 9)
    assert history["learning_rate"].round(9).tolist() == [0.1, 0.1, 0.1, 0.05, 0.05, 0.025, 0.025, 0.02, 0.02]

    class Stop(xpnet.Callback):
        every = 1

        def on_steps(self, run):
            if run.step == 4 * run.trainer.steps_per_epoch + 2:  # in mid-epoch, at the lower rate
                raise KeyboardInterrupt

    slower = xpnet.ReduceOnPlateau("loss", factor=0.5, patience=2, min_delta=10.0, minimum=0.2)
    with pytest.raises(KeyboardInterrupt):
        parted.fit(
            X, T, epochs=9, batch_size=8, callbacks=[slower, Stop()], optimizer=xpnet.SGD(0.1), verbose=False,
            checkpoint=tmp_path / "f",
        )  # fmt: skip
    again = classifier(backend)
    resumed = fit(again, 9, checkpoint=tmp_path / "f", resume=True)
    assert again.backend.to_numpy(again.theta).tobytes() == whole.backend.to_numpy(whole.theta).tobytes()
    assert resumed["learning_rate"].tolist() == history["learning_rate"].tolist()
    assert repr(slower) == f"<ReduceOnPlateau on loss: best {history['loss'][0]:.4g} in epoch 1>"


def test_curves_are_rows_of_a_file_also_after_a_resumption(tmp_path):
    for epochs in (2, 3):
        history = classifier().fit(
            X, T, epochs=epochs, callbacks=xpnet.CSVLog(tmp_path / "log.csv"), verbose=False, metrics="accuracy",
            checkpoint=tmp_path / "f", resume=True,
        )  # fmt: skip
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", *history]
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert [float(row["accuracy"]) for row in rows] == history["accuracy"].tolist()


def test_numbers_go_to_a_writer_of_tensorboard():
    class Writer:
        def __init__(self):
            self.seen, self.flushed = [], 0

        def add_scalar(self, name, value, step):
            self.seen.append((name, value, step))

        def flush(self):
            self.flushed += 1

    writer = Writer()
    history = classifier().fit(X, T, epochs=2, batch_size=len(X), callbacks=xpnet.TensorBoardLog(writer), verbose=False)
    assert [entry for entry in writer.seen if entry[0] == "loss"] == [
        ("loss", history["loss"][0], 1), ("loss", history["loss"][1], 2),
    ]  # fmt: skip
    assert writer.flushed == 2
    with pytest.raises(ConfigError, match="writer must have add_scalar"):
        xpnet.TensorBoardLog("runs/1")
