"""The page on searches: many trainings at a time, by joblib's processes and by Dask."""

import re
from pathlib import Path

import numpy as np
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "searches.md").read_text(encoding="utf-8")
ALONE, ON_DASK = re.findall(r"(?ms)^```(?:\{run\}|text)\n(.*?)^```$", PAGE)


def test_a_search_finds_the_same_on_processes_of_joblib_and_of_dask_as_alone():
    reason = "dask.distributed is not installed: pip install 'dask[distributed]'"
    distributed = pytest.importorskip("dask.distributed", reason=reason)
    found = []

    def search(program):
        exec(program, names)
        found.append(names["search"].cv_results_["mean_test_score"])

    names = {}
    search(ALONE.replace("n_jobs=2", "n_jobs=1"))
    search(ALONE)
    ran = []
    noted = type("Noted", (distributed.SchedulerPlugin,), {"transition": lambda _, key, *__, **___: ran.append(key)})
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        cluster.scheduler.add_plugin(noted(), name="noted")
        with distributed.Client(cluster):
            search(ON_DASK)
    assert ran  # for one worker joblib would not ask Dask
    assert np.isfinite(found[0]).all()
    np.testing.assert_array_equal(found, [found[0]] * 3)
