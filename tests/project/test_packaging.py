"""The wheel: what is in it, and that it works from an empty environment, away from the repository."""

import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest
from packaging.requirements import Requirement

import xpnet

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = (
    "cupy",
    "torch",
    "sklearn",
    "matplotlib",
    "llvmlite",
    "scipy",
    "pandas",
    "onnx",
    "onnxruntime",
    "pytest",
    "hypothesis",
    "array_api_strict",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from a copy, so that the repository stays as it is."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    copytree(ROOT / "xpnet", source / "xpnet", ignore=ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        copy(ROOT / name, source)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(target)!r})"
    done = subprocess.run([sys.executable, "-c", build], capture_output=True, text=True, timeout=120, cwd=source)
    assert done.returncode == 0, done.stderr
    (path,) = target.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """Return the Python of a new environment with the wheel, and with this one's packages on its path."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(place)}))
    with zipfile.ZipFile(wheel) as archive:  # a wheel of pure Python is installed by unpacking it
        archive.extractall(packages)
    here = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    (packages / "dependencies.pth").write_text("\n".join(here))  # without what their .pth files would do
    return place / ("Scripts" if sys.platform == "win32" else "bin") / "python"


def run(python, folder, *arguments):
    done = subprocess.run(
        [python, "-I", "-W", "error", *arguments], capture_output=True, text=True, cwd=folder, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_installs_one_package_and_nothing_else(contents):
    top = {name.split("/")[0] for name in contents}
    assert top == {"xpnet", f"xpnet-{xpnet.__version__}.dist-info"}
    assert not any("test" in name or name.endswith((".pyc", ".ini")) for name in contents)


def test_the_wheel_has_every_source_file(contents):
    ours = {f"xpnet/{path.relative_to(ROOT / 'xpnet').as_posix()}" for path in (ROOT / "xpnet").rglob("*.py")}
    assert sorted(ours - set(contents)) == []
    assert {"xpnet/py.typed"} | ours == {name for name in contents if name.startswith("xpnet/")}


def test_the_wheel_says_what_it_is(wheel, contents):
    assert wheel.name == f"xpnet-{xpnet.__version__}-py3-none-any.whl"
    info = f"xpnet-{xpnet.__version__}.dist-info"
    text = contents[f"{info}/METADATA"].decode()
    assert re.search(r"^License-Expression: BSD-3-Clause$", text, re.MULTILINE)
    assert re.search(r"^Requires-Python: >=3\.11$", text, re.MULTILINE)
    assert f"{info}/licenses/LICENSE" in contents
    assert "# xpnet" in text  # the README


def test_versions_agree():
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert "version" not in PROJECT["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert xpnet.__version__ == metadata.version("xpnet")
    assert f"\nversion: {xpnet.__version__}\n" in citation


def test_requirements():
    """The core needs three packages; CuPy comes as a wheel for a CUDA version, never as a source package."""
    core = {Requirement(line).name for line in PROJECT["project"]["dependencies"]}
    assert core == {"numpy", "array-api-compat", "rich"}
    extras = PROJECT["project"]["optional-dependencies"]
    assert {"cuda12", "cuda13", "torch", "sklearn", "plot", "fast", "all", "test", "dev"} <= set(extras)
    names = {Requirement(line).name for lines in extras.values() for line in lines}
    assert "cupy" not in names
    assert {"cupy-cuda12x", "cupy-cuda13x"} <= names


def test_the_environment_has_the_wheel_and_not_the_repository(python, tmp_path):
    places = run(python, tmp_path, "-c", "import xpnet; print(xpnet.__file__); print(xpnet.backends.__file__)").split()
    for place in places:
        assert Path(place).resolve().is_relative_to(python.parents[1].resolve())
    run(python, tmp_path, "-c", "import importlib.util as u; assert u.find_spec('backends') is None")


def test_the_installed_package_trains_without_any_extra(python, tmp_path):
    code = f"""
import sys
for name in {EXTRAS!r}:
    sys.modules[name] = None
import numpy as np, xpnet
x, t = xpnet.datasets.spirals(samples=120, classes=3, seed=0)
net = xpnet.mlp([2, 16, 3], activation="tanh", dropout=0.1)
net.fit(x, t, epochs=3, verbose=2)
net.save("net.safetensors")
again = xpnet.load("net.safetensors")
assert (again.predict(x) == net.predict(x)).all()
assert xpnet.check_gradients(net, x[:3], t[:3])
print(sorted(set(sys.modules) & {{"cupyx", "cupy_backends", "sklearn.base", "matplotlib.pyplot"}}))
"""
    output = run(python, tmp_path, "-c", code)
    assert output.startswith("epoch 1/3")
    assert output.endswith("[]\n")


def test_the_installed_package_reports(python, tmp_path):
    assert run(python, tmp_path, "-m", "xpnet").startswith(f"xpnet {xpnet.__version__}, Python ")


def test_every_module_can_be_imported(python, tmp_path, contents):
    names = [name[:-3].replace("/", ".").removesuffix(".__init__") for name in contents if name.endswith(".py")]
    names = [name for name in names if not name.startswith(("xpnet.estimators", "xpnet.plots"))]
    names.remove("xpnet.__main__")
    assert len(names) > 40
    run(python, tmp_path, "-c", "import importlib, sys; [importlib.import_module(n) for n in sys.argv[1:]]", *names)
