"""The layers, losses and networks that `xpnet.check_gradients` takes, each set up as a problem to differentiate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from xpnet.backends import Backend
from xpnet.errors import ConfigError, GradientError, ShapeError
from xpnet.gradcheck.problem import Point, Problem
from xpnet.layers import backward_pass, forward_pass
from xpnet.layers.activations import Activation
from xpnet.layers.base import Context, Layer, under
from xpnet.layers.shapes import every_layer
from xpnet.losses import Loss
from xpnet.model.core import Model
from xpnet.model.data import check_numeric, on_host
from xpnet.model.weights import check_sample_weight
from xpnet.typing import HostArray


def title(part: Layer | Loss) -> str:
    """Return what a layer or loss is called in a report."""
    kind = type(part).__name__
    return f"{kind} {part.name!r}" if isinstance(part, Activation) else kind


def to_float(owner: str, name: str, value: Any, backend: Backend, rows: int | None = None) -> HostArray:
    """Return `value` as a float64 array on the host, with so many rows, or if not given with any."""
    if value is None:
        raise ConfigError(f"check_gradients: {owner} needs {name}, an array")
    host = on_host(name, value, backend)
    check_numeric(name, host)
    if host.ndim == 0 or not len(host) or rows not in (None, len(host)):
        wanted = "at least one row" if rows is None else f"{rows} rows, one a sample"
        raise ShapeError(f"check_gradients: {name} of {owner} must have {wanted}, got shape {host.shape}")
    return host.astype(np.float64)


def own_parameters(owner: str, layer: Layer, given: Any, backend: Backend) -> dict[str, HostArray]:
    """Return the parameters that a user passes for a layer, or say what it has."""
    shapes = layer.parameter_shapes()
    if not isinstance(given, Mapping) or given.keys() != shapes.keys():
        got = f"those of {', '.join(map(repr, given)) or 'none'}" if isinstance(given, Mapping) else repr(given)
        raise ConfigError(f"check_gradients: parameters of {owner} must map {', '.join(shapes)} to arrays, got {got}")
    arrays = {name: to_float(owner, name, value, backend) for name, value in given.items()}
    for name, array in arrays.items():
        if array.shape != shapes[name]:
            raise ShapeError(f"check_gradients: {name} of {owner} has shape {shapes[name]}, got {array.shape}")
    return arrays


def call_backward(owner: str, backward: Callable[[], Any], shape: tuple[int, ...], kind: type = object) -> Any:
    """Return the pair that `backward` returns; an exception is an error in the user's derivative."""
    try:
        result = backward()
    except MemoryError:
        raise
    except Exception as error:
        raise GradientError(
            f"{owner}: backward raised {type(error).__name__} for a delta of shape {shape}: {error}. "
            "dx must get the shape of x, and each gradient that of its parameter"
        ) from error
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], kind)):
        what = "(dx, {name: gradient})" if kind is not object else "(value, dy)"
        raise GradientError(f"{owner} must return the pair {what}, got {type(result).__name__}")
    return result


def of_layer(
    layer: Layer, x: Any, parameters: Mapping[str, Any] | None, training: bool, backend: Backend,
    rng: np.random.Generator, owner: str = "", context: Context | None = None,
) -> Problem:  # fmt: skip
    """Set up L = sum(dy * layer(x)) with a random dy; check what the layer promises besides numbers."""
    owner = owner or title(layer)
    if x is None:
        x = rng.normal(0.0, 2.0, (6, *(layer.input_shape or (5,))))
    if parameters is None:
        parameters = {name: p + 0.25 * rng.standard_normal(p.shape) for name, p in layer.init(rng).items()}
    arrays = {"x": to_float(owner, "x", x, backend)} | own_parameters(owner, layer, parameters, backend)
    layer.output_shape(arrays["x"].shape[1:])
    xp = backend.xp
    if context is None:
        state = {name: backend.asarray(s, "float64") for name, s in layer.init_state().items()}
        context = Context(training, 12345, backend.asarray(np.zeros(1, np.uint32)), state)

    def run(point: Point) -> tuple[dict[str, Any], HostArray, Any]:
        """Return the arrays that the layer was given, which it may have changed, its output and its cache."""
        own = {name: backend.asarray(a.copy()) for name, a in point.items()}
        y, cache = layer.forward(xp, {name: own[name] for name in parameters}, own["x"], context)
        return own, np.array(backend.to_numpy(y)), cache

    def evaluate(point: Point) -> HostArray:
        return run(point)[1]

    own, y, cache = run(arrays)
    dy = np.asarray(rng.standard_normal(y.shape))
    findings = differing = _differing(owner, y, evaluate(arrays))
    run({**arrays, "x": arrays["x"][::-1]})  # a layer that remembers its last input now remembers another one
    upstream = backend.asarray(dy.copy())

    def backward(need_dx: bool = True) -> dict[str, HostArray]:
        params = {name: own[name] for name in parameters}
        dx, grads = call_backward(
            owner, lambda: layer.backward(xp, params, cache, upstream, context, need_dx), dy.shape, Mapping
        )
        found = {**grads, "x": dx if need_dx else None}
        return {name: np.array(backend.to_numpy(g)) for name, g in found.items() if g is not None}

    found = backward()
    findings = findings + _changed(owner, {**own, "dy": upstream}, {**arrays, "dy": dy}, backend)
    if not findings:
        findings += _repeated(owner, found, backward(), backward(need_dx=False))
    findings += _unfit(owner, arrays, found, dy)
    gradients = {} if differing else _comparable(arrays, found)
    owners = dict.fromkeys(arrays, owner)
    return Problem(owner, arrays, owners, evaluate, lambda p: [evaluate(p)], dy, gradients, len(dy), None, findings)


def _differing(owner: str, first: HostArray, again: HostArray) -> list[str]:
    """Say whether two forward passes of the same arrays gave two results."""
    if np.array_equal(first, again, equal_nan=True):
        return []
    return [f"{owner}: forward gives another result at the second call with the same arrays: it has no derivative."]


def _changed(owner: str, now: Mapping[str, Any], before: Mapping[str, HostArray], backend: Backend) -> list[str]:
    """Say which arguments are not what they were."""
    return [
        f"{owner}: {name} was changed in place."
        for name, value in now.items()
        if not np.array_equal(backend.to_numpy(value), before[name], equal_nan=True)
    ]


def _unfit(
    owner: str, arrays: Mapping[str, HostArray], found: Mapping[str, HostArray], upstream: HostArray
) -> list[str]:
    """Say which gradients are missing or superfluous, or have another shape or precision than their array."""
    extra = sorted(found.keys() - arrays.keys())
    findings = [f"{owner}: backward returns a gradient for {name!r}, which is no parameter." for name in extra]
    rounding = 1e-10 * max((float(np.abs(g).max(initial=0.0)) for g in found.values()), default=0.0)
    for name, array in arrays.items():
        if name not in found:
            what = "no dx, though need_dx is true" if name == "x" else f"no gradient for the parameter {name!r}"
            findings.append(f"{owner}: backward returns {what}.")
        elif found[name].shape != array.shape:
            findings.append(f"{owner}: d{name} has shape {found[name].shape}, but {name} has shape {array.shape}.")
        elif found[name].dtype != np.float64:
            findings.append(f"{owner}: d{name} is {found[name].dtype}, though every argument is float64.")
        elif _single(found[name], rounding) and not _single(upstream, 0.0):
            findings.append(f"{owner}: every number of d{name} is one of float32: it was cast on the way.")
    return findings


def _single(values: HostArray, rounding: float) -> bool:
    """Say whether all numbers are such as float32 has; random numbers are not, but what is left of a sum may be."""
    values = values[np.abs(values) > rounding]
    with np.errstate(over="ignore"):
        return bool(values.size and np.array_equal(values, values.astype(np.float32)))


def _comparable(arrays: Mapping[str, HostArray], found: Mapping[str, HostArray]) -> dict[str, HostArray]:
    """Return the gradients that have the shape and the type of their arrays."""
    return {
        name: found[name]
        for name, array in arrays.items()
        if name in found and (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
    }


def _repeated(
    owner: str, first: dict[str, HostArray], again: dict[str, HostArray], without_dx: dict[str, HostArray]
) -> list[str]:
    """Say whether a second call with the same cache, or one without dx, gives other gradients."""
    findings = []
    for name, g in first.items():
        if not np.array_equal(g, again.get(name, np.nan), equal_nan=True):
            findings.append(f"{owner}: d{name} is another one at the second call: backward changes its cache.")
        elif name != "x" and not np.array_equal(g, without_dx.get(name, np.nan), equal_nan=True):
            findings.append(f"{owner}: d{name} is another one if need_dx is false.")
    return findings


def of_loss(loss: Loss, y: Any, t: Any, sample_weight: Any, backend: Backend, rng: np.random.Generator) -> Problem:
    """Set up L = loss(y, t) with weights that sum to 1."""
    owner = title(loss)
    host = to_float(owner, "y", y, backend)
    numbers = to_float(owner, "t", t, backend, rows=len(host))
    given = on_host("t", t, backend)
    t = given if given.dtype.kind in "iu" else numbers
    if sample_weight is None:
        raw = rng.uniform(0.5, 1.5, len(host))
    else:
        raw = check_sample_weight(sample_weight, len(host), backend)
    weight, other = raw / raw.sum(), raw * np.arange(1.0, len(raw) + 1.0)
    arrays = {"y": host}

    def run(point: Point, weight: HostArray = weight) -> tuple[dict[str, Any], HostArray, HostArray]:
        """Return the arrays that the loss was given, which it may have changed, its value and its delta."""
        own = {name: backend.asarray(a.copy()) for name, a in {**point, "t": t, "weight": weight}.items()}
        value, dy = call_backward(owner, lambda: loss(backend.xp, *own.values()), host.shape)
        return own, np.array(backend.to_numpy(value)), np.array(backend.to_numpy(dy))

    def evaluate(point: Point) -> HostArray:
        return run(point)[1]

    own, value, dy = run(arrays)
    findings = _differing(owner, value, evaluate(arrays))
    gradients = {} if findings or value.shape else _comparable(arrays, {"y": dy})
    findings = findings + _changed(owner, own, {**arrays, "t": t, "weight": weight}, backend)
    if value.shape:
        findings.append(f"{owner}: the value has shape {value.shape}; it must be one number.")
    findings += _unfit(owner, arrays, {"y": dy}, weight)
    if dy.any() and not np.allclose(other / other.sum(), weight):
        _, moved, turned = run(arrays, other / other.sum())
        if np.array_equal(value, moved) and np.array_equal(dy, turned):
            findings.append(f"{owner}: other weights of the samples give the same value and the same delta.")
    return Problem(
        owner, arrays, {"y": owner}, evaluate, lambda p: [evaluate(p)], np.ones(()), gradients, len(host), weight,
        findings,
    )  # fmt: skip


def of_network(
    network: Model, x: Any, t: Any, sample_weight: Any, training: bool, jitter: float, rng: np.random.Generator
) -> list[Problem]:
    """Set up the objective of a float64 copy of `network`, and then each layer and the loss by itself."""
    if x is None or t is None:
        raise ConfigError("check_gradients: a network needs x and t")
    net, backend = network.copy(), network.backend
    theta = backend.to_numpy(network.theta).astype(np.float64)
    net.dtype = "float64"
    net.theta = backend.asarray(theta + jitter * rng.standard_normal(theta.shape))
    net.state = {name: backend.asarray(backend.to_numpy(s).astype(np.float64)) for name, s in net.state.items()}
    inputs, targets, weight = net.check_batch(x, t, sample_weight)
    xp, step = backend.xp, backend.asarray(np.zeros(1, np.uint32))
    contexts = net.contexts(training, step)
    arrays = {"x": backend.to_numpy(inputs)}
    arrays |= {name: np.array(backend.to_numpy(p)) for name, p in net.parameters.items()}

    def evaluate(point: Point) -> HostArray:
        moved = net.copy()
        moved.set_parameters({name: value for name, value in point.items() if name != "x"})
        scratch = xp.zeros_like(net.theta)
        value, _ = net.objective(
            xp, moved.theta, scratch, backend.asarray(point["x"].copy()), targets, weight, contexts
        )
        host: HostArray = backend.to_numpy(value)
        return host

    def passed(point: Point) -> dict[str, Any]:
        """Return every layer's input and output by names such as "3.0.x" and "3.0.y"."""
        seen: dict[str, Any] = {}

        def watch(place: str, name: str, array: Any) -> None:
            seen[f"{place}.{name}"] = array

        own = {name: backend.asarray(value.copy()) for name, value in point.items()}
        params = [under(str(k), own) for k in range(len(net.layers))]
        forward_pass(xp, net.layers, params, own["x"], net.contexts(training, step, watch=watch))
        return seen

    def inner(point: Point) -> list[HostArray]:
        return [*(backend.to_numpy(a) for name, a in passed(point).items() if name.endswith(".y")), evaluate(point)]

    def context(place: str) -> Context:
        k, _, rest = place.partition(".")
        return contexts[int(k)].child(rest) if rest else contexts[int(k)]

    layers = {item.place: item.layer for item in every_layer(net.layers, net.input_shape)}
    names = {place: f"layer {place} ({title(layer)})" for place, layer in layers.items()}
    with backend.active():
        seen = passed(arrays)
        parts = [
            of_layer(layers[place], backend.to_numpy(seen[f"{place}.x"]), under(place, arrays), training, backend, rng,
                     names[place], context(place))
            for place in (name.removesuffix(".y") for name in seen if name.endswith(".y"))  # what is inside comes first
        ]  # fmt: skip
        y = seen[f"{len(net.layers) - 1}.y"]
        parts.append(of_loss(net.loss, backend.to_numpy(y), backend.to_numpy(targets), backend.to_numpy(weight),
                             backend, rng))  # fmt: skip
        gradients = {}
        if not any(part.findings for part in parts):  # or the pass through the network could not even be made
            params = net.layout.split(xp, net.theta)
            y, caches = forward_pass(xp, net.layers, params, inputs, contexts)
            _, dy = net.loss(xp, y, targets, weight)
            dx, _ = backward_pass(xp, net.layers, params, caches, dy, contexts, last=-1)
            _, grads = net.gradients(x, t, sample_weight, training=training)
            gradients = {"x": backend.to_numpy(dx)} | {name: backend.to_numpy(g) for name, g in grads.items()}
    owners = {name: names[name.rpartition(".")[0] or "0"] for name in arrays}
    target = f"Network of {len(net.layers)} layers with {title(net.loss)}"
    whole = Problem(target, arrays, owners, evaluate, inner, np.ones(()), gradients, inputs.shape[0])
    return [whole, *parts]
