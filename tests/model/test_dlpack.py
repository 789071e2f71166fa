"""Arrays of other libraries: taken where they lie, in the same memory, or refused."""

import numpy as np
import pytest
from array_backends import NO_TORCH
from elsewhere import Elsewhere

import xpnet
from xpnet.backends.numpy import NumpyBackend
from xpnet.errors import BackendMismatchError, DTypeError
from xpnet.model.data import check_inputs, check_targets

X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
T = np.arange(40) % 2
BACKENDS = ["numpy", pytest.param("torch", marks=pytest.mark.skipif(NO_TORCH is not None, reason=str(NO_TORCH)))]


def of_torch(a):
    return pytest.importorskip("torch").tensor(a)


def of_jax(a):
    return pytest.importorskip("jax.numpy").asarray(a)


def of_strict(a):
    return pytest.importorskip("array_api_strict").asarray(a)


def address(a):
    if hasattr(a, "data_ptr"):
        return a.data_ptr()
    return a.unsafe_buffer_pointer() if hasattr(a, "unsafe_buffer_pointer") else np.from_dlpack(a).ctypes.data


each_library = pytest.mark.parametrize("of", [of_torch, of_jax, of_strict])
each_backend = pytest.mark.parametrize("backend", BACKENDS)


@each_library
@each_backend
def test_an_array_on_the_networks_device_is_taken_without_a_copy(of, backend):
    net = xpnet.mlp([3, 4, 2], dropout=0.2, backend=backend)
    x, t = of(X), of(T)
    taken = check_inputs(x, (3,), net.backend, "float32")
    assert net.backend.owns(taken)
    assert address(taken) == address(x)
    values = of(X[:, :1].copy())
    assert address(check_targets(values, 40, 1, xpnet.MeanSquaredError(), net.backend, "float32")) == address(values)
    assert net.backend.owns(check_targets(t, 40, 2, net.loss, net.backend, "float32"))


@each_library
@each_backend
def test_everything_takes_such_arrays_and_gives_the_numbers_that_numpys_give(of, backend):
    net, plain = (xpnet.mlp([3, 4, 2], dropout=0.2, backend=backend) for _ in range(2))
    x, t, weight = of(X), of(T), of(np.linspace(1.0, 2.0, 40).astype(np.float32))
    options = {"epochs": 2, "batch_size": 16, "verbose": False}
    net.fit(x, t, sample_weight=weight, validation_data=(x, t), **options)
    plain.fit(X, T, sample_weight=np.linspace(1.0, 2.0, 40).astype(np.float32), validation_data=(X, T), **options)
    there = net.backend.to_numpy
    assert np.array_equal(there(net.theta), there(plain.theta))
    assert np.array_equal(net.predict_proba(x), plain.predict_proba(X))
    assert net.evaluate(x, t, weight) == plain.evaluate(X, T, np.asarray(np.from_dlpack(weight)))
    assert np.array_equal(there(net.gradients(x, t)[1]["0.W"]), there(plain.gradients(X, T)[1]["0.W"]))
    net.set_parameters({"0.b": of(np.ones(4, np.float32))})
    assert (there(net.parameters["0.b"]) == 1.0).all()
    assert np.array_equal(np.from_dlpack(x), X)


@each_backend
def test_parameters_go_out_without_a_copy(backend):
    net = xpnet.mlp([3, 4, 2], backend=backend)
    W = net.parameters["0.W"]
    out = np.from_dlpack(W)
    assert out.ctypes.data == (W.data_ptr() if backend == "torch" else W.ctypes.data)
    assert np.array_equal(out, net.backend.to_numpy(W))
    torch = pytest.importorskip("torch")
    assert torch.from_dlpack(W).data_ptr() == out.ctypes.data


@each_backend
def test_an_array_elsewhere_is_refused_and_the_way_is_named(backend):
    net = xpnet.mlp([3, 2], backend=backend)
    for device, place, other in (
        ((2, 0), "CUDA device 0", "cupy:0"),
        ((8, 0), "Apple's GPU", "torch:mps"),
        ((10, 1), "ROCm device 1", "torch:cuda:1"),
        ((14, 0), "oneAPI device 0", "torch:xpu:0"),
        ((99, 3), "DLPack's device 99:3", "..."),
    ):
        x, t = Elsewhere(X.shape, device), Elsewhere(T.shape, device)
        for name, call in (
            ("x", lambda x=x: net.fit(x, T)),
            ("t", lambda t=t: net.fit(X, t)),
            ("sample_weight", lambda t=t: net.fit(X, T, sample_weight=t)),
            ("x", lambda x=x: net.predict(x)),
            ("t", lambda t=t: net.evaluate(X, t)),
            ("x", lambda x=x: net.gradients(x, T)),
        ):
            message = rf"{name} is a elsewhere\.Elsewhere on {place}, but the network computes with {backend}, .*"
            with pytest.raises(BackendMismatchError, match=message + rf"net\.to\('{other}'\).*pass a NumPy array"):
                call()


def test_an_array_on_the_cpu_is_refused_by_a_network_elsewhere():
    class Gpu(NumpyBackend):
        name = "gpu"

        def dlpack_device(self):
            return 2, 0

    net = xpnet.mlp([3, 2], backend=Gpu())
    with pytest.raises(BackendMismatchError, match=r"on the CPU, but the network .* gpu.*net\.to\('numpy'\)"):
        net.predict(Elsewhere(X.shape, (1, 0)))


def test_pinned_memory_is_the_hosts():
    class Pinned(Elsewhere):
        def __dlpack__(self, **options):
            return X.__dlpack__()

    net = xpnet.mlp([3, 2])
    assert np.array_equal(net.predict(Pinned(X.shape, (3, 0))), net.predict(X))


def test_what_a_library_does_not_hand_on_is_named():
    torch = pytest.importorskip("torch")
    net = xpnet.mlp([3, 2])
    for x, reason in (
        (torch.tensor(X, requires_grad=True), r"torch\.Tensor .* \(Can't export tensors that require gradient"),
        (torch.tensor(X).bfloat16(), "Unsupported dtype"),
    ):
        with pytest.raises(DTypeError, match=rf"x is a .*{reason}"):
            net.predict(x)
    with pytest.raises(DTypeError, match="Complex data not supported"):
        net.predict(torch.tensor(X + 0j))


@each_backend
def test_tensors_without_rows_in_memory_are_named(backend):
    torch = pytest.importorskip("torch")
    net = xpnet.mlp([3, 2], backend=backend)
    for x, reason in ((torch.tensor(X).to_sparse(), "layout"), (torch.tensor(X, device="meta"), "meta")):
        with pytest.raises(DTypeError, match=rf"x is a torch\.Tensor that cannot be taken as it is .*{reason}"):
            net.predict(x)


@each_backend
def test_rows_that_lie_backwards_are_taken(backend):
    net = xpnet.mlp([3, 2], backend=backend)
    assert np.array_equal(net.predict_proba(of_strict(X[::-1])), net.predict_proba(X[::-1].copy()))
