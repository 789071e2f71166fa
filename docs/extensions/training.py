"""What the page needs that trains in the browser: a step, a network, images, and a program that runs ONNX graphs.

All is made when the pages are: the graphs by xpnet, the images from the repository's MNIST. onnxruntime-web comes from
npm, if npm is there; else the page says what is missing. It is some 14 MB and no part of the repository.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sphinx.util import logging

import xpnet
from xpnet.saving import export_training
from xpnet.typing import HostArray

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

HERE = Path(__file__).resolve().parent.parent
MNIST = HERE.parent / "examples" / "data" / "mnist"

BATCH, EPOCHS, LEVELS = 200, 4, 3
PACKAGE = "onnxruntime-web@1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def make_graphs(folder: Path, samples: int) -> None:
    """Write the step, the network with its parameters as an input, and how to begin."""
    net = xpnet.mlp([784, 128, 10], seed=0, l2=3e-5)
    steps = EPOCHS * (samples // BATCH)
    optimizer = xpnet.Adam(xpnet.schedules.OneCycle(8e-3, steps))
    export_training(net, optimizer, folder / "step.onnx", batch_size=BATCH, steps=steps)
    net.to_onnx(folder / "network.onnx", parameters_as_input=True)
    net.theta.tofile(folder / "theta.float32")
    places = {place.key: [place.start, place.stop] for place in net.layout.places}
    slots = [f"slot.{name}" for name in optimizer.slots]
    about = {"batch": BATCH, "steps": steps, "epochs": EPOCHS, "levels": LEVELS}
    about |= {"places": places, "slots": slots}
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def packed(x: HostArray) -> bytes:
    """Return images in four greys, four pixels a byte."""
    grey = np.round(x.reshape(len(x), -1) * LEVELS).astype(np.uint8)
    return (grey[:, 0::4] | grey[:, 1::4] << 2 | grey[:, 2::4] << 4 | grey[:, 3::4] << 6).tobytes()


def make_images(folder: Path) -> int:
    """Write the images to train on, packed, and copy those for the test, and labels. Return how many there are."""
    (x, _), _ = xpnet.datasets.mnist(MNIST, download=False)
    (folder / "train-images.gz").write_bytes(gzip.compress(packed(x), 9, mtime=0))
    for name in ("train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        shutil.copyfile(MNIST / name, folder / name)
    return len(x)


def runtime(cache: Path) -> Path | None:
    """Return a folder with onnxruntime-web, from npm if it is not there yet; None if it cannot be had."""
    if all((cache / name).exists() for name in RUNTIME):
        return cache
    npm = shutil.which("npm")
    if npm is None:
        return None
    cache.mkdir(parents=True, exist_ok=True)
    command = [npm, "pack", "--silent", "--ignore-scripts", "--fetch-retries=0", PACKAGE]
    done = subprocess.run(command, cwd=cache, capture_output=True, text=True, check=False)
    archives = list(cache.glob("*.tgz"))
    if done.returncode or not archives:
        return None
    content = archives[0].read_bytes()
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != SHA512:
        raise RuntimeError(f"{PACKAGE} from npm is not the package that docs/extensions/training.py names")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for name in RUNTIME:
            member = archive.extractfile(f"package/dist/{name}")
            assert member is not None
            (cache / name).write_bytes(member.read())
    archives[0].unlink()
    return cache


def write(app: Sphinx, exception: Exception | None) -> None:
    """Put everything beside the page's own files."""
    if exception is not None or app.builder.format != "html":
        return
    folder = Path(app.outdir) / "_static" / "training"
    folder.mkdir(parents=True, exist_ok=True)
    make_graphs(folder, make_images(folder))
    found = runtime(HERE / "generated" / "onnxruntime-web")
    if found is None:
        logging.getLogger(__name__).info(
            "npm gave no onnxruntime-web: the page that trains will say that it is missing"
        )
        return
    for name in RUNTIME:
        shutil.copyfile(found / name, folder / name)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Write after the build, which copies static files first."""
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
