"""Bugs that hand-written convolutions and pools have had, and which checks claim to see each of them.

Where the forward and the backward pass are wrong alike, only a value that was computed by other code can tell.
"""

import numpy as np

import xpnet
from xpnet.layers import convolution, patches, pooling, windows

from .planting import EXACT, Bug, after, backward_of

Conv, Patches, Windows = convolution._Convolution, patches.Patches, windows.Windows
TIES = ("ties",)


def weights_turned(honest):
    """The weights are turned round by 180 degrees."""

    def wrong(self, xp, params, *rest, **options):
        W = params["W"]
        return honest(self, xp, {**params, "W": W[(slice(None, None, -1),) * (W.ndim - 2)]}, *rest, **options)

    return wrong


def rows_turned(honest):
    """The i-th row of weights is that of the i-th row of a window from below, in both passes."""
    return lambda self, i, rows: honest(self, self.down.size // self.together - 1 - i, rows)


def zeros_in_front(honest):
    """Of an odd number of zeros the greater half is in front of the image, in both passes."""

    def wrong(inputs, size, stride, padding):
        axis = honest(inputs, size, stride, padding)
        zeros = max((axis.windows - 1) * stride + size - inputs, 0)
        return axis._replace(before=zeros - zeros // 2) if padding == "same" else axis

    return wrong


def strides_exchanged(honest):
    """The stride across is taken for the one down, and the other way round."""
    return lambda owner, shape, size, stride, *rest: honest(owner, shape, size, stride[::-1], *rest)


def sides_exchanged(honest):
    """A convolution takes the rows of a window for its columns, and the other way round."""

    def wrong(windows, channels):
        right = honest(windows, channels)
        down, across = right.down, right.across
        return right._replace(down=down._replace(size=across.size), across=across._replace(size=down.size))

    return wrong


def added(change):
    """Change what `Patches.add` returns; `change` gets the patches and dx."""
    return after(lambda self, dx, args: change(self, np.array(dx)))


def rest_forgotten(self, dx):
    """Only whole steps of the stride get a delta, though the last window reaches further."""
    for axis, n in ((1, self.down), (2, self.across)):
        if n.stride > 1:
            np.moveaxis(dx, axis, 0)[(n.windows - 1) * n.stride + 1 :] = 0.0
    return dx


def overwritten(honest):
    def wrong(self, xp, dP, rows):
        (down, across), dP = self.frame, dP.reshape(self.grid(rows))
        dX = np.zeros((down, rows, across, self.channels))
        for at, seen in self.places():
            dX[seen] = dP[at]
        return patches.rows_first(xp, self.inside(dX))

    return wrong


def bias_of_one_place(layer, dx, grads, cache, dy):
    """The deltas are summed over the samples alone."""
    return dx, {**grads, "b": dy.reshape(len(dy), -1, dy.shape[-1])[:, 0].sum(axis=0)} if layer.bias else grads


def bias_mean(layer, dx, grads, cache, dy):
    places = np.prod(dy.shape[1:-1])
    return dx, {**grads, "b": grads["b"] / places} if layer.bias else grads


def weights_gradient_turned(layer, dx, grads, cache, dy):
    W = grads["W"]
    return dx, {**grads, "W": W[(slice(None, None, -1),) * (W.ndim - 2)]}


def every_maximum(honest):
    def wrong(self, xp, params, cache, dy, *rest, **options):
        (x, y), dx = cache, np.zeros(cache[0].shape)
        for seen in self.windows(x.shape[1:]).places():
            dx[seen] += dy * (x[seen] == y)
        return dx, {}

    return wrong


def last_maximum(honest):
    def wrong(self, xp, params, cache, dy, *rest, **options):
        (x, y), dx, left = cache, np.zeros(cache[0].shape), dy
        for seen in list(self.windows(x.shape[1:]).places())[::-1]:
            dx[seen] += left * (x[seen] == y)
            left = left * (x[seen] != y)
        return dx, {}

    return wrong


def maximum_overwritten(honest):
    def wrong(self, xp, params, cache, dy, *rest, **options):
        (x, y), dx = cache, np.zeros(cache[0].shape)
        for seen in self.windows(x.shape[1:]).places():
            dx[seen] = dy * (x[seen] == y)
        return dx, {}

    return wrong


def average_overwritten(honest):
    def wrong(self, xp, params, cache, dy, *rest, **options):
        places, dx = self.windows(cache[1:]), np.zeros(cache)
        for seen in places.places():
            dx[seen] = dy / places.size
        return dx, {}

    return wrong


BUGS = {
    "kernel flipped in the backward pass": Bug(Conv, "backward", weights_turned),
    "kernel flipped in the forward pass": Bug(Conv, "forward", weights_turned),
    "gradient of the kernel flipped": Bug(Conv, "backward", backward_of(weights_gradient_turned)),
    "rows of the kernel flipped in both passes": Bug(Patches, "part", rows_turned, EXACT),
    "zeros in front of the image for even sizes": Bug(windows.Axis, "of", zeros_in_front, EXACT),
    "strides down and across exchanged": Bug(Windows, "of", strides_exchanged, EXACT),
    "rows and columns of a window exchanged": Bug(Patches, "of", sides_exchanged, EXACT),
    "deltas moved by one column": Bug(Patches, "add", added(lambda self, dx: np.roll(dx, 1, axis=2))),
    "deltas of rows and columns exchanged": Bug(
        Patches, "add", added(lambda self, dx: np.moveaxis(dx, 1, 2).copy().reshape(dx.shape))
    ),
    "rest of a stride forgotten": Bug(Patches, "add", added(rest_forgotten), EXACT),
    "deltas of patches overwritten": Bug(Patches, "add", overwritten),
    "bias of one place": Bug(Conv, "backward", backward_of(bias_of_one_place)),
    "bias a mean over places": Bug(Conv, "backward", backward_of(bias_mean)),
    "average divided by the side of a window": Bug(
        Windows, "size", lambda honest: property(lambda self: self.axes[0].size), EXACT
    ),
    "average not divided on the way back": Bug(
        pooling._AveragePool,
        "backward",
        backward_of(lambda layer, dx, g, shape, dy: (dx * layer.windows(shape[1:]).size, g)),
    ),
    "global average not divided on the way back": Bug(
        pooling._GlobalAveragePool,
        "backward",
        backward_of(lambda layer, dx, g, shape, dy: (dx * np.prod(shape[1:-1]), g)),
    ),
    "averages overwritten": Bug(pooling._AveragePool, "backward", average_overwritten),
    "maxima overwritten": Bug(pooling._MaxPool, "backward", maximum_overwritten),
    "every maximum gets the delta": Bug(pooling._MaxPool, "backward", every_maximum, TIES),
    "the last maximum gets the delta": Bug(pooling._MaxPool, "backward", last_maximum, TIES),
    "columns before rows": Bug(
        xpnet.Flatten,
        "forward",
        after(lambda self, result, args: (np.moveaxis(args[2], 1, -2).reshape(result[0].shape), result[1])),
    ),
}
