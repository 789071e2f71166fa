"""Networks made from a list of sizes, and from files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnet.backends import Backend
from xpnet.keywords import named
from xpnet.layers import Layer
from xpnet.losses import Loss
from xpnet.model.build import mlp_layers
from xpnet.network import Network
from xpnet.saving.description import Own
from xpnet.saving.network import read


@named
def mlp(
    sizes: Sequence[int], activation: str | Layer | Sequence[str | Layer] = "relu", loss: Loss | str = "cross_entropy",
    *, output_activation: str | Layer | None = None, dropout: float = 0.0, bias: bool = True, weight_init: Any = None,
    backend: str | Backend = "numpy", dtype: str = "float32", seed: int | np.random.SeedSequence | None = 0,
    l1: float = 0.0, l2: float = 0.0, penalize_biases: bool = False,
) -> Network:  # fmt: skip
    """Build a multi-layer perceptron: `Linear` layers with an activation after each but the last.

    Parameters
    ----------
    sizes : sequence of int
        Numbers of inputs, hidden units and outputs, e.g. ``[784, 512, 10]``.
    activation : str, Layer, or a sequence of one for each hidden layer
        Names are those of `xpnet.layers.ACTIVATIONS`.
    loss : Loss or str
    output_activation : str or Layer, optional
        After the last layer; none by default, as suits a loss that takes logits, and regression.
    dropout : float
        Rate of a `Dropout` after each hidden activation.
    bias : bool
    weight_init : str or callable, optional
        By default He's normal law before a rectifier-like activation, Glorot's uniform law otherwise.
    backend, dtype, seed, l1, l2, penalize_biases
        As for `Network`.

    Returns
    -------
    Network

    Examples
    --------
    >>> import xpnet
    >>> print(xpnet.mlp([784, 512, 10]))
    layer          output    parameters
    0      Linear  (B, 512)     401,920
    1      ReLU    (B, 512)           0
    2      Linear  (B, 10)        5,130
    CrossEntropy; 407,050 parameters, 1,628,200 bytes in float32, on numpy
    """
    layers = mlp_layers(sizes, activation, output_activation, dropout, bias, weight_init)
    return Network(layers, loss, backend, dtype, seed, l1, l2, penalize_biases)


@named
def load(path: str | os.PathLike[str], backend: str | Backend = "numpy", classes: Own = ()) -> Network:
    """Return the network that a file holds.

    The file may come from anybody, and from any backend. Its names of layers, losses and functions are looked up among
    xpnet's own and those in `classes`, nowhere else.

    Parameters
    ----------
    path : str or path
        What `Network.save`, or a training with checkpoints, wrote.
    backend : str or Backend
        Where the network shall compute; parameters are bit-identical on each.
    classes : sequence of classes and functions, or dict of such by name
        Those of one's own that the network is made of.

    Returns
    -------
    Network

    Raises
    ------
    CheckpointError
        The file is damaged, of a newer format, names an unknown class, or its tensors do not fit its layers; all
        differences are listed.
    CheckpointIOError
        The system refused to read.

    Examples
    --------
    >>> import tempfile, xpnet
    >>> net = xpnet.mlp([4, 3, 2])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     net.save(f"{folder}/net.safetensors")
    ...     again = xpnet.load(f"{folder}/net.safetensors")
    >>> bool((again.theta == net.theta).all())
    True
    """
    return read(path, backend, classes, Network)
