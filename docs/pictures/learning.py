"""The picture of the README and the front page: ``python docs/pictures/learning.py`` draws learning.png."""

import io
from pathlib import Path

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot
from PIL import Image

import xpnet
from xpnet import plots

MOMENTS = (0, 2, 8, -1)

x, t = xpnet.datasets.quadrants(4000, seed=0)
net = xpnet.mlp([2, 3, 2], activation="leaky_relu", seed=0)
recorder = xpnet.Recorder(every=25, parameters=True)
net.fit(x, t, optimizer=xpnet.SGD(0.3), epochs=6, callbacks=recorder)

figure, axes = pyplot.subplots(1, len(MOMENTS), figsize=(9.6, 2.7), layout="constrained")
for ax, moment in zip(axes, MOMENTS, strict=True):
    plots.regions(recorder.network(moment), x[:600], t[:600], ax, points=150)
    ax.set(title=f"after {recorder.steps[moment]} steps", xticks=[], yticks=[], xlabel="", ylabel="")
    ax.legend().remove()
drawn = io.BytesIO()
figure.savefig(drawn, dpi=100)
palette = Image.open(drawn).convert("RGB").quantize(64)  # a third of the bytes, and nobody sees it
palette.save(Path(__file__).with_suffix(".png"), optimize=True)
