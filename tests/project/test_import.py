"""``import xpnet``: quick, and every name is found where an editor looks for it."""

import subprocess
import sys

import pytest

import xpnet


def run(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def test_the_import_loads_nothing_until_a_name_is_asked_for():
    """So that it takes no longer than NumPy's, which it leaves to the first use."""
    code = "import sys, xpnet; print(sorted(n for n in sys.modules if n.partition('.')[0] in ('xpnet', 'numpy')))"
    assert run(code) == "['xpnet']\n"


def test_a_prediction_loads_neither_training_nor_what_looks_inside():
    code = "import sys, xpnet; xpnet.mlp([2, 2]).predict([[0.0, 1.0]]); print(*sys.modules)"
    loaded = set(run(code).split())
    assert "xpnet.network" in loaded
    unused = "training.fit inspection.trace inspection.explain saving.onnx.inference parallel estimators plots"
    assert not loaded & {f"xpnet.{name}" for name in unused.split()}


def test_numpys_namespace_comes_without_another_library():
    assert run("import sys, xpnet; xpnet.mlp([2, 2]); print('numpy.f2py' in sys.modules)") == "False\n"


def test_completion_offers_what_is_public_and_nothing_else():
    assert set(dir(xpnet)) == {*xpnet.__all__, "__version__", "estimators", "plots", "training"}
    for name in dir(xpnet):
        assert getattr(xpnet, name) is not None


def test_completion_in_a_module_offers_what_is_public_too():
    for module in (xpnet.layers, xpnet.losses, xpnet.plots, xpnet.datasets, xpnet.estimators):
        assert dir(module) == sorted(module.__all__)
    assert {"CosineDecay", "WarmUp"} < {*dir(xpnet.schedules)}
    for module in (xpnet.optimizers, xpnet.schedules, xpnet.initializers):
        assert all(getattr(module, name).__doc__ for name in dir(module))


@pytest.mark.parametrize("name", ["plots", "estimators", "training", "layers", "losses"])
def test_modules_are_loaded_when_they_are_asked_for(name):
    assert run(f"import xpnet; print(xpnet.{name}.__name__)") == f"xpnet.{name}\n"


def test_a_name_is_the_object_that_its_module_has():
    assert xpnet.Recorder is sys.modules["xpnet.inspection.recorder"].Recorder
    assert xpnet.Layer is sys.modules["xpnet.layers"].Layer
    assert xpnet.load is sys.modules["xpnet.making"].load


@pytest.mark.parametrize(
    ("name", "cure"),
    [("Dense", "It is called xpnet.Linear here"), ("Linaer", "Did you mean 'Linear'"), ("MLPClassifier", "estimators")],
)
def test_a_name_that_is_not_there_is_answered_with_the_one_that_is(name, cure):
    with pytest.raises(AttributeError, match=cure):
        getattr(xpnet, name)


def test_a_missing_extra_is_named_with_the_command_that_installs_it():
    code = "import sys; sys.modules['sklearn'] = None\nimport xpnet\n"
    code += "try: xpnet.estimators\nexcept ImportError as error: print(error)"
    assert 'pip install "xpnet[sklearn]"' in run(code)
