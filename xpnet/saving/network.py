"""Saving and loading networks: one safetensors file, which cannot run code."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

import xpnet.backends.numpy  # noqa: F401  # now, so that reading a stranger's file imports nothing
from xpnet.backends import Backend
from xpnet.backends import get as get_backend
from xpnet.errors import CheckpointError, warn_user
from xpnet.files.tensors import read_tensors, write_tensors
from xpnet.layers import Layer
from xpnet.layers.base import joined
from xpnet.model import build
from xpnet.model.build import DTYPES
from xpnet.model.core import Model
from xpnet.model.memory import explained
from xpnet.saving.description import Own, describe, own_names
from xpnet.saving.description import build as make
from xpnet.typing import HostArray
from xpnet.validation import check_path

Tensors = dict[str, npt.NDArray[Any]]
Expected = dict[str, tuple[tuple[int, ...], str]]
"""Shape and data type of each tensor by its name."""

AnyModel = TypeVar("AnyModel", bound=Model)

SETTINGS = ("dtype", "seed", "l1", "l2", "penalize_biases")
"""What a network's description holds besides its layers and its loss; and the shape of a sample, if it was given."""

STATE = "state."
"""How the names of the running statistics begin."""

TRAINING = "training."
"""How the names of the tensors begin that belong to a training, not to the network."""


def save(net: Model, path: str | os.PathLike[str], **more: dict[str, Any]) -> None:
    """Write a network to a file: parameters, running statistics, and the description of its layers and loss.

    The file is written whole or not at all, whatever interrupts: see ``xpnet/files/atomic.py``.

    Parameters
    ----------
    net : Model
    path : str or path
        By custom it ends with ``.safetensors``.
    **more
        Descriptions of what the network is a part of, by name.

    Raises
    ------
    CheckpointError
        A layer or loss of one's own holds what a file cannot describe.
    CheckpointIOError
        The system refused to write; an old file is as it was.

    Warns
    -----
    RuntimeWarning
        Some parameters are NaN or infinite. They are saved as they are.
    """
    with explained(net.backend, "saving the network"):
        tensors, description = network_content(net)
        bad = [name for name, value in tensors.items() if not np.isfinite(value).all()]
    if bad:
        warn_user(
            f"{', '.join(bad)} have NaN or infinities and are saved with them; go back to an earlier file, or train "
            "again with a smaller learning rate",
            RuntimeWarning,
        )
    write_tensors(path, tensors, {"network": description} | more)


def read(path: str | os.PathLike[str], backend: str | Backend, classes: Own, kind: type[AnyModel]) -> AnyModel:
    """Return the network of class `kind` that a file holds; see `xpnet.load`."""
    return read_with(path, backend, classes, kind, None)[0]


def read_with(
    path: str | os.PathLike[str], backend: str | Backend, classes: Own, kind: type[AnyModel], also: str | None
) -> tuple[AnyModel, Any]:
    """Return the network that a file holds, and the description of what it is `also`, which must be there."""
    own = own_names(classes)
    device = get_backend(backend)
    where = repr(check_path(path))
    with explained(device, f"loading {where}"):
        tensors, description = read_tensors(path)
        wanted = ("network",) if also is None else ("network", also)
        parts = members(description, where, wanted, ("training", "estimator"))
        if "training" in parts:
            tensors = {name: value for name, value in tensors.items() if not name.startswith(TRAINING)}
        net = _build_network(parts["network"], tensors, where, own, device, kind)
        check_tensors(tensors, network_tensors(net), where)
        net.theta = device.asarray(net.layout.join(tensors, net.dtype))
        net.state = {name: device.asarray(tensors[STATE + name].copy()) for name in build.state(net.layers)}
    return net, None if also is None else parts[also]


def network_content(net: Model) -> tuple[Tensors, dict[str, Any]]:
    """Return a network's tensors, on the host, and its description."""
    to_numpy = net.backend.to_numpy
    tensors = {name: to_numpy(value) for name, value in net.parameters.items()}
    tensors |= {STATE + name: to_numpy(value) for name, value in net.state.items()}
    functions: dict[str, Any] = {}
    description = {
        "layers": describe(list(net.layers), "layers", functions),
        "loss": describe(net.loss, "loss", functions),
        **{name: describe(getattr(net, name), name) for name in SETTINGS},
        **({"input_shape": list(net.given_shape)} if net.given_shape else {}),
        **({} if net.labels is None else {"labels": describe_labels(net.labels)}),
    }
    return tensors, description


def network_tensors(net: Model) -> Expected:
    """Return what `network_content` gives, without the numbers."""
    shapes = {p.key: p.shape for p in net.layout.places}
    shapes |= {STATE + name: value.shape for name, value in build.state(net.layers).items()}
    return {name: (shape, net.dtype) for name, shape in shapes.items()}


def check_tensors(tensors: Mapping[str, Any], expected: Expected, where: str) -> None:
    """Raise the CheckpointError that lists every difference between the tensors and those that should be there."""
    found = []
    for name, (shape, dtype) in expected.items():
        if name not in tensors:
            found.append(f"{name!r} {shape} is missing")
            continue
        tensor = tensors[name]
        if tensor.shape != shape:
            hint = " (transposed?)" if tensor.shape == shape[::-1] else ""
            found.append(f"{name!r} has shape {tensor.shape}, expected {shape}{hint}")
        if tensor.dtype != np.dtype(dtype):
            found.append(f"{name!r} has dtype {tensor.dtype}, expected {dtype}")
        elif name.startswith(STATE):
            found += _impossible(name, tensor)
    found += [f"{name!r:.80} {tensors[name].shape} is not known" for name in tensors if name not in expected]
    if found:
        raise mismatch(where, "the tensors do not fit the layers", found)


def _impossible(name: str, tensor: Any) -> list[str]:
    """Say which number of a running statistic no training leaves behind: with it predictions would be NaN."""
    low = 0.0 if name.endswith(".variance") else -np.inf
    bad = np.argwhere(~(np.isfinite(tensor) & (tensor >= low)))
    wanted = "finite" if low else "finite and not below 0"
    return [f"{name!r}{k.tolist()} is {tensor[tuple(k)]}, it must be {wanted}" for k in bad[:1]]


def mismatch(where: str, what: str, found: list[str]) -> CheckpointError:
    """Return the error that lists what was found, the first twenty."""
    more = f"; and {len(found) - 20} more" if len(found) > 20 else ""
    return CheckpointError(f"{where}: {what}: {'; '.join(found[:20])}{more}")


def members(data: Any, where: str, wanted: tuple[str, ...], allowed: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return `data` if it is a dict with all of the wanted names and no others than the allowed ones."""
    if not isinstance(data, dict) or not set(wanted) <= data.keys() <= {*wanted, *allowed}:
        got = list(data) if isinstance(data, dict) else data
        raise CheckpointError(f"{where}: expected a description with {', '.join(wanted)}, got {got!r:.200}")
    return data


def _build_network(
    data: Any, tensors: Tensors, where: str, own: Mapping[str, Any], backend: Backend, kind: type[AnyModel]
) -> AnyModel:
    parts = members(data, f"{where}, network", ("layers", "loss", *SETTINGS), ("input_shape", "labels"))
    if not isinstance(parts["layers"], list):
        raise CheckpointError(f"{where}: layers must be a list, got {parts['layers']!r:.200}")
    layers = [make(item, f"{where}, layers[{k}]", own, "layer") for k, item in enumerate(parts["layers"])]
    loss = make(parts["loss"], f"{where}, loss", own, "loss")
    if parts["dtype"] not in DTYPES:
        raise CheckpointError(f"{where}: dtype must be one of {', '.join(DTYPES)}, got {parts['dtype']!r:.200}")
    settings = {name: value for name, value in parts.items() if name not in ("layers", "loss", "labels")}
    try:
        _check_declared(layers, tensors, parts["dtype"], where)
        net = kind.without_values(layers, loss, backend, **settings)
        if "labels" in parts:
            net.labels = build_labels(parts["labels"], f"{where}, labels")
        return net
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:
        raise CheckpointError(f"{where}: no network can be made of this description: {error!s:.300}") from error


def describe_labels(labels: HostArray) -> dict[str, Any]:
    """Return labels as a list, with their data type; a CheckpointError if they are neither words nor numbers."""
    values = labels.tolist()
    if labels.dtype.kind not in "biufUO" or not all(isinstance(v, str | int | float) for v in values):
        raise CheckpointError(
            f"the labels are {labels!r:.100}; a file can describe words and numbers only, or net.labels = None"
        )
    return {"dtype": labels.dtype.str, "values": describe(values, "labels")}


def build_labels(data: Any, where: str) -> HostArray:
    """Return the labels that a description stands for; it may come from anybody."""
    parts = members(data, where, ("dtype", "values"))
    dtype, values = parts["dtype"], parts["values"]
    plain = isinstance(values, list) and all(isinstance(v, str | int | float) for v in values)
    if not plain or not isinstance(dtype, str) or dtype[1:2] not in tuple("biufUO"):
        raise CheckpointError(f"{where}: impossible labels {data!r:.200}")
    found = np.asarray(values, dtype="U" if dtype[1] == "U" else dtype)  # as long as the longest, whatever it says
    if found.tolist() != values:
        raise CheckpointError(f"{where}: labels {values!r:.200} are not what {dtype!r:.20} can hold")
    return found


def _check_declared(layers: Sequence[Layer], tensors: Tensors, dtype: str, where: str) -> None:
    """Compare the tensors with the shapes that layers declare, before anything of their size is made.

    A small file that names large layers is refused by its tensors' names. A layer of one's own need not declare any.
    """
    declared = {str(k): layer.parameter_shapes() for k, layer in enumerate(layers) if _declares(layer)}
    expected = {name: (tuple(shape), dtype) for name, shape in joined(declared).items()}
    silent = {"state", *map(str, range(len(layers)))} - declared.keys()
    compared = {name: value for name, value in tensors.items() if name.partition(".")[0] not in silent}
    check_tensors(compared, expected, where)


def _declares(layer: Layer) -> bool:
    """Say whether the shapes of a layer's parameters are known without drawing any."""
    inner = [part for chain in layer.chains.values() for part in chain]
    own = type(layer)
    return all(map(_declares, inner)) and (own.init is Layer.init or own.parameter_shapes is not Layer.parameter_shapes)
