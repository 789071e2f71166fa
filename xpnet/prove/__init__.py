"""Proofs, on the user's machine, that a backend computes what it should: ``python -m xpnet prove --backend cupy``."""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from xpnet import backends, layers, losses, optimizers
from xpnet.backends.base import Backend
from xpnet.backends.cpu.replay import Replay
from xpnet.backends.numpy import NumpyBackend
from xpnet.backends.tape.record import record
from xpnet.errors import BackendUnavailableError, DTypeError, OutOfMemoryError
from xpnet.making import load
from xpnet.network import Network
from xpnet.prove.cases import FACTORS, LAYERS, LOSSES, OPTIMIZERS, ROWS
from xpnet.training.trainer import Trainer
from xpnet.typing import HostArray

BATCH, STEPS = 8, 35  # an epoch ends with a ragged batch
AGREEMENT = {"float64": 1e-12, "float32": 5e-6}
"""By how much gradients may differ from NumPy's, by the largest number of each array."""
PRODUCTS = {"float64": 1e-13, "float32": 1e-5, "float16": 2e-3}
"""By how much products may differ from NumPy's in float64."""
TOO_MANY = 2**46
"""More numbers than any machine's memory has addresses for."""


@dataclass(frozen=True)
class Outcome:
    """What came of one proof."""

    proof: str
    case: str
    holds: bool
    found: str


def _network(
    layer: layers.Layer, shape: tuple[int, ...], backend: Backend, dtype: str, loss: losses.Loss | str = "huber"
) -> Network:  # fmt: skip
    """Return a network with `layer` between two others."""
    before = [layers.Linear(3, math.prod(shape)), layers.Reshape(shape)]
    after = [layers.Flatten(), layers.Linear(math.prod(layer.output_shape(shape)), 2)]
    return Network([*before, layer, *after], loss, backend, dtype, seed=3)


def _data(net: Network) -> tuple[HostArray, HostArray]:
    """Return inputs, and targets for the network's loss."""
    rng, draw = np.random.default_rng(0), dict(LOSSES).get(net.loss, LOSSES[0][1])
    x, t = rng.normal(size=(ROWS, 3)).astype(net.dtype), draw(rng)
    return x, t if t.dtype.kind == "i" else t.astype(net.dtype)


def _trained(net: Network, optimizer: Any, precision: str | None = None) -> dict[str, HostArray]:
    """Return every array that a training carries on, on the host."""
    trainer = Trainer(net, optimizer, *_data(net), batch_size=BATCH, precision=precision)
    trainer.run(STEPS)
    return {name: net.backend.to_numpy(a) for name, a in trainer.arrays.carried.items()}


def _like(backend: Backend, **instead: Any) -> Any:
    """Return a backend of its own for the same device, some of whose methods are others."""
    own = object.__new__(type(backend))
    vars(own).update(vars(backend) | instead)
    return own


def _both_ways(backend: Backend) -> tuple[Any, Any]:
    """Return backends whose steps are compiled at once, and run as they are written."""

    def unfused(f: Callable[..., Any]) -> Callable[..., Any]:
        return f

    compiled = _like(backend, fuse=unfused)  # CuPy's own fusion of the optimizer rounds otherwise
    if isinstance(backend, NumpyBackend):

        def now(step: Any, arrays: Any, changes: Any) -> Replay:
            tape = record(step, backend.xp, arrays)
            program = Replay(tape, backend.threads)
            program.compile(tape)
            return program

        compiled.compile = now
    written = _like(backend, fuse=unfused)
    written.compile = partial(Backend.compile, written)
    return compiled, written


def _apart(found: Mapping[str, HostArray], expected: Mapping[str, HostArray]) -> float:
    """Return by how much arrays differ, by the largest number of each; infinity where one is not a number.

    An array that is tiny beside the others may be nothing but their rounding, as the gradient of a bias before a
    normalisation is, which would be 0: it counts by a thousandth of the largest number of all.
    """
    sizes = {name: float(np.max(np.abs(value), initial=0.0)) for name, value in expected.items()}
    most, floor = 0.0, 1e-3 * max(sizes.values(), default=0.0)
    for name, value in expected.items():
        scale = max(sizes[name], floor) or 1.0
        apart = float(np.max(np.abs(found[name].astype(np.float64) - value), initial=0.0)) / scale
        most = max(most, apart if math.isfinite(apart) else math.inf)
    return most


def _compiled(
    backend: Backend, layer: layers.Layer, shape: tuple[int, ...], optimizer: Any, dtype: str,
    precision: str | None = None, loss: losses.Loss | str = "huber",
) -> str:  # fmt: skip
    compiled, written = _both_ways(backend)
    found, expected = (
        _trained(_network(layer, shape, on, dtype, loss), optimizer, precision) for on in (compiled, written)
    )
    said = getattr(compiled, "compiled", "")
    if isinstance(backend, NumpyBackend):
        equal = all(np.array_equal(found[name], value, equal_nan=True) for name, value in expected.items())
        assert equal, f"differs from the step as it is written by {_apart(found, expected):.1e}"
        return "equal to the bit"
    # The kernels were compared to the bit when the step was compiled; the products may be added up in another order.
    assert " kernels" in said, said
    assert "not used" not in said, said
    apart = _apart(found, expected)
    bound = 1e-10 if dtype == "float64" else 1e-3 if precision is None else 1e-2
    assert apart < bound, f"differs from the step as it is written by {apart:.1e}"
    return f"within {apart:.1e}; {said}"


def _like_numpy(
    backend: Backend, layer: layers.Layer, shape: tuple[int, ...], dtype: str, loss: losses.Loss | str = "huber"
) -> str:  # fmt: skip
    answers = []
    for on in (backend, backends.get("numpy")):
        net = _network(layer, shape, on, dtype, loss)
        x, t = _data(net)
        value, gradients = net.gradients(x, t, training=True)
        arrays = {name: on.to_numpy(a) for name, a in gradients.items()}
        answers.append(arrays | {"y": on.to_numpy(net.forward(x)), "loss": np.asarray(value)})
    apart = _apart(*answers)
    assert apart <= AGREEMENT[dtype], f"differs from NumPy by {apart:.1e}"
    return f"within {apart:.1e}"


def _products(backend: Backend, dtype: str) -> str:
    """Products of matrices that lie in memory in every way, of single rows and columns, of vectors and stacks."""
    rng, worst = np.random.default_rng(0), 0.0
    for shapes, left, right in product(FACTORS, (False, True), (False, True)):
        a, b = (rng.normal(size=shape).astype(dtype) for shape in shapes)
        with backend.active():
            one, other = _laid_out(backend, a, left), _laid_out(backend, b, right)
            found = backend.to_numpy(backend.xp.matmul(one, other))
        worst = max(worst, _apart({"y": found}, {"y": np.matmul(a.astype(np.float64), b.astype(np.float64))}))
    assert worst <= PRODUCTS[dtype], f"differs from NumPy's float64 by {worst:.1e}"
    return f"within {worst:.1e}"


def _laid_out(backend: Backend, a: HostArray, turned: bool) -> Any:
    """Return an array on the device, row after row, or its matrices column after column."""
    return backend.asarray(np.ascontiguousarray(a.mT)).mT if turned and a.ndim > 1 else backend.asarray(a)


def _half(backend: Backend) -> str:
    one, other = (
        _trained(_network(layers.Tanh(), (4,), on, "float32"), optimizers.SGD(0.1), "float16")
        for on in (backend, backends.get("numpy"))
    )
    apart = _apart({"theta": one["theta"]}, {"theta": other["theta"]})
    assert apart < 1e-2, f"differs from NumPy by {apart:.1e}"
    return f"within {apart:.1e}"


def _file(backend: Backend) -> str:
    net = _network(layers.BatchNorm(3), (3,), backend, "float32")
    _trained(net, optimizers.Adam())
    with tempfile.TemporaryDirectory() as folder:
        net.save(Path(folder, "net.safetensors"))
        read = load(Path(folder, "net.safetensors"), backend="numpy")
    parameters = {name: backend.to_numpy(a) for name, a in net.parameters.items()}
    assert all(np.array_equal(a, parameters[name]) for name, a in read.parameters.items()), "other numbers came back"
    return "equal to the bit"


def _way_back(backend: Backend) -> str:
    """A layer that looks at a value is trained all the same."""
    own = _like(backend)
    looking = layers.Activation(lambda xp, x: x * 2.0 if bool(xp.any(x > 1e6)) else x, lambda xp, x: xp.ones_like(x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = _trained(_network(looking, (3,), own, "float32"), optimizers.SGD(0.1))
    said = getattr(own, "compiled", "")
    expected = _trained(_network(layers.Identity(), (3,), own, "float32"), optimizers.SGD(0.1))
    assert _apart(found, expected) < 1e-3, "the numbers are others"
    return said or "as it is written"


def _computes_in(backend: Backend, dtype: str) -> bool:
    try:
        backend.check_dtype(dtype)
    except DTypeError:  # Apple's GPUs have no float64
        return False
    return True


def _memory(backend: Backend) -> str:
    """A step that needs more memory than there is says so, leaves the network as it was, and the next one works."""
    own = _like(backend)

    def greedy(xp: Any, x: Any) -> Any:
        return x + (xp.broadcast_to(x[:, :1], (x.shape[0], TOO_MANY)) * 2.0)[:, : x.shape[1]]

    net = _network(layers.Activation(greedy, lambda xp, x: xp.ones_like(x)), (3,), own, "float32")
    before = own.to_numpy(net.theta).copy()
    try:
        _trained(net, optimizers.SGD(0.1))
    except OutOfMemoryError as error:
        said = str(error)
    else:
        raise AssertionError("nothing was said")
    assert np.array_equal(own.to_numpy(net.theta), before), "the network is another one"
    assert f"Try batch_size={BATCH // 2}" in said, said
    _trained(_network(layers.ReLU(), (3,), own, "float32"), optimizers.SGD(0.1))
    return said


def proofs(backend: Backend) -> Iterator[tuple[str, str, Callable[[], str]]]:
    """Name all proofs: what is proven, in which case, and the function that returns what was found, or raises."""
    middle, compiles = (layers.ReLU(), (4,)), type(backend).compile is not Backend.compile
    for dtype in (dtype for dtype in AGREEMENT if _computes_in(backend, dtype)):
        if compiles:
            name = f"compiled, {dtype}"
            for layer, shape in LAYERS:
                yield name, str(layer), partial(_compiled, backend, layer, shape, optimizers.SGD(0.05), dtype)
            for optimizer in OPTIMIZERS:
                yield name, str(optimizer), partial(_compiled, backend, *middle, optimizer, dtype)
            for loss, _ in LOSSES:
                yield name, str(loss), partial(_compiled, backend, *middle, optimizers.SGD(0.01), dtype, loss=loss)
        if not isinstance(backend, NumpyBackend):
            for layer, shape in LAYERS:
                yield f"like NumPy, {dtype}", str(layer), partial(_like_numpy, backend, layer, shape, dtype)
            for loss, _ in LOSSES:
                yield f"like NumPy, {dtype}", str(loss), partial(_like_numpy, backend, *middle, dtype, loss)
    if compiles:
        halves = partial(_compiled, backend, *middle, optimizers.Adam(0.01), "float32", "float16")
        yield "half precision", "compiled", halves
    for dtype in (dtype for dtype in PRODUCTS if _computes_in(backend, dtype)):
        yield "products", dtype, partial(_products, backend, dtype)
    if not isinstance(backend, NumpyBackend):
        yield "half precision", "like NumPy", partial(_half, backend)
    yield "files", "read by NumPy", partial(_file, backend)
    yield "way back", "a layer that looks at a value", partial(_way_back, backend)
    yield "memory", "that runs out", partial(_memory, backend)


def prove(backend: Backend) -> list[Outcome]:
    """Try all proofs; none ends the others."""
    outcomes = []
    for proof, case, attempt in proofs(backend):
        try:
            with np.errstate(all="ignore"):
                outcomes.append(Outcome(proof, case, True, attempt()))
        except Exception as error:  # whatever it is, it belongs in the report
            outcomes.append(Outcome(proof, case, False, str(error) or type(error).__name__))
    return outcomes


def main(given: Sequence[str]) -> int:
    """Print a table of all proofs; return 1 if one of them fails, else 0."""
    parser = argparse.ArgumentParser(prog="python -m xpnet prove", description=__doc__)
    parser.add_argument("--backend", default="numpy", help="numpy, cupy, cupy:1, torch, torch:mps, ...")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcomes there, for a bug report")
    options = parser.parse_args(given)
    try:
        backend = backends.get(options.backend)
    except BackendUnavailableError as error:
        print(error)
        return 1
    outcomes = prove(backend)
    for o in outcomes:
        print(f"{'holds' if o.holds else 'FAILS'}  {o.proof:<20} {o.case:<40.40} {o.found}")
    failed = sum(not o.holds for o in outcomes)
    print(f"{len(outcomes) - failed} of {len(outcomes)} hold on {backend.describe()}")
    if options.json is not None:
        facts = {"backend": backend.describe(), "outcomes": [asdict(o) for o in outcomes]}
        options.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return int(failed > 0)
