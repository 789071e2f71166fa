"""Compare with scikit-learn's own estimators on real data: ``python tests/estimators/comparison.py scores|speed``.

"scores": test scores on four data sets over ten seeds. "speed": seconds of `fit` on MNIST, in turns, on equally many
threads (one, or ``--threads N``); the smallest of three turns counts. Both print a table.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn import neural_network
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

import xpnet
from xpnet.estimators import MLPClassifier, MLPRegressor

MNIST = Path(__file__).resolve().parents[2] / "examples" / "data" / "mnist"
CLASSIFIERS = (MLPClassifier, neural_network.MLPClassifier)
REGRESSORS = (MLPRegressor, neural_network.MLPRegressor)


def mnist():
    """Return training and test images as rows of float32, and their labels."""
    (x, t), (x_test, t_test) = xpnet.datasets.mnist(MNIST)
    return x.reshape(len(x), -1), x_test.reshape(len(x_test), -1), t, t_test


def split(load):
    """Return a data set, standardised by its training part, split in two."""
    X, y = load(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    mean, scale = X.mean(axis=0), X.std(axis=0) + 1e-9
    return (X - mean) / scale, (X_test - mean) / scale, y, y_test


def scores(seeds):
    """Print mean and standard deviation of the test score for each data set and library."""
    problems = {
        "digits": (CLASSIFIERS, split(load_digits), {}),
        "breast cancer": (CLASSIFIERS, split(load_breast_cancer), {}),
        "diabetes": (REGRESSORS, split(load_diabetes), {"max_iter": 500}),
        "MNIST, 5 epochs": (CLASSIFIERS, mnist(), {"max_iter": 5}),
    }
    print(f"{'test score':18}{'xpnet':>20}{'scikit-learn':>20}{'largest difference':>22}")
    for name, (classes, (X, X_test, y, y_test), options) in problems.items():
        found = [
            [cls(random_state=seed, **options).fit(X, y).score(X_test, y_test) for cls in classes] for seed in seeds
        ]
        ours, theirs = np.array(found).T
        shown = "".join(f"{f'{s.mean():.5f} +- {s.std(ddof=1):.5f}':>20}" for s in (ours, theirs))
        print(f"{name:18}{shown}{np.abs(ours - theirs).max():>22.2g}", flush=True)


def speed():
    """Print seconds of `fit`, wall clock and processor time."""
    X, _, y, _ = mnist()
    single, double = np.float32, np.float64
    cases = [
        ((100,), {"max_iter": 10}, single),
        ((100,), {"max_iter": 10}, double),
        ((100,), {"max_iter": 5, "batch_size": 64}, single),
        ((100,), {"max_iter": 5, "batch_size": 32}, single),
        ((30,), {"max_iter": 5, "batch_size": 32}, single),
        ((128, 64), {"max_iter": 5, "batch_size": 64}, single),
        ((512, 512), {"max_iter": 1, "batch_size": 64}, single),
    ]
    for hidden, options, dtype in cases:
        data = X.astype(dtype)
        best = {}
        for _ in range(3):
            for cls in CLASSIFIERS:
                wall, cpu = time.perf_counter(), time.process_time()
                cls(hidden, random_state=0, **options).fit(data, y)
                spent = (time.perf_counter() - wall, time.process_time() - cpu)
                best[cls] = np.minimum(best.get(cls, np.inf), spent)
        (a, a_cpu), (b, b_cpu) = (best[cls] for cls in CLASSIFIERS)
        print(
            f"{hidden} {options} {np.dtype(dtype)}: xpnet {a:.2f} s, scikit-learn {b:.2f} s, {b / a:.2f} times; "
            f"processor {a_cpu:.2f} s, {b_cpu:.2f} s, {b_cpu / a_cpu:.2f} times",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("scores", "speed"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    with threadpool_limits(args.threads):
        sys.exit(scores(range(args.seeds)) if args.what == "scores" else speed())
