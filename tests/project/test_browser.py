"""The page that trains in the browser: what the build puts beside it, and, where there is Chromium, the page itself.

The second needs the built documentation: ``pytest -n 0 tests/project/test_browser.py --built-docs docs/_build``.
"""

import functools
import http.server
import importlib
import json
import shutil
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import onnx_files
import pytest

import xpnet

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
TELL = """<script type="module">
const element = (name) => document.getElementById(`training-${name}`);
const wait = async (done) => { while (!done()) await new Promise((next) => setTimeout(next, 50)); };
const failed = () => /does not work/.test(element("status").textContent);
await wait(() => !element("go").disabled || failed());
const began = performance.now();
element("go").click();
await wait(() => /recognised/.test(element("status").textContent) || failed());
const answer = { said: element("status").textContent, seconds: (performance.now() - began) / 1000 };
await fetch("/told", { method: "POST", body: JSON.stringify(answer) });
</script>"""
"""Presses the button of the page, waits until it is done, and tells the server what it says."""


@pytest.fixture
def training(monkeypatch):
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "extensions"))
    return importlib.import_module("training")


def test_what_the_page_is_given_trains(training, tmp_path):
    """As in worker.mjs: 80 steps of onnxruntime on images as they are packed."""
    (x, t), (x_test, t_test) = xpnet.datasets.mnist(training.MNIST, download=False)
    training.make_graphs(tmp_path, len(x))
    about = json.loads((tmp_path / "about.json").read_text())
    assert about["steps"] == about["epochs"] * (len(x) // about["batch"])
    x, bits = x[:8000].reshape(8000, 784), np.frombuffer(training.packed(x[:8000]), np.uint8)
    greys = np.float32((bits[:, None] >> np.asarray([0, 2, 4, 6]) & 3).reshape(8000, 784) / about["levels"])
    assert np.abs(greys - x).max() <= 1 / 6 + 1e-6
    step, network = (onnx_files.File(tmp_path / name) for name in ("step.onnx", "network.onnx"))
    theta = np.fromfile(tmp_path / "theta.float32", np.float32)
    state = {"theta": theta, **{name: np.zeros_like(theta) for name in about["slots"]}}
    for k in range(80):
        rows = slice(k % 40 * 200, k % 40 * 200 + 200)
        made = step(**state, x=greys[rows], t=t[rows].astype(np.int64), step=np.asarray([k]))
        state = {name: made[f"next.{name}"] for name in state}
    label = network(x=x_test[:1000].reshape(1000, 784), theta=state["theta"])["label"]
    assert (label == t_test[:1000]).mean() > 0.84


def test_every_file_of_the_page_is_named_where_it_is_read(training):
    folder = ROOT / "docs" / "static" / "training"
    worker = (folder / "worker.mjs").read_text(encoding="utf-8")
    for name in ("step.onnx", "network.onnx", "theta.float32", "about.json", "train-images.gz", training.RUNTIME[0]):
        assert f'"{name}"' in worker
    for name in ("page.mjs", "training.css"):
        assert f"../_static/training/{name}" in (folder / "page.html").read_text(encoding="utf-8")


def test_without_npm_the_pages_are_made_all_the_same(training, tmp_path, monkeypatch):
    monkeypatch.setattr(training.shutil, "which", lambda name: None)
    assert training.runtime(tmp_path / "cache") is None


class Told(http.server.SimpleHTTPRequestHandler):
    """Serves the built documentation, the page with `TELL` in it, and takes what that tells."""

    def do_GET(self):
        if self.path != "/howto/browser.html":
            return super().do_GET()
        page = (Path(self.directory) / "howto" / "browser.html").read_text(encoding="utf-8")
        content = page.replace("</body>", f"{TELL}</body>").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self):
        self.server.answers.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_the_built_page_learns_to_read_digits_within_a_minute(request, tmp_path):
    built = request.config.getoption("--built-docs")
    if built is None:
        pytest.skip("needs the built documentation: --built-docs docs/_build")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("there is no Chromium")
    if not (Path(built) / "_static" / "training" / "ort.wasm.min.mjs").exists():
        pytest.skip("the documentation was built without onnxruntime-web, since npm could not get it")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Told, directory=str(built))) as server:
        server.answers = answers = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/howto/browser.html"
        command = [browser, *FLAGS, f"--user-data-dir={tmp_path}", address]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            end = time.monotonic() + 180
            while not answers and process.poll() is None and time.monotonic() < end:
                time.sleep(0.1)
            process.terminate()
        server.shutdown()
    assert answers, "the browser has not told anything"
    said, seconds = answers[0]["said"], answers[0]["seconds"]
    print(f"{said} {seconds:.1f} s")
    assert "recognised" in said, said
    assert float(said.split()[0]) >= 97.5
    assert seconds <= 60
