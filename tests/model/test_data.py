"""What data `fit` and the others take, and how they refuse the rest: before anything has changed."""

import hashlib

import numpy as np
import pytest
import scipy.sparse
from array_backends import make, strict_backend
from elsewhere import Elsewhere
from labels import label
from numpy.testing import assert_array_equal

import xpnet
import xpnet.model.core
import xpnet.training.samples
from xpnet.errors import BackendMismatchError, ConfigError, DataError, DTypeError, PrecisionWarning, ShapeError
from xpnet.model.data import check_targets

N, I, O = 40, 3, 4  # noqa: E741  # samples, inputs, classes


def data():
    rng = np.random.default_rng(5)
    return rng.normal(size=(N, I)).astype(np.float32), rng.integers(0, O, N)


def classifier(**options):
    return xpnet.mlp([I, 5, O], "tanh", **options)


def regression(outputs=1, **options):
    return xpnet.mlp([I, 5, outputs], "tanh", "mean_squared_error", **options)


def fingerprint(net, *arrays):
    """Return a hash of everything that a refused call must leave as it was."""
    h = hashlib.sha256(net.backend.to_numpy(net.theta).tobytes())
    for name, value in net.state.items():
        h.update(name.encode() + net.backend.to_numpy(value).tobytes())
    for a in arrays:
        h.update(a.tobytes() if isinstance(a, np.ndarray) and a.dtype != object else repr(a).encode())
    h.update(repr(np.random.get_state()).encode())  # noqa: NPY002
    return h.hexdigest()


def refused(error, message, call, net, *arrays):
    """Check that `call` raises, says the right thing, and changes nothing."""
    before = fingerprint(net, *arrays)
    with pytest.raises(error, match=message) as caught:
        call()
    assert isinstance(caught.value, xpnet.XpnetError)
    assert fingerprint(net, *arrays) == before
    history = net.fit(*data_for(net), epochs=1, batch_size=N, verbose=False)  # and the net can still be trained
    assert history.epochs == 1


def data_for(net):
    x, t = data()
    return x, t if net.loss.kind == "classification" else np.ones((N, net.output_shape[0]), dtype=np.float32)


def with_entry(a, index, value):
    a = a.copy()
    a[index] = value
    return a


X, T = data()

BAD_INPUTS = {
    "one axis": (
        X[:, 0],
        ShapeError,
        r"x must have shape \(samples, 3\), got \(40,\)\. Reshape your data.*reshape\(-1, 1\)",
    ),
    "three axes": (
        X[:, :, None],
        ShapeError,
        r"x must have shape \(samples, 3\), got \(40, 3, 1\)\. Reshape your data",
    ),
    "a number": (3.0, ShapeError, r"x must have shape \(samples, 3\), got \(\)"),
    "too few features": (X[:, :1], ShapeError, r"X has 1 features, but \w+ is expecting 3 features as input"),
    "no samples": (X[:0], DataError, r"x has 0 sample\(s\) \(shape=\(0, 3\)\) while a minimum of 1 is required"),
    "no features": (X[:, :0], DataError, r"x has 0 feature\(s\) \(shape=\(40, 0\)\) while a minimum of 1 is required"),
    "NaN": (with_entry(X, (17, 2), np.nan), DataError, r"x contains NaN: x\[17, 2\] is not finite; remove or replace"),
    "infinity": (
        with_entry(X, (39, 0), -np.inf),
        DataError,
        r"x contains inf: x\[39, 0\] is not finite; remove or replace",
    ),
    "both": (with_entry(with_entry(X, (3, 1), np.inf), (2, 2), np.nan), DataError, r"x contains NaN: x\[2, 2\]"),
    "too large": (
        with_entry(X.astype(float), (4, 1), 1e39),
        DataError,
        r"x\[4, 1\] is larger than 3\.40282e\+38, the largest float32.*float64",
    ),
    "complex": (X + 0j, DTypeError, r"x has dtype complex64: Complex data not supported; pass real numbers"),
    "objects": (X.astype(object), DTypeError, r"x has dtype object; expected booleans, integers or real numbers"),
    "strings": (X.astype(str), DTypeError, r"x has dtype <U\d+; expected booleans, integers or real numbers"),
    "dates": (np.zeros((N, I), "datetime64[s]"), DTypeError, r"x has dtype datetime64\[s\]; expected"),
    "nothing": (None, (DTypeError, ShapeError), r"x "),
    "a generator": ((row for row in X), (DTypeError, ShapeError), r"x "),
    "ragged": ([[1.0, 2.0, 3.0], [1.0, 2.0]], ShapeError, r"x is not a rectangular array of numbers"),
    "sparse": (scipy.sparse.csr_array(X), DTypeError, r"x: sparse input is not supported; call \.toarray\(\)"),
    "sparse matrix": (scipy.sparse.csc_matrix(X), DTypeError, r"x: sparse input is not supported; call \.toarray\(\)"),
    "masked": (
        np.ma.masked_array(X, mask=X > 1),
        DTypeError,
        r"x: masked arrays are not supported; fill .* x\.filled\(0\)",
    ),
    "structured": (
        np.zeros(N, [("a", "f4"), ("b", "f4"), ("c", "f4")]),
        DTypeError,
        r"x: structured arrays are not supported",
    ),
    "another library": (
        Elsewhere(X.shape),
        BackendMismatchError,
        r"x is a elsewhere\.Elsewhere on CUDA device 1, but the network computes with numpy.*net\.to\('cupy:1'\)",
    ),
}

BAD_CLASSES = {
    "too few": (
        T[:-1],
        ShapeError,
        r"x has 40 samples, t has 39; they must be equally many|x has 40 samples, t has 39 samples",
    ),
    "a number": (3, ShapeError, r"x has 40 samples, t has no samples"),
    "negative": (with_entry(T, 4, -1), DataError, r"label -1 at index 4; expected (integers )?0\.\.3"),
    "too large": (with_entry(T, 39, O), DataError, r"label 4 at index 39; expected (integers )?0\.\.3"),
    "broken": (with_entry(T.astype(float), 2, 1.5), DataError, r"label 1\.5 at index 2; expected (integers )?0\.\.3"),
    "NaN": (with_entry(T.astype(float), 2, np.nan), DataError, r"label nan at index 2; expected (integers )?0\.\.3"),
    "strings": (T.astype(str), DataError, r"label .* at index 0 .*expected (integers )?0\.\.3.*np\.unique"),
    "wrapped": (
        with_entry(T, 5, 255).astype(np.uint8),
        DataError,
        r"label 255 at index 5; expected (integers )?0\.\.3",
    ),
    "huge": (with_entry(T.astype(np.uint64), 5, 2**64 - 1), DataError, r"label 18446744073709551615 at index 5"),
    "objects": (T.astype(object), DataError, r"label .* \(dtype object\); expected"),
    "masked": (np.ma.masked_array(T, mask=T > 1), DTypeError, r"t: masked arrays are not supported"),
    "other columns": (np.eye(O + 1)[T], ShapeError, r"t has shape \(40, 5\), the network's output \(40, 4\)"),
    "not probabilities": (2 * np.eye(O)[T], DataError, r"t\[0\] = .* is not a row of probabilities that sum to 1"),
    "negative row": (
        with_entry(np.eye(O)[T], 3, [2.0, -1.0, 0.0, 0.0]),
        DataError,
        r"t\[3\] = .* is not a row of probabilities",
    ),
    "NaN row": (with_entry(np.eye(O)[T], (3, 1), np.nan), DataError, r"t contains NaN: t\[3, 1\]"),
    "another library": (
        Elsewhere(T.shape),
        BackendMismatchError,
        r"t is a elsewhere\.Elsewhere on CUDA device 1, but the network",
    ),
}

BAD_VALUES = {
    "two columns": (np.ones((N, 2)), 1, ShapeError, r"t has shape \(40, 2\), the network's output \(40, 1\)"),
    "a vector for two outputs": (np.ones(N), 2, ShapeError, r"t has shape \(40,\), the network's output \(40, 2\)"),
    "a row": (np.ones((1, N)), 1, ShapeError, r"x has 40 samples, t has 1"),
    "NaN": (with_entry(np.ones(N), 7, np.nan), 1, DataError, r"t contains NaN: t\[7, 0\]"),
    "infinite": (with_entry(np.ones((N, 2)), (7, 1), np.inf), 2, DataError, r"t contains inf: t\[7, 1\]"),
    "complex": (np.ones(N) * 1j, 1, DTypeError, r"t has dtype complex128: Complex data not supported"),
    "strings": (np.full(N, "a"), 1, DTypeError, r"t has dtype <U1; expected"),
}


@pytest.mark.parametrize(("x", "error", "message"), BAD_INPUTS.values(), ids=BAD_INPUTS)
def test_fit_refuses_input(x, error, message):
    net = classifier()
    refused(error, message, lambda: net.fit(x, T, epochs=1, verbose=False), net, X, T, x)


@pytest.mark.parametrize("call", ["predict", "predict_proba", "forward"])
@pytest.mark.parametrize(("x", "error", "message"), [v for k, v in BAD_INPUTS.items() if k != "no samples"])
def test_using_a_network_refuses_the_same_input(x, error, message, call):
    net = classifier()
    refused(error, message, lambda: getattr(net, call)(x), net, X, x)


@pytest.mark.parametrize("call", ["evaluate", "gradients", "trace"])
@pytest.mark.parametrize("case", ["NaN", "no samples", "one axis", "masked", "complex"])
def test_measuring_a_network_refuses_the_same_input(case, call):
    x, error, message = BAD_INPUTS[case]
    net = classifier()
    refused(error, message, lambda: getattr(net, call)(x, T), net, X, T)


@pytest.mark.parametrize(("t", "error", "message"), BAD_CLASSES.values(), ids=BAD_CLASSES)
@pytest.mark.parametrize("call", ["fit", "evaluate", "gradients", "validation"])
def test_refuses_classes(t, error, message, call):
    net = classifier()
    calls = {
        "fit": lambda: net.fit(X, t, epochs=1, verbose=False),
        "evaluate": lambda: net.evaluate(X, t),
        "gradients": lambda: net.gradients(X, t),
        "validation": lambda: net.fit(X, T, epochs=1, verbose=False, validation_data=(X, t)),
    }
    if call == "validation":
        message = message.replace("x has 40", "x(_validation)? has 40").replace("t has", "t(_validation)? has")
        message = (
            message.replace("t[", "t_validation[").replace("t\\[", "t_validation\\[").replace("t is", "t_validation is")
        )
        message = message.replace("t contains", "t_validation contains").replace("t: masked", "t_validation: masked")
    refused(error, message, calls[call], net, X, T, t)


@pytest.mark.parametrize(("t", "outputs", "error", "message"), BAD_VALUES.values(), ids=BAD_VALUES)
def test_refuses_values(t, outputs, error, message):
    net = regression(outputs)
    refused(error, message, lambda: net.fit(X, t, epochs=1, verbose=False), net, X, t)


@pytest.mark.parametrize(
    ("loss", "value", "message"),
    [
        ("binary_cross_entropy", -1.0, r"t\[6\] = .* a binary target lies between 0 and 1"),
        ("binary_cross_entropy", 2.0, r"t\[6\] = .* a binary target lies between 0 and 1"),
        ("poisson", -1.0, r"t\[6\] = .* a Poisson target is a count, at least 0"),
    ],
)
def test_refuses_targets_outside_the_range_of_the_loss(loss, value, message):
    net = xpnet.mlp([I, 2], loss=loss)
    t = with_entry(np.ones((N, 2)), (6, 1), value)
    refused(DataError, message, lambda: net.fit(X, t, epochs=1, verbose=False), net, X, t)


def test_a_vector_of_targets_serves_one_output_and_is_never_broadcast():
    """(N,) minus (N, 1) would be (N, N): the loss would be another one, without an error."""
    t = np.random.default_rng(0).normal(size=N).astype(np.float32)
    a, b = regression(), regression()
    losses = [net.fit(X, target, epochs=2, verbose=False)["loss"] for net, target in ((a, t), (b, t[:, None]))]
    assert_array_equal(*losses)
    assert_array_equal(a.theta, b.theta)
    y = a.forward(X)
    assert a.evaluate(X, t)["loss"] == pytest.approx(float(np.mean((y[:, 0] - t) ** 2)), rel=1e-5)
    assert a.predict(X).shape == (N, 1)


@pytest.mark.parametrize(
    "t", [T.astype(np.uint8), T.astype(float), T[:, None], T.tolist(), np.eye(O)[T], np.eye(O, dtype=bool)[T]]
)
def test_ways_to_write_classes(t):
    reference, net = classifier(dtype="float64"), classifier(dtype="float64")
    x = X.astype(float)
    reference.fit(x, T, epochs=1, batch_size=N, verbose=False)
    net.fit(x, t, epochs=1, batch_size=N, verbose=False)
    np.testing.assert_allclose(net.theta, reference.theta, rtol=1e-12, atol=1e-14)


def test_boolean_labels_serve_two_classes():
    net = xpnet.mlp([I, 2])
    assert net.fit(X, T > 1, epochs=1, verbose=False).epochs == 1


def test_one_class_alone_can_be_fitted():
    net = classifier()
    net.fit(X, np.full(N, 2), epochs=30, optimizer=xpnet.SGD(0.5), verbose=False)
    assert (net.predict(X) == 2).all()


def test_validation_classes_that_training_never_saw():
    net = classifier()
    call = lambda: net.fit(X[T < 2], T[T < 2], epochs=1, verbose=False, validation_data=(X, T))  # noqa: E731
    refused(
        DataError,
        r"validation_data has the classes \[2, 3\], of which the training data has no sample",
        call,
        net,
        X,
        T,
    )


# --------------------------------------------------------------------------------------- layouts of the same numbers


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def on_disk(a, tmp_path):
    path = tmp_path / f"{a.ndim}.npy"
    np.save(path, a)
    return np.load(path, mmap_mode="r")


LAYOUTS = {
    "read-only": lambda a, _: read_only(a),
    "Fortran": lambda a, _: np.asfortranarray(a),
    "strided": lambda a, _: np.repeat(a, 2, axis=0)[::2],
    "backwards": lambda a, _: a[::-1].copy()[::-1],
    "big-endian": lambda a, _: a.astype(a.dtype.newbyteorder(">")),
    "memory-mapped": on_disk,
    "list": lambda a, _: a.tolist(),
    "broadcast": lambda a, _: np.broadcast_to(a, a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_layout_of_the_data_does_not_matter(layout, tmp_path):
    reference, net = classifier(), classifier()
    reference.fit(X, T, epochs=2, batch_size=7, verbose=False)
    x, t = layout(X, tmp_path), layout(T, tmp_path)
    before = fingerprint(net, np.asarray(x), np.asarray(t))
    history = net.fit(x, t, epochs=2, batch_size=7, verbose=False)
    assert net.theta.tobytes() == reference.theta.tobytes()
    assert_array_equal(net.predict_proba(x), reference.predict_proba(X))
    assert history.epochs == 2
    net.theta[...] = classifier().theta
    assert fingerprint(net, np.asarray(x), np.asarray(t)) == before


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "float16", "float32"])
def test_inputs_of_other_types_are_taken_as_numbers(dtype):
    x = (X > 0).astype(dtype)
    reference, net = classifier(), classifier()
    reference.fit((X > 0).astype(np.float32), T, epochs=1, verbose=False)
    net.fit(x, T, epochs=1, verbose=False)
    assert_array_equal(net.theta, reference.theta)


def test_real_numbers_are_rounded_to_the_networks_type_without_a_word():
    net, reference = classifier(), classifier()
    x = X.astype(np.float64) + 1e-12
    net.fit(x, T, epochs=1, verbose=False)
    assert net.theta.dtype == np.float32
    reference.fit(x.astype(np.float32), T, epochs=1, verbose=False)
    assert_array_equal(net.theta, reference.theta)
    assert_array_equal(net.predict_proba(x), net.predict_proba(x.astype(np.float32)))


WAYS_IN = {
    "fit": lambda net, x: net.fit(x, T, epochs=1, verbose=False),
    "validation": lambda net, x: net.fit(X, T, epochs=1, verbose=False, validation_data=(x, T)),
    "evaluate": lambda net, x: net.evaluate(x, T),
    "predict": lambda net, x: net.predict(x),
    "gradients": lambda net, x: net.gradients(x, T),
    "forward": lambda net, x: net.forward(x),
    "trace": lambda net, x: net.trace(x, T),
}


@pytest.mark.parametrize("way", WAYS_IN.values(), ids=WAYS_IN)
def test_a_number_that_becomes_another_one_is_named_once_at_the_callers_line_in_every_method(way):
    x = X.astype(np.float64)
    x[3, 1] = 1e-60
    with pytest.warns(PrecisionWarning, match=r"\[3, 1\] = 1e-60 becomes 0 in the network's float32") as seen:
        way(classifier(), x)
    assert len(seen) == 1
    assert seen[0].filename == __file__
    way(classifier(dtype="float64"), x)  # nothing to say


@pytest.mark.parametrize(("number", "becomes"), [(1700000001, "1700000000"), (20000000.75, "20000000"), (2**24, None)])
def test_whole_digits_that_are_lost_are_said(number, becomes):
    x = np.full((1, I), number)
    if becomes is None:
        classifier().predict(x)
        return
    with pytest.warns(PrecisionWarning, match=f"becomes {becomes} in"):
        classifier().predict(x)


def test_fit_writes_to_none_of_its_arguments():
    """Every array is read-only here, so that a write raises."""
    x, t, w = read_only(X), read_only(T), read_only(np.ones(N))
    for options in ({}, {"sample_weight": w, "class_weight": "balanced"}, {"validation_data": (x, t, w)}):
        classifier(l2=0.1).fit(x, t, epochs=2, batch_size=16, verbose=False, **options)
    rows = read_only(np.eye(O, dtype=np.float32)[T])
    classifier().fit(x, rows, epochs=1, verbose=False)
    regression(O).fit(x, rows, epochs=1, verbose=False)


@pytest.mark.parametrize("name", ["CPU_DEVICE", "device1"])
def test_arrays_of_the_networks_own_library_stay_on_the_device(name):
    backend = make(name)
    x, t = backend.asarray(X), backend.asarray(T)
    net, reference = classifier(backend=backend), classifier(backend=backend)
    net.fit(x, t, epochs=2, batch_size=16, verbose=False)
    reference.fit(X, T, epochs=2, batch_size=16, verbose=False)
    assert_array_equal(backend.to_numpy(net.theta), backend.to_numpy(reference.theta))
    assert_array_equal(net.predict(x), reference.predict(X))
    assert_array_equal(backend.to_numpy(x), X)


def test_arrays_of_another_device_are_refused():
    net = classifier(backend=make("device1"))
    x = make("CPU_DEVICE").asarray(X)
    refused(BackendMismatchError, r"x is a array_api_strict\.\S+ but the network computes with strict:device1",
            lambda: net.fit(x, T, epochs=1, verbose=False), net, X, T)  # fmt: skip
    bad = make("device1").asarray(with_entry(X, (3, 1), np.nan))
    refused(DataError, r"x contains NaN or inf", lambda: net.fit(bad, T, epochs=1, verbose=False), net, X, T)
    wrong = make("device1").asarray(X + 0j)
    refused(DTypeError, r"Complex data not supported", lambda: net.fit(wrong, T, epochs=1, verbose=False), net, X, T)


# -------------------------------------------------------------------------------------------------- weights

BAD_WEIGHTS = {
    "short": (np.ones(N - 1), ShapeError, r"sample_weight has shape \(39,\), expected \(40,\)"),
    "column": (np.ones((N, 1)), ShapeError, r"sample_weight has shape \(40, 1\), expected \(40,\)"),
    "negative": (
        with_entry(np.ones(N), 3, -1.0),
        DataError,
        r"sample_weight must be finite, not negative and not all zero",
    ),
    "zero": (np.zeros(N), DataError, r"sample_weight must be finite, not negative and not all zero"),
    "NaN": (
        with_entry(np.ones(N), 3, np.nan),
        DataError,
        r"sample_weight must be finite, not negative and not all zero",
    ),
    "strings": (np.full(N, "a"), DTypeError, r"sample_weight has dtype <U1"),
    "complex": (np.ones(N) * 1j, DTypeError, r"sample_weight has dtype complex128"),
    "masked": (
        np.ma.masked_array(np.ones(N), mask=T > 1),
        DTypeError,
        r"sample_weight: masked arrays are not supported",
    ),
}

BAD_CLASS_WEIGHTS = {
    "name": ("even", r"class_weight must be 'balanced' or a mapping class -> weight, got 'even'"),
    "list": ([1.0, 2.0], r"class_weight must be 'balanced' or a mapping class -> weight, got \[1\.0, 2\.0\]"),
    "class": ({9: 1.0}, r"class_weight names class 9; expected 0\.\.3"),
    "broken class": ({1.5: 1.0}, r"class_weight names class 1\.5; expected 0\.\.3"),
    "negative": ({1: -1.0}, r"class_weight\[1\] must be (a )?finite .*got -1\.0"),
    "NaN": ({1: float("nan")}, r"class_weight\[1\] must be (a )?finite .*got nan"),
    "string": ({1: "a"}, r"class_weight\[1\] must be (a )?finite .*got 'a'"),
    "zero": ({0: 0.0, 1: 0.0, 2: 0.0, 3: 0.0}, r"every sample the weight zero"),
}


@pytest.mark.parametrize(("weight", "error", "message"), BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_refuses_sample_weights(weight, error, message):
    net = classifier()
    for call in (
        lambda: net.fit(X, T, epochs=1, verbose=False, sample_weight=weight),
        lambda: net.evaluate(X, T, weight),
        lambda: net.gradients(X, T, weight),
        lambda: net.fit(X, T, epochs=1, verbose=False, validation_data=(X, T, weight)),
    ):
        refused(error, message, call, net, X, T, weight)


@pytest.mark.parametrize(("weight", "message"), BAD_CLASS_WEIGHTS.values(), ids=BAD_CLASS_WEIGHTS)
def test_refuses_class_weights(weight, message):
    net = classifier()
    refused((DataError, ConfigError), message,
            lambda: net.fit(X, T, epochs=1, verbose=False, class_weight=weight), net, X, T)  # fmt: skip


def test_class_weights_need_integer_classes():
    net = classifier()
    refused(ShapeError, r"class_weight needs integer classes, but t has shape \(40, 4\); use sample_weight",
            lambda: net.fit(X, np.eye(O)[T], verbose=False, class_weight="balanced"), net, X, T)  # fmt: skip
    net = xpnet.mlp([X.shape[1], 1], loss="binary_cross_entropy")
    refused(DataError, "class_weight needs targets 0 and 1, but t has numbers between",
            lambda: net.fit(X, np.full(40, 0.5), verbose=False, class_weight="balanced"), net, X)  # fmt: skip
    net = xpnet.mlp([X.shape[1], 2], loss="binary_cross_entropy")
    refused(ShapeError, "class_weight is for one output of yes or no, but t has 2 columns; use sample_weight",
            lambda: net.fit(X, np.ones((40, 2)), verbose=False, class_weight="balanced"), net, X)  # fmt: skip
    net = regression()
    refused(ConfigError, r"class_weight needs a classification loss, the network has MeanSquaredError",
            lambda: net.fit(X, X[:, :1], verbose=False, class_weight="balanced"), net, X)  # fmt: skip


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        ("balanced", [6 / (3 * 3), 6 / (3 * 2), 6 / (3 * 1)]),  # classes 0, 1, 2 have 3, 2 and 1 of 6 samples
        ({0: 0.5, 2: 4.0}, [0.5, 1.0, 4.0]),
        ({0.0: 0.5, np.int64(2): 4.0}, [0.5, 1.0, 4.0]),
        ({True: 3.0, False: 2.0}, [2.0, 3.0, 1.0]),
        ({}, [1.0, 1.0, 1.0]),
    ],
)
def test_class_weights(weight, expected):
    t = np.asarray([0, 1, 0, 2, 1, 0])
    assert_array_equal(xpnet.model.weights.class_weights(weight, t, 4), np.asarray(expected)[t])


# ------------------------------------------------------------------------------------------ data on a device

ON_A_DEVICE = {
    "classes": ("cross_entropy", np.array([0, 2, 1, 2])),
    "rows": ("cross_entropy", np.array([[0.2, 0.3, 0.5]] * 4)),
    "decisions": ("binary_cross_entropy", np.array([[0.0, 1.0, 0.5]] * 4)),
    "counts": ("poisson", np.array([[3.0, 0.0, 1.0]] * 4)),
    "values": ("mean_squared_error", np.array([[-3.0, 0.0, 1.0]] * 4)),
}
WRONG = {
    "classes": np.array([0, 3, 1, 2]),
    "rows": np.array([[0.2, 0.3, 0.9]] * 4),
    "decisions": np.array([[0.0, 1.5, 0.5]] * 4),
    "counts": np.array([[3.0, -1.0, 1.0]] * 4),
    "values": np.array([[np.nan, 0.0, 1.0]] * 4),
}


@pytest.mark.parametrize("name", ON_A_DEVICE)
def test_targets_on_a_device_do_not_go_to_the_host_and_back(name, monkeypatch):
    loss, t = ON_A_DEVICE[name]
    backend = strict_backend("device1")
    net = xpnet.mlp([2, 3], loss=loss, backend=backend)
    x, there = backend.asarray(np.ones((4, 2), dtype=np.float32)), backend.asarray(t)
    monkeypatch.setattr(type(backend), "to_numpy", lambda self, a: pytest.fail("an array goes to the host"))
    checked = check_targets(there, 4, 3, net.loss, backend, "float32")
    assert backend.owns(checked)
    monkeypatch.undo()
    assert_array_equal(backend.to_numpy(checked), check_targets(t, 4, 3, net.loss, xpnet.backends.get(), "float32"))
    with pytest.raises(DataError) as here:
        net.fit(backend.to_numpy(x), WRONG[name])
    with pytest.raises(DataError) as elsewhere:
        net.fit(x, backend.asarray(WRONG[name]))
    assert str(here.value) == str(elsewhere.value)


@pytest.mark.parametrize("options", [{}, {"validation_split": 0.5}, {"precision": "float16"}], ids=label)
def test_data_is_checked_once_on_its_way_into_a_training(options, monkeypatch):
    seen = []
    for name in ("check_inputs", "check_targets"):
        honest = getattr(xpnet.training.samples, name)
        monkeypatch.setattr(
            xpnet.training.samples, name, lambda *a, honest=honest, name=name, **k: seen.append(name) or honest(*a, **k)
        )
        monkeypatch.setattr(
            xpnet.model.core, name, lambda *a, honest=honest, name=name, **k: seen.append(name) or honest(*a, **k)
        )
    xpnet.mlp([2, 2]).fit(
        np.ones((4, 2), dtype=np.float32), [0, 1, 0, 1], epochs=2, batch_size=2, verbose=False, **options
    )
    assert seen == ["check_inputs", "check_targets"]


def test_arrays_that_are_only_exported_by_dlpack_are_taken():
    class Exported:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    net = classifier()
    assert_array_equal(net.predict(Exported(X)), net.predict(X))


def test_a_single_binary_target_is_shown_as_it_came():
    net = xpnet.mlp([I, 1], loss="binary_cross_entropy")
    with pytest.raises(DataError, match=r"t\[1\] = 2.0; a binary target lies between 0 and 1"):
        net.evaluate(X[:2], np.array([1, 2]))
