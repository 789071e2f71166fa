"""The reference: complete, with examples that run, and with what is returned."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re

import pytest
from documents import NAMES

import xpnet
import xpnet.estimators
import xpnet.plots


def modules() -> list[str]:
    """Return the names of all modules of xpnet."""
    names = {name for _, name, _ in pkgutil.walk_packages(xpnet.__path__, "xpnet.")}
    return ["xpnet", *sorted(names - {"xpnet.__main__"})]


def test_examples_in_docstrings() -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="the extra plot is not installed")
    pyplot.switch_backend("agg")
    attempted = 0
    for name in modules():
        result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
        pyplot.close("all")
        assert result.failed == 0, name
        attempted += result.attempted
    assert attempted > 250


def documented() -> set[str]:
    """Return every name that the reference describes."""
    found = set()
    for page, text in NAMES.items():
        if page.startswith("api/"):
            for kind, target, options in re.findall(
                r"(?m)^\.\. auto(class|function|module):: (\S+)\n((?:   :.*\n)*)", text
            ):
                found.add(target)
                members = re.search(r":members:(.*)", options)
                if kind == "module" and members:
                    module = importlib.import_module(target)
                    listed = [name.strip() for name in members[1].split(",") if name.strip()]
                    left_out = re.search(r":exclude-members:(.*)", options)
                    own = [name for name, value in vars(module).items() if is_own(module, value)]
                    listed = listed or [name for name in own if not (left_out and name in left_out[1])]
                    found |= {f"{target}.{name}" for name in listed}
                elif members:
                    found |= {f"{target}.{name.strip()}" for name in members[1].split(",") if name.strip()}
    return found


def is_own(module: object, value: object) -> bool:
    return (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == module.__name__


def test_the_reference_names_what_exists() -> None:
    names = documented()
    assert len(names) > 120
    for name in names:
        pkgutil.resolve_name(name)


def test_the_reference_has_every_public_name() -> None:
    names = documented()
    wanted = {f"xpnet.{name}" for name in xpnet.__all__ if name != "XpnetError"} | {"xpnet.errors.XpnetError"}
    wanted |= {f"xpnet.plots.{name}" for name in xpnet.plots.__all__}
    wanted |= {f"xpnet.estimators.{name}" for name in xpnet.estimators.__all__}
    wanted |= {f"xpnet.backends.{name}" for name in xpnet.backends.__all__ if name != "NAMES"}
    wanted |= {f"xpnet.schedules.{name}" for name in xpnet.schedules.SCHEDULES}
    wanted |= {f"xpnet.initializers.{name}" for name in xpnet.initializers.INITIALIZERS}
    wanted |= {f"xpnet.{layer}" for layer in xpnet.layers.LAYERS}
    wanted |= {f"xpnet.{loss.__name__}" for loss in xpnet.losses.LOSSES.values()}
    wanted |= {f"xpnet.{optimizer.__name__}" for optimizer in xpnet.optimizers.OPTIMIZERS.values()}
    wanted |= {f"xpnet.errors.{name}" for name, value in vars(xpnet.errors).items() if is_own(xpnet.errors, value)}
    wanted -= {"xpnet.errors.closest", "xpnet.errors.warn_user", "xpnet.errors.needs"}  # helpers of the messages
    wanted |= {
        f"xpnet.datasets.{name}"
        for name, value in vars(xpnet.datasets).items()
        if inspect.isfunction(value) and is_own(xpnet.datasets, value) and not name.startswith("_")
    }
    assert wanted <= names | {"xpnet.schedules", "xpnet.initializers"}, sorted(wanted - names)


def test_public_names_have_docstrings() -> None:
    for name in documented():
        assert inspect.getdoc(pkgutil.resolve_name(name)), name


@pytest.mark.parametrize(
    "owner", [xpnet.Network, xpnet.Trainer, xpnet.Recorder, xpnet.History, xpnet.Callback], ids=lambda c: c.__name__
)
def test_the_methods_that_users_call_are_described(owner: type) -> None:
    """Every public method is in the reference, but for those that only xpnet itself calls."""
    inner = {
        "split",
        "named",
        "contexts",
        "objective",
        "penalize",
        "check_batch",
        "on_begin",
        "on_steps",
        "on_exception",
        "get_state",
        "set_state",
    }
    inner |= {"append", "truncate", "unknown", "mutable", "weight_done", "repair"}
    public = {name for name, value in vars(owner).items() if not name.startswith("_") and callable(value)}
    text = "".join(NAMES[page] for page in NAMES if page.startswith("api/"))
    block = re.search(rf"autoclass:: xpnet\.{owner.__name__}\n   :members:(.*)", text)
    assert block is not None
    listed = {name.strip() for name in block[1].split(",") if name.strip()}
    assert not listed or public - inner <= listed, public - inner - listed


# What users are given and do not make, or write themselves by one of the how-to pages.
GIVEN = {"Context", "Backend", "Layer", "Schedule", "Trace", "LayerTrace", "Statistics", "Curves", "Run", "Checkpoint"}
GIVEN |= {"GradientReport", "ArrayReport"}
# What layers, optimizers and losses have in common is described once, by their base classes.
CONTRACT = {"forward", "backward", "update", "update_state", "scalars", "__call__"}


def functions_and_classes() -> dict[str, object]:
    """Return what of the reference can be called, but for errors."""
    found = {name: pkgutil.resolve_name(name) for name in documented()}
    return {
        name: value
        for name, value in found.items()
        if callable(value) and not (isinstance(value, type) and issubclass(value, Exception))
    }


def owner(name: str) -> object:
    """Return the class that a method is of, or None."""
    place = pkgutil.resolve_name(name.rpartition(".")[0])
    return place if isinstance(place, type) else None


def test_everything_public_has_an_example_that_runs() -> None:
    """Its own or that of its class; losses and optimizers may share that of their base class."""
    without = set()
    for name, value in functions_and_classes().items():
        classes = [owner(name) or value]
        for shared in (xpnet.Loss, xpnet.Optimizer):
            if isinstance(classes[0], type) and issubclass(classes[0], shared):
                classes.append(shared)
        texts = [inspect.getdoc(value) or "", *(inspect.getdoc(c) or "" for c in classes)]
        if not any(">>> " in text for text in texts) and getattr(classes[0], "__name__", "") not in GIVEN:
            without.add(name)
    # What needs a file or an extra has its example on a page.
    elsewhere = {"xpnet.plots.animate_regions", "xpnet.Parquet", "xpnet.saving.export_training", "xpnet.parallel.MPI"}
    elsewhere |= {"xpnet.parallel.MPI.part"}
    elsewhere |= {"xpnet.TensorBoardLog", "xpnet.datasets.fashion_mnist"}
    elsewhere |= {"xpnet.saving.network.save", "xpnet.inspection.recorder.default_every"}
    assert without == elsewhere


def test_everything_public_says_what_it_returns() -> None:
    """In a section, or in the first line where that is all there is to say."""
    without = set()
    for name, value in functions_and_classes().items():
        if isinstance(value, type) or name.rpartition(".")[2] in CONTRACT:
            continue
        text = inspect.getdoc(value) or ""
        returned = inspect.signature(value).return_annotation
        if (
            returned not in ("None", None)
            and "Returns\n-------" not in text
            and not re.match("Return|Say whether", text)
        ):
            without.add(name)
    assert without == {"xpnet.training.checkpoint.exit_on_sigterm"}  # for a `with`
