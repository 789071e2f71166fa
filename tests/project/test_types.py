"""What an editor knows of xpnet: a user's program is checked by pyright and by mypy, and so is one with mistakes."""

import importlib.util
import json
import os
import re
import subprocess
import sys

import pytest

PROGRAM = """
import numpy as np
import xpnet

x, t = xpnet.datasets.spirals(120, seed=0)
net = xpnet.mlp([2, 16, 3], activation="tanh", dropout=0.1, backend="numpy", seed=1)
other = xpnet.Network([xpnet.Linear(2, 3), xpnet.ReLU(), xpnet.Linear(3, 3)], loss=xpnet.CrossEntropy())
history: xpnet.History = net.fit(
    x, t, optimizer=xpnet.Adam(1e-3), epochs=3, batch_size=32, validation_split=0.2, verbose=False,
    callbacks=[xpnet.EarlyStopping(patience=2), lambda run: run.stop()], checkpoint="run.safetensors", resume=True,
)
last: float = float(history["loss"][-1])
labels: np.ndarray = net.predict(x, batch_size=64)
loss, gradients = other.gradients(x, t)
print(loss + 1.0, gradients["0.W"], other.trace(x, t)[0].delta, net.explain("latex"), net.summary())
net.save("net.safetensors")
again: xpnet.Network = xpnet.load("net.safetensors").copy().to("numpy")
score = again.evaluate(x, t)["accuracy"]
assert xpnet.check_gradients(again, x[:4], t[:4]).passed
trainer = xpnet.Trainer(net, "sgd", x, t, batch_size=8)
print(trainer.run(3), trainer.loss_scale, score, last, labels)
xpnet.plots.loss(history)
classifier: xpnet.estimators.MLPClassifier = xpnet.estimators.MLPClassifier((8,))
"""

MISTAKES = {
    "an option that does not exist": "net.fit(x, t, epoch=3)",
    "a name that does not exist": "xpnet.Dense(2, 3)",
    "a method that does not exist": "net.train(x, t)",
    "a string for a number": 'net.fit(x, t, epochs="3")',
    "a result that is another": "values: int = net.evaluate(x, t)",
    "an argument of a layer": "xpnet.Linear(2, 3, biases=True)",
}


def pyright(path):
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed; it comes with the extra dev")
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=path.parent, timeout=300)
    try:
        found = json.loads(done.stdout)["generalDiagnostics"]
    except json.JSONDecodeError:
        pytest.skip(f"pyright could not fetch its engine: {done.stderr[-200:]}")
    return sorted({item["range"]["start"]["line"] + 1 for item in found if item["severity"] == "error"}), done.stdout


def mypy(path):
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed; it comes with the extra dev")
    command = [sys.executable, "-m", "mypy", "--cache-dir", os.devnull, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=path.parent, timeout=300)
    return sorted({int(line) for line in re.findall(r"^program\.py:(\d+): error", done.stdout, re.M)}), done.stdout


@pytest.mark.parametrize("check", [pyright, mypy], ids=["pyright", "mypy"])
def test_a_right_program_is_right_and_each_mistake_is_seen(check, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM + "\n".join(MISTAKES.values()) + "\n")
    lines, printed = check(path)
    first = PROGRAM.count("\n") + 1
    assert lines == list(range(first, first + len(MISTAKES))), printed
