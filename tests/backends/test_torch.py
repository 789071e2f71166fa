"""PyTorch as an array library: what is said when it, or a device, is missing; memory, data types, copies and files."""

import pickle
import sys
import types
from functools import partial

import numpy as np
import pytest
from array_backends import NO_TORCH

import xpnet
from xpnet import backends
from xpnet.backends import torch as ours
from xpnet.errors import (
    BackendUnavailableError,
    CheckpointError,
    ConfigError,
    DTypeError,
    NonFiniteError,
    OutOfMemoryError,
)

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
T = np.arange(40) % 3
needs_torch = pytest.mark.skipif(NO_TORCH is not None, reason=str(NO_TORCH))


def net_of(backend="torch", **options):
    layers = [xpnet.Linear(6, 8), xpnet.BatchNorm(8), xpnet.ReLU(), xpnet.Dropout(0.2), xpnet.Linear(8, 3)]
    return xpnet.Network(layers, "cross_entropy", backend, **options)


def parameters(net):
    return {name: net.backend.to_numpy(a) for name, a in {**net.parameters, **net.state}.items()}


# ----------------------------------------------------------------------------------------------- what is missing


@pytest.mark.parametrize("name", ["torch", "torch:cuda", "torch:cuda:1", "torch:mps", "torch:xpu"])
def test_torch_is_not_installed(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "torch", None)
    ours._probed.cache_clear()
    for call in (partial(backends.get, name), partial(net_of, name), partial(net_of("numpy").to, name)):
        with pytest.raises(
            BackendUnavailableError, match=r'needs PyTorch, .* Install it: pip install "xpnet\[torch\]"'
        ):
            call()
    assert "which is not installed" in backends.available()["torch"]
    assert "which is not installed" in backends.describe()["torch"]


def test_torch_is_installed_but_broken(monkeypatch, tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libtorch.so: cannot open')")
    for name in [name for name in sys.modules if name == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    ours._probed.cache_clear()
    with pytest.raises(BackendUnavailableError, match=r"cannot be imported \(libtorch\.so: cannot open\)\. Uninstall"):
        backends.get("torch")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("torch:", {}, r"backend 'torch:' is not understood; write 'torch', 'torch:cuda', 'torch:cuda:1'"),
        ("torch:gpu", {}, r"backend 'torch:gpu' is not understood"),
        ("torch:cuda:x", {}, r"backend 'torch:cuda:x' is not understood"),
        ("torch:cpu:1", {}, r"backend 'torch:cpu:1' is not understood"),
        ("torch:1", {}, r"backend 'torch:1' is not understood"),
        ("torch", {"device": 1}, r"options of backend 'cupy'; write 'torch:cuda:1'"),
        ("torch:cuda", {"tf32": True}, r"options of backend 'cupy'"),
        ("pytorch", {}, r"unknown backend 'pytorch'.*Did you mean 'torch'\?"),
    ],
)
def test_impossible_names(name, options, message):
    with pytest.raises(ConfigError, match=message):
        backends.get(name, **options)


@pytest.mark.parametrize("error", [AssertionError("not compiled with CUDA enabled"), RuntimeError("No driver\nmore")])
def test_a_missing_device_is_named(error):
    def ones(*shape, **options):
        raise error

    torch = types.SimpleNamespace(ones=ones, __version__="2.13.0", float32=None)
    reason = str(error).partition("\n")[0]
    with pytest.raises(BackendUnavailableError, match=rf"'torch:xpu': PyTorch 2\.13\.0 does not .* \({reason}\)"):
        ours.probe(torch, "xpu")
    torch.ones = lambda *shape, **options: np.ones((2, 2))
    torch.matmul = lambda a, b: np.zeros((2, 2))
    with pytest.raises(BackendUnavailableError, match=r"'torch:cuda:1': the device computes \[1 1\]\.\[1 1\] = 0\.0"):
        ours.probe(torch, "cuda:1")


@needs_torch
def test_torch_computes_here():
    backend = backends.get("torch")
    assert backends.get("torch:cpu") is backend
    assert pickle.loads(pickle.dumps(backend)) is backend
    assert backends.available()["torch"] is None
    assert "PyTorch" in backend.describe()
    assert repr(backend) == "<xpnet backend 'torch'>"
    for kind in ("cuda", "mps", "xpu"):
        if f"torch:{kind}" not in backend.describe():
            with pytest.raises(BackendUnavailableError, match=f"backend 'torch:{kind}': PyTorch"):
                backends.get(f"torch:{kind}")


# ------------------------------------------------------------------------------------------- copies and files


@needs_torch
def test_a_network_goes_to_torch_and_back_equal_to_the_bit(tmp_path):
    net = net_of("numpy")
    net.fit(X, T, epochs=1, verbose=False)
    there = net.to("torch")
    net.save(tmp_path / "numpy.safetensors")
    there.save(tmp_path / "torch.safetensors")
    ways = [
        there, there.copy(), there.to("numpy"), pickle.loads(pickle.dumps(there)),
        xpnet.load(tmp_path / "torch.safetensors"), xpnet.load(tmp_path / "numpy.safetensors", backend="torch"),
    ]  # fmt: skip
    assert [way.backend.name for way in ways] == ["torch", "torch", "numpy", "torch", "numpy", "torch"]
    for way in ways:
        for name, value in parameters(net).items():
            assert np.array_equal(parameters(way)[name], value)
        assert np.allclose(way.predict_proba(X), net.predict_proba(X), atol=1e-6)
    assert there.copy().theta.data_ptr() != there.theta.data_ptr()
    ways[1].theta[...] = 0.0
    assert there.theta.any()


@needs_torch
def test_what_torch_cannot_hold_is_copied(recwarn):
    backend = backends.get("torch")
    frozen = X.copy()
    frozen.flags.writeable = False
    for a in (frozen, X[::-1], np.broadcast_to(X[0], X.shape), X.T, np.float32(3.0), X.astype(">f4").astype("f4")):
        assert np.array_equal(backend.to_numpy(backend.asarray(a)), a)
        assert np.array_equal(backend.to_numpy(backend.borrow(np.asarray(a))), a)
    assert backend.asarray(frozen).data_ptr() != frozen.ctypes.data == backend.borrow(frozen).data_ptr()
    assert backend.asarray(X).data_ptr() == X.ctypes.data
    assert str(backend.asarray(np.uint32([2**32 - 1])).dtype) == "torch.int64"
    assert backend.to_numpy(backend.asarray(X).bfloat16()).dtype == np.float32
    assert [str(warning.message) for warning in recwarn] == []


@needs_torch
def test_trainings_on_torch_are_equal_to_the_bit_and_ask_for_no_gradients_of_torch():
    import torch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", None)
        first, second = net_of(), net_of()
        for net in (first, second):
            net.fit(torch.tensor(X, requires_grad=True), T, epochs=3, verbose=False)
    assert torch.equal(first.theta, second.theta)
    assert not first.forward(torch.tensor(X, requires_grad=True)).requires_grad
    _, gradients = first.gradients(torch.tensor(X, requires_grad=True), T)
    assert not any(g.requires_grad for g in gradients.values())


@needs_torch
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision(precision):
    net = net_of()
    first, *_, last = net.fit(X, T, optimizer=xpnet.Adam(0.01), epochs=30, precision=precision, verbose=False)["loss"]
    assert last < 0.9 * first


@needs_torch
def test_the_programs_own_defaults_of_torch_change_nothing():
    import torch

    usual = net_of()
    usual.fit(X, T, epochs=2, verbose=False)
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        other = net_of()
        other.fit(X, T, epochs=2, verbose=False)
        assert np.array_equal(other.predict_proba(X), usual.predict_proba(X))
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert torch.equal(other.theta, usual.theta)


# ------------------------------------------------------------------------------------------------ what goes wrong


@needs_torch
def test_numbers_that_stop_being_finite_are_found():
    net = net_of()
    with pytest.raises(NonFiniteError, match=r"epoch 1, step \d+: .*of layer \d .* has \d+ NaN and \d+ infinite"):
        net.fit(X, T, optimizer=xpnet.SGD(1e30), epochs=2, verbose=False)
    assert np.isfinite(net.backend.to_numpy(net.theta)).all()


@needs_torch
def test_memory_that_runs_out_is_explained():
    import torch

    def greedy(xp, x):
        return torch.empty(2**44) + x

    layers = [xpnet.Linear(6, 3), xpnet.Activation(greedy, lambda xp, x: xp.ones_like(x))]
    net = xpnet.Network(layers, "cross_entropy", "torch")
    with pytest.raises(OutOfMemoryError, match=r"batch_size=8 ran out of memory on torch: .*70368744177664 bytes"):
        net.fit(X, T, batch_size=8, verbose=False)
    backend = net.backend
    assert backend.out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert backend.out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"))
    assert not backend.out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.fixture
def narrow(monkeypatch):
    """Return PyTorch's CPU as a device without float64, which stands in for Apple's; making one is an error."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class NoFloat64(TorchDispatchMode):
        def __torch_dispatch__(self, function, kinds, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            assert getattr(result, "dtype", None) != torch.float64, function
            return result

    monkeypatch.setattr(ours, "_has_float64", lambda torch, device: False)
    with NoFloat64():
        yield ours.TorchBackend("cpu")


@needs_torch
def test_a_device_without_float64_trains_in_float32(narrow, tmp_path):
    net = net_of(narrow)
    net.fit(X, T, epochs=2, verbose=False, sample_weight=np.ones(40), validation_split=0.2,
            checkpoint=tmp_path / "run", averaging=0.9)  # fmt: skip
    net.evaluate(X, T), net.predict_proba(X), str(net.trace(X, T)), net.gradients(X, T), net.copy()


@needs_torch
def test_a_network_of_float64_is_refused_where_there_is_none(narrow, tmp_path):
    wide = net_of("numpy", dtype="float64")
    wide.save(tmp_path / "net")
    for call in (
        lambda: net_of(narrow, dtype="float64"),
        lambda: wide.to(narrow),
        lambda: xpnet.load(tmp_path / "net", backend=narrow),
        lambda: xpnet.check_gradients(net_of(narrow), X, T),
    ):
        with pytest.raises((DTypeError, CheckpointError), match=r"backend 'torch' has no float64.*dtype='float32'"):
            call()
