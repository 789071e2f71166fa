"""Learning rates of their own for some parameters."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import xpnet
from xpnet.saving.description import build, describe

RNG = np.random.default_rng(4)
X, T = RNG.normal(size=(20, 3)), RNG.integers(0, 2, 20)
FACTORS = {"b": 8.0, "gamma": 0.5, "2.b": 3.0, "0.W": 0.0}


def network(backend="numpy", dtype="float64"):
    return xpnet.Network(
        [xpnet.Linear(3, 4), xpnet.LayerNorm(4), xpnet.Linear(4, 2)], "cross_entropy", backend, dtype, seed=3
    )


def trained(optimizer, backend="numpy", steps=6, dtype="float64", **options):
    """Return the parameters after some steps, on the host."""
    net = network(backend, dtype)
    trainer = xpnet.Trainer(net, optimizer, X.astype(dtype), T, batch_size=20, shuffle=False, **options)
    trainer.run(steps)
    return {name: net.backend.to_numpy(p).copy() for name, p in net.parameters.items()}


def by_hand(optimizer, steps=6):
    """The same, parameter by parameter, each by an optimizer with the learning rate that is its own."""
    net = network()
    factors = {name: dict(optimizer.factors).get(name.split(".")[1], 1.0) for name in net.parameters}
    factors |= {name: factor for name, factor in optimizer.factors if "." in name}
    slots = {name: [np.zeros(p.shape) for _ in optimizer.slots] for name, p in net.parameters.items()}
    for t in range(1, steps + 1):
        _, grads = net.gradients(X, T, training=True, step=t - 1)
        values = {}
        for name, p in net.parameters.items():
            own, rate = p.copy(), factors[name] * float(optimizer.rates(range(t - 1, t))[0])
            if name.endswith("W"):
                own *= 1 - optimizer.weight_decay * rate
            scalars = optimizer.scalars(np.array([float(t)]), np.array([rate]))
            optimizer.update(np, own, grads[name], *slots[name], *scalars.values())
            values[name] = own
        net.set_parameters(values)
    return {name: p.copy() for name, p in net.parameters.items()}


OPTIMIZERS = [
    xpnet.SGD(0.1, factors=FACTORS),
    xpnet.SGD(lambda step: 0.1 / (1 + step), momentum=0.9, nesterov=True, weight_decay=0.2, factors=FACTORS),
    xpnet.Adagrad(0.1, factors=FACTORS),
    xpnet.RMSProp(0.01, factors=FACTORS),
    xpnet.Adam(0.05, factors=FACTORS),
    xpnet.AdamW(0.05, weight_decay=0.3, factors=FACTORS),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: type(optimizer).__name__)
def test_each_parameter_moves_by_its_own_learning_rate(optimizer, training_backend):
    expected, found = by_hand(optimizer), trained(optimizer, training_backend)
    for name, value in found.items():
        assert_allclose(value, expected[name], rtol=1e-12, atol=1e-14, err_msg=name)
    start = network().parameters
    assert_array_equal(found["0.W"], start["0.W"])  # its factor is 0
    assert (found["2.W"] != start["2.W"]).any()


def test_without_factors_nothing_changes_to_the_bit():
    plain, one = trained(xpnet.Adam(0.1)), trained(xpnet.Adam(0.1, factors={}))
    assert all((plain[name] == one[name]).all() for name in plain)


def test_skipped_steps_and_averages_know_nothing_of_them():
    options = {"dtype": "float32", "precision": "float16"}
    found = trained(xpnet.SGD(0.1, factors={"b": 0.0}), **options)
    free = trained(xpnet.SGD(0.1), **options)
    assert_array_equal(found["0.b"], np.zeros(4))
    assert (free["0.b"] != 0.0).any()
    assert (found["2.W"] != network(dtype="float32").parameters["2.W"]).any()


def test_files_keep_them(tmp_path):
    optimizer = xpnet.SGD(0.1, momentum=0.5, factors={"gamma": 2, "b": 64.0})
    assert optimizer == xpnet.SGD(0.1, momentum=0.5, factors=(("b", 64.0), ("gamma", 2.0)))
    assert hash(optimizer) == hash(xpnet.SGD(0.1, momentum=0.5, factors={"b": 64.0, "gamma": 2.0}))
    assert build(describe(optimizer, "optimizer"), "optimizer", {}) == optimizer
    assert "factors" not in describe(xpnet.SGD(0.1), "optimizer")
    options = {"epochs": 2, "batch_size": 7, "verbose": False, "checkpoint": tmp_path / "run.safetensors"}
    whole = network()
    whole.fit(X, T, optimizer=optimizer, **(options | {"epochs": 4, "checkpoint": None}))
    part = network()
    part.fit(X, T, optimizer=optimizer, **options)
    part.theta[...] = 0.0
    part.fit(X, T, optimizer=optimizer, **(options | {"epochs": 4}), resume=True)
    assert_array_equal(part.theta, whole.theta)
    with pytest.raises(xpnet.errors.CheckpointError, match="factors"):
        part.fit(X, T, optimizer=xpnet.SGD(0.1, momentum=0.5), **options, resume=True)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"b": -1.0}, r"SGD: factors\['b'\] must be a finite number in \[0, inf\), got -1.0"),
        ({"b": "2"}, r"SGD: factors\['b'\] must be a finite number"),
        (["b"], r"SGD: factors must map names to numbers, as \{'b': 2\}, got \['b'\]"),
        (3.0, r"SGD: factors must map names to numbers"),
    ],
)
def test_bad_factors_are_refused(factors, message):
    with pytest.raises(xpnet.errors.ConfigError, match=message):
        xpnet.SGD(0.1, factors=factors)


def test_a_name_that_no_parameter_has_is_refused():
    with pytest.raises(
        xpnet.errors.ConfigError, match=r"factors name 1.W, bias; parameters are 0.W, 0.b, 1.beta, .*, b"
    ):
        trained(xpnet.SGD(0.1, factors={"bias": 2.0, "1.W": 3.0, "b": 2.0}))
