"""Layers of images once more, in plain NumPy for complex numbers: an index says what each place of each window sees.

`np` may be another library of the same functions, which differentiates.
"""

import functools

import loops
import numpy

POOLS = ("MaxPool1D", "MaxPool2D", "AveragePool1D", "AveragePool2D", "GlobalAveragePool1D", "GlobalAveragePool2D")
KINDS = ("Conv1D", "Conv2D", *POOLS, "Flatten", "Reshape")


@functools.lru_cache(maxsize=4096)
def indices(shape, size, stride, padding):
    """Return (M, K): for each window of a sample and each of its places the pixel, or one more where there is none."""
    axes = loops.axes_of(shape, size, stride, padding)
    sizes = [tuple(windows for *_, windows in axes), tuple(k for k, *_ in axes), shape[:-1]]
    found = numpy.full([numpy.prod(sizes[0]), numpy.prod(sizes[1])], numpy.prod(shape[:-1]))
    for window, place, pixel in loops.sights(shape, size, stride, padding):
        at = [numpy.ravel_multi_index(index, many) for index, many in zip((window, place, pixel), sizes, strict=True)]
        found[at[0], at[1]] = at[2]
    return found, sizes[0]


def windows(np, layer, x):
    """Return what the windows of a layer see (B, M, K, C), and how many there are along each axis."""
    size = layer.get("size", 3 if layer["kind"].startswith("Conv") else 2)
    stride = layer.get("stride") or (1 if layer["kind"].startswith("Conv") else size)
    padding = layer.get("padding", "same" if layer["kind"].startswith("Conv") else "valid")
    found, many = indices(x.shape[1:], size, stride, padding)
    B, C = x.shape[0], x.shape[-1]
    pixels = np.concatenate([np.reshape(x, (B, -1, C)), numpy.zeros((B, 1, C))], axis=1)
    return pixels[:, found], many


def largest(P):
    """Return zeros, and a one at the first place of each window where its largest number is."""
    places = numpy.arange(P.shape[2])[:, None]
    return (numpy.argmax(P, axis=2)[:, :, None] == places).astype(float)


def forward(layer, params, x, np=numpy, real=lambda P: P.real):
    """Return the output of a layer of images; `params` are its own."""
    kind = layer["kind"]
    if kind == "Flatten":
        return np.reshape(x, (x.shape[0], -1))
    if kind == "Reshape":
        return np.reshape(x, (x.shape[0], *layer["shape"]))
    if kind.startswith("GlobalAveragePool"):
        return np.mean(np.reshape(x, (x.shape[0], -1, x.shape[-1])), axis=1)
    P, many = windows(np, layer, x)
    if kind.startswith("Conv"):
        W = params["W"]
        y = np.matmul(np.reshape(P, (*P.shape[:2], -1)), np.reshape(W, (-1, W.shape[-1])))
        y = y + params["b"] if "b" in params else y
    elif kind.startswith("MaxPool"):
        y = np.sum(P * largest(real(P)), axis=2)
    else:
        y = np.mean(P, axis=2)
    return np.reshape(y, (x.shape[0], *many, y.shape[-1]))
