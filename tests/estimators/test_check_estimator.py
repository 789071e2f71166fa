"""scikit-learn's own checks of an estimator, all of them."""

import re
import warnings

import pytest
from sklearn.utils.estimator_checks import check_estimator

import xpnet
from xpnet.estimators import MLPClassifier, MLPRegressor

CONFIGURATIONS = {
    "adam": {"max_iter": 30, "learning_rate_init": 0.01},
    "lbfgs": {"solver": "lbfgs", "max_iter": 15},
    "sgd": {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.02, "max_iter": 50},
    "more": {
        "hidden_layer_sizes": (20, 10), "activation": ("tanh", xpnet.GELU()), "solver": xpnet.AdamW(learning_rate=0.01),
        "backend": "numpy", "max_iter": 30,
    },
}  # fmt: skip
MORE = {MLPClassifier: {"class_weight": "balanced"}, MLPRegressor: {"loss": xpnet.Huber()}}

ABSENT = re.compile(
    r"(cupy|torch|dpnp) is not installed: not checking array_api input"
    r"|PyTorch test requires cuda, which is not available|Skipping (XPU|MPS) device test because .*"
)
"""The reasons for which a check may not run: it is about a library or a device that this machine does not have."""


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
def test_every_check_passes(cls, configuration, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    est = cls(**CONFIGURATIONS[configuration], **(MORE[cls] if configuration == "more" else {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(est, on_fail=None, on_skip=None)
    bad = {r["check_name"]: r["exception"] for r in results if r["status"] not in ("passed", "skipped")}
    assert not bad, bad
    skipped = [str(r["exception"]) for r in results if r["status"] == "skipped"]
    assert all(ABSENT.fullmatch(reason) for reason in skipped), skipped
    if configuration == "more":
        assert not skipped  # with a backend that is named there is nothing to ask of other libraries
    assert not any(r["expected_to_fail"] for r in results)
    assert len(results) - len(skipped) >= 55
