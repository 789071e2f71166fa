"""Each activation and loss, number by number, against exact formulas evaluated with fifty digits."""

import mpmath
import numpy as np
import pytest
import scipy.special
import scipy.stats
import sympy
from labels import label

import xpnet
import xpnet.layers
from xpnet.special import normal_cdf

xp = xpnet.backends.get("numpy").xp
EPS = np.finfo(float).eps

POINTS = np.unique(
    np.concatenate(
        [
            [0.0, -0.0, 1e4, -1e4, 40.0, -40.0, 700.0, -700.0],
            *[[s * 10.0**k for s in (1, -1)] for k in (-300, -100, -30, -16, -8, -4)],
            np.random.default_rng(5).normal(0.0, 4.0, 160),
            np.linspace(-12.0, 12.0, 40),
        ]
    )
)

# Each activation once more, for SymPy: the derivative is SymPy's own.
z = sympy.Symbol("z", real=True)
SMOOTH = {
    xpnet.Identity(): z,
    xpnet.Sigmoid(): 1 / (1 + sympy.exp(-z)),
    xpnet.Tanh(): sympy.tanh(z),
    xpnet.Softplus(): sympy.log(1 + sympy.exp(z)),
    xpnet.SiLU(): z / (1 + sympy.exp(-z)),
    xpnet.GELU(): z * (1 + sympy.erf(z / sympy.sqrt(2))) / 2,
    xpnet.GELU(approximate="tanh"): z
    * (1 + sympy.tanh(sympy.sqrt(2 / sympy.pi) * (z + sympy.Rational(44715, 10**6) * z**3)))
    / 2,
}
# On the two sides of zero, and f'(0), which is a convention.
PIECES = {
    xpnet.ReLU(): (sympy.Integer(0), z, 0.0),
    xpnet.LeakyReLU(): (z * sympy.Float(0.01, 60), z, 0.01),
    xpnet.LeakyReLU(0.25): (z / 4, z, 0.25),
    xpnet.LeakyReLU(0.0): (sympy.Integer(0), z, 0.0),
    xpnet.ELU(): (sympy.exp(z) - 1, z, 1.0),
    xpnet.ELU(1.5): (sympy.Rational(3, 2) * (sympy.exp(z) - 1), z, 1.5),
}


def no_smaller(value, points):
    return np.abs(value)


def gelu_terms(value, points):
    # The two terms of f' cancel near -0.75; in the left tail exp(-x^2 / 2) multiplies the rounding of x^2 / 2.
    terms = scipy.special.ndtr(points) + np.abs(points) * np.exp(-points * points / 2) / np.sqrt(2 * np.pi)
    return np.maximum(np.abs(value), terms) * (1 + points * points / 4)


# What four units of rounding are relative to: the exact value, except where terms of the formula cancel.
SIZES = {
    xpnet.SiLU(): lambda value, points: np.maximum(np.abs(value), scipy.special.expit(points)),
    xpnet.GELU(): gelu_terms,
    # 1 + tanh has no relative precision on the left.
    xpnet.GELU(approximate="tanh"): lambda value, points: np.abs(points) + (np.abs(points) > 1e-5),
}


def exact(expression, points=POINTS):
    """Evaluate with so many digits that the result is right to the last bit, even of 1 + exp(-700)."""
    f = sympy.lambdify(z, expression, "mpmath")

    def at(point):
        with mpmath.workdps(400 if abs(point) > 20 or abs(point) < 1e-20 else 60):
            return float(f(mpmath.mpf(point)))

    return np.array([at(float(point)) for point in points])


def layer_values(layer, points):
    """Return f and f' of an elementwise layer."""
    x = points[:, None]
    y, cache = layer.forward(xp, {}, x)
    dy = np.random.default_rng(1).choice([-2.0, -0.5, 1.0, 4.0], x.shape)  # powers of two do not round
    dx, grads = layer.backward(xp, {}, cache, dy)
    assert grads == {}
    return y[:, 0], (dx / dy)[:, 0]


def assert_rounded(actual, expected, size, what):
    error = np.abs(actual - expected)
    bad = ~(error <= 4 * EPS * size + 5e-324)
    assert not bad.any(), f"{what}: {actual[bad][:3]} against {expected[bad][:3]} at {POINTS[bad][:3]}"


def sides(layer):
    """Return the expressions on the left and right of zero."""
    return PIECES[layer][:2] if layer in PIECES else (SMOOTH[layer], SMOOTH[layer])


@pytest.mark.closed_form
@pytest.mark.formulas
@pytest.mark.parametrize("layer", [*SMOOTH, *PIECES], ids=label)
def test_activation_and_derivative(layer):
    """The derivative is SymPy's of the function that is written above, not one that somebody wrote."""
    y, slope = layer_values(layer, POINTS)
    left, right = sides(layer)
    want = np.where(POINTS < 0, exact(left), exact(right))
    want_slope = np.where(POINTS < 0, exact(sympy.diff(left, z)), exact(sympy.diff(right, z)))
    if layer in PIECES:
        want_slope[POINTS == 0] = PIECES[layer][2]
    size = SIZES.get(layer, no_smaller)
    assert_rounded(y, want, size(want, POINTS), "value")
    assert_rounded(slope, want_slope, np.maximum(size(want_slope, POINTS), np.abs(want_slope)), "derivative")


def test_every_activation_is_here():
    assert {type(layer) for layer in [*SMOOTH, *PIECES]} | {xpnet.Softmax} == set(xpnet.layers.ACTIVATIONS.values())


@pytest.mark.closed_form
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layer", [*SMOOTH, *PIECES], ids=label)
def test_activations_stay_finite(layer, dtype):
    """Nothing overflows at the largest numbers there are (GELU: of which the square, or the cube, is a number)."""
    power = {"none": 1 / 2, "tanh": 1 / 3}.get(getattr(layer, "approximate", ""), 1)
    largest = float(np.finfo(dtype).max) ** power / 4
    x = np.array([[largest, -largest, 1e4, -1e4, 0.0]], dtype=dtype)
    with np.errstate(all="raise", under="ignore"):
        y, cache = layer.forward(xp, {}, x)
        dx, _ = layer.backward(xp, {}, cache, np.ones_like(x))
    assert y.dtype == dx.dtype == dtype
    assert np.isfinite(y).all()
    assert np.isfinite(dx).all()


@pytest.mark.closed_form
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layer", PIECES, ids=label)
def test_rectifiers_do_not_saturate(layer, dtype):
    """On the right they are the identity, and on the left what they are at -1e4, however large the numbers are."""
    x = np.array([[1e5, 1e30], [-1e5, -1e30]], dtype=dtype)
    y, cache = layer.forward(xp, {}, x)
    dx, _ = layer.backward(xp, {}, cache, np.ones_like(x))
    left = sympy.lambdify(z, PIECES[layer][0], "mpmath")
    slope = sympy.lambdify(z, sympy.diff(PIECES[layer][0], z), "mpmath")
    assert y[0].tolist() == x[0].tolist()
    assert dx[0].tolist() == [1.0, 1.0]
    np.testing.assert_allclose(y[1], [float(left(mpmath.mpf(float(v)))) for v in x[1]], rtol=1e-6, atol=0)
    np.testing.assert_allclose(dx[1], [float(slope(mpmath.mpf(float(v)))) for v in x[1]], rtol=1e-6, atol=0)


@pytest.mark.closed_form
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax(dtype):
    rng = np.random.default_rng(3)
    x = (rng.normal(0, 1, (40, 7)) * np.logspace(-8, 4, 40)[:, None]).astype(dtype)
    y, cache = xpnet.Softmax().forward(xp, {}, x)
    dy = rng.normal(size=x.shape).astype(dtype)
    dx, _ = xpnet.Softmax().backward(xp, {}, cache, dy)
    with mpmath.workdps(60):
        for row, upstream, got, delta in zip(x, dy, y, dx, strict=True):
            e = [mpmath.exp(mpmath.mpf(float(v)) - float(row.max())) for v in row]
            p = [v / sum(e) for v in e]
            mean = sum(q * float(d) for q, d in zip(p, upstream, strict=True))
            want = np.array([float(q) for q in p])
            want_delta = np.array([float(q * (float(d) - mean)) for q, d in zip(p, upstream, strict=True)])
            # Rounding of the exponent x - max(x) is relative to its size.
            eps = np.finfo(dtype).eps * (4 + (row.max() - row).astype(float))
            assert (np.abs(got - want) <= eps * want + np.finfo(dtype).tiny).all()
            # The differences may cancel: relative to the terms.
            terms = want * (np.abs(upstream) + np.sum(want * np.abs(upstream)))
            assert (np.abs(delta - want_delta) <= 4 * eps * terms + np.finfo(dtype).tiny).all()


def log_softmax(y):
    return scipy.special.log_softmax(y.astype(float), axis=1)


@pytest.mark.closed_form
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-14), ("float32", 1e-6)])
def test_losses_against_scipy(dtype, tolerance, rng):
    """Values by SciPy's functions, on outputs from tiny to far beyond what exp can take."""
    y = (rng.normal(0, 1, (60, 5)) * np.logspace(-8, 4, 60)[:, None]).astype(dtype)
    weight = rng.uniform(0.2, 1, 60)
    weight = (weight / weight.sum()).astype(dtype)
    classes = rng.integers(0, 5, 60)
    shares = rng.dirichlet(np.ones(5), 60).astype(dtype)
    binary = rng.integers(0, 2, (60, 5)).astype(dtype)
    real = rng.normal(0, 2, (60, 5)).astype(dtype)
    y64, real64 = y.astype(float), real.astype(float)
    cases = {
        xpnet.CrossEntropy(): [
            (y, classes, -log_softmax(y)[np.arange(60), classes]),
            (y, shares, -np.sum(shares * log_softmax(y), axis=1)),
        ],
        xpnet.BinaryCrossEntropy(): [
            (y, binary, -np.sum(np.where(binary == 1, scipy.special.log_expit(y64), scipy.special.log_expit(-y64)), 1))
        ],
        xpnet.Huber(0.7): [(y, real, np.mean(scipy.special.huber(0.7, y64 - real64), axis=1))],
        xpnet.MeanSquaredError(): [(y, real, np.mean((y64 - real64) ** 2, axis=1))],
        xpnet.SumSquaredError(): [(y, real, np.sum((y64 - real64) ** 2, axis=1))],
        xpnet.MeanAbsoluteError(): [(y, real, np.mean(np.abs(y64 - real64), axis=1))],
        xpnet.Poisson(): [(y[:30], binary[:30] * 3, np.mean(np.exp(y64[:30]) - binary[:30] * 3 * y64[:30], axis=1))],
    }
    counts = np.asarray([0.0, 0.3, 2.5])[rng.integers(0, 3, (30, 5))].astype(dtype)
    deviance = scipy.special.xlogy(counts.astype(float), counts.astype(float)) - counts - counts * y64[:30]
    density = scipy.stats.norm.logpdf(real64[::-1], y64, np.exp(real64 / 2))
    cases |= {
        xpnet.HalfSquaredError(): [(y, real, np.mean((y64 - real64) ** 2, axis=1) / 2)],
        xpnet.Quantile([0.2]): [(y, real, np.mean(np.where(real64 > y64, 0.2, -0.8) * (real64 - y64), axis=1))],
        xpnet.Gaussian(): [(np.hstack([y, real]), real[::-1], -np.mean(density + np.log(2 * np.pi) / 2, axis=1))],
        xpnet.PoissonDeviance(): [(y[:30], counts, np.sum(deviance + np.exp(y64[:30]), axis=1))],
    }
    assert {type(loss) for loss in cases} == set(xpnet.losses.LOSSES.values())
    for loss, examples in cases.items():
        for outputs, t, want in examples:
            w = weight[: len(outputs)]
            value, dy = loss(xp, outputs, t, w)
            expected = np.sum(w.astype(float) * want)
            assert value.shape == ()
            assert value.dtype == dy.dtype == dtype
            assert abs(float(value) - expected) <= tolerance * max(1.0, abs(expected)), loss


@pytest.mark.closed_form
def test_conventions_at_kinks():
    """Where a loss has no derivative, the middle one is taken: zero."""
    zero = np.zeros((2, 3))
    weight = np.array([0.25, 0.75])
    assert (xpnet.MeanAbsoluteError()(xp, zero, zero, weight)[1] == 0).all()
    assert (xpnet.Huber(0.5)(xp, zero, zero, weight)[1] == 0).all()
    assert (xpnet.Quantile([0.2])(xp, zero, zero, weight)[1] == 0).all()
    net = xpnet.Network([xpnet.Linear(2, 2, weight_init="zeros")], "sum_squared_error", dtype="float64", l1=3.0)
    assert (net.gradients([[0.0, 0.0]], [[0.0, 0.0]])[1]["0.W"] == 0).all()  # l1 at W = 0


@pytest.mark.closed_form
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal_distribution(dtype):
    """Absolute error below two units of rounding, relative error below ten right of -3."""
    x = np.unique(np.concatenate([np.linspace(-12, 12, 20001), POINTS[np.abs(POINTS) < 1e3]])).astype(dtype)
    value, density = normal_cdf(xp, x)
    want, eps = scipy.special.ndtr(x.astype(float)), np.finfo(dtype).eps
    assert value.dtype == density.dtype == dtype
    assert np.abs(value - want).max() <= 2 * eps
    right = x > -3
    assert (np.abs(value - want)[right] <= 10 * eps * want[right]).all()
    assert np.abs(density - np.exp(-(x.astype(float) ** 2) / 2)).max() <= 2 * eps
