"""Options beyond scikit-learn's: weights of classes, activations, dropout, losses, optimizers."""

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.class_weight import compute_sample_weight

import xpnet
from xpnet.errors import ConfigError
from xpnet.estimators import HalfSquaredError, MLPClassifier, MLPRegressor, PoissonDeviance

BOTH = pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
UNFINISHED = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@UNFINISHED
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_class_weights_are_sample_weights(iris, solver):
    X, y = iris[0][20:], iris[1][20:]
    options = {"hidden_layer_sizes": (5,), "max_iter": 15, "random_state": 0, "solver": solver}
    for class_weight in ("balanced", {0: 3.0, 1: 0.5}):
        by_class = MLPClassifier(class_weight=class_weight, **options).fit(X, y)
        by_sample = MLPClassifier(**options).fit(X, y, sample_weight=compute_sample_weight(class_weight, y))
        np.testing.assert_allclose(by_class.predict_proba(X), by_sample.predict_proba(X), rtol=1e-7)
        plain = MLPClassifier(**options).fit(X, y)
        assert np.abs(by_class.predict_proba(X) - plain.predict_proba(X)).max() > 1e-3


@UNFINISHED
def test_class_weights_multiply_sample_weights(binary):
    X, y = binary
    weight = np.linspace(0.0, 2.0, len(y))
    options = {"hidden_layer_sizes": (5,), "max_iter": 10, "random_state": 0}
    by_class = MLPClassifier(class_weight={0: 2.0, 1: 5.0}, **options).fit(X, y, sample_weight=weight)
    product = MLPClassifier(**options).fit(X, y, sample_weight=weight * np.array([2.0, 5.0])[y])
    np.testing.assert_allclose(by_class.predict_proba(X), product.predict_proba(X), rtol=1e-7)


@UNFINISHED
def test_balanced_counts_samples_by_their_weights():
    X, y = np.arange(6.0)[:, None], np.array(["a", "a", "a", "b", "b", "c"])
    weight = np.array([1.0, 1.0, 2.0, 1.0, 3.0, 0.0])  # 4 of "a", 4 of "b", none of "c"
    clf = MLPClassifier((3,), class_weight="balanced", max_iter=5, random_state=0).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(clf._weigh(np.array([0, 0, 0, 1, 1, 2]), weight), weight)


@UNFINISHED
def test_class_weights_of_several_labels(labels):
    X, Y = labels
    options = {"hidden_layer_sizes": (5,), "max_iter": 10, "random_state": 0}
    by_class = MLPClassifier(class_weight="balanced", **options).fit(X, Y)
    by_sample = MLPClassifier(**options).fit(X, Y, sample_weight=compute_sample_weight("balanced", Y))
    np.testing.assert_allclose(by_class.predict_proba(X), by_sample.predict_proba(X), rtol=1e-7)


@UNFINISHED
def test_an_activation_for_each_layer(iris):
    own = xpnet.Activation(lambda xp, x: xp.sin(x), lambda xp, x: xp.cos(x))
    clf = MLPClassifier((6, 5, 4, 3), activation=["logistic", xpnet.LeakyReLU(0.2), own, "identity"], max_iter=3)
    clf.fit(*iris)
    names = [type(layer).__name__ for layer in clf.network_.layers]
    assert names == ["Linear", "Sigmoid", "Linear", "LeakyReLU", "Linear", "Activation", "Linear", "Linear"]
    assert xpnet.check_gradients(clf.network_, iris[0][:5], iris[1][:5]).passed
    with pytest.raises(ConfigError, match="activation has 2 entries, the network 1 hidden layers"):
        MLPClassifier((4,), activation=("relu", "tanh")).fit(*iris)
    with pytest.raises(ConfigError, match=r"unknown activation 'rellu'.*Did you mean 'relu'"):
        MLPClassifier((4,), activation=("rellu",)).fit(*iris)


@UNFINISHED
def test_each_layer_is_drawn_by_its_own_activation(iris):
    mixed = MLPClassifier((6, 5), activation=("logistic", "relu"), max_iter=1, random_state=0, learning_rate_init=1e-12)
    same = MLPClassifier((6, 5), activation="logistic", max_iter=1, random_state=0, learning_rate_init=1e-12)
    mixed.fit(*iris)
    same.fit(*iris)
    ratios = [np.median(a / b) for a, b in zip(mixed.coefs_, same.coefs_, strict=True)]
    np.testing.assert_allclose(ratios, [1.0, np.sqrt(3.0), np.sqrt(3.0)], rtol=1e-6)


@UNFINISHED
def test_dropout_works_in_training_alone(digits):
    X, y = digits
    options = {"hidden_layer_sizes": (30, 20), "max_iter": 8, "random_state": 1}
    dropped = MLPClassifier(dropout=0.5, **options).fit(X, y)
    assert [type(layer).__name__ for layer in dropped.network_.layers].count("Dropout") == 2
    assert np.array_equal(dropped.predict_proba(X), dropped.predict_proba(X))
    assert np.array_equal(dropped.predict_proba(X), MLPClassifier(dropout=0.5, **options).fit(X, y).predict_proba(X))
    assert dropped.loss_ > MLPClassifier(**options).fit(X, y).loss_ + 0.1
    with pytest.raises(ConfigError, match="dropout needs a stochastic solver"):
        MLPClassifier(dropout=0.5, solver="lbfgs", **options).fit(X, y)


@UNFINISHED
@pytest.mark.parametrize(
    "loss", [xpnet.MeanSquaredError(), xpnet.Huber(0.5), xpnet.MeanAbsoluteError(), xpnet.SumSquaredError()]
)
def test_other_losses_for_numbers(pairs, loss):
    X, Y = pairs
    reg = MLPRegressor(loss, (20,), max_iter=60, learning_rate_init=0.01, random_state=0).fit(X, Y)
    assert reg.network_.loss == loss
    assert reg.score(X, Y) > 0.6
    loss_now = reg.network_.evaluate(X, Y)["loss"]
    assert loss_now == pytest.approx(reg.loss_curve_[-1], rel=0.1)


@UNFINISHED
def test_a_poisson_loss_of_xpnet_predicts_rates(counts):
    reg = MLPRegressor(xpnet.Poisson(), (5,), solver="lbfgs", max_iter=50, random_state=0).fit(*counts)
    assert reg.out_activation_ == "exp"
    assert reg.predict(counts[0]).min() > 0


def test_losses_have_to_fit_the_targets(iris, binary, numbers):
    with pytest.raises(ConfigError, match=r"loss must be of kind 'classification' for 3 output"):
        MLPClassifier(loss=xpnet.BinaryCrossEntropy()).fit(*iris)
    with pytest.raises(ConfigError, match=r"loss must be of kind 'binary' for 1 output"):
        MLPClassifier(loss=xpnet.CrossEntropy()).fit(*binary)
    with pytest.raises(ConfigError, match="loss must be of kind 'regression'"):
        MLPRegressor(xpnet.CrossEntropy()).fit(*numbers)
    for loss in ("poisson", xpnet.Poisson()):
        with pytest.raises(ValueError, match="y has negative values"):
            MLPRegressor(loss).fit(*numbers)


@UNFINISHED
@pytest.mark.parametrize(
    "optimizer", [xpnet.RMSProp(), xpnet.AdamW(0.01), xpnet.SGD(xpnet.schedules.CosineDecay(0.5, 30), momentum=0.9)]
)
def test_other_optimizers(digits, optimizer):
    X, y = digits
    clf = MLPClassifier((20,), solver=optimizer, max_iter=30, random_state=0, batch_size=50, alpha=0.0).fit(X, y)
    assert clf.score(X, y) > 0.9
    trainer = xpnet.Trainer(
        xpnet.Network(clf.network_.layers, "cross_entropy", dtype="float64"),
        optimizer,
        X,
        y,
        batch_size=50,
        shuffle=False,
    )
    first = MLPClassifier(
        (20,), solver=optimizer, max_iter=2, random_state=0, batch_size=50, alpha=0.0, shuffle=False, n_iter_no_change=9
    )
    start = MLPClassifier((20,), solver=xpnet.SGD(1e-300), max_iter=1, random_state=0).fit(X, y)
    trainer.net.theta[...] = start.network_.theta
    trainer.run(12)
    np.testing.assert_allclose(first.fit(X, y).network_.theta, trainer.net.theta, rtol=1e-9, atol=1e-12)
    if isinstance(optimizer, xpnet.SGD):
        np.testing.assert_allclose(first.history_["learning_rate"], [0.5, optimizer.learning_rate(6)])


@UNFINISHED
def test_an_optimizer_goes_on_in_partial_fit(digits):
    X, y = digits
    schedule = xpnet.schedules.StepDecay(0.1, every=6, factor=0.1)
    options = {"solver": xpnet.SGD(schedule, momentum=0.9), "random_state": 0, "shuffle": False, "batch_size": 50}
    whole = MLPClassifier((8,), max_iter=3, **options).fit(X, y)
    steps = MLPClassifier((8,), **options)
    for _ in range(3):
        steps.partial_fit(X, y, classes=np.arange(10))
    np.testing.assert_allclose(steps.network_.theta, whole.network_.theta, rtol=1e-12)


@pytest.mark.parametrize("loss", [HalfSquaredError(), PoissonDeviance()])
@pytest.mark.parametrize("outputs", [1, 3])
def test_value_and_gradient_agree(loss, outputs):
    rng = np.random.default_rng(2)
    t, weight = rng.poisson(2.0, (4, outputs)).astype(float), rng.dirichlet(np.ones(4))
    y = rng.normal(size=(4, outputs)).ravel()

    def value(y):
        return float(loss(np, y.reshape(t.shape), t, weight)[0])

    def delta(y):
        return loss(np, y.reshape(t.shape), t, weight)[1].ravel()

    assert check_grad(value, delta, y) < 1e-6
    if isinstance(loss, PoissonDeviance):
        assert value(np.log(np.maximum(t, 1e-30)).ravel()) == pytest.approx(0.0, abs=1e-12)


def test_the_networks_of_several_outputs_have_consistent_gradients(pairs):
    # scikit-learn's own would fail here: their gradient is n_outputs times that of their loss.
    X, Y = pairs
    reg = MLPRegressor(
        hidden_layer_sizes=(3,), solver="lbfgs", max_iter=1, alpha=0.3, random_state=0, activation="tanh"
    )
    with pytest.warns(ConvergenceWarning):
        reg.fit(X, Y)
    theta = reg.network_.theta.copy()
    error = check_grad(
        lambda v: reg._loss_grad_lbfgs(v, X, Y, None)[0], lambda v: reg._loss_grad_lbfgs(v, X, Y, None)[1], theta
    )
    assert error < 1e-6
