"""Pictures: each is rendered, and its pixels are looked at where the data says what must be there."""

import itertools
import sys

import numpy as np
import pytest
from array_backends import strict_backend
from labels import label

import xpnet

matplotlib = pytest.importorskip("matplotlib", reason="the extra plot is not installed")
matplotlib.use("agg")

from matplotlib import colormaps, pyplot  # noqa: E402
from matplotlib.colors import to_rgb  # noqa: E402

from xpnet import plots  # noqa: E402
from xpnet.inspection.recorder import Recorder  # noqa: E402
from xpnet.plots import style  # noqa: E402
from xpnet.plots.style import COLORS, SEQUENTIAL, SIGNED, signed_limit, thinned, tiles  # noqa: E402

BLUE, VERMILION, GREEN = (np.asarray(to_rgb(color)) for color in COLORS[:3])
X, T = xpnet.datasets.quadrants(400, seed=2)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


class Rendered:
    """The pixels of a figure, as numbers from 0 to 1."""

    def __init__(self, ax):
        ax.figure.set_dpi(100)
        ax.figure.canvas.draw()
        self.ax = ax
        self.pixels = np.asarray(ax.figure.canvas.buffer_rgba())[:, :, :3] / 255

    def at(self, x, y, reach=0):
        """Return the colours of the pixels around a place given in the units of the axes, (N, 3)."""
        column, row = self.ax.transData.transform((x, y))
        row, column = int(len(self.pixels) - row), int(column)
        return self.pixels[row - reach : row + reach + 1, column - reach : column + reach + 1].reshape(-1, 3)

    def has(self, color, x, y, reach=3):
        """Say whether some pixel near the place has the colour."""
        return bool((np.abs(self.at(x, y, reach) - color).max(axis=1) < 0.08).any())

    def ink(self):
        """Return the share of pixels within the axes that are not white."""
        box = self.ax.get_window_extent()
        height = len(self.pixels)
        inside = self.pixels[height - int(box.y1) + 3 : height - int(box.y0) - 3, int(box.x0) + 3 : int(box.x1) - 3]
        return float((inside < 0.9).any(axis=2).mean())


def trained(backend="numpy", **options):
    options = {"epochs": 5, "optimizer": xpnet.SGD(0.3), "verbose": False, "validation_split": 0.2} | options
    net = xpnet.mlp([2, 3, 2], activation="leaky_relu", backend=backend, seed=0)
    return net, net.fit(X, T, **options)


def recorded(parameters=True, **options):
    recorder = Recorder(4, parameters=parameters)
    net, _ = trained(callbacks=recorder, **options)
    return net, recorder


def labels(ax):
    return ax.get_xlabel(), ax.get_ylabel()


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# ------------------------------------------------------------------------------------------- curves


def test_loss():
    _, history = trained()
    ax = plots.loss(history)
    picture = Rendered(ax)
    for k in range(5):
        assert picture.has(BLUE, k + 1, history["loss"][k])
        assert picture.has(VERMILION, k + 1, history["validation_loss"][k])
    assert not picture.has(BLUE, 3, history["loss"][0])
    assert labels(ax) == ("epoch", "loss (mean over the samples)")
    assert legend(ax) == ["training", "validation"]
    assert plots.loss(history, log=True).get_yscale() == "log"
    assert legend(plots.loss(trained(validation_split=0.0)[1])) == ["training"]
    assert plots.loss(trained(epochs=1)[1]).get_xticks().tolist() == [1]


def test_accuracy():
    _, history = trained()
    ax = plots.accuracy(history)
    picture = Rendered(ax)
    assert all(picture.has(BLUE, k + 1, history["validation_accuracy"][k]) for k in range(5))
    assert labels(ax) == ("epoch", "accuracy (share of the samples)")
    with pytest.raises(xpnet.errors.ConfigError, match="no validation_accuracy, only loss, seconds, learning_rate"):
        plots.accuracy(trained(validation_split=0.0)[1])


def test_an_axes_that_is_given_is_drawn_on():
    figure, (left, right) = pyplot.subplots(1, 2)
    _, history = trained()
    assert plots.loss(history, right) is right
    assert not left.lines
    assert len(right.lines) == 2
    assert right.figure is figure


# ---------------------------------------------------------------------------------------- evolution


def test_evolution_of_values():
    _, recorder = recorded()
    ax = plots.evolution(recorder, "0.W")
    picture = Rendered(ax)
    values = recorder.parameters("0.W")
    assert values.shape == (len(recorder.steps), 2, 3)
    for k, color in enumerate(COLORS[:6]):
        i, j = divmod(k, 3)
        place = (recorder.steps[-1], values[-1, i, j])
        assert picture.has(to_rgb(color), *place, reach=8)  # some lines are dashed
    assert legend(ax) == ["0.W[0, 0]", "0.W[0, 1]", "0.W[0, 2]", "0.W[1, 0]", "0.W[1, 1]", "0.W[1, 2]"]
    assert labels(ax) == ("training step", "value of 0.W")
    some = plots.evolution(recorder, "0.W", most=3)
    assert labels(some)[1] == "value of 0.W (3 of 6 entries)"
    assert [line.get_ydata()[-1] for line in some.lines[1:]] == [values[-1].flat[k] for k in (0, 2, 5)]


def test_evolution_of_many_values():
    recorder = Recorder(1, parameters=True)
    net = xpnet.mlp([2, 30, 2])
    net.fit(X, T, epochs=1, batch_size=100, callbacks=recorder, verbose=False)
    ax = plots.evolution(recorder, "0.W")
    assert len(ax.lines) == 1 + 60
    assert ax.get_legend() is None
    values = recorder.parameters("0.W").reshape(5, 60)
    for k, line in enumerate(ax.lines[1:]):
        np.testing.assert_array_equal(line.get_ydata(), values[:, k])
        assert line.get_color() == colormaps["viridis"](0.85 * k / 59)
    assert Rendered(ax).ink() > 0.05
    named = {text.get_text(): text.get_position()[1] for text in ax.texts}
    largest = np.argmax(np.abs(values[-1]))
    assert named[f"[{largest // 30}, {largest % 30}]"] == values[-1, largest]
    assert 1 <= len(named) <= 3
    sizes = sorted(named.values())
    assert all(b - a > 0.05 * np.ptp(ax.get_ylim()) for a, b in itertools.pairwise(sizes))


def test_many_lines_are_dark_enough_to_be_seen_on_white():
    for k in range(60):
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in style.color(k, 60)[:3])
        assert 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05) > 1.6  # contrast as WCAG 2 defines it


def test_evolution_of_statistics():
    _, recorder = recorded(parameters=False)
    ax = plots.evolution(recorder, "0.delta")
    picture, curves, steps = Rendered(ax), recorder["0.delta"], recorder.steps
    for r in (0, 3, -1):
        assert picture.has(BLUE, steps[r], curves.mean[r])
        assert picture.has(1 - 0.25 * (1 - BLUE), steps[r], curves.mean[r] + 0.6 * curves.spread[r])
        assert not picture.has(1 - 0.25 * (1 - BLUE), steps[r], curves.mean[r] + 1.5 * curves.spread[r])
    for line, sign in zip(ax.lines[2:4], (1, -1), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), sign * curves.largest)
        np.testing.assert_array_equal(line.get_xdata(), steps)
    assert legend(ax) == ["mean", "mean ± spread", "± largest"]
    assert labels(ax) == ("training step", "entries of 0.delta")


def test_update_ratios():
    _, recorder = recorded(parameters=False)
    ax = plots.update_ratios(recorder)
    picture = Rendered(ax)
    for name, color in (("0.W", BLUE), ("2.W", VERMILION)):
        assert picture.has(color, recorder.steps[0], recorder.update_ratio(name)[0])
        assert picture.has(color, recorder.steps[-1], recorder.update_ratio(name)[-1])
    assert legend(ax) == ["0.W", "2.W"]
    assert ax.get_yscale() == "log"
    assert labels(ax) == ("training step", "|update| / |W| of one step")


# ----------------------------------------------------------------------------------------- matrices


def signed(value, largest):
    return np.asarray(colormaps[SIGNED](0.5 + 0.5 * value / largest)[:3])


def test_weights():
    net, _ = trained()
    W = net.parameters["0.W"]
    ax = plots.weights(net, "0.W")
    picture = Rendered(ax)
    for (i, j), value in np.ndenumerate(W):
        assert picture.has(signed(value, np.abs(W).max()), j, i, reach=0)
    assert labels(ax) == ("output", "input")
    assert ax.get_title() == "0.W: Linear of layer 0"
    assert [a.get_ylabel() for a in ax.figure.axes[1:]] == ["value of 0.W"]
    bias = plots.weights(net, "2.b")
    assert Rendered(bias).has(signed(net.parameters["2.b"][1], np.abs(net.parameters["2.b"]).max()), 1, 0, reach=0)
    with pytest.raises(xpnet.errors.UnknownNameError, match=r"no parameter is called '0.w'; names are 0.W"):
        plots.weights(net, "0.w")


def test_a_matrix_of_zeros_has_the_middle_colour():
    net = xpnet.mlp([2, 3])
    net.set_parameters({"0.W": np.zeros((2, 3))})
    assert Rendered(plots.weights(net)).has(colormaps[SIGNED](0.5)[:3], 1, 1, reach=0)


def test_tiles():
    images = np.arange(1, 11).reshape(5, 1, 2)
    expected = [[1, 2, 0, 3, 4, 0, 5, 6], [0] * 8, [7, 8, 0, 9, 10, 0, 0, 0]]
    np.testing.assert_array_equal(np.nan_to_num(tiles(images)), expected)
    assert tiles(np.ones((1, 3, 4)), gap=2).shape == (3, 4)


def test_a_few_large_weights_leave_the_others_their_colours():
    net = xpnet.mlp([400, 2])
    W = np.full((400, 2), 0.1)
    W[3, 0] = 50.0
    net.set_parameters({"0.W": W})
    picture = Rendered(plots.weight_images(net, (20, 20)))
    assert picture.has(colormaps[SIGNED](1.0)[:3], 10, 10, reach=0)
    assert signed_limit(np.arange(11.0)) == {"vmin": -10.0, "vmax": 10.0}
    assert signed_limit(np.arange(11.0), 0.5) == {"vmin": -5.0, "vmax": 5.0}
    assert signed_limit(np.zeros(3)) == signed_limit(np.full(3, np.nan)) == {"vmin": -1.0, "vmax": 1.0}


def test_weight_images():
    net = xpnet.mlp([6, 5, 2])
    W = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    net.set_parameters({"0.W": W})
    ax = plots.weight_images(net, (2, 3), count=4)
    picture, largest = Rendered(ax), np.abs(W[:, :4]).max()
    for unit, (top, left) in enumerate([(0, 0), (0, 4), (3, 0), (3, 4)]):
        for (i, j), value in np.ndenumerate(W[:, unit].reshape(2, 3)):
            assert picture.has(signed(value, largest), left + j, top + i, reach=0)
    assert picture.has((1, 1, 1), 3, 0, reach=0)
    assert ax.get_title() == "weights of units 0 to 3 of 5, as images of the input"
    with pytest.raises(xpnet.errors.ShapeError, match=r"0.W has shape \(6, 5\); images of \(2, 4\) need 8 inputs"):
        plots.weight_images(net, (2, 4))


# ------------------------------------------------------------------------------------------- images


IMAGES = np.random.default_rng(3).normal(size=(3, 4, 5, 2)).astype(np.float32)


def seeing_network(backend="numpy"):
    """Return a network of images of two channels with a convolution inside of layer 1."""
    block = xpnet.Residual([xpnet.Conv2D(5, 5, size=(3, 2)), xpnet.ReLU()])
    layers = [xpnet.Conv2D(2, 5), block, xpnet.ReLU(), xpnet.Flatten(), xpnet.Linear(100, 3)]
    return xpnet.Network(layers, "cross_entropy", backend, input_shape=(4, 5, 2))


def test_filters():
    net = seeing_network()
    for name, channel in (("0.W", 1), ("1.0.W", 3)):
        W = net.parameters[name]
        ax = plots.filters(net, name, channel=channel, count=4)
        picture, largest = Rendered(ax), np.abs(W[:, :, channel, :4]).max()
        height, width = W.shape[:2]
        for k in range(4):
            for (i, j), value in np.ndenumerate(W[:, :, channel, k]):
                place = (k % 2 * (width + 1) + j, k // 2 * (height + 1) + i)
                assert picture.has(signed(value, largest), *place, reach=0)
        assert ax.get_title() == f"filters 0 to 3 of 5, channel {channel} of {W.shape[2]}"
    with pytest.raises(xpnet.errors.ShapeError, match=r"4.W has shape \(100, 3\); the weights of a Conv2D"):
        plots.filters(net, "4.W")
    with pytest.raises(xpnet.errors.ConfigError, match="channel must be from 0 to 1, got 2"):
        plots.filters(net, "0.W", channel=2)


def test_feature_maps():
    net = seeing_network()
    maps = net.trace(IMAGES, [0, 1, 2])[0].y[1]
    ax = plots.feature_maps(net, IMAGES[1], "0", count=4)
    picture, largest = Rendered(ax), np.abs(maps[:, :, :4]).max()
    for k in range(4):
        for (i, j), value in np.ndenumerate(maps[:, :, k]):
            assert picture.has(signed(value, largest), k % 2 * 6 + j, k // 2 * 5 + i, reach=0)
    assert ax.get_title() == "channels 0 to 3 of 5 of layer 0"
    positive = plots.feature_maps(net, IMAGES[1], "1.1")  # after a ReLU, inside
    assert positive.images[0].get_cmap().name == SEQUENTIAL
    with pytest.raises(xpnet.errors.ShapeError, match=r"layer 3 gives \(100,\) for a sample"):
        plots.feature_maps(net, IMAGES[1], "3")
    with pytest.raises(xpnet.errors.ConfigError, match=r"no layer has the place '1\.2'\. Did you mean"):
        plots.feature_maps(net, IMAGES[1], "1.2")


def test_pixels():
    layers = [xpnet.Reshape((2, 3, 1)), xpnet.Conv2D(1, 2), xpnet.Tanh(), xpnet.Flatten(), xpnet.Linear(12, 3)]
    net = xpnet.Network(layers, "cross_entropy", input_shape=(6,))
    x = np.arange(12, dtype=np.float32).reshape(2, 6) / 11
    slopes = net.input_gradients(x, output=2).reshape(2, 2, 3)
    ax = plots.pixels(net, x, 2, (2, 3))
    picture, largest = Rendered(ax), np.abs(slopes).max()
    for b in range(2):
        for (i, j), value in np.ndenumerate(slopes[b]):
            assert picture.has(signed(value, largest), b * 4 + j + 0.5, 3 + i + 0.5, reach=0)
            assert picture.has((1 - x[b, 3 * i + j],) * 3, b * 4 + j + 0.5, i + 0.5, reach=0)
    with pytest.raises(xpnet.errors.ShapeError, match=r"x has shape \(2, 6\), expected \(2, 8\)"):
        plots.pixels(net, x, 2, (2, 4))


# --------------------------------------------------------------------------------------------- flow


def test_delta_flow():
    net = xpnet.mlp([2, 20, 20, 2], activation="sigmoid")
    trace = net.trace(X, T)
    ax = plots.delta_flow(trace)
    picture = Rendered(ax)
    for k, numbers in enumerate(trace.statistics):
        assert picture.has(BLUE, k, numbers["delta"].rms)
        assert picture.has(VERMILION, k, numbers["delta"].largest)
    assert [text.get_text() for text in ax.get_xticklabels()] == [item.name for item in trace]
    assert ax.get_ylabel() == "size of delta = dL/dy"
    many = xpnet.mlp([2, *[4] * 30, 2]).trace(X, T)
    shown = [text.get_text() for text in plots.delta_flow(many).get_xticklabels()]
    assert [text for text in shown if text] == [item.name for item in many][::4]
    assert thinned(list("abcdef"), 3) == ["a", "", "c", "", "e", ""]
    net.set_parameters({"4.W": np.zeros((20, 2))})
    Rendered(plots.delta_flow(net.trace(X, T)))  # deltas of zero have no place on a logarithmic scale


def test_delta_history():
    _, recorder = recorded(parameters=False)
    ax = plots.delta_history(recorder)
    picture, steps = Rendered(ax), recorder.steps
    powers = np.log10([recorder[f"{k}.delta"].rms for k in range(3)])
    shades = (powers - powers.min()) / (powers.max() - powers.min())
    for k in range(3):
        for r in range(1, len(steps) - 1):
            assert picture.has(colormaps[SEQUENTIAL](shades[k, r])[:3], steps[r], k + 0.5, reach=0)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0 Linear", "1 LeakyReLU", "2 Linear"]
    assert labels(ax) == ("training step", "layer")
    assert [a.get_ylabel() for a in ax.figure.axes[1:]] == ["typical size of delta = dL/dy (rms)"]
    assert ax.figure.axes[1].get_yscale() == "log"
    once = Recorder(1000)
    trained(callbacks=once)
    assert Rendered(plots.delta_history(once)).ink() > 0.9


# ------------------------------------------------------------------------------------------ regions


def plane(loss="cross_entropy", scale=5.0):
    """Return a network that says class 1, or a large value, where input 0 is positive."""
    net = xpnet.mlp([2, 2 if loss == "cross_entropy" else 1], loss=loss)
    W = [[-scale, scale], [0.0, 0.0]] if loss == "cross_entropy" else [[scale], [0.0]]
    net.set_parameters({"0.W": W, "0.b": np.zeros(len(W[0]))})
    return net


def test_up_is_up():
    net = plane()
    net.set_parameters({"0.W": [[0.0, 0.0], [-5.0, 5.0]]})
    picture = Rendered(plots.regions(net, X))
    assert picture.has(1 - 0.65 * (1 - VERMILION), 0.5, 1.5, reach=0)
    assert picture.has(1 - 0.65 * (1 - BLUE), 0.5, -1.5, reach=0)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_regions_of_classes(loss):
    ax = plots.regions(plane(loss), X, (X[:, 0] > 0).astype(int), points=40)
    picture = Rendered(ax)
    points = np.stack(np.meshgrid(np.linspace(-2, 2, 9), np.linspace(-2, 2, 9)), axis=-1).reshape(-1, 2)
    free = [p for p in points if np.abs(X[:40] - p).max(axis=1).min() > 0.2 and not (p[0] > 0.8 and p[1] > 1.2)]
    assert len(free) > 20
    for x, y in free:
        if abs(x) > 0.7:
            assert picture.has(1 - 0.65 * (1 - (VERMILION if x > 0 else BLUE)), x, y, reach=0)
        elif x == 0:
            assert picture.at(x, y).min() > 0.7  # unsure: pale
    for x, y in X[:10]:
        assert picture.has(VERMILION if x > 0 else BLUE, x, y, reach=1)
    assert legend(ax) == ["class 0", "class 1"]
    assert labels(ax) == ("input 0", "input 1")
    assert len(ax.collections) == 2
    assert sum(len(c.get_offsets()) for c in ax.collections) == 40


def test_regions_of_values():
    net = plane("mean_squared_error", 1.0)
    ax = plots.regions(net, X, X[:, :1], points=3)
    picture, image = Rendered(ax), ax.images[0]
    for x in (-2.0, -1.0, 0.0, 1.5):
        assert picture.has(colormaps[SEQUENTIAL](float(image.norm(x)))[:3], x, -2.15, reach=0)
    assert [a.get_ylabel() for a in ax.figure.axes[1:]] == ["output of the network"]
    assert not plots.regions(net, X).collections


def test_regions_need_two_inputs():
    with pytest.raises(xpnet.errors.ShapeError, match=r"2 inputs, got one with samples of shape \(3,\)"):
        plots.regions(xpnet.mlp([3, 2]), X)


def test_animation(tmp_path):
    from PIL import Image

    recorder = Recorder(50, parameters=True)
    net, _ = trained(callbacks=recorder, epochs=20)
    before = net.theta.copy()
    animation = plots.animate_regions(recorder, X, T, size=40, interval=50)
    path = tmp_path / "learning.gif"
    animation.save(path, writer="pillow", dpi=50)
    with Image.open(path) as film:
        assert film.n_frames == len(recorder.steps) == 5
        film.seek(0)
        first = np.asarray(film.convert("RGB"), dtype=float)
        film.seek(4)
        last = np.asarray(film.convert("RGB"), dtype=float)
    assert np.mean(np.abs(first - last) > 40) > 0.1  # what it has learned is seen
    np.testing.assert_array_equal(net.theta, before)


def test_each_frame_is_the_network_of_its_record():
    _, recorder = recorded(epochs=20)
    animation = plots.animate_regions(recorder, X, T, size=40)
    ax = animation._fig.axes[0]
    for record in (0, 7, 50):
        animation._func(record)
        assert ax.get_title() == f"after {recorder.steps[record]:,} training steps"
        expected = plots.regions(recorder.network(record), X, size=40).images[0].get_array()
        np.testing.assert_array_equal(ax.images[0].get_array(), expected)
    animation._init_draw()  # matplotlib warns of animations that nobody has looked at
    animation._draw_was_started = True


# ---------------------------------------------------------------------------------------- confusion


def test_confusion():
    truth = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 2])
    guess = np.array([0, 0, 0, 1, 1, 1, 2, 0, 0, 1])
    ax = plots.confusion(truth, guess, classes=["a", "b", "c"])
    picture = Rendered(ax)
    shares = [[0.75, 0.25, 0.0], [0.0, 1.0, 0.0], [0.5, 0.25, 0.25]]
    for (row, column), share in np.ndenumerate(shares):
        assert picture.has(colormaps[SEQUENTIAL](share)[:3], column + 0.3, row + 0.3, reach=0)
    numbers = {(text.get_position()): text.get_text() for text in ax.texts}
    assert numbers[0, 0] == "3"
    assert numbers[1, 0] == "1"
    assert numbers[0, 2] == "2"
    assert labels(ax) == ("predicted class", "true class")
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "b", "c"]
    assert ax.get_title() == "6 of 10 are right (60.00%)"
    for wrong, error in (
        ((truth, guess[:3]), "ShapeError"),
        ((truth, guess - 1), "DataError"),
        ((truth / 1, guess), "DataError"),
    ):
        with pytest.raises(getattr(xpnet.errors, error), match="t and predicted must be"):
            plots.confusion(*wrong)


def test_errors():
    images = np.zeros((6, 12))
    images[[1, 3, 4], [0, 5, 11]] = 1.0  # one black pixel each
    ax = plots.errors(images, np.arange(6) % 3, np.array([0, 2, 2, 1, 0, 2]), (3, 4))
    picture = Rendered(ax)
    # Samples 1, 3 and 4 are wrong, side by side in two columns of width 4 + 2.
    for k, pixel in enumerate([0, 5, 11]):
        top, left = k // 2 * 5, k % 2 * 6
        i, j = divmod(pixel, 4)
        assert picture.has((0, 0, 0), left + j + 0.5, top + i + 0.5, reach=0)
        assert picture.has((1, 1, 1), left + (j + 1) % 4 + 0.5, top + (i + 1) % 3 + 0.5, reach=0)
    assert [text.get_text() for text in ax.texts] == ["1→2", "0→1", "1→0"]
    assert ax.get_title() == "3 of 3 errors in 6 samples: true→predicted class"
    assert len(plots.errors(images, np.zeros(6, int), np.ones(6, int), (3, 4), count=2).texts) == 2
    assert plots.errors(images, np.zeros(6, int), np.zeros(6, int), (3, 4)).get_title().startswith("0 of 0 errors in 6")
    with pytest.raises(xpnet.errors.ShapeError, match=r"x has shape \(6, 12\), expected \(6, 16\)"):
        plots.errors(images, np.zeros(6, int), np.ones(6, int), (4, 4))


# -------------------------------------------------------------------------------------- activations


@pytest.mark.parametrize(("layer", "f", "df"), [
    (xpnet.Tanh(), np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    (xpnet.ReLU(), lambda x: max(x, 0.0), lambda x: float(x > 0)),
    (xpnet.Activation(lambda xp, x: x * x, lambda xp, x: 2.0 * x, name="square"), lambda x: x * x, lambda x: 2 * x),
], ids=["tanh", "relu", "square"])  # fmt: skip
def test_activation(layer, f, df):
    ax = plots.activation(layer, low=-3.0, high=2.0)
    picture = Rendered(ax)
    for x in (-2.5, -1.3, 0.4, 1.7):
        assert picture.has(BLUE, x, f(x), reach=8)  # the dashes of the derivative may cover it
    x, y = ax.lines[3].get_data()
    np.testing.assert_allclose(y, [df(value) for value in x], atol=1e-12)
    assert picture.has(VERMILION, -2.9, df(-2.9), reach=8)
    assert legend(ax) == [f"{getattr(layer, 'name', type(layer).__name__)}: y = f(x)", "derivative f'(x)"]


@pytest.mark.parametrize("layer", [xpnet.Softmax(), xpnet.Dropout(0.5), xpnet.Linear(1, 1)], ids=label)
def test_what_is_no_activation_is_refused(layer):
    with pytest.raises(xpnet.errors.ConfigError, match="act on each number alone, got"):
        plots.activation(layer)


# ---------------------------------------------------------------------------------------- all of them


def every_picture(backend="numpy"):
    net, recorder = recorded(backend=backend)
    _, history = trained(backend)
    images = np.random.default_rng(3).uniform(size=(len(T), 4))
    seeing = seeing_network(backend)
    return {
        "loss": plots.loss(history),
        "accuracy": plots.accuracy(history),
        "evolution": plots.evolution(recorder, "0.W"),
        "update_ratios": plots.update_ratios(recorder),
        "weights": plots.weights(net),
        "weight_images": plots.weight_images(net, (1, 2)),
        "filters": plots.filters(seeing, "0.W", channel=1),
        "feature_maps": plots.feature_maps(seeing, IMAGES[0], "1"),
        "pixels": plots.pixels(net, X[:2], 1, (1, 2)),
        "delta_flow": plots.delta_flow(net.trace(X, T)),
        "delta_history": plots.delta_history(recorder),
        "regions": plots.regions(net, X, T),
        "confusion": plots.confusion(T, net.predict(X)),
        "errors": plots.errors(images, T, 1 - T, (2, 2)),
        "activation": plots.activation(xpnet.GELU()),
    }


def test_no_picture_is_blank():
    shown = every_picture()
    assert {*shown, "animate_regions"} == set(plots.__all__)
    for name, ax in shown.items():
        assert Rendered(ax).ink() > 0.005, name
        assert ax.get_xlabel() or name in ("weight_images", "errors", "filters", "feature_maps", "pixels"), name


def test_a_network_on_a_device_gives_the_same_pictures():
    """The device refuses silent moves to the host, as a GPU does."""
    here = {name: Rendered(ax).pixels for name, ax in every_picture().items()}
    pyplot.close("all")
    for name, ax in every_picture(strict_backend("device1")).items():
        different = np.abs(Rendered(ax).pixels - here[name]).max(axis=2) > 0.1
        assert different.mean() < 0.002, name  # the last bits of the numbers differ
    _, recorder = recorded(backend=strict_backend("device1"))
    animation = plots.animate_regions(recorder, X, T, size=20)
    animation._func(3)
    expected = plots.regions(recorder.network(3), X, size=20).images[0].get_array()
    np.testing.assert_array_equal(animation._fig.axes[0].images[0].get_array(), expected)
    animation._init_draw()  # matplotlib warns of animations that nobody has looked at
    animation._draw_was_started = True


def test_a_blank_picture_has_no_ink():
    assert Rendered(pyplot.subplots()[1]).ink() < 0.001


def difference(a, b):
    """Return how far apart two colours look, the Euclidean distance in CIE L*a*b*."""

    def lab(color):
        linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
        xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
        f = np.where(xyz > 0.008856, np.cbrt(xyz / [0.9505, 1.0, 1.089]), 7.787 * xyz / [0.9505, 1.0, 1.089] + 16 / 116)
        return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])

    return float(np.linalg.norm(lab(a) - lab(b)))


# Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color vision deficiency", IEEE
# Transactions on Visualization and Computer Graphics 15 (2009): the matrices of severity 1, on linear values.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize("kind", DEFICIENCIES)
def test_colours_can_be_told_apart(kind):
    colors = [np.clip(np.asarray(DEFICIENCIES[kind]) @ to_rgb(color), 0, 1) for color in COLORS]
    for k, one in enumerate(colors):
        for other in colors[:k]:
            assert difference(one, other) > 10, (kind, COLORS[k])


def test_the_library_does_not_import_matplotlib(tmp_path):
    import subprocess

    program = "import sys, xpnet, xpnet.plots; assert 'matplotlib' not in sys.modules, 'imported too early'"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    _, history = trained()
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(xpnet.errors.BackendUnavailableError, match=r'pip install "xpnet\[plot\]"'):
        plots.loss(history)
