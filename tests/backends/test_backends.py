"""Getting a backend: what works here, and what is said when something is missing. CuPy's faults come from a fake."""

import pickle
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from array_backends import NO_CUPY, NO_TORCH, make
from fake_cupy import CompileException, CUDARuntimeError, DynamicLibNotFoundError, fake_cupy
from numpy.testing import assert_array_equal

import xpnet
from xpnet import backends
from xpnet.backends.cupy import CupyBackend, on_device
from xpnet.backends.numpy import NumpyBackend
from xpnet.errors import BackendMismatchError, BackendUnavailableError, ConfigError
from xpnet.estimators import arrays, solvers

INSTALL = r'Install it: pip install "xpnet\[cuda13\]".* or "xpnet\[cuda12\]"'


@pytest.fixture(autouse=True)
def _no_device_is_known():
    """Where there is a GPU, another test may have asked for it."""
    on_device.cache_clear()
    yield
    on_device.cache_clear()


# ------------------------------------------------------------------------------------------------------ names


def test_numpy_is_always_there():
    backend = backends.get("numpy")
    assert backends.get() == backend
    assert backends.get(backend) is backend
    assert backends.available()["numpy"] is None
    assert list(backends.available()) == list(backends.NAMES) == ["numpy", "cupy", "torch"]
    assert f"NumPy {np.__version__}" in backend.describe()
    assert repr(backend) == "<xpnet backend 'numpy'>"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("numpi", {}, r"unknown backend 'numpi'; backends are numpy, cupy, torch and auto\. Did you mean 'numpy'\?"),
        ("CuPy", {}, r"unknown backend 'CuPy'.*Did you mean 'cupy'\?"),
        ("", {}, r"unknown backend ''"),
        (None, {}, r"backend must be a name or a Backend, got None; names are numpy, cupy"),
        (np, {}, r"backend must be a name or a Backend, got <module 'numpy'"),
        (NumpyBackend, {}, r"backend must be a name or a Backend, got <class"),
        ("cupy:", {}, r"backend 'cupy:' is not understood; write 'cupy:1' or get\('cupy', device=1\)"),
        ("cupy:x", {}, r"backend 'cupy:x' is not understood"),
        ("cupy:-1", {}, r"backend 'cupy:-1' is not understood"),
        ("cupy:²", {}, r"backend 'cupy:²' is not understood"),
        ("cupy:1", {"device": 0}, r"backend 'cupy:1' is not understood"),
        ("cupy", {"device": -1}, r"device must be an integer >= 0, got -1"),
        ("cupy", {"device": "0"}, r"device must be an integer >= 0, got '0'"),
        ("cupy", {"device": True}, r"device must be an integer >= 0, got True"),
        ("numpy", {"device": 0}, r"backend 'numpy' computes on the CPU and takes no device number"),
        ("numpy:0", {}, r"backend 'numpy' computes on the CPU and takes no device number"),
        ("auto:1", {}, r"unknown backend 'auto:1'"),
    ],
)
def test_impossible_backend(name, options, message):
    with pytest.raises(ConfigError, match=message):
        backends.get(name, **options)


@pytest.mark.skipif(NO_CUPY is not None, reason=str(NO_CUPY))
def test_cupy_computes_here():
    backend = backends.get("cupy")
    assert backends.get("auto") == backend
    assert "CUDA" in backend.describe()
    assert_array_equal(backend.to_numpy(backend.asarray(np.arange(3)) + 1), [1, 2, 3])


# ------------------------------------------------------------------------------------------------ CuPy's faults


NO_DRIVER = CUDARuntimeError(
    "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"
)
UNFIT = r"is missing or does not fit the driver "
FAULTS = {
    "no driver": (
        "cupy",
        {"count": NO_DRIVER},
        r"CuPy 14\.2\.0 is installed, but there is no usable NVIDIA driver or GPU \(cudaErrorInsufficientDriver.*"
        r"Install or update the NVIDIA driver",
    ),
    "no GPU": (
        "cupy",
        {"count": CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")},
        r"no usable NVIDIA driver or GPU \(cudaErrorNoDevice",
    ),
    "no such device": (
        "cupy:7",
        {"count": 1},
        r"there is no CUDA device 7; this machine has 1, numbered from 0\. Use backend='cupy'",
    ),
    "no compiler": (
        "cupy",
        {"kernel": DynamicLibNotFoundError('Failure finding "libnvrtc.so.13"')},
        rf"the CUDA compiler library \(NVRTC\) {UNFIT}\(Failure finding \"libnvrtc\.so\.13\"\)\. {INSTALL}",
    ),
    "no headers": (
        "cupy",
        {"kernel": CompileException("cannot open source file")},
        rf"NVRTC.*\(cannot open source file\)\. {INSTALL}",
    ),
    "no products": (
        "cupy",
        {"product": ImportError('Failure finding "libcublasLt.so.13"')},
        rf"the CUDA matrix library \(cuBLAS\) {UNFIT}\(Failure finding \"libcublasLt\.so\.13\"\)\. {INSTALL}",
    ),
    "full": (
        "cupy",
        {"creation": MemoryError("Out of memory allocating 512 bytes")},
        r"Out of memory allocating 512 bytes",
    ),
    "wrong": ("cupy", {"answer": 0.0}, r"device 0 computes 1 \+ 1 = 2\.0, \[1 1\]\.\[1 1\] = 0\.0"),
}


def check_missing(name, message):
    """Check that everything that could ask for CuPy says what is missing, and that nothing falls back silently."""
    for call in (
        lambda: backends.get(name),
        lambda: xpnet.mlp([2, 2], backend=name),
        lambda: xpnet.mlp([2, 2]).to(name),
    ):
        with pytest.raises(BackendUnavailableError, match=message) as caught:
            call()
        assert isinstance(caught.value, ImportError)
        assert "backend 'cupy" in str(caught.value)


@pytest.mark.parametrize(("name", "fault", "message"), FAULTS.values(), ids=FAULTS)
def test_a_missing_part_of_cuda_is_named(monkeypatch, name, fault, message):
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(**fault))
    check_missing(name, message)
    if name == "cupy":
        assert backends.available()["cupy"] is not None
        assert backends.get("auto").name == "numpy"  # which was asked for by this name
        assert "backend 'cupy" in backends.describe()["cupy"]


def test_cupy_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    check_missing("cupy", r"backend 'cupy' needs CuPy, which is not installed\. " + INSTALL)
    assert backends.available() == {"numpy": None, "cupy": backends.describe()["cupy"], "torch": NO_TORCH}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("raise ImportError('libcudart.so.13: cannot open shared object file')", r"libcudart\.so\.13: cannot open"),
        ("import a_dependency_of_cupy", r"No module named 'a_dependency_of_cupy'"),
        (None, r"the package is an empty folder"),
    ],
)
def test_cupy_is_installed_but_broken(monkeypatch, tmp_path, content, reason):
    (tmp_path / "cupy").mkdir()
    if content is not None:
        (tmp_path / "cupy" / "__init__.py").write_text(content)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    # A CuPy that is there would be found behind an empty folder.
    others = [p for p in sys.path if p and not Path(p, "cupy").exists()]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *others])
    message = rf"CuPy is installed but cannot be imported \({reason}.*\)\. Uninstall every cupy package and install one"
    try:
        check_missing("cupy", message)
    finally:
        sys.modules.pop("cupy", None)


def test_a_network_of_another_machine_says_what_is_missing_here(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    net = xpnet.mlp([2, 2])
    elsewhere = types.new_class("Elsewhere", (NumpyBackend,))
    elsewhere.__reduce__ = lambda self: (CupyBackend, (0, False))
    net.backend = elsewhere()
    with pytest.raises(BackendUnavailableError, match=r"needs CuPy, which is not installed"):
        pickle.loads(pickle.dumps(net))


def test_there_is_one_backend_for_a_device_and_options_do_not_change_the_place(monkeypatch):
    def make(self, device=0, tf32=False):
        self.name, self.tf32, self.device = f"cupy:{device}", tf32, types.SimpleNamespace(id=device)

    monkeypatch.setattr(CupyBackend, "__init__", make)
    first, rounded, second = (backends.get(*args, tf32=tf32) for *args, tf32 in (
        ("cupy", False), ("cupy", True), ("cupy", 1, False),
    ))  # fmt: skip
    assert backends.get("cupy:0") is first
    assert pickle.loads(pickle.dumps(rounded)) is rounded
    assert first != rounded  # a network is moved from one to the other
    assert first.same_place(rounded)
    assert not first.same_place(second)
    assert not first.same_place(NumpyBackend())
    monkeypatch.setattr(arrays, "backend_of", lambda a: first)
    arrays.check_same_place(None, rounded, True, "MLPClassifier", "predict")
    assert arrays.choose_backend(rounded, None) is rounded
    state = solvers.SolverState(xpnet.Adam(), xpnet.mlp([2, 2]))
    state.backend, there = first, types.SimpleNamespace(theta=np.zeros(6, np.float32), backend=rounded)
    assert state.fits(there)  # type: ignore[arg-type]
    there.backend = second
    assert not state.fits(there)  # type: ignore[arg-type]
    with pytest.raises(BackendMismatchError, match="X is on cupy:0, but backend='cupy:1'"):
        arrays.choose_backend(second, None)


def test_a_gpu_has_one_address_for_all_processes_whatever_its_number():
    class Second(CupyBackend):
        def __init__(self, number):
            self.name, self.device = f"cupy:{number}", types.SimpleNamespace(id=number, pci_bus_id="0000:3B:00.0")

    assert Second(0).address() == Second(1).address() == "0000:3B:00.0"
    assert NumpyBackend().address() == "numpy"


# ------------------------------------------------------------------------------------------- importing nothing

EXTRAS = [
    "cupy",
    "cupyx",
    "cupy_backends",
    "cuda",
    "sklearn",
    "scipy",
    "matplotlib",
    "pandas",
    "torch",
    "jax",
    "mpi4py",
    "llvmlite",
    "numba",
    "hypothesis",
    "pytest",
    "array_api_strict",
    "autograd",
    "sympy",
    "rich",
    "pooch",
    "requests",
    "safetensors",
]
GUARD = """
import sys
from importlib.machinery import ModuleSpec
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in %r:
            return ModuleSpec(name, self)
    def create_module(self, spec):
        raise AssertionError(f'{spec.name} was imported')
    def exec_module(self, module):
        pass
sys.meta_path.insert(0, Guard())
"""


def run(code):
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_xpnet_imports_no_extra_and_never_cuda():
    assert run(GUARD % EXTRAS + "import xpnet; print(xpnet.mlp([4, 2]).parameter_count)") == "10\n"


def test_training_on_numpy_needs_nothing_but_numpy():
    """The compiler of steps is looked for, not imported, until a training has run for a while."""
    code = "import numpy as np, xpnet; net = xpnet.mlp([4, 3, 2])\n"
    code += "net.fit(np.ones((40, 4), 'f'), np.arange(40) % 2, epochs=2); print(net.predict(np.ones((2, 4))).shape)"
    assert run(GUARD % EXTRAS + code) == "(2,)\n"


def test_torch_is_imported_by_those_alone_who_ask_for_it():
    code = "import xpnet; print(xpnet.mlp([4, 2], backend='auto').to('auto').backend.name != 'torch')"
    assert run(GUARD % ["torch"] + code) == "True\n"


def test_a_missing_extra_is_not_missed_by_the_import():
    code = "import sys\nfor name in %r: sys.modules[name] = None\nimport xpnet, xpnet.__main__; print('ok')"
    assert run(code % [name for name in EXTRAS if name not in ("rich", "safetensors")]) == "ok\n"


def test_moving_to_where_it_is_already_copies():
    for name in ("numpy", "CPU_DEVICE", "device1"):
        net = xpnet.mlp([2, 2], backend=make(name))
        other = net.to(net.backend)
        assert other is not net
        assert other.theta is not net.theta
        assert other._lock is not net._lock
