"""Convolutions and pools as sums over indices, in plain loops, without a line of xpnet: what tests compare with.

An image is (B, H, W, C), a signal (B, L, C). A window's first number lies `before` numbers in front of the image.
"""

import itertools
from math import ceil

import numpy as np


def geometry(n, size, stride, padding):
    """Return how many zeros stand in front of n numbers, and how many windows there are."""
    if padding == "same":
        windows = ceil(n / stride)
        zeros = max((windows - 1) * stride + size - n, 0)
        return zeros // 2, windows
    before = 0 if padding == "valid" else padding
    windows = 0
    while windows * stride + size <= n + 2 * before:  # one more fits
        windows += 1
    return before, windows


def axes_of(shape, size, stride, padding):
    """Return `(size, stride, before, windows)` of each axis."""
    count = len(shape) - 1
    each = [v if isinstance(v, tuple) else (v,) * count for v in (size, stride, padding)]
    return [(k, s, *geometry(n, k, s, p)) for n, k, s, p in zip(shape[:-1], *each, strict=True)]


def sights(shape, size, stride, padding="valid"):
    """Yield `(window, place, pixel)`, indices of each, for all that windows see of a sample, in order of places."""
    axes = axes_of(shape, size, stride, padding)
    for window in itertools.product(*(range(windows) for _, _, _, windows in axes)):
        for place in itertools.product(*(range(k) for k, _, _, _ in axes)):
            pixel = tuple(w * s + k - b for w, k, (_, s, b, _) in zip(window, place, axes, strict=True))
            if all(0 <= i < n for i, n in zip(pixel, shape[:-1], strict=True)):
                yield window, place, pixel


def windows_of(shape, size, stride, padding="valid"):
    return tuple(windows for _, _, _, windows in axes_of(shape, size, stride, padding))


def convolve(x, W, b, stride, padding):
    """Return y."""
    y = np.zeros((len(x), *windows_of(x.shape[1:], W.shape[:-2], stride, padding), W.shape[-1]), x.dtype)
    for window, place, pixel in sights(x.shape[1:], W.shape[:-2], stride, padding):
        for n, c, o in np.ndindex(len(x), *W.shape[-2:]):
            y[(n, *window, o)] += x[(n, *pixel, c)] * W[(*place, c, o)]
    return y if b is None else y + b


def convolve_back(x, W, dy, stride, padding):
    """Return dx, dW and db."""
    dx, dW = np.zeros_like(x), np.zeros_like(W)
    for window, place, pixel in sights(x.shape[1:], W.shape[:-2], stride, padding):
        for n, c, o in np.ndindex(len(x), *W.shape[-2:]):
            dx[(n, *pixel, c)] += dy[(n, *window, o)] * W[(*place, c, o)]
            dW[(*place, c, o)] += dy[(n, *window, o)] * x[(n, *pixel, c)]
    return dx, dW, dy.reshape(-1, dy.shape[-1]).sum(axis=0)


def max_pool(x, size, stride):
    """Return y."""
    y = np.full((len(x), *windows_of(x.shape[1:], size, stride), x.shape[-1]), -np.inf)
    for window, _, pixel in sights(x.shape[1:], size, stride):
        y[(slice(None), *window)] = np.maximum(y[(slice(None), *window)], x[(slice(None), *pixel)])
    return y


def max_pool_back(x, dy, size, stride):
    """Return dx; of equal numbers the first gets the delta."""
    dx, best = np.zeros_like(x), {}
    for window, _, pixel in sights(x.shape[1:], size, stride):
        for n, c in np.ndindex(len(x), x.shape[-1]):
            if (n, window, c) not in best or x[(n, *pixel, c)] > x[best[n, window, c]]:
                best[n, window, c] = (n, *pixel, c)
    for (n, window, c), place in best.items():
        dx[place] += dy[(n, *window, c)]
    return dx


def average_pool(x, size, stride):
    """Return y."""
    y = np.zeros((len(x), *windows_of(x.shape[1:], size, stride), x.shape[-1]), x.dtype)
    for window, _, pixel in sights(x.shape[1:], size, stride):
        y[(slice(None), *window)] += x[(slice(None), *pixel)]
    return y / count(x, size)


def average_pool_back(x, dy, size, stride):
    """Return dx."""
    dx = np.zeros_like(x)
    for window, _, pixel in sights(x.shape[1:], size, stride):
        dx[(slice(None), *pixel)] += dy[(slice(None), *window)] / count(x, size)
    return dx


def count(x, size):
    """Return how many numbers a window has."""
    return np.prod(size) if isinstance(size, tuple) else size ** (x.ndim - 2)
