"""The estimators among scikit-learn's other tools: search, pipelines, calibration, copies, files, callbacks."""

import copy
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
import sklearn
from labels import label
from sklearn import neural_network
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, cross_val_score, learning_curve
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import xpnet
from xpnet.estimators import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
BOTH = pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])


def test_grid_search(iris):
    grid = {"activation": ["relu", xpnet.Tanh()], "solver": ["adam", xpnet.AdamW(learning_rate=0.05)]}
    est = MLPClassifier((10,), max_iter=30, random_state=0, learning_rate_init=0.05)
    serial = GridSearchCV(est, grid, cv=3).fit(*iris)
    assert serial.best_score_ > 0.9
    parallel = GridSearchCV(est, grid, cv=3, n_jobs=2).fit(*iris)
    np.testing.assert_allclose(parallel.cv_results_["mean_test_score"], serial.cv_results_["mean_test_score"])
    assert np.array_equal(parallel.predict(iris[0]), serial.predict(iris[0]))


def test_random_search_in_a_pipeline(numbers):
    pipe = Pipeline([("scale", StandardScaler()), ("mlp", MLPRegressor(max_iter=40, random_state=0))])
    search = RandomizedSearchCV(
        pipe, {"mlp__alpha": [1e-4, 1.0], "mlp__learning_rate_init": [0.01]}, n_iter=2, cv=2, random_state=0
    )
    assert search.fit(*numbers).best_score_ > 0.3
    pipe.set_params(mlp__early_stopping=True)
    held = StandardScaler().fit_transform(numbers[0][:30]), numbers[1][:30]
    pipe.fit(*numbers, mlp__validation_data=held, mlp__sample_weight=np.ones(150))
    assert len(pipe["mlp"].history_["validation_loss"]) == pipe["mlp"].n_iter_


@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "temperature"])
def test_calibration(iris, binary, method):
    for X, y in (iris, binary):
        est = MLPClassifier((8,), max_iter=60, random_state=0, learning_rate_init=0.05)
        calibrated = CalibratedClassifierCV(est, method=method, cv=3).fit(X, y)
        p = calibrated.predict_proba(X)
        np.testing.assert_allclose(p.sum(axis=1), 1.0)
        assert calibrated.score(X, y) > 0.9
        theirs = CalibratedClassifierCV(neural_network.MLPClassifier(**known(est)), method=method, cv=3).fit(X, y)
        if method == "temperature":  # the others look at the scores themselves, and ours are logarithms
            np.testing.assert_allclose(p, theirs.predict_proba(X), rtol=1e-4, atol=1e-6)


def known(est):
    """Return those parameters that scikit-learn's own estimator has too."""
    names = neural_network.MLPClassifier().get_params()
    return {name: value for name, value in est.get_params().items() if name in names}


def test_ensembles_and_wrappers(iris, pairs, numbers):
    est = MLPClassifier((6,), max_iter=40, random_state=0, learning_rate_init=0.05)
    for wrapped in (
        BaggingClassifier(est, n_estimators=2, random_state=0),
        VotingClassifier([("a", est), ("b", clone(est).set_params(random_state=1))], voting="soft"),
        StackingClassifier([("a", est)], cv=2),
        OneVsRestClassifier(est),
    ):
        assert wrapped.fit(*iris).score(*iris) > 0.8
    reg = MLPRegressor(hidden_layer_sizes=(10,), max_iter=60, random_state=0, learning_rate_init=0.05)
    assert MultiOutputRegressor(reg).fit(*pairs).score(*pairs) > 0.5
    assert TransformedTargetRegressor(reg, transformer=StandardScaler()).fit(*numbers).score(*numbers) > 0.5
    assert learning_curve(est, *iris, cv=2, train_sizes=[0.5, 1.0], shuffle=True)[1].shape == (2, 2)
    assert permutation_importance(reg.fit(*numbers), *numbers, n_repeats=1).importances.shape == (8, 1)


def test_weights_are_routed(iris):
    weight = np.ones(150)
    with sklearn.config_context(enable_metadata_routing=True):
        est = MLPClassifier((4,), max_iter=5).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        assert cross_val_score(make_pipeline(est), *iris, params={"sample_weight": weight}, cv=2).shape == (2,)


# ------------------------------------------------------------------------------------- copies and files


def same(a, b, X):
    """Say whether two estimators have the same weights and give the same answers."""
    assert all(np.array_equal(p, q) for p, q in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True))
    return np.array_equal(a.predict(X), b.predict(X))


@BOTH
@pytest.mark.parametrize(
    "options",
    [{}, {"solver": "lbfgs"}, {"early_stopping": True}, {"activation": xpnet.GELU(), "dropout": 0.2}],
    ids=label,
)
def test_copies_and_files(iris, tmp_path, cls, options):
    est = cls(hidden_layer_sizes=(5,), max_iter=4, random_state=0, **options).fit(*iris)
    joblib.dump(est, tmp_path / "est.joblib")
    others = [
        pickle.loads(pickle.dumps(est)),
        copy.deepcopy(est),
        joblib.load(tmp_path / "est.joblib"),
        joblib.load(tmp_path / "est.joblib", mmap_mode="r"),
    ]
    for other in others:
        assert same(est, other, iris[0])
        assert other.get_params().keys() == est.get_params().keys()
        assert other.history_["loss"].tolist() == est.history_["loss"].tolist()
        assert np.shares_memory(other.coefs_[0], other.network_.theta)
    if "solver" not in options and "early_stopping" not in options:
        for other in others:
            other.partial_fit(*iris)
        est.partial_fit(*iris)
        assert all(same(est, other, iris[0]) for other in others)
    fresh = clone(est)
    assert not hasattr(fresh, "coefs_")
    assert repr(fresh) == repr(est)
    assert same(fresh.fit(*iris), cls(**est.get_params()).fit(*iris), iris[0])


def test_a_file_is_read_by_another_process(iris, tmp_path):
    est = MLPClassifier((4,), max_iter=3, random_state=0).fit(*iris)
    (tmp_path / "est.pickle").write_bytes(pickle.dumps(est))
    code = (
        "import pickle, pathlib, sys, numpy as np; from sklearn.datasets import load_iris;"
        "est = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes()); print(est.predict(load_iris().data).sum())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "est.pickle"], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == est.predict(iris[0]).sum()


def test_what_scikit_learn_asks_of_an_estimator(iris):
    assert is_classifier(MLPClassifier())
    assert is_regressor(MLPRegressor())
    assert not is_classifier(MLPRegressor())
    for cls, methods in (
        (MLPClassifier, ("predict", "predict_proba", "decision_function")),
        (MLPRegressor, ("predict",)),
    ):
        for method in methods:
            with pytest.raises(NotFittedError):
                getattr(cls(), method)(iris[0])
    with pytest.raises(ValueError, match="X has 2 features, but MLPClassifier is expecting 4 features"):
        MLPClassifier(max_iter=1).fit(*iris).predict(iris[0][:, :2])
    with pytest.raises(ValueError, match="Unknown label type"):
        MLPClassifier().fit(iris[0], np.linspace(0.1, 0.9, 150))
    with pytest.raises(ValueError, match="Sample weights must contain at least one non-zero"):
        MLPRegressor().fit(*iris, sample_weight=np.zeros(150))


def test_data_frames(iris):
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(iris[0], columns=list("abcd"))
    y = pd.Series(iris[1], name="kind")
    est = MLPClassifier((4,), max_iter=3, random_state=0).fit(X, y, sample_weight=pd.Series(np.ones(150)))
    assert list(est.feature_names_in_) == list("abcd")
    assert np.array_equal(est.predict(X), MLPClassifier((4,), max_iter=3, random_state=0).fit(*iris).predict(iris[0]))
    with pytest.raises(ValueError, match="feature names should match"):
        est.predict(X[["b", "a", "c", "d"]])
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        est.predict(iris[0])
    frame = MLPRegressor(max_iter=2).fit(X[["a"]], X[["b", "c"]])
    assert frame.predict(X[["a"]]).shape == (150, 2)
    est.partial_fit(X, y)


# ------------------------------------------------------------------------------------------- callbacks


class Recorder:
    """Notes what it is told, and may end the training."""

    def __init__(self, stop_at=None):
        self.events, self.scores, self.thetas, self.stop_at = [], [], [], stop_at

    def setup(self, estimator, context):
        self.events.append("setup")

    def on_fit_task_begin(self, estimator, context):
        self.events.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        self.events.append(f"end {context.task_name}")
        self.metadata = metadata
        if fitted_estimator is not None:
            self.thetas.append(fitted_estimator.network_.theta)
            self.scores.append(fitted_estimator.score(X, y))
            self.fitted = fitted_estimator
        return len(self.scores) == self.stop_at

    def teardown(self, estimator, context):
        self.events.append("teardown")


@BOTH
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_callbacks_are_told_of_every_epoch(iris, cls, solver):
    recorder = Recorder()
    weight = np.ones(150)
    est = cls(hidden_layer_sizes=(4,), max_iter=3, random_state=0, solver=solver).set_callbacks(recorder)
    est.fit(*iris, sample_weight=weight)
    epochs = [event for k in (1, 2, 3) for event in (f"begin epoch {k}", f"end epoch {k}")]
    assert recorder.events == ["setup", "begin fit", *epochs, "end fit", "teardown"]
    assert recorder.metadata["sample_weight"] is weight
    assert len({theta.tobytes() for theta in recorder.thetas[:3]}) == 3  # each epoch's own parameters
    assert np.array_equal(recorder.thetas[2], est.network_.theta)
    assert recorder.scores[-1] == recorder.scores[-2] == est.score(*iris)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_callback_can_end_the_training(iris, solver):
    recorder = Recorder(stop_at=2)
    est = MLPClassifier((4,), random_state=0, solver=solver).set_callbacks(recorder).fit(*iris)
    assert est.n_iter_ == 2
    assert est.score(*iris) == recorder.scores[1]


def test_what_a_callback_is_given_is_its_own(iris):
    recorder = Recorder(stop_at=1)
    est = MLPClassifier((4,), random_state=0).set_callbacks(recorder).fit(*iris)
    theta = recorder.fitted.network_.theta.copy()
    est.set_callbacks().partial_fit(*iris)
    assert np.array_equal(recorder.fitted.network_.theta, theta)
    assert not np.array_equal(est.network_.theta, theta)


def test_callbacks_are_torn_down_after_an_error(iris, monkeypatch):
    recorder = Recorder()
    est = MLPRegressor(hidden_layer_sizes=(3,), random_state=0).set_callbacks(recorder)
    monkeypatch.setattr(recorder, "scores", None)  # the first epoch's end fails
    with pytest.raises(AttributeError):
        est.fit(*iris)
    assert recorder.events == ["setup", "begin fit", "begin epoch 1", "end epoch 1", "teardown"]
    assert est.predict(iris[0]).shape == (150,)


def test_scikit_learns_progress_bar_and_scores(iris, capsys):
    monitor = ScoringMonitor(scoring="accuracy")
    est = MLPClassifier((4,), max_iter=5, random_state=0).set_callbacks(ProgressBar(), monitor).fit(*iris)
    assert "MLPClassifier - fit" in capsys.readouterr().out
    rows = monitor.get_logs().data
    assert [row["task_name"] for row in rows[1:]] == [f"epoch {k}" for k in range(1, 6)]
    assert rows[-1]["accuracy"] == est.score(*iris)


def test_callbacks_go_down_into_a_search(iris, capsys):
    search = GridSearchCV(MLPClassifier((3,), max_iter=2, random_state=0), {"alpha": [0.1, 0.2]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(*iris)
    assert "MLPClassifier - fit" in capsys.readouterr().out
